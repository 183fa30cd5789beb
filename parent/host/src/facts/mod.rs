//! Asks the machine for what the planner may know of it.
pub mod cgroups;
pub mod ids;
mod mountinfo;
mod resctrl;
pub mod start;
pub mod systemd;

use std::fs;
use std::io;

use nix::unistd::{getgid, getuid};

pub use mountinfo::mount_points;

use mountinfo::is_covered;
use rspawn_planner::facts::{Facts, Ids};

/// Asks the machine.
pub fn gather() -> Result<Facts, String> {
    gather_for(ids::of_caller()?)
}

/// As [`gather`], for a caller whose ids are known. What the machine does not answer is an error: a fact that
/// is missing would be one more thing that a container is allowed, or one less that keeps it.
pub fn gather_for(ids: Ids) -> Result<Facts, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    let (kernel, machine) = kernel_and_machine()?;
    let systemd = systemd::manager(&ids)?;
    let filesystems = filesystems(&read("/proc/filesystems")?);
    let mut cgroup = cgroups::gather(systemd, &filesystems)?;
    // Only where it is certain that the container is no equal of the machine's root.
    let limited = ids.rootless || !ids.initial;
    if limited {
        cgroups::find_reach(&mut cgroup)?;
    }
    let mounts = if limited { read("/proc/self/mountinfo")? } else { String::new() };
    Ok(Facts {
        kernel,
        machine,
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
        ids,
        capabilities: permitted_capabilities()?,
        apparmor: has_apparmor()?,
        selinux: has_selinux()?,
        cgroup,
        systemd,
        resctrl: resctrl::gather(&filesystems)?,
        namespaces: names_in("/proc/self/ns")?,
        filesystems,
        covered_proc: limited && is_covered(&mounts, "proc"),
        covered_sysfs: limited && is_covered(&mounts, "sysfs"),
    })
}

/// Whether the kernel enforces AppArmor profiles.
pub fn has_apparmor() -> Result<bool, String> {
    const FILE: &str = "/sys/module/apparmor/parameters/enabled";
    match fs::read_to_string(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        read => read.map(|text| text.starts_with('Y')).map_err(|error| format!("cannot read {FILE}: {error}")),
    }
}

/// Whether the kernel has SELinux labels.
pub fn has_selinux() -> Result<bool, String> {
    const FILE: &str = "/sys/fs/selinux/enforce";
    fs::exists(FILE).map_err(|error| format!("cannot look for {FILE}: {error}"))
}

fn kernel_and_machine() -> Result<((u32, u32), String), String> {
    let name = nix::sys::utsname::uname().map_err(|error| format!("uname: {error}"))?;
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok((kernel, name.machine().to_string_lossy().into_owned()))
}

fn names_in(directory: &str) -> Result<Vec<String>, String> {
    let names = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    });
    names.map_err(|error: io::Error| format!("cannot list {directory}: {error}"))
}

/// The last column of /proc/filesystems.
fn filesystems(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_string).collect()
}

fn permitted_capabilities() -> Result<u64, String> {
    let permitted = caps::read(None, caps::CapSet::Permitted)
        .map_err(|error| format!("cannot read the capabilities of this process: {error}"))?;
    Ok(permitted.iter().fold(0, |bits, capability| bits | capability.bitmask()))
}
