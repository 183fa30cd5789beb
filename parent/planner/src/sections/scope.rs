//! A scope of systemd's as the container's cgroup: its name and place by `linux.cgroupsPath`, and what systemd is told
//! of it. The limits are still written to the cgroup's files by rspawn-setup; systemd is told of them so that it does
//! not take them back when it sets its units up anew (`systemctl daemon-reload`).
use crate::prelude::*;
use rspawn_proto::ids::Text;
use rspawn_proto::plan::*;

use super::cgroups_path::{PATH, given_path};
use super::gvariant;
use super::resources::Write;
use super::scope_properties::{limits, property};
use crate::facts::{MISSING, Manager};
use crate::planner::Planner;

/// Where the path is rspawn's own.
const RULE: &str = "rule: systemd";
const PREFIX: &str = "org.systemd.property.";
/// The scope that is to be.
pub struct Scope {
    pub origin: &'static str,
    unit: Text,
    slice: Text,
    /// Its cgroup, below the mount point of cgroup v2.
    pub path: String,
}

/// Finds name and place. What is wrong with them is a problem.
pub fn find(planner: &mut Planner) -> Option<Scope> {
    let given = given_path(planner);
    let origin = if given.is_some() { PATH } else { RULE };
    let default = format!(":rspawn:{}", planner.options.id);
    let found = place(given.unwrap_or(&default), planner)
        .and_then(|(unit, slice, path)| Ok(Scope { origin, unit: Text::new(unit)?, slice: Text::new(slice)?, path }));
    found.map_err(|reason| planner.problem(origin, reason)).ok()
}

/// Unit, slice, and the path of the cgroup.
fn place(written: &str, planner: &Planner) -> Result<(String, String, String), String> {
    let facts = &planner.facts.cgroup;
    let manager = planner.facts.systemd.ok_or(MISSING)?;
    if !facts.unified {
        return Err("systemd's scopes are made on cgroup v2 alone, and this machine has hierarchies of v1: use the \
                    cgroupfs manager"
            .into());
    }
    let parts: Vec<&str> = written.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(format!("with systemd's cgroups it has the form slice:prefix:name, and not {written:?}"));
    };
    if name.ends_with(".slice") {
        return Err(format!("{name:?} names a slice, and a container gets a scope: leave out the ending"));
    }
    let slice = match (slice, manager) {
        ("", Manager::System) => "system.slice",
        ("", Manager::User) => "user.slice",
        (slice, _) => slice,
    };
    let unit = format!("{prefix}-{name}.scope");
    if name.is_empty() || !is_unit_name(&unit) {
        return Err(format!("{unit:?} cannot be the name of a unit (systemd.unit(5))"));
    }
    let above =
        expand(slice).ok_or_else(|| format!("{slice:?} is not a slice such as system.slice (systemd.slice(5))"))?;
    let base = facts.units.as_ref().ok_or(
        "rspawn is outside of the cgroup of your session's systemd, and the kernel would not let it move processes into \
         a scope there: start it with `systemd-run --user --scope`",
    )?;
    let path = format!("{base}/{above}/{unit}").replace("//", "/");
    Ok((unit, slice.to_string(), path.trim_start_matches('/').to_string()))
}

/// Length and letters of a unit's name (systemd.unit(5)).
fn is_unit_name(name: &str) -> bool {
    name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// The cgroup of a slice, below that of its manager: `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if !is_unit_name(slice) || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    let levels: Vec<String> = ends.map(|end| format!("{}.slice", &name[..end])).collect();
    Some(levels.join("/"))
}

/// The step that makes the scope.
pub fn start(planner: &mut Planner, scope: &Scope, writes: &[Write]) {
    let flag = |name, value| property(name, UnitValue::Flag(value));
    let description = format!("rspawn container {}", planner.options.id);
    let mut properties: Vec<UnitProperty> = [
        planner.text(scope.origin, &description).and_then(|text| property("Description", UnitValue::Text(text))),
        property("Slice", UnitValue::Text(scope.slice.clone())),
        // What is below its cgroup is none of systemd's business.
        flag("Delegate", true),
        // It outlives a target that is stopped, if not the machine.
        flag("DefaultDependencies", false),
        Text::new("inactive-or-failed").ok().and_then(|text| property("CollectMode", UnitValue::Text(text))),
        flag("CPUAccounting", true),
        flag("MemoryAccounting", true),
        flag("IOAccounting", true),
        flag("TasksAccounting", true),
    ]
    .into_iter()
    .flatten()
    .collect();
    properties.extend(limits(writes));
    for annotated in annotations(planner) {
        properties.retain(|other| other.name != annotated.name);
        properties.push(annotated);
    }
    planner.host(scope.origin, HostOp::StartScope { unit: scope.unit.clone(), properties });
}

/// The step that tells systemd of other limits, if there are any that it knows.
pub fn change(writes: &[Write]) -> Option<Step<HostOp>> {
    let properties = limits(writes);
    (!properties.is_empty()).then(|| Step::new(RULE, HostOp::SetScope { properties }))
}

/// Properties that the bundle asks for itself.
fn annotations(planner: &mut Planner) -> Vec<UnitProperty> {
    let mut properties = Vec::new();
    for (key, value) in &planner.spec.annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let pointer = format!("/annotations/{}", crate::oci::escape(key));
        match annotation(name, value) {
            Ok(property) => properties.push(property),
            Err(reason) => planner.problem(pointer, reason),
        }
    }
    properties
}

fn annotation(name: &str, value: &str) -> Result<UnitProperty, String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!("{name:?} is not a property of a unit: they are of three letters or more"));
    }
    if ["Slice", "Delegate"].contains(&name) {
        return Err(format!("{name} cannot be set: rspawn sets it itself"));
    }
    let (name, is_seconds) = match name.strip_suffix("Sec") {
        Some(stem) if !stem.ends_with('U') => (format!("{stem}USec"), true),
        _ => (name.to_string(), false),
    };
    let value = gvariant::parse(value, is_seconds).map_err(|reason| format!("{value:?}: {reason}"))?;
    Ok(UnitProperty { name: Text::new(name)?, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{CgroupFacts, Delegation, Facts, Hierarchy};
    use crate::options::{InitChoice, Options};

    #[test]
    fn slices_are_in_each_other() {
        for (slice, path) in [
            ("system.slice", Some("system.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("user-1000.slice", Some("user.slice/user-1000.slice")),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a-.slice", None),
            ("a/b.slice", None),
            ("..slice", Some("..slice")),
            (".slice", None),
            ("a.scope", None),
            ("", None),
        ] {
            assert_eq!(expand(slice).as_deref(), path, "{slice}");
        }
    }

    #[test]
    fn annotations_are_properties() {
        let read = |name: &str, value: &str| annotation(name, value).map(|property| property.name.to_string());
        assert_eq!(read("TimeoutStopUSec", "uint64 5").unwrap(), "TimeoutStopUSec");
        assert_eq!(read("TimeoutStopSec", "5").unwrap(), "TimeoutStopUSec");
        assert_eq!(read("CollectMode", "'inactive'").unwrap(), "CollectMode");
        for (name, value, reason) in [
            ("Ab", "true", "three letters"),
            ("Kill-Signal", "15", "three letters"),
            ("", "15", "three letters"),
            ("Slice", "'a.slice'", "rspawn sets it"),
            ("After", "crio.service", "quoted"),
            ("PIDs", "[uint32 1]", "no values of this type"),
            ("ExecStop", "[('/bin/sh', ['sh'], false)]", "no values of this type"),
        ] {
            let error = read(name, value).expect_err(name);
            assert!(error.contains(reason), "{name}: {error}");
        }
    }

    fn facts() -> Facts {
        let v2 = Hierarchy { mount: Some("/sys/fs/cgroup".into()), ..Hierarchy::default() };
        let cgroup =
            CgroupFacts { unified: true, hierarchies: vec![v2], units: Some(String::new()), ..CgroupFacts::default() };
        Facts { kernel: (6, 12), cgroup, systemd: Some(Manager::System), ..Facts::default() }
    }

    fn planned(path: &str, property: Option<&str>, facts: &Facts) -> Result<Plan, String> {
        let mut spec = crate::default_spec::default_spec(false);
        spec.linux.as_mut().unwrap().cgroups_path = Some(path.into());
        spec.annotations.extend(property.map(|name| (format!("{PREFIX}{name}"), "'x'".to_string())));
        let mut options = Options::dry_run("id", "/bundle".into(), InitChoice::Auto).unwrap();
        options.systemd = true;
        let planned = crate::plan::plan(&spec, facts, &options);
        planned.map(|planned| planned.plan).map_err(|problems| problems[0].to_string())
    }

    /// What is asked of systemd, and the cgroup that is expected of it, go together.
    #[test]
    fn where_a_scope_is() {
        let place = |path: &str, facts: &Facts| {
            planned(path, None, facts).map(|plan| match (&plan.host[0].op, &plan.host[1].op) {
                (HostOp::StartScope { unit, properties }, HostOp::OpenCgroup { path, .. }) => {
                    let slice = properties.iter().find(|property| property.name.as_str() == "Slice").unwrap();
                    let UnitValue::Text(slice) = &slice.value else { panic!("{slice:?}") };
                    format!("{slice}: {unit}: {}", path.as_str())
                }
                other => panic!("{other:?}"),
            })
        };
        let system = facts();
        let manager = "user.slice/user-7.slice/user@7.service";
        let mut user = Facts { systemd: Some(Manager::User), ..facts() };
        user.cgroup.units = Some(manager.into());
        user.cgroup.hierarchies[0].reach = Delegation::Below(manager.into());
        for (path, facts, expected) in [
            ("", &system, "system.slice: rspawn-id.scope: system.slice/rspawn-id.scope".to_string()),
            (":a:b", &system, "system.slice: a-b.scope: system.slice/a-b.scope".into()),
            ("-.slice:a:b", &system, "-.slice: a-b.scope: a-b.scope".into()),
            ("x-y.slice::b", &system, "x-y.slice: -b.scope: x.slice/x-y.slice/-b.scope".into()),
            ("", &user, format!("user.slice: rspawn-id.scope: {manager}/user.slice/rspawn-id.scope")),
            ("x.slice:a:b", &user, format!("x.slice: a-b.scope: {manager}/x.slice/a-b.scope")),
        ] {
            assert_eq!(place(path, facts), Ok(expected), "{path}");
        }
        let without = Facts { systemd: None, ..facts() };
        let mut hybrid = facts();
        hybrid.cgroup.unified = false;
        user.cgroup.units = None;
        for (path, facts, reason) in [
            ("", &without, "systemd does not run this machine"),
            ("", &hybrid, "on cgroup v2 alone"),
            ("", &user, "systemd-run --user --scope"),
            ("/a", &system, "slice:prefix:name"),
            ("a:b:c:d", &system, "slice:prefix:name"),
            ("a:b:c", &system, "not a slice such as"),
            (":b:", &system, "name of a unit"),
            (":b:../c", &system, "name of a unit"),
            (":b:c.slice", &system, "names a slice"),
        ] {
            let error = place(path, facts).expect_err(path);
            assert!(error.contains(reason), "{path}: {error}");
        }
    }

    #[test]
    fn the_policy_judges_properties() {
        use rspawn_proto::policy::{Policy, violations};
        let allowing = |names: &[&str]| Policy {
            properties: Some(names.iter().map(ToString::to_string).collect()),
            capabilities: u64::MAX,
            ..Policy::default()
        };
        let found = |property, policy: &Policy| {
            let mut found = violations(policy, &planned("", property, &facts()).unwrap());
            found.retain(|violation| violation.rule == "systemd.properties");
            found
        };
        assert_eq!(found(None, &allowing(&[])), []);
        assert_eq!(found(Some("OnFailure"), &Policy::default()), []);
        assert_eq!(found(Some("OnFailure"), &allowing(&["OnFailure"])), []);
        let [violation] = &found(Some("OnFailure"), &allowing(&["After"]))[..] else { panic!("one is found") };
        assert_eq!(violation.rule, "systemd.properties");
        assert!(violation.what.contains("OnFailure"), "{violation:?}");
    }
}
