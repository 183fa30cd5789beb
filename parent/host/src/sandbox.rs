//! The parent gives up everything before it reads a byte of the bundle.
//!
//! Ids, capabilities, new privileges, the file system (Landlock), and in the end every system call but those that
//! reading held descriptors, thinking, and answering need. What it still needs afterwards, it has opened before.
use std::fs::DirEntry;
use std::io;

use caps::CapSet;
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rspawn_sys::Fd;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What root becomes: an id that owns nothing. A user stays who it is.
const NOBODY: u32 = 65534;

/// Closes what the caller has leaked to this process: every descriptor that has come over its exec and is not among
/// `kept`. Its own are all marked to be closed by exec.
pub fn close_leaked(kept: &[i32]) -> io::Result<()> {
    const LIST: &str = "/proc/self/fd";
    let number = |entry: io::Result<DirEntry>| entry?.file_name().to_string_lossy().parse().map_err(io::Error::other);
    let numbers = std::fs::read_dir(LIST).and_then(|list| list.map(number).collect::<io::Result<Vec<i32>>>());
    let numbers = numbers.map_err(|error| io::Error::other(format!("{LIST}: {error}")))?;
    for number in numbers.into_iter().filter(|number| *number > 2 && !kept.contains(number)) {
        let fd = Fd::from_raw(number);
        match fd.is_kept_on_exec() {
            Ok(true) => drop(fd),
            // That of the list itself, closed by now, and this process's own.
            Err(_) | Ok(false) => drop(fd.leak()),
        }
    }
    Ok(())
}

/// Confines this process for good. Nothing that fails here may be ignored: the caller stops.
pub fn confine() -> io::Result<()> {
    let inside = |what: &str, error: &dyn std::fmt::Display| io::Error::other(format!("{what}: {error}"));
    close_leaked(&[]).map_err(|error| inside("close descriptors", &error))?;
    caps::clear(None, CapSet::Ambient).map_err(|error| inside("clear ambient capabilities", &error))?;
    drop_bounding_set().map_err(|error| inside("clear the bounding set", &error))?;
    if nix::unistd::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let elsewhere = !crate::user_namespace::is_initial().map_err(io::Error::other)?;
        // The root of a user namespace may have no such id, and no right to leave its groups.
        let possible = |done: Result<(), Errno>| match done {
            Err(Errno::EINVAL | Errno::EPERM) if elsewhere => Ok(()),
            done => done,
        };
        possible(setgroups(&[])).map_err(|error| inside("setgroups", &error))?;
        possible(setresgid(gid, gid, gid)).map_err(|error| inside("setresgid", &error))?;
        possible(setresuid(uid, uid, uid)).map_err(|error| inside("setresuid", &error))?;
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| inside("clear capabilities", &error))?;
    }
    landlock().map_err(|error| inside("Landlock", &error))?;
    // seccompiler sets no_new_privs itself; saying it here keeps the promise if Landlock is not there to.
    nix::sys::prctl::set_no_new_privs().map_err(|error| inside("no_new_privs", &error))?;
    seccompiler::apply_filter(&filter().map_err(|error| inside("seccomp", &error))?)
        .map_err(|error| inside("seccomp", &error))
}

/// Needs CAP_SETPCAP, which only a privileged caller has; another has nothing to lose by it.
fn drop_bounding_set() -> Result<(), caps::errors::CapsError> {
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    Ok(())
}

/// Denies every file, every TCP port, every abstract socket and every signal to others. The kernel decides how much of
/// it there is (best effort): seccomp below denies the calls themselves.
fn landlock() -> Result<RulesetStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    ruleset.restrict_self().map(|status| status.ruleset)
}

/// Calls that are allowed with any arguments, each with its reason.
const CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_read, "config.json, the terminal, the signal descriptor"),
    (libc::SYS_pread64, "the progress page, after rspawn-setup died"),
    (libc::SYS_write, "stdout, stderr, the console, the audit file"),
    (libc::SYS_writev, "Rust's formatted output"),
    (libc::SYS_sendmsg, "the plan, and signals, to rspawn-setup"),
    (libc::SYS_recvmsg, "reports and the console's master"),
    (libc::SYS_close, "held descriptors"),
    (libc::SYS_lseek, "config.json"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "waiting for any of the above"),
    (libc::SYS_ppoll, "waiting for any of the above"),
    (libc::SYS_wait4, "the end of rspawn-setup"),
    (libc::SYS_waitid, "the end of rspawn-setup"),
    (libc::SYS_brk, "memory"),
    (libc::SYS_munmap, "memory"),
    (libc::SYS_mremap, "memory"),
    (libc::SYS_madvise, "memory"),
    (libc::SYS_futex, "the standard library's locks"),
    (libc::SYS_getrandom, "seeds of hash tables"),
    (libc::SYS_clock_gettime, "times in logs, where the vDSO has none"),
    (libc::SYS_rt_sigprocmask, "abort"),
    (libc::SYS_rt_sigaction, "abort"),
    (libc::SYS_rt_sigreturn, "signal handlers"),
    (libc::SYS_sigaltstack, "the standard library's stack guard at exit"),
    (libc::SYS_getpid, "abort"),
    (libc::SYS_gettid, "abort"),
    (libc::SYS_restart_syscall, "interrupted waits"),
    (libc::SYS_exit_group, "the end"),
];

/// Terminal requests: mode and size.
const IOCTLS: [u64; 6] = [libc::TCGETS, libc::TCSETS, libc::TCSETSW, libc::TCSETSF, libc::TIOCGWINSZ, libc::TIOCSWINSZ];

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let equals =
        |argument: u8, value: u64| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value);
    let without = |argument: u8, bit: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), 0)
    };
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = CALLS.iter().map(|(call, _)| (*call, Vec::new())).collect();
    // Memory, but none that can be executed.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.push((call, vec![SeccompRule::new(vec![without(2, libc::PROT_EXEC as u64)?])?]));
    }
    let requests: Result<Vec<_>, _> =
        IOCTLS.iter().map(|request| SeccompRule::new(vec![equals(1, *request)?])).collect();
    rules.push((libc::SYS_ioctl, requests?));
    // The console's master must not block.
    let flags = [libc::F_GETFL, libc::F_SETFL].map(|command| equals(1, command as u64));
    let flags: Result<Vec<_>, _> = flags.into_iter().map(|flag| SeccompRule::new(vec![flag?])).collect();
    rules.push((libc::SYS_fcntl, flags?));
    // abort() signals its own thread.
    let own = u64::from(std::process::id());
    rules.push((libc::SYS_tgkill, vec![SeccompRule::new(vec![equals(0, own)?])?]));
    let arch = std::env::consts::ARCH.try_into()?;
    let rules = rules.into_iter().collect();
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}
