//! Starting rspawn-setup, before anything untrusted is read.
use std::io;
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Fd, channel, signal};

/// The running helper, from the parent's side.
pub struct Setup {
    pub control: Fd,
    /// The step that the helper is at, in memory that outlives it.
    pub progress: std::fs::File,
    pid: i32,
}

impl Setup {
    /// Binds it, and so all that it starts from here on, to CPUs, and this process as well (sched_setaffinity(2)).
    pub fn run_on(&self, cpus: &[usize]) -> Result<(), String> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu).map_err(|_| format!("there is no CPU {cpu}"))?;
        }
        let bind = |pid: i32| sched_setaffinity(Pid::from_raw(pid), &set);
        bind(0).and_then(|()| bind(self.pid)).map_err(|error| format!("cannot run on these CPUs: {error}"))
    }

    /// Waits for its end; its exit status as a shell gives it, if that is still to be had.
    pub fn wait(&self) -> Option<i32> {
        let ended = process::wait(self.pid, true).ok().flatten();
        ended.map(|(_, status)| process::exit_status(status))
    }
}

/// Exit status of a process that could not execute rspawn-setup.
pub const NOT_EXECUTED: i32 = 126;

/// Starts the helper. It runs on beside this process, and waits for the first message.
pub fn start(preserve_fds: u32) -> io::Result<Setup> {
    let program = find("rspawn-setup")?;
    // Above the descriptors that the payload is to inherit, so that a hole among them is not filled by ours.
    let lowest = 3 + preserve_fds as i32;
    let (control, theirs) = channel::pair().map_err(errno)?;
    let theirs = theirs.duplicate(lowest).map_err(errno)?;
    let memory = memfd_create(c"rspawn-progress", MFdFlags::MFD_CLOEXEC)?;
    let progress = std::fs::File::from(memory);
    progress.set_len(4096)?;
    let page =
        Fd::from_raw(std::os::fd::IntoRawFd::into_raw_fd(progress.try_clone()?)).duplicate(lowest).map_err(errno)?;
    let path = program.to_str().ok_or_else(|| io::Error::other("the path of rspawn-setup is not UTF-8"))?;
    let (channel, page_number) = (theirs.raw().to_string(), page.raw().to_string());
    let argv = StringArray::new([path, &channel, &page_number].into_iter()).map_err(errno)?;
    let env = StringArray::new(std::iter::empty()).map_err(errno)?;
    // A plain fork, which does not wait for the exec as posix_spawn(3) does: this process goes on at once.
    match process::fork(0).map_err(errno)? {
        Side::Parent { pid, .. } => Ok(Setup { control, progress, pid }),
        Side::Child => {
            // The terminal's signals are the parent's to pass on; the helper would die of them.
            let _ = process::new_process_group(0);
            let _ = signal::set_blocked(0);
            if theirs.keep_on_exec().and_then(|()| page.keep_on_exec()).is_ok() {
                process::execute(path, &argv, &env);
            }
            process::exit(NOT_EXECUTED)
        }
    }
}

/// Beside this program, or where packages put helpers. Never from an environment variable.
pub fn find(name: &str) -> io::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let directory = me.parent().unwrap_or(&me);
    let candidates = [directory.join(name), directory.join("../libexec/rspawn").join(name)];
    candidates.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let message = format!("{name} is neither in {} nor in ../libexec/rspawn beside it", directory.display());
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// An errno of the sys crate as the standard library's error.
pub fn errno(errno: rspawn_sys::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}
