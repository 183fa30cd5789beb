//! Other limits for a living container.
//!
//! Safe for a hostile planner because: which directories are written to, the invoker has said before anything was
//! parsed, and a plan only has their numbers; the structural check knows which files hold settings; and the policy has
//! judged rules about devices as it judges those of a new container.
use rspawn_proto::ids::Slot;
use rspawn_proto::msg::Purpose;
use rspawn_proto::plan::{HostOp, Plan};
use rspawn_proto::policy::Approved;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::unit::ScopeJob;
use rspawn_sys::Failure;

use crate::cgroup::{set, set_device_rules};
use crate::exec::open_cgroups;
use crate::hooks::scope;
use crate::invoker::Invoker;
use crate::parent::{End, Parent};

/// Carries a plan out in the cgroups that the invoker named. Gives what a process would end with that is content.
pub fn update(parent: &Parent, invoker: &Invoker, plan: Approved<Plan>) -> Result<Option<i32>, End> {
    let Purpose::Update { cgroups: named, unit } = &invoker.request.purpose else { return Err(End::Orphaned) };
    let cgroups = parent.step(Place::Spawn(SpawnStep::Cgroups), || open_cgroups(named))?;
    let missing = || Failure::check("the container has no such cgroup");
    let cgroup = |slot: Slot| match named.get(slot.0 as usize) {
        Some(found) if found.shared => Err(Failure::check("the container shares this resctrl group with others")),
        _ => cgroups.get(slot.0 as usize).and_then(Option::as_ref).ok_or_else(missing),
    };
    for (index, step) in plan.into_inner().host.iter().enumerate() {
        let place = Place::Host(index as u16);
        if let (HostOp::SetScope { properties }, Some(unit)) = (&step.op, unit) {
            let job = ScopeJob { unit: unit.clone(), pid: None, properties: properties.clone() };
            scope(parent, invoker.bus.as_ref(), place, &job)?;
            continue;
        }
        parent.step(place, || match &step.op {
            HostOp::SetCgroup { cgroup: slot, choices, needed } => set(cgroup(*slot)?, choices, *needed),
            HostOp::DeviceRules { cgroup: slot, rules } => set_device_rules(cgroup(*slot)?, rules),
            _ => Err(Failure::check("an update is values alone")),
        })?;
    }
    Ok(Some(0))
}
