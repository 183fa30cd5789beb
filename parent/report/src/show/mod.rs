//! Plans for reading: text, JSON, and the difference of two; and how containers are shown to people.
pub mod colours;
pub mod diff;
mod diff_inside;
pub mod exposure;
pub mod json;
pub mod policy;
mod quoting;
mod sentences;
mod subject;
pub mod summary;
pub mod text;
pub mod verdict;

use rspawn_proto::plan::Plan;
use rspawn_proto::report::Place;

pub use colours::{Colours, Tone};

use crate::describe;

/// A step of a plan in words.
pub struct Line {
    pub place: Place,
    pub origin: String,
    pub action: String,
}

/// Every step of the phases that are lists, in the order in which they are taken.
pub fn lines(plan: &Plan) -> Vec<Line> {
    let line = |place| Line {
        place,
        origin: rspawn_planner::origin::origin(plan, place),
        action: describe::action(plan, place),
    };
    let host = (0..plan.host.len()).map(|index| Place::Host(index as u16));
    let attach = (0..plan.attach.len()).map(|index| Place::Attach(index as u16));
    let rootfs = (0..plan.rootfs.len()).map(|index| Place::Rootfs(index as u16));
    host.chain(attach).chain(rootfs).map(line).collect()
}
