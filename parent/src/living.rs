//! What there is to know about the cgroups of a living container before its limits are changed.
use std::fs;

use rspawn_proto::ids::Slot;
use rspawn_proto::record::CgroupDir;

use crate::cgroup_facts::{CgroupFacts, Hierarchy, Reach};
use crate::cgroups::is_resctrl;
use crate::plan::resources::Now;

/// The container's own cgroups as a layout: what is mounted elsewhere does not concern it. Their order is that of the
/// record.
pub fn layout(cgroups: &[CgroupDir]) -> CgroupFacts {
    // Resctrl groups come last, so that the others keep their places.
    let cgroups: Vec<&CgroupDir> = cgroups.iter().filter(|cgroup| !is_resctrl(cgroup)).collect();
    let hierarchy = |cgroup: &&CgroupDir| Hierarchy {
        controllers: cgroup.hierarchy.to_string(),
        mount: Some(cgroup.path.to_string()),
        own: String::new(),
        reach: Reach::Everywhere,
    };
    let v2 = cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str().is_empty());
    let controllers = v2.and_then(|cgroup| text(cgroup, "cgroup.controllers")).unwrap_or_default();
    CgroupFacts {
        unified: cgroups.iter().all(|cgroup| cgroup.hierarchy.as_str().is_empty()),
        hierarchies: cgroups.iter().map(hierarchy).collect(),
        controllers: controllers.split_whitespace().map(str::to_string).collect(),
        units: None,
    }
}

/// The class of service that is the container's alone, as a slot of a plan. It is the first resctrl group; the second
/// one, if any, watches.
pub fn resctrl(cgroups: &[CgroupDir]) -> Option<Slot> {
    let class = cgroups.iter().position(is_resctrl)?;
    u16::try_from(class).ok().filter(|_| !cgroups[class].shared).map(Slot)
}

/// The limits that hold.
pub fn now(cgroups: &[CgroupDir]) -> Now {
    let with = |controller: &str| {
        let has = |cgroup: &&CgroupDir| cgroup.hierarchy.as_str().split(',').any(|name| name == controller);
        cgroups.iter().find(has)
    };
    let v2 = cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str().is_empty());
    let mut now = Now::default();
    let bytes = |cgroup: &CgroupDir, file: &str| match text(cgroup, file)?.trim() {
        "max" => Some(i64::MAX),
        number => number.parse().ok(),
    };
    if let Some(memory) = with("memory") {
        now.memory = bytes(memory, "memory.limit_in_bytes");
        now.memory_and_swap = bytes(memory, "memory.memsw.limit_in_bytes");
        now.usage = bytes(memory, "memory.usage_in_bytes");
    } else if let Some(v2) = v2 {
        now.memory = bytes(v2, "memory.max");
        now.swap = bytes(v2, "memory.swap.max");
        now.usage = bytes(v2, "memory.current");
    }
    let number = |cgroup: &CgroupDir, file: &str| text(cgroup, file)?.trim().parse::<i64>().ok();
    if let Some(cpu) = with("cpu") {
        now.quota = number(cpu, "cpu.cfs_quota_us");
        now.period = number(cpu, "cpu.cfs_period_us").and_then(|period| period.try_into().ok());
        now.realtime_period = number(cpu, "cpu.rt_period_us").and_then(|period| period.try_into().ok());
        now.idle = number(cpu, "cpu.idle");
    } else if let Some(v2) = v2 {
        let bandwidth = text(v2, "cpu.max").unwrap_or_default();
        let mut words = bandwidth.split_whitespace();
        now.quota = words.next().map(|quota| quota.parse().unwrap_or(-1));
        now.period = words.next().and_then(|period| period.parse().ok());
        now.idle = number(v2, "cpu.idle");
    }
    now
}

fn text(cgroup: &CgroupDir, file: &str) -> Option<String> {
    fs::read_to_string(format!("{}/{file}", cgroup.path)).ok()
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
        let found = now(&cgroups);
        fs::write(directory.join("memory.swap.max"), "max\n").unwrap();
        let without_limit = now(&cgroups).swap;
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((found.memory, found.swap, found.usage), (Some(1 << 20), Some(4096), None));
        assert_eq!((found.quota, found.period, without_limit), (Some(-1), Some(50_000), Some(i64::MAX)));
    }
}
