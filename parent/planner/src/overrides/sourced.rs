//! A value and where it comes from.
use crate::prelude::*;

/// A value and who said it: `--chdir=/srv`, `settings [Exec] WorkingDirectory=`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sourced<T> {
    pub value: T,
    pub origin: String,
}

impl<T> Sourced<T> {
    pub fn new(value: T, origin: impl Into<String>) -> Self {
        Self { value, origin: origin.into() }
    }
}
