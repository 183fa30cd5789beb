//! `linux.intelRdt` (runtime-spec, config-linux.md, "IntelRdt"): the resctrl group that the container is in, a class of
//! service of caches and memory bandwidth, and a group that watches it.
use crate::prelude::*;
use alloc::collections::BTreeMap;

use rspawn_proto::ids::{HostPath, RelPath, Slot, Text};
use rspawn_proto::plan::{CgroupSetting, HostOp, NewResctrl, Step};

use crate::facts::ResctrlFacts;
use crate::oci::IntelRdt;
use crate::planner::Planner;
use crate::problem::Problem;

const BASE: &str = "/linux/intelRdt";
const CLOS_ID: &str = "/linux/intelRdt/closID";

pub fn plan(planner: &mut Planner) {
    let Some(wanted) = planner.linux().and_then(|linux| linux.intel_rdt.as_ref()) else { return };
    for (is_set, name) in [(wanted.enable_cmt, "enableCMT"), (wanted.enable_mbm, "enableMBM")] {
        if is_set.is_some() {
            planner.note(format!("{BASE}/{name}"), "ignored: the specification has enableMonitoring for it");
        }
    }
    if planner.facts.ids.rootless {
        return planner.problem(BASE, "only root can put processes into resctrl groups");
    }
    let Some(resctrl) = &planner.facts.resctrl else {
        let message = "no resctrl filesystem is mounted here; where the processor can divide its caches, \
                       `mount -t resctrl resctrl /sys/fs/resctrl` does it";
        return planner.problem(BASE, message);
    };
    let Some((group, new)) = class(planner, wanted, resctrl) else { return };
    let origin = if wanted.clos_id.is_some() { CLOS_ID } else { BASE };
    open(planner, resctrl, origin, &group, new);
    if wanted.enable_monitoring == Some(true) {
        let origin = format!("{BASE}/enableMonitoring");
        if !resctrl.monitors {
            return planner.problem(origin, "this processor does not count what resctrl groups use");
        }
        let id = planner.options.id.to_string();
        let above = if group.is_empty() { String::new() } else { format!("{group}/") };
        let new = planner.text(&origin, "").map(|schemata| NewResctrl { schemata, stays: false });
        open(planner, resctrl, &origin, &format!("{above}mon_groups/{id}"), new);
    }
}

/// The class of service, by its name below the mount point, and what it is made of if it is not there.
fn class(planner: &mut Planner, wanted: &IntelRdt, resctrl: &ResctrlFacts) -> Option<(String, Option<NewResctrl>)> {
    let lines = lines(wanted);
    let schemata: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let origin = lines.first().map_or(BASE.to_string(), |(pointer, _)| pointer.clone());
    let new = |planner: &mut Planner, stays| {
        let schemata = planner.text(&origin, &schemata)?;
        Some(NewResctrl { schemata, stays })
    };
    let Some(name) = wanted.clos_id.as_deref().filter(|name| !name.is_empty()) else {
        return Some((planner.options.id.to_string(), Some(new(planner, false)?)));
    };
    // The specification has no word for the class that all processes begin in; this is runc's and crun's.
    let name = if name == "/" { "" } else { name };
    if name == "." || name == ".." || name.contains('/') {
        planner
            .problem(CLOS_ID, format!("{name:?} is not a valid name for a resctrl group: it may not lead elsewhere"));
        return None;
    }
    let Some(found) = resctrl.groups.get(name) else {
        if lines.is_empty() {
            let message = format!("there is no resctrl group {name:?}, and no schema to make it with");
            planner.problem(CLOS_ID, message);
            return None;
        }
        return Some((name.to_string(), Some(new(planner, true)?)));
    };
    // It may have other containers in it: what is asked for must be what is.
    let differing = differing(found, &lines, resctrl.bandwidth_step);
    let problems: Vec<Problem> = differing
        .into_iter()
        .map(|(pointer, line)| {
            let has: Vec<&str> = found.lines().map(str::trim).collect();
            let message = format!("the resctrl group {name:?} exists and has {:?}, not {line:?}", has.join("; "));
            Problem::new(pointer.as_str(), message)
        })
        .collect();
    let fits = problems.is_empty();
    planner.problems.extend(problems);
    fits.then(|| (name.to_string(), None))
}

fn open(planner: &mut Planner, resctrl: &ResctrlFacts, origin: &str, group: &str, new: Option<NewResctrl>) {
    let mount = HostPath::new(resctrl.mount.as_str());
    let (mount, group) = match (mount, RelPath::new(group)) {
        (Ok(mount), Ok(group)) => (mount, group),
        (Err(reason), _) | (_, Err(reason)) => return planner.problem(origin, reason),
    };
    let out = planner.slot();
    planner.host(origin, HostOp::OpenResctrl { out, mount, group, new });
    planner.spawn.cgroups.push(out);
}

/// The lines for a `schemata` file, each with its pointer, in the order in which they are written.
fn lines(wanted: &IntelRdt) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let bandwidth = wanted.mem_bw_schema.as_deref().unwrap_or_default();
    for line in split(wanted.l3_cache_schema.as_deref().unwrap_or_default()) {
        // Of two about bandwidth, memBwSchema's is meant.
        if bandwidth.is_empty() || !line.starts_with("MB:") {
            lines.push((format!("{BASE}/l3CacheSchema"), line));
        }
    }
    lines.extend(split(bandwidth).map(|line| (format!("{BASE}/memBwSchema"), line)));
    for (index, text) in wanted.schemata.iter().enumerate() {
        lines.extend(split(text).map(|line| (format!("{BASE}/schemata/{index}"), line)));
    }
    lines
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty())
}

/// The lines that a `schemata` file does not hold. Of several about one domain of a resource the last one counts; the
/// kernel fills bit masks up with zeros, and rounds bandwidths up to a step.
fn differing<'a>(found: &str, wanted: &'a [(String, String)], step: u64) -> Vec<&'a (String, String)> {
    let has: BTreeMap<_, _> = found.lines().filter_map(values).flatten().collect();
    let mut last = BTreeMap::new();
    let mut differing = Vec::new();
    for line in wanted {
        match values(&line.1) {
            Some(values) => last.extend(values.into_iter().map(|(domain, value)| (domain, (value, line)))),
            None => differing.push(line),
        }
    }
    for ((resource, id), (value, line)) in last {
        let value = if is_bandwidth(&resource) { value.next_multiple_of(step.max(1)) } else { value };
        if has.get(&(resource, id)) != Some(&value) && !differing.contains(&line) {
            differing.push(line);
        }
    }
    differing
}

fn is_bandwidth(resource: &str) -> bool {
    resource.ends_with("MB")
}

/// A line of a `schemata` file: of each domain of its resource, the value. `None` for what is no such line.
fn values(line: &str) -> Option<Vec<((String, u32), u64)>> {
    let (resource, domains) = line.split_once(':')?;
    let resource = resource.trim();
    let value = |domain: &str| {
        let (id, value) = domain.split_once('=')?;
        let radix = if is_bandwidth(resource) { 10 } else { 16 };
        let value = u64::from_str_radix(value.trim(), radix).ok()?;
        Some(((resource.to_string(), id.trim().parse().ok()?), value))
    };
    domains.split(';').map(value).collect()
}

/// Other lines for the group of a living container, each with the option that gave it.
pub fn change(group: Option<Slot>, wanted: &[(&'static str, String)]) -> Result<Vec<Step<HostOp>>, Problem> {
    let step = |(option, schema): &(&'static str, String)| {
        let group = group.ok_or_else(|| {
            Problem::new(*option, "the container has no resctrl group of its own: linux.intelRdt made none for it")
        })?;
        let lines: String = split(schema).map(|line| format!("{line}\n")).collect();
        let text = |text: &str| Text::new(text).map_err(|reason| Problem::new(*option, reason));
        let choice = CgroupSetting { file: text("schemata")?, values: vec![text(&lines)?] };
        Ok(Step::new(*option, HostOp::SetCgroup { cgroup: group, choices: vec![choice], needed: true }))
    };
    wanted.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = "    MB:0=100;1= 70\n    L3:0=00ff;1=7f0\n";

    #[test]
    fn lines_hold_where_their_domains_have_their_values() {
        let hold = |lines: &[&str], step| {
            let lines: Vec<_> = lines.iter().map(|line| (String::new(), line.to_string())).collect();
            differing(FOUND, &lines, step).is_empty()
        };
        for line in ["L3:0=ff", "L3:1=7f0;0=FF", "MB:1=70", "L3:0=0ff;1=07f0"] {
            assert!(hold(&[line], 1), "{line}");
        }
        for line in ["L3:0=fe", "L3:2=ff", "L2:0=ff", "MB:0=64", "MB:0=70", "L3", "L3:", "L3:0", "L3:0=ff;1=ff", ""] {
            assert!(!hold(&[line], 1), "{line}");
        }
        assert!(hold(&["MB:1=61"], 10) && hold(&["MB:1=70"], 10) && !hold(&["MB:1=71"], 10));
        assert!(hold(&["MB:1=20", "MB:1=70"], 10) && !hold(&["MB:1=70", "MB:1=20"], 10));
        assert!(hold(&["L3:0=f;1=7f0", "L3:0=ff"], 10));
    }

    #[test]
    fn lines_are_written_in_the_specifications_order() {
        let wanted = IntelRdt {
            l3_cache_schema: Some("L3:0=f\nMB:0=10".into()),
            mem_bw_schema: Some("MB:0=20".into()),
            schemata: vec!["L2:0=f".into(), "MB:0=30".into()],
            ..IntelRdt::default()
        };
        let written: Vec<String> = lines(&wanted).into_iter().map(|(_, line)| line).collect();
        assert_eq!(written, ["L3:0=f", "MB:0=20", "L2:0=f", "MB:0=30"]);
        // With no other word on bandwidth, that of the first is one.
        let alone = IntelRdt { mem_bw_schema: None, ..wanted };
        assert_eq!(lines(&alone)[1], ("/linux/intelRdt/l3CacheSchema".to_string(), "MB:0=10".to_string()));
    }
}
