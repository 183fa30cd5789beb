//! What differs where rspawn does not act as the machine's root: a user namespace that is needed, ids as rspawn-setup
//! calls them, and filesystems that only the owner of a namespace can make.
use crate::prelude::*;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use crate::facts::Ranges;
use crate::planner::Planner;

/// A user namespace where there must be one, with every id that there is: the caller's own is root's.
pub fn user_namespace(planner: &mut Planner) {
    if !planner.facts.ids.rootless {
        return;
    }
    if let Some(step) = planner.spawn.join.iter().find(|step| step.op.kind == Namespace::User) {
        let pointer = format!("{}/path", step.origin);
        planner.problem(pointer, "without root, a user namespace that somebody else made cannot be joined");
        return;
    }
    if !planner.owns(Namespace::User) {
        planner.note("/linux/namespaces", "a user namespace is added: without root there is no container without one");
        planner.spawn.new.insert(Namespace::User);
    }
}

/// Every id of rspawn-setup's namespace, as it is called there.
pub fn all_ids(ids: &Ranges) -> Vec<IdMap> {
    ids.iter()
        .map(|range| IdMap { inside: range.container_id, outside: range.container_id, count: range.size })
        .collect()
}

/// A range whose outside is the caller's, as rspawn-setup calls it: cut where the caller's ids are of different
/// origin. The error is the first id that does not exist.
pub fn translate(range: IdMap, ids: &Ranges) -> Result<Vec<IdMap>, u32> {
    let mut pieces = Vec::new();
    let IdMap { mut inside, mut outside, mut count } = range;
    while count > 0 {
        let home = ids.iter().find(|home| home.host_id <= outside && outside - home.host_id < home.size);
        let home = home.ok_or(outside)?;
        let offset = outside - home.host_id;
        let piece = count.min(home.size - offset);
        pieces.push(IdMap { inside, outside: home.container_id + offset, count: piece });
        // The last range may end at the last id there is.
        (inside, outside, count) = (inside.wrapping_add(piece), outside.wrapping_add(piece), count - piece);
    }
    Ok(pieces)
}

/// Whether an id exists in the container. Who joins a user namespace knows nothing of its ids.
pub fn is_mapped(planner: &Planner, id: u32, map: &[IdMap], ids: &Ranges) -> bool {
    match (planner.kind, planner.spawn.new.contains(Namespace::User)) {
        (Kind::Container, true) => map.iter().any(|range| range.inside <= id && id - range.inside < range.count),
        (Kind::Container, false) if !planner.owns(Namespace::User) => {
            ids.iter().any(|range| range.container_id <= id && id - range.container_id < range.size)
        }
        _ => true,
    }
}

/// Whether rspawn-setup, and the container with it, lacks the rights of the machine's root.
pub fn is_limited(planner: &Planner) -> bool {
    planner.owns(Namespace::User) || !planner.facts.ids.initial
}

/// Where a filesystem cannot be made because it shows a namespace that is not the container's own: the host's place
/// of it, which is bound instead.
pub fn bound_instead(planner: &Planner, fs: VirtualFs) -> Option<&'static str> {
    let (kind, place) = match fs {
        VirtualFs::Proc => (Namespace::Pid, "/proc"),
        VirtualFs::Sysfs => (Namespace::Network, "/sys"),
        VirtualFs::Mqueue => (Namespace::Ipc, "/dev/mqueue"),
        VirtualFs::Cgroup | VirtualFs::Cgroup2 => (Namespace::Cgroup, "/sys/fs/cgroup"),
        VirtualFs::Tmpfs | VirtualFs::Devpts => return None,
    };
    // A covered procfs cannot be bound for a container with pids of its own: it would show others.
    let covered = fs == VirtualFs::Sysfs && planner.facts.covered_sysfs;
    // Of a network that it joins, a new user namespace is not the owner, and sysfs asks for that one's rights.
    let others = fs == VirtualFs::Sysfs && is_others(planner, kind);
    (is_limited(planner) && (covered || others || !planner.owns(kind))).then_some(place)
}

/// Whether a namespace is joined by a container whose user namespace is new.
fn is_others(planner: &Planner, kind: Namespace) -> bool {
    planner.spawn.new.contains(Namespace::User) && !planner.spawn.new.contains(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::IdMapping;

    #[test]
    fn ranges_are_cut_where_the_callers_ids_are() {
        let ids = vec![
            IdMapping { container_id: 0, host_id: 1000, size: 1 },
            IdMapping { container_id: 1, host_id: 1001, size: 10 },
            IdMapping { container_id: 11, host_id: 5000, size: 10 },
        ];
        let map = |inside, outside, count| IdMap { inside, outside, count };
        assert_eq!(translate(map(0, 1000, 11), &ids), Ok(vec![map(0, 0, 1), map(1, 1, 10)]));
        assert_eq!(translate(map(7, 5005, 2), &ids), Ok(vec![map(7, 16, 2)]));
        assert_eq!(translate(map(0, 5005, 10), &ids), Err(5010));
        assert_eq!(translate(map(0, 0, 1), &ids), Err(0));
        let all = vec![IdMapping { container_id: 0, host_id: 0, size: u32::MAX }];
        assert_eq!(translate(map(5, 0, u32::MAX - 5), &all), Ok(vec![map(5, 0, u32::MAX - 5)]));
    }
}
