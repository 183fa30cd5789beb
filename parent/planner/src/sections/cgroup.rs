//! `linux.cgroupsPath` and the cgroups of the container: one in every hierarchy that is mounted, as runc makes them,
//! since `kill`, `ps` and `pause` find a container's processes by them.
use crate::prelude::*;
use rspawn_proto::ids::{HostPath, Id, RelPath, Slot, Text, normalized};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::cgroups_path::{PATH, given_path};
use super::resources::{self, Write};
use super::scope::{self, Scope};
use super::{device_rules, mount_options};
use crate::facts::{Delegation, Hierarchy};
use crate::oci::resources::{DeviceRule, Resources};
use crate::planner::Planner;
use crate::problem::Problem;

const BASE: &str = "/linux/resources";
const RULE: &str = "rule: cgroups";

pub fn plan(planner: &mut Planner) {
    let facts = &planner.facts.cgroup;
    let none = Resources::default();
    let resources = planner.linux().and_then(|linux| linux.resources.as_ref()).unwrap_or(&none);
    if planner.options.no_cgroups {
        if planner.linux().is_some_and(|linux| linux.resources.is_some()) {
            planner.note(
                BASE,
                "not applied: the container stays in the caller's cgroups, as --cgroup-manager=disabled asks",
            );
        }
        return;
    }
    let settings = resources::settings(resources, facts, BASE);
    let is_v2 = |hierarchy: usize| facts.hierarchies[hierarchy].controllers.is_empty();
    let mut used: Vec<&str> = Vec::new();
    for write in settings.writes.iter().filter(|write| is_v2(write.hierarchy)) {
        used.extend(write.choices.iter().filter_map(|choice| choice.file.split('.').next()));
    }
    // Where v2 is all there is, everything is enabled, as runc does it, so that use is counted too; beside v1, no
    // more than is needed.
    let enabled = |name: &&String| facts.unified || used.contains(&name.as_str());
    let controllers: Vec<String> = facts.controllers.iter().filter(enabled).cloned().collect();
    planner.problems.extend(settings.problems);
    planner.notes.extend(settings.notes);
    let scope = if planner.options.systemd {
        let Some(scope) = scope::find(planner) else { return };
        scope::start(planner, &scope, &settings.writes);
        Some(scope)
    } else {
        None
    };
    let open = |hierarchy| open(planner, hierarchy, &controllers, scope.as_ref());
    let slots: Vec<Option<Slot>> = facts.hierarchies.iter().map(open).collect();
    // For the machine's root, whatever is said of its reach: device rules are applied there, or refused.
    let is_root = facts_of_root(planner);
    let own = is_root || facts.hierarchies.iter().all(|hierarchy| hierarchy.reach == Delegation::Everywhere);
    if own && slots.iter().all(Option::is_none) {
        return without(planner, resources);
    }
    if own {
        device_access(planner, resources, &slots);
    } else if slots.iter().any(Option::is_none) {
        let origin = if given_path(planner).is_some() { PATH } else { RULE };
        planner
            .note(origin, "without root there are cgroups where they were delegated to the caller, and nowhere else");
    }
    for write in settings.writes {
        let slot = slots.get(write.hierarchy).copied().flatten();
        if slot.is_none() && !own {
            planner.note(write.pointer, "not applied: without root, no cgroup can be made in this hierarchy");
        } else if let Some(step) = slot.map(|cgroup| setting(cgroup, write)) {
            match step {
                Ok(step) => planner.host.push(step),
                Err(problem) => planner.problems.push(problem),
            }
        }
    }
    planner.spawn.cgroups = slots.into_iter().flatten().collect();
}

/// Whether the invoker has the rights of the machine's root.
fn facts_of_root(planner: &Planner) -> bool {
    !planner.facts.ids.rootless && planner.facts.ids.initial
}

/// The step that makes the cgroup in one hierarchy.
fn open(planner: &mut Planner, hierarchy: &Hierarchy, controllers: &[String], scope: Option<&Scope>) -> Option<Slot> {
    let v2 = hierarchy.controllers.is_empty();
    let path = scope.map_or_else(|| directory(planner, hierarchy), |scope| scope.path.clone());
    let reachable = match &hierarchy.reach {
        Delegation::Everywhere => true,
        Delegation::Below(cgroup) => {
            path.strip_prefix(cgroup.as_str()).is_some_and(|rest| cgroup.is_empty() || rest.starts_with('/'))
        }
        Delegation::Nowhere => false,
    };
    let rule = if given_path(planner).is_some() { PATH } else { RULE };
    let origin = scope.map_or(rule, |scope| scope.origin);
    if !reachable {
        if scope.is_some() {
            planner.problem(origin, format!("the cgroup of this scope, {path}, is not delegated to you"));
        }
        return None;
    }
    let mount = HostPath::new(hierarchy.mount.clone()?).map_err(|reason| planner.problem(origin, reason)).ok()?;
    let path = RelPath::new(path).map_err(|reason| planner.problem(origin, reason)).ok()?;
    if path.is_root() {
        planner.problem(origin, "the root of the hierarchy cannot be the container's cgroup: it is everybody's");
        return None;
    }
    let names: Vec<&String> = controllers.iter().filter(|_| v2).collect();
    let controllers: Option<Vec<Text>> = names.into_iter().map(|name| planner.text(origin, name)).collect();
    let hierarchy = planner.text(origin, &hierarchy.controllers)?;
    let owner = if v2 { owner(planner) } else { None };
    let out = planner.slot();
    planner.host(origin, HostOp::OpenCgroup { out, hierarchy, mount, path, controllers: controllers?, owner });
    Some(out)
}

/// The cgroup's path below the mount point. An absolute path begins there; any other where the caller is, and so does
/// the container's id, which is the path where none is given.
fn directory(planner: &Planner, hierarchy: &Hierarchy) -> String {
    let own = match hierarchy.own.rsplit_once('/') {
        // On v2 a cgroup with processes, such as the caller's, can give no controllers to one below it: beside it.
        _ if !planner.facts.cgroup.unified => hierarchy.own.as_str(),
        Some((above, _)) => above,
        None => "",
    };
    match given_path(planner) {
        Some(path) if path.starts_with('/') => normalized(path),
        // Cleaned before it is joined, so that `..` does not lead out of the caller's cgroup.
        Some(path) => normalized(&format!("{own}/{}", normalized(path))),
        None => normalized(&format!("{own}/{}", planner.options.id)),
    }
}

/// The payload's user, if it can see its cgroup and may write to it (config-linux.md, "cgroup ownership").
fn owner(planner: &Planner) -> Option<Id> {
    let is_writable = |mount: &crate::oci::Mount| {
        let options = mount_options::sort(&mount.options);
        matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && normalized(&mount.destination) == "sys/fs/cgroup"
            && (options.set | options.set_recursive) & attr::RDONLY == 0
    };
    let new = planner.spawn.new;
    let delegated =
        new.contains(Namespace::Cgroup) && planner.facts.cgroup.unified && planner.spec.mounts.iter().any(is_writable);
    let uid = planner.spec.process.as_ref().map_or(0, |process| process.user.uid);
    let outside = if new.contains(Namespace::User) {
        let range =
            planner.spawn.uid_map.iter().find(|range| uid >= range.inside && uid - range.inside < range.count)?;
        range.outside + (uid - range.inside)
    } else if planner.owns(Namespace::User) || uid == planner.facts.uid {
        // Whose ids a namespace that is joined has is not known here; and what is the caller's is so already.
        return None;
    } else {
        uid
    };
    Id::new(outside).ok().filter(|_| delegated)
}

fn device_access(planner: &mut Planner, resources: &Resources, slots: &[Option<Slot>]) {
    let hierarchies = planner.facts.cgroup.hierarchies.iter().zip(slots);
    let open: Vec<_> =
        hierarchies.filter_map(|(hierarchy, slot)| Some((hierarchy.controllers.as_str(), (*slot)?))).collect();
    match device_step(&resources.devices, BASE, &open) {
        Ok(step) => planner.host.push(step),
        Err(problems) => planner.problems.extend(problems),
    }
}

/// The step that sets the rules about devices, where the container has a cgroup that knows them: of its cgroups, each
/// by the controllers of its hierarchy.
pub fn device_step(devices: &[DeviceRule], base: &str, open: &[(&str, Slot)]) -> Result<Step<HostOp>, Vec<Problem>> {
    let rules = device_rules::rules(devices, base)?;
    let v1 = open.iter().find(|(names, _)| names.split(',').any(|name| name == "devices"));
    let origin = format!("{base}/devices");
    let (cgroup, rules) = match (v1, open.iter().find(|(names, _)| names.is_empty())) {
        (Some((_, cgroup)), _) => (*cgroup, device_rules::for_v1(rules)?),
        (None, Some((_, cgroup))) => (*cgroup, rules.into_iter().map(|rule| rule.access).collect()),
        (None, None) => {
            let message = "no cgroup hierarchy that knows devices is mounted here";
            return Err(vec![Problem::new(origin, message)]);
        }
    };
    Ok(Step::new(origin, HostOp::DeviceRules { cgroup, rules }))
}

/// One setting as an operation.
pub fn setting(cgroup: Slot, write: Write) -> Result<Step<HostOp>, Problem> {
    let Write { pointer, choices, needed, .. } = write;
    let text = |text: &String| Text::new(text.as_str()).map_err(|reason| Problem::new(pointer.as_str(), reason));
    let mut texts = Vec::new();
    for choice in &choices {
        let values: Result<Vec<Text>, Problem> = choice.values.iter().map(text).collect();
        texts.push(CgroupSetting { file: text(&choice.file)?, values: values? });
    }
    Ok(Step::new(pointer, HostOp::SetCgroup { cgroup, choices: texts, needed }))
}

/// No hierarchy is mounted. What was asked for cannot be had; nothing was said of what nobody asked for.
fn without(planner: &mut Planner, resources: &Resources) {
    const NOTHING: &str = "no cgroup filesystem is mounted here";
    if !resources.devices.is_empty() {
        planner.problem(format!("{BASE}/devices"), NOTHING);
    }
    if given_path(planner).is_some() {
        planner.problem(PATH, NOTHING);
    } else if planner.problems.is_empty() {
        planner
            .note("", "no cgroup filesystem is mounted here: the container stays in the caller's cgroups, unlimited");
    }
}
