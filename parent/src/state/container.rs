//! A container that was made before: its record, and how it is now.
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rspawn_proto::ids::{ContainerId, HostPath, normalized};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::{MAX_MESSAGE, codec};
use rspawn_sys::{Fd, process};

use super::{DOES_NOT_EXIST, StateRoot};

/// The states of runtime.md, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

pub struct Container {
    pub record: Record,
    pub path: PathBuf,
    directory: File,
}

impl Container {
    /// Reads the record. A directory without one is no container: it is being made, or its maker died.
    pub fn open(id: ContainerId, directory: OwnedFd, root: &StateRoot) -> Result<Self, String> {
        let path = root.path.join(id.as_str());
        let directory = File::from(directory);
        let bytes = match read(&directory, "record", MAX_MESSAGE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DOES_NOT_EXIST.into()),
            Err(error) => return Err(format!("cannot read the record of container {id}: {error}")),
        };
        let record: Record = codec::decode_message(&bytes).map_err(|reason| {
            format!("the record of container {id} is damaged ({reason}); `delete --force` removes it")
        })?;
        if record.version != RECORD_VERSION || record.id != id {
            return Err(format!("the record of container {id} is another build's; `delete --force` removes it"));
        }
        Ok(Self { record, path, directory })
    }

    /// A descriptor of the first process, if it lives: never of another that has its pid now.
    pub fn process(&self) -> Option<Fd> {
        let Record { pid, start_time, boot, .. } = &self.record;
        if boot.as_str() != boot_id() {
            return None;
        }
        let held = process::open_pidfd(*pid).ok()?;
        // Asked of the number after it is held: what is dead by now is a zombie at most, and stays it.
        (process::start_time(*pid) == Ok(*start_time)).then_some(held)
    }

    pub fn status(&self) -> Status {
        match self.process() {
            None => Status::Stopped,
            Some(_) if self.path.join("gate").exists() => Status::Created,
            Some(_) if self.is_frozen() => Status::Paused,
            Some(_) => Status::Running,
        }
    }

    /// Whether its cgroup is frozen, by whoever.
    fn is_frozen(&self) -> bool {
        self.record.cgroups.iter().any(|cgroup| {
            let (file, frozen) = match cgroup.hierarchy.as_str() {
                "" => ("cgroup.freeze", "1"),
                "freezer" => ("freezer.state", "FROZEN"),
                _ => return false,
            };
            fs::read_to_string(format!("{}/{file}", cgroup.path)).is_ok_and(|state| state.trim() == frozen)
        })
    }

    /// It was to be removed by `rspawn run`, which is dead, as it is.
    pub fn is_abandoned(&self) -> bool {
        self.record.foreground && self.process().is_none()
    }

    /// The cgroups that a process is to join: the container's, or those below it that `exec --cgroup` names, each as
    /// `[CONTROLLERS:]PATH`.
    pub fn cgroups_of_exec(&self, below: &[String]) -> Result<Vec<CgroupDir>, String> {
        let mut cgroups = self.record.cgroups.clone();
        for wanted in below {
            let (controllers, path) = wanted.split_once(':').map_or((None, wanted.as_str()), |(c, p)| (Some(c), p));
            let path = normalized(path);
            for cgroup in &mut cgroups {
                let named = controllers.is_none_or(|names| {
                    names.split(',').any(|name| cgroup.hierarchy.as_str().split(',').any(|own| own == name))
                });
                if named {
                    cgroup.path = HostPath::new(format!("{}/{path}", cgroup.path))?;
                }
            }
        }
        Ok(cgroups)
    }

    /// Keeps other commands from changing the container until it is dropped.
    pub fn lock(&self) -> Result<File, String> {
        let locked = self.directory.lock().and_then(|()| self.directory.try_clone());
        let locked =
            locked.map_err(|error| format!("cannot lock the state of container {}: {error}", self.record.id))?;
        match locked.metadata() {
            Ok(found) if found.nlink() > 0 => Ok(locked),
            // Whoever had the lock has removed it.
            _ => Err(DOES_NOT_EXIST.into()),
        }
    }

    /// Lets other commands at it again.
    pub fn unlock(&self) {
        let _ = self.directory.unlock();
    }

    /// The configuration that it was made from. What is in it is for a confined process to read.
    pub fn config(&self) -> Result<File, String> {
        open_in(&self.directory, "config.json")
            .map_err(|error| format!("cannot open the configuration of container {}: {error}", self.record.id))
    }
}

/// Opens a file of the state directory: never through a link.
fn open_in(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

fn read(directory: &File, name: &str, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_in(directory, name)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names this run of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}
