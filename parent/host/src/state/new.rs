//! The state directory of a container that is being made.
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;
use rspawn_proto::ids::ContainerId;

use super::container::{Container, RunHooks, remove_directory};
use super::root::StateRoot;
use super::unread::clear_cgroups;
use super::unreadable::{EXISTS, Unreadable};
use crate::streams;
use rspawn_planner::NotifyMount;

/// The name of the socket for notifications in its directory.
pub const NOTIFY_SOCKET: &str = "notify.sock";

/// How often a directory is made that others remove meanwhile.
const ATTEMPTS: u32 = 10;

/// Removed when dropped, until rspawn-setup has taken it over.
pub struct NewContainer {
    path: PathBuf,
    /// Locked. The lock is the open file's, so rspawn-setup has it too, once it has the descriptor.
    directory: Option<File>,
    /// Where the bundle's configuration is copied to.
    config: Option<File>,
}

/// Two named pipes. Who waits holds both open for both directions, so that an opener for writing finds a reader for
/// as long as there is somebody to start.
pub struct Gate {
    pub gate: File,
    pub report: File,
    /// A page for the step that who waited is at: what it cannot report, it notes there.
    pub page: File,
}

impl NewContainer {
    /// Makes the directory, which takes the id. What a dead rspawn has left of one is removed first.
    pub fn make(root: &StateRoot, id: &ContainerId, run_hooks: RunHooks) -> Result<Self, String> {
        let say = |error: io::Error| format!("cannot make the state directory of container {id}: {error}");
        let path = root.path.join(id.as_str());
        // Again while others remove what is there, which they may do a few times.
        for _ in 0..ATTEMPTS {
            match mkdirat(root.directory(), id.as_str(), Mode::from_bits_truncate(0o700)) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {
                    remove_abandoned(root, id, run_hooks)?;
                    continue;
                }
                Err(errno) => return Err(say(errno.into())),
            }
            let directory = match root.open_state(id.as_str()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(say)?,
            };
            if !is_locked_now(&directory).map_err(say)? {
                continue;
            }
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join("config.json"));
            match made {
                // The directory is another's, who has finished a container in the place of the one made here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => {
                    // From here on it is removed with this value.
                    let mut new = Self { path, directory: Some(directory), config: None };
                    new.config = Some(made.map_err(say)?);
                    return Ok(new);
                }
            }
        }
        Err(EXISTS.into())
    }

    /// What a container waits at which is only created.
    pub fn make_gate(&self) -> io::Result<Gate> {
        let pipe = |name: &str| {
            let path = self.path.join(name);
            mkfifo(&path, Mode::from_bits_truncate(0o600))?;
            OpenOptions::new().read(true).write(true).open(path)
        };
        let (gate, report) = (pipe("gate")?, pipe("report")?);
        // In packets: of two messages that are read late, each is read by itself (pipe(2), O_DIRECT).
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_DIRECT))?;
        let page = self.path.join("step");
        let page = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(page)?;
        page.set_len(8)?;
        Ok(Gate { gate, report, page })
    }

    /// Where the container's notifications are listened to: by `run` at once, in a socket that goes with the other files;
    /// by `start` in a directory, since it makes a new one. Gives the directory to listen in now.
    pub fn make_notify(&self, now: bool) -> Result<(NotifyMount, Option<&File>), String> {
        let source = |name: &str| self.path.join(name).to_string_lossy().into_owned();
        let Some(directory) = self.directory.as_ref().filter(|_| now) else {
            let made = fs::DirBuilder::new().mode(0o755).create(self.path.join("notify"));
            made.map_err(|error| format!("cannot make the directory for notifications: {error}"))?;
            return Ok((NotifyMount { source: source("notify"), at: "/run/notify" }, None));
        };
        let mount = NotifyMount { source: source(NOTIFY_SOCKET), at: "/run/notify/notify.sock" };
        Ok((mount, Some(directory)))
    }

    /// The directory, for rspawn-setup, and the file for the configuration.
    pub fn open(&mut self) -> io::Result<(File, File)> {
        match (&self.directory, self.config.take()) {
            (Some(directory), Some(config)) => Ok((directory.try_clone()?, config)),
            _ => unreachable!("they are there until this takes them"),
        }
    }

    /// rspawn-setup has it, and removes it if need be, from here on.
    pub fn hand_over(mut self) {
        self.directory = None;
    }
}

/// Takes the lock of a directory that is there. False if somebody else is at it, or it is gone.
fn is_locked_now(directory: &File) -> io::Result<bool> {
    match directory.try_lock() {
        Ok(()) => Ok(directory.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes what is in the way of a new container: the state of one that was to end with a `run` which was killed, or
/// that was never finished. An error if it is a container, or is just becoming one.
fn remove_abandoned(root: &StateRoot, id: &ContainerId, run_hooks: RunHooks) -> Result<(), String> {
    let directory = match root.open_state(id.as_str()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| format!("cannot open the state of container {id}: {error}"))?,
    };
    let say = |error: io::Error| format!("cannot lock the state of container {id}: {error}");
    if !is_locked_now(&directory).map_err(say)? {
        // Gone, or somebody's.
        return if directory.metadata().map_err(say)?.nlink() == 0 { Ok(()) } else { Err(EXISTS.into()) };
    }
    match Container::open(id, &directory, &root.path) {
        Ok(container) if container.is_abandoned()? => container.remove(run_hooks),
        Ok(_) => Err(EXISTS.into()),
        Err(Unreadable::Absent) => {
            clear_cgroups(&directory)?;
            remove_directory(&root.path.join(id.as_str()))
        }
        Err(why) => Err(why.into()),
    }
}

impl Drop for NewContainer {
    fn drop(&mut self) {
        if self.directory.is_some()
            && let Err(reason) = remove_directory(&self.path)
        {
            streams::warn(reason);
        }
    }
}
