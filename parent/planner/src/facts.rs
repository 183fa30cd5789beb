//! What the planner may know of the host. Gathered before privileges are dropped; one value, so that a plan can be
//! made on one machine for another, and tested without either.
use crate::prelude::*;
use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::IdMapping;
use crate::seccomp::Arch;

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

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupFacts {
    /// cgroup v2 alone, mounted at /sys/fs/cgroup. Hierarchies of v1 may exist; they are out of sight then.
    pub unified: bool,
    /// In the order of /proc/self/cgroup.
    pub hierarchies: Vec<Hierarchy>,
    /// Controllers that cgroup v2 has at the top.
    pub controllers: Vec<String>,
    /// Where systemd's manager has its units, below the mount point of cgroup v2; `None` for one that the caller is
    /// outside of.
    pub units: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hierarchy {
    /// Controllers of a v1 hierarchy ("cpu,cpuacct", "name=systemd"); empty for cgroup v2.
    pub controllers: String,
    /// Where it is mounted, if it is.
    pub mount: Option<String>,
    /// The caller's own cgroup, below the mount point.
    pub own: String,
    pub reach: Delegation,
}

/// Where a caller may make cgroups and move processes to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Delegation {
    /// The machine's root: anywhere.
    #[default]
    Everywhere,
    /// Below this one, which was delegated to it, and which it is in.
    Below(String),
    Nowhere,
}

impl CgroupFacts {
    pub fn v1(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter().filter(|hierarchy| !hierarchy.controllers.is_empty())
    }

    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.is_empty())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResctrlFacts {
    /// Where the filesystem is mounted.
    pub mount: String,
    /// The processor counts what groups use.
    pub monitors: bool,
    /// What the kernel rounds bandwidths up to, in percent; 0 where it takes them as they are.
    pub bandwidth_step: u64,
    /// What the `schemata` of each class of service says, by its name; that of the first one is empty.
    pub groups: BTreeMap<String, String>,
}

/// A list of ranges: `container_id` is what rspawn-setup calls an id, `host_id` what the caller calls it.
pub type Ranges = Vec<IdMapping>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ids {
    pub uids: Ranges,
    pub gids: Ranges,
    /// rspawn-setup gets a user namespace of its own, in which these are all the ids there are.
    pub rootless: bool,
    /// rspawn is in the machine's own user namespace.
    pub initial: bool,
    /// Supplementary groups can be set (user_namespaces(7), /proc/PID/setgroups).
    pub setgroups: bool,
    /// Why the caller has no ids but its own.
    pub alone_because: Option<String>,
}

impl Default for Ids {
    /// Those of the machine's root.
    fn default() -> Self {
        let all = vec![IdMapping { container_id: 0, host_id: 0, size: u32::MAX }];
        Self { uids: all.clone(), gids: all, rootless: false, initial: true, setgroups: true, alone_because: None }
    }
}

impl Ids {
    /// Mappings of every id to itself, as the caller calls them on the outside.
    pub fn everything(&self) -> (Ranges, Ranges) {
        (self.uids.clone(), self.gids.clone())
    }
}

/// A manager of units (systemd(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manager {
    /// The machine's.
    System,
    /// That of the caller's session.
    User,
}

/// What is said where systemd was asked for and is not there.
pub const MISSING: &str = "systemd does not run this machine (there is no /run/systemd/system), so it cannot make a \
                           scope: use the cgroupfs manager";

/// The layers of an overlay below a scratch directory.
pub fn layers(path: &str) -> (String, String) {
    (format!("{path}/upper"), format!("{path}/work"))
}
