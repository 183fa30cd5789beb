//! The resctrl groups of the host (the kernel's Documentation/arch/x86/resctrl.rst).
use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::cgroup_facts::unescape;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResctrlFacts {
    /// Where the filesystem is mounted.
    pub mount: String,
    /// The processor counts what groups use.
    pub monitors: bool,
    /// What the `schemata` of each class of service says, by its name; that of the first one is empty.
    pub groups: BTreeMap<String, String>,
}

impl ResctrlFacts {
    /// Asks the machine, which knows the filesystem type only where the processor has something to control.
    pub fn gather(filesystems: &[String]) -> Option<Self> {
        if !filesystems.iter().any(|known| known == "resctrl") {
            return None;
        }
        let mount = mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)?;
        let mut groups = BTreeMap::new();
        let mut note = |name: String, directory: &str| {
            // Directories that are no groups have no such file.
            if let Ok(schemata) = fs::read_to_string(format!("{directory}/schemata")) {
                groups.insert(name, schemata);
            }
        };
        note(String::new(), &mount);
        for entry in fs::read_dir(&mount).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            note(name.clone(), &format!("{mount}/{name}"));
        }
        let monitors = fs::metadata(format!("{mount}/info/L3_MON")).is_ok();
        Some(Self { mount, monitors, groups })
    }
}

/// Of the first one that is mounted, as runc takes it (proc_pid_mountinfo(5)).
fn mount_point(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (place, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("resctrl ").then(|| place.split(' ').nth(4).map(unescape)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::mount_point;

    #[test]
    fn where_it_is_mounted() {
        let other = "24 1 0:22 / /sys rw shared:2 - sysfs resctrl rw\n";
        let its = "40 24 0:35 / /sys/fs/re\\040sctrl rw shared:9 - resctrl resctrl rw,cdp\n";
        assert_eq!(mount_point(&format!("{other}{its}")).as_deref(), Some("/sys/fs/re sctrl"));
        assert_eq!(mount_point(other), None);
    }
}
