//! A container that was made before: its record, and how it is now.
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use rspawn_proto::hook::{DeferredHooks, Hook};
use rspawn_proto::ids::{ContainerId, HostPath, normalized};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::{MAX_MESSAGE, MAX_PLAN, codec};
use rspawn_sys::{Fd, channel, process};

use super::head::Head;
use super::unreadable::{DOES_NOT_EXIST, Unreadable};
use crate::containers::cgroups;
use crate::errors;

/// How long a command waits for another to be done with the same container, and for a killed one to end.
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
        kill(&first, id)?;
        cgroups::kill_all(cgroups)?;
        wait_for_end(&first, id, cgroups)
    }

    /// Removes all that is left of it: processes, cgroups, the state directory. Its poststop hooks run, and have no say
    /// in it (runtime.md, "Lifecycle"). The first process is gone, and the lock held.
    pub fn remove(&self, run_hooks: RunHooks) -> Result<(), String> {
        let Record { cgroups, deferred, unit, .. } = &self.record;
        // Processes of a shared pid namespace live on without the first one.
        cgroups::kill_all(cgroups)?;
        // Before the record, without which nobody would find what is left of them.
        cgroups::remove(cgroups, unit.is_some())?;
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
        open_in(&self.directory, "config.json").map_err(|error| match error.kind() {
            // Gone with its directory, or damaged.
            io::ErrorKind::NotFound if self.directory.metadata().is_ok_and(|found| found.nlink() == 0) => {
                DOES_NOT_EXIST.to_string()
            }
            _ => format!("cannot open the configuration of container {}: {error}", self.record.id),
        })
    }
}

/// Ends a container whose record cannot be read, and removes its cgroups. Its first process is what the record's head
/// says, which every version has in common; the others are known by the cgroups that rspawn-setup noted.
pub fn end_unread(directory: &File, id: &ContainerId) -> Result<(), String> {
    let noted = noted_cgroups(directory)?;
    let head = Head::find(directory, id)?;
    if head.is_none() && noted.is_empty() {
        // Whatever lives may be anybody's, and is left alone; that is not to be kept quiet about.
        crate::streams::warn(format!(
            "the record of container {id} does not tell its process, and no cgroup does: if it lives, it lives on"
        ));
    }
    let first = match head {
        Some(head) => head.process()?,
        None => None,
    };
    if let Some(first) = first {
        kill(&first, id)?;
        cgroups::kill_all(&noted)?;
        wait_for_end(&first, id, &noted)?;
    }
    clear_cgroups(directory)
}

fn kill(first: &Fd, id: &ContainerId) -> Result<(), String> {
    match process::signal(first, libc::SIGKILL) {
        Ok(()) | Err(rspawn_sys::Errno(libc::ESRCH)) => Ok(()),
        Err(errno) => Err(format!("cannot kill container {id}: {}", errors::describe(errno.0))),
    }
}

fn wait_for_end(first: &Fd, id: &ContainerId, cgroups: &[CgroupDir]) -> Result<(), String> {
    match channel::wait_readable(first, Some(PATIENCE.as_millis() as u32)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "container {id} was killed and does not end within {} s{}",
            PATIENCE.as_secs(),
            if cgroups::are_frozen(cgroups)? { ": a cgroup above its own is frozen" } else { "" }
        )),
        Err(errno) => Err(format!("cannot wait for the end of container {id}: {}", errors::describe(errno.0))),
    }
}

/// What rspawn-setup noted of the container's cgroups before it made them.
fn noted_cgroups(directory: &File) -> Result<Vec<CgroupDir>, String> {
    match read(directory, "cgroups", MAX_MESSAGE) {
        Ok(bytes) => Ok(codec::decode_message(&bytes).unwrap_or_else(|reason| {
            crate::streams::warn(format!("which cgroups the container has cannot be understood: {reason}"));
            Vec::new()
        })),
        // It had none yet; or what is there was never written by rspawn.
        Err(error) if error.kind() == io::ErrorKind::NotFound || !is_fault(&error) => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read which cgroups the container has: {error}")),
    }
}

/// Removes the cgroups of a container that has no record, or none that can be read: rspawn-setup notes them before
/// it makes them. What is in them is killed if there is a record, which tells that they have become the container's:
/// one that was killed before may have noted another's.
pub fn clear_cgroups(directory: &File) -> Result<(), String> {
    let noted = noted_cgroups(directory)?;
    match fstatat(directory, "record", AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => {
            cgroups::kill_all(&noted)?;
            cgroups::remove(&noted, false)
        }
        Err(Errno::ENOENT) => cgroups::remove_empty(&noted),
        Err(errno) => Err(format!("cannot read which cgroups the container has: {}", io::Error::from(errno))),
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

/// Whether reading a file has failed for a reason that says nothing about the file. The others: it is a link, or
/// something else than a file.
pub fn is_fault(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), None | Some(libc::ELOOP | libc::ENOTDIR | libc::EISDIR | libc::ENXIO))
}

/// Opens a file of the state directory: never through a link.
fn open_in(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

pub(super) fn read(directory: &File, name: &str, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_in(directory, name)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names this run of the machine.
pub fn boot_id() -> Result<String, String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    match fs::read_to_string(FILE) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_string()),
        Ok(_) => Err(format!("{FILE} is empty")),
        Err(error) => Err(format!("cannot read {FILE}: {error}")),
    }
}
