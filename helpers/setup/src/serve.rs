//! The pipeline of rspawn-setup, top to bottom.
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use rspawn_proto::check::check;
use rspawn_proto::msg::{FromSetup, InvokerRequest, Mode, ToSetup};
use rspawn_proto::plan::{Finish, Kind, Plan};
use rspawn_proto::policy::{Approved, Violation, judge};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred, fd, file, process, signal, tune};

use crate::container_process::ContainerProcess;
use crate::create::{self, Traces};
use crate::exec;
use crate::invoker::{self, Held, Invoker};
use crate::parent::{End, Parent, progress_word};
use crate::programs::{self, InitImage};
use crate::state;
use crate::supervise::supervise;
use crate::update;

/// Serves one parent: one plan, one container.
pub fn serve(control: Fd, page: Fd, programs: Fd) -> i32 {
    // Before anything is opened here: a number that is free now will be one of this program's own later.
    let own = [&control, &page, &programs].map(Fd::raw);
    let lowest = own.into_iter().min().unwrap_or(3);
    let inherited = Fd::open_between(3, lowest);
    let progress = match sanitise(lowest, own).and_then(|()| SharedWord::map(&page, false).named("mmap")) {
        Ok(word) => word,
        Err(failure) => {
            return told(channel::send_value(&control, &FromSetup::Failed(failure.at(Place::Receive)), &[]));
        }
    };
    let mut parent = Parent { control, progress, page, programs, audit: false, early: RefCell::default() };
    match run(&mut parent, inherited) {
        Ok(()) => 0,
        Err(End::Failed(error)) => told(channel::send_value(&parent.control, &FromSetup::Failed(error), &[])),
        Err(End::Refused(violations)) => {
            told(channel::send_value(&parent.control, &FromSetup::Refused(some(violations)), &[]))
        }
        Err(End::Orphaned) => 1,
    }
}

/// The exit status of who has failed: another where the parent could not be told, which it says then.
fn told(sent: rspawn_sys::Result<()>) -> i32 {
    if sent.is_ok() { 1 } else { 2 }
}

/// First act: nothing that the caller left behind may leak into the container or be reached from it.
fn sanitise(lowest: i32, own: [i32; 3]) -> Outcome<()> {
    // What the payload may inherit is numbered below this program's own; the rest was leaked.
    let mut kept: Vec<i32> = (0..lowest).chain(own).collect();
    fd::close_all_but(&mut kept).named("close_range")?;
    // All others close on exec: the caller may have leaked some to this process.
    fd::close_from_on_exec(3).named("close_range")?;
    cred::set_dumpable(false).named("prctl")?;
    // Executed from a copy, its name would be the copy's.
    process::set_name(c"rspawn-setup").named("prctl")?;
    signal::reset_dispositions();
    file::set_umask(0);
    // A write beyond the invoker's limit of file sizes is to fail, and not to end this program before it has cleared up.
    signal::set_blocked(1 << (libc::SIGXFSZ - 1)).named("rt_sigprocmask")?;
    file::change_directory_to("/").named("chdir")
}

fn run(parent: &mut Parent, inherited: Vec<Fd>) -> Result<(), End> {
    let sealed = parent.step(Place::Spawn(SpawnStep::SealInit), || programs::seal(&parent.programs, "rspawn-init"))?;
    let invoker = invoker::receive(parent)?;
    let InvokerRequest { mode, keep, preserve_fds, .. } = invoker.request;
    parent.audit = invoker.request.audit;
    parent.send(&FromSetup::Taken, &[])?;
    let inherited = inherited.into_iter().filter(|fd| fd.raw() < 3 + preserve_fds as i32).collect();
    let image = InitImage { sealed, preserve_fds, file_limit: None, inherited };
    let status = match &invoker.held {
        Held::Container { state, gate } => {
            let mut traces = Traces::new(state);
            let mut ended = receive_plan(parent, &invoker.request, Kind::Container)
                .and_then(|plan| create::create(parent, &invoker, gate.as_ref(), plan, image, &mut traces));
            if let Err(End::Failed(error)) = &mut ended {
                traces.explain(error);
            }
            if (ended.is_err() || (mode == Mode::Foreground && !keep))
                && let Err(failure) = traces.clear(parent)
            {
                parent.report_left(failure.at(Place::Spawn(SpawnStep::Record)));
            }
            ended?
        }
        Held::Exec { target } => {
            let plan = receive_plan(parent, &invoker.request, Kind::Exec)?;
            exec::exec(parent, &invoker, target, plan, image)?
        }
        Held::Update => update::update(parent, &invoker, receive_plan(parent, &invoker.request, Kind::Update)?)?,
    };
    match status {
        Some(status) => parent.send(&FromSetup::Exited { status }, &[]),
        None => Ok(()),
    }
}

/// The second message, judged.
fn receive_plan(parent: &Parent, request: &InvokerRequest, kind: Kind) -> Result<Approved<Plan>, End> {
    let refuse = |reason: &str| End::Failed(Failure::check(reason).at(Place::Check));
    let (message, fds) = match channel::receive(&parent.control, MAX_PLAN) {
        Ok(Some(received)) => received,
        Ok(None) => return Err(End::Orphaned),
        Err(errno) => return Err(Failure::of("recvmsg", errno).at(Place::Check).into()),
    };
    let ToSetup::Plan { plan, streams } = codec::decode_plan(&message).map_err(refuse)? else {
        return Err(refuse("the second message is not a plan"));
    };
    take_streams(&streams, &fds).map_err(|failure| failure.at(Place::Check))?;
    if (&plan.header.id, plan.header.kind, plan.finish.preserve_fds) != (&request.id, kind, request.preserve_fds) {
        return Err(refuse("the plan is not for what the invoker asked"));
    }
    approve(parent, request, plan)
}

/// Puts pipes of the parent's in the place of standard streams, which the payload gets from this process.
fn take_streams(streams: &[u8], pipes: &[Fd]) -> Outcome<()> {
    if streams.len() > pipes.len() || streams.iter().any(|number| *number > 2) {
        return Err(Failure::check("descriptors that are no standard streams"));
    }
    streams.iter().zip(pipes).try_for_each(|(number, pipe)| pipe.install(i32::from(*number)).named("dup3"))
}

/// Structure, then policy, on the whole plan: before the first effect.
fn approve(parent: &Parent, request: &InvokerRequest, plan: Plan) -> Result<Approved<Plan>, End> {
    parent.progress.store(progress_word(Place::Check));
    check(&plan).map_err(|fault| Failure::check(fault.reason).at(fault.place))?;
    let (approved, warnings) = judge(&request.policy, plan).map_err(End::Refused)?;
    warn(parent, warnings)?;
    Ok(approved)
}

/// Passes on what a policy in warn mode would have refused.
pub fn warn(parent: &Parent, warnings: Vec<Violation>) -> Result<(), End> {
    warnings.into_iter().try_for_each(|warning| parent.send(&FromSetup::Warning(short(warning)), &[]))
}

/// Lets a new process run wherever its cgroups do: the CPUs that the caller was bound to are none of the container's
/// limits. The kernel clips the mask to the cpuset, whenever the process gets there (sched_setaffinity(2)). Where it
/// cannot be, the container runs all the same.
pub fn leave_callers_cpus(parent: &Parent, pid: i32, finish: &Finish) -> Result<(), End> {
    // As many CPUs as a kernel has today.
    const ALL: [u64; 128] = [u64::MAX; 128];
    if !finish.affinity.is_empty() || !finish.first_affinity.is_empty() {
        return Ok(());
    }
    let Err(errno) = tune::set_affinity(pid, &ALL) else { return Ok(()) };
    let what = format!("keeps the CPU affinity of the caller: sched_setaffinity: errno {}", errno.0);
    warn(parent, vec![Violation::new("", "/process", what)])
}

/// As much of a policy's findings as one message holds.
fn some(violations: Vec<Violation>) -> Vec<Violation> {
    const MOST: usize = 20;
    let mut distinct: Vec<Violation> = Vec::new();
    for violation in violations {
        if !distinct.contains(&violation) {
            distinct.push(violation);
        }
    }
    let more = distinct.len().saturating_sub(MOST);
    let mut some: Vec<Violation> = distinct.into_iter().take(MOST).map(short).collect();
    if more > 0 {
        some.push(Violation::new("", "", format!("and {more} more")));
    }
    some
}

fn short(violation: Violation) -> Violation {
    const MOST: usize = 1024;
    let cut = |text: String| if text.len() > MOST { text.chars().take(MOST / 4).collect() } else { text };
    Violation { origin: cut(violation.origin), what: cut(violation.what), ..violation }
}

/// Leaves a pid file where one was asked for, and says that the process is there.
pub fn announce(parent: &Parent, invoker: &Invoker, container: &ContainerProcess) -> Result<(), End> {
    let pid = container.pid;
    if let (Some(name), Some(directory)) = (&invoker.request.pid_file, &invoker.pid_directory) {
        let place = Place::Spawn(SpawnStep::Record);
        parent.step(place, || state::write_pid_file(directory, name.as_str(), pid))?;
    }
    let pid = pid as u32;
    let created = invoker.request.mode == Mode::Created;
    let message = if created { FromSetup::Created { pid } } else { FromSetup::Started { pid } };
    parent.send(&message, &[&container.process])
}

/// Stays as long as the invoker wants, and gives the wait status if that is to the end.
pub fn stay(parent: &Parent, mode: Mode, mut container: ContainerProcess) -> Result<Option<i32>, End> {
    if mode == Mode::Foreground {
        // The console's slave stays open meanwhile: its last close would end the console for a payload that closes
        // its streams and opens /dev/tty or /dev/console later.
        return supervise(parent, &mut container).map(Some);
    }
    container.release();
    Ok(None)
}
