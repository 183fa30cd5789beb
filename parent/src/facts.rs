//! What the planner may know of the host. Gathered before privileges are dropped; one value, so that a plan can be
//! made on one machine for another, and tested without either.
use std::fs;
use std::io;

use nix::unistd::{getgid, getuid};
use serde::{Deserialize, Serialize};

pub use crate::cgroup_facts::{CgroupFacts, Hierarchy, Reach};
use crate::ids::Ids;
use crate::plan::seccomp::Arch;
pub use crate::resctrl_facts::ResctrlFacts;
use crate::systemd::{self, Manager};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Kernel release: major, minor.
    pub kernel: (u32, u32),
    /// `uname -m`.
    pub machine: String,
    pub uid: u32,
    pub gid: u32,
    pub ids: Ids,
    /// The caller's permitted capabilities, as bits: what a container can be given at most.
    pub capabilities: u64,
    pub apparmor: bool,
    pub selinux: bool,
    pub cgroup: CgroupFacts,
    /// Who would make a scope for the caller. `None` where systemd does not run.
    pub systemd: Option<Manager>,
    /// `None` where no resctrl filesystem is mounted.
    pub resctrl: Option<ResctrlFacts>,
    /// Kinds of namespaces that the kernel has, as /proc/PID/ns calls them. Empty if it could not be asked.
    pub namespaces: Vec<String>,
    /// Filesystem types that it has now. Empty if it could not be asked.
    pub filesystems: Vec<String>,
    /// Places of the host's procfs and sysfs are covered by mounts, so that no user namespace gets new ones.
    pub covered_proc: bool,
    pub covered_sysfs: bool,
}

/// Oldest kernel that has every call which the privileged stages make: mount_setattr with recursion, idmapped mounts,
/// clone3 into a cgroup, close_range with CLOEXEC.
pub const MINIMUM_KERNEL: (u32, u32) = (5, 14);

impl Facts {
    /// Asks the machine.
    pub fn gather() -> Result<Self, String> {
        Self::with(Ids::of_caller()?)
    }

    /// As [`Self::gather`], for a caller whose ids are known. What the machine does not answer is an error: a fact that
    /// is missing would be one more thing that a container is allowed, or one less that keeps it.
    pub fn with(ids: Ids) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
        let (kernel, machine) = kernel_and_machine()?;
        let systemd = systemd::manager(&ids)?;
        let filesystems = filesystems(&read("/proc/filesystems")?);
        let mut cgroup = CgroupFacts::gather(systemd, &filesystems)?;
        // Only where it is certain that the container is no equal of the machine's root.
        let limited = ids.rootless || !ids.initial;
        if limited {
            cgroup.find_reach()?;
        }
        let mounts = if limited { read("/proc/self/mountinfo")? } else { String::new() };
        Ok(Self {
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
            resctrl: ResctrlFacts::gather(&filesystems)?,
            namespaces: names_in("/proc/self/ns")?,
            filesystems,
            covered_proc: limited && is_covered(&mounts, "proc"),
            covered_sysfs: limited && is_covered(&mounts, "sysfs"),
        })
    }

    /// Whether the kernel has a kind of namespace, by its name in config.json.
    pub fn has_namespace(&self, kind: &str) -> bool {
        let name = match kind {
            "network" => "net",
            "mount" => "mnt",
            other => other,
        };
        self.namespaces.is_empty() || self.namespaces.iter().any(|known| known == name)
    }

    /// Whether the kernel has a filesystem type now; of what a module may bring it does not say.
    pub fn has_filesystem(&self, kind: &str) -> bool {
        self.filesystems.is_empty() || self.filesystems.iter().any(|known| known == kind)
    }

    pub fn arch(&self) -> Option<Arch> {
        Some(match self.machine.as_str() {
            "x86_64" => Arch::X86_64,
            "i686" | "i586" | "i386" => Arch::X86,
            "aarch64" => Arch::Aarch64,
            "armv7l" => Arch::Arm,
            "riscv64" => Arch::Riscv64,
            _ => return None,
        })
    }
}

/// Where filesystems of some kinds are mounted, in the order of proc_pid_mountinfo(5).
pub fn mount_points<'a>(mounts: &'a str, kinds: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    mounts.lines().filter_map(|line| {
        let (fields, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        kinds.contains(&kind).then(|| crate::cgroup_facts::unescape(fields.split(' ').nth(4).unwrap_or_default()))
    })
}

/// mount_too_revealing() of the kernel: whether every whole mount of a filesystem has another on something of it that
/// is more than an empty directory for mounts (proc_pid_mountinfo(5)).
fn is_covered(mounts: &str, kind: &str) -> bool {
    /// Directories that the kernel made for mounts alone.
    const EMPTY: [&str; 11] = [
        "proc/sys/fs/binfmt_misc", "sys/fs/cgroup", "sys/fs/bpf", "sys/fs/pstore", "sys/fs/selinux",
        "sys/fs/fuse/connections", "sys/firmware/efi/efivars", "sys/kernel/config", "sys/kernel/debug",
        "sys/kernel/tracing", "sys/kernel/security",
    ];
    let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let field = |line: &[&str], index: usize| line.get(index).map_or(String::new(), |field| field.to_string());
    let is_whole = |line: &&Vec<&str>| {
        let kind_at = line.iter().position(|field| *field == "-").map_or(0, |dash| dash + 1);
        line.get(kind_at) == Some(&kind) && line.get(3) == Some(&"/")
    };
    let covers = |line: &Vec<&str>, id: &str| {
        line.get(1) == Some(&id) && !EMPTY.contains(&field(line, 4).trim_start_matches('/'))
    };
    let whole: Vec<String> = lines.iter().filter(is_whole).map(|line| field(line, 0)).collect();
    whole.iter().all(|id| lines.iter().any(|line| covers(line, id)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_procfs_is_found() {
        let proc = "22 1 0:5 / /proc rw - proc proc rw\n";
        assert!(!is_covered(proc, "proc"));
        assert!(!is_covered(&format!("{proc}23 22 0:9 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n"), "proc"));
        assert!(is_covered(&format!("{proc}23 22 0:9 / /proc/acpi rw - tmpfs none rw\n"), "proc"));
        assert!(is_covered("22 1 0:5 /sys /proc/sys rw - proc proc rw\n", "proc"));
    }
}
