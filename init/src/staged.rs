//! Started by rspawn-setup, with a socket to it: receive the last mile, apply it, start the payload.
use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_proto::MAX_PLAN;
use rspawn_proto::codec;
use rspawn_proto::msg::{FromStage, Mode, ToInit};
use rspawn_proto::plan::InitMode;
use rspawn_proto::report::{FinishStep, Place};
use rspawn_sys::channel::Interest;
use rspawn_sys::failure::{Failure, Named, Outcome, timed};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Errno, Fd, channel, cred, fd, file, signal};

use crate::finish::{Last, Ready};
use crate::lookup::{self, Program};
use crate::supervise;

/// The line to whoever waits for this process: rspawn-setup, and once the gate is open, `rspawn start`.
pub struct Stage {
    pub socket: Fd,
    /// Gate and report, for a container that is only created.
    gate: Option<(Fd, Fd)>,
    /// In the payload's process beside PID 1: at its end when PID 1 has given up its rights.
    beside: Option<Fd>,
    audit: bool,
}

impl Stage {
    /// Takes one step, times it if asked, reports its failure. `None` if it failed.
    pub fn step<T>(&self, step: FinishStep, action: impl FnOnce() -> Outcome<T>) -> Option<T> {
        let (done, record) = timed(self.audit, Place::Finish(step), action);
        if let Some(record) = record {
            let _ = channel::send_value(&self.socket, &FromStage::Audit(record), &[]);
        }
        done.map_err(|failure| {
            self.report(step, failure);
            // The end of PID 1 would be the worker's too, and hide the reason: rspawn-setup ends this process.
            let _ = self.wait_for_root();
        })
        .ok()
    }

    /// Waits until the container's root is complete and nothing of the host in reach. `None` if that never happens:
    /// rspawn-setup then knows why.
    pub fn wait_for_root(&self) -> Option<()> {
        let (message, _) = channel::receive_value(&self.socket).ok()??;
        if let Some(beside) = &self.beside {
            // Nothing is ever written to it.
            let _ = beside.read(&mut [0]);
        }
        matches!(message, ToInit::Go).then_some(())
    }

    pub fn report(&self, step: FinishStep, failure: Failure) {
        // By write(2), which a payload's filter lets pass sooner than sendmsg(2).
        let _ = channel::write_value(&self.socket, &FromStage::Failed(failure.at(Place::Finish(step))));
    }

    /// Says that this process will fork no more.
    fn say_ready(&self) {
        let _ = channel::write_value(&self.socket, &FromStage::Ready);
    }

    /// Says that nothing more can be wrong but what the payload's own filter will do; a gate is announced by itself.
    pub fn announce_unless_gated(&self) {
        if self.gate.is_none() {
            let _ = channel::write_value(&self.socket, &FromStage::Done);
        }
    }

    /// Waits at the gate, if there is one, for `rspawn start`: the first byte opens it. rspawn-setup is gone then, and
    /// whoever starts the container hears the report. Gives whether there was one.
    pub fn wait_for_start(&mut self) -> Option<bool> {
        let Some((gate, report)) = self.gate.take() else { return Some(false) };
        channel::write_value(&self.socket, &FromStage::Done).ok()?;
        end_if_told_to(&gate);
        gate.read(&mut [0]).ok()?;
        self.socket = report;
        self.audit = false;
        Some(true)
    }
}

/// Waits until the gate opens. Before that, a signal that asks a program to end ends this process: as PID 1 it has no
/// default action for any, and clients stop containers that they never started.
fn end_if_told_to(gate: &Fd) {
    const TOLD: u64 =
        1 << (libc::SIGHUP - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGQUIT - 1) | 1 << (libc::SIGTERM - 1);
    let readable = |fd| Interest { fd, read: true, write: false };
    let Ok(signals) = signal::descriptor(TOLD) else { return };
    if let Ok([open, told]) = channel::wait([readable(gate), readable(&signals)], None)
        && told.read
        && !open.read
    {
        // struct signalfd_siginfo begins with the number.
        let mut info = [0u8; 128];
        let _ = signals.read(&mut info);
        process::exit(128 + i32::from(info[0]));
    }
}

/// Exit status of a failure that rspawn-setup was told of.
const REPORTED: i32 = 1;

pub fn run(socket: Fd, argv: Vec<&'static CStr>, env: &[&'static CStr]) -> i32 {
    // Blocked ones are kept until there is someone to deliver them to; an unblocked one would be lost, since PID 1
    // has no default actions (pid_namespaces(7)).
    let _ = signal::set_blocked(u64::MAX);
    // In a pid namespace that was joined there are others, who must not reach this process while it has more rights
    // than they (CVE-2016-9962). The payload's exec ends it.
    let _ = cred::set_dumpable(false);
    // Executed from memory, its name would be the memory's.
    let _ = process::set_name(c"rspawn-init");
    let Ok(Some((message, fds))) = channel::receive(&socket, MAX_PLAN) else { return REPORTED };
    let mut stage = Stage { socket, gate: None, beside: None, audit: false };
    let (finish, audit, mode, chroot, null, notice) = match codec::decode_plan(&message) {
        Ok(ToInit::Finish { finish, audit, mode, chroot, null, notice }) => (finish, audit, mode, chroot, null, notice),
        other => {
            stage.report(FinishStep::Receive, Failure::check(other.err().unwrap_or("it is not the last mile")));
            return REPORTED;
        }
    };
    stage.audit = audit;
    let mut fds = fds.into_iter();
    // Before the fork, so that nobody keeps the host's root, and before anything is looked up.
    if chroot && stage.step(FinishStep::Receive, || enter_root(fds.next())).is_none() {
        return REPORTED;
    }
    let null = if null { fds.next() } else { None };
    let console = if finish.terminal { fds.next() } else { None };
    stage.gate = if mode == Mode::Created { fds.next().zip(fds.next()) } else { None };
    let hooks = if finish.hooks.is_empty() { None } else { fds.next() };
    let agent = fds.next();
    // argv is: rspawn-init, --stage=N, --, and the payload's.
    let payload = Program { argv: argv.get(3..).unwrap_or_default(), env };
    let foreground = mode == Mode::Foreground;
    let told = agent.as_ref().map(|socket| (socket, notice.as_str()));
    let last = Last {
        finish: &finish,
        console: console.as_ref(),
        null: null.as_ref(),
        foreground,
        hooks: hooks.as_ref(),
        agent: told,
    };
    if last.prepare(&stage).is_none() {
        return REPORTED;
    }
    if finish.init == InitMode::Exec {
        stage.say_ready();
        return become_payload(stage, &last, &payload);
    }
    let forked = stage.step(FinishStep::Fork, || {
        let (read, write) = process::pipe().named("pipe2")?;
        Ok((process::fork(0).named("clone3")?, read, write))
    });
    match forked {
        None => REPORTED,
        Some((Side::Child, read, write)) => {
            drop(write);
            stage.beside = Some(read);
            supervise::lead_process_group();
            become_payload(stage, &last, &payload)
        }
        Some((Side::Parent { pid, child }, read, write)) => {
            stage.say_ready();
            if let Err(errno) = supervise::hold_no_more_than(&finish, foreground) {
                return supervise::give_up(pid, errno);
            }
            // The payload's exec closes the last copy of the socket, which tells rspawn-setup of it. The descriptors
            // that the invoker passed on are the payload's alone: who waits for their end must not wait for PID 1.
            // With the pipe's last end the payload learns that this process has no more rights than it.
            core::mem::forget((stage, child, null, console, hooks, agent, read, write));
            match fd::close_from(3).and_then(|()| supervise::confine()) {
                Ok(()) => supervise::supervise(pid),
                Err(errno) => supervise::give_up(pid, errno),
            }
        }
    }
}

fn enter_root(root: Option<Fd>) -> Outcome<()> {
    let root = root.ok_or_else(|| Failure::check("there is no root to enter"))?;
    file::change_directory(&root).named("fchdir")?;
    file::change_root_to_working_directory().named("chroot")
}

/// Applies the last mile and executes the payload. Returns an exit status on failure.
fn become_payload(mut stage: Stage, last: &Last, payload: &Program) -> i32 {
    let Some(Ready { path, home }) = last.apply(&mut stage, payload) else { return REPORTED };
    let _ = signal::set_blocked(0);
    let argv = StringArray::from_start(payload.argv);
    let mut env = StringArray::from_start(payload.env);
    if home.is_some_and(|entry| env.push(&entry).is_err()) {
        return REPORTED;
    }
    let errno = process::execute(&path, &argv, &env);
    stage.report(FinishStep::Exec, Failure::of("execve", errno).with(lookup::explain(&path, errno)));
    if errno == Errno::ENOENT { crate::NOT_FOUND } else { crate::NOT_EXECUTABLE }
}
