//! Propagation of mounts, by its names.
use rspawn_proto::plan::Propagation;

use crate::planner::Planner;

/// Propagation names of config-linux.md, "Rootfs Mount Propagation"; with a leading r they reach submounts too.
pub const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

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
