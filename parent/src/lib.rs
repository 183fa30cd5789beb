//! `rspawn`'s first stage: opens what the invoker named, starts rspawn-setup, gives up every privilege, then parses
//! and plans.
//!
//! Where things are: [`commands`] has one file a verb and reads top to bottom; [`plan`] is the pure planner, one file
//! a section of config.json; [`sandbox`] is how privileges go; [`drive`] is what remains to do while a container runs.
#![forbid(unsafe_code)]

mod audit;
mod bundle;
mod cgroups;
pub mod check;
pub mod cli;
pub mod commands;
pub mod default_spec;
pub mod describe;
mod drive;
pub mod facts;
pub mod gather;
mod hooks;
mod invoker;
mod launch;
mod living;
mod log;
mod look;
mod notify;
pub mod nspawn;
pub mod oci;
mod opener;
mod origins;
pub mod overrides;
pub mod plan;
pub mod policy;
pub mod problem;
mod processes;
pub mod sandbox;
mod scratch;
pub mod settings;
pub mod show;
mod signals;
pub mod state;
mod stats;
mod stream_pipes;
mod streams;
mod terminal;
mod units;
