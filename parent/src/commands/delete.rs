//! `rspawn delete`: removes what is left of a container.
use std::fs;
use std::io::ErrorKind;

use rspawn_proto::ids::ContainerId;
use rspawn_sys::{channel, process};

use crate::cli::{Delete, Global};
use crate::state::{Container, StateRoot, Status};
use crate::{cgroups, hooks};

/// Milliseconds that a killed container has to be gone in.
const PATIENCE: u32 = 10_000;

pub fn delete(global: &Global, arguments: Delete) -> Result<i32, String> {
    let Delete { force, id } = arguments;
    let root = StateRoot::open(global.root.as_deref())?;
    let locked = root.container(&id).and_then(|container| Ok((container.lock()?, container)));
    let (_lock, container) = match locked {
        Ok(locked) => locked,
        Err(reason) if force => return clear(&root, &id, &reason),
        Err(reason) => return Err(reason),
    };
    match container.status() {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        _ if force => end(&container)?,
        status => return Err(format!("cannot delete container {id} that is not stopped: {}", status.name())),
    }
    // Processes of a shared pid namespace live on without the first one.
    cgroups::signal_all(&container.record.cgroups, libc::SIGKILL);
    let removed = cgroups::remove(&container.record.cgroups);
    let after = &container.record.after;
    let hooks = hooks::run(&after.poststop, after.state.fill("stopped", None));
    fs::remove_dir_all(&container.path)
        .map_err(|error| format!("cannot remove {}: {error}", container.path.display()))?;
    // The container is deleted whatever its hooks say (runtime.md, "Lifecycle").
    if let Err(reason) = hooks {
        eprintln!("rspawn: warning: {reason}");
    }
    removed.map(|()| 0)
}

/// Kills the first process, and with it its pid namespace, and waits for it.
fn end(container: &Container) -> Result<(), String> {
    let Some(first) = container.process() else { return Ok(()) };
    let _ = process::signal(&first, libc::SIGKILL);
    cgroups::signal_all(&container.record.cgroups, libc::SIGKILL);
    cgroups::thaw(&container.record.cgroups);
    match channel::wait_readable(&first, Some(PATIENCE)) {
        Ok(true) => Ok(()),
        _ => Err(format!("container {} was killed and does not end", container.record.id)),
    }
}

/// With --force: what is no container is removed as well, and what is not there is no error.
fn clear(root: &StateRoot, id: &str, reason: &str) -> Result<i32, String> {
    // An id names a directory: nothing else is ever removed.
    let id = ContainerId::new(id)?;
    let directory = match root.open_state(id.as_str()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(_) => return Err(reason.into()),
        Ok(directory) => fs::File::from(directory),
    };
    if directory.try_lock().is_err() {
        return Err(format!("container {id} is just being made by another command"));
    }
    let path = root.path.join(id.as_str());
    fs::remove_dir_all(&path).map(|()| 0).map_err(|error| format!("cannot remove {}: {error}", path.display()))
}
