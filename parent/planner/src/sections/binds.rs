//! Bind mounts: clones of the host's mounts, and of those that earlier entries make.
use crate::prelude::*;
use rspawn_proto::ids::{HostPath, RelPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::mount_options::{self, MountOptions};
use super::{namespaces, propagation};
use crate::oci::{IdMapping, Mount};
use crate::planner::Planner;
use crate::problem::did_you_mean;

pub fn plan(planner: &mut Planner, origin: &str, mount: &Mount, at: RelPath, options: MountOptions) {
    let recursive = options.bind == Some(true);
    let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) else {
        planner.problem(format!("{origin}/source"), "a bind mount needs a source");
        return;
    };
    let Some(path) = planner.outside(&format!("{origin}/source"), source) else { return };
    refuse_words(planner, origin, &options);
    let idmap = id_map(planner, origin, mount, &options);
    let ridmap = idmap.is_some() && options.idmap == Some(true);
    let read_only = (options.set | options.set_recursive) & attr::RDONLY != 0;
    let follows =
        |(propagation, _): &(Propagation, bool)| matches!(propagation, Propagation::Shared | Propagation::Slave);
    if read_only && options.propagation.last().is_some_and(follows) {
        let message = "what the host mounts below it later is seen there too, with its own flags: not read-only";
        planner.note(format!("{origin}/options"), message);
    }
    let peer = propagation::is_shared(planner) && matches!(options.propagation.last(), Some((Propagation::Shared, _)));
    let mut passes = attribute_passes(&options, recursive, peer);
    // Id maps are set once, and before the mount is attached.
    match passes.first_mut() {
        Some(first) if first.recursive == ridmap || idmap.is_none() => first.idmap = idmap,
        // Behind the first, which cuts the clone off from the host's mounts.
        _ => passes.insert(1, MountAttrs { idmap, recursive: ridmap, ..MountAttrs::default() }),
    }
    let out = planner.slot();
    // Whoever is root in a user namespace may not map the ids of what is the host's (mount_setattr(2)).
    let maps = passes.iter().any(|pass| pass.idmap.is_some()) && planner.owns(Namespace::User);
    if let Some(from) = in_the_root(planner, &path, maps || options.source_link) {
        refuse_inside(planner, origin, &from, &options, maps);
        planner.rootfs(origin, RootfsOp::CloneTree { out, from, recursive });
        for attrs in passes {
            planner.rootfs(origin, RootfsOp::SetAttrs { mount: out, attrs });
        }
    } else {
        let mut passes = passes.into_iter();
        let attrs = passes.next().unwrap_or_default();
        let expect = if options.source_link { Expect::Unfollowed } else { Expect::Any };
        planner.host(origin, HostOp::CloneTree { out, path, expect, recursive, attrs, peer });
        for attrs in passes {
            planner.host(origin, HostOp::SetAttrs { mount: out, attrs });
        }
    }
    if options.link.is_some() {
        let at = planner.covered_by(out, at);
        let (copy, follow) = (options.copy_link, !options.destination_link);
        planner.rootfs(origin, RootfsOp::AttachLink { mount: out, at, copy, follow });
    } else {
        planner.attach(origin, out, at, false);
    }
}

/// The place that a path of the host names, if that is in the container's root. It is looked up there, when the mount's
/// turn comes: on the host there is what an earlier entry covers, and links of the image lead about the host.
///
/// Where only mounts count, `on_host`, what is of the image itself is named on the host.
fn in_the_root(planner: &Planner, path: &HostPath, on_host: bool) -> Option<Target> {
    // What a root that keeps nothing has of the image is not there yet.
    let on_host = on_host || planner.spec.root.as_ref()?.volatile.is_some();
    let target = planner.target(beneath_the_root(planner, path.as_str())?);
    (!on_host || target.mount != planner.root).then_some(target)
}

/// A path of the host as one of the container's, if it is in its root. Of the host's own root as the container's, the
/// host is what is meant.
pub fn beneath_the_root(planner: &Planner, path: &str) -> Option<RelPath> {
    let root = &planner.spec.root.as_ref()?.path;
    let root = if root.starts_with('/') { root.clone() } else { format!("{}/{root}", planner.options.bundle) };
    let place = |path: &str| RelPath::new(rspawn_proto::ids::normalized(path)).ok();
    let (root, path) = (place(&root)?, place(path)?);
    let is_in = !root.is_root() && root.leads_to(&path);
    is_in.then(|| RelPath::new(path.as_str()[root.as_str().len()..].trim_start_matches('/')).ok())?
}

/// What cannot be had of a source in the container, whose links are followed, and whose ids nobody there may map.
fn refuse_inside(planner: &mut Planner, origin: &str, from: &Target, options: &MountOptions, maps: bool) {
    let is_hosts = |step: &Step<HostOp>| matches!(step.op, HostOp::CloneTree { out, .. } if out == from.mount);
    let limited = maps && planner.host.iter().any(is_hosts);
    let why = match &options.link {
        Some(option) if options.source_link => format!("{option:?} would follow it"),
        _ if limited => "the root of a user namespace cannot map its ids".into(),
        _ => return,
    };
    let message = format!(
        "the source is what an earlier mount brings to {} in the container, where {why}: name what is mounted there",
        from.absolute()
    );
    planner.problem(format!("{origin}/source"), message);
}

/// Words that the source's filesystem would have to know, and that nobody asks: a misspelt protection must not be none.
fn refuse_words(planner: &mut Planner, origin: &str, options: &MountOptions) {
    let pointer = format!("{origin}/options");
    // Of very many, the first ones say it.
    for (key, value) in options.data.iter().take(20) {
        let word = value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"));
        let meant = match key.to_ascii_lowercase().as_str() {
            "readonly" | "read-only" => " (did you mean ro?)".into(),
            "readwrite" | "read-write" => " (did you mean rw?)".into(),
            _ => did_you_mean(key, mount_options::known()),
        };
        planner.problem(pointer.clone(), format!("option {word:?} has no meaning for a bind mount{meant}"));
    }
    for word in options.engine.iter().take(20) {
        planner.note(pointer.clone(), format!("option {word:?} is for the engine, and has no effect here"));
    }
    if options.copy_up {
        planner.problem(pointer, "tmpcopyup is for tmpfs mounts");
    }
}

/// The calls of mount_setattr(2) that a bind mount needs: one, where the options allow it. A clone of a shared mount
/// is its peer, so it is made a slave first: the container must not mount on the host. Unless that is just what was
/// asked for, as with runc: by `shared` on the bind and on the container's root both.
///
/// A read-only bind is private: what the host mounts below it later would come with its own flags, writable. Who wants
/// to see that asks for `slave`.
fn attribute_passes(options: &MountOptions, recursive_bind: bool, is_peer: bool) -> Vec<MountAttrs> {
    let read_only = (options.set | options.set_recursive) & attr::RDONLY != 0;
    let propagation = Some(match (is_peer, read_only) {
        (true, _) => Propagation::Shared,
        (false, true) if options.propagation.is_empty() => Propagation::Private,
        _ => Propagation::Slave,
    });
    let base = MountAttrs { propagation, recursive: recursive_bind, ..MountAttrs::default() };
    let mut passes = vec![base];
    let mut add = |set: u64, clear: u64, recursive: bool| {
        if set | clear == 0 {
            return;
        }
        let clear = clear | if set & attr::ATIME != 0 { attr::ATIME } else { 0 };
        match passes.iter_mut().find(|pass| pass.recursive == recursive) {
            Some(pass) => (pass.set, pass.clear) = (set, clear),
            None => passes.push(MountAttrs { set, clear, recursive, ..MountAttrs::default() }),
        }
    };
    if recursive_bind {
        add(options.set, options.clear, false);
        add(options.set_recursive, options.clear_recursive, true);
    } else {
        // There is nothing below a single mount, so the recursive forms say no more than the plain ones.
        add(options.set | options.set_recursive, options.clear | options.clear_recursive, false);
    }
    for (propagation, recursive) in options.propagation.iter().filter(|_| !is_peer) {
        let (propagation, recursive) = (Some(*propagation), *recursive && recursive_bind);
        match passes.first_mut() {
            // Private at once; a slave of the host is what it is already.
            Some(first) if propagation != Some(Propagation::Shared) && first.recursive == recursive => {
                first.propagation = propagation;
            }
            _ => passes.push(MountAttrs { propagation, recursive, ..MountAttrs::default() }),
        }
    }
    passes
}

/// The slot of the id map that a mount asks for, by mappings or by option.
fn id_map(planner: &mut Planner, origin: &str, mount: &Mount, options: &MountOptions) -> Option<Slot> {
    let own = match &options.own_idmap {
        Some(text) => Some(own_maps(planner, origin, text)?),
        None => None,
    };
    let (uids, gids) = own.as_ref().map_or((&mount.uid_mappings, &mount.gid_mappings), |(uids, gids)| (uids, gids));
    let explicit = !uids.is_empty() || !gids.is_empty();
    if !explicit && options.idmap.is_none() {
        return None;
    }
    if let Some(joined) = joined_user_namespace(planner).filter(|_| !explicit) {
        return Some(joined);
    }
    let (uid_map, gid_map) = if explicit {
        for (name, list) in [("uidMappings", uids), ("gidMappings", gids)] {
            if list.is_empty() {
                planner
                    .problem(format!("{origin}/{name}"), "an id-mapped mount needs both uidMappings and gidMappings");
            }
        }
        let uid_map = namespaces::convert(planner, &format!("{origin}/uidMappings"), uids, &planner.facts.ids.uids);
        (uid_map, namespaces::convert(planner, &format!("{origin}/gidMappings"), gids, &planner.facts.ids.gids))
    } else {
        (planner.spawn.uid_map.clone(), planner.spawn.gid_map.clone())
    };
    if uid_map.is_empty() || gid_map.is_empty() {
        if !explicit {
            let message = "the mount is to be id-mapped, but neither it nor the container has id mappings";
            planner.problem(format!("{origin}/options"), message);
        }
        return None;
    }
    if let Some((_, _, slot)) = planner.id_maps.iter().find(|(uids, gids, _)| (uids, gids) == (&uid_map, &gid_map)) {
        return Some(*slot);
    }
    let out = planner.slot();
    planner.id_maps.push((uid_map.clone(), gid_map.clone(), out));
    planner.host(origin, HostOp::MakeIdMap { out, uid_map, gid_map });
    Some(out)
}

/// The user namespace that the container joins: it has the maps that are meant, whatever config.json says.
fn joined_user_namespace(planner: &Planner) -> Option<Slot> {
    planner.spawn.join.iter().find(|step| step.op.kind == Namespace::User).map(|step| step.op.from)
}

/// crun's `idmap=uids=INSIDE-OUTSIDE-COUNT#…;gids=…`, with which each range is that of a mapping; `@` before it counts
/// in the container's own ids.
fn own_maps(planner: &mut Planner, origin: &str, text: &str) -> Option<(Vec<IdMapping>, Vec<IdMapping>)> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    let (own_uids, own_gids) = (planner.spawn.uid_map.clone(), planner.spawn.gid_map.clone());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let read = match part.split_once('=') {
            Some(("uids", list)) => ranges(list, &own_uids).map(|ranges| uids.extend(ranges)),
            Some(("gids", list)) => ranges(list, &own_gids).map(|ranges| gids.extend(ranges)),
            _ => None,
        };
        if read.is_none() {
            let message = format!(
                "option \"idmap={text}\": {part:?} is none of uids=INSIDE-OUTSIDE-COUNT and gids=INSIDE-OUTSIDE-COUNT"
            );
            planner.problem(format!("{origin}/options"), message);
            return None;
        }
    }
    Some((uids, gids))
}

fn ranges(list: &str, container: &[IdMap]) -> Option<Vec<IdMapping>> {
    let (is_inside, list) = list.strip_prefix('@').map_or((false, list), |rest| (true, rest));
    let range = |text: &str| {
        let numbers = text.split('-').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let [container_id, host_id, size] = numbers[..] else { return None };
        let outside = |map: &&IdMap| {
            let (first, end) = (u64::from(host_id), u64::from(host_id) + u64::from(size));
            (u64::from(map.inside)..).contains(&first) && end <= u64::from(map.inside) + u64::from(map.count)
        };
        let host_id = match container.iter().find(outside) {
            Some(map) if is_inside => map.outside + (host_id - map.inside),
            _ if is_inside => return None,
            _ => host_id,
        };
        Some(IdMapping { container_id, host_id, size })
    };
    list.split('#').map(range).collect()
}
