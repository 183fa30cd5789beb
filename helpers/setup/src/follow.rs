//! Following the other stages: what the worker and rspawn-init say, and what they are told.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::OUT_OF_MEMORY;
use rspawn_proto::codec::{self, encode_word};
use rspawn_proto::msg::{FromSetup, FromStage, InvokerRequest, Mode, Purpose, ToInit};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{Finish, Listener, Spawn};
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError, unfinished};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Failure, Fd, Named, channel, process};

use crate::container::ContainerProcess;
use crate::helper_process::HelperProcess;
use crate::invoker::Invoker;
use crate::parent::{End, Parent, ignore_hangup};
use crate::slots::Slots;

/// Waits until the new process is in its cgroups and has made itself a cgroup namespace from there, if it is to.
pub fn follow_entry(parent: &Parent, spawn: &Spawn, container: &ContainerProcess) -> Result<(), End> {
    if !spawn.new.contains(Namespace::Cgroup) {
        return Ok(());
    }
    match next_word(parent, container)? {
        Some((FromStage::Done, _)) => Ok(()),
        _ => Err(died()),
    }
}

/// The container's process is gone, and has not said why.
pub fn died() -> End {
    Failure::check("the new process died").at(Place::Spawn(SpawnStep::Enter)).into()
}

/// What a worker is waited for.
#[derive(Clone, Copy, PartialEq)]
pub enum Until {
    /// It has opened the root, or the console, that rspawn-init is to get.
    Root,
    Console,
    /// It has taken every step, the pivot among them.
    Done,
}

/// Hears the worker until it says what it is waited for; another word is an error, lest a plan has the payload begin
/// with the host's root. `mounted` runs at the moment of the hooks.
pub fn follow_worker(
    parent: &Parent,
    worker: &HelperProcess,
    until: Until,
    mounted: impl Fn() -> Result<(), End>,
) -> Result<Option<Fd>, End> {
    loop {
        match (parent.recv(&worker.socket)?, until) {
            (Some((FromStage::Done, _)), Until::Done) => return Ok(None),
            (Some((FromStage::Audit(record), _)), _) => parent.send(&FromSetup::Audit(record), &[])?,
            (Some((FromStage::Failed(error), _)), _) => return Err(error.into()),
            (Some((FromStage::Console, fds)), Until::Console) => return pass_console(parent, fds),
            (Some((FromStage::Root, mut fds)), Until::Root) => return Ok(fds.pop()),
            (Some((FromStage::Mounted, _)), Until::Done) => {
                mounted()?;
                resume(worker)?;
            }
            _ => {
                let reason = "the worker died before it was done";
                return Err(Failure::check(reason).at(last_rootfs_step(parent)).into());
            }
        }
    }
}

/// Lets the worker go on, to the pivot.
pub fn resume(worker: &HelperProcess) -> Result<(), StepError> {
    ignore_hangup(channel::send(&worker.socket, &[], &[]), Place::Spawn(SpawnStep::Worker))
}

/// Passes the master of a console on; keeps the slave.
pub fn pass_console(parent: &Parent, mut fds: alloc::vec::Vec<Fd>) -> Result<Option<Fd>, End> {
    let slave = fds.pop();
    if let [master] = &fds[..] {
        parent.send(&FromSetup::Console, &[master])?;
    }
    Ok(slave)
}

/// The step that the worker announced last.
fn last_rootfs_step(parent: &Parent) -> Place {
    match codec::decode_word(parent.progress.load()) {
        Ok(place @ Place::Rootfs(_)) => place,
        _ => Place::Spawn(SpawnStep::Worker),
    }
}

/// A connection to the agent that the payload's filter asks, if it asks one.
pub fn reach_agent(finish: &Finish, slots: &Slots) -> Result<Option<Fd>, StepError> {
    let connect = |listener: &Listener| channel::connect(slots.get(listener.socket)?).named("connect");
    finish.listener().map(connect).transpose().map_err(|failure| failure.at(Place::Finish(FinishStep::Listener)))
}

/// What the agent is told of a process.
fn notice(finish: &Finish, purpose: &Purpose, pid: i32) -> Option<String> {
    let listener = finish.listener()?;
    let state = match purpose {
        Purpose::Container { .. } => listener.state.fill("creating", Some(pid)),
        // The container's own pid, which is another's, is in it.
        _ => listener.state.fill("running", None),
    };
    Some(format!("{}{pid},\"state\":{state}}}", listener.head))
}

/// Sends rspawn-init its last mile, which it begins at once.
pub fn send_finish(
    invoker: &Invoker,
    mut finish: Finish,
    container: &ContainerProcess,
    chroot: bool,
    fds: &[&Fd],
) -> Result<(), StepError> {
    // rspawn-init was executed with them.
    finish.argv.clear();
    finish.env.clear();
    let InvokerRequest { audit, mode, .. } = invoker.request;
    let notice = notice(&finish, &invoker.request.purpose, container.pid).unwrap_or_default();
    let message = ToInit::Finish { finish, audit, mode, chroot, notice };
    ignore_hangup(channel::send_value(&container.stage, &message, fds), Place::Finish(FinishStep::Receive))
}

/// Waits until rspawn-init has forked, if it is to.
pub fn await_init(parent: &Parent, container: &ContainerProcess) -> Result<(), End> {
    parent.progress.store(encode_word(&Place::Finish(FinishStep::Receive)));
    match next_word(parent, container)? {
        Some((FromStage::Ready, _)) => Ok(()),
        // Not waited for: PID 1 cannot end before the worker in its namespace is reaped, whose parent this process is.
        _ => {
            let reason = "rspawn-init ended before the payload began";
            Err(Failure::check(reason).at(Place::Finish(FinishStep::Receive)).into())
        }
    }
}

/// Lets rspawn-init end its last mile, and waits until the payload's program has been executed, or, where the container
/// is only created, until nothing but its start is left to do. `note` is the step that rspawn-init is at.
pub fn follow_init(
    parent: &Parent,
    container: &mut ContainerProcess,
    mode: Mode,
    note: SharedWord,
    root: Option<&Fd>,
) -> Result<(), End> {
    let place = Place::Finish(FinishStep::Receive);
    parent.progress.store(encode_word(&place));
    let root: Vec<&Fd> = root.into_iter().collect();
    ignore_hangup(channel::send_value(&container.stage, &ToInit::Go, &root), place)?;
    match (next_word(parent, container)?, unfinished(note.load())) {
        (Some((FromStage::Done, _)), _) if mode == Mode::Created => Ok(()),
        (None, None) if mode != Mode::Created => Ok(()),
        (_, error) => Err(obituary(container, error).into()),
    }
}

/// What the container's process says next that is neither a record, which is passed on, nor a failure.
pub fn next_word(parent: &Parent, container: &ContainerProcess) -> Result<Option<(FromStage, Vec<Fd>)>, End> {
    loop {
        match parent.recv(&container.stage)? {
            Some((FromStage::Audit(record), _)) => parent.send(&FromSetup::Audit(record), &[])?,
            Some((FromStage::Failed(error), _)) => return Err(error.into()),
            other => return Ok(other),
        }
    }
}

/// rspawn-init is gone, or makes no sense; with what it has noted of the reason.
fn obituary(container: &mut ContainerProcess, noted: Option<StepError>) -> StepError {
    let place = noted.as_ref().map_or(Place::Finish(FinishStep::Receive), |error| error.place);
    let reason = match container.kill().map(|status| status.map(process::exit_status)) {
        Ok(Some(OUT_OF_MEMORY)) => "rspawn-init was out of memory".into(),
        Ok(Some(status)) => format!("rspawn-init ended with status {status} before the payload began"),
        Ok(None) => "rspawn-init sent an unexpected message, and does not end".into(),
        Err(failure) => return failure.at(place),
    };
    noted.filter(|error| error.errno != 0).unwrap_or_else(|| Failure::check(&reason).at(place))
}
