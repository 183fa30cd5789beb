//! Host operations: the only code that takes paths of the host from a plan.
//!
//! Safe for a hostile planner because: paths are opened without magic links; what is opened is compared with what was
//! promised; every result is a descriptor or a detached mount, which no other process can see, or a cgroup or resctrl group
//! of the container's own, or one of those groups that is there and stays as it is; the policy has judged each path
//! before, and judges the opened one again.
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rspawn_proto::ids::{HostPath, RelPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::policy::{Mode, Policy, Violation, violations_opened};
use rspawn_proto::sysctl::sysctl_owner;
use rspawn_sys::file::{self, Status};
use rspawn_sys::{Fd, channel, mount, process};

use crate::cgroup::{self, Cgroups, Keeper};
use crate::spawn::write_id_maps;
use rspawn_sys::failure::{Failure, Named, Outcome};

/// What the slots of a plan hold.
#[derive(Default)]
pub struct Slots(Vec<Option<Fd>>);

impl Slots {
    pub fn fill(&mut self, slot: Slot, fd: Fd) {
        let index = slot.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(fd);
    }

    /// What a slot holds, if it was filled.
    pub fn filled(&self, slot: Slot) -> Option<&Fd> {
        self.0.get(slot.0 as usize)?.as_ref()
    }

    /// The structural check has seen to it that the slot is filled; a slot is still never taken on trust.
    pub fn get(&self, slot: Slot) -> Outcome<&Fd> {
        self.filled(slot).ok_or_else(|| Failure::check("the slot is empty"))
    }
}

/// The policy, for the second look at each path.
pub struct Gate<'a> {
    pub policy: &'a Policy,
    pub plan: &'a Plan,
    /// What a policy in warn mode would have refused.
    pub warnings: Vec<Violation>,
    /// Where the container's root is.
    pub root: Option<String>,
}

impl Gate<'_> {
    /// Has the policy judge where a path has led.
    fn pass(&mut self, step: &Step<HostOp>, written: &HostPath, opened: &Fd) -> Outcome<()> {
        let real = file::place(opened).named("readlinkat")?;
        match &step.op {
            HostOp::CloneTree { .. } if step.origin == "/root/path" => self.root = Some(real.clone()),
            HostOp::CloneTree { out, .. } => self.refuse_covered(*out, &real)?,
            _ => {}
        }
        if self.policy.mode == Mode::Off || real == written.as_str() {
            return Ok(());
        }
        let found = violations_opened(self.policy, self.plan, step, &real);
        match found.first() {
            Some(first) if self.policy.mode == Mode::Enforce => {
                let Violation { rule, what, .. } = first;
                Err(Failure::check(&format!("the policy refuses this container: {rule}: it {what}")))
            }
            _ => {
                self.warnings.extend(found);
                Ok(())
            }
        }
    }

    /// A link of the host's may lead into the container's root, to what an earlier mount will cover there: what is meant
    /// is on that mount.
    fn refuse_covered(&self, clone: Slot, real: &str) -> Outcome<()> {
        let beneath = self.root.as_deref().and_then(|root| real.strip_prefix(root)?.strip_prefix('/'));
        let Some(Ok(beneath)) = beneath.map(RelPath::new) else { return Ok(()) };
        for step in &self.plan.rootfs {
            match &step.op {
                RootfsOp::Attach { mount, .. } | RootfsOp::AttachLink { mount, .. } if *mount == clone => break,
                RootfsOp::Attach { at, .. } if at.path.leads_to(&beneath) => {
                    return Err(Failure::check(&format!("a link led into the container's root, to /{beneath}")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Carries an operation out. Where there is a holder, the cgroups are a scope's.
pub fn carry_out(
    step: &Step<HostOp>,
    slots: &mut Slots,
    (cgroups, holder): (&mut Cgroups, Option<&Keeper>),
    gate: &mut Gate,
) -> Outcome<()> {
    match &step.op {
        HostOp::OpenPath { out, path, expect } => {
            let opened = open(path, *expect)?;
            gate.pass(step, path, &opened)?;
            slots.fill(*out, opened);
        }
        HostOp::OpenNamespace { out, path, kind } => {
            let opened = open_namespace(path, *kind)?;
            refuse_own(&opened, step, *kind, gate)?;
            slots.fill(*out, opened);
        }
        HostOp::MakeIdMap { out, uid_map, gid_map } => {
            let made = id_map_namespace(uid_map, gid_map)?;
            slots.fill(*out, made);
        }
        HostOp::CloneTree { out, path, expect, recursive, attrs, peer: _ } => {
            let opened = open(path, *expect)?;
            gate.pass(step, path, &opened)?;
            let clone = mount::clone_tree(&opened, *recursive).named("open_tree")?;
            set_attributes(&clone, attrs, slots)?;
            slots.fill(*out, clone);
        }
        HostOp::NewFilesystem { out, fs, params, attrs } => {
            let made = new_filesystem(fs.as_str(), params, attrs.set, slots)?;
            let rest = MountAttrs { set: 0, ..attrs.clone() };
            set_attributes(&made, &rest, slots)?;
            slots.fill(*out, made);
        }
        HostOp::SetAttrs { mount, attrs } => set_attributes(slots.get(*mount)?, attrs, slots)?,
        HostOp::OpenCgroup { out, .. } => slots.fill(*out, cgroups.open(&step.op, holder)?),
        HostOp::OpenResctrl { out, mount, group, new } => {
            slots.fill(*out, cgroups.open_resctrl(mount, group.as_str(), new.as_ref())?);
        }
        HostOp::SetCgroup { cgroup, choices, needed } => cgroup::set(slots.get(*cgroup)?, choices, *needed)?,
        HostOp::DeviceRules { cgroup, rules } => cgroup::set_device_rules(slots.get(*cgroup)?, rules)?,
        HostOp::StartScope { .. } | HostOp::SetScope { .. } => {
            return Err(Failure::check("it is not for a new container"));
        }
    }
    Ok(())
}

fn open(path: &HostPath, expect: Expect) -> Outcome<Fd> {
    let last = if expect == Expect::Unfollowed { file::O_NOFOLLOW } else { 0 };
    let opened = file::open_host(path.as_str(), file::O_PATH | last).named("openat2")?;
    verify(&opened, expect)?;
    Ok(opened)
}

/// Compares an opened file with what the plan says it is.
pub fn verify(file: &Fd, expect: Expect) -> Outcome<()> {
    let found = file::status(file).named("statx")?;
    let is_device = |found: &Status, kind: NodeKind, major, minor| {
        found.is(node_type(kind)) && (kind == NodeKind::Fifo || (found.major, found.minor) == (major, minor))
    };
    let (fits, wanted) = match expect {
        Expect::Any | Expect::Unfollowed => (true, ""),
        Expect::Directory => (found.is_directory(), "it is not a directory"),
        Expect::NullDevice => (found.is_null_device(), "it is not the null device"),
        Expect::Device { kind, major, minor } => {
            (is_device(&found, kind, major, minor), "it is not the device that config.json describes")
        }
    };
    if fits { Ok(()) } else { Err(Failure::check(wanted)) }
}

/// The type bits of a node's mode.
pub fn node_type(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::Char => 0o020_000,
        NodeKind::Block => 0o060_000,
        NodeKind::Fifo => 0o010_000,
    }
}

fn open_namespace(path: &HostPath, kind: Namespace) -> Outcome<Fd> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    // First without opening it for use, which some devices answer with an effect: a watchdog starts to count.
    let held = file::open_namespace_path(path.as_str()).named("openat2")?;
    if file::filesystem_magic(&held).named("fstatfs")? != NSFS_MAGIC {
        return Err(Failure::check("it is not a namespace"));
    }
    let opened = file::open_namespace(&file::proc_path(&held)).named("openat2")?;
    let found = process::namespace_kind(&opened).named("ioctl NS_GET_NSTYPE")?;
    if found != kind.clone_flag() {
        let names = Namespace::ALL.into_iter().find(|k| k.clone_flag() == found).map_or("unknown", Namespace::name);
        return Err(Failure::check(&format!("it is a namespace of kind {names}")));
    }
    if kind == Namespace::Mount {
        let own = file::open_namespace("/proc/self/ns/mnt").named("openat2")?;
        if file::is_same(&opened, &own).named("statx")? {
            return Err(Failure::check("it is the caller's mount namespace, whose root the container would replace"));
        }
    }
    Ok(opened)
}

/// The caller's own namespace, named by a path, counts for nothing that a namespace of the container's own is for:
/// names and sysctls would be the host's, and the policy's demand would be met in words alone.
fn refuse_own(opened: &Fd, step: &Step<HostOp>, kind: Namespace, gate: &mut Gate) -> Outcome<()> {
    let demanded = gate.policy.mode != Mode::Off && gate.policy.own_namespaces.contains(kind);
    let needed = needs_own(gate.plan, kind);
    if !demanded && !needed {
        return Ok(());
    }
    let file = match kind {
        Namespace::Network => "net",
        Namespace::Mount => "mnt",
        other => other.name(),
    };
    let own = file::open_namespace(&format!("/proc/self/ns/{file}")).named("openat2")?;
    if !file::is_same(opened, &own).named("statx")? {
        return Ok(());
    }
    if needed || gate.policy.mode == Mode::Enforce {
        return Err(Failure::check("it is the host's own namespace, and the container's own is needed"));
    }
    let what = format!("joins the host's own {} namespace", kind.name());
    gate.warnings.push(Violation { origin: step.origin.clone(), rule: "namespaces.own".to_string(), what });
    Ok(())
}

/// Whether a plan has an operation that changes what a namespace keeps.
fn needs_own(plan: &Plan, kind: Namespace) -> bool {
    plan.rootfs.iter().any(|step| match &step.op {
        RootfsOp::Sysctl { key, .. } => sysctl_owner(key.as_str()) == Some(kind),
        RootfsOp::Hostname { .. } | RootfsOp::Domainname { .. } => kind == Namespace::Uts,
        RootfsOp::LoopbackUp => kind == Namespace::Network,
        RootfsOp::NewFilesystem { fs: VirtualFs::Cgroup | VirtualFs::Cgroup2, .. } => kind == Namespace::Cgroup,
        _ => false,
    })
}

/// A user namespace that only serves as an id map: the process that held it open is gone when this returns.
fn id_map_namespace(uid_map: &[IdMap], gid_map: &[IdMap]) -> Outcome<Fd> {
    let (mine, theirs) = channel::pair().named("socketpair")?;
    match process::fork(Namespace::User.clone_flag()).named("clone3")? {
        process::Side::Child => {
            // Until it is killed; or, if this program itself is, until the other end is gone: nobody else would be
            // left to do it.
            drop(mine);
            let _ = channel::receive(&theirs, 0);
            process::exit(0)
        }
        process::Side::Parent { pid, child } => {
            drop(theirs);
            let made = write_id_maps(pid, uid_map, gid_map)
                .and_then(|()| file::open_namespace(&format!("/proc/{pid}/ns/user")).named("openat2"));
            let _ = process::signal(&child, 9);
            let _ = process::wait(pid, true);
            made
        }
    }
}

pub fn set_attributes(on: &Fd, attrs: &MountAttrs, slots: &Slots) -> Outcome<()> {
    if attrs.set | attrs.clear == 0 && attrs.propagation.is_none() && attrs.idmap.is_none() {
        return Ok(());
    }
    let idmap = attrs.idmap.map(|slot| slots.get(slot)).transpose()?;
    mount::set_attributes(on, attrs, idmap).named("mount_setattr")
}

/// Makes a detached mount of a new filesystem. On refusal the filesystem's own words are the detail.
pub fn new_filesystem(fs: &str, params: &[FsParam], attributes: u64, slots: &Slots) -> Outcome<Fd> {
    let new = mount::NewFilesystem::open(fs).named("fsopen").map_err(|failure| failure.with(fs))?;
    let complain = |failure: Failure, what: &str| {
        let complaint = new.complaint();
        failure.with(if complaint.is_empty() { what.to_string() } else { complaint })
    };
    for param in params {
        let key = param.key.as_str();
        let set = match &param.value {
            FsValue::Flag => new.set_flag(key),
            FsValue::Text(value) => new.set_text(key, value.as_str()),
            FsValue::Paths(opened) => {
                let path = |slot: &Slot| Ok(file::proc_path(slots.get(*slot)?));
                new.set_text(key, &opened.iter().map(path).collect::<Outcome<Vec<String>>>()?.join(":"))
            }
        };
        set.named("fsconfig").map_err(|failure| complain(failure, key))?;
    }
    new.create(attributes).named("fsmount").map_err(|failure| complain(failure, ""))
}
