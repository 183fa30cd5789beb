//! Signals, as 64-bit masks: bit N-1 is signal N.
use crate::fd::Fd;
use crate::raw::{Errno, Result, call};

/// Size of the kernel's sigset_t.
const SET: usize = 8;

/// Replaces the mask of blocked signals and gives the old one.
pub fn set_blocked(mask: u64) -> Result<u64> {
    let mut old = 0u64;
    let how = libc::SIG_SETMASK as usize;
    let arguments = [how, &raw const mask as usize, &raw mut old as usize, SET];
    // SAFETY: both sets are live and of the size given.
    unsafe { call(libc::SYS_rt_sigprocmask, arguments) }.map(|_| old)
}

/// struct sigaction of the kernel: handler, flags, restorer, mask.
type Action = [u64; 4];

/// Sets every signal's disposition back to its default. Programs inherit ignored signals over exec, and callers
/// such as conmon and Rust's runtime ignore SIGPIPE.
pub fn reset_dispositions() {
    let default: Action = [0; 4];
    for number in 1..=64 {
        // SAFETY: a default action has no handler to run; SIGKILL and SIGSTOP refuse, which is their default.
        let _ = unsafe { call(libc::SYS_rt_sigaction, [number, default.as_ptr() as usize, 0, SET]) };
    }
}

/// Waits for one of the blocked signals in `mask`; `None` if interrupted by another.
pub fn wait(mask: u64) -> Result<Option<i32>> {
    // SAFETY: the set is live; siginfo and timeout are null.
    match unsafe { call(libc::SYS_rt_sigtimedwait, [&raw const mask as usize, 0, 0, SET]) } {
        Ok(number) => Ok(Some(number as i32)),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A descriptor to read the blocked signals in `mask` from, as struct signalfd_siginfo.
pub fn descriptor(mask: u64) -> Result<Fd> {
    let arguments = [usize::MAX, &raw const mask as usize, SET, libc::SFD_CLOEXEC as usize];
    // SAFETY: the set is live and of the size given.
    unsafe { call(libc::SYS_signalfd4, arguments) }.map(Fd::returned)
}

/// The bit of a signal in a mask.
pub fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
