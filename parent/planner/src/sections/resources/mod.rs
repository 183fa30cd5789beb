//! `linux.resources`: what is written to which file of the container's cgroups.
//!
//! A pure function of the limits and the host's layout, for a new container and for `update`. Each controller is
//! looked for in the hierarchies of v1 and then in cgroup v2, so that a hybrid layout needs no rule of its own. What a
//! layout cannot express is a problem; what runc leaves out without a word is a note.
mod cpu;
mod io;
mod memory;
mod other;
mod settings;
#[cfg(test)]
mod tests;

use crate::facts::CgroupFacts;
use crate::oci::resources::Resources;
use crate::prelude::*;

pub use other::allowed_processes;
pub use settings::{Choice, CurrentLimits, Settings, Write};

/// Translates limits for a layout. `base` is the JSON pointer at which they stand.
pub fn settings<'a>(resources: &Resources, facts: &'a CgroupFacts, base: &'a str) -> Settings<'a> {
    changes(resources, facts, CurrentLimits::default(), base)
}

/// As [`settings()`], for a container in which other limits hold.
pub fn changes<'a>(resources: &Resources, facts: &'a CgroupFacts, now: CurrentLimits, base: &'a str) -> Settings<'a> {
    let mut settings = Settings { facts, now, base, writes: Vec::new(), problems: Vec::new(), notes: Vec::new() };
    other::pids(&mut settings, &resources.pids);
    memory::plan(&mut settings, &resources.memory);
    io::plan(&mut settings, &resources.block_io);
    cpu::plan(&mut settings, &resources.cpu);
    cpu::cpuset(&mut settings, &resources.cpu);
    other::hugepages(&mut settings, &resources.hugepage_limits);
    other::network(&mut settings, &resources.network);
    other::rdma(&mut settings, &resources.rdma);
    other::unified(&mut settings, &resources.unified);
    settings
}
