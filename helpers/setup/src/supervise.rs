//! The wait for the payload's end, with no right left but that to send it signals.
use rspawn_proto::codec::encode_word;
use rspawn_proto::msg::{FromSetup, Mode, ToSetup};
use rspawn_proto::plan::Capabilities;
use rspawn_proto::report::Place;
use rspawn_sys::channel::Interest;
use rspawn_sys::confine::{allow_only, calls};
use rspawn_sys::{Errno, Failure, Named, Outcome, channel, cred, process};

use crate::container::ContainerProcess;
use crate::parent::{End, Ended, Parent};

/// Waits for the end of a payload in the foreground, and gives its wait status; any other is left to itself once the
/// parent has passed on what was announced: a command that fails leaves nothing.
pub fn wait_or_detach(parent: &Parent, mode: Mode, mut container: ContainerProcess) -> Ended {
    if mode == Mode::Foreground {
        // The console's slave stays open meanwhile: its last close would end the console for a payload that closes
        // its streams and opens /dev/tty or /dev/console later.
        return supervise(parent, &mut container).map(Some);
    }
    let Ok(Some((ToSetup::Keep, _))) = channel::receive_value(&parent.control) else { return Err(End::Orphaned) };
    parent.send(&FromSetup::Kept, &[])?;
    container.release();
    Ok(None)
}

/// Delivers signals until the container ends; gives its wait status.
fn supervise(parent: &Parent, container: &mut ContainerProcess) -> Result<i32, End> {
    parent.progress.store(encode_word(&Place::Supervise));
    confine().map_err(|failure| failure.at(Place::Supervise))?;
    parent.early.take().into_iter().for_each(|number| deliver(parent, container, number));
    loop {
        let readable = |fd| Interest { fd, read: true, write: false };
        let ready = channel::wait([readable(&parent.control), readable(&container.process)], None).named("ppoll");
        let [control, ended] = ready.map_err(|failure| failure.at(Place::Supervise))?;
        if ended.read {
            return Ok(container.wait().map_err(|failure| failure.at(Place::Supervise))?);
        }
        if control.read {
            match channel::receive_value(&parent.control) {
                Ok(Some((ToSetup::Signal(number), _))) => deliver(parent, container, number),
                // The parent is gone, or no longer makes sense: dropping the container kills it.
                _ => return Err(End::Orphaned),
            }
        }
    }
}

/// One that cannot be delivered is told of: the payload goes on without it.
fn deliver(parent: &Parent, container: &ContainerProcess, number: u8) {
    match process::signal(&container.process, i32::from(number)) {
        // It has ended, which is heard next; or that is not a signal.
        Ok(()) | Err(Errno::ESRCH | Errno::EINVAL) => {}
        Err(errno) => parent.report_left(Failure::of("pidfd_send_signal", errno).at(Place::Supervise)),
    }
}

/// What is left to do needs CAP_KILL; and, by descriptors that are held, to ask rspawn-hooks, and to remove the
/// state directory's files, which belong to this user.
fn confine() -> Outcome<()> {
    cred::keep_only(Capabilities::KILL).named("capset")?;
    cred::no_new_privileges().named("prctl")?;
    allow_only(calls(&CALLS)).named("seccomp")
}

/// Every call that [`supervise`] makes, and clearing away afterwards.
const CALLS: [libc::c_long; 13] = {
    use libc::*;
    [
        SYS_ppoll, SYS_recvmsg, SYS_sendmsg, SYS_pidfd_send_signal, SYS_wait4, SYS_close, SYS_mmap, SYS_exit_group,
        SYS_restart_syscall, SYS_getdents64, SYS_unlinkat, SYS_flock, SYS_statx,
    ]
};
