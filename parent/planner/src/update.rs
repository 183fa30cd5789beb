//! A plan for `update`: values for the cgroups of a living container, and nothing else.
use crate::prelude::*;
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{ContainerId, GuestPath, Id, Slot};
use rspawn_proto::plan::*;

use crate::facts::CgroupFacts;
use crate::oci::resources::Resources;
use crate::origins::Origins;
use crate::planned::Planned;
use crate::problem::Problem;
use crate::sections::resources::CurrentLimits;
use crate::sections::{cgroup, intel_rdt, resources, scope};

/// The container that is to be changed, and what may be known of it.
pub struct RunningContainer {
    pub id: ContainerId,
    /// Its own cgroups. Their numbers are the plan's slots.
    pub layout: CgroupFacts,
    pub now: CurrentLimits,
    /// systemd made its cgroup.
    pub in_scope: bool,
    /// The resctrl group that is its own.
    pub resctrl: Option<Slot>,
}

/// What is to change.
pub struct Changes {
    /// The rules about devices are set anew if there are any.
    pub resources: Resources,
    /// Lines for the resctrl group, each with the option that gave it.
    pub schemata: Vec<(&'static str, String)>,
}

/// Plans other limits. `base` is what stands before pointers into the resources. The error lists everything that is
/// wrong.
pub fn update(changes: &Changes, living: &RunningContainer, base: &str) -> Result<Planned, Vec<Problem>> {
    let Changes { resources, schemata } = changes;
    let settings = resources::changes(resources, &living.layout, living.now, base);
    let (mut problems, mut host) = (settings.problems, Vec::new());
    if living.in_scope {
        host.extend(scope::change(&settings.writes));
    }
    let slot = |index: usize| Slot(u16::try_from(index).unwrap_or(u16::MAX));
    for write in settings.writes {
        match cgroup::setting(slot(write.hierarchy), write) {
            Ok(step) => host.push(step),
            Err(problem) => problems.push(problem),
        }
    }
    if !resources.devices.is_empty() {
        let hierarchies = living.layout.hierarchies.iter().enumerate();
        let open: Vec<_> =
            hierarchies.map(|(index, hierarchy)| (hierarchy.controllers.as_str(), slot(index))).collect();
        match cgroup::device_step(&resources.devices, base, &open) {
            Ok(step) => host.push(step),
            Err(more) => problems.extend(more),
        }
    }
    match intel_rdt::change(living.resctrl, schemata) {
        Ok(steps) => host.extend(steps),
        Err(problem) => problems.push(problem),
    }
    let finish = nothing().map_err(|reason| vec![Problem::new("", reason)])?;
    let plan = Plan {
        header: Header { version: WIRE_VERSION, id: living.id.clone(), kind: Kind::Update },
        host,
        spawn: Spawn::default(),
        attach: Vec::new(),
        rootfs: Vec::new(),
        finish,
        hooks: Hooks::default(),
    };
    // The helper would refuse it; saying so here costs less and says more.
    if problems.is_empty()
        && let Err(fault) = rspawn_proto::check::check(&plan)
    {
        problems.push(Problem::new(crate::origin::origin(&plan, fault.place), fault.reason));
    }
    if problems.is_empty() {
        Ok(Planned { plan, notes: settings.notes, origins: Origins::default() })
    } else {
        Err(problems)
    }
}

/// No process comes of it.
fn nothing() -> Result<Finish, &'static str> {
    Ok(Finish {
        init: InitMode::Exec,
        init_reason: String::new(),
        terminal: false,
        terminal_size: (0, 0),
        argv: Vec::new(),
        env: Vec::new(),
        cwd: GuestPath::new("/")?,
        rlimits: Vec::new(),
        scheduler: None,
        io_priority: None,
        memory_policy: None,
        first_affinity: Vec::new(),
        affinity: Vec::new(),
        personality: None,
        keyring: None,
        label: None,
        umask: None,
        groups: None,
        gid: Id::new(0)?,
        uid: Id::new(0)?,
        capabilities: Capabilities::default(),
        no_new_privileges: false,
        own_null: false,
        preserve_fds: 0,
        seccomp: None,
        hooks: Vec::new(),
        state: Default::default(),
    })
}
