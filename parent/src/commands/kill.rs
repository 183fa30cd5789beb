//! `rspawn kill`: a signal to a container.
use rspawn_sys::process;

use crate::cgroups;
use crate::cli::{Global, Kill};
use crate::describe;
use crate::signals;
use crate::state::{StateRoot, Status};

/// What runc says, and clients match on.
const NOT_RUNNING: &str = "container not running";

pub fn kill(global: &Global, arguments: Kill) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let signal = signals::parse(&arguments.signal)?;
    let Some(first) = container.process() else {
        if arguments.all {
            // Processes of a shared pid namespace may live on without it.
            cgroups::signal_all(&container.record.cgroups, signal);
            return Ok(0);
        }
        return Err(NOT_RUNNING.into());
    };
    let paused = container.status() == Status::Paused;
    if arguments.all {
        cgroups::signal_all(&container.record.cgroups, signal);
    }
    match process::signal(&first, signal) {
        Ok(()) => {}
        Err(rspawn_sys::Errno(libc::ESRCH)) => return Err(NOT_RUNNING.into()),
        Err(errno) => return Err(format!("cannot signal container {}: {}", arguments.id, describe::errno(errno.0))),
    }
    if signal == libc::SIGKILL && paused {
        // A frozen process of cgroup v1 dies when it is thawed.
        cgroups::thaw(&container.record.cgroups);
    }
    Ok(0)
}
