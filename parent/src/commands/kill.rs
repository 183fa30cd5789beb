//! `rspawn kill`: a signal to a container.
use rspawn_proto::namespaces::Namespace;
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
    // The end of its first process is that of all in a pid namespace of its own; elsewhere each is killed.
    let all = arguments.all || (signal == libc::SIGKILL && !container.record.namespaces.contains(Namespace::Pid));
    if all {
        cgroups::signal_all(&container.record.cgroups, signal);
    }
    match process::signal(&first, signal) {
        Ok(()) => {}
        // It was among them.
        Err(rspawn_sys::Errno(libc::ESRCH)) if all => {}
        Err(rspawn_sys::Errno(libc::ESRCH)) => return Err(NOT_RUNNING.into()),
        Err(errno) => return Err(format!("cannot signal container {}: {}", arguments.id, describe::errno(errno.0))),
    }
    if signal == libc::SIGKILL && paused {
        // A frozen process of cgroup v1 dies when it is thawed.
        cgroups::thaw(&container.record.cgroups);
    }
    Ok(0)
}
