//! What the policy says of a plan, but for the places that its host paths lead to.
use alloc::{format, string::ToString, vec::Vec};

use super::kernel::judge_kernel_files;
use super::rights::{is_usual_filesystem, judge_access, judge_device};
use super::{DeniedCall, Policy, USUAL_PROPERTIES, Violation, judge_maps, lists};
use crate::filter;
use crate::namespaces::Namespace;
use crate::plan::*;

/// What the policy would refuse, whatever its mode.
pub fn violations(policy: &Policy, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    for step in &plan.host {
        host(policy, step, &mut found);
    }
    for step in &plan.attach {
        let AttachOp::MoveNetDevice { name, .. } = &step.op;
        if !lists(&policy.net_devices, name.as_str()) {
            found.push(Violation::new("net-devices.allow", &step.origin, format!("takes the network device {name}")));
        }
    }
    for step in &plan.rootfs {
        rootfs(policy, plan, step, &mut found);
    }
    // A container that lives has the namespaces that it was admitted with, and limits concern no process.
    if plan.header.kind == Kind::Container {
        spawn(policy, plan, &mut found);
    }
    if plan.header.kind != Kind::Update {
        finish(policy, &plan.finish, &mut found);
    }
    found
}

fn host(policy: &Policy, step: &Step<HostOp>, found: &mut Vec<Violation>) {
    let mut report = |rule, what| found.push(Violation::new(rule, &step.origin, what));
    match &step.op {
        HostOp::NewFilesystem { fs, .. } => {
            let usual = policy.usual_filesystems && ["overlay", "ramfs"].contains(&fs.as_str());
            if !usual && !lists(&policy.filesystems, fs.as_str()) {
                report("filesystems.allow", format!("mounts a filesystem of type {fs}"));
            }
        }
        HostOp::DeviceRules { rules, .. } => {
            rules.iter().for_each(|rule| judge_access(policy, rule, &step.origin, found));
        }
        HostOp::MakeIdMap { uid_map, gid_map, .. } => judge_maps(policy, &step.origin, [uid_map, gid_map], found),
        HostOp::OpenCgroup { path, .. } => {
            let path = path.absolute();
            if policy.cgroups.as_ref().is_some_and(|rules| !rules.iter().any(|rule| rule.covers(&path))) {
                report("cgroups.allow", format!("has the cgroup {path}"));
            }
        }
        HostOp::OpenResctrl { group, .. }
            if !lists(&policy.resctrl, group.as_str().split('/').next().unwrap_or("")) =>
        {
            report("resctrl.allow", format!("is in the resctrl group {group:?}"));
        }
        HostOp::StartScope { properties, .. } | HostOp::SetScope { properties } => {
            for UnitProperty { name, .. } in properties {
                if !USUAL_PROPERTIES.contains(&name.as_str()) && !lists(&policy.properties, name.as_str()) {
                    report("systemd.properties", format!("gives its scope the property {name}"));
                }
            }
        }
        // Where they lead, `judge_opened` judges.
        HostOp::OpenPath { .. } | HostOp::CloneTree { .. } | HostOp::OpenNamespace { .. } => {}
        HostOp::SetAttrs { .. } | HostOp::OpenResctrl { .. } | HostOp::SetCgroup { .. } => {}
    }
}

fn rootfs(policy: &Policy, plan: &Plan, step: &Step<RootfsOp>, found: &mut Vec<Violation>) {
    let mut report = |rule, what| found.push(Violation::new(rule, &step.origin, what));
    match &step.op {
        RootfsOp::MakeNode { kind, major, minor, .. } => {
            judge_device(policy, *kind, *major, *minor, &step.origin, found);
        }
        RootfsOp::NewFilesystem { fs, attrs, .. } => {
            let usual = policy.usual_filesystems && is_usual_filesystem(*fs, *attrs, plan);
            if !usual && !lists(&policy.filesystems, fs.name()) {
                let what = format!("mounts a filesystem of type {}", fs.name());
                let why = if policy.usual_filesystems && *attrs & attr::RDONLY == 0 {
                    ", which shows the host's"
                } else {
                    ""
                };
                report("filesystems.allow", what + why);
            }
        }
        RootfsOp::Sysctl { key, .. } => {
            let covers = |rule: &alloc::string::String| sysctl_covers(rule, key.as_str());
            if policy.sysctls.as_ref().is_some_and(|allowed| !allowed.iter().any(covers)) {
                report("sysctl.allow", format!("sets the sysctl {key}"));
            }
        }
        _ => {}
    }
}

fn spawn(policy: &Policy, plan: &Plan, found: &mut Vec<Violation>) {
    let spawn = &plan.spawn;
    let owned = crate::check::owned_namespaces(spawn);
    let mut report = |rule, origin, what| found.push(Violation::new(rule, origin, what));
    let has = |kind| owned.contains(kind) || kind == Namespace::User && policy.invoker_is_confined;
    for kind in policy.own_namespaces.iter().filter(|kind| !has(*kind)) {
        report("namespaces.own", "/linux/namespaces", format!("shares the host's {} namespace", kind.name()));
    }
    if policy.user_namespace && !has(Namespace::User) {
        report("userns", "/linux/namespaces", "has no user namespace: its root is the host's root".to_string());
    }
    let is_its = |op: &HostOp| matches!(op, HostOp::DeviceRules { cgroup, .. } if spawn.cgroups.contains(cgroup));
    let has_rules = plan.host.iter().any(|step| is_its(&step.op));
    // A root filesystem may have nodes, which serve in a user namespace as well; but of somebody who is not the machine's
    // root, none that such a user could not open.
    if policy.devices.is_some() && !has_rules && !policy.invoker_is_confined {
        let what = "may use any device that it has a node of".to_string();
        report("devices.allow", "/linux/resources/devices", what);
    }
    if policy.protect_kernel && !policy.invoker_is_confined && !spawn.new.contains(Namespace::User) {
        judge_kernel_files(plan, found);
    }
    judge_maps(policy, "/linux/uidMappings", [&spawn.uid_map, &Vec::new()], found);
    judge_maps(policy, "/linux/gidMappings", [&spawn.gid_map, &Vec::new()], found);
}

fn finish(policy: &Policy, finish: &Finish, found: &mut Vec<Violation>) {
    let caps = &finish.capabilities;
    let beyond = (caps.bounding | caps.permitted | caps.inheritable | caps.ambient) & !policy.capabilities;
    if beyond != 0 {
        let violation = Violation::new("caps.max", "/process/capabilities", "holds ".to_string());
        found.push(Violation { capabilities: beyond, ..violation });
    }
    let mut report = |rule, origin, what| found.push(Violation::new(rule, origin, what));
    if policy.no_new_privileges && !finish.no_new_privileges {
        report("no_new_privs", "/process/noNewPrivileges", "may gain privileges by exec".to_string());
    }
    let Some(filter) = finish.seccomp.as_ref().filter(|_| policy.seccomp) else {
        if policy.seccomp {
            report("seccomp", "/linux/seccomp", "has no seccomp filter".to_string());
        }
        return;
    };
    let mut allowed: Vec<&str> = Vec::new();
    for DeniedCall { arch, number, name } in &policy.must_deny {
        match filter::may_allow(&filter.program, Some(*number), Some(*arch)) {
            Ok(false) => {}
            Ok(true) => allowed.push(name),
            // A program that cannot be followed denies nothing that could be shown; nor is it followed again.
            Err(_) => {
                allowed = Vec::from([name.as_str()]);
                break;
            }
        }
    }
    allowed.dedup();
    if !allowed.is_empty() {
        let what = format!("has a filter that may allow {}", allowed.join(", "));
        report("seccomp.must-deny", "/linux/seccomp", what);
    }
}

fn sysctl_covers(rule: &str, key: &str) -> bool {
    let fold = |text: &str| text.replace('.', "/");
    let (rule, key) = (fold(rule), fold(key));
    if rule.ends_with('/') { key.starts_with(&rule) } else { key == rule }
}
