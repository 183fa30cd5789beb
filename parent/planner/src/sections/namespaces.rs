//! `linux.namespaces`, id mappings, time offsets and network devices (config-linux.md).
use crate::prelude::*;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::rootless;
use crate::facts::Ranges;
use crate::oci::{IdMapping, escape};
use crate::planner::Planner;
use crate::problem::did_you_mean;

pub fn plan(planner: &mut Planner) {
    let Some(linux) = planner.linux() else {
        planner
            .problem("/linux/namespaces", "there is no `linux` section: rspawn needs at least a mount namespace in it");
        return;
    };
    for (index, entry) in linux.namespaces.iter().enumerate() {
        let origin = format!("/linux/namespaces/{index}");
        let Some(kind) = Namespace::from_name(&entry.kind) else {
            let names = Namespace::ALL.map(Namespace::name);
            let message = format!("there is no namespace {:?}{}", entry.kind, did_you_mean(&entry.kind, names));
            planner.problem(format!("{origin}/type"), message);
            continue;
        };
        if planner.owns(kind) {
            planner.problem(format!("{origin}/type"), format!("the {} namespace is listed twice", kind.name()));
            continue;
        }
        match entry.path.as_deref().filter(|path| !path.is_empty()) {
            None => planner.spawn.new.insert(kind),
            Some(path) if !path.starts_with('/') => {
                planner.problem(format!("{origin}/path"), "the path of a namespace must be absolute");
            }
            Some(path) => {
                let Some(path) = planner.outside(&format!("{origin}/path"), path) else { continue };
                let out = planner.slot();
                planner.host(origin.clone(), HostOp::OpenNamespace { out, path, kind });
                planner.spawn.join.push(Step::new(origin, Join { kind, from: out }));
            }
        }
    }
    if !planner.owns(Namespace::Mount) {
        let message = "there is no mount namespace: the container's mounts would be the host's";
        planner.problem("/linux/namespaces", message);
    }
    rootless::user_namespace(planner);
    id_mappings(planner);
    time_offsets(planner);
    net_devices(planner);
}

fn id_mappings(planner: &mut Planner) {
    let Some(linux) = planner.linux() else { return };
    let lists = [("/linux/uidMappings", &linux.uid_mappings), ("/linux/gidMappings", &linux.gid_mappings)];
    let new_user = planner.spawn.new.contains(Namespace::User);
    let ids = &planner.facts.ids;
    if new_user && ids.rootless && lists.iter().all(|(_, mappings)| mappings.is_empty()) {
        planner.spawn.uid_map = rootless::all_ids(&ids.uids);
        planner.spawn.gid_map = rootless::all_ids(&ids.gids);
        return;
    }
    for (pointer, mappings) in lists {
        match (new_user, mappings.is_empty()) {
            (true, true) => planner.problem(pointer, "a new user namespace needs id mappings"),
            // Kubernetes' runtimes and podman give those of the namespace along, or some.
            (false, false) if planner.owns(Namespace::User) => {
                planner.note(pointer, "ignored: the user namespace that is joined has its own");
            }
            (false, false) => planner.problem(pointer, "id mappings need a user namespace in /linux/namespaces"),
            _ => {}
        }
    }
    if new_user {
        planner.spawn.uid_map = convert(planner, lists[0].0, lists[0].1, &ids.uids);
        planner.spawn.gid_map = convert(planner, lists[1].0, lists[1].1, &ids.gids);
    }
}

/// Checks a list of mappings (user_namespaces(7)) and gives it as the kernel takes it from rspawn-setup, in whose
/// namespace there are `ids`.
pub fn convert(planner: &mut Planner, pointer: &str, mappings: &[IdMapping], ids: &Ranges) -> Vec<IdMap> {
    let mut maps: Vec<IdMap> = Vec::new();
    let mut translated = Vec::new();
    if mappings.len() > 340 {
        planner.problem(pointer, format!("there are {} ranges; the kernel takes at most 340", mappings.len()));
        return maps;
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let map = IdMap { inside: mapping.container_id, outside: mapping.host_id, count: mapping.size };
        let pointer = format!("{pointer}/{index}");
        if map.count == 0 {
            planner.problem(format!("{pointer}/size"), "the range is empty");
        } else if ends_past_last_id(map.inside, map.count) || ends_past_last_id(map.outside, map.count) {
            planner.problem(pointer, "the range ends after the last id, 4294967294");
        } else if let Some(other) = maps.iter().position(|other| overlap(&map, other)) {
            planner.problem(pointer, format!("the range overlaps with range {other}"));
        } else {
            maps.push(map);
            match rootless::translate(map, ids) {
                Ok(pieces) => translated.extend(pieces),
                Err(id) => no_such_id(planner, pointer, id),
            }
        }
    }
    if translated.len() > 340 {
        planner.problem(pointer, "cut at the ends of the ranges that this user has, there are more than 340 of them");
    }
    translated
}

fn no_such_id(planner: &mut Planner, pointer: String, id: u32) {
    let ids = &planner.facts.ids;
    let reason = match &ids.alone_because {
        Some(reason) => format!(", who has only its own ids: {reason}"),
        None => String::new(),
    };
    let message = match ids.rootless {
        true => format!("the host id {id} is none that user {} may map{reason}", planner.facts.uid),
        false => format!("the host id {id} does not exist in the user namespace that rspawn is in"),
    };
    planner.problem(pointer, message);
}

fn ends_past_last_id(start: u32, count: u32) -> bool {
    u64::from(start) + u64::from(count) > u64::from(u32::MAX)
}

fn overlap(a: &IdMap, b: &IdMap) -> bool {
    let meet = |x: u32, y: u32| {
        u64::from(x) < u64::from(y) + u64::from(b.count) && u64::from(y) < u64::from(x) + u64::from(a.count)
    };
    meet(a.inside, b.inside) || meet(a.outside, b.outside)
}

fn time_offsets(planner: &mut Planner) {
    let Some(linux) = planner.linux() else { return };
    if !linux.time_offsets.is_empty() && !planner.spawn.new.contains(Namespace::Time) {
        planner.problem("/linux/timeOffsets", "time offsets need a new time namespace in /linux/namespaces");
        return;
    }
    for (name, offset) in &linux.time_offsets {
        let pointer = format!("/linux/timeOffsets/{}", escape(name));
        let clock = match name.as_str() {
            "monotonic" => Clock::Monotonic,
            "boottime" => Clock::Boottime,
            _ => {
                let message = format!("there is no offset for a clock {name:?}: the clocks are monotonic and boottime");
                planner.problem(pointer, message);
                continue;
            }
        };
        if offset.nanosecs >= 1_000_000_000 {
            planner.problem(format!("{pointer}/nanosecs"), "nanosecs must be below 1000000000");
        }
        planner.spawn.time_offsets.push(TimeOffset { clock, seconds: offset.secs, nanoseconds: offset.nanosecs });
    }
}

fn net_devices(planner: &mut Planner) {
    let Some(linux) = planner.linux() else { return };
    if !linux.net_devices.is_empty() && !planner.owns(Namespace::Network) {
        planner.problem("/linux/netDevices", "network devices need a network namespace in /linux/namespaces");
        return;
    }
    if !linux.net_devices.is_empty() && planner.facts.ids.rootless {
        planner.problem("/linux/netDevices", "without root, the host's network devices cannot be moved");
        return;
    }
    let mut taken = alloc::collections::BTreeSet::new();
    for (name, device) in &linux.net_devices {
        let origin = format!("/linux/netDevices/{}", escape(name));
        let new_name = device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        for name in [name, new_name] {
            if !is_device_name(name) {
                let message = format!(
                    "{name:?} is not a valid name for a network device: 1 to 15 bytes, no slash, no colon, no space"
                );
                planner.problem(origin.clone(), message);
            }
        }
        if !taken.insert(new_name) {
            planner.problem(origin.clone(), format!("two network devices would be called {new_name:?}"));
        }
        let (Some(name), Some(new_name)) = (planner.text(&origin, name), planner.text(&origin, new_name)) else {
            continue;
        };
        planner.attach.push(Step::new(origin, AttachOp::MoveNetDevice { name, new_name }));
    }
}

/// dev_valid_name() of the kernel.
fn is_device_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
}
