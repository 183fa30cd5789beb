//! The structural check of a decoded plan: one pass, before the first effect.
//!
//! Slots are defined once and used after that, as what they are; the root is attached once and left once. Whether a
//! value is in the range of its system call is the kernel's to judge. What a plan may *hold* is the policy's
//! business.
use alloc::{vec, vec::Vec};

use crate::ids::{Slot, Text};
use crate::namespaces::{Namespace, NamespaceSet};
use crate::plan::*;
use crate::report::{Place, SpawnStep};
use crate::sysctl::{sysctl_owner, sysctl_path};
use crate::{MAX_OPS, MAX_PATH, MAX_SLOTS, WIRE_VERSION};

/// Where a plan breaks a rule, and which.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub place: Place,
    pub reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SlotKind {
    Path,
    Mount,
    /// A mount of a filesystem that the worker makes.
    Fresh,
    IdMap,
    Namespace(Namespace),
    CgroupV1,
    CgroupV2,
    /// A cgroup or resctrl group of a container that lives.
    Living,
    Resctrl,
}

#[derive(Default)]
struct Slots {
    kinds: Vec<Option<SlotKind>>,
}

impl Slots {
    fn define(&mut self, slot: Slot, kind: SlotKind) -> Result<(), &'static str> {
        let index = slot.0 as usize;
        if index >= MAX_SLOTS {
            return Err("a slot number is above the limit");
        }
        if self.kinds.len() <= index {
            self.kinds.resize(index + 1, None);
        }
        match self.kinds[index].replace(kind) {
            None => Ok(()),
            Some(_) => Err("a slot is defined twice"),
        }
    }

    fn uses(&self, slot: Slot, kind: SlotKind) -> Result<(), &'static str> {
        self.uses_one_of(slot, &[kind])
    }

    fn uses_one_of(&self, slot: Slot, kinds: &[SlotKind]) -> Result<(), &'static str> {
        match self.kinds.get(slot.0 as usize) {
            Some(Some(found)) if kinds.contains(found) => Ok(()),
            Some(Some(_)) => Err("a slot is used as something it is not"),
            _ => Err("a slot is used before it is defined"),
        }
    }

    fn uses_mount(&self, slot: Slot) -> Result<(), &'static str> {
        self.uses_one_of(slot, &[SlotKind::Fresh, SlotKind::Mount])
    }

    fn uses_cgroup(&self, slot: Slot) -> Result<(), &'static str> {
        self.uses_one_of(slot, &[SlotKind::CgroupV1, SlotKind::CgroupV2, SlotKind::Living])
    }
}

/// Checks the whole plan.
pub fn check(plan: &Plan) -> Result<(), Fault> {
    let at = |place| move |reason| Fault { place, reason };
    let fault = at(Place::Check);
    if plan.header.version != WIRE_VERSION {
        return Err(fault("the plan was made by another build of rspawn"));
    }
    if plan.host.len() + plan.attach.len() + plan.rootfs.len() > MAX_OPS {
        return Err(fault("the plan has too many operations"));
    }
    if plan.header.kind == Kind::Exec {
        return exec(plan).map_err(fault);
    }
    let mut slots = Slots::default();
    if plan.header.kind == Kind::Update {
        // How many of them there are, the executor knows. With every slot taken, nothing else can be made or opened.
        slots.kinds = vec![Some(SlotKind::Living); MAX_SLOTS];
    }
    for (index, step) in plan.host.iter().enumerate() {
        host(&step.op, &mut slots).map_err(at(Place::Host(index as u16)))?;
    }
    if plan.header.kind == Kind::Update {
        let alone = plan.attach.is_empty() && plan.rootfs.is_empty() && plan.hooks == Hooks::default();
        return if alone && plan.spawn == Spawn::default() { Ok(()) } else { Err(fault("an update only sets values")) };
    }
    plan.finish.listener().map_or(Ok(()), |listener| slots.uses(listener.socket, SlotKind::Path)).map_err(fault)?;
    spawn(&plan.spawn, &slots).map_err(at(Place::Spawn(SpawnStep::Clone)))?;
    let owned = owned_namespaces(&plan.spawn);
    for (index, step) in plan.attach.iter().enumerate() {
        attach(&step.op, owned).map_err(at(Place::Attach(index as u16)))?;
    }
    let mut root = Root::Shared;
    for (index, step) in plan.rootfs.iter().enumerate() {
        rootfs(&step.op, &mut slots, &mut root, owned).map_err(at(Place::Rootfs(index as u16)))?;
    }
    if root != Root::Left {
        return Err(fault("the plan never enters the container's root"));
    }
    // What rspawn-setup waits for, in this order: a word that nobody expects could be taken for another.
    let consoles = usize::from(plan.finish.terminal);
    let words = plan.rootfs.iter().map(|step| &step.op);
    let words = words.filter(|op| matches!(op, RootfsOp::Console { .. } | RootfsOp::Hooks));
    let is_expected = |(index, op): (usize, &RootfsOp)| (index < consoles) == (*op != RootfsOp::Hooks);
    if !words.clone().enumerate().all(is_expected) || !(consoles..=consoles + 1).contains(&words.count()) {
        return Err(fault("a console without a terminal, or hooks at another moment than theirs"));
    }
    Ok(())
}

/// Where a process joins, the invoker has said: a plan for it has the last mile alone, and the way to its seccomp agent.
fn exec(plan: &Plan) -> Result<(), &'static str> {
    let Plan { host, spawn, attach, rootfs, hooks, finish, .. } = plan;
    let Spawn { oom_score_adj, .. } = *spawn;
    let opens_its_agent = match (&host[..], finish.listener()) {
        ([], None) => true,
        ([Step { op: HostOp::OpenPath { out, .. }, .. }], Some(listener)) => *out == listener.socket,
        _ => false,
    };
    let alone = finish.hooks.is_empty()
        && opens_its_agent
        && attach.is_empty()
        && rootfs.is_empty()
        && *hooks == Hooks::default();
    if !alone || finish.init != InitMode::Exec || *spawn != (Spawn { oom_score_adj, ..Spawn::default() }) {
        return Err("a process in a running container asks for more than its last mile");
    }
    Ok(())
}

/// Namespaces that are the container's own: made for it, or joined by the invoker's wish.
pub fn owned_namespaces(spawn: &Spawn) -> NamespaceSet {
    spawn.new.union(spawn.join.iter().map(|step| step.op.kind).collect())
}

/// Whether a plan has an operation that changes what a namespace keeps.
pub fn needs_own(plan: &Plan, kind: Namespace) -> bool {
    plan.rootfs.iter().any(|step| match &step.op {
        RootfsOp::Sysctl { key, .. } => sysctl_owner(key.as_str()) == Some(kind),
        RootfsOp::Hostname { .. } | RootfsOp::Domainname { .. } => kind == Namespace::Uts,
        RootfsOp::LoopbackUp => kind == Namespace::Network,
        RootfsOp::NewFilesystem { fs: VirtualFs::Cgroup | VirtualFs::Cgroup2, .. } => kind == Namespace::Cgroup,
        _ => false,
    })
}

fn host(op: &HostOp, slots: &mut Slots) -> Result<(), &'static str> {
    match op {
        HostOp::OpenPath { out, .. } => slots.define(*out, SlotKind::Path),
        HostOp::OpenNamespace { out, kind, .. } => slots.define(*out, SlotKind::Namespace(*kind)),
        HostOp::MakeIdMap { out, .. } => slots.define(*out, SlotKind::IdMap),
        // A mount on a peer of the host's would show there, and stay.
        HostOp::CloneTree { attrs, recursive, peer: false, .. } if !is_cut_off(attrs, *recursive) => {
            Err("a clone that is not cut off from the host's mounts")
        }
        HostOp::CloneTree { out, attrs, .. } => {
            mount_attrs(attrs, slots)?;
            slots.define(*out, SlotKind::Mount)
        }
        HostOp::NewFilesystem { out, fs, params, attrs } => {
            // In the host's namespaces they would show the host's processes, cgroups and terminals.
            if VirtualFs::from_name(fs.as_str()).is_some() {
                return Err("a filesystem that shows a namespace would show the host's");
            }
            fs_params(params, slots)?;
            params.iter().try_for_each(|param| no_hidden_path(fs.as_str(), param))?;
            mount_attrs(attrs, slots)?;
            slots.define(*out, SlotKind::Mount)
        }
        HostOp::SetAttrs { mount, attrs } => {
            mount_attrs(attrs, slots)?;
            slots.uses(*mount, SlotKind::Mount)
        }
        HostOp::OpenCgroup { path, .. } if path.is_root() => Err("the root of a hierarchy is not for a container"),
        HostOp::OpenCgroup { mount, path, .. } | HostOp::OpenResctrl { mount, group: path, .. }
            if mount.as_str().len() + path.as_str().len() >= MAX_PATH =>
        {
            Err("the path of a cgroup is longer than 4095 bytes")
        }
        HostOp::OpenCgroup { out, hierarchy, controllers, .. } => {
            let is_name = |name: &Text| name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !controllers.iter().all(is_name) {
                return Err("a controller with an odd name");
            }
            let kind = if hierarchy.as_str().is_empty() { SlotKind::CgroupV2 } else { SlotKind::CgroupV1 };
            slots.define(*out, kind)
        }
        HostOp::OpenResctrl { out, .. } => slots.define(*out, SlotKind::Resctrl),
        HostOp::SetCgroup { cgroup, choices, .. } => {
            let living = slots.uses(*cgroup, SlotKind::Living).is_ok();
            let is_setting = |file: &str| is_cgroup_setting(file) || (living && file == "schemata");
            if !choices.iter().all(|choice| is_setting(choice.file.as_str())) {
                return Err("the file of a cgroup holds no setting");
            }
            slots.uses_cgroup(*cgroup)
        }
        HostOp::DeviceRules { rules, .. } if rules.len() > MAX_DEVICE_RULES => Err("there are too many device rules"),
        HostOp::DeviceRules { rules, .. } if !rules.iter().all(is_device_rule) => Err("an invalid device rule"),
        HostOp::DeviceRules { cgroup, .. } => slots.uses_cgroup(*cgroup),
        // One of another kind may run programs.
        HostOp::StartScope { unit, .. } if !unit.as_str().ends_with(".scope") => Err("the unit is not a scope"),
        HostOp::StartScope { .. } | HostOp::SetScope { .. } => Ok(()),
    }
}

fn is_cut_off(attrs: &MountAttrs, recursive: bool) -> bool {
    let alone = matches!(attrs.propagation, Some(Propagation::Private | Propagation::Slave | Propagation::Unbindable));
    alone && (attrs.recursive || !recursive)
}

fn is_device_rule(rule: &DeviceAccess) -> bool {
    rule.kind != Some(NodeKind::Fifo) && rule.access != 0 && rule.access & !access::ALL == 0
}

/// Most device rules: what the kernel verifies of a program in little time.
pub const MAX_DEVICE_RULES: usize = 1024;

/// Whether a file of a cgroup is a setting of a controller's. Not those that move processes, name programs to run or
/// reach other cgroups: `cgroup.procs`, `release_agent`, `cgroup.event_control`; nor the device rules, which the
/// policy wants to see as such.
pub fn is_cgroup_setting(file: &str) -> bool {
    const CONTROLLERS: [&str; 12] =
        ["cpu", "cpuset", "memory", "io", "blkio", "pids", "hugetlb", "rdma", "misc", "dmem", "net_cls", "net_prio"];
    const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
    let of_controller = file.split_once('.').is_some_and(|(name, _)| CONTROLLERS.contains(&name));
    CORE.contains(&file) || (of_controller && file.bytes().all(is_plain))
}

/// Host paths are opened by operations that the policy judges. A parameter must not name one in its own way: text that
/// begins with a slash, or has one behind a colon, is refused but for what is no path of this machine's. A relative path
/// leads nowhere, since the filesystem is made in an empty directory.
fn no_hidden_path(fs: &str, param: &FsParam) -> Result<(), &'static str> {
    const LAYERS: [&str; 5] = ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"];
    /// `host:/export`, `//server/share`.
    const OF_THE_NETWORK: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "glusterfs"];
    let (key, FsValue::Text(value)) = (param.key.as_str(), &param.value) else { return Ok(()) };
    let value = value.as_str();
    let allowed = match key {
        "source" => OF_THE_NETWORK.contains(&fs) && (!value.starts_with('/') || value.starts_with("//")),
        // A place on the filesystem itself.
        "subvol" => fs == "btrfs",
        "prefixpath" => matches!(fs, "cifs" | "smb3"),
        _ => false,
    };
    if (value.starts_with('/') || value.contains(":/")) && !allowed || fs == "overlay" && LAYERS.contains(&key) {
        return Err("a filesystem parameter names a host path that was not opened");
    }
    Ok(())
}

fn spawn(spawn: &Spawn, slots: &Slots) -> Result<(), &'static str> {
    let mut joined = NamespaceSet::default();
    for step in &spawn.join {
        let Join { kind, from } = step.op;
        slots.uses(from, SlotKind::Namespace(kind))?;
        if joined.contains(kind) || spawn.new.contains(kind) {
            return Err("a namespace kind is named twice");
        }
        joined.insert(kind);
    }
    let may_join = |slot: &Slot| slots.uses(*slot, SlotKind::Resctrl).or_else(|_| slots.uses_cgroup(*slot));
    spawn.cgroups.iter().try_for_each(may_join)?;
    // Its root cannot be taken from it before it is there (clone(2)), and others would find the host's tree at it.
    if joined.contains(Namespace::Pid) && spawn.new.contains(Namespace::User) {
        return Err("a new user namespace in a pid namespace that others are in");
    }
    if !owned_namespaces(spawn).contains(Namespace::Mount) {
        return Err("the container has no mount namespace of its own");
    }
    let mapped = spawn.new.contains(Namespace::User);
    if [&spawn.uid_map, &spawn.gid_map].into_iter().any(|map| map.is_empty() == mapped) {
        return Err("id maps and a new user namespace go together");
    }
    if !spawn.time_offsets.is_empty() && !spawn.new.contains(Namespace::Time) {
        return Err("time offsets without a new time namespace");
    }
    Ok(())
}

fn mount_attrs(attrs: &MountAttrs, slots: &Slots) -> Result<(), &'static str> {
    if (attrs.set | attrs.clear) & !attr::ALL != 0 {
        return Err("an unknown mount attribute");
    }
    attrs.idmap.map_or(Ok(()), |slot| slots.uses_one_of(slot, &[SlotKind::IdMap, SlotKind::Namespace(Namespace::User)]))
}

fn fs_params(params: &[FsParam], slots: &Slots) -> Result<(), &'static str> {
    params.iter().try_for_each(|param| match &param.value {
        // Filesystems that still parse a line of options would find another option in it, with a value.
        _ if param.key.as_str().contains(['=', ',', '/']) => Err("a filesystem parameter with an odd name"),
        // The kernel would run it, as the machine's root.
        _ if param.key.as_str() == "release_agent" => Err("a filesystem parameter that names a program"),
        FsValue::Paths(paths) => paths.iter().try_for_each(|slot| slots.uses(*slot, SlotKind::Path)),
        FsValue::Flag | FsValue::Text(_) => Ok(()),
    })
}

fn attach(op: &AttachOp, owned: NamespaceSet) -> Result<(), &'static str> {
    match op {
        AttachOp::MoveNetDevice { name, new_name } if [name, new_name].iter().any(|name| name.as_str().len() > 15) => {
            Err("no network device can have this name")
        }
        AttachOp::MoveNetDevice { .. } if owned.contains(Namespace::Network) => Ok(()),
        AttachOp::MoveNetDevice { .. } => Err("a network device without a network namespace of the container's own"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    /// Mounts of the container would show on the host, and the pivot would unmount the host's.
    Shared,
    Missing,
    Attached(Slot),
    Left,
}

fn rootfs(op: &RootfsOp, slots: &mut Slots, root: &mut Root, owned: NamespaceSet) -> Result<(), &'static str> {
    // Propagation of the root can only be set after the pivot, which refuses a shared root.
    if *root == Root::Left && !matches!(op, RootfsOp::SetAttrs { .. }) {
        return Err("an operation follows the pivot");
    }
    let needs = |kind| if owned.contains(kind) { Ok(()) } else { Err("a namespace that is not the container's own") };
    match op {
        RootfsOp::Propagate { .. } | RootfsOp::AttachRoot { .. } => root_steps(op, slots, root),
        RootfsOp::NewFilesystem { out, fs, params, attrs } => {
            fs_params(params, slots)?;
            if attrs & !attr::ALL != 0 {
                return Err("an unknown mount attribute");
            }
            // It would show the host's whole hierarchy (CVE-2023-25809), and its options would be set for the machine.
            if matches!(fs, VirtualFs::Cgroup | VirtualFs::Cgroup2) && !owned.contains(Namespace::Cgroup) {
                return Err("a cgroup filesystem would show the host's cgroups");
            }
            slots.define(*out, SlotKind::Fresh)
        }
        RootfsOp::SetAttrs { mount, attrs } => {
            mount_attrs(attrs, slots)?;
            slots.uses_mount(*mount)
        }
        // `net/../kernel/core_pattern` begins like a key of the network namespace and is none.
        RootfsOp::Sysctl { key, .. } if sysctl_path(key.as_str()).split('/').any(is_odd) => {
            Err("a sysctl with an odd component")
        }
        RootfsOp::Sysctl { key, .. } => match sysctl_owner(key.as_str()) {
            Some(kind) => needs(kind),
            None => Err("a sysctl that belongs to no namespace"),
        },
        RootfsOp::Hostname { .. } | RootfsOp::Domainname { .. } => needs(Namespace::Uts),
        RootfsOp::LoopbackUp => needs(Namespace::Network),
        _ => {
            let Root::Attached(mount) = *root else {
                return Err("the container's root is used before it is attached");
            };
            if *op == RootfsOp::Pivot {
                *root = Root::Left;
            }
            in_root(op, slots, mount)
        }
    }
}

/// Cutting the container's mounts off from the host's, and attaching its root: once each, in this order.
fn root_steps(op: &RootfsOp, slots: &Slots, root: &mut Root) -> Result<(), &'static str> {
    match (op, *root) {
        (RootfsOp::Propagate { propagation, recursive }, _)
            if !matches!(propagation, Propagation::Slave | Propagation::Private) || !recursive =>
        {
            Err("the container's mounts are not cut off from the host's")
        }
        (RootfsOp::Propagate { .. }, Root::Shared | Root::Missing) => {
            *root = Root::Missing;
            Ok(())
        }
        (RootfsOp::AttachRoot { mount, over, below }, Root::Missing) => {
            slots.uses_mount(*mount)?;
            below.map_or(Ok(()), |below| slots.uses(below, SlotKind::Fresh))?;
            over.map_or(Ok(()), |over| slots.uses(over, SlotKind::Path))?;
            *root = Root::Attached(*mount);
            Ok(())
        }
        (RootfsOp::AttachRoot { .. }, Root::Shared) => Err("the root is attached before the host's mounts are cut off"),
        (RootfsOp::AttachRoot { .. }, _) => Err("the root is attached twice"),
        _ => Err("propagation of the host's mounts is changed after the root is attached"),
    }
}

/// Operations on what is in the container's root.
fn in_root(op: &RootfsOp, slots: &mut Slots, root: Slot) -> Result<(), &'static str> {
    let any = |slots: &Slots, at: &Target| match at.beneath() {
        Some(_) => slots.uses_mount(at.mount),
        None => Err("a path that does not lead over its mount"),
    };
    let inner = |slots: &Slots, at: &Target| match at.beneath() {
        Some("") if at.mount == root => Err("the container's root itself is covered"),
        _ => any(slots, at),
    };
    match op {
        // A clone is the host's, whose files are not written to in the container's name.
        RootfsOp::CopyUp { mount, from } | RootfsOp::CopyMode { mount, from } => {
            slots.uses(*mount, SlotKind::Fresh)?;
            any(slots, from)
        }
        RootfsOp::Attach { mount, at, .. } | RootfsOp::AttachLink { mount, at, .. } => {
            slots.uses_mount(*mount)?;
            inner(slots, at)
        }
        RootfsOp::CloneTree { out, from, .. } => {
            any(slots, from)?;
            slots.define(*out, SlotKind::Mount)
        }
        RootfsOp::Mask { at, covers, .. } => {
            slots.uses(*covers, SlotKind::Fresh)?;
            inner(slots, at)
        }
        RootfsOp::Console { devpts, console, .. } => {
            any(slots, devpts)?;
            inner(slots, console)
        }
        RootfsOp::MakeNode { mode, .. } if mode & !0o7777 != 0 => Err("a node's mode has a type"),
        RootfsOp::ReadOnly { at, out } => {
            inner(slots, at)?;
            slots.define(*out, SlotKind::Mount)
        }
        RootfsOp::MakeSymlink { at, .. } | RootfsOp::MakeNode { at, .. } => inner(slots, at),
        RootfsOp::MakeDirectory { at, .. } => any(slots, at),
        _ => Ok(()),
    }
}

fn is_odd(component: &str) -> bool {
    matches!(component, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_filesystem_is_a_path_of_the_host() {
        let judge = |fs: &str, key: &str, value: &str| {
            let text = |text: &str| Text::new(text).unwrap();
            no_hidden_path(fs, &FsParam { key: text(key), value: FsValue::Text(text(value)) }).is_ok()
        };
        for (fs, key, value) in [
            ("ext4", "source", "/dev/sda1"),
            ("ext4", "journal_path", "/dev/sdb1"),
            ("xfs", "logdev", "/dev/sdb1"),
            ("btrfs", "device", "/dev/sdb"),
            ("btrfs", "source", "//dev/sda"),
            ("bcachefs", "source", "x:/dev/sdb"),
            ("overlay", "lowerdir", "etc"),
            ("overlay", "upperdir", "x"),
            ("ecryptfs", "source", "/root"),
            ("nfs", "source", "/etc"),
            ("nfs", "other", "host:/export"),
            ("ext4", "subvol", "/@"),
        ] {
            assert!(!judge(fs, key, value), "{fs} {key}={value}");
        }
        for (fs, key, value) in [
            ("nfs4", "source", "host:/export"),
            ("cifs", "source", "//server/share"),
            ("ceph", "source", "10.0.0.1:6789:/volumes"),
            ("btrfs", "subvol", "/@home"),
            // Looked up in an empty directory.
            ("ext4", "source", "tmp/link"),
            ("tmpfs", "size", "64k"),
        ] {
            assert!(judge(fs, key, value), "{fs} {key}={value}");
        }
    }

    #[test]
    fn only_settings_are_written() {
        for good in ["memory.max", "hugetlb.2MB.rsvd.max", "blkio.bfq.weight_device", "cgroup.max.depth", "cpu.idle"] {
            assert!(is_cgroup_setting(good), "{good}");
        }
        let bad = [
            "", "memory", "cgroup.procs", "cgroup.kill", "cgroup.freeze", "cgroup.subtree_control",
            "cgroup.event_control", "tasks", "release_agent", "notify_on_release", "devices.allow", "freezer.state",
            "memory.max/../x", "memory./x", "memory.\u{0}", "x.y", ".max",
        ];
        for bad in bad {
            assert!(!is_cgroup_setting(bad), "{bad}");
        }
    }
}
