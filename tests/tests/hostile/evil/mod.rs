//! Plans that decode, and that no planner of ours would make.
use Outcome::{ByTheKernel, Cut};
use nix::libc::{EINVAL, ENODEV, EPERM};
use rspawn_proto::hook::StateTemplate;
use rspawn_proto::ids::{ContainerId, HostPath, Id, RelPath, Slot, Text};
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::{MAX_GROUPS, MAX_OPS, MAX_SLOTS, WIRE_VERSION};

pub struct Case {
    pub name: String,
    pub plan: Plan,
    pub outcome: Outcome,
}

/// What becomes of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// rspawn-setup refuses it before it acts, for a reason with these words.
    Refused(&'static str),
    /// A value is out of its range, and the kernel, which knows the range, refuses it: by which call, with which errno
    /// (0: what it made of the value was looked at and is something else). The same from Linux 5.14 on.
    ByTheKernel(&'static str, i32),
    /// The kernel cuts a value to its range, or has no use for it: the container runs, and nothing else happens.
    Cut,
}

impl From<&'static str> for Outcome {
    fn from(reason: &'static str) -> Self {
        Self::Refused(reason)
    }
}

struct Cases<'a> {
    good: &'a Plan,
    list: Vec<Case>,
}

impl Cases<'_> {
    fn add(&mut self, name: impl Into<String>, outcome: impl Into<Outcome>, change: impl FnOnce(&mut Plan)) {
        let mut plan = self.good.clone();
        change(&mut plan);
        self.list.push(Case { name: name.into(), plan, outcome: outcome.into() });
    }
}

const UNDEFINED: &str = "used before it is defined";
const WRONG: &str = "used as something it is not";

fn text(value: &str) -> Text {
    Text::new(value).unwrap()
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn step<T>(op: T) -> Step<T> {
    Step::new("/evil", op)
}

/// At least 300 plans made from a good one, each with one thing wrong. `secret` is a file of the host's.
pub fn structural_cases(good: &Plan, secret: &str) -> Vec<Case> {
    let mut cases = Cases { good, list: Vec::new() };
    header(&mut cases);
    slots(&mut cases);
    order(&mut cases);
    host(&mut cases, secret);
    cgroups(&mut cases);
    rootfs(&mut cases);
    spawn(&mut cases);
    last_mile(&mut cases);
    cases.list
}

/// A mount that the host phase of a plan defines.
fn mount_of(plan: &Plan) -> Slot {
    let defined = |step: &Step<HostOp>| match step.op {
        HostOp::CloneTree { out, .. } => Some(out),
        _ => None,
    };
    plan.host.iter().find_map(defined).unwrap()
}

fn header(cases: &mut Cases) {
    let mount = mount_of(cases.good);
    for version in [0, 1, WIRE_VERSION - 1, WIRE_VERSION + 1, u32::MAX] {
        cases.add(format!("version {version:#x}"), "another build", |p| p.header.version = version);
    }
    for id in ["other", "a", "host"] {
        let id = ContainerId::new(id).unwrap();
        cases.add(format!("for {id}"), "not for what the invoker asked", |p| p.header.id = id);
    }
    for count in [1, 3, 512, u32::MAX] {
        cases.add(format!("preserves {count}"), "not for what the invoker asked", |p| p.finish.preserve_fds = count);
    }
    cases.add("too many host operations", "too many operations", |p| {
        let attrs = MountAttrs::default();
        p.host.resize(MAX_OPS + 1, step(HostOp::SetAttrs { mount, attrs }));
    });
    cases.add("too many rootfs operations", "too many operations", |p| {
        p.rootfs.resize(MAX_OPS + 1, step(RootfsOp::LoopbackUp));
    });
    cases.add("no host operations", UNDEFINED, |p| p.host.clear());
    cases.add("no rootfs operations", "never enters", |p| p.rootfs.clear());
    cases.add("empty but for the pivot", "before it is attached", |p| p.rootfs = vec![step(RootfsOp::Pivot)]);
}

/// Every use of a slot: undefined, above the limit, or something else.
fn slots(cases: &mut Cases) {
    let good = cases.good;
    let path = Slot(1000);
    let id_map = Slot(1001);
    let other_kinds = move |p: &mut Plan| {
        let opened = HostOp::OpenPath { out: path, path: HostPath::new("/").unwrap(), expect: Expect::Any };
        let map = vec![IdMap { inside: 0, outside: 0, count: 1 }];
        p.host.insert(0, step(opened));
        p.host.insert(1, step(HostOp::MakeIdMap { out: id_map, uid_map: map.clone(), gid_map: map }));
    };
    let wrong = [(Slot(3999), UNDEFINED), (Slot(u16::MAX), UNDEFINED), (path, WRONG), (id_map, WRONG)];
    for (index, one) in good.rootfs.iter().enumerate() {
        if used_slot(&mut one.op.clone()).is_none() {
            continue;
        }
        for (slot, reason) in wrong {
            cases.add(format!("rootfs {index} uses {slot}"), reason, |p| {
                other_kinds(p);
                *used_slot(&mut p.rootfs[index].op).unwrap() = slot;
            });
        }
    }
    for (index, one) in good.rootfs.iter().enumerate() {
        if let RootfsOp::NewFilesystem { out, .. } = one.op {
            cases.add(format!("rootfs {index} defines {out} twice"), "defined twice", |p| {
                p.rootfs.insert(index, one.clone());
            });
            for (slot, reason) in
                [(MAX_SLOTS as u16, "above the limit"), (u16::MAX, "above the limit"), (0, "defined twice")]
            {
                cases.add(format!("rootfs {index} defines #{slot}"), reason, |p| {
                    if let RootfsOp::NewFilesystem { out, .. } = &mut p.rootfs[index].op {
                        *out = Slot(slot);
                    }
                });
            }
        }
    }
    for (index, one) in good.host.iter().enumerate() {
        if !matches!(one.op, HostOp::SetCgroup { .. } | HostOp::DeviceRules { .. }) {
            cases.add(format!("host {index} twice"), "defined twice", |p| p.host.insert(index, one.clone()));
        }
        if let HostOp::CloneTree { .. } = one.op {
            for (slot, reason) in [(path, WRONG), (Slot(999), UNDEFINED), (Slot(u16::MAX), UNDEFINED)] {
                cases.add(format!("host {index} is mapped by {slot}"), reason, |p| {
                    other_kinds(p);
                    if let HostOp::CloneTree { attrs, .. } = &mut p.host[index + 2].op {
                        attrs.idmap = Some(slot);
                    }
                });
            }
        }
    }
}

fn used_slot(op: &mut RootfsOp) -> Option<&mut Slot> {
    match op {
        RootfsOp::AttachRoot { mount, .. }
        | RootfsOp::CopyUp { mount, .. }
        | RootfsOp::Attach { mount, .. }
        | RootfsOp::AttachLink { mount, .. }
        | RootfsOp::SetAttrs { mount, .. } => Some(mount),
        RootfsOp::Console { devpts, .. } => Some(&mut devpts.mount),
        RootfsOp::Mask { covers, .. } => Some(covers),
        RootfsOp::CloneTree { from, .. } => Some(&mut from.mount),
        RootfsOp::MakeDirectory { at, .. }
        | RootfsOp::MakeSymlink { at, .. }
        | RootfsOp::MakeNode { at, .. }
        | RootfsOp::ReadOnly { at, .. } => Some(&mut at.mount),
        _ => None,
    }
}

fn needs_root(op: &RootfsOp) -> bool {
    matches!(
        op,
        RootfsOp::Attach { .. }
            | RootfsOp::AttachLink { .. }
            | RootfsOp::CloneTree { .. }
            | RootfsOp::Mask { .. }
            | RootfsOp::ReadOnly { .. }
            | RootfsOp::MakeNode { .. }
            | RootfsOp::MakeSymlink { .. }
            | RootfsOp::MakeDirectory { .. }
            | RootfsOp::Pivot
    )
}

fn order(cases: &mut Cases) {
    let good = cases.good;
    let attached = good.rootfs.iter().position(|step| matches!(step.op, RootfsOp::AttachRoot { .. })).expect("a root");
    for (index, one) in good.rootfs.iter().enumerate() {
        let late = !matches!(one.op, RootfsOp::SetAttrs { .. });
        if late {
            cases.add(format!("rootfs {index} again after the pivot"), "follows the pivot", |p| {
                p.rootfs.push(one.clone());
            });
        }
        if needs_root(&one.op) && index > attached {
            let uses_slot = used_slot(&mut one.op.clone()).is_some();
            cases.add(
                format!("rootfs {index} before the root"),
                if uses_slot { "used before it is" } else { "before it is attached" },
                |p| {
                    let moved = p.rootfs.remove(index);
                    p.rootfs.insert(attached, moved);
                },
            );
        }
    }
    let isolated =
        good.rootfs.iter().position(|step| matches!(step.op, RootfsOp::Propagate { .. })).expect("isolation");
    cases.add("no pivot", "never enters", |p| p.rootfs.retain(|s| !matches!(s.op, RootfsOp::Pivot)));
    cases.add("two roots", "attached twice", |p| p.rootfs.insert(attached, p.rootfs[attached].clone()));
    cases.add("the host's mounts stay shared", "cut off", |p| {
        p.rootfs.retain(|s| !matches!(s.op, RootfsOp::Propagate { .. }));
    });
    cases.add("cut off too late", "before the host's mounts are cut off", |p| p.rootfs.swap(attached, isolated));
    for propagation in [Propagation::Shared, Propagation::Unbindable] {
        cases.add(format!("made {propagation:?}"), "not cut off", |p| {
            p.rootfs[isolated].op = RootfsOp::Propagate { propagation, recursive: true };
        });
        cases.add(format!("made {propagation:?} as well"), "not cut off", |p| {
            p.rootfs.insert(attached, step(RootfsOp::Propagate { propagation, recursive: true }));
        });
    }
    for propagation in [Propagation::Slave, Propagation::Private] {
        cases.add(format!("made {propagation:?} at / alone"), "not cut off", |p| {
            p.rootfs[isolated].op = RootfsOp::Propagate { propagation, recursive: false };
        });
        cases.add(format!("made {propagation:?} later"), "after the root is attached", |p| {
            p.rootfs.insert(attached + 1, step(RootfsOp::Propagate { propagation, recursive: true }));
        });
    }
}

fn host(cases: &mut Cases, secret: &str) {
    let new = |fs: &str, params: Vec<FsParam>| {
        step(HostOp::NewFilesystem { out: Slot(500), fs: text(fs), params, attrs: MountAttrs::default() })
    };
    for fs in ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"] {
        cases.add(format!("the host's {fs}"), "would show the host's", |p| {
            p.host.push(new(fs, vec![]));
        });
    }
    let named = |key: &str, value: &str| FsParam { key: text(key), value: FsValue::Text(text(value)) };
    for key in ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"] {
        for value in ["/etc", "etc", "/etc:/root", ".", secret] {
            cases.add(format!("overlay {key}={value}"), "host path that was not opened", |p| {
                p.host.push(new("overlay", vec![named(key, value)]));
            });
        }
    }
    for (fs, key) in [("ext4", "source"), ("btrfs", "device"), ("xfs", "logdev"), ("ext4", "journal_path")] {
        cases.add(format!("{fs} {key}=/dev/sda"), "host path that was not opened", |p| {
            p.host.push(new(fs, vec![named(key, "/dev/sda")]));
        });
    }
    let flag = |slot| FsParam { key: text("source"), value: FsValue::Paths(vec![slot]) };
    cases.add("ext4 on an undefined slot", UNDEFINED, |p| p.host.push(new("ext4", vec![flag(Slot(77))])));
    cases.add("ext4 on a mount", WRONG, |p| {
        let root = mount_of(p);
        p.host.push(new("ext4", vec![flag(root)]));
    });
    let clone = |recursive: bool, attrs: MountAttrs| {
        let path = HostPath::new("/").unwrap();
        step(HostOp::CloneTree { out: Slot(500), path, expect: Expect::Any, recursive, attrs, peer: false })
    };
    let with = |propagation: Option<Propagation>, recursive: bool| MountAttrs {
        propagation,
        recursive,
        ..MountAttrs::default()
    };
    for bit in (0..64).filter(|bit| attr::ALL & (1 << bit) == 0).step_by(3) {
        cases.add(format!("mount attribute {bit}"), "unknown mount attribute", |p| {
            let attrs = MountAttrs { set: 1 << bit, ..with(Some(Propagation::Slave), true) };
            p.host.push(clone(true, attrs));
        });
        cases.add(format!("mount attribute {bit} cleared"), "unknown mount attribute", |p| {
            let attrs = MountAttrs { clear: 1 << bit, ..with(Some(Propagation::Slave), true) };
            p.host.push(clone(true, attrs));
        });
    }
    let map = |inside, outside, count| vec![IdMap { inside, outside, count }];
    for (name, map) in [
        ("empty", vec![]),
        ("of an empty range", map(0, 0, 0)),
        ("past the last id", map(0, 1, u32::MAX)),
        ("from past the last id", map(u32::MAX, 0, 1)),
        ("of too many ranges", (0..341).map(|i| IdMap { inside: i, outside: i, count: 1 }).collect()),
    ] {
        cases.add(format!("an id map {name}"), ByTheKernel("write", EINVAL), |p| {
            p.host.push(step(HostOp::MakeIdMap { out: Slot(500), uid_map: map.clone(), gid_map: map }));
        });
    }
}

fn cgroups(cases: &mut Cases) {
    let mount = mount_of(cases.good);
    const CGROUP: Slot = Slot(800);
    let open = |mount: &str, hierarchy: &str, path: &str| HostOp::OpenCgroup {
        out: CGROUP,
        hierarchy: text(hierarchy),
        mount: HostPath::new(mount).unwrap(),
        path: rel(path),
        controllers: vec![],
        owner: None,
    };
    let mut add = |name: String, reason: &'static str, ops: Vec<HostOp>| {
        cases.add(name, reason, |p| p.host.extend(ops.into_iter().map(step)));
    };
    let (v2, v1) = (open("/sys/fs/cgroup/x", "", "evil"), open("/sys/fs/cgroup/x", "pids", "evil"));
    add("the root of a hierarchy".into(), "is not for a container", vec![open("/sys/fs/cgroup", "", "")]);
    add("a long path".into(), "longer than", vec![open("/sys/fs/cgroup/pids", "", &["x"; 2047].join("/"))]);
    for name in ["+cpu", "cpu -memory", "Cpu", "../cpu", "cpu\n"] {
        let mut odd = v2.clone();
        if let HostOp::OpenCgroup { controllers, .. } = &mut odd {
            controllers.push(text(name));
        }
        add(format!("the controller {name:?}"), "odd name", vec![odd]);
    }
    let set = |file: &str| HostOp::SetCgroup {
        cgroup: CGROUP,
        choices: vec![
            CgroupSetting { file: text("pids.max"), values: vec![] },
            CgroupSetting { file: text(file), values: vec![text("1")] },
        ],
        needed: false,
    };
    for file in [
        "cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.subtree_control", "cgroup.type",
        "cgroup.event_control", "cgroup.clone_children", "tasks", "release_agent", "notify_on_release",
        "devices.allow", "devices.deny", "freezer.state", "pids.max/../../release_agent", "memory/x", "", ".",
        "memory.x y", "irq.pressure",
    ] {
        for (version, opened) in [("v1", &v1), ("v2", &v2)] {
            add(format!("{version} file {file:?}"), "holds no setting", vec![opened.clone(), set(file)]);
        }
    }
    let rule = DeviceAccess { allow: true, kind: None, major: None, minor: None, access: access::ALL };
    let rules = |rules: Vec<DeviceAccess>| HostOp::DeviceRules { cgroup: CGROUP, rules };
    for odd in [0, 8, 255] {
        let odd = rules(vec![DeviceAccess { access: odd, ..rule }]);
        add(format!("a rule of ways {odd:?}"), "invalid device rule", vec![v2.clone(), odd]);
    }
    let fifo = rules(vec![DeviceAccess { kind: Some(NodeKind::Fifo), ..rule }]);
    add("a rule about pipes".into(), "invalid device rule", vec![v2.clone(), fifo]);
    add("too many rules".into(), "too many device rules", vec![v2.clone(), rules(vec![rule; 1025])]);
    add("rules for nothing".into(), UNDEFINED, vec![rules(vec![])]);
    add("values for nothing".into(), UNDEFINED, vec![set("pids.max")]);
    add("values for a mount".into(), WRONG, vec![HostOp::SetCgroup { cgroup: mount, choices: vec![], needed: true }]);
    add("rules for a mount".into(), WRONG, vec![HostOp::DeviceRules { cgroup: mount, rules: vec![] }]);
    let attrs = MountAttrs::default();
    add("a cgroup for a mount".into(), WRONG, vec![v2.clone(), HostOp::SetAttrs { mount: CGROUP, attrs }]);
    for unit in ["evil.service", "evil.slice", "scope", "a.scope.service", ""] {
        add(
            format!("the unit {unit:?}"),
            "not a scope",
            vec![HostOp::StartScope { unit: text(unit), properties: vec![] }],
        );
    }
    for (slot, reason) in [(mount, WRONG), (Slot(3999), UNDEFINED)] {
        cases.add(format!("born in {slot}"), reason, |p| p.spawn.cgroups.push(slot));
    }
}

fn rootfs(cases: &mut Cases) {
    let (last, mount) = (cases.good.rootfs.len() - 1, mount_of(cases.good));
    let mut before_pivot = |name: String, outcome: Outcome, op: RootfsOp| {
        cases.add(name, outcome, |p| p.rootfs.insert(last, step(op)));
    };
    for key in [
        "kernel.core_pattern", "kernel/core_pattern", "kernel.modprobe", "kernel.hotplug", "kernel.panic",
        "kernel.sysrq", "kernel.yama.ptrace_scope", "kernel.randomize_va_space", "kernel.domainnamex", "kernel.ms",
        "kernel.semx", "vm.overcommit_memory", "vm/drop_caches", "fs.suid_dumpable", "fs.binfmt_misc.register",
        "fs.mqueue", "fs.mqueuex.y", "dev.cdrom.info", "userx.y", "debug.exception-trace", "net", "netx.ipv4", "", ".",
        "..", "/", "/etc/passwd", "../sysrq-trigger",
    ] {
        let op = RootfsOp::Sysctl { key: text(key), value: text("1") };
        before_pivot(format!("sysctl {key:?}"), "a sysctl".into(), op);
    }
    for key in [
        "net/../kernel/core_pattern", "net/../../sysrq-trigger", "net/ipv4/../../kernel/modprobe",
        "net//..//kernel/core_pattern", "net/./ipv4/ip_forward", "net//ipv4", "net/", "net.",
        "net.//.kernel.core_pattern", "net./.", "fs/mqueue/../suid_dumpable", "fs.mqueue.//.suid_dumpable",
        "fs/mqueue/",
    ] {
        let op = RootfsOp::Sysctl { key: text(key), value: text("1") };
        before_pivot(format!("sysctl {key:?}"), "odd component".into(), op);
    }
    // A path looked up from the root's own mount.
    let under_root = |path: &str| Target { path: rel(path), mount, above: 0 };
    let node = |at: &str, major, minor, mode| RootfsOp::MakeNode {
        at: under_root(at),
        kind: NodeKind::Char,
        major,
        minor,
        mode,
        uid: Id::ROOT,
        gid: Id::ROOT,
    };
    for (major, minor) in [(0x1000, 0), (0, 0x10_0000), (u32::MAX, 0), (0, u32::MAX), (1 << 31, 1 << 31)] {
        before_pivot(format!("device {major}:{minor}"), ByTheKernel("check", 0), node("dev/x", major, minor, 0o600));
    }
    for mode in [0o10000, 0o20600, 0o60666, 0o100644, 0o170000, u32::MAX] {
        before_pivot(format!("node of mode {mode:o}"), "mode has a type".into(), node("dev/x", 1, 3, mode));
        before_pivot(format!("directory of mode {mode:o}"), Cut, RootfsOp::MakeDirectory { at: under_root("x"), mode });
    }
    before_pivot("a node for a root".into(), "root itself".into(), node("", 1, 3, 0o600));
    let link = RootfsOp::MakeSymlink { at: under_root(""), target: text("/etc") };
    before_pivot("a link for a root".into(), "root itself".into(), link);
    before_pivot(
        "a read-only root by cover".into(),
        "root itself".into(),
        RootfsOp::ReadOnly { at: under_root(""), out: Slot(600) },
    );
    for bit in [0, 19, 20, 22, 32, 63] {
        let attrs = if bit == 0 { attr::ALL << 8 } else { 1 << bit };
        let op = RootfsOp::NewFilesystem { out: Slot(600), fs: VirtualFs::Tmpfs, params: vec![], attrs };
        before_pivot(format!("tmpfs of attribute {bit}"), "unknown mount attribute".into(), op);
    }
    let source = FsParam { key: text("source"), value: FsValue::Paths(vec![mount]) };
    let op = RootfsOp::NewFilesystem { out: Slot(600), fs: VirtualFs::Tmpfs, params: vec![source], attrs: 0 };
    before_pivot("tmpfs of the root's mount".into(), WRONG.into(), op);
    for (kind, ops) in [
        (Namespace::Uts, vec![RootfsOp::Hostname { name: text("x") }, RootfsOp::Domainname { name: text("x") }]),
        (Namespace::Network, vec![RootfsOp::LoopbackUp, sysctl("net.ipv4.ip_forward")]),
        (Namespace::Ipc, vec![sysctl("kernel.msgmax"), sysctl("kernel/shmall"), sysctl("fs.mqueue.msg_max")]),
        (Namespace::Uts, vec![sysctl("kernel.hostname"), sysctl("kernel/domainname")]),
        (Namespace::User, vec![sysctl("user.max_user_namespaces")]),
    ] {
        for op in ops {
            cases.add(format!("{op:?} without {}", kind.name()), "not the container's own", |p| {
                p.spawn.new.remove(kind);
                p.rootfs.retain(|s| !matches!(s.op, RootfsOp::Hostname { .. } | RootfsOp::LoopbackUp));
                p.rootfs.insert(1, step(op));
            });
        }
    }
    for fs in [VirtualFs::Cgroup, VirtualFs::Cgroup2] {
        for attrs in [0, attr::RDONLY] {
            cases.add(format!("the host's {} with {attrs:#x}", fs.name()), "show the host's cgroups", |p| {
                p.spawn.new.remove(Namespace::Cgroup);
                p.rootfs.insert(2, step(RootfsOp::NewFilesystem { out: Slot(600), fs, params: vec![], attrs }));
            });
        }
    }
    // A program that the kernel runs as the machine's root; and options that hide in the name of another.
    for (key, reason) in
        [("release_agent", "names a program"), ("lowerdir=/root:/etc", "odd name"), ("ro,lowerdir", "odd name")]
    {
        let param = FsParam { key: text(key), value: FsValue::Text(text("evil")) };
        for (name, value) in [("flag", FsValue::Flag), ("text", FsValue::Text(text("x")))] {
            let param = FsParam { value, ..param.clone() };
            let params = vec![param.clone()];
            let op = RootfsOp::NewFilesystem { out: Slot(600), fs: VirtualFs::Cgroup, params, attrs: 0 };
            cases.add(format!("the {name} {key}"), reason, |p| p.rootfs.insert(last, step(op)));
            let attrs = MountAttrs::default();
            let op = HostOp::NewFilesystem { out: Slot(600), fs: text("overlay"), params: vec![param], attrs };
            cases.add(format!("the {name} {key} of the host's"), reason, |p| p.host.push(step(op)));
        }
    }
    // Files of the host's would be written, with owners and modes of the image's choice.
    for (name, op) in [
        ("copied up to", RootfsOp::CopyUp { mount, from: under_root("tmp") }),
        ("given a mode", RootfsOp::CopyMode { mount, from: under_root("tmp") }),
    ] {
        cases.add(format!("a clone of the host's {name}"), WRONG, |p| p.rootfs.insert(last, step(op)));
    }
    // rspawn-setup waits for words in one order; with another it would let the payload begin before the pivot.
    let console = || {
        let (devpts, console) = (under_root("dev/pts"), under_root("dev/console"));
        step(RootfsOp::Console { devpts, console, rows: 0, columns: 0, uid: Id::ROOT })
    };
    let out_of_place = "at another moment";
    cases.add("a console without a terminal", out_of_place, |p| p.rootfs.insert(last, console()));
    cases.add("a terminal without a console", out_of_place, |p| p.finish.terminal = true);
    cases.add("two consoles", out_of_place, |p| {
        p.finish.terminal = true;
        p.rootfs.splice(last..last, [console(), console()]);
    });
    cases.add("hooks twice", out_of_place, |p| {
        p.rootfs.splice(last..last, [step(RootfsOp::Hooks), step(RootfsOp::Hooks)]);
    });
    cases.add("hooks before the console", out_of_place, |p| {
        p.finish.terminal = true;
        p.rootfs.splice(last..last, [step(RootfsOp::Hooks), console()]);
    });
    for name in ["sixteen-letters-", "eth0\u{1}and-much-more"] {
        cases.add(format!("the network device {name:?}"), "no network device", |p| {
            p.attach.push(step(AttachOp::MoveNetDevice { name: text("lo"), new_name: text(name) }));
        });
    }
    for (name, op) in [
        ("attach", RootfsOp::Attach { mount, at: under_root(""), no_symlinks: true }),
        ("attach a link", RootfsOp::AttachLink { mount, at: under_root(""), copy: true, follow: false }),
        ("read-only", RootfsOp::ReadOnly { at: Target { path: rel("tmp"), mount, above: 3 }, out: Slot(600) }),
    ] {
        cases.add(format!("{name} over the root"), "root itself", |p| p.rootfs.insert(last, step(op)));
    }
    for above in [1, 2, 4, u16::MAX] {
        let at = Target { path: rel("tmp"), mount, above };
        cases.add(format!("a target {above} bytes below its mount"), "does not lead over its mount", |p| {
            p.rootfs.insert(last, step(RootfsOp::ReadOnly { at, out: Slot(600) }));
        });
    }
    cases.add("a clone of the host's is a mask", WRONG, |p| {
        p.rootfs.insert(last, step(RootfsOp::Mask { at: under_root("tmp"), covers: mount, needed: false }));
    });
    cases.add("a clone of the host's below the root", WRONG, |p| {
        if let Some(Step { op: RootfsOp::AttachRoot { below, .. }, .. }) =
            p.rootfs.iter_mut().find(|step| matches!(step.op, RootfsOp::AttachRoot { .. }))
        {
            *below = Some(mount);
        }
    });
}

fn sysctl(key: &str) -> RootfsOp {
    RootfsOp::Sysctl { key: text(key), value: text("1") }
}

fn spawn(cases: &mut Cases) {
    let map = |count| vec![IdMap { inside: 0, outside: 0, count }];
    cases.add("no mount namespace", "no mount namespace", |p| p.spawn.new.remove(Namespace::Mount));
    cases.add("no namespaces", "no mount namespace", |p| p.spawn.new = NamespaceSet::default());
    for kind in Namespace::ALL {
        let open = move |p: &mut Plan| {
            let path = HostPath::new("/proc/self/ns/net").unwrap();
            p.host.push(step(HostOp::OpenNamespace { out: Slot(700), path, kind }));
            p.spawn.join.push(step(Join { kind, from: Slot(700) }));
        };
        cases.add(format!("{} both new and joined", kind.name()), "named twice", |p| {
            open(p);
            p.spawn.new.insert(kind);
        });
        cases.add(format!("{} joined twice", kind.name()), "named twice", |p| {
            p.spawn.new.remove(kind);
            open(p);
            p.spawn.join.push(p.spawn.join[0].clone());
        });
        cases.add(format!("{} from nowhere", kind.name()), UNDEFINED, |p| {
            p.spawn.join.push(step(Join { kind, from: Slot(701) }));
        });
        cases.add(format!("{} from a mount", kind.name()), WRONG, |p| {
            p.spawn.join.push(step(Join { kind, from: Slot(0) }));
        });
        let other = if kind == Namespace::Uts { Namespace::Ipc } else { Namespace::Uts };
        cases.add(format!("{} from another kind", kind.name()), WRONG, |p| {
            let path = HostPath::new("/proc/self/ns/uts").unwrap();
            p.host.push(step(HostOp::OpenNamespace { out: Slot(700), path, kind: other }));
            p.spawn.join.push(step(Join { kind, from: Slot(700) }));
        });
    }
    cases.add("a user namespace without maps", "go together", |p| p.spawn.new.insert(Namespace::User));
    cases.add("a user namespace without a gid map", "go together", |p| {
        p.spawn.new.insert(Namespace::User);
        p.spawn.uid_map = map(1);
    });
    cases.add("maps without a user namespace", "go together", |p| p.spawn.uid_map = map(1));
    cases.add("a gid map without a user namespace", "go together", |p| p.spawn.gid_map = map(1));
    for (name, map) in [("empty", map(0)), ("long", vec![IdMap { inside: 5, outside: 5, count: u32::MAX - 4 }])] {
        cases.add(format!("an {name} range of ids"), ByTheKernel("write", EINVAL), |p| {
            p.spawn.new.insert(Namespace::User);
            p.spawn.uid_map = map.clone();
            p.spawn.gid_map = map;
        });
    }
    let offset = |nanoseconds| TimeOffset { clock: Clock::Monotonic, seconds: 1, nanoseconds };
    cases.add("offsets without a time namespace", "without a new time", |p| p.spawn.time_offsets.push(offset(0)));
    cases.add("an offset of too many nanoseconds", ByTheKernel("write", EINVAL), |p| {
        p.spawn.new.insert(Namespace::Time);
        p.spawn.time_offsets.push(offset(1_000_000_000));
    });
    cases.add("three offsets", Cut, |p| {
        p.spawn.new.insert(Namespace::Time);
        p.spawn.time_offsets.resize(3, offset(0));
    });
    for score in [-1001, 1001, i32::MIN, i32::MAX] {
        cases.add(format!("OOM score {score}"), ByTheKernel("write", EINVAL), |p| p.spawn.oom_score_adj = Some(score));
    }
    let device = |name: &str, new: &str| step(AttachOp::MoveNetDevice { name: text(name), new_name: text(new) });
    for (name, new) in [("", "x"), ("x", ""), ("0123456789abcdef", "x"), ("x", "0123456789abcdef"), ("", "")] {
        let outcome =
            if name.len().max(new.len()) > 15 { ByTheKernel("check", 0) } else { ByTheKernel("netlink", ENODEV) };
        cases.add(format!("network device {name:?} as {new:?}"), outcome, |p| {
            p.attach.push(device(name, new));
        });
    }
    cases.add("a network device for the host", "network namespace", |p| {
        p.spawn.new.remove(Namespace::Network);
        p.attach.push(device("eth0", "eth0"));
    });
}

fn last_mile(cases: &mut Cases) {
    cases.add("no command", ByTheKernel("exec", 0), |p| p.finish.argv.clear());
    cases.add("too many groups", ByTheKernel("give up its rights", EINVAL), |p| {
        p.finish.groups = Some(vec![Id::ROOT; MAX_GROUPS + 1])
    });
    for resource in [16, 17, 255] {
        cases.add(format!("limit {resource}"), ByTheKernel("prlimit", EINVAL), |p| {
            p.finish.rlimits.push(Rlimit { resource, soft: 0, hard: 0 });
        });
    }
    for mask in [0o1000, 0o7777, u32::MAX] {
        cases.add(format!("umask {mask:o}"), Cut, |p| p.finish.umask = Some(mask));
    }
    cases.add("too many memory nodes", ByTheKernel("set_mempolicy", EINVAL), |p| {
        p.finish.memory_policy = Some(MemoryPolicy { mode: 2, nodes: vec![1; 65] });
    });
    // CAP_CHECKPOINT_RESTORE, 40, is the last one.
    for bit in [0, 21, 40, 41, 63] {
        let known = bit <= 40;
        let bit = 1u64 << bit;
        let outcome = ByTheKernel("capset", if known { EPERM } else { EINVAL });
        cases.add(format!("ambient {bit:#x}"), outcome, |p| {
            p.finish.capabilities = Capabilities { ambient: bit, permitted: bit, ..Capabilities::default() };
        });
        let outcome = if known { ByTheKernel("capset", EPERM) } else { Cut };
        cases.add(format!("effective {bit:#x}"), outcome, |p| {
            p.finish.capabilities = Capabilities { effective: bit, ..Capabilities::default() };
        });
    }
    let instruction = Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
    for (socket, reason) in
        [(0, "a slot is used as something it is not"), (4000, "a slot is used before it is defined")]
    {
        cases.add(format!("a seccomp agent in slot {socket}"), reason, move |p| {
            let listener = Listener { socket: Slot(socket), head: String::new(), state: StateTemplate::default() };
            p.finish.seccomp = Some(Seccomp { program: vec![instruction], flags: 8, listener: Some(listener) });
        });
    }
    for length in [0, 4097] {
        cases.add(format!("a filter of {length} instructions"), ByTheKernel("seccomp", EINVAL), |p| {
            p.finish.seccomp = Some(Seccomp { program: vec![instruction; length], flags: 0, listener: None });
        });
    }
}
