//! `rspawn start`: opens the gate of a created container.
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::InitMode;
use rspawn_proto::record::Record;
use rspawn_proto::report::unfinished;
use rspawn_sys::Errno;
use rspawn_sys::channel::{self, Interest};

use super::kill;
use crate::cli::{Global, Start};
use crate::session::hooks;
use crate::session::notify::{self, Relay};
use rspawn_host::containers::processes::Stat;
use rspawn_host::inputs::cli_inputs::fd;
use rspawn_host::state::{Container, Ending, StateRoot, Status};
use rspawn_host::streams;
use rspawn_planner::origins::Origins;
use rspawn_report::describe;

pub fn start(global: &Global, arguments: Start) -> Result<i32, String> {
    let root = StateRoot::open(global.root.as_deref())?;
    let container = root.container(&arguments.id)?.lock()?;
    match container.status()? {
        // It would wait for one that does not run, with the lock that `resume` needs.
        Status::Created if container.is_frozen()? => {
            return Err("cannot start a container in the paused state".into());
        }
        Status::Created => {}
        Status::Running => return Err("cannot start an already running container".into()),
        Status::Stopped => return Err("cannot start a container that has stopped".into()),
        Status::Paused => return Err("cannot start a container in the paused state".into()),
    }
    let directory = if notify::is_wanted() { container.notify_directory()? } else { None };
    let relay = directory.map(|directory| Relay::listen(&directory)).transpose()?.zip(container.process()?);
    open_gate(&container).map_err(|reason| stopped(&container, reason))?;
    for name in ["gate", "report", "step"] {
        // They say nothing any more: nobody holds them.
        if let Err(error) = fs::remove_file(container.path.join(name)) {
            streams::warn(format!("cannot remove {name} of container {}: {error}", container.record.id));
        }
    }
    // Others may look at, stop and delete it while its hooks run.
    container.unlock()?;
    let deferred = &container.record.deferred;
    let state = deferred.state.fill("running", Some(container.record.pid));
    hooks::run(&deferred.poststart, deferred, state).map_err(|reason| stopped(&container, reason))?;
    if let Some((relay, first)) = relay {
        relay.wait(&first, container.record.pid);
    }
    Ok(0)
}

/// What has failed is stopped (runtime.md, "Lifecycle"): whoever asks next finds it so.
fn stopped(container: &Container, reason: String) -> String {
    match container.end() {
        Ok(()) => reason,
        Err(lives) => format!("{reason}; and it is not stopped: {lives}"),
    }
}

/// Lets the first process execute the payload, and waits until it has, or has said why it cannot.
fn open_gate(container: &Container) -> Result<(), String> {
    let stopped = || "cannot start a container that has stopped".to_string();
    let process = container.process()?.ok_or_else(stopped)?;
    let open = |name: &str, writing: bool| {
        let mut options = fs::OpenOptions::new();
        options.read(!writing).write(writing).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
        options.open(container.path.join(name))
    };
    let say = |error: std::io::Error| match error.kind() {
        // Nobody waits at it any more (ENXIO); or who did is gone between the open and the write.
        _ if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EPIPE)) => stopped(),
        ErrorKind::NotFound => "cannot start an already running container".to_string(),
        _ => format!("cannot open the gate of container {}: {error}", container.record.id),
    };
    let payload = payload(container)?;
    let report = fd(open("report", false).map_err(say)?);
    let step = open("step", false).map_err(say)?;
    open("gate", true).and_then(|mut gate| gate.write_all(b"0")).map_err(say)?;
    // The reason of a failure, unless the payload's program closes the last other end, or the process ends without a
    // word: then its note says which it was.
    let readable = |fd| Interest { fd, read: true, write: false };
    channel::wait([readable(&report), readable(&process)], None).map_err(|errno| describe::errno(errno.0))?;
    let noted = || {
        let mut note = [0u8; 4];
        let read = step.read_exact_at(&mut note, 4);
        read.map(|()| unfinished(u32::from_ne_bytes(note))).map_err(|error| format!("cannot read its step: {error}"))
    };
    let failed = match channel::read_value(&report) {
        Ok(Some(FromStage::Failed(error))) => Some(error),
        Ok(None) | Err(Errno::EAGAIN) => noted()?,
        other => return Err(format!("the report of the container's first process makes no sense: {other:?}")),
    };
    match (failed, payload) {
        (Some(error), _) => Err(describe::failure(None, &error, &Origins::default())),
        // Its note, made just before the exec, is no proof of it.
        (None, Some((pid, start_time))) if Stat::ended_as_init(pid, start_time)? => {
            let how = Ending::of_process(pid, start_time).map_or(String::new(), |how| format!(": {how}"));
            Err(format!("the container's process was killed before it executed the payload{how}"))
        }
        (None, _) => Ok(()),
    }
}

/// The process that is to execute the payload, as pid and start time: the first one, or the one beside it.
fn payload(container: &Container) -> Result<Option<(i32, u64)>, String> {
    let Record { pid, start_time, init, .. } = &container.record;
    match init {
        InitMode::Exec => Ok(Some((*pid, *start_time))),
        InitMode::Supervise => Ok(kill::payload(*pid)?.map(|payload| (payload.pid, payload.start_time))),
    }
}
