//! A filter that asks an agent (SCMP_ACT_NOTIFY): the agent gets the filter's listener.
//!
//! Under the filter hardly a call is sure to be let pass, and of those that ask none returns before the agent has the
//! listener. So a courier sends it: a process without the filter that shares the table of descriptors, in which the
//! listener appears, and a word of memory, in which its number does. It closes both ends in that table, so that the
//! agent has the only listener, and hears the end of its connection, while the container waits for its start.
use rspawn_proto::report::FinishStep;
use rspawn_sys::memory::SharedWord;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Failure, Fd, Named, Outcome, Result, channel, signal};

use crate::stage::Stage;

const CLONE_FILES: u64 = libc::CLONE_FILES as u64;
/// What the word says where there is no listener.
const NONE: u32 = u32::MAX;

/// Installs a filter by `install`, which gives the listener's number, and has the agent told. Where there are hooks to
/// wait for, `waits`.
pub fn install(stage: &Stage, agent: (&Fd, &str), waits: bool, install: impl FnOnce() -> Result<usize>) -> Outcome<()> {
    let word = SharedWord::of_family().named("mmap")?;
    let payload = process::open_pidfd(process::pid()).named("pidfd_open")?;
    match process::fork(CLONE_FILES).named("clone3")? {
        Side::Child => {
            // This one's end makes the courier PID 1's child: the payload is to have none that it did not start.
            let courier = process::fork(CLONE_FILES);
            if let Ok(Side::Child) = courier {
                carry(stage, word, agent, &payload);
            }
            process::exit(courier.is_err().into())
        }
        Side::Parent { pid, .. } => {
            if !matches!(process::wait(pid, true).named("wait4")?, Some((_, 0))) {
                return Err(Failure::check("there is no process to take the listener to the agent"));
            }
        }
    }
    if !waits {
        // As PID 1 it would leave a dead courier to a payload that may never wait for any.
        signal::forget_children().named("rt_sigaction")?;
    }
    let installed = install();
    // In memory: no call is needed to say it.
    word.store(installed.map_or(NONE, |number| number as u32 + 1));
    // Closed here it would be closed for the courier. The exec ends the sharing, and closes it.
    payload.leak();
    installed.named("seccomp").map(drop)
}

/// In the courier. The end of the stage's socket, which tells that all went well, waits for its end.
fn carry(stage: &Stage, word: SharedWord, (agent, notice): (&Fd, &str), payload: &Fd) {
    let number = loop {
        match word.load() {
            // It may be killed at installing the filter.
            0 if channel::wait_readable(payload, Some(1)) == Ok(false) => {}
            0 | NONE => return,
            number => break number - 1,
        }
    };
    let listener = Fd::from_raw(number as i32);
    let sent = channel::send_packet(agent, notice.as_bytes(), &[&listener]);
    // Calls that wait for an answer fail from here on, if the agent does not have it.
    drop(listener);
    drop(Fd::from_raw(agent.raw()));
    let heard = sent.named("sendmsg").map_err(|failure| stage.report(FinishStep::Listener, failure)).ok();
    if heard.and_then(|()| stage.say_done()).is_none() {
        // Nothing runs that nobody watches over, or waits at a gate that nobody hears of. One that is gone does neither.
        let _ = process::signal(payload, libc::SIGKILL);
    }
}
