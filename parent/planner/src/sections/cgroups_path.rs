//! `linux.cgroupsPath`.
use crate::planner::Planner;

pub const PATH: &str = "/linux/cgroupsPath";

/// The path, where one is given.
pub fn given_path<'a>(planner: &Planner<'a>) -> Option<&'a str> {
    planner.linux().and_then(|linux| linux.cgroups_path.as_deref()).filter(|path| !path.is_empty())
}
