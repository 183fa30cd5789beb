//! A container that was made before: its record, and how it is now.
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rspawn_proto::hook::{DeferredHooks, Hook};
use rspawn_proto::ids::{ContainerId, HostPath, normalized};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::Fd;

use super::files::{is_fault, open_in, read};
use super::head::{Head, kill_and_wait};
use super::unreadable::{DOES_NOT_EXIST, Unreadable};
use crate::containers::cgroups;

/// How long a command waits for another to be done with the same container.
const PATIENCE: Duration = Duration::from_secs(10);

/// What runs hooks of the host's in their order, up to the first that fails, with the state that they read.
pub type RunHooks<'a> = &'a dyn Fn(&[Hook], &DeferredHooks, String) -> Result<(), String>;

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
    pub fn open(id: &ContainerId, directory: &File, root: &Path) -> Result<Self, Unreadable> {
        let record = read_record(id, directory)?;
        let held = directory.try_clone();
        let directory = held.map_err(|error| Unreadable::Fault(format!("cannot hold container {id}: {error}")))?;
        Ok(Self { record, path: root.join(id.as_str()), directory })
    }

    /// The record alone; the directory is closed.
    pub fn into_record(self) -> Record {
        self.record
    }

    /// A descriptor of the first process, if it lives: never of another that has its pid now.
    pub fn process(&self) -> Result<Option<Fd>, String> {
        Head::of(&self.record).process()
    }

    pub fn status(&self) -> Result<Status, String> {
        Ok(match self.process()? {
            None => Status::Stopped,
            Some(_) if self.waits_for_its_start()? => Status::Created,
            Some(_) if self.is_frozen()? => Status::Paused,
            Some(_) => Status::Running,
        })
    }

    /// Whether somebody holds the report: the payload's exec closes it, whatever became of the `start` that was to
    /// remove it.
    fn waits_for_its_start(&self) -> Result<bool, String> {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.directory, "report", flags, Mode::empty()) {
            Ok(_) => Ok(true),
            // Nobody holds it for reading; or `start` has removed it.
            Err(Errno::ENXIO | Errno::ENOENT) => Ok(false),
            Err(errno) => {
                let id = &self.record.id;
                Err(format!("cannot find out whether container {id} waits for its start: {}", io::Error::from(errno)))
            }
        }
    }

    /// Whether its cgroup is frozen, by whoever.
    pub fn is_frozen(&self) -> Result<bool, String> {
        cgroups::are_frozen(&self.record.cgroups)
    }

    /// It was to be removed by `rspawn run`, which is dead, as it is.
    pub fn is_abandoned(&self) -> Result<bool, String> {
        Ok(self.record.foreground && self.process()?.is_none())
    }

    /// The cgroups that a process is to join: the container's, or those below it that `exec --cgroup` names, each as
    /// `[CONTROLLERS:]PATH`.
    pub fn cgroups_of_exec(&self, below: &[String]) -> Result<Vec<CgroupDir>, String> {
        let mut cgroups = self.record.cgroups.clone();
        if below.is_empty() {
            for cgroup in &mut cgroups {
                cgroups::follow_if_divided(cgroup, self.record.pid)?;
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
        self.record = read_record(&id, &self.directory).map_err(String::from)?;
        Ok(self)
    }

    /// Lets other commands at it again.
    pub fn unlock(&self) -> Result<(), String> {
        self.directory.unlock().map_err(|error| format!("cannot unlock container {}: {error}", self.record.id))
    }

    /// The directory for its notifications, if it was made for an invoker who wants to hear them.
    pub fn notify_directory(&self) -> Result<Option<File>, String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.directory, "notify", flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(format!("cannot open the directory for notifications: {}", io::Error::from(errno))),
        }
    }

    /// Kills the first process, and with it its pid namespace, and waits for it.
    pub fn end(&self) -> Result<(), String> {
        let Record { id, cgroups, .. } = &self.record;
        let Some(first) = self.process()? else { return Ok(()) };
        kill_and_wait(&first, id, cgroups)
    }

    /// Removes all that is left of it: processes, cgroups, the state directory. Its poststop hooks run, and have no say
    /// in it (runtime.md, "Lifecycle"). The first process is gone, and the lock held.
    pub fn remove(&self, run_hooks: RunHooks) -> Result<(), String> {
        let Record { cgroups, deferred, unit, .. } = &self.record;
        // Before the record, without which nobody would find what is left of them.
        if Head::of(&self.record).is_of_this_boot()? {
            // Processes of a shared pid namespace live on without the first one.
            cgroups::kill_all(cgroups)?;
            cgroups::remove(cgroups, unit.is_some())?;
        } else {
            cgroups::remove_empty(cgroups)?;
        }
        for hook in &deferred.poststop {
            if let Err(reason) = run_hooks(std::slice::from_ref(hook), deferred, deferred.state.fill("stopped", None)) {
                crate::streams::warn(reason);
            }
        }
        remove_directory(&self.path)
    }

    /// The same for those who only show it: none if it is not there, or something else than a file.
    pub fn config_if_there(&self) -> Result<Option<File>, String> {
        match open_in(&self.directory, "config.json") {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || !is_fault(&error) => Ok(None),
            Err(error) => Err(format!("cannot open the configuration of container {}: {error}", self.record.id)),
        }
    }

    /// The configuration that it was made from. What is in it is for a confined process to read.
    pub fn config(&self) -> Result<File, String> {
        let opened = open_in(&self.directory, "config.json");
        // Damaged, or removed with all the rest by a command that has the lock until nothing is left.
        let is_missing = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if is_missing && !lock(&self.directory, &self.record.id)? {
            return Err(DOES_NOT_EXIST.into());
        }
        opened.map_err(|error| format!("cannot open the configuration of container {}: {error}", self.record.id))
    }
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

/// Removes a state directory, which may be gone already.
pub fn remove_directory(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read_record(id: &ContainerId, directory: &File) -> Result<Record, Unreadable> {
    let bytes = match read(directory, "record", MAX_PLAN) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unreadable::Absent),
        Err(error) => {
            let reason = format!("cannot read the record of container {id}: {error}");
            return Err(if is_fault(&error) { Unreadable::Fault(reason) } else { Unreadable::Damaged(reason) });
        }
    };
    // First of all, since what follows the head may be of another shape.
    let head = Head::decode(&bytes, id);
    if let Some(Head { version, .. }) = head.filter(|head| head.version != RECORD_VERSION) {
        return Err(Unreadable::Damaged(format!(
            "the record of container {id} is another version's ({version:#x}; this rspawn reads {RECORD_VERSION:#x}): \
             use the rspawn that made it, or end and remove it with `rspawn delete --force {id}`"
        )));
    }
    let record: Record = codec::decode_plan(&bytes).map_err(|reason| {
        Unreadable::Damaged(format!("the record of container {id} is damaged ({reason}); `delete --force` removes it"))
    })?;
    if record.version != RECORD_VERSION || record.id != *id {
        return Err(Unreadable::Damaged(format!(
            "the record of container {id} is that of another container; `delete --force` removes it"
        )));
    }
    Ok(record)
}
