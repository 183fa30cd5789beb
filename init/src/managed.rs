//! Started by rspawn-setup, with a socket to it: receive the last mile, apply it, start the payload.
use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_proto::msg::{FromStage, Mode, ToInit};
use rspawn_proto::plan::InitMode;
use rspawn_proto::report::FinishStep;
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, cred, fd, file, signal};

use crate::complaint::{NOT_EXECUTABLE, NOT_FOUND};
use crate::finish::{FinishContext, PayloadExec};
use crate::lookup::Payload;
use crate::stage::Stage;
use crate::supervise;

/// Exit status of a failure that rspawn-setup was told of.
const REPORTED: i32 = 1;

pub fn run(socket: Fd, argv: Vec<&'static CStr>, env: &[&'static CStr]) -> i32 {
    start(Stage::new(socket), argv, env).map_or(REPORTED, |status| status)
}

/// Gives an exit status; `None` where a failure was reported.
fn start(mut stage: Stage, argv: Vec<&'static CStr>, env: &[&'static CStr]) -> Option<i32> {
    if let Err(failure) = protect() {
        stage.report(FinishStep::Receive, failure);
        return None;
    }
    let (ToInit::Finish { finish, audit, mode, chroot, notice }, fds) = receive(&stage)? else { return None };
    stage.audit = audit;
    let mut fds = fds.into_iter();
    let page = fds.next();
    let enter_root = |root: Option<Fd>| {
        let root = root.ok_or_else(|| Failure::check("there is no root to enter"))?;
        file::enter_root(&root).named("chroot")
    };
    // Before the fork, so that nobody keeps the host's root, and before anything is looked up.
    if chroot {
        stage.step(FinishStep::Receive, || enter_root(fds.next()))?;
    }
    let console = if finish.terminal { fds.next() } else { None };
    stage.gate = if mode == Mode::Created { fds.next().zip(fds.next()) } else { None };
    let agent = fds.next();
    // argv is: rspawn-init, --stage=N, --, and the payload's.
    let payload = Payload { argv: argv.get(3..).unwrap_or_default(), env };
    let foreground = mode == Mode::Foreground;
    let agent_and_notice = agent.as_ref().map(|socket| (socket, notice.as_str()));
    let context = FinishContext { finish: &finish, console: console.as_ref(), foreground, agent: agent_and_notice };
    context.prepare(&stage)?;
    if finish.init == InitMode::Exec {
        return if stage.say(&FromStage::Ready).is_ok() {
            become_payload(stage, &context, &payload, page)
        } else {
            None
        };
    }
    let (side, read, write) = stage.step(FinishStep::Fork, || {
        let (read, write) = process::pipe().named("pipe2")?;
        Ok((process::fork(0).named("clone3")?, read, write))
    })?;
    match side {
        Side::Child => {
            drop(write);
            stage.beside = Some(read);
            stage.step(FinishStep::Fork, || supervise::lead_process_group().named("setpgid"))?;
            become_payload(stage, &context, &payload, page)
        }
        Side::Parent { pid, child } => {
            // Before the word, with which the others go on: else this failure would be told as one of theirs, or the
            // payload would have begun.
            if let Err(failure) = supervise::hold_no_more_than(&finish, foreground).named("give up its rights") {
                return stage.fail(FinishStep::Fork, failure);
            }
            let ready = stage.say(&FromStage::Ready);
            // The payload's exec closes the last copy of the socket, which tells rspawn-setup of it. The descriptors
            // that the invoker passed on are the payload's alone: who waits for their end must not wait for PID 1.
            // With the pipe's last end the payload learns that this process has no more rights than it.
            core::mem::forget((stage, child, console, page, agent, read, write));
            Some(match ready.and_then(|()| fd::close_from(3)) {
                Ok(()) => supervise::supervise(pid),
                Err(errno) => supervise::give_up(pid, errno),
            })
        }
    }
}

/// First act: signals are kept, and other processes kept away. Nobody may read this program's image, and so nobody may
/// look at its process (see [`rspawn_sys::image`]), but where the machine has fs.suid_dumpable=1 (proc_sys_fs(5)).
fn protect() -> Outcome<()> {
    cred::set_dumpable(false).named("prctl PR_SET_DUMPABLE")?;
    // Blocked signals are kept until there is someone to deliver them to; an unblocked one would be lost, since PID 1
    // has no default actions (pid_namespaces(7)).
    signal::set_blocked(u64::MAX).named("rt_sigprocmask")?;
    // Executed from memory, its name would be the memory's.
    process::set_name(c"rspawn-init").named("prctl PR_SET_NAME")
}

/// The last mile, and what comes with it.
fn receive(stage: &Stage) -> Option<(ToInit, Vec<Fd>)> {
    let Ok(Some((message, fds))) = channel::receive(&stage.socket, MAX_PLAN) else { return None };
    match codec::decode_plan(&message) {
        Ok(message @ ToInit::Finish { .. }) => Some((message, fds)),
        other => {
            let reason = other.err().unwrap_or("it is not the last mile");
            stage.report(FinishStep::Receive, Failure::check(reason));
            None
        }
    }
}

/// Applies the last mile and executes the payload. Gives an exit status on failure.
fn become_payload(mut stage: Stage, context: &FinishContext, payload: &Payload, page: Option<Fd>) -> Option<i32> {
    let note = || {
        let page = page.ok_or_else(|| Failure::check("rspawn-init got no page to note its steps in"))?;
        SharedWord::map(&page, true).named("mmap")
    };
    stage.word = Some(stage.step(FinishStep::Receive, note)?);
    let PayloadExec { program, argv, env } = context.apply(&mut stage, payload)?;
    stage.note(FinishStep::Exec, 0);
    let (errno, reason) = program.execute(&argv, &env);
    stage.report(FinishStep::Exec, Failure::of("execve", errno).with(reason));
    Some(if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE })
}
