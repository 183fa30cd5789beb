//! System calls of x86-64: their names, the errors that each can return, and how one is kept from doing anything.
#![allow(non_upper_case_globals)]
use libc::*;

macro_rules! names {
    ($($name:ident)*) => { &[$((stringify!($name), $name as u64)),*] };
}

const NAMES: &[(&str, u64)] = names! {
    SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek SYS_mmap SYS_mprotect
    SYS_munmap SYS_brk SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_ioctl SYS_pread64 SYS_pwrite64
    SYS_readv SYS_writev SYS_access SYS_pipe SYS_sched_yield SYS_mremap SYS_madvise SYS_dup SYS_dup2 SYS_nanosleep
    SYS_getpid SYS_sendfile SYS_socket SYS_connect SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_bind SYS_listen
    SYS_socketpair SYS_setsockopt SYS_getsockopt SYS_clone SYS_fork SYS_vfork SYS_execve SYS_exit SYS_wait4 SYS_kill
    SYS_uname SYS_fcntl SYS_flock SYS_fsync SYS_ftruncate SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_rename
    SYS_mkdir SYS_rmdir SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod SYS_fchmod SYS_fchown SYS_umask
    SYS_getrlimit SYS_getuid SYS_getgid SYS_setuid SYS_setgid SYS_geteuid SYS_getegid SYS_setpgid SYS_getppid SYS_setsid
    SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid SYS_capget SYS_capset SYS_rt_sigtimedwait
    SYS_sigaltstack SYS_personality SYS_statfs SYS_fstatfs SYS_prctl SYS_arch_prctl SYS_setrlimit SYS_chroot SYS_mount
    SYS_umount2 SYS_sethostname SYS_setdomainname SYS_gettid SYS_futex SYS_sched_setaffinity SYS_sched_getaffinity
    SYS_set_tid_address SYS_clock_gettime SYS_exit_group SYS_tgkill SYS_waitid SYS_keyctl SYS_ioprio_set SYS_openat
    SYS_mkdirat SYS_mknodat SYS_fchownat SYS_newfstatat SYS_unlinkat SYS_renameat SYS_symlinkat SYS_readlinkat
    SYS_fchmodat SYS_faccessat SYS_ppoll SYS_unshare SYS_set_robust_list SYS_signalfd4 SYS_eventfd2 SYS_dup3 SYS_pipe2
    SYS_prlimit64 SYS_setns SYS_renameat2 SYS_seccomp SYS_getrandom SYS_memfd_create SYS_bpf SYS_execveat SYS_statx
    SYS_rseq SYS_pidfd_send_signal SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_pidfd_open
    SYS_clone3 SYS_close_range SYS_openat2 SYS_faccessat2 SYS_mount_setattr SYS_landlock_create_ruleset
    SYS_landlock_add_rule SYS_landlock_restrict_self SYS_sched_setattr SYS_set_mempolicy SYS_restart_syscall
    SYS_getpgrp SYS_getsid SYS_mknod SYS_fchmodat2
};

pub fn name(number: u64) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| name.trim_start_matches("SYS_").to_string())
}

/// The errors that a call is made to return. None for what cannot fail (getpid, the end), what tells of nothing but a
/// child that is there (wait4), or of which the answer cannot be acted on (close, munmap). Neither ESRCH nor ENOENT:
/// these are answers.
pub fn errors(call: &str) -> &'static [i32] {
    match call {
        "openat" | "openat2" | "open" => &[EMFILE, EACCES, EIO],
        "read" | "pread64" | "readv" => &[EIO],
        "write" | "writev" | "pwrite64" => &[ENOSPC, EIO],
        "sendmsg" | "sendto" => &[ENOBUFS],
        "recvmsg" | "recvfrom" => &[ENOMEM],
        "socketpair" | "socket" | "pipe2" | "memfd_create" | "signalfd4" | "eventfd2" | "pidfd_open" => {
            &[EMFILE, ENOMEM]
        }
        "dup" | "dup2" | "dup3" => &[EMFILE],
        "fcntl" => &[EMFILE, EINVAL],
        "clone" | "clone3" | "fork" | "vfork" => &[EAGAIN, ENOMEM],
        "execve" | "execveat" => &[ENOMEM, EACCES],
        "fsopen" | "open_tree" | "fsmount" => &[EMFILE, EPERM],
        "fsconfig" => &[EINVAL, ENOMEM],
        "move_mount" | "mount_setattr" | "mount" => &[EPERM, ENOMEM],
        "umount2" => &[EBUSY],
        "pivot_root" | "seccomp" | "keyctl" => &[EINVAL, ENOMEM],
        "mkdirat" | "mkdir" | "mknodat" | "mknod" | "symlinkat" | "renameat2" => &[ENOSPC, EROFS],
        "unlinkat" | "unlink" | "rmdir" => &[EIO, EROFS],
        "flock" => &[ENOLCK],
        "statx" | "fstat" | "newfstatat" | "stat" | "lstat" | "fstatfs" | "statfs" | "getdents64" => &[EIO, EACCES],
        "readlink" | "readlinkat" | "access" | "faccessat" | "faccessat2" | "chdir" | "fchdir" => &[EACCES, EIO],
        "mmap" | "mprotect" | "mremap" | "madvise" | "poll" | "ppoll" | "getcwd" | "sigaltstack" => &[ENOMEM],
        "unshare" | "setns" => &[ENOSPC, EPERM],
        "setresuid" | "setuid" => &[EAGAIN, EPERM],
        "ioctl" => &[EIO],
        "ftruncate" | "sendfile" => &[ENOSPC, EIO],
        "bpf" => &[ENOMEM, EPERM],
        "connect" => &[ECONNREFUSED, EAGAIN],
        "landlock_create_ruleset" | "landlock_restrict_self" => &[ENOMEM],
        "close" | "munmap" | "brk" | "exit" | "exit_group" | "wait4" | "waitid" | "rt_sigreturn"
        | "rt_sigtimedwait" | "getpid" | "gettid" | "getppid" | "getuid" | "geteuid" | "getgid" | "getegid"
        | "umask" | "futex" | "sched_yield" | "nanosleep" | "clock_gettime" | "restart_syscall" | "arch_prctl"
        | "set_tid_address" | "set_robust_list" | "rseq" | "getrandom" | "uname" | "lseek" | "rt_sigaction"
        | "sched_getaffinity" | "getrlimit" | "tgkill" => &[],
        _ => &[EPERM],
    }
}

/// The registers with which a call does nothing. Without a filter it is no call at all. A filter would take that for a
/// call that it does not know: it gets the same one, with a descriptor and an address that nobody has.
pub fn disarmed(mut registers: user_regs_struct, has_filter: bool) -> user_regs_struct {
    if !has_filter {
        registers.orig_rax = u64::MAX;
        return registers;
    }
    match registers.orig_rax as c_long {
        // Length 0.
        SYS_mmap | SYS_mprotect | SYS_mremap | SYS_madvise | SYS_clone3 | SYS_seccomp | SYS_sched_setaffinity => {
            registers.rdi = 1;
            registers.rsi = 0;
        }
        // An address first.
        SYS_sigaltstack | SYS_pipe2 | SYS_memfd_create | SYS_execve | SYS_chdir | SYS_capget | SYS_capset => {
            registers.rdi = 1;
            registers.rsi = 1;
        }
        SYS_poll | SYS_ppoll => {
            registers.rdi = 1;
            registers.rsi = u64::MAX >> 1;
        }
        SYS_rt_sigprocmask => registers.r10 = 0,
        // Its filter looks at the request.
        SYS_ioctl | SYS_fcntl | SYS_statx => registers.rdi = u64::MAX,
        SYS_kill | SYS_pidfd_send_signal => {
            registers.rdi = u64::MAX;
            registers.rsi = u64::MAX;
        }
        SYS_prctl | SYS_setresuid | SYS_setresgid | SYS_setgroups | SYS_setsid | SYS_setpgid => {
            registers.rdi = u64::MAX - 1;
            registers.rsi = u64::MAX - 1;
            registers.rdx = u64::MAX - 1;
        }
        // A descriptor first; a path, where there is one, second.
        _ => {
            registers.rdi = u64::MAX;
            registers.rsi = 1;
        }
    }
    registers
}

/// Names of the errors above.
pub fn error_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}
