//! What there is to know about the cgroups of a living container before its limits are changed.
use std::fs;

use rspawn_proto::ids::Slot;
use rspawn_proto::record::CgroupDir;

use crate::containers::cgroups::is_resctrl;
use rspawn_planner::facts::{CgroupFacts, Delegation, Hierarchy};
use rspawn_planner::sections::resources::CurrentLimits;

/// The container's own cgroups as a layout: what is mounted elsewhere does not concern it. Their order is that of the
/// record.
pub fn layout(cgroups: &[CgroupDir]) -> Result<CgroupFacts, String> {
    // Resctrl groups come last, so that the others keep their places.
    let cgroups: Vec<&CgroupDir> = cgroups.iter().filter(|cgroup| !is_resctrl(cgroup)).collect();
    let hierarchy = |cgroup: &&CgroupDir| Hierarchy {
        controllers: cgroup.hierarchy.to_string(),
        mount: Some(cgroup.path.to_string()),
        own: String::new(),
        reach: Delegation::Everywhere,
    };
    let v2 = cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str().is_empty());
    let controllers = v2.map(|cgroup| text(cgroup, "cgroup.controllers")).transpose()?.flatten().unwrap_or_default();
    Ok(CgroupFacts {
        unified: cgroups.iter().all(|cgroup| cgroup.hierarchy.as_str().is_empty()),
        hierarchies: cgroups.iter().map(hierarchy).collect(),
        controllers: controllers.split_whitespace().map(str::to_string).collect(),
        units: None,
    })
}

/// The class of service that is the container's alone, as a slot of a plan. It is the first resctrl group; the second
/// one, if any, watches.
pub fn resctrl(cgroups: &[CgroupDir]) -> Option<Slot> {
    let class = cgroups.iter().position(is_resctrl)?;
    u16::try_from(class).ok().filter(|_| !cgroups[class].shared).map(Slot)
}

/// The limits that hold.
pub fn now(cgroups: &[CgroupDir]) -> Result<CurrentLimits, String> {
    let with = |controller: &str| {
        let has = |cgroup: &&CgroupDir| cgroup.hierarchy.as_str().split(',').any(|name| name == controller);
        cgroups.iter().find(has)
    };
    let v2 = cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str().is_empty());
    let mut now = CurrentLimits::default();
    let number = |cgroup: &CgroupDir, file: &str| -> Result<Option<i64>, String> {
        match text(cgroup, file)?.as_deref().map(str::trim) {
            None => Ok(None),
            Some("max") => Ok(Some(i64::MAX)),
            Some(number) => {
                let parsed = number.parse().map(Some);
                parsed.map_err(|_| format!("cannot understand {}/{file}: {number:?}", cgroup.path))
            }
        }
    };
    let period = |number: Option<i64>| number.and_then(|period| period.try_into().ok());
    if let Some(memory) = with("memory") {
        now.memory = number(memory, "memory.limit_in_bytes")?;
        now.memory_and_swap = number(memory, "memory.memsw.limit_in_bytes")?;
        now.usage = number(memory, "memory.usage_in_bytes")?;
    } else if let Some(v2) = v2 {
        now.memory = number(v2, "memory.max")?;
        now.swap = number(v2, "memory.swap.max")?;
        now.usage = number(v2, "memory.current")?;
    }
    if let Some(cpu) = with("cpu") {
        now.quota = number(cpu, "cpu.cfs_quota_us")?;
        now.period = period(number(cpu, "cpu.cfs_period_us")?);
        now.realtime_period = period(number(cpu, "cpu.rt_period_us")?);
        now.idle = number(cpu, "cpu.idle")?;
    } else if let Some(v2) = v2 {
        if let Some(bandwidth) = text(v2, "cpu.max")? {
            let understood = bandwidth_of(&bandwidth);
            let (quota, period) =
                understood.ok_or_else(|| format!("cannot understand {}/cpu.max: {bandwidth:?}", v2.path))?;
            (now.quota, now.period) = (Some(quota), Some(period));
        }
        now.idle = number(v2, "cpu.idle")?;
    }
    Ok(now)
}

/// Quota and period of a cpu.max; -1 for no quota, as v1 says it.
fn bandwidth_of(text: &str) -> Option<(i64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    let quota = if quota == "max" { -1 } else { quota.parse().ok()? };
    Some((quota, period.parse().ok()?))
}

/// What a file of a cgroup says, if its kernel has it.
fn text(cgroup: &CgroupDir, file: &str) -> Result<Option<String>, String> {
    let path = format!("{}/{file}", cgroup.path);
    match fs::read_to_string(&path) {
        // Some files of the root, and of kernels without a scheduler's class, are there and say that they are not.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
        read => read.map(Some).map_err(|error| format!("cannot read {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rspawn_proto::ids::{HostPath, Text};

    use super::*;

    /// Files in a directory are all that a cgroup is to a reader.
    #[test]
    fn limits_of_cgroup_v2_are_read() {
        let directory = std::env::temp_dir().join(format!("rspawn-living-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (file, value) in [("memory.max", "1048576\n"), ("memory.swap.max", "4096\n"), ("cpu.max", "max 50000\n")] {
            fs::write(directory.join(file), value).unwrap();
        }
        let (hierarchy, path) = (Text::new("").unwrap(), HostPath::new(directory.to_str().unwrap()).unwrap());
        let cgroups = [CgroupDir { hierarchy, path, shared: false }];
        let found = now(&cgroups).unwrap();
        fs::write(directory.join("memory.swap.max"), "max\n").unwrap();
        let without_limit = now(&cgroups).unwrap().swap;
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((found.memory, found.swap, found.usage), (Some(1 << 20), Some(4096), None));
        assert_eq!((found.quota, found.period, without_limit), (Some(-1), Some(50_000), Some(i64::MAX)));
    }
}
