//! `rspawn`'s first stage: opens what the invoker named, starts rspawn-setup, gives up every privilege, then parses
//! and plans.
//!
//! Where things are: [`cli`] is the command line; [`commands`] has one file a verb and reads top to bottom; `session`
//! is what remains to do while a container runs. The planner, what is said of a plan, and what asks the host are crates
//! of their own beside this one: rspawn-planner, rspawn-report, rspawn-host.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
mod session;
