//! What a container leaves in its state directory: written by rspawn-setup when it is created, read by every later
//! command. Not JSON, and bounded like all else on the wire: commands that act with privilege parse nothing.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::ids::{ContainerId, HostPath, Text};
use crate::namespaces::NamespaceSet;
use crate::plan::{InitMode, UnitProperty};
use crate::policy::PathRule;

/// First word of every record. Changes with every change of [`Record`]: its lowest three digits count, the others stay.
/// The version that was released last is read as well (README.md, "Updates"; tests/tests/updates.rs has its format).
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
    pub after: After,
}

/// A cgroup of a container, or a resctrl group.
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

/// What is left to do at later commands, as the planner found it in config.json.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct After {
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
    pub state: StateTemplate,
    /// Which programs may be hooks: the policy's, which is put here when the container is created.
    pub allowed: Option<Vec<PathRule>>,
}

/// A program of the host's that config.json names (runtime-spec, config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Hook {
    /// The JSON pointer of the hook.
    pub origin: String,
    pub path: HostPath,
    pub argv: Vec<Text>,
    /// Where config.json gives none: of a startContainer hook the payload's, of any other nothing.
    pub env: Option<Vec<Text>>,
    /// Seconds; 0 for no limit.
    pub timeout: u32,
    /// Files that its standard output and standard error are appended to. Without, an error quotes them.
    pub outputs: [Option<HostPath>; 2],
}

/// The container's state as JSON (runtime-spec, runtime.md, "State"), but for what is known later: who sends it
/// writes status and pid between `head` and `tail`. So nobody with privileges has to write JSON.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct StateTemplate {
    /// From `{` up to the member `"status":`, that included.
    pub head: String,
    /// From the comma after the pid to the end.
    pub tail: String,
}

/// What rspawn-hooks is asked to do: run hooks one after another until one fails.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct HookJob {
    pub hooks: Vec<Hook>,
    /// The container's state in JSON, for each hook's standard input.
    pub state: String,
    /// The programs that may be hooks, judged when each is executed. `None`: any.
    pub allowed: Option<Vec<PathRule>>,
}

/// What rspawn-scope is asked to do. The connection to the bus rides on the message.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ScopeJob {
    pub unit: Text,
    /// The process of a scope that is to be made. Without one, the properties are for a scope that is there.
    pub pid: Option<i32>,
    pub properties: Vec<UnitProperty>,
}

impl StateTemplate {
    /// The whole state, with a status of the specification and the pid of the container's first process, if it has
    /// one.
    pub fn fill(&self, status: &str, pid: Option<i32>) -> String {
        let pid = pid.map_or_else(String::new, |pid| format!(",\"pid\":{pid}"));
        format!("{}\"{status}\"{pid}{}", self.head, self.tail)
    }
}
