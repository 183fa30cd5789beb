//! The pipeline of rspawn-setup, top to bottom.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use rspawn_proto::check::{check, owned_namespaces};
use rspawn_proto::codec;
use rspawn_proto::msg::{FromSetup, FromStage, ToInit, ToSetup, Trusted};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{Finish, Plan, Spawn};
use rspawn_proto::policy::{Approved, Violation, judge};
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError};
use rspawn_proto::{MAX_PLAN, WIRE_VERSION};
use rspawn_sys::channel::Interest;
use rspawn_sys::confine::{Allowed, allow_only};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Fd, channel, cred, file, process};

use crate::cgroup::{Cgroups, Keeper};
use crate::host::{self, Gate, Slots};
use crate::spawn::{self, Container, InitImage};
use crate::worker::{self, Job, Worker};
use rspawn_sys::failure::{Failure, Named, Outcome, timed};

/// One number for a place, for the progress page that outlives this process. The parent, which has the plan, turns
/// it back into words.
pub fn progress_word(place: Place) -> u32 {
    match place {
        Place::Receive => 1 << 16,
        Place::Check => 2 << 16,
        Place::Host(index) => 3 << 16 | u32::from(index),
        Place::Spawn(step) => 4 << 16 | step as u32,
        Place::Attach(index) => 5 << 16 | u32::from(index),
        Place::Rootfs(index) => 6 << 16 | u32::from(index),
        Place::Finish(step) => 7 << 16 | step as u32,
        Place::Supervise => 8 << 16,
    }
}

/// How serving a parent can end before the payload does.
enum End {
    /// A step failed; the parent is told.
    Failed(StepError),
    /// The policy refused; the parent is told.
    Refused(Vec<Violation>),
    /// The parent is gone: nobody to tell.
    Orphaned,
}

impl From<StepError> for End {
    fn from(error: StepError) -> Self {
        End::Failed(error)
    }
}

/// A message with its descriptors; `None` at the end of the stream, and for what makes no sense.
type Heard = Option<(FromStage, Vec<Fd>)>;

/// The connection to the parent.
struct Parent {
    control: Fd,
    progress: SharedWord,
    audit: bool,
    /// Signals that came before there was a payload to deliver them to.
    early: RefCell<Vec<u8>>,
}

impl Parent {
    /// What a stage says next. The parent's end meanwhile is the end of all: a stage may be stuck in its work.
    fn hear(&self, stage: &Fd) -> Result<Heard, End> {
        loop {
            let readable = |fd| Interest { fd, read: true, write: false };
            let Ok([control, said]) = channel::wait([readable(&self.control), readable(stage)]) else {
                return Ok(None);
            };
            if said.read {
                return Ok(channel::receive_value(stage).ok().flatten());
            }
            match channel::receive_value(&self.control) {
                Ok(Some((ToSetup::Signal(number), _))) if control.read => self.early.borrow_mut().push(number),
                _ => return Err(End::Orphaned),
            }
        }
    }

    fn tell(&self, message: &FromSetup, fds: &[&Fd]) -> Result<(), End> {
        channel::send_value(&self.control, message, fds).map_err(|_| End::Orphaned)
    }

    /// Carries out one step: announces it, times it if asked, and names it in its error.
    fn step<T>(&self, place: Place, action: impl FnOnce() -> Outcome<T>) -> Result<T, End> {
        self.progress.store(progress_word(place));
        let (done, record) = timed(self.audit, place, action);
        if let Some(record) = record {
            self.tell(&FromSetup::Audit(record), &[])?;
        }
        done.map_err(|failure| End::Failed(failure.at(place)))
    }
}

/// Serves one parent: one plan, one container.
pub fn serve(control: Fd, progress: Fd) -> i32 {
    // Before anything is opened here: a number that is free now will be one of this program's own later.
    let inherited = Fd::open_between(3, control.raw().min(progress.raw()));
    let progress = match sanitise().and_then(|()| SharedWord::map(&progress).named("mmap")) {
        Ok(word) => word,
        Err(failure) => {
            let _ = channel::send_value(&control, &FromSetup::Failed(failure.at(Place::Receive)), &[]);
            return 1;
        }
    };
    let mut parent = Parent { control, progress, audit: false, early: RefCell::default() };
    // If the parent does not hear it, there is nobody to tell.
    let _ = match run(&mut parent, inherited) {
        Ok(()) => return 0,
        Err(End::Failed(error)) => parent.tell(&FromSetup::Failed(error), &[]),
        Err(End::Refused(violations)) => parent.tell(&FromSetup::Refused(some(violations)), &[]),
        Err(End::Orphaned) => Ok(()),
    };
    1
}

/// First act: nothing that the caller left behind may leak into the container or be reached from it.
fn sanitise() -> Outcome<()> {
    spawn::guard_descriptors()?;
    cred::set_dumpable(false).named("prctl")?;
    rspawn_sys::signal::reset_dispositions();
    file::set_umask(0);
    file::change_directory_to("/").named("chdir")
}

fn run(parent: &mut Parent, inherited: alloc::vec::Vec<Fd>) -> Result<(), End> {
    let sealed = parent.step(Place::Spawn(SpawnStep::SealInit), spawn::seal_init)?;
    let trusted = receive_trusted(parent)?;
    parent.audit = trusted.audit;
    let plan = receive_plan(parent, &trusted)?;
    let plan = approve(parent, &trusted, plan)?.into_inner();
    let file_limit = parent.step(Place::Check, || spawn::make_room(&plan))?;

    // In this order, and so dropped in the other one: the container dies before its cgroups go.
    let keeper;
    let mut cgroups = Cgroups::default();
    let mut slots = Slots::default();
    let mut gate = Gate { policy: &trusted.policy, plan: &plan, warnings: Vec::new() };
    for (index, step) in plan.host.iter().enumerate() {
        parent.step(Place::Host(index as u16), || host::carry_out(step, &mut slots, &mut cgroups, &mut gate))?;
    }
    for warning in gate.warnings {
        parent.tell(&FromSetup::Warning(short(warning)), &[])?;
    }
    let image = InitImage { sealed, preserve_fds: trusted.preserve_fds, file_limit, inherited };
    parent.progress.store(progress_word(Place::Spawn(SpawnStep::Clone)));
    let mut container = spawn::spawn(&plan.spawn, &plan.finish, &slots, &image)?;
    // What was passed on is the payload's now: who waits for its end must not wait for this process.
    drop(image);
    let job = Job { plan: &plan, owned: owned_namespaces(&plan.spawn), audit: parent.audit, progress: parent.progress };
    for (index, step) in plan.attach.iter().enumerate() {
        parent.step(Place::Attach(index as u16), || crate::attach::carry_out(&step.op, &container))?;
    }
    keeper = parent.step(Place::Spawn(SpawnStep::Cgroups), || cgroups.entrust())?;
    follow_entry(parent, &plan.spawn, &container)?;
    // Not before: a sysctl of a network device needs the device, and the worker joins every namespace.
    let place = Place::Spawn(SpawnStep::Worker);
    let worker = parent.step(place, || worker::start(&job, &container, &mut slots))?;
    let (mut done, slave) = follow_worker(parent, &worker)?;
    // A process that rspawn-init starts before the pivot could keep the host's root; from here on none can.
    let sent = send_finish(&trusted, plan.finish, &container, slave.as_ref());
    while !done {
        (done, _) = follow_worker(parent, &worker)?;
    }
    // The payload must not meet the worker, nor a host path: both are gone before rspawn-init hears Go.
    drop((worker, slots));
    follow_init(parent, &mut container, sent)?;
    // The slave stays open here: its last close would end the console for a payload that closes its streams and
    // opens /dev/tty or /dev/console later.
    supervise(parent, keeper, container)
}

fn receive(parent: &Parent, most: usize) -> Result<Vec<u8>, End> {
    match channel::receive(&parent.control, most) {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(End::Orphaned),
        Err(errno) => Err(Failure::of("recvmsg", errno).at(Place::Receive).into()),
    }
}

fn receive_trusted(parent: &Parent) -> Result<Trusted, End> {
    let refuse = |reason: &str| End::Failed(Failure::check(reason).at(Place::Receive));
    match codec::decode_message(&receive(parent, MAX_PLAN)?).map_err(refuse)? {
        ToSetup::Trusted(trusted) if trusted.version == WIRE_VERSION => Ok(trusted),
        ToSetup::Trusted(_) => Err(refuse("rspawn and rspawn-setup are of different builds")),
        _ => Err(refuse("the first message is not the invoker's")),
    }
}

fn receive_plan(parent: &Parent, trusted: &Trusted) -> Result<Plan, End> {
    let refuse = |reason: &str| End::Failed(Failure::check(reason).at(Place::Check));
    let ToSetup::Plan(plan) = codec::decode_plan(&receive(parent, MAX_PLAN)?).map_err(refuse)? else {
        return Err(refuse("the second message is not a plan"));
    };
    if plan.header.id != trusted.id || plan.finish.preserve_fds != trusted.preserve_fds {
        return Err(refuse("the plan is not for what the invoker asked"));
    }
    Ok(plan)
}

/// Structure, then policy, on the whole plan: before the first effect.
fn approve(parent: &Parent, trusted: &Trusted, plan: Plan) -> Result<Approved<Plan>, End> {
    parent.progress.store(progress_word(Place::Check));
    check(&plan).map_err(|fault| Failure::check(fault.reason).at(fault.place))?;
    let (approved, warnings) = judge(&trusted.policy, plan).map_err(End::Refused)?;
    for warning in warnings {
        parent.tell(&FromSetup::Warning(short(warning)), &[])?;
    }
    Ok(approved)
}

/// As much of a policy's findings as one message holds.
fn some(violations: Vec<Violation>) -> Vec<Violation> {
    const MOST: usize = 20;
    violations.into_iter().take(MOST).map(short).collect()
}

fn short(violation: Violation) -> Violation {
    const MOST: usize = 1024;
    let cut = |text: String| if text.len() > MOST { text.chars().take(MOST / 4).collect() } else { text };
    let Violation { origin, rule, what } = violation;
    Violation { origin: cut(origin), rule, what: cut(what) }
}

/// Waits until the new process is in its cgroups and, seen from them, in a cgroup namespace.
fn follow_entry(parent: &Parent, spawn: &Spawn, container: &Container) -> Result<(), End> {
    if !spawn.new.contains(Namespace::Cgroup) {
        return Ok(());
    }
    match parent.hear(&container.stage)? {
        Some((FromStage::Done, _)) => Ok(()),
        Some((FromStage::Failed(error), _)) => Err(error.into()),
        _ => Err(Failure::check("the new process died").at(Place::Spawn(SpawnStep::Enter)).into()),
    }
}

/// Hears the worker until it has pivoted, or is done: whether it is, and the console's slave, if there is a console.
fn follow_worker(parent: &Parent, worker: &Worker) -> Result<(bool, Option<Fd>), End> {
    let mut slave = None;
    loop {
        match parent.hear(&worker.socket)? {
            Some((FromStage::Done, _)) => return Ok((true, slave)),
            Some((FromStage::Pivoted, _)) => return Ok((false, slave)),
            Some((FromStage::Audit(record), _)) => parent.tell(&FromSetup::Audit(record), &[])?,
            Some((FromStage::Failed(error), _)) => return Err(error.into()),
            Some((FromStage::Console, mut fds)) if fds.len() == 2 => {
                slave = fds.pop();
                parent.tell(&FromSetup::Console, &[&fds[0]])?;
            }
            _ => {
                let reason = "the worker died before it was done";
                return Err(Failure::check(reason).at(last_rootfs_step(parent)).into());
            }
        }
    }
}

/// The step that the worker announced last.
fn last_rootfs_step(parent: &Parent) -> Place {
    match parent.progress.load() {
        word if word >> 16 == 6 => Place::Rootfs(word as u16),
        _ => Place::Spawn(SpawnStep::Worker),
    }
}

/// Sends rspawn-init its last mile, which it begins at once.
fn send_finish(trusted: &Trusted, mut finish: Finish, container: &Container, slave: Option<&Fd>) -> Outcome<()> {
    // rspawn-init was executed with them.
    finish.argv.clear();
    finish.env.clear();
    let message = ToInit::Finish { finish, audit: trusted.audit, foreground: trusted.foreground };
    channel::send_value(&container.stage, &message, slave.as_slice()).named("sendmsg")
}

/// Lets rspawn-init, which was `sent` its last mile, end it, and waits until the payload's program has been executed.
fn follow_init(parent: &Parent, container: &mut Container, sent: Outcome<()>) -> Result<(), End> {
    parent.progress.store(progress_word(Place::Finish(FinishStep::Receive)));
    let sent = sent.and_then(|()| channel::send_value(&container.stage, &ToInit::Go, &[]).named("sendmsg"));
    let mut ready = false;
    loop {
        match parent.hear(&container.stage)? {
            Some((FromStage::Done, _)) => ready = true,
            Some((FromStage::Audit(record), _)) => parent.tell(&FromSetup::Audit(record), &[])?,
            Some((FromStage::Failed(error), _)) => return Err(error.into()),
            None if ready => break,
            _ => {
                let status = container.wait().map_or(0, process::exit_status);
                let reason = format!("rspawn-init ended with status {status} before the payload began");
                let failure = sent.err().unwrap_or_else(|| Failure::check(&reason)).with(reason.as_str());
                return Err(failure.at(Place::Finish(FinishStep::Receive)).into());
            }
        }
    }
    parent.tell(&FromSetup::Started { pid: container.pid as u32 }, &[])
}

/// Delivers signals until the container ends. Nothing is left to do that needs a right but sending signals.
/// However it ends, the container is dropped before the keeper of its cgroups.
fn supervise(parent: &Parent, keeper: Keeper, mut container: Container) -> Result<(), End> {
    parent.progress.store(progress_word(Place::Supervise));
    confine_supervisor().map_err(|failure| failure.at(Place::Supervise))?;
    for number in parent.early.take() {
        let _ = process::signal(&container.process, i32::from(number));
    }
    let status = loop {
        let readable = |fd| Interest { fd, read: true, write: false };
        let ready = channel::wait([readable(&parent.control), readable(&container.process)]).named("ppoll");
        let [control, ended] = ready.map_err(|failure| failure.at(Place::Supervise))?;
        if ended.read {
            break container.wait().map_err(|failure| failure.at(Place::Supervise))?;
        }
        if control.read {
            match channel::receive_value(&parent.control) {
                Ok(Some((ToSetup::Signal(number), _))) => {
                    let _ = process::signal(&container.process, i32::from(number));
                }
                // The parent is gone, or no longer makes sense: dropping the container kills it.
                _ => return Err(End::Orphaned),
            }
        }
    };
    drop(keeper);
    parent.tell(&FromSetup::Exited { status }, &[])
}

fn confine_supervisor() -> Outcome<()> {
    use libc::*;
    use rspawn_proto::plan::Capabilities;
    const CAP_KILL: u64 = 1 << 5;
    let kill = cred::permitted_capabilities().named("capget")? & CAP_KILL;
    let caps = Capabilities { effective: kill, permitted: kill, ..Capabilities::default() };
    cred::set_capabilities(&caps).named("capset")?;
    cred::no_new_privileges().named("prctl")?;
    let calls = [
        SYS_ppoll, SYS_recvmsg, SYS_sendmsg, SYS_pidfd_send_signal, SYS_wait4, SYS_close, SYS_mmap, SYS_exit_group,
        SYS_restart_syscall,
    ];
    allow_only(&calls.map(Allowed::Call)).named("seccomp")
}
