//! Containers and files of their cgroups, for a process that has given up the right to open any.
//!
//! `rspawn top` runs for hours, and containers come meanwhile: the state root has to be read again and again. So a
//! second process is started before privileges go, which keeps the invoker's rights, reads records and opens the files
//! of [`crate::containers::stats::usage`], and does not read those. The numbers, which a payload has a hand in, are read and drawn by the first one.
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use bincode::{Decode, Encode};
use rspawn_proto::ids::ContainerId;
use rspawn_sys::confine::{self, allow_only};
use rspawn_sys::{Errno, Fd, channel};

use crate::containers::stats::usage::{self, StatFile};
use crate::errors;
use crate::errors::io_error;
use crate::state::{Container, Ending, StateRoot, Status, Unreadable};

/// The hidden verb that the second process is started with.
pub const VERB: &str = "open-containers";

/// Which containers; all if none is named.
#[derive(Debug, Encode, Decode)]
struct Question {
    ids: Vec<String>,
}

#[derive(Debug, Encode, Decode)]
enum Answer {
    /// What its files are; they ride on the message.
    Container(Seen, Vec<StatFile>),
    /// Why one cannot be read.
    Unreadable(String),
    /// There are no more.
    End,
}

/// A container as it was found.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Seen {
    pub id: String,
    /// With the pid, tells it from one that had the name before.
    pub created: u64,
    pub pid: i32,
    pub status: Status,
    pub ending: Option<Ending>,
}

/// Everything there was at one moment.
#[derive(Default)]
pub struct Found {
    pub containers: Vec<(Seen, Vec<(StatFile, Fd)>)>,
    pub unreadable: Vec<String>,
}

/// The second process, from the first one's side. It ends when this is dropped.
pub struct StatsOpener {
    socket: Option<Fd>,
    child: Child,
}

impl StatsOpener {
    /// Starts it: before privileges go.
    pub fn start(root: &Path) -> io::Result<Self> {
        let (mine, theirs) = channel::pair().map_err(io_error)?;
        theirs.keep_on_exec().map_err(io_error)?;
        let child = Command::new(std::env::current_exe()?)
            .args([VERB, &theirs.raw().to_string()])
            .arg(root)
            .env_clear()
            // The terminal's signals are not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { socket: Some(mine), child })
    }

    /// Waits some milliseconds; an error if the second process ends meanwhile. (To sleep is a call that a confined
    /// process does not have.)
    pub fn rest(&self, milliseconds: u32) -> Result<(), String> {
        let ended =
            self.socket.as_ref().ok_or(Errno::EIO).and_then(|it| channel::wait_readable(it, Some(milliseconds)));
        match ended {
            Ok(false) | Err(Errno::EINTR) => Ok(()),
            Ok(true) => Err("the process that opens the containers' files has ended".into()),
            Err(errno) => Err(format!("cannot wait: {}", errors::describe(errno.0))),
        }
    }

    /// What there is now.
    pub fn find(&self, ids: &[String]) -> Result<Found, String> {
        let say = |errno: Errno| format!("cannot ask for the containers: {}", errors::describe(errno.0));
        let socket = self.socket.as_ref().ok_or(Errno::EIO).map_err(say)?;
        channel::send_value(socket, &Question { ids: ids.to_vec() }, &[]).map_err(say)?;
        let mut found = Found::default();
        loop {
            match channel::receive_value(socket).map_err(say)?.ok_or(Errno::EIO).map_err(say)? {
                (Answer::Container(seen, what), files) => {
                    found.containers.push((seen, what.into_iter().zip(files).collect()));
                }
                (Answer::Unreadable(reason), _) => found.unreadable.push(reason),
                (Answer::End, _) => return Ok(found),
            }
        }
    }
}

impl Drop for StatsOpener {
    fn drop(&mut self) {
        // It reads the end of the stream, and ends.
        self.socket = None;
        let _ = self.child.wait();
    }
}

/// The second process: answers until nobody asks any more.
pub fn answer(socket: &Fd, root: &str) -> i32 {
    let Ok(root) = StateRoot::open(Some(Path::new(root))) else { return 1 };
    if confine().is_err() {
        return 1;
    }
    loop {
        match channel::receive_value::<Question>(socket) {
            Ok(Some((Question { ids }, _))) => {
                let sent = match find(&root, &ids) {
                    Ok(found) => found.into_iter().try_for_each(|container| send(socket, container)),
                    Err(reason) => channel::send_value(socket, &Answer::Unreadable(reason), &[]),
                };
                if sent.and_then(|()| channel::send_value(socket, &Answer::End, &[])).is_err() {
                    return 1;
                }
            }
            Ok(None) => return 0,
            Err(_) => return 1,
        }
    }
}

fn find(root: &StateRoot, ids: &[String]) -> Result<Vec<Result<Container, Unreadable>>, String> {
    if ids.is_empty() {
        return root.containers();
    }
    ids.iter().map(|id| Ok(root.find(&ContainerId::new(id.as_str())?))).collect()
}

fn send(socket: &Fd, container: Result<Container, Unreadable>) -> rspawn_sys::Result<()> {
    let found = container.and_then(|container| {
        let status = container.status().map_err(Unreadable::Fault)?;
        Ok((container, status))
    });
    let (container, status) = match found {
        Ok(found) => found,
        // One that was named, and deleted since.
        Err(Unreadable::Absent) => return Ok(()),
        Err(why) => return channel::send_value(socket, &Answer::Unreadable(why.into()), &[]),
    };
    let record = &container.record;
    let ending = if status == Status::Stopped { Ending::of(record) } else { None };
    let id = record.id.to_string();
    let seen = Seen { id, created: record.created, pid: record.pid, status, ending };
    let (what, files): (Vec<StatFile>, Vec<Fd>) = usage::open(&record.cgroups).into_iter().unzip();
    let files: Vec<&Fd> = files.iter().collect();
    channel::send_value(socket, &Answer::Container(seen, what), &files)
}

/// The calls that reading directories and records, and opening, take, and what Rust's heap and end take.
fn confine() -> rspawn_sys::Result<()> {
    use libc::*;
    rspawn_sys::cred::no_new_privileges()?;
    let calls = [
        SYS_recvmsg, SYS_sendmsg, SYS_openat, SYS_openat2, SYS_getdents64, SYS_read, SYS_lseek, SYS_fstat,
        SYS_newfstatat, SYS_statx, SYS_fcntl, SYS_readlinkat, SYS_pidfd_open, SYS_geteuid, SYS_close, SYS_brk,
        SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_getrandom, SYS_sigaltstack, SYS_rt_sigprocmask,
        SYS_exit_group, SYS_restart_syscall,
    ];
    allow_only(confine::calls(&calls))
}
