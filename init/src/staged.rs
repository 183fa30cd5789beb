//! Started by rspawn-setup, with a socket to it: receive the last mile, apply it, start the payload.
use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_proto::MAX_PLAN;
use rspawn_proto::codec;
use rspawn_proto::msg::{FromStage, Mode, ToInit};
use rspawn_proto::plan::InitMode;
use rspawn_proto::report::{FinishStep, Place, finish_word};
use rspawn_sys::failure::timed;
use rspawn_sys::memory::SharedWord;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, cred, fd, file, signal};

use crate::finish::{Last, Ready};
use crate::lookup::Program;
use crate::supervise;

/// The line to whoever waits for this process: rspawn-setup, and once the gate is open, `rspawn start`.
pub struct Stage {
    pub socket: Fd,
    /// Gate and report, for a container that is only created.
    gate: Option<(Fd, Fd)>,
    /// In the payload's process beside PID 1: at its end when PID 1 has given up its rights.
    beside: Option<Fd>,
    audit: bool,
    /// Where the step is noted, in the payload's process.
    word: Option<SharedWord>,
    /// The container's root is complete.
    rooted: bool,
}

impl Stage {
    /// Takes one step, notes it, times it if asked, reports its failure. `None` if it failed.
    pub fn step<T>(&self, step: FinishStep, action: impl FnOnce() -> Outcome<T>) -> Option<T> {
        self.note(step, 0);
        let (done, record) = timed(self.audit, Place::Finish(step), action);
        let recorded = record.map_or(Ok(()), |record| {
            channel::send_value(&self.socket, &FromStage::Audit(record), &[]).named("sendmsg")
        });
        match done.and_then(|value| recorded.map(|()| value)) {
            Ok(value) => Some(value),
            Err(failure) => self.fail(step, failure),
        }
    }

    /// Reports a failure.
    fn fail<T>(&self, step: FinishStep, failure: Failure) -> Option<T> {
        self.report(step, failure);
        // The end of PID 1 would be the worker's too, and hide the reason: rspawn-setup ends this process.
        if !self.rooted {
            self.hear_go();
        }
        None
    }

    /// Takes the step that puts the filter on. From it on nothing is recorded: the payload need not be let send.
    pub fn last_step<T>(&mut self, step: FinishStep, action: impl FnOnce(&Self) -> Outcome<T>) -> Option<T> {
        self.audit = false;
        self.step(step, || action(self))
    }

    /// Waits until the container's root is complete and nothing of the host in reach. `None` if that never happens:
    /// rspawn-setup then knows why.
    pub fn wait_for_root(&mut self) -> Option<()> {
        self.hear_go()?;
        self.rooted = true;
        Some(())
    }

    fn hear_go(&self) -> Option<()> {
        let Ok(Some((ToInit::Go, mut fds))) = channel::receive_value(&self.socket) else { return None };
        if let Err(errno) = fds.pop().map_or(Ok(()), |root| file::enter_root(&root)) {
            self.report(FinishStep::Receive, Failure::of("chroot", errno));
            return None;
        }
        // Nothing is ever written to it.
        match self.beside.as_ref().map(|beside| beside.read(&mut [0])) {
            None | Some(Ok(_)) => Some(()),
            Some(Err(_)) => None,
        }
    }

    fn note(&self, step: FinishStep, errno: i32) {
        self.word.inspect(|word| word.store(finish_word(step, errno)));
    }

    pub fn report(&self, step: FinishStep, failure: Failure) {
        self.note(step, if failure.errno == 0 { -1 } else { failure.errno });
        // By write(2), which a payload's filter lets pass sooner than sendmsg(2).
        let _ = channel::write_value(&self.socket, &FromStage::Failed(failure.at(Place::Finish(step))));
    }

    /// Says a word that rspawn-setup waits for. Where it cannot be said, this process has to end: that is heard.
    fn say(&self, word: &FromStage) -> Result<(), Errno> {
        channel::write_value(&self.socket, word)
    }

    /// If there is a gate, says that only the start is left to do.
    pub fn say_done(&self) -> Option<()> {
        if self.gate.is_some() { self.say(&FromStage::Done).ok() } else { Some(()) }
    }

    /// Waits at the gate, if there is one, for `rspawn start`: the first byte opens it. rspawn-setup is gone then, and
    /// whoever starts the container hears the report.
    pub fn wait_for_start(&mut self) -> Option<()> {
        let Some((gate, report)) = self.gate.take() else { return Some(()) };
        self.note(FinishStep::Gate, 0);
        self.audit = false;
        let opened = gate.read(&mut [0]);
        // Neither is closed here: the filter may be on, and the courier may still need the socket.
        gate.leak();
        core::mem::replace(&mut self.socket, report).leak();
        opened.map_err(|errno| self.report(FinishStep::Gate, Failure::of("read", errno))).ok().map(drop)
    }
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
    let mut stage = Stage { socket, gate: None, beside: None, audit: false, word: None, rooted: false };
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
    let page = fds.next();
    let enter_root = |root: Option<Fd>| {
        let root = root.ok_or_else(|| Failure::check("there is no root to enter"))?;
        file::enter_root(&root).named("chroot")
    };
    // Before the fork, so that nobody keeps the host's root, and before anything is looked up.
    if chroot && stage.step(FinishStep::Receive, || enter_root(fds.next())).is_none() {
        return REPORTED;
    }
    let console = if finish.terminal { fds.next() } else { None };
    stage.gate = if mode == Mode::Created { fds.next().zip(fds.next()) } else { None };
    let agent = fds.next();
    // argv is: rspawn-init, --stage=N, --, and the payload's.
    let payload = Program { argv: argv.get(3..).unwrap_or_default(), env };
    let foreground = mode == Mode::Foreground;
    let told = agent.as_ref().map(|socket| (socket, notice.as_str()));
    let last = Last { finish: &finish, console: console.as_ref(), foreground, agent: told };
    if last.prepare(&stage).is_none() {
        return REPORTED;
    }
    if finish.init == InitMode::Exec {
        if stage.say(&FromStage::Ready).is_err() {
            return REPORTED;
        }
        return become_payload(stage, &last, &payload, page);
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
                Some(()) => become_payload(stage, &last, &payload, page),
                None => REPORTED,
            }
        }
        Some((Side::Parent { pid, child }, read, write)) => {
            // Before the word, with which the others go on: else this failure would be told as one of theirs, or the
            // payload would have begun.
            if let Err(failure) = supervise::hold_no_more_than(&finish, foreground).named("give up its rights") {
                return stage.fail(FinishStep::Fork, failure).unwrap_or(REPORTED);
            }
            let ready = stage.say(&FromStage::Ready);
            // The payload's exec closes the last copy of the socket, which tells rspawn-setup of it. The descriptors
            // that the invoker passed on are the payload's alone: who waits for their end must not wait for PID 1.
            // With the pipe's last end the payload learns that this process has no more rights than it.
            core::mem::forget((stage, child, console, page, agent, read, write));
            match ready.and_then(|()| fd::close_from(3)) {
                Ok(()) => supervise::supervise(pid),
                Err(errno) => supervise::give_up(pid, errno),
            }
        }
    }
}

/// Applies the last mile and executes the payload. Returns an exit status on failure.
fn become_payload(mut stage: Stage, last: &Last, payload: &Program, page: Option<Fd>) -> i32 {
    let note = || {
        let page = page.ok_or_else(|| Failure::check("there is no page for its last words"))?;
        SharedWord::map(&page, true).named("mmap")
    };
    stage.word = stage.step(FinishStep::Receive, note);
    if stage.word.is_none() {
        return REPORTED;
    }
    let Some(Ready { program, argv, env }) = last.apply(&mut stage, payload) else { return REPORTED };
    stage.note(FinishStep::Exec, 0);
    let (errno, reason) = program.execute(&argv, &env);
    stage.report(FinishStep::Exec, Failure::of("execve", errno).with(reason));
    if errno == Errno::ENOENT { crate::NOT_FOUND } else { crate::NOT_EXECUTABLE }
}
