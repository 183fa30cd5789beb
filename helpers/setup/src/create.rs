//! A new container: from an approved plan to a payload that runs, or waits for its start.
use alloc::vec::Vec;

use rspawn_proto::codec::encode_word;
use rspawn_proto::hook::Hooks;
use rspawn_proto::ids::Text;
use rspawn_proto::msg::{Mode, Purpose};
use rspawn_proto::namespaces::NamespaceSet;
use rspawn_proto::plan::{Finish, Plan, RootfsOp};
use rspawn_proto::policy::{Approved, Enforcement, Policy};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Failure, Fd, Named, Outcome, process};

use crate::container::{ContainerNamespaces, ContainerProcess};
use crate::follow::{Until, await_init, follow_entry, follow_init, follow_worker, reach_agent, resume, send_finish};
use crate::helper_process::HelperProcess;
use crate::host_cleanup::HostCleanup;
use crate::invoker::Invoker;
use crate::parent::{End, Ended, Parent};
use crate::programs::InitImage;
use crate::report::announce;
use crate::rootfs::BuildOptions;
use crate::runner::Runner;
use crate::slots::Slots;
use crate::state::StateDir;
use crate::supervise::wait_or_detach;
use crate::worker::{self, Job};
use crate::{attach, cgroup, host_phase, joined_procfs, spawn, streams};

const CGROUPS: Place = Place::Spawn(SpawnStep::Cgroups);
const RECORD: Place = Place::Spawn(SpawnStep::Record);

/// Carries a plan out. Gives the container's wait status where it was waited for.
pub fn create(invoker: &Invoker, plan: Approved<Plan>, mut image: InitImage, cleanup: &mut HostCleanup) -> Ended {
    let parent = invoker.parent;
    let mut plan = plan.into_inner();
    let mode = invoker.request.mode;
    let directories = prepare(parent, &plan, &mut image, cleanup.state)?;
    let (mut slots, scope) = host_phase::run(invoker, &plan, &mut cleanup.cgroups)?;
    cleanup.cgroups.share();
    cleanup.memory = parent.step(CGROUPS, || cgroup::of_memory(&plan, &slots))?;
    let agent = reach_agent(&plan.finish, &slots)?;
    parent.progress.store(encode_word(&Place::Spawn(SpawnStep::Clone)));
    let mut container = spawn::spawn(&plan.spawn, &plan.finish, &slots, &image)?;
    parent.stage.replace(Some(parent.step(RECORD, || container.stage.duplicate(0).named("fcntl"))?));
    if invoker.ends_with_container() {
        cleanup.reaper = Some(parent.step(CGROUPS, || cleanup.cgroups.spawn_reaper())?);
    }
    spawn::leave_callers_cpus(parent, container.pid, &plan.finish)?;
    follow_entry(parent, &plan.spawn, &container)?;
    // The scope has the container's process now, and needs no other.
    let unit = scope.map(|(unit, _)| unit);
    // What was passed on is the payload's now: who waits for its end must not wait for this process.
    drop(image);
    let namespaces = ContainerNamespaces::of(&container, &plan.spawn);
    let guest = start_runners(invoker, core::mem::take(&mut plan.hooks), &namespaces, cleanup)?;
    for (index, step) in plan.attach.iter().enumerate() {
        parent.step(Place::Attach(index as u16), || attach::carry_out(&step.op, &container))?;
    }
    let worker = start_worker(invoker, &plan, &namespaces, &mut slots)?;
    // Made now, since a payload may have ended before its record is written.
    let made = || record(invoker, &container, &plan.finish, namespaces.owned, (directories, unit), &cleanup.hooks);
    let record = parent.step(RECORD, made)?;
    let pid_inside = namespaces.pid_of_first();
    let stages = Stages { invoker, cleanup, container: &container, worker, guest, pid_inside };
    // The console's slave stays open: see wait_or_detach.
    let (note, root, _slave) = stages.build(plan, agent)?;
    drop(slots);
    // Before anything of the container's runs: whatever is killed from here on, `delete` finds the process.
    parent.step(RECORD, || cleanup.state.write("record", &record))?;
    if let Some(reaper) = &mut cleanup.reaper {
        parent.step(CGROUPS, || reaper.take_over(&mut cleanup.cgroups))?;
    }
    follow_init(parent, &mut container, mode, note, root.as_ref())?;
    parent.step(RECORD, || cleanup.state.unlock())?;
    if mode != Mode::Created {
        cleanup.run(parent, &cleanup.hooks.deferred.poststart, "running", container.pid)?;
    }
    announce(invoker, &container)?;
    wait_or_detach(parent, mode, container)
}

/// Before the first effect outside this process. Gives the cgroups that the plan makes.
fn prepare(parent: &Parent, plan: &Plan, image: &mut InitImage, state: &StateDir) -> Result<Vec<CgroupDir>, End> {
    parent.step(Place::Spawn(SpawnStep::Enter), || streams::prepare(plan))?;
    image.file_limit = parent.step(Place::Check, || spawn::make_room(plan))?;
    let directories = parent.step(Place::Check, || cgroup::directories(plan))?;
    if !directories.is_empty() {
        // Before they are made, until there is a record: whoever clears up after this program was killed finds them.
        parent.step(RECORD, || state.write("cgroups", &directories))?;
    }
    Ok(directories)
}

/// What runs hooks in the caller's namespaces, if there are any; gives what runs them in the container's.
fn start_runners(
    invoker: &Invoker,
    mut hooks: Hooks,
    namespaces: &ContainerNamespaces,
    cleanup: &mut HostCleanup,
) -> Result<Option<Runner>, End> {
    let Policy { mode: enforcement, hooks: allowed, .. } = &invoker.request.policy;
    hooks.deferred.allowed = allowed.clone().filter(|_| *enforcement == Enforcement::Enforce);
    let start = |inside| {
        invoker
            .parent
            .step(Place::Spawn(SpawnStep::Hooks), || Runner::start(&invoker.parent.programs, "rspawn-hooks", inside))
    };
    let has_poststart = invoker.request.mode != Mode::Created && !hooks.deferred.poststart.is_empty();
    let guest = match &invoker.request.purpose {
        Purpose::Container { bundle, .. } if !hooks.container.is_empty() => Some((namespaces, bundle.as_str())),
        _ => None,
    };
    if has_poststart || !hooks.runtime.is_empty() || !hooks.deferred.poststop.is_empty() {
        // The last process that is started outside the container's pid namespace.
        cleanup.runner = Some(start(None)?);
    }
    cleanup.hooks = hooks;
    guest.map(|inside| start(Some(inside))).transpose()
}

/// Not before the network devices are there: a sysctl of one needs it.
fn start_worker(
    invoker: &Invoker,
    plan: &Plan,
    namespaces: &ContainerNamespaces,
    slots: &mut Slots,
) -> Result<HelperProcess, End> {
    let (parent, place) = (invoker.parent, Place::Spawn(SpawnStep::Worker));
    let procfs = parent.step(place, || joined_procfs::make(plan, namespaces, slots))?;
    let kernel_mounts = invoker.request.no_pivot.then_some(&invoker.request.kernel_mounts[..]);
    let hands_root = invoker.request.no_pivot || spawn::hides_root(&plan.spawn);
    let (audit, progress) = (parent.audit.get(), parent.progress);
    let options = BuildOptions { hands_root, kernel_mounts, procfs };
    let job = Job { plan, namespaces, audit, progress, options };
    parent.step(place, || worker::start(&job, slots))
}

/// The processes of a container that is being made, and those that help.
struct Stages<'a> {
    invoker: &'a Invoker<'a>,
    cleanup: &'a HostCleanup<'a>,
    container: &'a ContainerProcess,
    worker: HelperProcess,
    /// Runs hooks in the container's namespaces.
    guest: Option<Runner>,
    /// The pid of the container's process, as its pid namespace numbers it.
    pid_inside: i32,
}

impl Stages<'_> {
    /// Has the worker build the root while rspawn-init goes its last mile, up to where it looks up paths. On return
    /// only rspawn-init is left. Gives the word that it notes its steps in, the root that it is to enter, and the
    /// slave of its console.
    fn build(self, plan: Plan, agent: Option<Fd>) -> Result<(SharedWord, Option<Fd>, Option<Fd>), End> {
        let Self { invoker, container, .. } = self;
        let (parent, gate) = (invoker.parent, invoker.gate());
        let hides_root = spawn::hides_root(&plan.spawn);
        let has_hooks = plan.rootfs.iter().any(|step| step.op == RootfsOp::Hooks);
        let root = if invoker.request.no_pivot || hides_root { self.follow_worker(Until::Root)? } else { None };
        // Who has an empty root keeps it up to the pivot: until then the other one's `..` is the host's.
        let (first_root, root) = if hides_root { (None, root) } else { (root, None) };
        let slave = if plan.finish.terminal { self.follow_worker(Until::Console)? } else { None };
        let page = gate.map_or(&parent.page, |gate| &gate.page);
        let note = parent.step(RECORD, || SharedWord::map(page, true).named("mmap"))?;
        let gates = gate.iter().flat_map(|gate| [&gate.gate, &gate.report]);
        let fds: Vec<&Fd> = [page].into_iter().chain(&first_root).chain(&slave).chain(gates).chain(&agent).collect();
        send_finish(invoker, plan.finish, container, first_root.is_some(), &fds)?;
        // Agents take the end of the stream for the end of the message.
        drop(agent);
        await_init(parent, container)?;
        if !has_hooks {
            resume(&self.worker)?;
        }
        self.follow_worker(Until::Done)?;
        Ok((note, root, slave))
    }

    fn follow_worker(&self, until: Until) -> Result<Option<Fd>, End> {
        follow_worker(self.invoker.parent, &self.worker, until, || self.run_hooks())
    }

    /// The hooks of the moment when everything is mounted.
    fn run_hooks(&self) -> Result<(), End> {
        let (parent, Self { cleanup, container, .. }) = (self.invoker.parent, self);
        cleanup.run(parent, &cleanup.hooks.runtime, "creating", container.pid)?;
        let Some(guest) = &self.guest else { return Ok(()) };
        let state = cleanup.state_text("creating", Some(self.pid_inside));
        guest.run(Some(parent), &cleanup.hooks.container, state, cleanup.allowed())
    }
}

/// What later commands need to know.
fn record(
    invoker: &Invoker,
    container: &ContainerProcess,
    finish: &Finish,
    namespaces: NamespaceSet,
    (cgroups, unit): (Vec<CgroupDir>, Option<Text>),
    hooks: &Hooks,
) -> Outcome<Record> {
    let Purpose::Container { bundle, created, owner, boot } = invoker.request.purpose.clone() else {
        return Err(Failure::check("no container was asked for"));
    };
    Ok(Record {
        version: RECORD_VERSION,
        id: invoker.request.id.clone(),
        bundle,
        created,
        owner,
        pid: container.pid,
        start_time: process::start_time(container.pid).named("read")?,
        boot,
        foreground: invoker.ends_with_container(),
        init: finish.init,
        new_keyring: finish.keyring.is_some(),
        namespaces,
        cgroups,
        unit,
        deferred: hooks.deferred.clone(),
    })
}
