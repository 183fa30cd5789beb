//! The state directory of a container that is being made.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;
use rspawn_proto::ids::ContainerId;

use super::{EXISTS, StateRoot};

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
}

impl NewContainer {
    /// Makes the directory, which takes the id. What a dead rspawn has left of one is used again.
    pub fn make(root: &StateRoot, id: &ContainerId) -> Result<Self, String> {
        let say = |error: io::Error| format!("cannot make the state directory of container {id}: {error}");
        match mkdirat(root.directory(), id.as_str(), Mode::from_bits_truncate(0o700)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if root.container(id.as_str()).is_ok_and(|container| !container.is_abandoned()) {
                    return Err(EXISTS.into());
                }
            }
            Err(errno) => return Err(say(errno.into())),
        }
        let path = root.path.join(id.as_str());
        let directory = File::from(root.open_state(id.as_str()).map_err(say)?);
        // Somebody else is making it just now; or has begun, failed and removed it.
        let is_ours = directory.try_lock().is_ok() && directory.metadata().is_ok_and(|found| found.nlink() > 0);
        if !is_ours {
            return Err(EXISTS.into());
        }
        for entry in fs::read_dir(&path).map_err(say)?.flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join("config.json"));
        let config = made.map_err(say)?;
        Ok(Self { path, directory: Some(directory), config: Some(config) })
    }

    /// The pipes that a container waits at which is only created.
    pub fn make_gate(&self) -> io::Result<Gate> {
        let pipe = |name: &str| {
            let path = self.path.join(name);
            mkfifo(&path, Mode::from_bits_truncate(0o600))?;
            OpenOptions::new().read(true).write(true).open(path)
        };
        Ok(Gate { gate: pipe("gate")?, report: pipe("report")? })
    }

    /// The directory, and the file for the configuration: rspawn-setup removes them if need be, from here on.
    pub fn hand_over(mut self) -> (File, File) {
        match (self.directory.take(), self.config.take()) {
            (Some(directory), Some(config)) => (directory, config),
            _ => unreachable!("they are there until this takes them"),
        }
    }
}

impl Drop for NewContainer {
    fn drop(&mut self) {
        if self.directory.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
