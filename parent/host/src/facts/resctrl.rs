//! The resctrl groups of the host (the kernel's Documentation/arch/x86/resctrl.rst).
use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::mountinfo::unescape;
use rspawn_planner::facts::ResctrlFacts;

/// Asks the machine, which knows the filesystem type only where the processor has something to control.
pub(super) fn gather(filesystems: &[String]) -> Result<Option<ResctrlFacts>, String> {
    if !filesystems.iter().any(|known| known == "resctrl") {
        return Ok(None);
    }
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(MOUNTS).map_err(|error| format!("cannot read {MOUNTS}: {error}"))?;
    let Some((mount, options)) = mount_point(&mounts) else { return Ok(None) };
    let mut groups = BTreeMap::new();
    let mut note = |name: String, directory: &str| {
        // Directories that are no groups have no such file.
        let schemata = if_there(&format!("{directory}/schemata"))?;
        groups.extend(schemata.map(|schemata| (name, schemata)));
        Ok::<(), String>(())
    };
    note(String::new(), &mount)?;
    let say = |error: io::Error| format!("cannot list {mount}: {error}");
    for entry in fs::read_dir(&mount).map_err(say)? {
        let name = entry.map_err(say)?.file_name().to_string_lossy().into_owned();
        note(name.clone(), &format!("{mount}/{name}"))?;
    }
    let monitors = fs::exists(format!("{mount}/info/L3_MON")).map_err(say)?;
    let step = if_there(&format!("{mount}/info/MB/bandwidth_gran"))?.unwrap_or_default();
    // In megabytes, bandwidths are aims and no steps of the processor's.
    let in_steps = !options.split(',').any(|option| option == "mba_MBps");
    let bandwidth_step = step.trim().parse().ok().filter(|_| in_steps).unwrap_or(0);
    Ok(Some(ResctrlFacts { mount, monitors, bandwidth_step, groups }))
}

/// The text of a file, if it is there.
fn if_there(path: &str) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        read => read.map(Some).map_err(|error| format!("cannot read {path}: {error}")),
    }
}

/// Place and options of the first one that is mounted, as runc takes it (proc_pid_mountinfo(5)).
fn mount_point(mountinfo: &str) -> Option<(String, String)> {
    mountinfo.lines().find_map(|line| {
        let (place, filesystem) = line.split_once(" - ")?;
        let options = filesystem.strip_prefix("resctrl ")?.split(' ').nth(1)?;
        Some((place.split(' ').nth(4).map(unescape)?, options.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::mount_point;

    #[test]
    fn where_it_is_mounted() {
        let other = "24 1 0:22 / /sys rw shared:2 - sysfs resctrl rw\n";
        let its = "40 24 0:35 / /sys/fs/re\\040sctrl rw shared:9 - resctrl resctrl rw,cdp\n";
        let found = mount_point(&format!("{other}{its}")).unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str()), ("/sys/fs/re sctrl", "rw,cdp"));
        assert_eq!(mount_point(other), None);
    }
}
