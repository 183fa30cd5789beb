//! What planning gives.
use crate::prelude::*;
use rspawn_proto::plan::Plan;

use crate::origins::Origins;
use crate::problem::Problem;

/// A plan, and what a person should know about it: what was ignored, and why.
#[derive(Debug, Clone)]
pub struct Planned {
    pub plan: Plan,
    pub notes: Vec<Problem>,
    /// Where the parts of the configuration come from that are not the bundle's.
    pub origins: Origins,
}

impl Planned {
    /// With its steps and notes named after where the parts of the configuration come from.
    pub fn named_after(mut self, mut origins: Origins) -> Self {
        origins.rename_steps(&mut self.plan.host);
        origins.rename_steps(&mut self.plan.spawn.join);
        origins.rename_steps(&mut self.plan.attach);
        origins.rename_steps(&mut self.plan.rootfs);
        origins.rename_problems(&mut self.notes);
        origins.settle_moves();
        self.origins = origins;
        self
    }
}
