//! What a container uses, in the words of runc's `events`: names, units, and what is left out where it is 0 are those
//! that its clients decode.
//!
//! Each controller is read where it is, in a hierarchy of v1 or in cgroup v2, so that a hybrid layout needs no rule of
//! its own.
mod file_names;
mod files;
mod held_file;
mod resctrl;
pub mod usage;
mod v1;
mod v2;
mod values;

pub use files::Files;
pub use values::Stats;

use values::Pids;

/// Reads everything. What a kernel does not have is left at 0, or out.
pub fn read(files: &Files) -> Stats {
    let pids = Pids { current: files.number("pids", "pids.current"), limit: files.number("pids", "pids.max") };
    let mut stats = Stats { pids, ..Stats::default() };
    if files.is_v1("cpuacct") {
        v1::cpu_usage(files, &mut stats.cpu.usage);
    }
    if files.is_v1("cpu") {
        v1::throttling(files, &mut stats.cpu.throttling);
    }
    if !files.is_v1("cpuacct") && !files.is_v1("cpu") {
        v2::cpu(files, &mut stats.cpu);
    }
    v1::cpuset(files, &mut stats.cpuset);
    if files.is_v1("memory") {
        v1::memory(files, &mut stats.memory)
    } else {
        v2::memory(files, &mut stats.memory)
    }
    if files.is_v1("blkio") {
        v1::blkio(files, &mut stats.blkio)
    } else {
        v2::blkio(files, &mut stats.blkio)
    }
    for size in files.huge_page_sizes() {
        stats.hugetlb.insert(size.clone(), files.huge_pages(size));
    }
    stats.intel_rdt = resctrl::read(&files.resctrl);
    stats
}

/// What tells that the kernel ran out of memory for the container: how often it has killed, and whether it cannot, as
/// v1 lets one ask for.
pub fn oom(files: &Files) -> (u64, bool) {
    let file = if files.is_v1("memory") { "memory.oom_control" } else { "memory.events" };
    let values = files.pairs("memory", file);
    (values.get("oom_kill").copied().unwrap_or(0), values.get("under_oom") == Some(&1))
}
