//! PID 1 beside the payload: forwards signals, reaps orphans, ends with the payload's status.
use alloc::format;

use rspawn_proto::plan::{Capabilities, Finish};
use rspawn_sys::confine::{allow_only, calls};
use rspawn_sys::{Errno, Fd, cred, process, pty, signal};

use crate::complaint::complain;

/// In the payload's process: a process group of its own, in the foreground of the terminal if there is one, so that
/// the terminal's signals reach the payload and not its init.
pub fn lead_process_group() -> Result<(), Errno> {
    process::new_process_group(0)?;
    let stdin = Fd::from_raw(0);
    // ENOTTY where there is no terminal. SIGTTOU cannot stop this: all signals are blocked.
    let _ = pty::set_foreground(&stdin, process::pid());
    stdin.leak();
    Ok(())
}

/// Gives up everything that the payload does not have, so that taking over PID 1 gains the payload nothing, and every
/// call but the few that are left to make. What is kept is CAP_KILL, for children that have changed their ids.
pub fn hold_no_more_than(payload: &Finish, foreground: bool) -> Result<(), Errno> {
    if let Some(groups) = &payload.groups {
        cred::set_groups(groups)?;
    }
    cred::set_gid(payload.gid.raw())?;
    cred::limit_bounding_set(payload.capabilities.bounding)?;
    cred::keep_capabilities(true)?;
    cred::set_uid(payload.uid.raw())?;
    cred::keep_only(payload.capabilities.permitted & after_exec(payload) & Capabilities::KILL)?;
    if foreground {
        // Changing ids cleared it.
        cred::set_parent_death_signal(9)?;
    }
    // Images read /proc/1/environ and /proc/1/fd; the change of ids made them root's.
    cred::set_dumpable(true)?;
    cred::no_new_privileges()?;
    // Room for the words that are left to say: more memory would be a call.
    drop(core::hint::black_box(alloc::vec::Vec::<u8>::with_capacity(16 << 10)));
    allow_only(calls(&CALLS))
}

/// The permitted capabilities that the payload's exec leaves it (capabilities(7)): a user other than root keeps the
/// ambient ones. Were PID 1 to hold more, the payload could not look at it.
fn after_exec(payload: &Finish) -> u64 {
    let caps = &payload.capabilities;
    if payload.uid.raw() == 0 { caps.bounding | caps.inheritable } else { caps.ambient }
}

/// Every call that [`supervise`] makes, and what is left before it: a word, and the end of what it was said to.
const CALLS: [libc::c_long; 8] = {
    use libc::{SYS_rt_sigtimedwait as SYS_wait, *};
    [SYS_wait, SYS_wait4, SYS_kill, SYS_write, SYS_close_range, SYS_exit_group, SYS_rt_sigreturn, SYS_restart_syscall]
};

/// Runs until the payload has ended, and gives the status to end with: its exit status, or 128 + the signal that
/// killed it. From here on nothing may fail: the death of PID 1 is the death of the container.
pub fn supervise(payload: i32) -> i32 {
    loop {
        match signal::wait(u64::MAX) {
            Ok(libc::SIGCHLD) => {
                if let Some(status) = reap(payload) {
                    return status;
                }
            }
            // Sent to the payload's process, as a payload that is PID 1 itself would get it.
            Ok(number) => drop(process::kill(payload, number)),
            Err(_) => {}
        }
    }
}

/// Reaps every child that has ended; gives the status if the payload is one of them.
fn reap(payload: i32) -> Option<i32> {
    while let Ok(Some((pid, status))) = process::wait(-1, false) {
        if pid == payload {
            return Some(process::exit_status(status));
        }
    }
    None
}

/// PID 1 is not what the payload can run under, and it may have begun.
pub fn give_up(payload: i32, errno: Errno) -> i32 {
    let _ = process::kill(payload, libc::SIGKILL);
    complain(&format!("rspawn-init: cannot let the payload go on: errno {}\n", errno.0));
    1
}
