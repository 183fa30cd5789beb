//! What `rspawn check` asks the machine beside [`super::gather`]: by what a start would be refused.
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::mountinfo::unescape;
use rspawn_planner::facts::Facts;
use rspawn_planner::sections::number_list::bit_mask;
use rspawn_planner::start_facts::StartFacts;

/// Numbers of CPUs and memory nodes that a list may have.
const MOST_NUMBERS: usize = 1 << 16;

/// Asks the machine. What this kernel was built without, it does not know, and that is no error.
pub fn gather(facts: &Facts) -> Result<StartFacts, String> {
    let cpus = |name: &str| mask_in(&format!("/sys/devices/system/cpu/{name}"));
    let real_time_groups = facts.cgroup.v1().filter(|hierarchy| hierarchy.controllers.split(',').any(|c| c == "cpu"));
    let real_time_groups =
        real_time_groups.filter_map(|hierarchy| Some(format!("{}/cpu.rt_runtime_us", hierarchy.mount.as_ref()?)));
    Ok(StartFacts {
        rlimits: limits(&text("/proc/self/limits")?),
        most_files: number_in("/proc/sys/fs/nr_open")?,
        oom_score: number_in("/proc/self/oom_score_adj")?,
        nice: number("/proc/self/stat", nice(&text("/proc/self/stat")?))?,
        online_cpus: cpus("online")?,
        possible_cpus: cpus("possible")?,
        online_nodes: mask_in("/sys/devices/system/node/online")?,
        mounts: mount_points(&text("/proc/self/mountinfo")?).collect(),
        net_devices: net_devices(&text("/proc/self/net/dev")?).collect(),
        disks: disks()?,
        huge_pages: names_in("/sys/kernel/mm/hugepages")?.iter().filter_map(|name| huge_page(name)).collect(),
        real_time_groups: real_time_groups.map(|file| exists(&file)).collect::<Result<Vec<_>, _>>()?.contains(&true),
        uptime: number("/proc/uptime", text("/proc/uptime")?.split('.').next().unwrap_or_default())?,
        disk_filesystems: disk_filesystems(&text("/proc/filesystems")?),
        loadable_filesystems: loadable_filesystems()?,
        other_formats: names_in("/proc/sys/fs/binfmt_misc")?.iter().any(|name| !is_of_binfmt(name)),
    })
}

/// The nice value of proc_pid_stat(5), field 19. The name of the program, in parentheses, may hold anything.
fn nice(stat: &str) -> &str {
    stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(16)).unwrap_or_default()
}

/// The text of a file; nothing if there is none that the invoker may read: then nothing is judged by it.
fn text(path: &str) -> Result<String, String> {
    match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(String::new())
        }
        read => read.map_err(|error| format!("cannot read {path}: {error}")),
    }
}

/// Whether there is a file that the invoker can see.
fn exists(path: &str) -> Result<bool, String> {
    match fs::exists(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        found => found.map_err(|error| format!("cannot look for {path}: {error}")),
    }
}

/// A number that a file has; zero where it could not be asked.
fn number<T: FromStr + Default>(path: &str, word: &str) -> Result<T, String> {
    if word.is_empty() {
        return Ok(T::default());
    }
    word.parse().map_err(|_| format!("cannot understand {path}: {word:?} is no number"))
}

fn number_in<T: FromStr + Default>(path: &str) -> Result<T, String> {
    number(path, text(path)?.trim())
}

fn mask_in(path: &str) -> Result<Vec<u64>, String> {
    // Of an empty list there is an empty mask.
    bit_mask(text(path)?.trim(), MOST_NUMBERS)
        .ok_or_else(|| format!("cannot understand {path}: it is no list of numbers"))
}

/// proc_pid_mountinfo(5)
fn mount_points(mounts: &str) -> impl Iterator<Item = String> + '_ {
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

/// The names in a directory; none if there is no such directory.
fn names_in(path: &str) -> Result<Vec<String>, String> {
    if exists(path)? { super::names_in(path) } else { Ok(Vec::new()) }
}

/// The table of proc_pid_limits(5), which is in the order of the RLIMIT_* numbers.
fn limits(table: &str) -> Vec<(u64, u64)> {
    // The names of limits have spaces, their numbers begin at a column that the heading gives.
    let start = table.lines().next().and_then(|heading| heading.find("Soft Limit"));
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let pair = |line: &str| {
        let mut words = line.get(start?..)?.split_whitespace();
        Some((number(words.next()?)?, number(words.next()?)?))
    };
    table.lines().skip(1).map_while(pair).collect()
}

/// `hugepages-2048kB`
fn huge_page(name: &str) -> Option<u64> {
    name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// proc_pid_net(5). A sysfs may be that of another network namespace.
fn net_devices(table: &str) -> impl Iterator<Item = String> + '_ {
    table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_string())
}

/// Disks without their partitions, which have no I/O of their own to limit.
fn disks() -> Result<Vec<String>, String> {
    const PLACE: &str = "/sys/dev/block";
    let mut found = Vec::new();
    for name in names_in(PLACE)? {
        if !exists(&format!("{PLACE}/{name}/partition"))? {
            found.push(name);
        }
    }
    Ok(found)
}

/// Those of /proc/filesystems that are not marked `nodev`.
fn disk_filesystems(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| line.strip_prefix('\t')).map(str::to_string).collect()
}

/// What the module loader would find by the name `fs-TYPE`, by which the kernel asks for it.
fn loadable_filesystems() -> Result<Option<Vec<String>>, String> {
    let loader = text("/proc/sys/kernel/modprobe")?;
    let loader = loader.trim();
    if loader.is_empty() || !Path::new(loader).exists() {
        return Ok(Some(Vec::new()));
    }
    let release = text("/proc/sys/kernel/osrelease")?;
    let aliases = format!("/lib/modules/{}/modules.alias", release.trim());
    // Who has a loader and no list of modules may have another way to find them.
    if !exists(&aliases)? {
        return Ok(None);
    }
    let name = |line: &str| line.strip_prefix("alias fs-")?.split(' ').next().map(str::to_string);
    Ok(Some(text(&aliases)?.lines().filter_map(name).collect()))
}

/// Files of binfmt_misc's own, which stand for no format.
fn is_of_binfmt(name: &str) -> bool {
    matches!(name, "register" | "status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_their_column() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max cpu time              unlimited            unlimited            seconds   \n\
                     Max open files            1024                 20000                files     \n";
        assert_eq!(limits(table), [(u64::MAX, u64::MAX), (1024, 20000)]);
        assert_eq!(limits(""), []);
    }

    #[test]
    fn names_of_the_kernel_are_read() {
        assert_eq!(huge_page("hugepages-2048kB"), Some(2048));
        assert_eq!(disk_filesystems("nodev\tproc\n\text4\nnodev\ttmpfs\n"), ["ext4"]);
    }
}
