//! A container that was made before: its record, and how it is now.
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use rspawn_proto::ids::{ContainerId, HostPath, normalized};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::{MAX_MESSAGE, MAX_PLAN, codec};
use rspawn_sys::{Fd, channel, process};

use super::{DOES_NOT_EXIST, StateRoot};
use crate::{cgroups, hooks};

/// How long a command waits for another to be done with the same container, and for a killed one to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The states of runtime.md, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
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
    pub fn open(id: &ContainerId, directory: &File, root: &StateRoot) -> Result<Self, String> {
        let record = read_record(id, directory)?;
        let directory = directory.try_clone().map_err(|error| format!("cannot hold container {id}: {error}"))?;
        Ok(Self { record, path: root.path.join(id.as_str()), directory })
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
            Some(_) if self.waits_for_its_start() => Status::Created,
            Some(_) if self.is_frozen() => Status::Paused,
            Some(_) => Status::Running,
        }
    }

    /// Whether somebody holds the report: the payload's exec closes it, whatever became of the `start` that was to
    /// remove it.
    fn waits_for_its_start(&self) -> bool {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.directory, "report", flags, Mode::empty()).is_ok()
    }

    /// Whether its cgroup is frozen, by whoever.
    pub fn is_frozen(&self) -> bool {
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
        if below.is_empty() {
            for cgroup in &mut cgroups {
                cgroups::follow_if_divided(cgroup, self.record.pid);
            }
        }
        for wanted in below {
            let (controllers, path) = wanted.split_once(':').map_or((None, wanted.as_str()), |(c, p)| (Some(c), p));
            let path = normalized(path);
            for cgroup in cgroups.iter_mut().filter(|cgroup| !cgroups::is_resctrl(cgroup)) {
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

    /// Keeps other commands from changing the container until it is dropped. The record is read again: whoever had the
    /// lock may have changed it.
    pub fn lock(mut self) -> Result<Self, String> {
        let id = self.record.id.clone();
        if !lock(&self.directory, &id)? {
            return Err(DOES_NOT_EXIST.into());
        }
        self.record = read_record(&id, &self.directory)?;
        Ok(self)
    }

    /// Lets other commands at it again.
    pub fn unlock(&self) {
        let _ = self.directory.unlock();
    }

    /// The directory for its notifications, if it was made for an invoker who wants to hear them.
    pub fn notify_directory(&self) -> Option<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.directory, "notify", flags, Mode::empty()).ok().map(File::from)
    }

    /// Kills the first process, and with it its pid namespace, and waits for it.
    pub fn end(&self) -> Result<(), String> {
        let Some(first) = self.process() else { return Ok(()) };
        let _ = process::signal(&first, libc::SIGKILL);
        cgroups::signal_all(&self.record.cgroups, libc::SIGKILL);
        cgroups::thaw(&self.record.cgroups);
        match channel::wait_readable(&first, Some(PATIENCE.as_millis() as u32)) {
            Ok(true) => Ok(()),
            _ => Err(format!("container {} was killed and does not end", self.record.id)),
        }
    }

    /// Removes all that is left of it: processes, cgroups, the state directory. Its poststop hooks run, and have no say
    /// in it (runtime.md, "Lifecycle"). The first process is gone, and the lock held.
    pub fn remove(&self) -> Result<(), String> {
        let Record { cgroups, after, unit, .. } = &self.record;
        // Processes of a shared pid namespace live on without the first one.
        cgroups::signal_all(cgroups, libc::SIGKILL);
        // Before the record, without which nobody would find what is left of them.
        cgroups::remove(cgroups, unit.is_some())?;
        for hook in &after.poststop {
            if let Err(reason) = hooks::run(std::slice::from_ref(hook), after.state.fill("stopped", None)) {
                crate::streams::warn(reason);
            }
        }
        fs::remove_dir_all(&self.path).map_err(|error| format!("cannot remove {}: {error}", self.path.display()))
    }

    /// The configuration that it was made from. What is in it is for a confined process to read.
    pub fn config(&self) -> Result<File, String> {
        open_in(&self.directory, "config.json").map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.directory.metadata().is_ok_and(|found| found.nlink() == 0) => {
                DOES_NOT_EXIST.to_string()
            }
            _ => format!("cannot open the configuration of container {}: {error}", self.record.id),
        })
    }
}

/// Removes the cgroups of a container that has no record, or none that can be read: rspawn-setup notes them before
/// it makes them. What is in them is killed if there is a record, which tells that they have become the container's:
/// one that was killed before may have noted another's.
pub fn clear_cgroups(directory: &File) -> Result<(), String> {
    let noted = read(directory, "cgroups", MAX_MESSAGE).ok().and_then(|bytes| codec::decode_message(&bytes).ok());
    let noted: Vec<CgroupDir> = noted.unwrap_or_default();
    if fstatat(directory, "record", AtFlags::AT_SYMLINK_NOFOLLOW).err() == Some(Errno::ENOENT) {
        cgroups::remove_empty(&noted);
        return Ok(());
    }
    cgroups::signal_all(&noted, libc::SIGKILL);
    cgroups::remove(&noted, false)
}

/// Locks a state directory: false if whoever had the lock has removed it meanwhile. Not for ever: a hook may hang in
/// the command that has it.
pub fn lock(directory: &File, id: &ContainerId) -> Result<bool, String> {
    let say = |error: &dyn std::fmt::Display| format!("cannot lock the state of container {id}: {error}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match directory.try_lock() {
            Ok(()) => return directory.metadata().map(|found| found.nlink() > 0).map_err(|error| say(&error)),
            Err(TryLockError::Error(error)) => return Err(say(&error)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(say(&"another command is at work on it, and does not end"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn read_record(id: &ContainerId, directory: &File) -> Result<Record, String> {
    let bytes = match read(directory, "record", MAX_PLAN) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DOES_NOT_EXIST.into()),
        Err(error) => return Err(format!("cannot read the record of container {id}: {error}")),
    };
    let others = || format!("the record of container {id} is another build's; `delete --force` removes it");
    // First of all, since what follows the version may be of another shape.
    let version = bincode::decode_from_slice::<u32, _>(&bytes, bincode::config::standard());
    if version.is_ok_and(|(version, _)| version != RECORD_VERSION && version >> 12 == RECORD_VERSION >> 12) {
        return Err(others());
    }
    let record: Record = codec::decode_plan(&bytes)
        .map_err(|reason| format!("the record of container {id} is damaged ({reason}); `delete --force` removes it"))?;
    if record.version != RECORD_VERSION || record.id != *id {
        return Err(others());
    }
    Ok(record)
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
