//! A failed call on its way to becoming a [`StepError`].
use alloc::string::{String, ToString};

use rspawn_proto::report::{Place, StepError};
use rspawn_sys::Errno;

/// Which call refused, why, and on what. The place is added by the driver, which knows it.
#[derive(Debug)]
pub struct Failure {
    call: &'static str,
    errno: i32,
    detail: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A check of rspawn's own refused.
    pub fn check(reason: &str) -> Self {
        Self { call: "check", errno: 0, detail: reason.to_string() }
    }

    pub fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub fn at(self, place: Place) -> StepError {
        StepError { place, call: self.call.to_string(), errno: self.errno, detail: self.detail }
    }

    pub fn errno(&self) -> i32 {
        self.errno
    }
}

/// Names the system call that an errno came from.
pub trait Named<T> {
    fn named(self, call: &'static str) -> Outcome<T>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, call: &'static str) -> Outcome<T> {
        self.map_err(|errno| Failure { call, errno: errno.0, detail: String::new() })
    }
}
