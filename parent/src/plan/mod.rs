//! The planner: a pure function from a configuration, facts about the host and options to a plan.
//!
//! No file, no clock, no environment, no randomness: it runs where no file can be opened. One module per section of
//! config.json adds its steps; this one says in which order.
mod annotations;
mod binds;
mod capabilities;
mod cgroup;
mod cgroup_mount;
mod console;
pub mod device_rules;
mod devices;
mod gvariant;
mod hooks;
mod init_mode;
mod intel_rdt;
mod kernel;
mod mount_options;
mod mounts;
mod namespaces;
mod notify;
mod number_list;
pub mod options;
pub mod origin;
mod overlay;
mod paths;
pub mod planned;
mod planner;
mod process;
pub mod resources;
mod root;
mod rootless;
mod scope;
pub mod seccomp;
pub mod tables;
#[cfg(test)]
mod tests;
mod update;

use rspawn_proto::plan::{Hooks, Kind};

use planner::Planner;

pub use mount_options::known as mount_options;
pub use options::{InitChoice, NotifyMount, Options};
pub use planned::Planned;
pub use update::{Changes, Living, update};

use crate::facts::Facts;
use crate::oci::Spec;
use crate::problem::Problem;

/// Plans a container. The error lists everything that is wrong, not only the first.
pub fn plan(spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
    plan_noting(spec, facts, options, &mut Vec::new())
}

/// As [`plan`]; what is worth knowing of a configuration that cannot be planned goes to `notes`.
pub fn plan_noting(
    spec: &Spec,
    facts: &Facts,
    options: &Options,
    notes: &mut Vec<Problem>,
) -> Result<Planned, Vec<Problem>> {
    let mut planner = Planner::new(spec, facts, options, Kind::Container);
    planner.check_versions();
    annotations::plan(&mut planner);
    namespaces::plan(&mut planner);
    // Before the mounts: one of them may show the container's own cgroups.
    cgroup::plan(&mut planner);
    intel_rdt::plan(&mut planner);
    root::begin(&mut planner);
    mounts::plan(&mut planner);
    devices::plan(&mut planner);
    notify::plan(&mut planner);
    console::plan(&mut planner);
    let hooks = hooks::plan(&mut planner);
    kernel::plan(&mut planner);
    paths::plan(&mut planner);
    process::working_directory(&mut planner);
    root::finish(&mut planner);
    let start_hooks = hooks::start(&mut planner);
    let finish = process::finish(&mut planner, start_hooks, hooks.after.state.clone());
    planner.into_plan(finish, hooks, notes)
}

/// Plans another process for a running container: `spec` is the container's, but for its process. The error lists
/// everything that is wrong.
pub fn exec(spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
    let mut planner = Planner::new(spec, facts, options, Kind::Exec);
    let finish = process::finish(&mut planner, Vec::new(), Default::default());
    planner.into_plan(finish, Hooks::default(), &mut Vec::new())
}
