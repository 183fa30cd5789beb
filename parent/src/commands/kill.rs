//! `rspawn kill`: a signal to a container.
use std::fs;

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::InitMode;
use rspawn_sys::{Fd, process};

use crate::cgroups;
use crate::cli::{Global, Kill};
use crate::describe;
use crate::processes::Stat;
use crate::signals;
use crate::state::{Container, StateRoot, Status};

/// What runc says, and clients match on.
const NOT_RUNNING: &str = "container not running";

pub fn kill(global: &Global, arguments: Kill) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let signal = signals::parse_or_probe(&arguments.signal)?;
    let cgroups = &container.record.cgroups;
    // The end of its first process is that of all in a pid namespace of its own; elsewhere each is killed.
    let kills_each = signal == libc::SIGKILL && !container.record.namespaces.contains(Namespace::Pid);
    let Some(first) = container.process() else {
        // Processes of a shared pid namespace may live on without it.
        if arguments.all || (kills_each && has_cgroup(&container)) {
            cgroups::signal_all(cgroups, signal);
            if signal == libc::SIGKILL {
                cgroups::thaw(cgroups);
            }
            return Ok(0);
        }
        return Err(NOT_RUNNING.into());
    };
    let paused = container.status() == Status::Paused;
    let all = arguments.all || kills_each;
    if all {
        cgroups::signal_all(cgroups, signal);
    } else if signal == libc::SIGSTOP
        && container.record.init == InitMode::Supervise
        && let Some(payload) = payload(container.record.pid)
    {
        // The one signal that an init cannot pass on, since it is stopped itself. SIGCONT it passes on.
        let _ = process::signal(&payload, signal);
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
        cgroups::thaw(cgroups);
    }
    Ok(0)
}

/// Whether a cgroup is there in which processes of it may be left.
fn has_cgroup(container: &Container) -> bool {
    container.record.cgroups.first().is_some_and(|cgroup| fs::exists(cgroup.path.as_str()).unwrap_or(false))
}

/// The process beside a supervising init: its first child. Orphans that it has adopted come after it.
fn payload(init: i32) -> Option<Fd> {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
    let first: i32 = children.split_whitespace().next()?.parse().ok()?;
    let held = process::open_pidfd(first).ok()?;
    // Asked of the number after it is held: one that was given to another meanwhile is not hit.
    (Stat::of(first)?.parent == init).then_some(held)
}
