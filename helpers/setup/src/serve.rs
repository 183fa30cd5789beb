//! The pipeline of rspawn-setup, top to bottom.
use alloc::vec::Vec;

use rspawn_proto::check::check;
use rspawn_proto::codec::encode_word;
use rspawn_proto::msg::{FromSetup, InvokerRequest, ToSetup};
use rspawn_proto::plan::{Kind, Plan};
use rspawn_proto::policy::{Approved, judge};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred, fd, file, process, signal};

use crate::host_cleanup::HostCleanup;
use crate::invoker::{self, Invoker, PurposeFds};
use crate::parent::{End, Parent};
use crate::programs::{self, InitImage};
use crate::report::{truncate_list, warn};
use crate::{create, exec, update};

/// Serves one parent: one plan, one container.
pub fn serve(control: Fd, page: Fd, programs: Fd) -> i32 {
    // Before anything is opened here: a number that is free now will be one of this program's own later.
    let own = [&control, &page, &programs].map(Fd::raw);
    let lowest = own.into_iter().min().unwrap_or(3);
    let inherited = Fd::open_between(3, lowest);
    let progress = match sanitise(lowest, own).and_then(|()| SharedWord::map(&page, false).named("mmap")) {
        Ok(word) => word,
        Err(failure) => return fail(&control, FromSetup::Failed(failure.at(Place::Receive))),
    };
    let (audit, stage, early) = Default::default();
    let parent = Parent { control, progress, page, programs, audit, stage, early };
    match run(&parent, inherited) {
        Ok(()) => 0,
        Err(End::Failed(error)) => fail(&parent.control, FromSetup::Failed(error)),
        Err(End::Refused(violations)) => fail(&parent.control, FromSetup::Refused(truncate_list(violations))),
        Err(End::Orphaned) => 1,
    }
}

/// Tells the parent what went wrong, and gives the exit status: another one where it could not be told.
fn fail(control: &Fd, message: FromSetup) -> i32 {
    if channel::send_value(control, &message, &[]).is_ok() { 1 } else { 2 }
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
    // A write beyond the invoker's limit of file sizes is to fail, and not to end this program before it has cleared
    // up.
    signal::set_blocked(1 << (libc::SIGXFSZ - 1)).named("rt_sigprocmask")?;
    file::change_directory_to("/").named("chdir")
}

fn run(parent: &Parent, inherited: Vec<Fd>) -> Result<(), End> {
    let sealed = parent.step(Place::Spawn(SpawnStep::SealInit), || programs::seal(&parent.programs, "rspawn-init"))?;
    let invoker = invoker::receive(parent)?;
    let preserve_fds = invoker.request.preserve_fds;
    parent.send(&FromSetup::Taken, &[])?;
    let inherited = inherited.into_iter().filter(|fd| fd.raw() < 3 + preserve_fds as i32).collect();
    let image = InitImage { sealed, preserve_fds, file_limit: None, inherited };
    let status = match &invoker.fds {
        PurposeFds::Container { state, .. } => {
            let mut cleanup = HostCleanup::new(state);
            let mut ended = receive_plan(&invoker, Kind::Container)
                .and_then(|plan| create::create(&invoker, plan, image, &mut cleanup));
            if let Err(End::Failed(error)) = &mut ended {
                cleanup.explain(error);
            }
            if (ended.is_err() || invoker.ends_with_container())
                && let Err(failure) = cleanup.clear(parent)
            {
                parent.report_left(failure.at(Place::Spawn(SpawnStep::Record)));
            }
            ended?
        }
        PurposeFds::Exec { target } => {
            let plan = receive_plan(&invoker, Kind::Exec)?;
            exec::exec(&invoker, target, plan, image)?
        }
        PurposeFds::Update => update::update(&invoker, receive_plan(&invoker, Kind::Update)?)?,
    };
    match status {
        Some(status) => parent.send(&FromSetup::Exited { status }, &[]),
        None => Ok(()),
    }
}

/// The second message, judged.
fn receive_plan(Invoker { parent, request, .. }: &Invoker, kind: Kind) -> Result<Approved<Plan>, End> {
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
        return Err(Failure::check("the descriptors are not for standard streams"));
    }
    streams.iter().zip(pipes).try_for_each(|(number, pipe)| pipe.install(i32::from(*number)).named("dup3"))
}

/// Structure, then policy, on the whole plan: before the first effect.
fn approve(parent: &Parent, request: &InvokerRequest, plan: Plan) -> Result<Approved<Plan>, End> {
    parent.progress.store(encode_word(&Place::Check));
    check(&plan).map_err(|fault| Failure::check(fault.reason).at(fault.place))?;
    let (approved, warnings) = judge(&request.policy, plan).map_err(End::Refused)?;
    warn(parent, warnings)?;
    Ok(approved)
}
