//! The planner: a pure function from a configuration, facts about the host and options to a plan.
//!
//! No file, no clock, no environment, no randomness: without the standard library there is nothing here that could ask
//! for one, and the compiler holds that. It runs where no file can be opened.
//!
//! Where things are: [`oci`] is what config.json says; [`facts`] what may be known of the host; [`mod@plan`] the order of
//! planning, [`sections`] one file for each section of config.json; [`mod@update`] the other pipeline. What changes a
//! configuration before it is planned: [`overrides`] of the command line, [`settings`] files, and what [`nspawn`] gives
//! a silent bundle.
//! [`policy`] reads the administrator's policy. What a plan looks like in words is the business of rspawn-report.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod default_spec;
pub mod facts;
pub mod nspawn;
pub mod oci;
pub mod options;
pub mod origin;
pub mod origins;
pub mod overrides;
pub mod plan;
pub mod planned;
mod planner;
pub mod policy;
mod prelude;
pub mod printable;
pub mod problem;
pub mod seccomp;
pub mod sections;
pub mod settings;
pub mod signals;
pub mod start_facts;
pub mod tables;
pub mod units;
pub mod update;

pub use options::{InitChoice, NotifyMount, Options};
pub use plan::{exec, plan, plan_noting};
pub use planned::Planned;
pub use sections::mount_options::known as mount_options;
pub use update::{Changes, RunningContainer, update};
