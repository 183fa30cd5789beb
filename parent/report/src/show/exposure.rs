//! What a plan lets a container reach: the facts that the summary and the difference of two plans speak of.
use std::collections::{BTreeMap, BTreeSet};

use rspawn_proto::ids::Slot;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use rspawn_proto::policy::{DEFAULT_DEVICES, is_lower_layer};

use crate::describe;
use rspawn_planner::seccomp::{Arch, eval, known_calls};

/// Capabilities that are the host's keys where no user namespace takes their edge off.
pub const POWERFUL: [&str; 14] = [
    "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD",
    "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO", "CAP_SYS_TIME",
];

/// Host paths by how they are reachable: true if writable. The null device of masks is no exposure.
pub fn host_paths(plan: &Plan) -> BTreeMap<String, Access> {
    let mut paths = BTreeMap::new();
    for step in &plan.host {
        let (slot, path, read_only) = match &step.op {
            HostOp::CloneTree { expect: Expect::NullDevice, .. } => continue,
            HostOp::CloneTree { out, path, attrs, .. } => (*out, path, attrs.set & attr::RDONLY != 0),
            // Where hooks look for the root is the root, which is another step's.
            HostOp::OpenPath { out, .. } if is_place_of_root(plan, *out) => continue,
            // The agent is spoken to by rspawn, and the payload never sees its socket.
            HostOp::OpenPath { out, .. } if plan.finish.listener().is_some_and(|listener| listener.socket == *out) => {
                continue;
            }
            HostOp::OpenPath { out, path, .. } => (*out, path, is_lower_layer(plan, *out)),
            _ => continue,
        };
        let writable = !(read_only || is_made_read_only(plan, slot));
        let at = attached(plan, slot).unwrap_or_default();
        let access: &mut Access = paths.entry(path.to_string()).or_default();
        access.writable |= writable;
        access.at.extend(Some(at).filter(|at| !at.is_empty()));
    }
    add_clones(plan, &mut paths);
    paths
}

/// What is cloned from what the container has mounted is the host's where that is.
fn add_clones(plan: &Plan, paths: &mut BTreeMap<String, Access>) {
    for step in &plan.rootfs {
        let RootfsOp::CloneTree { out, from, .. } = &step.op else { continue };
        let source = plan.host.iter().find_map(|step| match &step.op {
            HostOp::CloneTree { out, path, attrs, .. } if *out == from.mount => Some((path, attrs)),
            _ => None,
        });
        let Some((path, attrs)) = source else { continue };
        let read_only = attrs.set & attr::RDONLY != 0 || is_made_read_only(plan, from.mount);
        let beneath = from.beneath().filter(|beneath| !beneath.is_empty());
        let path = beneath.map_or_else(|| path.to_string(), |beneath| format!("{path}/{beneath}"));
        let access = paths.entry(path).or_default();
        access.writable |= !(read_only || is_made_read_only(plan, *out));
        access.at.extend(attached(plan, *out));
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub writable: bool,
    /// Where it is mounted; nothing for layers.
    pub at: BTreeSet<String>,
}

/// What is new about having one.
pub fn change_of_agent(before: &Plan, after: &Plan) -> Option<&'static str> {
    match (before.finish.listener().is_some(), after.finish.listener().is_some()) {
        (false, true) => Some("has calls that an agent on the host decides about"),
        (true, false) => Some("no longer has calls that an agent on the host decides about"),
        _ => None,
    }
}

fn is_place_of_root(plan: &Plan, slot: Slot) -> bool {
    root(plan).is_some_and(|(_, over)| over == Some(slot))
}

/// Programs of the host that run at fixed moments: when, and the command. The last kind runs inside.
pub fn hooks(plan: &Plan) -> Vec<(String, String)> {
    let Hooks { runtime, container, deferred } = &plan.hooks;
    let lists = [runtime, container, &plan.finish.hooks, &deferred.poststart, &deferred.poststop];
    // By the name of the list in config.json, "/hooks/prestart/0".
    let when = |hook: &rspawn_proto::hook::Hook| hook.origin.split('/').nth(2).unwrap_or(&hook.origin).to_string();
    let command = |hook: &rspawn_proto::hook::Hook| {
        let args = hook.argv.iter().skip(1).map(|word| word.as_str());
        super::quoting::quoted([hook.path.as_str()].into_iter().chain(args))
    };
    lists.into_iter().flatten().map(|hook| (when(hook), command(hook))).collect()
}

/// Whether a later step takes the right to write, and none gives it back.
fn is_made_read_only(plan: &Plan, slot: Slot) -> bool {
    let of_host = plan.host.iter().filter_map(|step| match &step.op {
        HostOp::SetAttrs { mount, attrs } if *mount == slot => Some(attrs),
        _ => None,
    });
    let of_rootfs = plan.rootfs.iter().filter_map(|step| match &step.op {
        RootfsOp::SetAttrs { mount, attrs } if *mount == slot => Some(attrs),
        _ => None,
    });
    let mut changes = of_host.chain(of_rootfs).filter(|attrs| (attrs.set | attrs.clear) & attr::RDONLY != 0);
    changes.next_back().is_some_and(|attrs| attrs.set & attr::RDONLY != 0)
}

fn attached(plan: &Plan, slot: Slot) -> Option<String> {
    plan.rootfs.iter().find_map(|step| match &step.op {
        RootfsOp::AttachRoot { mount, .. } if *mount == slot => Some("/".into()),
        RootfsOp::Attach { mount, at, .. } | RootfsOp::AttachLink { mount, at, .. } if *mount == slot => {
            Some(at.absolute())
        }
        _ => None,
    })
}

/// Namespaces that the container shares with the host.
pub fn shared_namespaces(plan: &Plan) -> Vec<Namespace> {
    let owned = rspawn_proto::check::owned_namespaces(&plan.spawn);
    Namespace::ALL.into_iter().filter(|kind| !owned.contains(*kind)).collect()
}

/// Namespaces that are joined: their kind, and the file.
pub fn joined_namespaces(plan: &Plan) -> Vec<(&'static str, String)> {
    let file = |join: &Join| {
        let opened = plan.host.iter().find_map(|step| match &step.op {
            HostOp::OpenNamespace { out, path, .. } if *out == join.from => Some(path.to_string()),
            _ => None,
        });
        opened.unwrap_or_default()
    };
    plan.spawn.join.iter().map(|step| (step.op.kind.name(), file(&step.op))).collect()
}

/// The architecture that rspawn was built for, which is the machine's.
pub fn native() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 }
}

/// Whether a filter denies no call that the machine's own programs make.
pub fn is_empty_filter(filter: &Seccomp) -> bool {
    let arch = native();
    let denies = |number| eval::may_deny(&filter.program, Some(number), Some(arch.audit())) != Ok(false);
    !known_calls().filter_map(|name| arch.number(name)).any(denies)
}

/// Everything that the payload, or a set-uid program that it runs, can have.
pub fn capabilities(finish: &Finish) -> u64 {
    finish.capabilities.bounding | finish.capabilities.permitted
}

/// What the device rules of its cgroups let it use, beside what every container may.
pub fn usable_devices(plan: &Plan) -> Vec<String> {
    let usual = |rule: &DeviceAccess| {
        let known = rule.major.is_some_and(|major| DEFAULT_DEVICES.contains(&(major, rule.minor)));
        rule.kind == Some(NodeKind::Char) && known
    };
    let rules = plan.host.iter().find_map(|step| match &step.op {
        HostOp::DeviceRules { rules, .. } => Some(rules),
        _ => None,
    });
    match rules {
        None if plan.spawn.new.contains(Namespace::User) => Vec::new(),
        None => vec!["any device that it has a node of".into()],
        Some(rules) => {
            let used = rules.iter().filter(|rule| rule.allow && rule.access & (access::READ | access::WRITE) != 0);
            used.filter(|rule| !usual(rule)).map(describe::device_access).collect()
        }
    }
}

/// The mount that becomes the container's root, and the place that it is attached over.
pub fn root(plan: &Plan) -> Option<(Slot, Option<Slot>)> {
    plan.rootfs.iter().find_map(|step| match step.op {
        RootfsOp::AttachRoot { mount, over, .. } => Some((mount, over)),
        _ => None,
    })
}

/// How mounts of the root filesystem propagate.
pub fn root_propagation(plan: &Plan) -> Propagation {
    let root = root(plan).map(|(mount, _)| mount);
    let set = plan.rootfs.iter().rev().find_map(|step| match &step.op {
        RootfsOp::SetAttrs { mount, attrs } if Some(*mount) == root => attrs.propagation,
        _ => None,
    });
    set.unwrap_or(Propagation::Slave)
}

/// Whether the root filesystem can be written to.
pub fn root_is_writable(plan: &Plan) -> bool {
    root(plan).is_some_and(|(slot, _)| {
        let cloned = plan.host.iter().any(|step| match &step.op {
            HostOp::CloneTree { out, attrs, .. } => *out == slot && attrs.set & attr::RDONLY != 0,
            _ => false,
        });
        !(cloned || is_made_read_only(plan, slot))
    })
}

/// Calls that a filter lets pass with some arguments at least.
pub fn permitted_calls(filter: Option<&Seccomp>, arch: Arch) -> BTreeSet<&'static str> {
    let may_allow = |filter: &Seccomp, number| eval::may_allow(&filter.program, Some(number), Some(arch.audit()));
    // The kernel refuses a program that cannot be followed.
    let passes = |number: u32| filter.is_none_or(|filter| may_allow(filter, number).unwrap_or(true));
    known_calls().filter(|name| arch.number(name).is_some_and(&passes)).collect()
}
