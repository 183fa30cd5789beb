//! Plans a configuration that overrides have changed.
use crate::facts::Facts;
use crate::oci::Spec;
use crate::options::Options;
use crate::plan::plan_noting;
use crate::planned::Planned;
use crate::prelude::*;
use crate::problem::Problem;

use super::apply::Applied;

/// What has become of a changed configuration.
pub struct Outcome {
    /// A plan, as far as one could be made.
    pub planned: Option<Planned>,
    pub problems: Vec<Problem>,
    /// Of the overrides alone where there is no plan, which has all of them.
    pub notes: Vec<Problem>,
}

impl Applied {
    /// Plans the changed configuration; steps, problems and notes are named after what they come from.
    pub fn plan(self, spec: &Spec, facts: &Facts, options: &Options) -> Result<Planned, Vec<Problem>> {
        match self.plan_anyway(spec, facts, options) {
            Outcome { planned: Some(planned), problems, .. } if problems.is_empty() => Ok(planned),
            Outcome { problems, .. } => Err(problems),
        }
    }

    /// As [`Applied::plan`], even if an override cannot be carried out.
    pub fn plan_anyway(self, spec: &Spec, facts: &Facts, options: &Options) -> Outcome {
        let Applied { origins, mut notes, mut problems, .. } = self;
        let mut left = Vec::new();
        match plan_noting(spec, facts, options, &mut left) {
            Ok(planned) => {
                let mut planned = planned.named_after(origins);
                planned.notes.splice(0..0, notes);
                Outcome { planned: Some(planned), problems, notes: Vec::new() }
            }
            Err(mut found) => {
                origins.rename_problems(&mut found);
                problems.append(&mut found);
                origins.rename_problems(&mut left);
                notes.append(&mut left);
                Outcome { planned: None, problems, notes }
            }
        }
    }
}
