//! The connection to the parent: what it is told, what it is asked, and when it is gone.
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use rspawn_proto::codec::encode_word;
use rspawn_proto::msg::{FromSetup, FromStage, ToSetup};
use rspawn_proto::policy::Violation;
use rspawn_proto::report::{Place, StepError};
use rspawn_sys::channel::Interest;
use rspawn_sys::failure::timed;
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Errno, Fd, Named, Outcome, channel};

/// How serving a parent can end before the payload does.
pub enum End {
    /// A step failed; the parent is told.
    Failed(StepError),
    /// The policy refused; the parent is told.
    Refused(Vec<Violation>),
    /// The parent is gone: nobody to tell.
    Orphaned,
}

impl From<StepError> for End {
    fn from(error: StepError) -> Self {
        End::Failed(error)
    }
}

/// How a plan's execution ends: with the wait status of a process that was waited for.
pub type Ended = Result<Option<i32>, End>;

pub struct Parent {
    pub control: Fd,
    pub progress: SharedWord,
    /// The page that the word is in. The next one in it is for rspawn-init.
    pub page: Fd,
    /// The directory of rspawn's programs. This one, executed from a copy, does not know where it was.
    pub programs: Fd,
    /// Each step is to be told of, with its time.
    pub audit: Cell<bool>,
    /// The socket to the container's first process, once there is one.
    pub stage: RefCell<Option<Fd>>,
    /// Signals that came before there was a payload to deliver them to.
    pub early: RefCell<Vec<u8>>,
}

impl Parent {
    /// The next message of a stage with its descriptors; `None` at the end of its stream. The parent's end meanwhile
    /// is the end of all: a stage may be stuck in its work.
    pub fn recv(&self, stage: &Fd) -> Result<Option<(FromStage, Vec<Fd>)>, End> {
        loop {
            let readable = |fd| Interest { fd, read: true, write: false };
            let ready = channel::wait([readable(&self.control), readable(stage)], None);
            let [control, said] = ready.named("ppoll").map_err(|failure| failure.at(Place::Supervise))?;
            if said.read {
                let received = channel::receive_value(stage).named("recvmsg");
                return Ok(received.map_err(|failure| failure.at(Place::Supervise))?);
            }
            match channel::receive_value(&self.control) {
                Ok(Some((ToSetup::Signal(number), _))) if control.read => self.early.borrow_mut().push(number),
                _ => return Err(End::Orphaned),
            }
        }
    }

    pub fn send(&self, message: &FromSetup, fds: &[&Fd]) -> Result<(), End> {
        channel::send_value(&self.control, message, fds).map_err(|_| End::Orphaned)
    }

    /// Tells what changes nothing any more. A parent that is gone needs to know nothing.
    pub fn report_left(&self, error: StepError) {
        let _ = self.send(&FromSetup::Left(error), &[]);
    }

    /// Carries out one step: announces it, times it if asked, and names it in its error.
    pub fn step<T>(&self, place: Place, action: impl FnOnce() -> Outcome<T>) -> Result<T, End> {
        self.progress.store(encode_word(&place));
        let (done, record) = timed(self.audit.get(), place, action);
        if let Some(record) = record {
            self.send(&FromSetup::Audit(record), &[])?;
        }
        done.map_err(|failure| End::Failed(self.first_cause(failure.at(place))))
    }

    /// What the container's first process has said meanwhile of its own failure: without it everything else fails.
    fn first_cause(&self, error: StepError) -> StepError {
        let stage = self.stage.borrow();
        let is_readable = |stage: &&Fd| channel::wait_readable(stage, Some(0)) == Ok(true);
        // Enough for all that rspawn-init says; whoever has taken it over could go on for ever.
        for _ in 0..100 {
            match stage.as_ref().filter(is_readable).map(channel::receive_value) {
                Some(Ok(Some((FromStage::Failed(first), _)))) => return first,
                Some(Ok(Some(_))) => {}
                _ => break,
            }
        }
        error
    }
}

/// The result of a send to a stage. That the stage has hung up is no error here: what it sent before says why, and is
/// received next. Any other error is one now, since the stage would wait for ever for what it did not get.
pub fn ignore_hangup(sent: rspawn_sys::Result<()>, place: Place) -> Result<(), StepError> {
    match sent {
        Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        sent => sent.named("sendmsg").map_err(|failure| failure.at(place)),
    }
}
