//! `rspawn-init -- CMD ARGS`, as an image's entry point or on a terminal: an init without a runtime.
use alloc::format;
use core::ffi::CStr;

use rspawn_sys::process::{self, StringArray};
use rspawn_sys::{Errno, cred, signal};

use crate::complaint::{NOT_EXECUTABLE, NOT_FOUND, complain};
use crate::lookup::Payload;
use crate::supervise;

pub fn run(argv: &[&'static CStr], env: &[&'static CStr]) -> i32 {
    let command = match argv.get(1) {
        Some(first) if first.to_bytes() == b"--" => &argv[2..],
        Some(first) if !first.to_bytes().starts_with(b"-") => &argv[1..],
        _ => &[],
    };
    if command.is_empty() {
        complain("usage: rspawn-init [--] CMD [ARGS]\nRuns CMD as its child, forwards signals, reaps orphans.\n");
        return 2;
    }
    let Ok(blocked) = signal::set_blocked(u64::MAX) else { return 1 };
    if process::pid() != 1 && cred::become_subreaper().is_err() {
        complain("rspawn-init: not PID 1, and cannot become a subreaper: orphans go elsewhere\n");
    }
    // By clone(2): the default profiles of engines answer clone3(2) with ENOSYS, since no filter sees its flags.
    match process::fork_plainly() {
        Ok(None) => execute(&Payload { argv: command, env }, blocked),
        Ok(Some(pid)) => supervise::supervise(pid),
        Err(errno) => {
            complain(&format!("rspawn-init: cannot fork: errno {}\n", errno.0));
            1
        }
    }
}

/// In the child. Returns an exit status on failure.
fn execute(program: &Payload, blocked: u64) -> i32 {
    if let Err(errno) = supervise::lead_process_group() {
        complain(&format!("rspawn-init: cannot lead a process group: errno {}\n", errno.0));
        return NOT_EXECUTABLE;
    }
    let found = match program.find() {
        Ok(found) => found,
        Err(failure) => {
            complain(&format!("rspawn-init: {}\n", failure.detail));
            return if failure.detail.ends_with("permission denied") { NOT_EXECUTABLE } else { NOT_FOUND };
        }
    };
    if let Err(errno) = signal::set_blocked(blocked) {
        complain(&format!("rspawn-init: cannot unblock signals: errno {}\n", errno.0));
        return NOT_EXECUTABLE;
    }
    let (errno, reason) = found.execute(&StringArray::from_start(program.argv), &StringArray::from_start(program.env));
    complain(&format!("rspawn-init: {reason}\n"));
    if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE }
}
