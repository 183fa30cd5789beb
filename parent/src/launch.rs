//! Starting rspawn-setup, before anything untrusted is read.
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_sys::process::{Side, StringArray};
use rspawn_sys::{Fd, channel, process, signal};

use crate::ids::Ids;

/// The running helper, from the parent's side.
pub struct Setup {
    pub control: Fd,
    /// The step that the helper is at, in memory that outlives it.
    pub progress: std::fs::File,
    pid: i32,
}

impl Setup {
    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let ended = process::wait(self.pid, true).map_err(errno)?;
        Ok(ExitStatus::from_raw(ended.map_or(0, |(_, status)| status)))
    }
}

/// Starts the helper. It runs on beside this process, and waits for the first message. Where the caller cannot mount,
/// it gets a user namespace of its own; which ids are in it, `ids` says afterwards.
pub fn start(preserve_fds: u32, ids: Option<&mut Ids>) -> io::Result<Setup> {
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
    let arguments = [theirs.raw().to_string(), page.raw().to_string()];
    let started = match ids.filter(|ids| ids.rootless) {
        Some(ids) => start_in_namespace(&program, &arguments, ids),
        // The terminal's signals are the parent's to pass on; the helper would die of them.
        None => Command::new(&program).args(arguments).env_clear().process_group(0).spawn().map(|child| child.id() as i32),
    };
    let pid = started
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))?;
    Ok(Setup { control, progress, pid })
}

/// Starts the helper as root of a new user namespace, with a mount namespace that belongs to it. Its rights end there.
fn start_in_namespace(program: &Path, arguments: &[String], ids: &mut Ids) -> io::Result<i32> {
    let path = program.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
    let argv = StringArray::new(["rspawn-setup"].into_iter().chain(arguments.iter().map(String::as_str)));
    let argv = argv.map_err(errno)?;
    let environment = StringArray::new(std::iter::empty()).map_err(errno)?;
    let (go, wait) = channel::pair().map_err(errno)?;
    let kinds: NamespaceSet = [Namespace::User, Namespace::Mount].into_iter().collect();
    match process::fork(kinds.clone_flags()).map_err(|errno| no_namespace(errno.0))? {
        Side::Child => {
            drop(go);
            // It is nobody before the maps are written. If that never happens, this process's end ends the wait.
            if let Ok(Some(_)) = channel::receive(&wait, 0) {
                let _ = signal::set_blocked(0);
                let _ = process::new_process_group(0);
                process::execute(path, &argv, &environment);
            }
            process::exit(127)
        }
        Side::Parent { pid, child } => {
            let begun = ids.write(pid).and_then(|()| channel::send(&go, &[], &[]).map_err(errno));
            if let Err(error) = begun {
                let _ = process::signal(&child, libc::SIGKILL);
                let _ = process::wait(pid, true);
                return Err(error);
            }
            Ok(pid)
        }
    }
}

/// Why there is no user namespace for a user: the kernel's own switches, and those of distributions.
fn no_namespace(number: i32) -> io::Error {
    const SWITCHES: [(&str, &str); 3] = [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let is_set = |(file, value): &(&str, &str)| {
        std::fs::read_to_string(format!("/proc/sys/{file}")).is_ok_and(|text| text.trim() == *value)
    };
    let switch = SWITCHES.iter().find(|switch| is_set(switch));
    let because = switch.map_or(String::new(), |(file, value)| format!("; /proc/sys/{file} is {value}"));
    let reason = crate::describe::errno(number);
    io::Error::other(format!("without root it needs a user namespace of its own: {reason}{because}"))
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
