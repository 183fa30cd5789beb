//! The host phase, and its operations: the only code that takes paths of the host from a plan.
//!
//! Safe for a hostile planner because: paths are opened without magic links; what is opened is compared with what was
//! promised, and judged by the policy; every result is a descriptor or a detached mount, which no other process can
//! see, or a cgroup or resctrl group of the container's own, or one of those groups that is there and stays as it is.
use alloc::{format, string::String, string::ToString};

use rspawn_proto::ids::{HostPath, Text};
use rspawn_proto::msg::Purpose;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::report::Place;
use rspawn_proto::unit::ScopeJob;
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, file, mount, process};

use crate::cgroup::{self, CgroupReaper, Cgroups};
use crate::idmap;
use crate::invoker::Invoker;
use crate::objects::{new_filesystem, set_attributes, verify};
use crate::parent::End;
use crate::policy_recheck::PolicyRecheck;
use crate::report::warn;
use crate::runner::ask_for_scope;
use crate::slots::Slots;

/// The host phase of a plan that is carried out.
pub struct HostPhase<'a> {
    invoker: &'a Invoker<'a>,
    recheck: PolicyRecheck<'a>,
    cgroups: &'a mut Cgroups,
    pub slots: Slots,
    scope: Option<Scope>,
}

/// A scope that systemd has made, and a process that keeps it until the container's is there.
pub type Scope = (Text, CgroupReaper);

/// Carries out the host phase of a container, or of a process that enters one. Of a container in a scope, it leaves a
/// process there.
pub fn run(invoker: &Invoker, plan: &Plan, cgroups: &mut Cgroups) -> Result<(Slots, Option<Scope>), End> {
    let mut phase = HostPhase::new(invoker, plan, cgroups);
    for (index, step) in plan.host.iter().enumerate() {
        // Before a filesystem reads a disk.
        if phase.recheck.refuses() && matches!(step.op, HostOp::NewFilesystem { .. }) {
            break;
        }
        phase.carry_out(index, step)?;
    }
    phase.recheck.judge_hooks();
    if phase.recheck.refuses() {
        return Err(End::Refused(phase.recheck.found));
    }
    warn(invoker.parent, phase.recheck.found)?;
    Ok((phase.slots, phase.scope))
}

impl<'a> HostPhase<'a> {
    pub fn new(invoker: &'a Invoker, plan: &'a Plan, cgroups: &'a mut Cgroups) -> Self {
        let recheck = PolicyRecheck::new(&invoker.request.policy, plan);
        Self { invoker, recheck, cgroups, slots: Slots::default(), scope: None }
    }

    /// Carries an operation out.
    pub fn carry_out(&mut self, index: usize, step: &Step<HostOp>) -> Result<(), End> {
        let (parent, place) = (self.invoker.parent, Place::Host(index as u16));
        let job = match &step.op {
            HostOp::StartScope { unit, properties } => {
                // A reaper of nothing: all it does is wait.
                let holder = parent.step(place, || Cgroups::default().spawn_reaper())?;
                let pid = Some(holder.pid);
                self.scope = Some((unit.clone(), holder));
                ScopeJob { unit: unit.clone(), pid, properties: properties.clone() }
            }
            HostOp::SetScope { properties } => match &self.invoker.request.purpose {
                Purpose::Update { unit: Some(unit), .. } => {
                    ScopeJob { unit: unit.clone(), pid: None, properties: properties.clone() }
                }
                _ => {
                    return parent.step(place, || {
                        Err(Failure::check("it changes a scope that the invoker named, and is not for a new container"))
                    });
                }
            },
            _ => return parent.step(place, || self.open_or_set(step)),
        };
        ask_for_scope(self.invoker, place, &job)
    }

    fn open_or_set(&mut self, step: &Step<HostOp>) -> Outcome<()> {
        let (slots, recheck) = (&mut self.slots, &mut self.recheck);
        match &step.op {
            HostOp::OpenPath { out, path, expect } => {
                let opened = open(path, *expect)?;
                recheck.path(step, &opened)?;
                slots.fill(*out, opened);
            }
            HostOp::OpenNamespace { out, path, kind } => {
                let (opened, place) = open_namespace(path, *kind)?;
                recheck.judge(step, &opened, &place)?;
                recheck.judge_namespace(&opened, &step.origin, *kind)?;
                slots.fill(*out, opened);
            }
            HostOp::MakeIdMap { out, uid_map, gid_map } => {
                let made = idmap::make(uid_map, gid_map)?;
                slots.fill(*out, made);
            }
            HostOp::CloneTree { out, path, expect, recursive, attrs, peer: _ } => {
                let opened = open(path, *expect)?;
                recheck.path(step, &opened)?;
                let clone = mount::clone_tree(&opened, *recursive).named("open_tree")?;
                set_attributes(&clone, attrs, slots)?;
                slots.fill(*out, clone);
            }
            HostOp::NewFilesystem { out, fs, params, attrs } => {
                let made = in_empty_directory(|| new_filesystem(fs.as_str(), params, attrs.set, slots))?;
                let rest = MountAttrs { set: 0, ..attrs.clone() };
                set_attributes(&made, &rest, slots)?;
                slots.fill(*out, made);
            }
            HostOp::SetAttrs { mount, attrs } => set_attributes(slots.get(*mount)?, attrs, slots)?,
            HostOp::OpenCgroup { out, .. } => {
                let holder = self.scope.as_ref().map(|(_, holder)| holder);
                slots.fill(*out, self.cgroups.open(&step.op, holder)?);
            }
            HostOp::OpenResctrl { out, mount, group, new } => {
                slots.fill(*out, self.cgroups.open_resctrl(mount, group.as_str(), new.as_ref())?);
            }
            HostOp::SetCgroup { cgroup, choices, needed } => cgroup::set(slots.get(*cgroup)?, choices, *needed)?,
            HostOp::DeviceRules { cgroup, rules } => cgroup::set_device_rules(slots.get(*cgroup)?, rules)?,
            // carry_out() does.
            HostOp::StartScope { .. } | HostOp::SetScope { .. } => {}
        }
        Ok(())
    }
}

fn open(path: &HostPath, expect: Expect) -> Outcome<Fd> {
    let last = if expect == Expect::Unfollowed { file::O_NOFOLLOW } else { 0 };
    let opened = file::open_host(path.as_str(), file::O_PATH | last).named("openat2")?;
    verify(&opened, expect)?;
    Ok(opened)
}

/// Opens a namespace, and says where it was found. The directory is found by ordinary links (`/var/run/netns`), the
/// last name by links that are read here. Magic links are followed as `/proc/PID/ns/KIND` alone: one to a descriptor
/// of this program's would have the plan join what it has made itself.
fn open_namespace(path: &HostPath, kind: Namespace) -> Outcome<(Fd, String)> {
    // Not opened for use yet, which some devices answer with an effect: a watchdog starts to count.
    let (held, place) = hold(path.as_str())?;
    if file::filesystem_magic(&held).named("fstatfs")? != libc::NSFS_MAGIC {
        return Err(Failure::check("it is not a namespace"));
    }
    let opened = file::open_following(&file::proc_path(&held)).named("openat2")?;
    let found = process::namespace_kind(&opened).named("ioctl NS_GET_NSTYPE")?;
    if found != kind.clone_flag() {
        let names = Namespace::ALL.into_iter().find(|k| k.clone_flag() == found).map_or("unknown", Namespace::name);
        return Err(Failure::check(&format!("it is a namespace of kind {names}")));
    }
    if kind == Namespace::Mount {
        let own = file::open_following("/proc/self/ns/mnt").named("openat2")?;
        if file::is_same(&opened, &own).named("statx")? {
            return Err(Failure::check("it is the caller's mount namespace: the container would replace its root"));
        }
    }
    Ok((opened, place))
}

/// Holds the file of a namespace, and gives its place.
fn hold(path: &str) -> Outcome<(Fd, String)> {
    const MOST_LINKS: usize = 8;
    let mut path = path.to_string();
    for _ in 0..MOST_LINKS {
        let (above, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", ""));
        let above = if above.is_empty() { "/" } else { above };
        let directory = file::open_host(above, file::O_PATH | file::O_DIRECTORY).named("openat2")?;
        let above = file::fd_path(&directory).named("readlinkat")?;
        let place = format!("{}/{name}", above.trim_end_matches('/'));
        let of_procfs = file::filesystem_magic(&directory).named("fstatfs")? == libc::PROC_SUPER_MAGIC;
        if of_procfs && above.ends_with("/ns") {
            return Ok((file::open_magic(&directory, name).named("openat2")?, place));
        }
        let flags = file::O_PATH | file::O_NOFOLLOW;
        let held = file::open_at(&directory, name, flags, 0, file::Resolve::InRoot).named("openat2")?;
        if !file::status(&held).named("statx")?.is(libc::S_IFLNK) {
            return Ok((held, place));
        }
        if of_procfs {
            return Err(Failure::check("it is a link of procfs that does not lead to a namespace"));
        }
        let target = file::read_link(&held).named("readlinkat")?;
        path = if target.starts_with('/') { target } else { format!("{above}/{target}") };
    }
    Err(Failure::of("openat2", Errno::ELOOP))
}

/// Does something where a relative path leads nowhere: a filesystem looks its source up from the working directory.
fn in_empty_directory<T>(act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let empty = mount::NewFilesystem::open("tmpfs").and_then(|new| new.create(attr::RDONLY)).named("fsmount")?;
    file::change_directory(&empty).named("fchdir")?;
    let done = act();
    file::change_directory_to("/").named("chdir").and(done)
}
