//! The plan: fixed phases, and a flat list of primitive operations inside each.
//!
//! The order of the phases is compiled into rspawn-setup, and each phase has its own operation type, so that a hostile
//! planner cannot even say "mount" where only cgroups are made. What an operation works on are slots and checked
//! types; host paths occur in [`HostOp`] alone.
use alloc::{string::String, vec::Vec};

use bincode::{Decode, Encode};

pub use crate::hook::Hooks;
use crate::hook::{Hook, StateTemplate};
pub use crate::ids::Target;
use crate::ids::{ContainerId, GuestPath, HostPath, Id, RelPath, Slot, Text};
use crate::namespaces::{Namespace, NamespaceSet};
pub use crate::unit::{UnitProperty, UnitValue};
pub use crate::virtual_fs::VirtualFs;

/// Everything that is about to happen, from the host's namespaces to the payload's first instruction.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Plan {
    pub header: Header,
    /// In the caller's namespaces: open what the host lends to the container.
    pub host: Vec<Step<HostOp>>,
    /// The new process and its namespaces.
    pub spawn: Spawn,
    /// In the caller's namespaces, while the new process waits.
    pub attach: Vec<Step<AttachOp>>,
    /// In the container's namespaces, before its first process runs.
    pub rootfs: Vec<Step<RootfsOp>>,
    /// What rspawn-init applies to itself before it becomes, or starts, the payload.
    pub finish: Finish,
    pub hooks: Hooks,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Header {
    pub version: u32,
    pub id: ContainerId,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// A new container.
    Container,
    /// Another process in a running one: a plan of nothing but the last mile.
    Exec,
    /// Other limits for a living one: a plan of nothing but values. Its slots are the cgroups that the invoker named.
    Update,
}

/// An operation and where it comes from.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Step<T> {
    /// A JSON pointer into config.json ("/mounts/3"), or the name of the rule that added the step.
    pub origin: String,
    pub op: T,
}

impl<T> Step<T> {
    pub fn new(origin: impl Into<String>, op: T) -> Self {
        Self { origin: origin.into(), op }
    }
}

/// What a path or mount must turn out to be, checked on the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Expect {
    Any,
    /// Any file; of a link at the path's end, the link itself.
    Unfollowed,
    Directory,
    /// Exactly the character device 1:3. Masks are made of it, so nothing else may pose as it (CVE-2025-31133).
    NullDevice,
    /// The device that config.json asks for, where nodes cannot be made and the host's is bound instead.
    Device {
        kind: NodeKind,
        major: u32,
        minor: u32,
    },
}

/// MOUNT_ATTR_* bits and propagation, applied by one mount_setattr(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountAttrs {
    pub set: u64,
    pub clear: u64,
    pub propagation: Option<Propagation>,
    pub recursive: bool,
    /// A user namespace whose id maps the mount takes on.
    pub idmap: Option<Slot>,
}

pub use crate::mount_attr as attr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
    Unbindable,
}

/// One parameter of a new filesystem, as fsconfig(2) takes it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct FsParam {
    pub key: Text,
    pub value: FsValue,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FsValue {
    Flag,
    Text(Text),
    /// Opened host paths, named to the kernel by their descriptors: `/proc/self/fd/N`, with colons between them.
    Paths(Vec<Slot>),
}

/// Operations in the caller's namespaces. They only open, clone and build detached objects, and make the container's
/// cgroups: nothing that belongs to another process changes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum HostOp {
    /// Opens a host path for reading its identity only (O_PATH): a layer, a block device.
    OpenPath { out: Slot, path: HostPath, expect: Expect },
    /// Opens a namespace file and verifies its kind.
    OpenNamespace { out: Slot, path: HostPath, kind: Namespace },
    /// A user namespace that serves as the id map of mounts; no process stays in it.
    MakeIdMap { out: Slot, uid_map: Vec<IdMap>, gid_map: Vec<IdMap> },
    /// A detached clone of the mount at a host path, its attributes already set: it is never visible without them.
    CloneTree {
        out: Slot,
        path: HostPath,
        expect: Expect,
        recursive: bool,
        attrs: MountAttrs,
        /// It stays a peer of the host's mount, so that what the container mounts on it shows on the host. Any other
        /// clone is cut off from the host by its first attributes.
        peer: bool,
    },
    /// A detached mount of any filesystem type; its parameters may name opened host paths.
    NewFilesystem { out: Slot, fs: Text, params: Vec<FsParam>, attrs: MountAttrs },
    /// Changes attributes of a mount made above: a second pass where one call cannot say it all.
    SetAttrs { mount: Slot, attrs: MountAttrs },
    /// Makes a cgroup of the container's own in one hierarchy, or takes over an empty one.
    OpenCgroup {
        out: Slot,
        /// Controllers of a v1 hierarchy ("cpu,cpuacct", "name=systemd"); empty for cgroup v2.
        hierarchy: Text,
        /// Where the hierarchy is mounted.
        mount: HostPath,
        path: RelPath,
        /// Controllers of cgroup v2 to enable above it, as far as each level has them.
        controllers: Vec<Text>,
        /// Whom the cgroup is handed to, as an id of the host's: the payload's user.
        owner: Option<Id>,
    },
    /// Opens a group of a resctrl filesystem, or makes it (the kernel's Documentation/arch/x86/resctrl.rst).
    OpenResctrl {
        out: Slot,
        /// Where the filesystem is mounted.
        mount: HostPath,
        /// A class of service ("", "NAME"), or a group that watches some of one ("NAME/mon_groups/NAME").
        group: RelPath,
        /// It is to be made: one that is there is others' too, and nothing of it changes.
        new: Option<NewResctrl>,
    },
    /// Writes values to a file of a cgroup, one call each.
    SetCgroup {
        cgroup: Slot,
        /// The first whose file exists is written: some have another name with another I/O scheduler.
        choices: Vec<CgroupSetting>,
        /// That none exists is an error.
        needed: bool,
    },
    /// Which devices may be used; what no rule speaks of may not. Rules, and not the program that v2 takes: a program
    /// runs in the kernel.
    DeviceRules { cgroup: Slot, rules: Vec<DeviceAccess> },
    /// Has systemd make a scope, whose cgroup becomes the container's. A process of rspawn-setup's waits in it.
    StartScope { unit: Text, properties: Vec<UnitProperty> },
    /// Tells systemd new limits of the scope that the invoker named, so that it does not take them back.
    SetScope { properties: Vec<UnitProperty> },
}

/// A resctrl group that is made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewResctrl {
    /// Lines for its `schemata`, each with its end; without any, the kernel's own hold.
    pub schemata: Text,
    /// It is for others too, and outlives the container.
    pub stays: bool,
}

/// A file of a cgroup, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CgroupSetting {
    pub file: Text,
    pub values: Vec<Text>,
}

/// One rule about devices. The last one that speaks of a device and of a way to use it decides; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DeviceAccess {
    pub allow: bool,
    pub kind: Option<NodeKind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Bits of [`access`].
    pub access: u8,
}

pub mod access {
    //! Ways to use a device, as BPF_DEVCG_ACC_* of `linux/bpf.h` numbers them.
    pub const MKNOD: u8 = 1;
    pub const READ: u8 = 2;
    pub const WRITE: u8 = 4;
    pub const ALL: u8 = MKNOD | READ | WRITE;
}

/// A range of ids: `count` ids from `inside` in the new namespace are `outside` in the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// How the container's first process comes to be. A struct, not operations: its order is security.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Spawn {
    /// Namespaces that are made for it.
    pub new: NamespaceSet,
    /// The cgroups it runs in, each an [`HostOp::OpenCgroup`] slot. A new cgroup namespace has its root in them.
    pub cgroups: Vec<Slot>,
    /// Namespaces joined before it, each an [`HostOp::OpenNamespace`] slot.
    pub join: Vec<Step<Join>>,
    pub uid_map: Vec<IdMap>,
    pub gid_map: Vec<IdMap>,
    pub time_offsets: Vec<TimeOffset>,
    pub oom_score_adj: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Join {
    pub kind: Namespace,
    pub from: Slot,
}

/// One line of /proc/PID/timens_offsets (time_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TimeOffset {
    pub clock: Clock,
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Clock {
    Monotonic,
    Boottime,
}

/// Operations in the caller's namespaces on a container that exists but does not run yet.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum AttachOp {
    /// Moves a network device into the container's network namespace, with its global addresses, and sets it up.
    MoveNetDevice { name: Text, new_name: Text },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum NodeKind {
    Char,
    Block,
    Fifo,
}

/// In the mount of covers for masks: a null device.
pub const MASK_NULL: &str = "null";
/// And an empty directory.
pub const MASK_EMPTY: &str = "empty";

/// Operations inside the container's namespaces. Paths are resolved in its root and never leave it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum RootfsOp {
    /// Propagation of every mount inherited from the host, before anything is attached.
    Propagate {
        propagation: Propagation,
        recursive: bool,
    },
    /// Makes a detached mount the root that all paths below are resolved in. It is attached over the place that
    /// `over` was opened at, where hooks look for it; over `/` if there is none. `below` it lies what clones are taken
    /// from, out of everybody's sight: what is to be cloned must be attached (before Linux 6.15).
    AttachRoot {
        mount: Slot,
        over: Option<Slot>,
        below: Option<Slot>,
    },
    /// A detached mount of a virtual filesystem.
    NewFilesystem {
        out: Slot,
        fs: VirtualFs,
        params: Vec<FsParam>,
        attrs: u64,
    },
    /// Copies what the container's root has at `from` into a mount that is not attached yet (tmpcopyup).
    CopyUp {
        mount: Slot,
        from: Target,
    },
    /// Gives the root of a mount that is not attached yet the mode of the directory that it will cover.
    CopyMode {
        mount: Slot,
        from: Target,
    },
    /// Attaches a detached mount, on a directory or an empty file that is made if there is none; `no_symlinks` says that
    /// symlinks on the way are refused.
    Attach {
        mount: Slot,
        at: Target,
        no_symlinks: bool,
    },
    /// A detached clone of what the container has at `from`: what an earlier operation has mounted, or a part of it. It
    /// has the rights of what it is cloned from.
    CloneTree {
        out: Slot,
        from: Target,
        recursive: bool,
    },
    /// As [`RootfsOp::Attach`], where a link has a say: with `copy`, a mount whose root is a link is not attached, but the
    /// same link made in its place; without `follow`, a link at the end of `at` is what is mounted on.
    AttachLink {
        mount: Slot,
        at: Target,
        copy: bool,
        follow: bool,
    },
    /// Changes attributes of an attached mount, or of the root.
    SetAttrs {
        mount: Slot,
        attrs: MountAttrs,
    },
    MakeDirectory {
        at: Target,
        mode: u32,
    },
    MakeSymlink {
        at: Target,
        target: Text,
    },
    MakeNode {
        at: Target,
        kind: NodeKind,
        major: u32,
        minor: u32,
        mode: u32,
        uid: Id,
        gid: Id,
    },
    /// A pseudoterminal of the devpts at a place. Its master goes to the caller, its slave becomes the payload's stdio
    /// and, bound, the console.
    Console {
        devpts: Target,
        console: Target,
        rows: u16,
        columns: u16,
        uid: Id,
    },
    /// Covers a path, if the filesystem there has it, with a clone from the mount of covers: a directory with its
    /// [`MASK_EMPTY`], anything else with its [`MASK_NULL`].
    Mask {
        at: Target,
        covers: Slot,
        /// That there is nothing to cover is an error.
        needed: bool,
    },
    /// Makes what is at a path read-only, if it exists, by a clone over it: what is below is reached through that. Where
    /// there is nothing, the slot stays empty, and nothing is below.
    ReadOnly {
        at: Target,
        out: Slot,
    },
    /// Writes a sysctl of a namespace that the container owns, through a procfs that nothing can shadow.
    Sysctl {
        key: Text,
        value: Text,
    },
    Hostname {
        name: Text,
    },
    Domainname {
        name: Text,
    },
    LoopbackUp,
    /// Waits while the hooks of this moment run: everything is mounted, and the host's tree still there.
    Hooks,
    /// The container's root becomes the root of its processes; the host's tree is gone from their sight.
    Pivot,
}

/// Whether PID 1 stays rspawn-init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum InitMode {
    /// rspawn-init is PID 1: it forwards signals and reaps; the payload is its child.
    Supervise,
    /// rspawn-init becomes the payload.
    Exec,
}

/// The last mile. rspawn-init owns the order; the plan only says what.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Finish {
    pub init: InitMode,
    pub init_reason: String,
    pub terminal: bool,
    /// First size of a terminal that is opened without [`RootfsOp::Console`]: rows, columns; 0 for none.
    pub terminal_size: (u16, u16),
    pub argv: Vec<Text>,
    pub env: Vec<Text>,
    pub cwd: GuestPath,
    pub rlimits: Vec<Rlimit>,
    pub scheduler: Option<Scheduler>,
    /// ioprio_set(2)'s value: class << 13 | level.
    pub io_priority: Option<u16>,
    pub memory_policy: Option<MemoryPolicy>,
    /// CPUs to run on, as a mask of 64 a word: before a process that joins a container enters its cgroups, and after.
    pub first_affinity: Vec<u64>,
    pub affinity: Vec<u64>,
    /// personality(2)'s argument.
    pub personality: Option<u32>,
    /// Name of a new session keyring.
    pub keyring: Option<Text>,
    pub label: Option<Label>,
    pub umask: Option<u32>,
    /// Supplementary groups, replaced as a whole; left as they are where the kernel lets nobody set them.
    pub groups: Option<Vec<Id>>,
    pub gid: Id,
    pub uid: Id,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// The container's `/dev/null` is not the host's.
    pub own_null: bool,
    /// Descriptors from 3 on that the payload inherits (`--preserve-fds`).
    pub preserve_fds: u32,
    pub seccomp: Option<Seccomp>,
    /// startContainer hooks: inside the container, with the payload's rights, when it is started.
    pub hooks: Vec<Hook>,
    pub state: StateTemplate,
}

impl Finish {
    /// The agent that decides about the payload's calls.
    pub fn listener(&self) -> Option<&Listener> {
        self.seccomp.as_ref()?.listener.as_ref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u8,
    pub soft: u64,
    pub hard: u64,
}

/// struct sched_attr of sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// set_mempolicy(2)'s mode (flags included) and node mask, 64 nodes a word.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct MemoryPolicy {
    pub mode: u32,
    pub nodes: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Label {
    AppArmor(Text),
    SeLinux(Text),
}

/// Bit masks over capability numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// Numbers of capability.h, as bits.
impl Capabilities {
    pub const KILL: u64 = 1 << 5;
    pub const SYS_ADMIN: u64 = 1 << 21;
}

/// One classic BPF instruction, struct sock_filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A seccomp program. It binds the payload alone, and the kernel verifies it: so it travels as bytes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Seccomp {
    pub program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
    pub listener: Option<Listener>,
}

/// The agent that a filter asks (SCMP_ACT_NOTIFY), and what it is told with the filter's listener.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Listener {
    /// Its socket, an [`HostOp::OpenPath`] slot.
    pub socket: Slot,
    /// The container process state of runtime-spec, config-linux.md, as JSON, from `{` up to the member `"pid":`, that
    /// included. What follows is the pid and the container's state.
    pub head: String,
    pub state: StateTemplate,
}
