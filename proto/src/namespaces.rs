//! The eight kinds of Linux namespace, and sets of them.
use bincode::{Decode, Encode};

/// A kind of namespace; the order is that of [`Namespace::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Namespace {
    /// Every kind. User comes first: joining it first is what gives the rights to join the rest.
    pub const ALL: [Namespace; 8] = [
        Namespace::User,
        Namespace::Mount,
        Namespace::Pid,
        Namespace::Network,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Cgroup,
        Namespace::Time,
    ];

    /// The CLONE_NEW* flag, as clone(2), setns(2) and NS_GET_NSTYPE (ioctl_ns(2)) use it.
    pub fn clone_flag(self) -> u64 {
        TABLE[self as usize].0
    }

    /// The name that config.json uses (runtime-spec, config-linux.md, "Namespaces").
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Flag and name of each kind, in the order of the enum.
const TABLE: [(u64, &str); 8] = [
    (0x1000_0000, "user"),
    (0x0002_0000, "mount"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
    (0x0800_0000, "ipc"),
    (0x0400_0000, "uts"),
    (0x0200_0000, "cgroup"),
    (0x0000_0080, "time"),
];

/// A set of namespace kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct NamespaceSet(u8);

impl NamespaceSet {
    pub fn insert(&mut self, kind: Namespace) {
        self.0 |= 1 << kind as u8;
    }

    pub fn remove(&mut self, kind: Namespace) {
        self.0 &= !(1 << kind as u8);
    }

    pub fn contains(self, kind: Namespace) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Namespace> {
        Namespace::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The CLONE_NEW* flags of all members.
    pub fn clone_flags(self) -> u64 {
        self.iter().map(Namespace::clone_flag).fold(0, |all, flag| all | flag)
    }
}

impl FromIterator<Namespace> for NamespaceSet {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        let mut set = Self::default();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}
