//! Pipes in the place of those standard streams of the caller's that the payload's user could not open again.
//!
//! Images open `/dev/stdout` by its name. That is the caller's own file or terminal, which is never given away to the
//! payload's user: its owner would stay changed. In the foreground the payload gets a pipe instead, as with runc, whose
//! other end this process copies from or to.
use std::io;
use std::os::fd::IntoRawFd;

use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::pipe2;
use rspawn_proto::msg::Mode;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{IdMap, Plan};
use rspawn_sys::channel::{Interest, Ready};
use rspawn_sys::file::{self, Status};
use rspawn_sys::{Errno, Fd};

use rspawn_host::errors::io_error;
use rspawn_planner::facts::{Ids, Ranges};
use rspawn_report::describe;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
/// Types of st_mode, inode(7).
const REGULAR: u32 = libc::S_IFREG;
const FIFO: u32 = libc::S_IFIFO;
const CHARACTER: u32 = libc::S_IFCHR;

/// A stream that may have to become a pipe.
struct Candidate {
    number: i32,
    status: Status,
    /// This process's end, and the payload's.
    mine: Fd,
    theirs: Fd,
}

/// Pipes that were made before the plan says who the payload's user is, since later none can be made.
#[derive(Default)]
pub struct StreamPipes(Vec<Candidate>);

impl StreamPipes {
    /// Makes one for each stream that has an owner: a file, a named pipe, a terminal.
    pub fn make() -> io::Result<Self> {
        let mut candidates = Vec::new();
        for number in 0..3 {
            let stream = Fd::from_raw(number);
            let status = file::status(&stream);
            let magic = file::filesystem_magic(&stream);
            stream.leak();
            let status = match status {
                Err(Errno(libc::EBADF)) => continue,
                status => status.map_err(io_error)?,
            };
            let is_own_kind = match status.mode & libc::S_IFMT {
                REGULAR => true,
                FIFO => magic.map_err(io_error)? != file::PIPEFS_MAGIC,
                CHARACTER => !status.is_null_device(),
                _ => false,
            };
            if !is_own_kind {
                continue;
            }
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            let [read, write] = [read, write].map(|end| Fd::from_raw(end.into_raw_fd()));
            let (mine, theirs) = if number == 0 { (write, read) } else { (read, write) };
            // A payload that does not read must not stop this process.
            mine.set_nonblocking().map_err(io_error)?;
            candidates.push(Candidate { number, status, mine, theirs });
        }
        Ok(Self(candidates))
    }

    /// Those that the plan's payload needs: which streams they are, its ends, and what is to be copied meanwhile.
    pub fn choose(self, plan: &Plan, ids: &Ids) -> (Vec<u8>, Vec<Fd>, Vec<StreamCopy>) {
        let mut chosen = (Vec::new(), Vec::new(), Vec::new());
        if plan.finish.terminal {
            return chosen;
        }
        let user = User::of(plan, ids);
        // What belongs to an id that a user does not have is out of its payload's reach, and stays a terminal at least.
        let is_known = |uid: u32| {
            !ids.rootless || ids.uids.iter().any(|range| range.host_id <= uid && uid - range.host_id < range.size)
        };
        for Candidate { number, status, mine, theirs } in self.0 {
            if is_known(status.uid) && !user.may_open(&status, number == 0) {
                chosen.0.push(number as u8);
                chosen.1.push(theirs);
                chosen.2.push(StreamCopy::new(number, mine));
            }
        }
        chosen
    }
}

/// The payload's user, in the terms of the caller; `None` where nobody here knows.
struct User {
    uid: Option<u32>,
    gid: Option<u32>,
    /// Permission bits are nothing to it.
    overrides: bool,
}

impl User {
    fn of(plan: &Plan, ids: &Ids) -> Self {
        let spawn = &plan.spawn;
        let joined = spawn.join.iter().any(|step| step.op.kind == Namespace::User);
        let new = spawn.new.contains(Namespace::User);
        let outside = |id: u32, map: &[IdMap], ranges: &Ranges| {
            let id = match (joined, new) {
                (true, _) => None,
                (false, false) => Some(id),
                (false, true) => {
                    let range = map.iter().find(|range| range.inside <= id && id - range.inside < range.count)?;
                    Some(range.outside + (id - range.inside))
                }
            }?;
            let range = ranges.iter().find(|range| range.container_id <= id && id - range.container_id < range.size)?;
            Some(range.host_id + (id - range.container_id))
        };
        let finish = &plan.finish;
        let uid = outside(finish.uid.raw(), &spawn.uid_map, &ids.uids);
        let gid = outside(finish.gid.raw(), &spawn.gid_map, &ids.gids);
        let is_root = uid == Some(0) && ids.initial && !new && !joined;
        Self { uid, gid, overrides: is_root && finish.capabilities.permitted & CAP_DAC_OVERRIDE != 0 }
    }

    fn may_open(&self, file: &Status, for_reading: bool) -> bool {
        let bit = if for_reading { 4 } else { 2 };
        let shift = match self {
            Self { uid: Some(uid), .. } if *uid == file.uid => 6,
            Self { gid: Some(gid), .. } if *gid == file.gid => 3,
            _ => 0,
        };
        self.overrides || file.mode >> shift & bit != 0
    }
}

/// One stream that is copied.
pub struct StreamCopy {
    from: Fd,
    to: Fd,
    /// Read, not yet written.
    rest: Vec<u8>,
    /// `from` is at its end.
    ended: bool,
    /// Why not all of it was copied.
    failed: Option<String>,
}

impl StreamCopy {
    fn new(number: i32, mine: Fd) -> Self {
        let stream = Fd::from_raw(number);
        let (from, to) = if number == 0 { (stream, mine) } else { (mine, stream) };
        Self { from, to, rest: Vec::new(), ended: false, failed: None }
    }

    pub fn interest(&self) -> Interest<'_> {
        match self.rest.is_empty() {
            true => Interest { fd: &self.from, read: !self.ended, write: false },
            false => Interest { fd: &self.to, read: false, write: true },
        }
    }

    /// Goes on where that waits for nobody; false where it would, or at the end.
    pub fn go_on(&mut self, ready: Ready) -> bool {
        if !self.rest.is_empty() {
            return (ready.write || ready.read) && self.write();
        }
        let mut buffer = [0u8; 16 << 10];
        match ready.read.then(|| self.from.read(&mut buffer)) {
            None | Some(Err(Errno::EAGAIN)) => false,
            Some(end @ (Ok(0) | Err(_))) => {
                self.ended = true;
                let is_stdin = self.from.raw() == 0;
                // EIO of stdin: a terminal that has hung up.
                if let Err(number) = end
                    && !(is_stdin && number == Errno::EIO)
                {
                    let what = if is_stdin { "stdin" } else { "what the payload says" };
                    self.failed = Some(format!("cannot read {what}: {}", describe::errno(number.0)));
                }
                // The end of a pipe is what its reader waits for.
                if is_stdin {
                    self.to = Fd::from_raw(-1);
                }
                false
            }
            Some(Ok(length)) => {
                self.rest.extend_from_slice(&buffer[..length]);
                self.write()
            }
        }
    }

    fn write(&mut self) -> bool {
        match self.to.write_some(&self.rest) {
            Ok(written) => drop(self.rest.drain(..written)),
            Err(Errno::EAGAIN) => return false,
            // The payload learns of it by the end of its pipe, as it would from the stream itself. That nobody reads any
            // more is its own matter.
            Err(number) => {
                self.rest.clear();
                self.ended = true;
                if number != Errno::EPIPE {
                    let name = if self.to.raw() == 2 { "stderr" } else { "stdout" };
                    let reason = describe::errno(number.0);
                    self.failed = Some(format!("cannot write what the payload says to {name}: {reason}"));
                }
                let end = if self.from.raw() == 0 { &mut self.to } else { &mut self.from };
                *end = Fd::from_raw(-1);
            }
        }
        !self.ended
    }

    /// Why something is lost, if it is.
    pub fn failure(&self) -> Option<String> {
        self.failed.clone()
    }

    /// What the payload wrote last is still in the pipe when it has ended.
    pub fn drain(&mut self) {
        let ready = Ready { read: true, write: true };
        while self.from.raw() != 0 && !self.ended && self.go_on(ready) {}
    }
}

impl Drop for StreamCopy {
    fn drop(&mut self) {
        // The streams are the process's own; they stay open for error messages.
        for end in [&mut self.from, &mut self.to] {
            if (0..3).contains(&end.raw()) {
                std::mem::replace(end, Fd::from_raw(-1)).leak();
            }
        }
    }
}

/// Pipes for streams that the payload may not be able to open again, where somebody stays to copy them.
pub fn for_mode(mode: Mode) -> Result<StreamPipes, String> {
    match mode {
        Mode::Foreground => StreamPipes::make().map_err(|error| format!("cannot make pipes for the streams: {error}")),
        Mode::Detached | Mode::Created => Ok(StreamPipes::default()),
    }
}
