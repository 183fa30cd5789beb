//! The policy's verdict for a look at a plan: host paths count as they are written, since nothing is opened. At a start
//! rspawn-setup judges where they lead.
use crate::prelude::*;
use rspawn_proto::plan::{HostOp, Plan, Step};
use rspawn_proto::policy::{Opened, Policy, Violation, absolute, judge_opened};

pub fn violations(policy: &Policy, plan: &Plan) -> Vec<Violation> {
    let mut found = rspawn_proto::policy::violations(policy, plan);
    for step in &plan.host {
        if let Some(place) = place(step) {
            let denied = policy.bind_deny.iter().find(|rule| rule.is_shown_by(&place)).map(|rule| rule.path.clone());
            let opened = Opened { place: &place, denied, alone: true };
            judge_opened(policy, plan, step, &opened, &mut found);
        }
    }
    for hook in plan.hooks.of_the_host() {
        let path = absolute(hook.path.as_str());
        if policy.hooks.as_ref().is_some_and(|allowed| !allowed.iter().any(|rule| rule.covers(&path))) {
            found.push(Violation::new("hooks.allow", &hook.origin, format!("runs the program {}", hook.path)));
        }
    }
    found
}

fn place(step: &Step<HostOp>) -> Option<String> {
    match &step.op {
        HostOp::OpenPath { path, .. } | HostOp::CloneTree { path, .. } | HostOp::OpenNamespace { path, .. } => {
            Some(absolute(path.as_str()))
        }
        _ => None,
    }
}
