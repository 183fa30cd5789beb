//! Removes what a start has made on the host and nobody needs: mount points in a root that had none, if the start
//! fails, and the work directories of overlays.
//!
//! They are removed when this process has no right left to. So, only where there is such a directory, a second process
//! is started beforehand, which keeps the invoker's rights and one system call that changes something: it removes the
//! directories that it was started with, each only if it is empty, and below a directory that was opened then. That is all that a parent which was taken over can
//! have it do.
use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rspawn_sys::confine::{self, allow_only};
use rspawn_sys::{Errno, Fd, channel, file};

use crate::errors::io_error;
use crate::sandbox::close_leaked;

/// The hidden verb that the second process is started with.
pub const VERB: &str = "tidy-up";

/// The only message.
const STARTED: &[u8] = b"started";

/// Mount points of `--directory`, which are made where a root has none.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// A directory to be removed, by the one that it is in: what has its path by then may be anybody's.
#[derive(Debug)]
struct Leaving {
    above: Fd,
    /// Below that, the first of it through no link.
    name: String,
}

/// What is to be removed.
#[derive(Debug, Default)]
pub struct Leavings {
    /// If the start fails.
    of_a_failure: Vec<Leaving>,
    /// In any case.
    of_a_run: Vec<Leaving>,
}

impl Leavings {
    /// Mount points that a root lacks: what is there already is not a start's. Where the root cannot be opened, nothing
    /// is made either.
    pub fn add_root(&mut self, root: &str) -> io::Result<()> {
        let Ok(above) = open(root) else { return Ok(()) };
        for name in MOUNT_POINTS {
            if lacks(&above, name) {
                self.of_a_failure.push(Leaving { above: copy(&above)?, name: name.to_string() });
            }
        }
        Ok(())
    }

    /// A work directory of an overlay that is not there yet, with the one that the kernel makes in it.
    pub fn add_work_directory(&mut self, path: &str, outlives: bool) -> io::Result<()> {
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let Ok(above) = open(if above.is_empty() { "/" } else { above }) else { return Ok(()) };
        if lacks(&above, name) {
            let list = if outlives { &mut self.of_a_failure } else { &mut self.of_a_run };
            list.push(Leaving { above: copy(&above)?, name: format!("{name}/work") });
            list.push(Leaving { above, name: name.to_string() });
        }
        Ok(())
    }
}

fn open(directory: &str) -> rspawn_sys::Result<Fd> {
    file::open_host(directory, file::O_PATH | file::O_DIRECTORY)
}

fn lacks(directory: &Fd, name: &str) -> bool {
    let found = CString::new(name).map(|name| file::open_beneath(directory, &name, file::O_PATH));
    matches!(found, Ok(Err(Errno::ENOENT)))
}

fn copy(directory: &Fd) -> io::Result<Fd> {
    directory.duplicate(0).map_err(io_error)
}

/// The second process, from the first one's side. When this is dropped, everything is removed that is to be.
pub struct Tidier {
    socket: Option<Fd>,
    child: Child,
}

impl Tidier {
    /// Starts it before privileges go; nothing, if nothing is to be removed.
    pub fn start(leavings: Leavings) -> io::Result<Option<Self>> {
        if leavings.of_a_failure.is_empty() && leavings.of_a_run.is_empty() {
            return Ok(None);
        }
        let (mine, theirs) = channel::pair().map_err(io_error)?;
        theirs.keep_on_exec().map_err(io_error)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([VERB, &theirs.raw().to_string(), &leavings.of_a_run.len().to_string()]);
        for Leaving { above, name } in leavings.of_a_run.iter().chain(&leavings.of_a_failure) {
            above.keep_on_exec().map_err(io_error)?;
            command.arg(format!("{}:{name}", above.raw()));
        }
        // The terminal's signals are not for it.
        let child = command.env_clear().process_group(0).spawn()?;
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
/// each with the number of the descriptor that it is below.
pub fn tidy(socket: &Fd, words: &[String]) -> i32 {
    let Some((of_a_run, of_a_failure)) = parse(words) else { return 1 };
    let directories = of_a_run.iter().chain(&of_a_failure).map(|leaving| leaving.above.raw());
    let kept: Vec<i32> = directories.chain([socket.raw()]).collect();
    if close_leaked(&kept).is_err() || confine().is_err() {
        return 1;
    }
    let mut started = false;
    while let Ok(Some((bytes, _))) = channel::receive(socket, STARTED.len()) {
        started |= bytes == STARTED;
    }
    let failures = of_a_failure.iter().filter(|_| !started);
    failures.chain(&of_a_run).for_each(|leaving| remove(&leaving.above, &leaving.name));
    0
}

fn parse(words: &[String]) -> Option<(Vec<Leaving>, Vec<Leaving>)> {
    let (count, words) = words.split_first()?;
    let leaving = |word: &String| {
        let (number, name) = word.split_once(':')?;
        Some(Leaving { above: Fd::from_raw(number.parse().ok()?), name: name.to_string() })
    };
    let mut of_a_run = words.iter().map(leaving).collect::<Option<Vec<_>>>()?;
    let of_a_failure = of_a_run.split_off(Some(count.parse().ok()?).filter(|count| *count <= words.len())?);
    Some((of_a_run, of_a_failure))
}

/// What is not empty, or not there, or was put there by somebody else meanwhile, stays as it is.
fn remove(above: &Fd, name: &str) {
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Ok(first) = CString::new(first) else { return };
    let _ = match rest {
        Some(rest) => {
            file::open_beneath(above, &first, file::O_PATH | file::O_DIRECTORY).map(|here| remove(&here, rest))
        }
        None => file::remove_directory(above, &first),
    };
}

/// The calls that this takes, and what Rust's heap and end take.
fn confine() -> rspawn_sys::Result<()> {
    use libc::*;
    rspawn_sys::cred::no_new_privileges()?;
    let calls = [
        SYS_recvmsg, SYS_openat2, SYS_unlinkat, SYS_close, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise,
        SYS_futex, SYS_sigaltstack, SYS_rt_sigprocmask, SYS_exit_group, SYS_restart_syscall,
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
