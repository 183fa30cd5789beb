//! The head of a record, which every version of rspawn can read: which process a container is, so that `delete --force`
//! ends one that another version has made, and no process that only has its number.
use std::fs::{self, File};
use std::io;
use std::time::Duration;

use bincode::Decode;
use rspawn_proto::MAX_PLAN;
use rspawn_proto::ids::{ContainerId, HostPath, Text};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_sys::{Errno, Fd, channel, process};

use super::files::{is_fault, read};
use crate::containers::cgroups;
use crate::containers::processes::Stat;
use crate::errors;

/// How long a killed container has to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fields that every version's [`Record`] begins with.
#[derive(Debug, Decode)]
struct Beginning {
    version: u32,
    id: ContainerId,
    _bundle: HostPath,
    _created: u64,
    _owner: u32,
    pid: i32,
    start_time: u64,
    boot: Text,
}

/// The first process of a container.
pub struct Head {
    pub version: u32,
    id: ContainerId,
    pid: i32,
    start_time: u64,
    boot: Text,
}

impl Head {
    pub fn of(record: &Record) -> Self {
        let Record { version, id, pid, start_time, boot, .. } = record;
        Self { version: *version, id: id.clone(), pid: *pid, start_time: *start_time, boot: boot.clone() }
    }

    /// What these bytes begin with. `None` if that is no record of this container, whichever version's.
    pub fn decode(bytes: &[u8], id: &ContainerId) -> Option<Self> {
        let config = bincode::config::standard().with_limit::<MAX_PLAN>();
        // What does not decode is the record of no version: then nothing proves which process it means.
        let Ok((found, _)) = bincode::decode_from_slice::<Beginning, _>(bytes, config) else { return None };
        let Beginning { version, pid, start_time, boot, .. } = found;
        let is_its = found.id == *id && version >> 12 == RECORD_VERSION >> 12;
        is_its.then_some(Self { version, id: found.id, pid, start_time, boot })
    }

    /// That of a container whose record is in this directory. `None` as well where there is nothing that can be read.
    pub fn find(directory: &File, id: &ContainerId) -> Result<Option<Self>, String> {
        match read(directory, "record", MAX_PLAN) {
            Ok(bytes) => Ok(Self::decode(&bytes, id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || !is_fault(&error) => Ok(None),
            Err(error) => Err(format!("cannot read the record of container {id}: {error}")),
        }
    }

    /// Whether the machine has run since the container was made. If not, whatever is in a cgroup of the container's name
    /// is another's.
    pub fn is_of_this_boot(&self) -> Result<bool, String> {
        let now = boot_id();
        let now = now.map_err(|reason| format!("cannot find out whether container {} lives: {reason}", self.id))?;
        Ok(now == self.boot.as_str())
    }

    /// A descriptor of the process, if it lives: never of another that has its pid now. Dead is what is not there
    /// (ESRCH, ENOENT), has another start time, or is a zombie. Any other answer is an error: who takes it for dead
    /// kills and forgets a living container.
    pub fn process(&self) -> Result<Option<Fd>, String> {
        let Self { id, pid, start_time, .. } = self;
        let say = |reason: &str| format!("cannot find out whether container {id} lives: {reason}");
        if !self.is_of_this_boot()? {
            return Ok(None);
        }
        let held = match process::open_pidfd(*pid) {
            Err(Errno(libc::ESRCH)) => return Ok(None),
            held => held,
        };
        // Asked of the number after it is held: what is dead by now is a zombie at most, and stays it.
        let is_its = |stat: &Stat| stat.start_time == *start_time && !stat.is_dead();
        if !Stat::of(*pid).map_err(|reason| say(&reason))?.as_ref().is_some_and(is_its) {
            return Ok(None);
        }
        held.map(Some).map_err(|errno| say(&format!("pidfd_open of process {pid}: {}", errors::describe(errno.0))))
    }
}

/// Kills a container's first process, and whatever is in its cgroups, and waits for the end of the first.
pub fn kill_and_wait(first: &Fd, id: &ContainerId, cgroups: &[CgroupDir]) -> Result<(), String> {
    match process::signal(first, libc::SIGKILL) {
        Ok(()) | Err(Errno(libc::ESRCH)) => {}
        Err(errno) => return Err(format!("cannot kill container {id}: {}", errors::describe(errno.0))),
    }
    cgroups::kill_all(cgroups)?;
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

/// Names this run of the machine.
pub fn boot_id() -> Result<String, String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    match fs::read_to_string(FILE) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_string()),
        Ok(_) => Err(format!("{FILE} is empty")),
        Err(error) => Err(format!("cannot read {FILE}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rspawn_proto::codec;

    use super::*;

    const AFTER: &[u8] = b" and what nobody knows";

    /// A version in the form of the wire, and what comes first in a record, by hand.
    fn bytes(version: u32, id: &str) -> Vec<u8> {
        let mut bytes = vec![252];
        bytes.extend(version.to_le_bytes());
        let mut text = |text: &str| {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        };
        text(id);
        text("/bundle");
        // created, owner, pid (zigzag), start time.
        bytes.extend([1, 0, 84, 9]);
        bytes.extend(b"\x04boot");
        bytes.extend(AFTER);
        bytes
    }

    #[test]
    fn heads_of_other_versions_are_read() {
        let id = ContainerId::new("web").expect("an id");
        for version in [RECORD_VERSION, RECORD_VERSION + 1, RECORD_VERSION - 1, RECORD_VERSION | 0xfff] {
            let head = Head::decode(&bytes(version, "web"), &id).expect("a head");
            assert_eq!((head.version, head.pid, head.start_time, head.boot.as_str()), (version, 42, 9, "boot"));
        }
        assert!(Head::decode(&bytes(RECORD_VERSION, "other"), &id).is_none());
        assert!(Head::decode(&bytes(0x1234_1007, "web"), &id).is_none());
        assert!(Head::decode(&bytes(RECORD_VERSION, "web")[..20], &id).is_none());
    }

    /// The promise: a record of this version begins so.
    #[test]
    fn records_begin_with_a_head() {
        let id = ContainerId::new("web").expect("an id");
        let record = Record {
            version: RECORD_VERSION,
            id: id.clone(),
            bundle: HostPath::new("/bundle").expect("a path"),
            created: 1,
            owner: 0,
            pid: 42,
            start_time: 9,
            boot: Text::new("boot").expect("a text"),
            foreground: false,
            init: rspawn_proto::plan::InitMode::Exec,
            new_keyring: false,
            namespaces: Default::default(),
            cgroups: Vec::new(),
            unit: None,
            deferred: Default::default(),
        };
        let encoded = codec::encode(&record).expect("bytes");
        let head = bytes(RECORD_VERSION, "web");
        let length = head.len() - AFTER.len();
        assert_eq!(encoded[..length], head[..length]);
    }
}
