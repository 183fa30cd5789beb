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
        let recorded = record.map_or(Ok(()), |record| {
            channel::send_value(&self.socket, &FromStage::Audit(record), &[]).named("sendmsg")
        });
        match done.and_then(|value| recorded.map(|()| value)) {
            Ok(value) => Some(value),
            Err(failure) => {
                self.report(step, failure);
                // The end of PID 1 would be the worker's too, and hide the reason: rspawn-setup ends this process.
                self.wait_for_root();
                None
            }
        }
    }

    /// Waits until the container's root is complete and nothing of the host in reach. `None` if that never happens:
    /// rspawn-setup then knows why.
    pub fn wait_for_root(&self) -> Option<()> {
        let Ok(Some((ToInit::Go, _))) = channel::receive_value(&self.socket) else { return None };
        // Nothing is ever written to it.
        match self.beside.as_ref().map(|beside| beside.read(&mut [0])) {
            None | Some(Ok(_)) => Some(()),
            Some(Err(_)) => None,
        }
    }

    pub fn report(&self, step: FinishStep, failure: Failure) {
        // By write(2), which a payload's filter lets pass sooner than sendmsg(2).
        let _ = channel::write_value(&self.socket, &FromStage::Failed(failure.at(Place::Finish(step))));
    }

    /// Says a word that rspawn-setup waits for. Where it cannot be said, this process has to end: that is heard.
    fn say(&self, word: &FromStage) -> Result<(), Errno> {
        channel::write_value(&self.socket, word)
    }

    /// Says that nothing more can be wrong but what the payload's own filter will do; a gate is announced by itself.
    pub fn announce_unless_gated(&self) -> Option<()> {
        (self.gate.is_some() || self.say(&FromStage::Done).is_ok()).then_some(())
    }

    /// Waits at the gate, if there is one, for `rspawn start`: the first byte opens it. rspawn-setup is gone then, and
    /// whoever starts the container hears the report. Gives whether there was one.
    pub fn wait_for_start(&mut self) -> Option<bool> {
        if self.gate.is_none() {
            return Some(false);
        }
        let signals = self.step(FinishStep::Gate, || signal::descriptor(TOLD).named("signalfd4"))?;
        let (gate, report) = self.gate.take()?;
        if self.say(&FromStage::Done).and_then(|()| await_start(&gate, &signals)).is_err() {
            return None;
        }
        self.socket = report;
        self.audit = false;
        Some(true)
    }
}

/// Signals that ask a program to end.
const TOLD: u64 =
    1 << (libc::SIGHUP - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGQUIT - 1) | 1 << (libc::SIGTERM - 1);

/// Waits until the gate opens. Before that, a signal that asks a program to end ends this process: as PID 1 it has no
/// default action for any, and clients stop containers that they never started.
fn await_start(gate: &Fd, signals: &Fd) -> Result<(), Errno> {
    let readable = |fd| Interest { fd, read: true, write: false };
    let [open, told] = channel::wait([readable(gate), readable(signals)], None)?;
    if told.read && !open.read {
        // struct signalfd_siginfo begins with the number.
        let mut info = [0u8; 128];
        signals.read(&mut info)?;
        process::exit(128 + i32::from(info[0]));
    }
    gate.read(&mut [0]).map(drop)
}

/// Exit status of a failure that rspawn-setup was told of.
const REPORTED: i32 = 1;

pub fn run(socket: Fd, argv: Vec<&'static CStr>, env: &[&'static CStr]) -> i32 {
    // Blocked ones are kept until there is someone to deliver them to; an unblocked one would be lost, since PID 1
    // has no default actions (pid_namespaces(7)).
    let blocked = signal::set_blocked(u64::MAX).named("rt_sigprocmask");
    // In a pid namespace that was joined there are others, who must not reach this process while it has more rights
    // than they (CVE-2016-9962). The payload's exec ends it.
    let apart = blocked.and_then(|_| cred::set_dumpable(false).named("prctl PR_SET_DUMPABLE"));
    // Executed from memory, its name would be the memory's.
    let named = apart.and_then(|()| process::set_name(c"rspawn-init").named("prctl PR_SET_NAME"));
    let mut stage = Stage { socket, gate: None, beside: None, audit: false };
    if let Err(failure) = named {
        stage.report(FinishStep::Receive, failure);
        return REPORTED;
    }
    let Ok(Some((message, fds))) = channel::receive(&stage.socket, MAX_PLAN) else { return REPORTED };
    let (finish, audit, mode, chroot, notice) = match codec::decode_plan(&message) {
        Ok(ToInit::Finish { finish, audit, mode, chroot, notice }) => (finish, audit, mode, chroot, notice),
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
    let console = if finish.terminal { fds.next() } else { None };
    stage.gate = if mode == Mode::Created { fds.next().zip(fds.next()) } else { None };
    let hooks = if finish.hooks.is_empty() { None } else { fds.next() };
    let agent = fds.next();
    // argv is: rspawn-init, --stage=N, --, and the payload's.
    let payload = Program { argv: argv.get(3..).unwrap_or_default(), env };
    let foreground = mode == Mode::Foreground;
    let told = agent.as_ref().map(|socket| (socket, notice.as_str()));
    let last = Last { finish: &finish, console: console.as_ref(), foreground, hooks: hooks.as_ref(), agent: told };
    if last.prepare(&stage).is_none() {
        return REPORTED;
    }
    if finish.init == InitMode::Exec {
        if stage.say(&FromStage::Ready).is_err() {
            return REPORTED;
        }
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
            match stage.step(FinishStep::Fork, || supervise::lead_process_group().named("setpgid")) {
                Some(()) => become_payload(stage, &last, &payload),
                None => REPORTED,
            }
        }
        Some((Side::Parent { pid, child }, read, write)) => {
            let ready = stage.say(&FromStage::Ready);
            if let Err(errno) = ready.and_then(|()| supervise::hold_no_more_than(&finish, foreground)) {
                return supervise::give_up(pid, errno);
            }
            // The payload's exec closes the last copy of the socket, which tells rspawn-setup of it. The descriptors
            // that the invoker passed on are the payload's alone: who waits for their end must not wait for PID 1.
            // With the pipe's last end the payload learns that this process has no more rights than it.
            core::mem::forget((stage, child, console, hooks, agent, read, write));
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
    let argv = StringArray::from_start(payload.argv);
    let mut env = StringArray::from_start(payload.env);
    let ready = signal::set_blocked(0).and_then(|_| home.map_or(Ok(()), |entry| env.push(&entry)));
    if let Err(errno) = ready {
        stage.report(FinishStep::Exec, Failure::of("rt_sigprocmask", errno));
        return REPORTED;
    }
    let errno = process::execute(&path, &argv, &env);
    stage.report(FinishStep::Exec, Failure::of("execve", errno).with(lookup::explain(&path, errno)));
    if errno == Errno::ENOENT { crate::NOT_FOUND } else { crate::NOT_EXECUTABLE }
}
