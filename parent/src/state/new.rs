//! The state directory of a container that is being made.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;
use rspawn_proto::ids::ContainerId;

use super::{Container, DOES_NOT_EXIST, EXISTS, StateRoot, clear_cgroups};
use crate::notify::{self, Relay};
use crate::plan::NotifyMount;

/// How often a directory is made that others remove meanwhile.
const ATTEMPTS: u32 = 10;

/// Removed when dropped, unless rspawn-setup has taken it over.
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
    pub fn make(root: &StateRoot, id: &ContainerId) -> Result<Self, String> {
        let say = |error: io::Error| format!("cannot make the state directory of container {id}: {error}");
        let path = root.path.join(id.as_str());
        // Again while others remove what is there, which they may do a few times.
        for _ in 0..ATTEMPTS {
            match mkdirat(root.directory(), id.as_str(), Mode::from_bits_truncate(0o700)) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {
                    remove_abandoned(root, id)?;
                    continue;
                }
                Err(errno) => return Err(say(errno.into())),
            }
            let directory = match root.open_state(id.as_str()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(say)?,
            };
            if !is_locked_now(&directory) {
                continue;
            }
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join("config.json"));
            match made {
                // The directory is another's, who has finished a container in the place of the one made here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    let _ = fs::remove_dir_all(&path);
                    return Err(say(error));
                }
                Ok(config) => return Ok(Self { path, directory: Some(directory), config: Some(config) }),
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
    /// by `start` in a directory, since it makes a new one.
    pub fn make_notify(&self, now: bool) -> Result<(NotifyMount, Option<Relay>), String> {
        let source = |name: &str| self.path.join(name).to_string_lossy().into_owned();
        let Some(directory) = self.directory.as_ref().filter(|_| now) else {
            let made = fs::DirBuilder::new().mode(0o755).create(self.path.join("notify"));
            made.map_err(|error| format!("cannot make the directory for notifications: {error}"))?;
            return Ok((NotifyMount { source: source("notify"), at: "/run/notify" }, None));
        };
        let mount = NotifyMount { source: source(notify::NAME), at: "/run/notify/notify.sock" };
        Ok((mount, Some(Relay::listen(directory)?)))
    }

    /// The directory, and the file for the configuration: rspawn-setup removes them if need be, from here on.
    pub fn hand_over(mut self) -> (File, File) {
        match (self.directory.take(), self.config.take()) {
            (Some(directory), Some(config)) => (directory, config),
            _ => unreachable!("they are there until this takes them"),
        }
    }
}

/// Takes the lock of a directory that is there. False if somebody else is at it, or it is gone.
fn is_locked_now(directory: &File) -> bool {
    directory.try_lock().is_ok() && directory.metadata().is_ok_and(|found| found.nlink() > 0)
}

/// Removes what is in the way of a new container: the state of one that was to end with a `run` which was killed, or
/// that was never finished. An error if it is a container, or is just becoming one.
fn remove_abandoned(root: &StateRoot, id: &ContainerId) -> Result<(), String> {
    let directory = match root.open_state(id.as_str()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| format!("cannot open the state of container {id}: {error}"))?,
    };
    if !is_locked_now(&directory) {
        // Gone, or somebody's.
        return if directory.metadata().is_ok_and(|found| found.nlink() == 0) { Ok(()) } else { Err(EXISTS.into()) };
    }
    match Container::open(id, &directory, root) {
        Ok(container) if container.is_abandoned() => container.remove(),
        Ok(_) => Err(EXISTS.into()),
        Err(reason) if reason == DOES_NOT_EXIST => {
            clear_cgroups(&directory)?;
            let path = root.path.join(id.as_str());
            fs::remove_dir_all(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))
        }
        Err(reason) => Err(reason),
    }
}

impl Drop for NewContainer {
    fn drop(&mut self) {
        if self.directory.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
