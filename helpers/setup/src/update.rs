//! Other limits for a living container.
//!
//! Safe for a hostile planner because: which directories are written to, the invoker has said before anything was
//! parsed, and a plan only has their numbers; the structural check knows which files hold settings; and the policy has
//! judged rules about devices as it judges those of a new container.
use rspawn_proto::ids::Slot;
use rspawn_proto::msg::Purpose;
use rspawn_proto::plan::{HostOp, Plan};
use rspawn_proto::policy::Approved;
use rspawn_proto::record::CgroupDir;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::Failure;

use crate::cgroup::{Cgroups, open_recorded};
use crate::host_phase::HostPhase;
use crate::invoker::Invoker;
use crate::parent::{End, Ended};
use crate::slots::Slots;

/// Carries a plan out in the cgroups that the invoker named. Gives what a process would end with that is content.
pub fn update(invoker: &Invoker, plan: Approved<Plan>) -> Ended {
    let Purpose::Update { cgroups: named, .. } = &invoker.request.purpose else { return Err(End::Orphaned) };
    let plan = plan.into_inner();
    let mut made = Cgroups::default();
    let mut phase = HostPhase::new(invoker, &plan, &mut made);
    let opened = invoker.parent.step(Place::Spawn(SpawnStep::Cgroups), || open_recorded(named))?;
    for (index, cgroup) in opened.into_iter().enumerate() {
        if let Some(cgroup) = cgroup {
            phase.slots.fill(Slot(index as u16), cgroup);
        }
    }
    for (index, step) in plan.host.iter().enumerate() {
        if let Some(reason) = objection(&step.op, named, &phase.slots) {
            return invoker.parent.step(Place::Host(index as u16), || Err(Failure::check(reason)));
        }
        phase.carry_out(index, step)?;
    }
    Ok(Some(0))
}

/// Why an operation cannot be part of this update.
fn objection(op: &HostOp, named: &[CgroupDir], slots: &Slots) -> Option<&'static str> {
    match op {
        HostOp::SetCgroup { cgroup, .. } | HostOp::DeviceRules { cgroup, .. } => {
            let is_shared = named.get(cgroup.0 as usize).is_some_and(|found| found.shared);
            let missing = slots.filled(*cgroup).is_none().then_some("the container has no such cgroup");
            if is_shared { Some("the container shares this resctrl group with others") } else { missing }
        }
        HostOp::SetScope { .. } => None,
        _ => Some("an update changes values of cgroups and of the scope, and nothing else"),
    }
}
