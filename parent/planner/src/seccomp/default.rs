//! Our own profile, for `rspawn run --host` and for bundles that ask for one.
//!
//! An allow-list: what a program needs that has no power over the host. Left
//! out, and so answered EPERM, is what reaches beyond the container or has a
//! record of kernel holes without being in common use. What a capability
//! governs is allowed with that capability, because without it the kernel
//! refuses most of it anyway and the rest is attack surface. Calls newer than
//! the newest one named here return ENOSYS ([`super`], "Calls newer than the
//! profile"), so that libc falls back.

use super::arch::Arch;
use crate::oci::seccomp::{ArgRule, Seccomp, SyscallRule};
use crate::prelude::*;

/// Calls allowed with any of `caps`; always when there are none.
struct Group {
    caps: &'static [&'static str],
    /// Separated by blanks.
    names: &'static str,
}

const fn always(names: &'static str) -> Group {
    Group { caps: &[], names }
}

const GROUPS: &[Group] = &[
    // Files, by path and by descriptor.
    always(
        "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
         faccessat faccessat2 fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod \
         fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat \
         fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd \
         getdents getdents64 ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 \
         mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 \
         preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
         rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 \
         statx symlink symlinkat sync sync_file_range arm_sync_file_range syncfs tee truncate \
         truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice \
         write writev",
    ),
    // Extended attributes and inode flags.
    always(
        "fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr getxattr \
         getxattrat lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr \
         removexattr removexattrat setxattr setxattrat",
    ),
    // Waiting for files and events.
    always(
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
         epoll_wait_old eventfd eventfd2 inotify_add_watch inotify_init inotify_init1 \
         inotify_rm_watch _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 \
         pselect6_time64 select signalfd signalfd4",
    ),
    // POSIX and kernel aio. Not io_uring: its operations bypass this filter.
    always(
        "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
         io_submit",
    ),
    // Memory. Not userfaultfd, which makes kernel races easy to win.
    always(
        "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore \
         mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap \
         pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    ),
    // Processes, threads and their limits.
    always(
        "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait \
         futex_waitv futex_wake get_robust_list get_thread_area getcpu getpgid getpgrp getpid \
         getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kill \
         pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq \
         sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
         sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
         sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
         set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid \
         tgkill tkill ugetrlimit uretprobe vfork wait4 waitid waitpid",
    ),
    // Debugging one's own processes. Since Linux 4.8 a tracer cannot change a
    // call after the filter has seen it; whom to trace the kernel decides.
    always("process_vm_readv process_vm_writev ptrace"),
    // Signals.
    always(
        "alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
         rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction \
         sigaltstack signal sigpending sigprocmask sigreturn sigsuspend",
    ),
    // Identity. The kernel checks the capabilities of those that change it.
    always(
        "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
         getgroups32 getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid \
         setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid \
         setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid \
         setuid32",
    ),
    // Clocks and timers. The kernel lets adjtimex only ask without CAP_SYS_TIME.
    always(
        "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
         clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday \
         nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime \
         timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
         timerfd_gettime64 timerfd_settime timerfd_settime64 times",
    ),
    // Sockets already open; `socket` itself follows below. i386's socketcall
    // is not named, so that it is allowed call by call.
    always(
        "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom \
         recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown \
         socketpair",
    ),
    // System V and POSIX IPC, bounded by the IPC namespace.
    always(
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
         mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop \
         semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    ),
    // Sandboxes a program makes for itself, and questions.
    always(
        "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self \
         lsm_get_self_attr lsm_list_modules seccomp sysinfo uname",
    ),
    // What single architectures add.
    always(
        "arch_prctl breakpoint cacheflush modify_ldt riscv_flush_icache riscv_hwprobe set_tls \
         get_tls",
    ),
    Group {
        caps: &["CAP_SYS_ADMIN"],
        names: "clone3 fanotify_init fanotify_mark fsconfig fsmount fsopen fspick listmount \
         lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr pivot_root \
         quotactl quotactl_fd setdomainname sethostname setns statmount swapoff swapon umount \
         umount2 unshare",
    },
    Group { caps: &["CAP_SYS_ADMIN", "CAP_BPF"], names: "bpf" },
    Group { caps: &["CAP_SYS_ADMIN", "CAP_PERFMON"], names: "perf_event_open" },
    Group { caps: &["CAP_SYS_ADMIN", "CAP_SYSLOG"], names: "syslog" },
    Group { caps: &["CAP_SYS_PTRACE"], names: "kcmp process_madvise" },
    Group {
        caps: &["CAP_SYS_NICE"],
        names: "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    },
    Group { caps: &["CAP_SYS_CHROOT"], names: "chroot" },
    Group { caps: &["CAP_DAC_READ_SEARCH"], names: "open_by_handle_at" },
    Group { caps: &["CAP_SYS_MODULE"], names: "delete_module finit_module init_module" },
    Group { caps: &["CAP_SYS_BOOT"], names: "kexec_file_load kexec_load reboot" },
    Group { caps: &["CAP_SYS_PACCT"], names: "acct" },
    Group { caps: &["CAP_SYS_RAWIO"], names: "ioperm iopl" },
    Group { caps: &["CAP_SYS_TIME"], names: "clock_settime clock_settime64 settimeofday stime" },
    Group { caps: &["CAP_SYS_TTY_CONFIG"], names: "vhangup" },
];

/// `CLONE_NEW*` of clone(2), time namespaces excluded: clone has no bit for them.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// personality(2): Linux, Linux with `UNAME26`, 32-bit uname, both, and asking.
const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// UNIX, INET, INET6, PACKET (needs `CAP_NET_RAW`), CAN, BLUETOOTH, XDP. Rare
/// families are where socket code was broken again and again; vsock reaches
/// the hypervisor past the network namespace.
const SOCKET_FAMILIES: &[u64] = &[1, 2, 10, 17, 29, 31, 44];
const AF_NETLINK: u64 = 16;
/// Not namespaced: without the capability even opening it confuses programs.
const NETLINK_AUDIT: u64 = 9;

/// The profile for a process with the capabilities `caps` (`CAP_*`, its
/// bounding set) on a machine of architecture `native`.
pub fn default_profile(caps: &[impl AsRef<str>], native: Arch) -> Seccomp {
    let has = |cap: &str| caps.iter().any(|own| own.as_ref() == cap);
    let mut syscalls: Vec<SyscallRule> = GROUPS
        .iter()
        .filter(|group| group.caps.is_empty() || group.caps.iter().any(|cap| has(cap)))
        .map(|group| allow(group.names, Vec::new()))
        .collect();
    for value in PERSONALITIES {
        syscalls.push(allow("personality", vec![arg(0, "SCMP_CMP_EQ", *value, 0)]));
    }
    for family in SOCKET_FAMILIES {
        syscalls.push(allow("socket", vec![arg(0, "SCMP_CMP_EQ", *family, 0)]));
    }
    let mut netlink = vec![arg(0, "SCMP_CMP_EQ", AF_NETLINK, 0)];
    if !has("CAP_AUDIT_WRITE") && !has("CAP_AUDIT_CONTROL") {
        netlink.push(arg(2, "SCMP_CMP_NE", NETLINK_AUDIT, 0));
    }
    syscalls.push(allow("socket", netlink));
    if has("CAP_SYS_ADMIN") {
        syscalls.push(allow("clone", Vec::new()));
    } else {
        let no_namespaces = arg(0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0);
        syscalls.push(allow("clone", vec![no_namespaces]));
        // Its flags are in memory, out of a filter's sight; ENOSYS makes libc
        // use clone instead.
        syscalls.push(SyscallRule {
            name: String::new(),
            names: vec!["clone3".into()],
            action: "SCMP_ACT_ERRNO".into(),
            errno_ret: Some(38),
            args: Vec::new(),
        });
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(1),
        architectures: arches(native).iter().map(|arch| arch.oci_name().into()).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// The ABIs of a machine. Not x32: hardly a distribution has programs for it.
fn arches(native: Arch) -> &'static [Arch] {
    match native {
        Arch::X86_64 => &[Arch::X86_64, Arch::X86],
        Arch::X86 => &[Arch::X86],
        Arch::X32 => &[Arch::X32, Arch::X86],
        Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
        Arch::Arm => &[Arch::Arm],
        Arch::Riscv64 => &[Arch::Riscv64],
    }
}

fn allow(names: &str, args: Vec<ArgRule>) -> SyscallRule {
    SyscallRule {
        name: String::new(),
        names: names.split_whitespace().map(String::from).collect(),
        action: "SCMP_ACT_ALLOW".into(),
        errno_ret: None,
        args,
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> ArgRule {
    ArgRule { index, value, value_two, op: op.into() }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, compile, eval, ret};
    use super::*;

    fn verdict(caps: &[&str], name: &str, args: [u64; 6]) -> u32 {
        let profile = default_profile(caps, Arch::X86_64);
        let compiled = compile(&profile, Arch::X86_64, &Options::default()).expect("compiles");
        assert_eq!(compiled.warnings, []);
        let data = eval::SeccompData {
            nr: Arch::X86_64.number(name).unwrap_or(u32::from(u16::MAX)),
            arch: Arch::X86_64.audit(),
            instruction_pointer: 0,
            args,
        };
        eval::run(&compiled.program, &data).expect("valid").0
    }

    #[test]
    fn capabilities_open_their_calls() {
        let eperm = ret::ERRNO | 1;
        assert_eq!(verdict(&[], "mount", [0; 6]), eperm);
        assert_eq!(verdict(&["CAP_SYS_ADMIN"], "mount", [0; 6]), ret::ALLOW);
        assert_eq!(verdict(&[], "clone3", [0; 6]), ret::ERRNO_ENOSYS);
        assert_eq!(verdict(&["CAP_SYS_ADMIN"], "clone3", [0; 6]), ret::ALLOW);
        assert_eq!(verdict(&[], "clone", [0x1000_0000; 6]), eperm);
        assert_eq!(verdict(&[], "clone", [0x0120_0011; 6]), ret::ALLOW);
        assert_eq!(verdict(&["CAP_SYS_ADMIN"], "io_uring_setup", [0; 6]), eperm);
        assert_eq!(verdict(&[], "a newer call", [0; 6]), ret::ERRNO_ENOSYS);
    }

    #[test]
    fn sockets_by_family() {
        let eperm = ret::ERRNO | 1;
        assert_eq!(verdict(&[], "socket", [2, 1, 0, 0, 0, 0]), ret::ALLOW);
        assert_eq!(verdict(&[], "socket", [40, 1, 0, 0, 0, 0]), eperm);
        assert_eq!(verdict(&[], "socket", [16, 3, 0, 0, 0, 0]), ret::ALLOW);
        assert_eq!(verdict(&[], "socket", [16, 3, 9, 0, 0, 0]), eperm);
        let audit = ["CAP_AUDIT_WRITE"];
        assert_eq!(verdict(&audit, "socket", [16, 3, 9, 0, 0, 0]), ret::ALLOW);
    }

    #[test]
    fn compiles_everywhere() {
        for native in Arch::ALL {
            let profile = default_profile(&["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"], native);
            compile(&profile, native, &Options::default()).expect("compiles");
        }
    }
}
