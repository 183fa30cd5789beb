//! A failed call on its way to becoming a [`StepError`], and the time that a step took.
use alloc::string::{String, ToString};

use rspawn_proto::report::{AuditRecord, Place, StepError};

use crate::Errno;
use crate::tune::microseconds;

/// Which call refused, why, and on what. The place is added by the driver, which knows it.
#[derive(Debug)]
pub struct Failure {
    call: &'static str,
    pub errno: i32,
    pub detail: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A check of rspawn's own refused.
    pub fn check(reason: &str) -> Self {
        Self { call: "check", errno: 0, detail: reason.to_string() }
    }

    /// A system call refused.
    pub fn of(call: &'static str, errno: Errno) -> Self {
        Self { call, errno: errno.0, detail: String::new() }
    }

    pub fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub fn at(self, place: Place) -> StepError {
        StepError { place, call: self.call.to_string(), errno: self.errno, detail: self.detail }
    }
}

/// Names the system call that an errno came from.
pub trait Named<T> {
    fn named(self, call: &'static str) -> Outcome<T>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, call: &'static str) -> Outcome<T> {
        self.map_err(|errno| Failure::of(call, errno))
    }
}

/// Takes a step; its record, if the invoker wants one.
pub fn timed<T>(audit: bool, place: Place, step: impl FnOnce() -> Outcome<T>) -> (Outcome<T>, Option<AuditRecord>) {
    let began = if audit { microseconds() } else { 0 };
    let done = step();
    let errno = done.as_ref().err().map_or(0, |failure| failure.errno);
    let record = |()| AuditRecord { place, errno, began, microseconds: (microseconds() - began) as u32 };
    (done, audit.then_some(()).map(record))
}
