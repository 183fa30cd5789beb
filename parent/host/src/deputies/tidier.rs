//! Removes what a start has made on the host and nobody needs: mount points in a root that had none, if the start
//! fails, and the work directories of overlays.
//!
//! They are removed when this process has no right left to. So, only where there is such a directory, a second process
//! is started beforehand, which keeps the invoker's rights and one system call that changes something: it removes the
//! directories that it was started with, each only if it is empty. That is all that a parent which was taken over can
//! have it do.
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};
use rspawn_sys::confine::{self, allow_only};
use rspawn_sys::{Fd, channel};

use crate::errors::io_error;

/// The hidden verb that the second process is started with.
pub const VERB: &str = "tidy-up";

/// The only message.
const STARTED: &[u8] = b"started";

/// Mount points of `--directory`, which are made where a root has none.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// What is to be removed.
#[derive(Debug, Default)]
pub struct Leavings {
    /// If the start fails.
    pub of_a_failure: Vec<String>,
    /// In any case.
    pub of_a_run: Vec<String>,
}

impl Leavings {
    /// Mount points that a root lacks: what is there already is not a start's.
    pub fn add_root(&mut self, root: &Path) {
        let missing = MOUNT_POINTS.iter().map(|name| root.join(name)).filter(|path| path.symlink_metadata().is_err());
        self.of_a_failure.extend(missing.filter_map(|path| Some(path.to_str()?.to_string())));
    }

    /// The work directory of an overlay, with the one that the kernel makes in it.
    pub fn add_work_directory(&mut self, path: &str, outlives: bool) {
        let list = if outlives { &mut self.of_a_failure } else { &mut self.of_a_run };
        list.extend([format!("{path}/work"), path.to_string()]);
    }
}

/// The second process, from the first one's side. When this is dropped, everything is removed that is to be.
pub struct Tidier {
    socket: Option<Fd>,
    child: Child,
}

impl Tidier {
    /// Starts it before privileges go; nothing, if nothing is to be removed.
    pub fn start(leavings: &Leavings) -> io::Result<Option<Self>> {
        if leavings.of_a_failure.is_empty() && leavings.of_a_run.is_empty() {
            return Ok(None);
        }
        let (mine, theirs) = channel::pair().map_err(io_error)?;
        theirs.keep_on_exec().map_err(io_error)?;
        let child = Command::new(std::env::current_exe()?)
            .args([VERB, &theirs.raw().to_string(), &leavings.of_a_run.len().to_string()])
            .args(leavings.of_a_run.iter().chain(&leavings.of_a_failure))
            .env_clear()
            // The terminal's signals are not for it.
            .process_group(0)
            .spawn()?;
        Ok(Some(Self { socket: Some(mine), child }))
    }

    /// The start has not failed. Where nobody can be told, no more is lost than an empty directory.
    pub fn started(&self) {
        let told = self.socket.as_ref().map(|socket| channel::send(socket, STARTED, &[]));
        debug_assert!(told.is_none_or(|told| told.is_ok()));
    }
}

impl Drop for Tidier {
    fn drop(&mut self) {
        // It reads the end of the stream, removes, and ends.
        self.socket = None;
        let _ = self.child.wait();
    }
}

/// The second process: waits for the first one's end, then removes. `words` are how many are removed in any case, and
/// the paths.
pub fn tidy(socket: &Fd, words: &[String]) -> i32 {
    if confine().is_err() {
        return 1;
    }
    let Some((count, paths)) = words.split_first() else { return 1 };
    let Some((of_a_run, of_a_failure)) = count.parse().ok().and_then(|count| paths.split_at_checked(count)) else {
        return 1;
    };
    let mut started = false;
    while let Ok(Some((bytes, _))) = channel::receive(socket, STARTED.len()) {
        started |= bytes == STARTED;
    }
    let failures = of_a_failure.iter().filter(|_| !started);
    for path in failures.chain(of_a_run) {
        // What is not empty, or not there, stays as it is.
        let _ = unlinkat(AT_FDCWD, path.as_str(), UnlinkatFlags::RemoveDir);
    }
    0
}

/// The calls that this takes, and what Rust's heap and end take.
fn confine() -> rspawn_sys::Result<()> {
    use libc::*;
    rspawn_sys::cred::no_new_privileges()?;
    let calls = [
        SYS_recvmsg, SYS_unlinkat, SYS_close, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex,
        SYS_sigaltstack, SYS_rt_sigprocmask, SYS_exit_group, SYS_restart_syscall,
    ];
    allow_only(confine::calls(&calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_has_by_default_is_known_here() {
        let spec = rspawn_planner::default_spec::directory_spec("/", "x", false, None, None);
        let first = |path: &str| path.split('/').nth(1).unwrap_or_default().to_string();
        let mut names: Vec<String> = spec.mounts.iter().map(|mount| first(&mount.destination)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, MOUNT_POINTS);
    }
}
