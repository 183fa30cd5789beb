//! `rspawn pause` and `rspawn resume`: a container whose processes get no time, and get it again.
use crate::cli::{Global, OneContainer};
use rspawn_host::containers::cgroups;
use rspawn_host::state::{StateRoot, Status};

pub fn pause(global: &Global, arguments: OneContainer) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?.lock()?;
    match container.status()? {
        Status::Running | Status::Created => cgroups::freeze(&container.record.cgroups).map(|()| 0),
        _ => Err("container not running or created: it cannot be paused".into()),
    }
}

pub fn resume(global: &Global, arguments: OneContainer) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?.lock()?;
    if !container.is_frozen()? {
        return Err("container not paused".into());
    }
    cgroups::thaw(&container.record.cgroups)?;
    if container.is_frozen()? {
        return Err(format!("container {} stays paused: a cgroup above its own is frozen", arguments.id));
    }
    Ok(0)
}
