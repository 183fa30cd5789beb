//! Controllers of cgroup v1 (Documentation/admin-guide/cgroup-v1 of the kernel).
use super::files::Files;
use super::values::{Blkio, BlkioEntry, CpuSet, CpuUsage, Memory, MemoryEntry, Throttling};

/// Nanoseconds of one tick of the clock that cpuacct.stat counts by: USER_HZ, which is 100 on every machine.
const TICK: u64 = 10_000_000;

pub fn cpu_usage(files: &Files, usage: &mut CpuUsage) {
    let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
    usage.total = files.number("cpuacct", "cpuacct.usage");
    usage.percpu = numbers(&files.text("cpuacct", "cpuacct.usage_percpu"));
    // A head, then a line for each CPU: its number, time as the payload, time in the kernel.
    for line in files.text("cpuacct", "cpuacct.usage_all").lines().skip(1) {
        if let [_, user, kernel] = numbers(line)[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    let ticks = files.pairs("cpuacct", "cpuacct.stat");
    let time = |name: &str| ticks.get(name).copied().unwrap_or(0).saturating_mul(TICK);
    (usage.user, usage.kernel) = (time("user"), time("system"));
}

pub fn throttling(files: &Files, throttling: &mut Throttling) {
    let values = files.pairs("cpu", "cpu.stat");
    let value = |name: &str| values.get(name).copied().unwrap_or(0);
    throttling.periods = value("nr_periods");
    throttling.throttled_periods = value("nr_throttled");
    throttling.throttled_time = value("throttled_time");
}

/// Of v2, runc says nothing here.
pub fn cpuset(files: &Files, set: &mut CpuSet) {
    if !files.is_v1("cpuset") {
        return;
    }
    let number = |name: &str| files.number("cpuset", &format!("cpuset.{name}"));
    set.cpus = list(&files.text("cpuset", "cpuset.cpus"));
    set.mems = list(&files.text("cpuset", "cpuset.mems"));
    set.cpu_exclusive = number("cpu_exclusive");
    set.mem_hardwall = number("mem_hardwall");
    set.mem_exclusive = number("mem_exclusive");
    set.memory_migrate = number("memory_migrate");
    set.memory_spread_page = number("memory_spread_page");
    set.memory_spread_slab = number("memory_spread_slab");
    set.memory_pressure = number("memory_pressure");
    set.sched_load_balance = number("sched_load_balance");
    set.sched_relax_domain_level = files.text("cpuset", "cpuset.sched_relax_domain_level").trim().parse().unwrap_or(0);
}

/// `0-2,7` number by number.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

pub fn memory(files: &Files, memory: &mut Memory) {
    let entry = |kind: &str| {
        let number = |what: &str| files.number("memory", &format!("memory.{kind}{what}"));
        MemoryEntry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
        }
    };
    memory.raw = files.pairs("memory", "memory.stat");
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = entry("");
    memory.swap = entry("memsw.");
    memory.kernel = entry("kmem.");
    memory.kernel_tcp = entry("kmem.tcp.");
}

/// Counted by BFQ where that schedules, else where the limits are kept.
pub fn blkio(files: &Files, blkio: &mut Blkio) {
    let first = |names: &[&str]| {
        let found = names.iter().map(|name| entries(&files.text("blkio", &format!("blkio.{name}"))));
        found.into_iter().find(|entries| !entries.is_empty()).unwrap_or_default()
    };
    blkio.io_service_bytes_recursive =
        first(&["bfq.io_service_bytes_recursive", "throttle.io_service_bytes_recursive", "throttle.io_service_bytes"]);
    blkio.io_serviced_recursive =
        first(&["bfq.io_serviced_recursive", "throttle.io_serviced_recursive", "throttle.io_serviced"]);
    blkio.io_queue_recursive = first(&["bfq.io_queued_recursive"]);
    blkio.io_service_time_recursive = first(&["bfq.io_service_time_recursive"]);
    blkio.io_wait_time_recursive = first(&["bfq.io_wait_time_recursive"]);
    blkio.io_merged_recursive = first(&["bfq.io_merged_recursive"]);
    blkio.io_time_recursive = first(&["bfq.time_recursive"]);
    blkio.sectors_recursive = first(&["bfq.sectors_recursive"]);
}

/// Lines such as `8:0 Read 4096` and `8:0 12`; the last line of a file, `Total 4096`, is of no device.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (major, minor) = words.first()?.split_once(':')?;
        let (op, value) = match words[1..] {
            [value] => ("", value),
            [op, value] => (op, value),
            _ => return None,
        };
        let [major, minor, value] = [major, minor, value].map(|number| number.parse().ok());
        Some(BlkioEntry { major: major?, minor: minor?, op: op.to_string(), value: value? })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_spelt_out() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0u16; 0]);
    }

    #[test]
    fn entries_of_devices() {
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 16, op: op.into(), value };
        assert_eq!(entries("8:16 Read 4096\n8:16 Total 0\nTotal 4096\n"), [entry("Read", 4096), entry("Total", 0)]);
        assert_eq!(entries("8:16 12\n"), [entry("", 12)]);
    }
}
