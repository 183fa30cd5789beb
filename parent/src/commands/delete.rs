//! `rspawn delete`: removes what is left of a container.
use std::fs;
use std::io::ErrorKind;

use crate::session::hooks;
use rspawn_proto::ids::ContainerId;

use crate::cli::{Delete, Global};
use rspawn_host::state::{
    Container, DOES_NOT_EXIST, StateRoot, Status, Unreadable, clear_cgroups, end_first, end_unread, is_fault, lock,
};

pub fn delete(global: &Global, arguments: Delete) -> Result<i32, String> {
    let Delete { force, regex, id } = arguments;
    let root = StateRoot::open(global.root.as_deref())?;
    if regex {
        return delete_matching(&root, &id, force).map(|()| 0);
    }
    // An id names a directory: nothing else is ever removed.
    let id = ContainerId::new(id)?;
    match root.find(&id) {
        Ok(container) => delete_container(container, force)?,
        Err(Unreadable::Absent | Unreadable::Damaged(_)) if force => clear(&root, &id)?,
        // It may live.
        Err(why) => return Err(why.into()),
    }
    Ok(0)
}

/// Every container whose name an expression matches anywhere, as with crun. One that cannot be deleted keeps no other.
fn delete_matching(root: &StateRoot, expression: &str, force: bool) -> Result<(), String> {
    let expression = regex_lite::Regex::new(expression)
        .map_err(|error| format!("--regex: {expression:?} is not a regular expression: {error}"))?;
    let mut failed = Vec::new();
    for found in root.containers()? {
        let deleted = match found {
            Ok(container) if !expression.is_match(container.record.id.as_str()) => Ok(()),
            Ok(container) => delete_container(container, force),
            Err(why) => Err(why.into()),
        };
        failed.extend(deleted.err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nrspawn: ")) }
}

fn delete_container(container: Container, force: bool) -> Result<(), String> {
    if force {
        // Before the lock: a `start` that waits for a hook inside the container has it, and would keep it.
        container.end()?;
    } else {
        refuse_living(&container)?;
    }
    let container = match container.lock() {
        Err(reason) if force && reason == DOES_NOT_EXIST => return Ok(()),
        locked => locked?,
    };
    if !force {
        refuse_living(&container)?;
    }
    container.end()?;
    container.remove(&hooks::run)
}

/// Without --force only one that has stopped, or never began, is deleted.
fn refuse_living(container: &Container) -> Result<(), String> {
    match container.status()? {
        Status::Stopped | Status::Created => Ok(()),
        status => {
            let id = &container.record.id;
            Err(format!("cannot delete container {id} that is not stopped: {}", status.name()))
        }
    }
}

/// With --force: what is no container is removed as well, and what is not there is no error.
fn clear(root: &StateRoot, id: &ContainerId) -> Result<(), String> {
    // Held until it is gone: without the lock, a new container of this name could move in meanwhile.
    let _held = match root.open_state(id.as_str()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // A link, or a directory that is not ours to believe: it goes unread.
        Err(error) if !is_fault(&error) => None,
        Err(error) => return Err(format!("cannot open the state of container {id}: {error}")),
        Ok(directory) => {
            if let Err(Unreadable::Damaged(_)) = Container::open(id, &directory, &root.path) {
                end_first(&directory, id)?;
            }
            if !lock(&directory, id)? {
                return Ok(());
            }
            match Container::open(id, &directory, &root.path) {
                // Whoever had the lock has finished the container.
                Ok(container) => {
                    container.end()?;
                    return container.remove(&hooks::run);
                }
                Err(Unreadable::Absent) => clear_cgroups(&directory)?,
                Err(Unreadable::Damaged(_)) => end_unread(&directory, id)?,
                Err(why) => return Err(why.into()),
            }
            Some(directory)
        }
    };
    let path = root.path.join(id.as_str());
    let removed = fs::remove_dir_all(&path).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        ErrorKind::NotADirectory => fs::remove_file(&path),
        _ => Err(error),
    });
    removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))
}
