//! What the policy says of devices and filesystems, and what every container may have.
use alloc::{format, string::ToString, vec::Vec};

use super::{DeviceRule, Policy, Violation};
use crate::check::owned_namespaces;
use crate::namespaces::Namespace;
use crate::plan::*;

/// Properties that concern the scope's own processes, and them alone: its place and its limits.
pub const USUAL_PROPERTIES: [&str; 26] = [
    "Description", "Slice", "Delegate", "DefaultDependencies", "CollectMode", "CPUAccounting", "MemoryAccounting",
    "IOAccounting", "TasksAccounting", "MemoryMax", "MemoryHigh", "MemoryLow", "MemoryMin", "MemorySwapMax",
    "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes",
    "IOWeight", "IODeviceWeight", "IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax",
];

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

/// Whether a filesystem that is made in the container's namespaces shows nothing of the host's: sysfs has the network
/// devices of its namespace, mqueue the queues of its, and a hierarchy of cgroups begins at its namespace's root.
pub fn is_usual_filesystem(fs: VirtualFs, attrs: u64, plan: &Plan) -> bool {
    let owns = |kind| owned_namespaces(&plan.spawn).contains(kind);
    match fs {
        VirtualFs::Proc | VirtualFs::Tmpfs | VirtualFs::Devpts => true,
        VirtualFs::Sysfs => owns(Namespace::Network),
        VirtualFs::Mqueue => owns(Namespace::Ipc),
        VirtualFs::Cgroup | VirtualFs::Cgroup2 => owns(Namespace::Cgroup) || attrs & attr::RDONLY != 0,
    }
}

pub fn judge_device(policy: &Policy, kind: NodeKind, major: u32, minor: u32, origin: &str, found: &mut Vec<Violation>) {
    let Some(allowed) = &policy.devices else { return };
    let fits = |rule: &DeviceRule| rule.kind == kind && rule.major == major && rule.minor.is_none_or(|m| m == minor);
    if kind != NodeKind::Fifo && !allowed.iter().any(fits) {
        let letter = if kind == NodeKind::Char { 'c' } else { 'b' };
        found.push(Violation::new("devices.allow", origin, format!("has the device {letter} {major}:{minor}")));
    }
}

/// A rule that lets a device be used is judged as the device itself; making a node that nobody can open is harmless.
pub fn judge_access(policy: &Policy, rule: &DeviceAccess, origin: &str, found: &mut Vec<Violation>) {
    let Some(allowed) = &policy.devices else { return };
    if !rule.allow || rule.access & (access::READ | access::WRITE) == 0 {
        return;
    }
    let covered = match (rule.kind, rule.major) {
        (Some(NodeKind::Char), Some(major)) if DEFAULT_DEVICES.contains(&(major, rule.minor)) => true,
        (Some(kind), Some(major)) => allowed.iter().any(|allowed| {
            (allowed.kind, allowed.major) == (kind, major) && (allowed.minor.is_none() || allowed.minor == rule.minor)
        }),
        _ => false,
    };
    if !covered {
        found.push(Violation::new("devices.allow", origin, "may use devices that are not allowed".to_string()));
    }
}
