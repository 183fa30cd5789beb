//! What a container leaves in its state directory: written by rspawn-setup when it is created, read by every later
//! command. Not JSON, and bounded like all else on the wire: commands that act with privilege parse nothing.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::hook::DeferredHooks;
use crate::ids::{ContainerId, HostPath, Text};
use crate::namespaces::NamespaceSet;
use crate::plan::InitMode;

/// First word of every record. Changes with every change of [`Record`]: its lowest three digits count, the others stay.
/// The version that was released last is read as well (README.md, "Updates"; tests/tests/cli/updates.rs has its format).
pub const RECORD_VERSION: u32 = 0x5253_1007;

/// The fields up to `boot` are the head: they keep their order and kinds in every version, so that one that cannot read
/// the rest knows the container's process.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Record {
    pub version: u32,
    pub id: ContainerId,
    /// Absolute path of the bundle.
    pub bundle: HostPath,
    /// Nanoseconds since the epoch, at `create`.
    pub created: u64,
    /// Who created it.
    pub owner: u32,
    /// The container's first process, in the namespace of whoever created it.
    pub pid: i32,
    /// Start time of that process, field 22 of /proc/PID/stat: pids are used again.
    pub start_time: u64,
    /// /proc/sys/kernel/random/boot_id: start times count from the machine's start.
    pub boot: Text,
    /// It was to end with `rspawn run`, which removes what is left. If that was killed, the next one does.
    pub foreground: bool,
    /// PID 1 of the container is rspawn-init.
    pub init: InitMode,
    /// Its processes have session keyrings of their own.
    pub new_keyring: bool,
    /// The namespaces that the container has of its own.
    pub namespaces: NamespaceSet,
    /// Every cgroup directory that is the container's own, one for each hierarchy; then the resctrl groups it is in.
    pub cgroups: Vec<CgroupDir>,
    /// The scope that systemd made for it.
    pub unit: Option<Text>,
    pub deferred: DeferredHooks,
}

/// A cgroup of a container, or a resctrl group. The file `cgroups` beside a record has a list of them, which every
/// version must be able to read: it tells what is left of a container whose record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CgroupDir {
    /// Controllers of the v1 hierarchy ("cpu,cpuacct", "name=systemd"); empty for cgroup v2; [`RESCTRL`].
    pub hierarchy: Text,
    /// The directory itself, on the host.
    pub path: HostPath,
    /// Others may be in it too: it is neither changed nor removed.
    pub shared: bool,
}

/// What stands for the controllers of a resctrl group. They are the last ones of a record.
pub const RESCTRL: &str = "resctrl";
