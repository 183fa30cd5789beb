//! What `rspawn check` may know of the host beside [`crate::facts`]: what a start would be refused by. A start itself
//! asks for none of it, since the kernel tells it.
use crate::prelude::*;

/// Gathered before privileges are dropped. Where a list is empty or a number zero, it could not be asked, and nothing is
/// judged by it.
#[derive(Debug, Clone, Default)]
pub struct StartFacts {
    /// The invoker's soft and hard limits, by RLIMIT_* number; `u64::MAX` is no limit.
    pub rlimits: Vec<(u64, u64)>,
    /// Most files that any process may have open: /proc/sys/fs/nr_open.
    pub most_files: u64,
    /// The invoker's own /proc/self/oom_score_adj.
    pub oom_score: i32,
    /// The invoker's own, -20 to 19.
    pub nice: i32,
    /// Masks of 64 a word.
    pub online_cpus: Vec<u64>,
    pub possible_cpus: Vec<u64>,
    pub online_nodes: Vec<u64>,
    /// Where something is mounted, in the invoker's mount namespace.
    pub mounts: Vec<String>,
    /// Of the invoker's network namespace.
    pub net_devices: Vec<String>,
    /// Whole disks that there are, `MAJOR:MINOR`.
    pub disks: Vec<String>,
    /// Sizes of huge pages, in KiB.
    pub huge_pages: Vec<u64>,
    /// Real-time processes need a budget of their cgroup of v1.
    pub real_time_groups: bool,
    /// Seconds since the machine started.
    pub uptime: i64,
    /// Filesystem types that lie on a disk.
    pub disk_filesystems: Vec<String>,
    /// Filesystem types that a module may bring; `None` where that is not known.
    pub loadable_filesystems: Option<Vec<String>>,
    /// Programs of other formats than the kernel's own may run (binfmt_misc).
    pub other_formats: bool,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    File,
    Link,
    CharacterDevice,
    BlockDevice,
    Socket,
    Other,
}

/// An entry of a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// What a link says; of what a path of the host leads to, where that is.
    pub target: Option<String>,
}

/// What execve(2) reads at the beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub format: Format,
    /// The program of its `#!` line, or its dynamic loader.
    pub interpreter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ELF, for a machine by EM_* number (elf(5)).
    Elf(u16),
    Script,
    Other,
}

/// What a file of /proc/sys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    pub is_directory: bool,
    pub writable: bool,
    /// All that it says are numbers.
    pub numeric: bool,
}

/// A namespace that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceSeen {
    /// Its CLONE_NEW* flag.
    pub flag: u64,
    /// The invoker is in it.
    pub own: bool,
}

/// An answer, or the errno of looking.
pub type Seen<T> = core::result::Result<T, i32>;

/// Questions about files of the host that come up while a plan is judged. The error of the outer result is that nobody
/// answers.
pub trait Look {
    /// What a path below a directory is. Links on the way are followed within the directory; at the end, none.
    fn entry(&self, root: &str, path: &str) -> Result<Seen<Entry>, String>;
    /// What a path of the host leads to.
    fn leads_to(&self, path: &str) -> Result<Seen<Entry>, String>;
    /// The program in a file below a directory.
    fn program(&self, root: &str, path: &str) -> Result<Seen<Program>, String>;
    /// The namespace at a path; `None` if it is no namespace.
    fn namespace(&self, path: &str) -> Result<Seen<Option<NamespaceSeen>>, String>;
    /// Whether processes are in a cgroup, by its path on the host.
    fn is_populated(&self, cgroup: &str) -> Result<Seen<bool>, String>;
    /// A file of /proc/sys, by its path below that.
    fn sysctl(&self, path: &str) -> Result<Seen<Sysctl>, String>;
}
