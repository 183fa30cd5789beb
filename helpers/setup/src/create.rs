//! A new container: from an approved plan to a payload that runs, or waits for its start.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::slice;

use rspawn_proto::hook::{Hook, Hooks};
use rspawn_proto::ids::Text;
use rspawn_proto::msg::{Mode, Purpose};
use rspawn_proto::plan::{Finish, HostOp, Plan, RootfsOp};
use rspawn_proto::policy::{self, Approved, PathRule, Policy};
use rspawn_proto::record::{CgroupDir, RECORD_VERSION, Record};
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError};
use rspawn_proto::unit::ScopeJob;
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Failure, Fd, Named, Outcome, process};

use crate::cgroup::{self, Cgroups, Keeper};
use crate::container_process::ContainerProcess;
use crate::follow::{Until, await_init, follow_entry, follow_init, follow_worker, reach_agent, send_finish};
use crate::gate::Gate;
use crate::hooks::{self, Runner};
use crate::host;
use crate::inside::Inside;
use crate::invoker::{Gates, Invoker};
use crate::parent::{End, Parent, progress_word};
use crate::procfs;
use crate::programs::InitImage;
use crate::serve::{announce, leave_callers_cpus, stay, warn};
use crate::slots::Slots;
use crate::spawn;
use crate::state::StateDir;
use crate::streams;
use crate::worker::{self, Job};

/// What a container leaves on the host.
pub struct Traces<'a> {
    state: &'a StateDir,
    cgroups: Cgroups,
    /// Who removes them where this program can no longer.
    keeper: Option<Keeper>,
    runner: Option<Runner>,
    hooks: Hooks,
    /// The cgroup that limits its memory.
    memory: Option<Fd>,
}

impl<'a> Traces<'a> {
    pub fn new(state: &'a StateDir) -> Self {
        Self { state, cgroups: Cgroups::default(), keeper: None, runner: None, hooks: Hooks::default(), memory: None }
    }

    /// Clears them away, if nobody else has: the container has ended, or never began. What cannot be removed stays
    /// recorded, so that `delete --force` and the next container of this name find it.
    pub fn clear(&mut self, parent: &Parent) -> Outcome<()> {
        if !self.state.lock()? {
            return Ok(());
        }
        let kept = self.keeper.as_mut().is_none_or(Keeper::end);
        self.cgroups.remove()?;
        if !kept {
            return Err(Failure::check(
                "the process that was to remove the container's cgroups could not, or was killed",
            ));
        }
        if let Some(runner) = &self.runner {
            for hook in &self.hooks.deferred.poststop {
                // Whatever it says, the others run, and the container is deleted (runtime.md, "Lifecycle").
                let ran = runner.run(None, slice::from_ref(hook), self.state_text("stopped", None), self.allowed());
                if let Err(End::Failed(error)) = ran {
                    parent.report_left(error);
                }
            }
        }
        self.state.remove()
    }

    /// Why a stage has died without a word, where the container's own limit of memory did it.
    pub fn explain(&self, error: &mut StepError) {
        let died = matches!(error.place, Place::Spawn(SpawnStep::Enter) | Place::Finish(FinishStep::Receive));
        // Or what was to be done with it found nobody.
        let gone = error.errno == libc::ESRCH;
        let Some(memory) = self.memory.as_ref().filter(|_| gone || (died && error.errno == 0)) else { return };
        let read = |names: [&str; 2]| names.iter().find_map(|name| cgroup::words_of(memory, name));
        let Some(events) = read(["memory.events", "memory.oom_control"]) else { return };
        let killed = events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count != "0");
        if let Some(limit) = read(["memory.max", "memory.limit_in_bytes"]).filter(|_| killed) {
            let used = read(["memory.peak", "memory.max_usage_in_bytes"]).unwrap_or("unknown".into());
            error.detail =
                format!("{}: its limit of memory, {limit} bytes, is too small ({used} were used)", error.detail);
        }
    }

    fn state_text(&self, status: &str, pid: Option<i32>) -> String {
        self.hooks.deferred.state.fill(status, pid)
    }

    fn allowed(&self) -> Option<Vec<PathRule>> {
        self.hooks.deferred.allowed.clone()
    }

    /// Runs hooks in the caller's namespaces.
    fn run(&self, parent: &Parent, list: &[Hook], status: &str, pid: i32) -> Result<(), End> {
        match &self.runner {
            Some(runner) => runner.run(Some(parent), list, self.state_text(status, Some(pid)), self.allowed()),
            None => Ok(()),
        }
    }
}

/// Carries a plan out. Gives the container's wait status where it was waited for.
pub fn create(
    parent: &Parent,
    invoker: &Invoker,
    gate: Option<&Gates>,
    plan: Approved<Plan>,
    mut image: InitImage,
    traces: &mut Traces,
) -> Result<Option<i32>, End> {
    let mut plan = plan.into_inner();
    let mode = invoker.request.mode;
    parent.step(Place::Spawn(SpawnStep::Enter), || streams::prepare(&plan))?;
    image.file_limit = parent.step(Place::Check, || spawn::make_room(&plan))?;
    let directories = parent.step(Place::Check, || cgroup::directories(&plan))?;
    if !directories.is_empty() {
        // Before they are made, until there is a record: whoever clears up after this program was killed finds them.
        parent.step(Place::Spawn(SpawnStep::Record), || traces.state.write("cgroups", &directories))?;
    }
    let (mut slots, held) = open_host(parent, invoker, &plan, &mut traces.cgroups)?;
    traces.cgroups.share();
    traces.memory = parent.step(Place::Spawn(SpawnStep::Cgroups), || cgroup::of_memory(&plan, &slots))?;
    let agent = reach_agent(&plan.finish, &slots)?;
    parent.progress.store(progress_word(Place::Spawn(SpawnStep::Clone)));
    let mut container = spawn::spawn(&plan.spawn, &plan.finish, &slots, &image)?;
    if mode == Mode::Foreground && !invoker.request.keep {
        let place = Place::Spawn(SpawnStep::Cgroups);
        traces.keeper = Some(parent.step(place, || traces.cgroups.entrust())?);
    }
    leave_callers_cpus(parent, container.pid, &plan.finish)?;
    follow_entry(parent, &plan.spawn, &container)?;
    // The scope has the container's process now, and needs no other.
    let unit = held.map(|(unit, _)| unit);
    // What was passed on is the payload's now: who waits for its end must not wait for this process.
    drop(image);
    let inside = Inside::of(&plan.spawn);
    let mut hooks = core::mem::take(&mut plan.hooks);
    let Policy { mode: policy_mode, hooks: allowed, .. } = &invoker.request.policy;
    hooks.deferred.allowed = allowed.clone().filter(|_| *policy_mode == policy::Enforcement::Enforce);
    let place = Place::Spawn(SpawnStep::Hooks);
    traces.hooks = hooks;
    if needs_runner(&traces.hooks, mode) {
        // The last process that is started outside the container's pid namespace.
        traces.runner = Some(parent.step(place, || Runner::start(&parent.programs, "rspawn-hooks", None))?);
    }
    let bundle = match &invoker.request.purpose {
        Purpose::Container { bundle, .. } => bundle.as_str(),
        _ => "",
    };
    let guest = (!traces.hooks.container.is_empty())
        .then(|| {
            parent.step(place, || Runner::start(&parent.programs, "rspawn-hooks", Some((&inside, &container, bundle))))
        })
        .transpose()?;
    for (index, step) in plan.attach.iter().enumerate() {
        parent.step(Place::Attach(index as u16), || crate::attach::carry_out(&step.op, &container))?;
    }
    let has_hooks = plan.rootfs.iter().any(|step| step.op == RootfsOp::Hooks);
    let no_pivot = invoker.request.no_pivot;
    let hides_root = spawn::hides_root(&plan.spawn);
    let hands_root = no_pivot || hides_root;
    let place = Place::Spawn(SpawnStep::Worker);
    let procfs = parent.step(place, || procfs::make(&plan, &inside, &container, &mut slots))?;
    let kernel_mounts = no_pivot.then_some(&invoker.request.kernel_mounts[..]);
    let (audit, progress) = (parent.audit, parent.progress);
    let job = Job { plan: &plan, inside: &inside, audit, progress, hands_root, kernel_mounts, procfs };
    // Not before: a sysctl of a network device needs the device.
    let worker = parent.step(place, || worker::start(&job, &container, &mut slots))?;
    // Made now, since a payload may have ended before its record is written.
    let place = Place::Spawn(SpawnStep::Record);
    let record = parent
        .step(place, || record(invoker, &container, &plan.finish, &inside, (directories, unit), &traces.hooks))?;
    let (pid, pid_inside) = (container.pid, inside.pid_of_first(&container));
    let mounted = || {
        traces.run(parent, &traces.hooks.runtime, "creating", pid)?;
        match &guest {
            Some(guest) => {
                let state = traces.state_text("creating", Some(pid_inside));
                guest.run(Some(parent), &traces.hooks.container, state, traces.allowed())
            }
            None => Ok(()),
        }
    };
    let root = if hands_root { follow_worker(parent, &worker, Until::Root, mounted)? } else { None };
    // Who has an empty root keeps it up to the pivot: until then the other one's `..` is the host's.
    let (first_root, root) = if hides_root { (None, root) } else { (root, None) };
    let slave = if plan.finish.terminal { follow_worker(parent, &worker, Until::Console, mounted)? } else { None };
    let page = gate.map_or(&parent.page, |gates| &gates.page);
    let note = parent.step(Place::Spawn(SpawnStep::Record), || SharedWord::map(page, true).named("mmap"))?;
    let gates = gate.iter().flat_map(|gates| [&gates.gate, &gates.report]);
    let fds = [page].into_iter().chain(&first_root).chain(&slave).chain(gates).chain(&agent);
    let fds: Vec<&Fd> = fds.collect();
    // rspawn-init goes its last mile while the worker mounts, up to where it looks up paths.
    send_finish(invoker, plan.finish, &container, first_root.is_some(), &fds)?;
    // Agents take the end of the stream for the end of the message.
    drop(agent);
    await_init(parent, &container)?;
    if !has_hooks {
        worker.resume()?;
    }
    follow_worker(parent, &worker, Until::Done, mounted)?;
    // The payload must not meet the worker, nor a host path: both are gone before rspawn-init hears Go.
    drop((worker, guest, slots));
    // Before anything of the container's runs: whatever is killed from here on, `delete` finds the process.
    parent.step(Place::Spawn(SpawnStep::Record), || traces.state.write("record", &record))?;
    follow_init(parent, &mut container, mode, note, root.as_ref())?;
    parent.step(Place::Spawn(SpawnStep::Record), || traces.state.unlock())?;
    if mode != Mode::Created {
        traces.run(parent, &traces.hooks.deferred.poststart, "running", container.pid)?;
    }
    announce(parent, invoker, &container)?;
    stay(parent, mode, container)
}

/// Whether any hook runs in the caller's namespaces while rspawn-setup is there.
fn needs_runner(hooks: &Hooks, mode: Mode) -> bool {
    let later = mode != Mode::Created && !hooks.deferred.poststart.is_empty();
    later || !hooks.runtime.is_empty() || !hooks.deferred.poststop.is_empty()
}

/// The host phase. Of a container in a scope, it leaves a process there that holds the place.
pub fn open_host(
    parent: &Parent,
    invoker: &Invoker,
    plan: &Plan,
    cgroups: &mut Cgroups,
) -> Result<(Slots, Option<(Text, Keeper)>), End> {
    let mut slots = Slots::default();
    let mut held = None;
    let mut gate = Gate::new(&invoker.request.policy, plan);
    for (index, step) in plan.host.iter().enumerate() {
        let place = Place::Host(index as u16);
        // Before a filesystem reads a disk.
        if gate.refuses() && matches!(step.op, HostOp::NewFilesystem { .. }) {
            break;
        }
        if let HostOp::StartScope { unit, properties } = &step.op {
            // A keeper of nothing: all it does is wait.
            let holder = parent.step(place, || Cgroups::default().entrust())?;
            let job = ScopeJob { unit: unit.clone(), pid: Some(holder.pid), properties: properties.clone() };
            hooks::scope(parent, invoker.bus.as_ref(), place, &job)?;
            held = Some((job.unit, holder));
        } else {
            let holder = held.as_ref().map(|(_, holder)| holder);
            parent.step(place, || host::carry_out(step, &mut slots, (cgroups, holder), &mut gate))?;
        }
    }
    gate.judge_hooks();
    if gate.refuses() {
        return Err(End::Refused(gate.found));
    }
    warn(parent, gate.found)?;
    Ok((slots, held))
}

/// What later commands need to know.
fn record(
    invoker: &Invoker,
    container: &ContainerProcess,
    finish: &Finish,
    inside: &Inside,
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
        foreground: invoker.request.mode == Mode::Foreground && !invoker.request.keep,
        init: finish.init,
        new_keyring: finish.keyring.is_some(),
        namespaces: inside.owned,
        cgroups,
        unit,
        deferred: hooks.deferred.clone(),
    })
}
