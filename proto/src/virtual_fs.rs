//! Filesystems of the kernel that show what a namespace holds.
use bincode::{Decode, Encode};

/// Filesystems whose content is the namespace's own, so that they are made inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum VirtualFs {
    Proc,
    Sysfs,
    Tmpfs,
    Devpts,
    Mqueue,
    Cgroup,
    Cgroup2,
}

impl VirtualFs {
    pub fn name(self) -> &'static str {
        FILESYSTEMS[self as usize].1
    }

    pub fn from_name(name: &str) -> Option<Self> {
        FILESYSTEMS.iter().find(|(_, known)| *known == name).map(|(fs, _)| *fs)
    }

    /// procfs and sysfs are what later steps and the payload trust for truth about the system: their mount points
    /// must not be symlinks of the image (CVE-2019-19921, CVE-2023-27561).
    pub fn refuses_symlinks(self) -> bool {
        matches!(self, VirtualFs::Proc | VirtualFs::Sysfs)
    }
}

/// In the order of the enum.
const FILESYSTEMS: [(VirtualFs, &str); 7] = {
    use VirtualFs::*;
    [
        (Proc, "proc"),
        (Sysfs, "sysfs"),
        (Tmpfs, "tmpfs"),
        (Devpts, "devpts"),
        (Mqueue, "mqueue"),
        (Cgroup, "cgroup"),
        (Cgroup2, "cgroup2"),
    ]
};
