//! In which order the sections of a configuration are planned.
use crate::prelude::*;
use rspawn_proto::plan::{Hooks, Kind};

use crate::facts::Facts;
use crate::oci::Spec;
use crate::options::Options;
use crate::planned::Planned;
use crate::planner::Planner;
use crate::problem::Problem;
use crate::sections::{
    annotations, cgroup, console, devices, hooks, intel_rdt, masked_paths, mounts, namespaces, notify, process, root,
    sysctl_and_names,
};

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
    sysctl_and_names::plan(&mut planner);
    masked_paths::plan(&mut planner);
    process::working_directory(&mut planner);
    root::finish(&mut planner);
    let start_hooks = hooks::start(&mut planner);
    let finish = process::finish(&mut planner, start_hooks, hooks.deferred.state.clone());
    planner.into_plan(finish, hooks, notes)
}

/// Plans another process for a running container: `spec` is the container's, but for its process. The error lists
/// everything that is wrong.
pub fn exec(spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
    let mut planner = Planner::new(spec, facts, options, Kind::Exec);
    let finish = process::finish(&mut planner, Vec::new(), Default::default());
    planner.into_plan(finish, Hooks::default(), &mut Vec::new())
}
