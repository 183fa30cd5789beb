//! How a container's first process ended, for as long as anybody can know.
//!
//! The kernel tells a process's parent, which is whoever started rspawn or adopted the container: conmon, a shim, init.
//! Until it has listened, the dead process is a zombie, and /proc/PID/stat has its status; afterwards nothing has.
use std::fmt;

use bincode::{Decode, Encode};
use nix::fcntl::{AT_FDCWD, readlinkat};
use nix::sys::signal::Signal;
use rspawn_proto::record::Record;

use super::head::boot_id;
use crate::containers::processes::Stat;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Ending {
    Exit(i32),
    Signal(i32),
}

impl Ending {
    /// Asked before privileges go: a status is told only to those who might trace the process.
    pub fn of(record: &Record) -> Option<Self> {
        // Nothing is decided by it: what cannot be read is not known.
        if boot_id().is_ok_and(|boot| boot != record.boot.as_str()) {
            return None;
        }
        Self::of_process(record.pid, record.start_time)
    }

    /// The same of any process.
    pub fn of_process(pid: i32, start_time: u64) -> Option<Self> {
        // Who may not trace it reads 0, which would be a success that nobody has seen. Reading this link is subject to
        // the same check, and fails.
        readlinkat(AT_FDCWD, format!("/proc/{pid}/ns/user").as_str()).ok()?;
        let stat = Stat::of(pid).ok().flatten()?;
        (stat.is_dead() && stat.start_time == start_time).then(|| Self::from_wait(stat.exit_code))
    }

    /// The encoding of wait(2).
    fn from_wait(status: i32) -> Self {
        match status & 0x7f {
            0 => Ending::Exit(status >> 8 & 0xff),
            signal => Ending::Signal(signal),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exit(status) => write!(f, "exit status {status}"),
            Ending::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{}", signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_wait() {
        let text = |status| Ending::from_wait(status).to_string();
        assert_eq!(text(0), "exit status 0");
        assert_eq!(text(0x0300), "exit status 3");
        assert_eq!(text(0xff00), "exit status 255");
        assert_eq!(text(9), "SIGKILL");
        // With a core dump.
        assert_eq!(text(0x80 | 11), "SIGSEGV");
        assert_eq!(text(40), "signal 40");
    }
}
