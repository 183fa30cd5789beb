//! The suite's lanes: which test programs run where, and how the second one runs them as an ordinary user.
pub mod exceptions;
pub mod programs;
pub mod user;
