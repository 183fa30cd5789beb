//! What rspawn-init says to whoever waits for it, and waits for: rspawn-setup, and `rspawn start`.
use rspawn_proto::msg::{FromStage, ToInit};
use rspawn_proto::report::{FinishStep, Place, finish_word};
use rspawn_sys::failure::timed;
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, file};

/// The line to whoever waits for this process: rspawn-setup, and once the gate is open, `rspawn start`.
pub struct Stage {
    pub socket: Fd,
    /// Gate and report, for a container that is only created.
    pub gate: Option<(Fd, Fd)>,
    /// In the payload's process beside PID 1: at its end when PID 1 has given up its rights.
    pub beside: Option<Fd>,
    pub audit: bool,
    /// Where the step is noted, in the payload's process.
    pub word: Option<SharedWord>,
    /// The container's root is complete.
    rooted: bool,
}

impl Stage {
    pub fn new(socket: Fd) -> Self {
        Self { socket, gate: None, beside: None, audit: false, word: None, rooted: false }
    }

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
    pub fn fail<T>(&self, step: FinishStep, failure: Failure) -> Option<T> {
        self.report(step, failure);
        // The end of PID 1 would be the worker's too, and hide the reason: rspawn-setup ends this process.
        if !self.rooted {
            self.wait_for_go();
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
        self.wait_for_go()?;
        self.rooted = true;
        Some(())
    }

    fn wait_for_go(&self) -> Option<()> {
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

    pub fn note(&self, step: FinishStep, errno: i32) {
        self.word.inspect(|word| word.store(finish_word(step, errno)));
    }

    pub fn report(&self, step: FinishStep, failure: Failure) {
        self.note(step, if failure.errno == 0 { -1 } else { failure.errno });
        // By write(2), which a payload's filter lets pass sooner than sendmsg(2).
        let _ = channel::write_value(&self.socket, &FromStage::Failed(failure.at(Place::Finish(step))));
    }

    /// Says a word that rspawn-setup waits for. Where it cannot be said, this process has to end: that is heard.
    pub fn say(&self, word: &FromStage) -> Result<(), Errno> {
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
