//! The administrator's policy, already parsed, and its judgement of a whole plan.
//!
//! rspawn-setup judges the *decoded* plan, so that no disagreement between two readers of JSON can matter. An absent
//! rule allows; the empty policy allows all.
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::ids::{HostPath, Slot, normalized};
use crate::namespaces::{Namespace, NamespaceSet};
use crate::plan::*;
use crate::record::After;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    Off,
    /// Report what would be refused, and go on.
    #[default]
    Warn,
    Enforce,
}

/// A host path, and what lies below it when `below` is set.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct PathRule {
    pub path: String,
    pub below: bool,
    pub read_only: bool,
}

/// A device as mknod names it; `None` stands for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DeviceRule {
    pub kind: NodeKind,
    pub major: u32,
    pub minor: Option<u32>,
}

/// What plans may hold. Each `None` means that the key was not set.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Policy {
    pub mode: Mode,
    pub bind_allow: Option<Vec<PathRule>>,
    pub bind_deny: Vec<PathRule>,
    pub capabilities: Option<u64>,
    pub no_new_privileges: bool,
    pub seccomp: bool,
    pub user_namespace: bool,
    /// Lowest host id that a user namespace may map.
    pub min_host_id: Option<u32>,
    /// Kinds that a container must not share with the host.
    pub own_namespaces: NamespaceSet,
    pub join_allow: Option<Vec<PathRule>>,
    pub devices: Option<Vec<DeviceRule>>,
    /// Keys, or prefixes ending in a separator.
    pub sysctls: Option<Vec<String>>,
    pub filesystems: Option<Vec<String>>,
    /// Programs that may be hooks.
    pub hooks: Option<Vec<PathRule>>,
    /// Properties that a scope may have beside [`USUAL_PROPERTIES`].
    pub properties: Option<Vec<String>>,
}

/// One thing that a plan asks for and the policy does not grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Violation {
    pub origin: String,
    /// The policy key.
    pub rule: String,
    pub what: String,
}

/// A plan that has passed. Only [`judge`] makes one, and the driver of rspawn-setup takes nothing else.
#[derive(Debug)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// The outcome of [`judge`]: a plan to carry out with what a warning policy found, or what an enforcing one refused.
pub type Judgement = Result<(Approved<Plan>, Vec<Violation>), Vec<Violation>>;

/// Judges a plan that has passed [`crate::check::check`].
pub fn judge(policy: &Policy, plan: Plan) -> Judgement {
    let violations = if policy.mode == Mode::Off { Vec::new() } else { violations(policy, &plan) };
    if policy.mode == Mode::Enforce && !violations.is_empty() {
        Err(violations)
    } else {
        Ok((Approved(plan), violations))
    }
}

/// Everything the policy would refuse, whatever its mode.
pub fn violations(policy: &Policy, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = reporter(&mut found);
    for step in &plan.host {
        host_rules(policy, plan, step, None, &mut report);
    }
    for step in &plan.rootfs {
        let origin = &step.origin;
        match &step.op {
            RootfsOp::MakeNode { kind, major, minor, .. } => {
                device_rule(policy, *kind, *major, *minor, origin, &mut report);
            }
            RootfsOp::NewFilesystem { fs, .. } => filesystem_rule(policy, fs.name(), origin, &mut report),
            RootfsOp::Sysctl { key, .. } => {
                if let Some(allowed) = &policy.sysctls
                    && !allowed.iter().any(|rule| sysctl_covers(rule, key.as_str()))
                {
                    report("sysctl.allow", origin, format!("sets the sysctl {key}"));
                }
            }
            _ => {}
        }
    }
    let is_its = |op: &HostOp| matches!(op, HostOp::DeviceRules { cgroup, .. } if plan.spawn.cgroups.contains(cgroup));
    let has_rules = plan.host.iter().any(|step| is_its(&step.op));
    if policy.devices.is_some() && !has_rules && plan.header.kind == Kind::Container {
        report("devices.allow", "/linux/resources/devices", "may use any device that it has a node of".to_string());
    }
    hook_rules(policy, &plan.hooks, &mut report);
    // A container that lives has the namespaces that it was admitted with, and limits concern no process.
    if plan.header.kind == Kind::Container {
        spawn_rules(policy, &plan.spawn, &mut report);
    }
    if plan.header.kind != Kind::Update {
        finish_rules(policy, &plan.finish, &mut report);
    }
    drop(report);
    found
}

/// What the policy says of a path once it is open and `real` is where it led: a symlink, or a bind mount's own name,
/// has no say in what the policy grants. Nothing new where it led to itself.
pub fn violations_opened(policy: &Policy, plan: &Plan, step: &Step<HostOp>, real: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    host_rules(policy, plan, step, Some(real), &mut reporter(&mut found));
    found
}

fn reporter(found: &mut Vec<Violation>) -> impl FnMut(&str, &str, String) {
    |rule, origin, what| found.push(Violation { origin: origin.to_string(), rule: rule.to_string(), what })
}

/// The rules about one host operation; `real` replaces its path.
fn host_rules(policy: &Policy, plan: &Plan, step: &Step<HostOp>, real: Option<&str>, report: Report) {
    let origin = &step.origin;
    let lexical = |path: &HostPath| real.map_or_else(|| absolute(path.as_str()), str::to_string);
    match &step.op {
        HostOp::OpenPath { path, .. } => path_rules(policy, &lexical(path), true, origin, report),
        HostOp::CloneTree { expect: Expect::Device { kind, major, minor }, .. } if *kind != NodeKind::Fifo => {
            device_rule(policy, *kind, *major, *minor, origin, report);
        }
        HostOp::CloneTree { expect: Expect::NullDevice, .. } => {}
        HostOp::CloneTree { out, path, .. } => {
            path_rules(policy, &lexical(path), is_writable(plan, *out), origin, report);
        }
        HostOp::OpenNamespace { path, .. } => {
            if let Some(allowed) = &policy.join_allow
                && real.is_none()
                && !allowed.iter().any(|rule| rule.covers(&absolute(path.as_str())))
            {
                report("join.allow", origin, format!("joins the namespace {path}"));
            }
        }
        HostOp::NewFilesystem { fs, params, .. } => {
            filesystem_rule(policy, fs.as_str(), origin, report);
            // The kernel takes such a value for a path relative to rspawn-setup's working directory, which is /.
            for param in params {
                if let FsValue::Text(value) = &param.value
                    && value.as_str().contains('/')
                {
                    path_rules(policy, &absolute(value.as_str()), true, origin, report);
                }
            }
        }
        HostOp::DeviceRules { rules, .. } => rules.iter().for_each(|rule| access_rule(policy, rule, origin, report)),
        HostOp::MakeIdMap { .. } | HostOp::SetAttrs { .. } => {}
        HostOp::OpenCgroup { .. } | HostOp::OpenResctrl { .. } | HostOp::SetCgroup { .. } => {}
        HostOp::StartScope { properties, .. } | HostOp::SetScope { properties } => {
            let Some(allowed) = &policy.properties else { return };
            for UnitProperty { name, .. } in properties {
                let is = |known: &str| known == name.as_str();
                if !USUAL_PROPERTIES.into_iter().any(is) && !allowed.iter().any(|known| is(known)) {
                    report("systemd.properties", origin, format!("gives its scope the property {name}"));
                }
            }
        }
    }
}

/// Properties that concern the scope's own processes, and them alone: its place and its limits.
pub const USUAL_PROPERTIES: [&str; 26] = [
    "Description", "Slice", "Delegate", "DefaultDependencies", "CollectMode", "CPUAccounting", "MemoryAccounting",
    "IOAccounting", "TasksAccounting", "MemoryMax", "MemoryHigh", "MemoryLow", "MemoryMin", "MemorySwapMax",
    "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes",
    "IOWeight", "IODeviceWeight", "IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax",
];

/// Whether a clone can be written to anywhere, or ever: one that is read-only at its top alone, or only until a later
/// operation or from one on, is writable. So is one that is not private: on a peer of a mount of the host's a mount
/// would show there, and what the host mounts later below a slave has its own flags.
fn is_writable(plan: &Plan, clone: Slot) -> bool {
    let (mut tree, mut writable, mut private) = (false, true, false);
    let mut apply = |attrs: &MountAttrs, tree: bool| {
        let whole = attrs.recursive || !tree;
        if attrs.set & attr::RDONLY != 0 && whole {
            writable = false;
        } else if attrs.clear & attr::RDONLY != 0 {
            writable = true;
        }
        match attrs.propagation {
            Some(Propagation::Private | Propagation::Unbindable) => private |= whole,
            Some(Propagation::Shared | Propagation::Slave) => private = false,
            None => {}
        }
    };
    for step in &plan.host {
        match &step.op {
            HostOp::CloneTree { out, recursive, attrs, .. } if *out == clone => {
                tree = *recursive;
                apply(attrs, tree);
            }
            HostOp::SetAttrs { mount, attrs } if *mount == clone => apply(attrs, tree),
            _ => {}
        }
    }
    // It is in use by now: whatever is taken from it, it had. What lies above it may have it below; and a clone of what
    // the container has mounted may be one of it.
    let cloned =
        |slot: &Slot| plan.rootfs.iter().any(|step| matches!(&step.op, RootfsOp::CloneTree { out, .. } if out == slot));
    let gives = |op: &RootfsOp| match op {
        RootfsOp::SetAttrs { mount, attrs } => {
            attrs.clear & attr::RDONLY != 0 && (*mount == clone || attrs.recursive || cloned(mount))
        }
        _ => false,
    };
    writable || !private || plan.rootfs.iter().any(|step| gives(&step.op))
}

/// The same path as one that rules can be compared with.
fn absolute(path: &str) -> String {
    format!("/{}", normalized(path))
}

type Report<'a> = &'a mut dyn FnMut(&str, &str, String);

fn path_rules(policy: &Policy, path: &str, writable: bool, origin: &str, report: Report) {
    // A bind of a parent shows what is below it, so a denied path also denies its parents.
    let denied = |rule: &&PathRule| rule.covers(path) || path_below(&rule.path, path);
    if let Some(rule) = policy.bind_deny.iter().find(denied) {
        report("bind.deny", origin, format!("shows the host path {path}, and {} is denied", rule.path));
    } else if let Some(allowed) = &policy.bind_allow
        && !allowed.iter().any(|rule| rule.covers(path) && !(writable && rule.read_only))
    {
        let how = if writable { "writable" } else { "read-only" };
        report("bind.allow", origin, format!("shows the host path {path}, {how}"));
    }
}

fn device_rule(policy: &Policy, kind: NodeKind, major: u32, minor: u32, origin: &str, report: Report) {
    let Some(allowed) = &policy.devices else { return };
    let fits = |rule: &DeviceRule| rule.kind == kind && rule.major == major && rule.minor.is_none_or(|m| m == minor);
    if kind != NodeKind::Fifo && !allowed.iter().any(fits) {
        let letter = if kind == NodeKind::Char { 'c' } else { 'b' };
        report("devices.allow", origin, format!("makes the device {letter} {major}:{minor}"));
    }
}

/// Major and minor of the character devices that every container may use, as runc has them: null, zero, full, random,
/// urandom, tty, ptmx, the terminals behind it, and tun.
pub const DEFAULT_DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
    (10, Some(200)),
];

/// A rule that lets a device be used is judged as the device itself; making a node that nobody can open is harmless.
fn access_rule(policy: &Policy, rule: &DeviceAccess, origin: &str, report: Report) {
    if !rule.allow || rule.access & (access::READ | access::WRITE) == 0 {
        return;
    }
    let covered = match (rule.kind, rule.major) {
        (Some(NodeKind::Char), Some(major)) if DEFAULT_DEVICES.contains(&(major, rule.minor)) => true,
        (Some(kind), Some(major)) => policy.devices.iter().flatten().any(|allowed| {
            (allowed.kind, allowed.major) == (kind, major) && (allowed.minor.is_none() || allowed.minor == rule.minor)
        }),
        _ => false,
    };
    if policy.devices.is_some() && !covered {
        report("devices.allow", origin, "may use devices that are not allowed".to_string());
    }
}

fn filesystem_rule(policy: &Policy, fs: &str, origin: &str, report: Report) {
    if let Some(allowed) = &policy.filesystems
        && !allowed.iter().any(|name| name == fs)
    {
        report("filesystems.allow", origin, format!("mounts a filesystem of type {fs}"));
    }
}

fn spawn_rules(policy: &Policy, spawn: &Spawn, report: Report) {
    let owned = crate::check::owned_namespaces(spawn);
    for kind in policy.own_namespaces.iter().filter(|kind| !owned.contains(*kind)) {
        report("namespaces.own", "/linux/namespaces", format!("shares the host's {} namespace", kind.name()));
    }
    if policy.user_namespace && !owned.contains(Namespace::User) {
        report("userns", "/linux/namespaces", "has no user namespace: its root is the host's root".to_string());
    }
    if let Some(lowest) = policy.min_host_id {
        let maps = [("/linux/uidMappings", &spawn.uid_map), ("/linux/gidMappings", &spawn.gid_map)];
        for (origin, map) in maps {
            for range in map.iter().filter(|range| range.outside < lowest) {
                report("userns.min-host-id", origin, format!("maps the host id {}", range.outside));
            }
        }
    }
}

/// Hooks that run with the host's files in sight. startContainer hooks are the payload's equals.
fn hook_rules(policy: &Policy, hooks: &Hooks, report: Report) {
    let After { poststart, poststop, .. } = &hooks.after;
    for hook in [&hooks.runtime, &hooks.container, poststart, poststop].into_iter().flatten() {
        for path in hook.outputs.iter().flatten() {
            path_rules(policy, &absolute(path.as_str()), true, &hook.origin, report);
        }
        let Some(allowed) = &policy.hooks else { continue };
        if !allowed.iter().any(|rule| rule.covers(&absolute(hook.path.as_str()))) {
            report("hooks.allow", &hook.origin, format!("runs the program {}", hook.path));
        }
    }
}

fn finish_rules(policy: &Policy, finish: &Finish, report: Report) {
    if let Some(most) = policy.capabilities {
        let caps = &finish.capabilities;
        let beyond = (caps.bounding | caps.permitted | caps.inheritable | caps.ambient) & !most;
        if beyond != 0 {
            report("caps.max", "/process/capabilities", format!("holds the capabilities {beyond:#x} beyond the mask"));
        }
    }
    if policy.no_new_privileges && !finish.no_new_privileges {
        report("no_new_privs", "/process/noNewPrivileges", "may gain privileges by exec".to_string());
    }
    if policy.seccomp && finish.seccomp.is_none() {
        report("seccomp", "/linux/seccomp", "has no seccomp filter".to_string());
    }
}

impl PathRule {
    /// Whether the rule speaks of a normalized `path`. Lexical: rspawn-setup opens host paths without following magic
    /// links, and has the path of what it opened judged again.
    pub fn covers(&self, path: &str) -> bool {
        let own = self.path.strip_suffix('/').unwrap_or(&self.path);
        path.strip_suffix('/').unwrap_or(path) == own || (self.below && path_below(path, own))
    }
}

/// Whether `path` lies below `parent`.
fn path_below(path: &str, parent: &str) -> bool {
    let parent = parent.strip_suffix('/').unwrap_or(parent);
    path.strip_prefix(parent).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn sysctl_covers(rule: &str, key: &str) -> bool {
    let fold = |text: &str| text.replace('.', "/");
    let (rule, key) = (fold(rule), fold(key));
    if rule.ends_with('/') { key.starts_with(&rule) } else { key == rule }
}
