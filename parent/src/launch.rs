//! Starting rspawn-setup, before anything untrusted is read.
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rspawn_sys::{Fd, channel};

/// The running helper, from the parent's side.
pub struct Setup {
    pub control: Fd,
    /// The step that the helper is at, in memory that outlives it.
    pub progress: std::fs::File,
    pub child: Child,
}

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
    theirs.keep_on_exec().map_err(errno)?;
    page.keep_on_exec().map_err(errno)?;
    let child = Command::new(&program)
        .args([theirs.raw().to_string(), page.raw().to_string()])
        .env_clear()
        // The terminal's signals are the parent's to pass on; the helper would die of them.
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))?;
    Ok(Setup { control, progress, child })
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
