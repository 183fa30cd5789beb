//! The suite's containers a second time, run by an ordinary user who has a range of subordinate ids. What cannot be
//! true of them is listed by name in `rspawn_tests::user::EXCEPTIONS`.
//!
//! Behind a feature for now: a third of them fails, and which of those are exceptions has still to be found out.
#![cfg(feature = "as-user")]
#[path = "capabilities.rs"]
mod capabilities;
#[path = "devices.rs"]
mod devices;
#[path = "exec_errors.rs"]
mod exec_errors;
#[path = "incompatibilities.rs"]
mod incompatibilities;
#[path = "init.rs"]
mod init;
#[path = "kernel_state.rs"]
mod kernel_state;
#[path = "masks.rs"]
mod masks;
#[path = "mounts.rs"]
mod mounts;
#[path = "namespaces.rs"]
mod namespaces;
#[path = "process.rs"]
mod process;
#[path = "root.rs"]
mod root;
#[path = "run.rs"]
mod run;
#[path = "terminal.rs"]
mod terminal;
