//! A filter that asks an agent (SCMP_ACT_NOTIFY): the agent gets the filter's listener.
//!
//! Under the filter hardly a call is sure to be let pass, and of those that ask none returns before the agent has the
//! listener. So a courier sends it: a process without the filter that shares the table of descriptors, in which the
//! listener appears.
use core::mem::{ManuallyDrop, forget};

use rspawn_proto::report::FinishStep;
use rspawn_sys::failure::{Failure, Named, Outcome};
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Fd, channel};

use crate::staged::Stage;

const CLONE_FILES: u64 = libc::CLONE_FILES as u64;

/// How long the courier waits for the filter, in milliseconds: whoever installs it may be killed at it.
const PATIENCE: u32 = 10_000;

/// Installs a filter by `install`, which gives the listener's number, and has the agent told.
pub fn install(stage: &Stage, agent: (&Fd, &str), install: impl FnOnce() -> Outcome<usize>) -> Outcome<()> {
    let (word, tells) = process::pipe().named("pipe2")?;
    let payload = process::pid();
    match process::fork(CLONE_FILES).named("clone3")? {
        Side::Child => {
            // This one's end makes the courier PID 1's child: the payload is to have none that it did not start.
            let courier = process::fork(CLONE_FILES);
            if let Ok(Side::Child) = courier {
                carry(stage, &word, agent, payload);
            }
            process::exit(courier.is_err().into())
        }
        Side::Parent { pid, .. } => {
            if !matches!(process::wait(pid, true).named("wait4")?, Some((_, 0))) {
                return Err(Failure::check("there is no process to take the listener to the agent"));
            }
        }
    }
    let installed = install();
    let number = installed.as_ref().map_or(-1, |number| *number as i32);
    // By write(2): the planner refuses a filter that asks about it.
    let told = tells.write(&number.to_ne_bytes()).named("write");
    // Closed here they would be closed for the courier. The exec ends the sharing, and closes them.
    forget((word, tells));
    installed.and(told)
}

/// In the courier. The end of the stage's socket, which tells that all went well, waits for its end.
fn carry(stage: &Stage, word: &Fd, (agent, notice): (&Fd, &str), payload: i32) {
    let mut number = [0; 4];
    if channel::wait_readable(word, Some(PATIENCE)) != Ok(true) || word.read(&mut number) != Ok(4) {
        return;
    }
    let number = i32::from_ne_bytes(number);
    if number < 0 {
        return;
    }
    let listener = ManuallyDrop::new(Fd::from_raw(number));
    if let Err(errno) = channel::send_packet(agent, notice.as_bytes(), &[&listener]) {
        stage.report(FinishStep::Listener, Failure::of("sendmsg", errno));
        // Calls that wait for an answer fail, and nothing runs that nobody watches over.
        drop(ManuallyDrop::into_inner(listener));
        let _ = process::kill(payload, libc::SIGKILL);
    }
}
