//! Signals, as 64-bit masks: bit N-1 is signal N.
use crate::raw::sys;
use crate::{Fd, Result};

/// Size of the kernel's sigset_t.
const SET: usize = 8;

/// Replaces the mask of blocked signals and gives the old one.
pub fn set_blocked(mask: u64) -> Result<u64> {
    let mut old = 0u64;
    sys!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut old, SET).map(|_| old)
}

/// Sets every signal's disposition back to its default. Programs inherit ignored signals over exec, and callers
/// such as conmon and Rust's runtime ignore SIGPIPE.
pub fn reset_dispositions() {
    // struct sigaction of the kernel: handler, flags, restorer, mask. SIGKILL and SIGSTOP refuse; theirs never change.
    let default = [0u64; 4];
    for number in 1..=64 {
        let _ = sys!(SYS_rt_sigaction, number, default.as_ptr(), 0, SET);
    }
}

/// Waits for one of the blocked signals in `mask`.
pub fn wait(mask: u64) -> Result<i32> {
    sys!(SYS_rt_sigtimedwait, &raw const mask, 0, 0, SET).map(|number| number as i32)
}

/// A descriptor to read the blocked signals in `mask` from, as struct signalfd_siginfo.
pub fn descriptor(mask: u64) -> Result<Fd> {
    sys!(SYS_signalfd4, -1, &raw const mask, SET, libc::SFD_CLOEXEC).map(Fd::returned)
}

/// Up to the next exec, children that end are forgotten, as if this process had waited for them (sigaction(2)).
pub fn forget_children() -> Result<()> {
    let action = [libc::SIG_DFL, libc::SA_NOCLDWAIT as usize, 0, 0];
    sys!(SYS_rt_sigaction, libc::SIGCHLD, action.as_ptr(), 0, SET).map(drop)
}

/// From here on, a signal that asks a program to end ends this process, with the status of a shell's: by a handler,
/// since as PID 1 it has no default action for any (pid_namespaces(7)). It takes no call but the last one to wait so,
/// and the next exec undoes it.
pub fn end_when_told() -> Result<()> {
    extern "C" fn end(signal: i32) {
        crate::process::exit(128 + signal)
    }
    const SA_RESTORER: usize = 0x0400_0000;
    let end = end as extern "C" fn(i32) as usize;
    // What it would return to is never reached; x86 takes no handler without it.
    let action = [end, SA_RESTORER, end, 0];
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        sys!(SYS_rt_sigaction, signal, action.as_ptr(), 0, SET)?;
    }
    Ok(())
}
