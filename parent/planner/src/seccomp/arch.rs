//! Architectures and their call numbers.
//!
//! The kernel says in `seccomp_data.arch` which ABI a call came through, as an
//! `AUDIT_ARCH_*` value (seccomp(2)). x32 shares x86_64's value and sets bit 30
//! of the number, so the two share one section of the program.

use super::{syscalls_aarch64, syscalls_arm, syscalls_riscv64, syscalls_x32, syscalls_x86, syscalls_x86_64};
use crate::prelude::*;

/// `__X32_SYSCALL_BIT`.
pub const X32_BIT: u32 = 0x4000_0000;

/// An ABI this compiler has a number table for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

/// OCI names without a table here: no machine this program runs on can make
/// calls through them, so a rule for them can never match.
const FOREIGN_ARCHES: &[&str] = &[
    "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Calls that exist only on architectures without a table here. Naming them is
/// not a mistake, so they deserve no warning.
const FOREIGN_CALLS: &[&str] = &[
    "cachectl", "multiplexer", "rtas", "s390_guarded_storage", "s390_pci_mmio_read", "s390_pci_mmio_write",
    "s390_runtime_instr", "s390_sthyi", "spu_create", "spu_run", "subpage_prot", "swapcontext", "switch_endian",
    "sync_file_range2", "sys_debug_setcontext", "syscall", "sysmips", "timerfd",
];

/// What i386 calls through `socketcall(2)` (number 102), by its first argument
/// (`include/uapi/linux/net.h`), and through `ipc(2)` (number 117,
/// `include/uapi/linux/ipc.h`). Sorted by name.
const I386_MULTIPLEXED: &[(&str, u32, u32)] = &[
    ("accept", 102, 5),
    ("accept4", 102, 18),
    ("bind", 102, 2),
    ("connect", 102, 3),
    ("getpeername", 102, 7),
    ("getsockname", 102, 6),
    ("getsockopt", 102, 15),
    ("listen", 102, 4),
    ("msgctl", 117, 14),
    ("msgget", 117, 13),
    ("msgrcv", 117, 12),
    ("msgsnd", 117, 11),
    ("recv", 102, 10),
    ("recvfrom", 102, 12),
    ("recvmmsg", 102, 19),
    ("recvmsg", 102, 17),
    ("semctl", 117, 3),
    ("semget", 117, 2),
    ("semop", 117, 1),
    ("semtimedop", 117, 4),
    ("send", 102, 9),
    ("sendmmsg", 102, 20),
    ("sendmsg", 102, 16),
    ("sendto", 102, 11),
    ("setsockopt", 102, 14),
    ("shmat", 117, 21),
    ("shmctl", 117, 24),
    ("shmdt", 117, 22),
    ("shmget", 117, 23),
    ("shutdown", 102, 13),
    ("socket", 102, 1),
    ("socketpair", 102, 8),
];

impl Arch {
    pub const ALL: [Self; 6] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm, Self::Riscv64];

    /// The architecture this program was built for.
    pub const fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
            Some(Self::X32)
        } else if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "arm") {
            Some(Self::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Self::Riscv64)
        } else {
            None
        }
    }

    /// The name used in `linux.seccomp.architectures`.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    pub fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.oci_name() == name)
    }

    /// `AUDIT_ARCH_*` of `include/uapi/linux/audit.h`.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether arguments are compared as 64 bits. x32 pointers and longs have
    /// 32 bits, and libseccomp compares only those.
    pub const fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64 | Self::Riscv64)
    }

    fn table(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::X86_64 => syscalls_x86_64::TABLE,
            Self::X86 => syscalls_x86::TABLE,
            Self::X32 => syscalls_x32::TABLE,
            Self::Aarch64 => syscalls_aarch64::TABLE,
            Self::Arm => syscalls_arm::TABLE,
            Self::Riscv64 => syscalls_riscv64::TABLE,
        }
    }

    /// The number of a call that has one of its own.
    pub fn number(self, name: &str) -> Option<u32> {
        let table = self.table();
        let at = table.binary_search_by(|(entry, _)| (*entry).cmp(name));
        at.ok().and_then(|at| table.get(at)).map(|(_, nr)| *nr)
    }

    /// The multiplexer's number and the call's code in its first argument.
    pub fn multiplexed(self, name: &str) -> Option<(u32, u32)> {
        if self != Self::X86 {
            return None;
        }
        let at = I386_MULTIPLEXED.binary_search_by(|(entry, ..)| (*entry).cmp(name));
        let entry = at.ok().and_then(|at| I386_MULTIPLEXED.get(at));
        entry.map(|(_, nr, code)| (*nr, *code))
    }
}

/// Whether any architecture has a call of this name.
pub fn is_known_call(name: &str) -> bool {
    Arch::ALL.into_iter().any(|arch| arch.number(name).is_some())
        || Arch::X86.multiplexed(name).is_some()
        || FOREIGN_CALLS.binary_search(&name).is_ok()
}

/// The name of every call of every architecture, some more than once.
pub fn known_calls() -> impl Iterator<Item = &'static str> {
    let numbered = Arch::ALL.into_iter().flat_map(|arch| arch.table().iter().map(|(name, _)| *name));
    numbered.chain(I386_MULTIPLEXED.iter().map(|(name, ..)| *name)).chain(FOREIGN_CALLS.iter().copied())
}

/// Whether the spec knows the name though this compiler has no table for it.
pub fn is_foreign_arch(name: &str) -> bool {
    FOREIGN_ARCHES.binary_search(&name).is_ok()
}

/// Every architecture name of the spec, for suggestions.
pub fn oci_names() -> Vec<&'static str> {
    let own = Arch::ALL.into_iter().map(Arch::oci_name);
    own.chain(FOREIGN_ARCHES.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_for_binary_search() {
        for arch in Arch::ALL {
            assert!(arch.table().is_sorted_by(|a, b| a.0 < b.0), "{arch:?}");
        }
        assert!(I386_MULTIPLEXED.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FOREIGN_ARCHES.is_sorted());
        assert!(FOREIGN_CALLS.is_sorted());
    }

    #[test]
    fn well_known_numbers() {
        assert_eq!(Arch::X86_64.number("read"), Some(0));
        assert_eq!(Arch::X86.number("openat"), Some(295));
        assert_eq!(Arch::X32.number("execve"), Some(X32_BIT | 520));
        assert_eq!(Arch::Aarch64.number("openat"), Some(56));
        assert_eq!(Arch::Aarch64.number("open"), None);
        assert_eq!(Arch::Arm.number("set_tls"), Some(0xf0005));
        for arch in Arch::ALL {
            let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
            assert_eq!(arch.number("file_setattr"), Some(469 | bit));
            assert_eq!(arch.number("mseal"), Some(462 | bit));
        }
    }
}
