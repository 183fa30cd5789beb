//! Values for the files of the container's cgroups, as the kernel would take them.
use std::collections::BTreeMap;

use rspawn_planner::problem::Problem;
use rspawn_planner::sections::number_list::bit_mask;
use rspawn_proto::ids::Slot;
use rspawn_proto::plan::*;

use super::subject::{Start, beyond, some};

/// Numbers of CPUs and memory nodes that a list may have.
const MOST_NUMBERS: usize = 1 << 16;

/// What the first process needs before it is the payload: with less it has never been seen to get there.
const LEAST_MEMORY: u64 = 128 << 10;

/// A file of a cgroup, and the last value that is written to it.
type Written<'a> = BTreeMap<(Slot, &'a str), &'a str>;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) {
    let mut written = Written::new();
    for step in &start.plan.host {
        let HostOp::SetCgroup { cgroup, choices, .. } = &step.op else { continue };
        problems.extend(wrong_weight(choices).map(|message| Problem::new(step.origin.clone(), message)));
        // The first file that there is takes it, which one is not known here.
        let [setting] = choices.as_slice() else { continue };
        for value in &setting.values {
            written.insert((*cgroup, setting.file.as_str()), value.as_str());
            let wrong = wrong(start, *cgroup, setting.file.as_str(), value.as_str(), &written);
            problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
        }
    }
}

fn wrong(start: &Start, cgroup: Slot, file: &str, value: &str, written: &Written) -> Option<String> {
    let number = value.trim().parse::<i64>();
    match (file, number) {
        ("cpu.cfs_quota_us", Ok(quota)) => wrong_quota(quota),
        ("cpu.cfs_period_us", Ok(period)) => wrong_period(period),
        ("cpu.cfs_burst_us", Ok(burst)) => {
            let quota = written.get(&(cgroup, "cpu.cfs_quota_us")).and_then(|quota| quota.parse::<i64>().ok());
            let above = quota.filter(|quota| *quota > 0 && burst > *quota);
            above.map(|quota| format!("a burst of {burst} µs is above the quota of {quota} µs"))
        }
        ("cpu.max", _) => wrong_bandwidth(value),
        ("cpuset.cpus" | "cpuset.mems", _) => wrong_set(start, cgroup, file, value),
        ("memory.limit_in_bytes" | "memory.max", Ok(limit)) => (0..=LEAST_MEMORY as i64).contains(&limit).then(|| {
            format!("no container starts in {limit} bytes of memory: its first process needs more than {LEAST_MEMORY}")
        }),
        ("memory.memsw.limit_in_bytes", Ok(limit)) => wrong_swap(cgroup, limit, written),
        _ if file.starts_with("hugetlb.") => wrong_page(start, file),
        _ if file.starts_with("blkio.throttle.") || matches!(file, "io.max" | "io.weight" | "io.bfq.weight") => {
            wrong_disk(start, value)
        }
        _ => None,
    }
}

/// tg_set_cfs_bandwidth() of the kernel: at least a millisecond, and what fits its fixed-point numbers.
fn wrong_quota(quota: i64) -> Option<String> {
    const LEAST: i64 = 1000;
    const MOST: i64 = (1 << 44) - 1;
    if (0..LEAST).contains(&quota) {
        return Some(format!("a quota of {quota} µs is below the kernel's least one of {LEAST} µs"));
    }
    (quota > MOST).then(|| format!("a quota of {quota} µs is more than the kernel can count: -1 is no limit"))
}

fn wrong_period(period: i64) -> Option<String> {
    let range = 1000..=1_000_000;
    (!range.contains(&period)).then(|| format!("a period of {period} µs is not between 1000 and 1000000 µs"))
}

/// `QUOTA PERIOD` of cgroup v2.
fn wrong_bandwidth(value: &str) -> Option<String> {
    let mut words = value.split_whitespace();
    let quota = words.next().and_then(|word| word.parse().ok()).and_then(wrong_quota);
    quota.or_else(|| words.next().and_then(|word| word.parse().ok()).and_then(wrong_period))
}

/// CPUs or nodes that a cpuset of this machine cannot have. On v1 they are those that are there now.
fn wrong_set(start: &Start, cgroup: Slot, file: &str, list: &str) -> Option<String> {
    let is_v2 = start.plan.host.iter().any(|step| {
        matches!(&step.op, HostOp::OpenCgroup { out, hierarchy, .. } if *out == cgroup && hierarchy.as_str().is_empty())
    });
    let facts = start.start;
    let (known, what) = match (file, is_v2) {
        ("cpuset.cpus", true) => (&facts.possible_cpus, "CPU"),
        ("cpuset.cpus", false) => (&facts.online_cpus, "CPU"),
        _ => (&facts.online_nodes, "memory node"),
    };
    if known.is_empty() {
        return None;
    }
    let Some(mask) = bit_mask(list, MOST_NUMBERS) else {
        return Some(format!("{list:?} is not a list of {what}s such as \"0-3,7\""));
    };
    let missing = beyond(&mask, known);
    (!missing.is_empty()).then(|| format!("this machine has no {what} {}", some(&missing)))
}

/// On v1 memory and swap together are one limit, which is never below that of memory alone.
fn wrong_swap(cgroup: Slot, limit: i64, written: &Written) -> Option<String> {
    if limit < 0 {
        return None;
    }
    let memory = written.get(&(cgroup, "memory.limit_in_bytes")).and_then(|value| value.parse::<i64>().ok());
    match memory {
        Some(memory) if memory >= 0 && memory <= limit => None,
        Some(memory) if memory >= 0 => {
            Some(format!("memory and swap together, {limit} bytes, are less than the memory alone, {memory} bytes"))
        }
        _ => Some("memory and swap together are limited, and the memory is not: that takes a limit too".into()),
    }
}

/// `hugetlb.SIZE.FILE`
fn wrong_page(start: &Start, file: &str) -> Option<String> {
    let size = file.split('.').nth(1)?;
    let unit = |suffix: &str, factor: u64| Some(size.strip_suffix(suffix)?.parse::<u64>().ok()? * factor);
    let kib = unit("KB", 1).or_else(|| unit("MB", 1 << 10)).or_else(|| unit("GB", 1 << 20))?;
    let known = &start.start.huge_pages;
    (!known.contains(&kib)).then(|| {
        let sizes: Vec<String> = known.iter().map(|kib| format!("{kib} KiB")).collect();
        let has = if sizes.is_empty() { "none".into() } else { sizes.join(", ") };
        format!("this machine has no huge pages of {size}: of {has}")
    })
}

/// Of v1. Linux 5.0 has taken the leaf weights away, and no scheduler there takes more than 1000.
fn wrong_weight(choices: &[CgroupSetting]) -> Option<String> {
    const MOST: u64 = 1000;
    if let Some(gone) = choices.iter().find(|setting| setting.file.as_str().starts_with("blkio.leaf_weight")) {
        return Some(format!("no kernel has {} any more", gone.file));
    }
    let is_weight = |setting: &CgroupSetting| {
        let file = setting.file.as_str();
        file.starts_with("blkio.") && file.ends_with("weight")
    };
    let values = choices.iter().filter(|_| choices.iter().all(is_weight)).flat_map(|setting| &setting.values);
    let number = |value: &rspawn_proto::ids::Text| value.as_str().parse::<u64>().ok();
    let wrong = values.filter_map(number).find(|weight| !(1..=MOST).contains(weight))?;
    Some(format!("a weight of {wrong} is not between 1 and {MOST}"))
}

/// `MAJOR:MINOR REST`
fn wrong_disk(start: &Start, value: &str) -> Option<String> {
    let number = value.split_whitespace().next().filter(|word| word.contains(':'))?;
    let known = &start.start.disks;
    (!known.is_empty() && !known.iter().any(|disk| disk == number))
        .then(|| format!("this machine has no disk {number} (partitions have no limits of their own)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_those_that_the_kernel_takes() {
        assert!(wrong_quota(10).is_some() && wrong_quota(999).is_some() && wrong_quota(1 << 60).is_some());
        assert!(wrong_quota(1000).is_none() && wrong_quota(-1).is_none());
        assert!(wrong_bandwidth("10 100000").is_some() && wrong_bandwidth("max 10").is_some());
        assert!(wrong_bandwidth("max 100000").is_none() && wrong_bandwidth("50000 100000").is_none());
        assert!(wrong_period(2_000_000).is_some());
    }
}
