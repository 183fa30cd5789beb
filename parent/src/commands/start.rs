//! `rspawn start`: opens the gate of a created container.
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use rspawn_proto::msg::FromStage;
use rspawn_sys::channel::{self, Interest};

use crate::cli::{Global, Start};
use crate::describe;
use crate::hooks;
use crate::invoker::fd;
use crate::notify::{self, Relay};
use crate::overrides::Origins;
use crate::state::{Container, StateRoot, Status};
use crate::streams;

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
    for name in ["gate", "report"] {
        // They say nothing any more: nobody holds them.
        if let Err(error) = fs::remove_file(container.path.join(name)) {
            streams::warn(format!("cannot remove {name} of container {}: {error}", container.record.id));
        }
    }
    // Others may look at, stop and delete it while its hooks run.
    container.unlock()?;
    let after = &container.record.after;
    let state = after.state.fill("running", Some(container.record.pid));
    hooks::run(&after.poststart, state).map_err(|reason| stopped(&container, reason))?;
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
    let report = fd(open("report", false).map_err(say)?);
    open("gate", true).and_then(|mut gate| gate.write_all(b"0")).map_err(say)?;
    // Words, until the payload's program closes the last other end of it, or the process ends.
    let mut ready = false;
    loop {
        let readable = |fd| Interest { fd, read: true, write: false };
        channel::wait([readable(&report), readable(&process)], None).map_err(|errno| describe::errno(errno.0))?;
        let said = channel::read_value(&report)
            .map_err(|errno| format!("cannot understand rspawn-init: {}", describe::errno(errno.0)))?;
        match said {
            Some(FromStage::Failed(error)) => return Err(describe::failure(None, &error, &Origins::default())),
            Some(_) => ready = true,
            None if ready => return Ok(()),
            None => return Err("the container's first process ended before the payload began".into()),
        }
    }
}
