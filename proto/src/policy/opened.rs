//! What the policy says of a host path once it is open. The name that config.json wrote has no say in it.
use alloc::{format, string::String, vec::Vec};

use super::rights::judge_device;
use super::{PathRule, Policy, Violation};
use crate::ids::Slot;
use crate::plan::*;

/// Where a host path has led.
pub struct Opened<'a> {
    /// Its place, without links.
    pub place: &'a str,
    /// Something that `bind.deny` speaks of, which it is or shows, by whatever mount.
    pub denied: Option<String>,
    /// Nothing is mounted below it.
    pub alone: bool,
}

/// Judges one host operation by what it has opened.
pub fn judge_opened(policy: &Policy, plan: &Plan, step: &Step<HostOp>, opened: &Opened, found: &mut Vec<Violation>) {
    let place = opened.place;
    match &step.op {
        HostOp::OpenPath { out, .. } => {
            let writable = if is_lower_layer(plan, *out) { None } else { Some("writable") };
            judge_path(policy, &step.origin, opened, writable, found);
        }
        HostOp::CloneTree { expect: Expect::Device { kind, major, minor }, .. } if *kind != NodeKind::Fifo => {
            judge_device(policy, *kind, *major, *minor, &step.origin, found);
        }
        HostOp::CloneTree { expect: Expect::NullDevice, .. } => {}
        HostOp::CloneTree { out, .. } => {
            judge_path(policy, &step.origin, opened, is_writable(plan, *out, opened.alone), found);
        }
        HostOp::OpenNamespace { .. } if !policy.join_allow.iter().any(|rule| rule.covers(place)) => {
            found.push(Violation::new("join.allow", &step.origin, format!("joins the namespace {place}")));
        }
        _ => {}
    }
}

/// Whether a directory is a layer that an overlay only reads.
pub fn is_lower_layer(plan: &Plan, slot: Slot) -> bool {
    let is_lower = |param: &FsParam| ["lowerdir", "lowerdir+", "datadir+"].contains(&param.key.as_str());
    let uses = |param: &FsParam| matches!(&param.value, FsValue::Paths(paths) if paths.contains(&slot));
    let mut users = plan.host.iter().flat_map(|step| match &step.op {
        HostOp::NewFilesystem { fs, params, .. } => params.iter().map(|param| (fs.as_str(), param)).collect(),
        _ => Vec::new(),
    });
    let mut used = users.by_ref().filter(|(_, param)| uses(param)).peekable();
    used.peek().is_some() && used.all(|(fs, param)| fs == "overlay" && is_lower(param))
}

/// Judges ids of the host that a user namespace, or a mount, stands for.
pub fn judge_maps(policy: &Policy, origin: &str, maps: [&Vec<IdMap>; 2], found: &mut Vec<Violation>) {
    let is_low = |range: &&IdMap| range.outside < policy.min_host_id;
    for range in maps.into_iter().flat_map(|map| map.iter().filter(is_low)) {
        found.push(Violation::new("userns.min-host-id", origin, format!("maps the host id {}", range.outside)));
    }
}

/// `writable`: how it is, if it is not read-only.
fn judge_path(policy: &Policy, origin: &str, opened: &Opened, writable: Option<&str>, found: &mut Vec<Violation>) {
    let place = opened.place;
    if let Some(denied) = &opened.denied {
        let what = format!("shows the host path {place}, and {denied} is denied");
        return found.push(Violation::new("bind.deny", origin, what));
    }
    let fits = |rule: &&PathRule| rule.covers(place);
    let mut fitting = policy.bind_allow.iter().filter(fits).peekable();
    let named = fitting.peek().is_some();
    if !fitting.any(|rule| writable.is_none() || !rule.read_only) {
        let how = if named {
            writable.unwrap_or("read-only")
        } else if writable.is_some() {
            "writable"
        } else {
            "read-only"
        };
        found.push(Violation::new("bind.allow", origin, format!("shows the host path {place}, {how}")));
    }
}

/// Whether a clone can be written to anywhere, or ever, and by what. One that is read-only until a later operation or
/// from one on is writable. So is one that is not private: on a peer of a mount of the host's a mount would show there,
/// and what the host mounts later below a slave has its own flags.
fn is_writable(plan: &Plan, clone: Slot, alone: bool) -> Option<&'static str> {
    const TOP: &str = "writable: read-only at its top alone, and what is mounted below it is not";
    const LATER: &str = "writable: what the host mounts below it later is not read-only";
    let Capabilities { bounding, permitted, inheritable, ambient, .. } = plan.finish.capabilities;
    if (bounding | permitted | inheritable | ambient) & Capabilities::SYS_ADMIN != 0 {
        return Some("writable: CAP_SYS_ADMIN takes ro away");
    }
    let (mut tree, mut writable, mut private) = (false, Some("writable"), false);
    let mut apply = |attrs: &MountAttrs, tree: bool| {
        let whole = attrs.recursive || !tree;
        if attrs.set & attr::RDONLY != 0 {
            writable = if whole || alone { None } else { Some(TOP) };
        } else if attrs.clear & attr::RDONLY != 0 {
            writable = Some("writable");
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
    let cloned = |slot: &Slot| {
        let makes = |op: &RootfsOp| matches!(op, RootfsOp::CloneTree { out, .. } | RootfsOp::ReadOnly { out, .. } if out == slot);
        plan.rootfs.iter().any(|step| makes(&step.op))
    };
    let mut later = None;
    for step in &plan.rootfs {
        let RootfsOp::SetAttrs { mount, attrs } = &step.op else { continue };
        if attrs.clear & attr::RDONLY != 0 && (*mount == clone || attrs.recursive || cloned(mount)) {
            return Some("writable");
        }
        if *mount == clone && attrs.set & attr::RDONLY != 0 {
            later = Some("writable: read-only only once its mount points are made");
        }
    }
    match writable {
        Some("writable") => later.or(writable),
        None if !private => Some(LATER),
        other => other,
    }
}
