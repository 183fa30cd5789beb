//! Containers that run: their processes, cgroups and figures.
pub mod cgroups;
pub mod processes;
pub mod running;
pub mod stats;
