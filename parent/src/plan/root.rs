//! `root` and `linux.rootfsPropagation`: the container's root, first and last.
use rspawn_proto::plan::*;

use super::{Planner, hooks};
use crate::problem::did_you_mean;

/// Propagation names of config-linux.md, "Rootfs Mount Propagation"; with a leading r they reach submounts too.
pub const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// Clones the root and cuts the container's mounts off from the host's.
pub fn begin(planner: &mut Planner) {
    planner.root = planner.slot();
    let Some(root) = &planner.spec.root else {
        planner.problem("/root", "there is no root filesystem: `root.path` is missing");
        return;
    };
    if root.path.is_empty() {
        planner.problem("/root/path", "the path of the root filesystem is empty");
        return;
    }
    let Some(path) = planner.outside("/root/path", &root.path) else { return };
    if root_escapes(planner, &root.path) {
        return;
    }
    // What is mounted below it later is the container's own, and stays as it is asked for.
    let set = if root.readonly_recursive { attr::RDONLY } else { 0 };
    let attrs = MountAttrs { set, propagation: Some(Propagation::Slave), recursive: true, ..MountAttrs::default() };
    let out = planner.root;
    let over = hooks::look_for_the_root(planner).then(|| planner.slot());
    if let Some(out) = over {
        planner.host("/root/path", HostOp::OpenPath { out, path: path.clone(), expect: Expect::Directory });
    }
    planner.host("/root/path", HostOp::CloneTree { out, path, expect: Expect::Directory, recursive: true, attrs });
    planner.rootfs("rule: isolation", RootfsOp::Propagate { propagation: Propagation::Slave, recursive: true });
    planner.rootfs("/root/path", RootfsOp::AttachRoot { mount: out, over });
}

/// A relative root belongs to the bundle. One that climbs out of it is more likely a trick than a wish, and an
/// absolute path says the same plainly.
fn root_escapes(planner: &mut Planner, written: &str) -> bool {
    let mut depth = 0i32;
    let climbs = !written.starts_with('/')
        && written.split('/').any(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth < 0
        });
    if climbs {
        let message = format!("the relative path {written:?} leaves the bundle; use an absolute path if that is meant");
        planner.problem("/root/path", message);
    }
    climbs
}

/// Read-only, the pivot, and what can only be said of the root afterwards.
pub fn finish(planner: &mut Planner) {
    let late = std::mem::take(&mut planner.late);
    planner.rootfs.extend(late);
    let mount = planner.root;
    if planner.spec.root.as_ref().is_some_and(|root| root.readonly) {
        let attrs = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        planner.rootfs("/root/readonly", RootfsOp::SetAttrs { mount, attrs });
    }
    planner.rootfs("rule: pivot", RootfsOp::Pivot);
    let Some(name) = planner.linux().and_then(|linux| linux.rootfs_propagation.as_deref()).filter(|n| !n.is_empty())
    else {
        return;
    };
    let pointer = "/linux/rootfsPropagation";
    match propagation(name) {
        // What the clone has already.
        Some((Propagation::Slave, _)) => {}
        Some((propagation, recursive)) => {
            let attrs = MountAttrs { propagation: Some(propagation), recursive, ..MountAttrs::default() };
            planner.rootfs(pointer, RootfsOp::SetAttrs { mount, attrs });
        }
        None => {
            let message =
                format!("{name:?} is no propagation{}", did_you_mean(name, PROPAGATIONS.map(|(name, _)| name)));
            planner.problem(pointer, message);
        }
    }
}

/// Whether the container's root is to be shared.
pub fn is_shared(planner: &Planner) -> bool {
    let name = planner.linux().and_then(|linux| linux.rootfs_propagation.as_deref());
    matches!(name.and_then(propagation), Some((Propagation::Shared, _)))
}

/// A propagation by its name, and whether it is recursive.
pub fn propagation(name: &str) -> Option<(Propagation, bool)> {
    let find = |name: &str| PROPAGATIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    find(name).map(|kind| (kind, false)).or_else(|| find(name.strip_prefix('r')?).map(|kind| (kind, true)))
}
