//! `rspawn kill`: a signal to a container.
use std::fs;

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::InitMode;
use rspawn_proto::record::CgroupDir;
use rspawn_sys::{Errno, Fd, process};

use crate::cli::{Global, Kill};
use rspawn_host::containers::cgroups;
use rspawn_host::containers::processes::Stat;
use rspawn_host::state::{Container, StateRoot};
use rspawn_planner::signals;
use rspawn_report::describe;

/// What runc says, and clients match on.
const NOT_RUNNING: &str = "container not running";

pub fn kill(global: &Global, arguments: Kill) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let signal = signals::parse_or_probe(&arguments.signal)?;
    let cgroups = &container.record.cgroups;
    // The end of its first process is that of all in a pid namespace of its own; elsewhere each is killed.
    let kills_each = signal == libc::SIGKILL && !container.record.namespaces.contains(Namespace::Pid);
    let Some(first) = container.process()? else {
        // Processes of a shared pid namespace may live on without it.
        if arguments.all || (kills_each && has_cgroup(&container)?) {
            signal_each(cgroups, signal)?;
            return Ok(0);
        }
        return Err(NOT_RUNNING.into());
    };
    let say = |errno: Errno| format!("cannot signal container {}: {}", arguments.id, describe::errno(errno.0));
    let all = arguments.all || kills_each;
    if all {
        signal_each(cgroups, signal)?;
    } else if signal == libc::SIGSTOP
        && container.record.init == InitMode::Supervise
        && let Some(payload) = payload(container.record.pid)?
    {
        // The one signal that an init cannot pass on, since it is stopped itself. SIGCONT it passes on.
        match process::signal(&payload.process, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(say(errno)),
        }
    }
    match process::signal(&first, signal) {
        Ok(()) => {}
        // It was among them.
        Err(Errno::ESRCH) if all => {}
        Err(Errno::ESRCH) => return Err(NOT_RUNNING.into()),
        Err(errno) => return Err(say(errno)),
    }
    if signal == libc::SIGKILL {
        // A frozen process of cgroup v1 dies when it is thawed.
        cgroups::thaw_all(cgroups)?;
    }
    Ok(0)
}

fn signal_each(cgroups: &[CgroupDir], signal: i32) -> Result<(), String> {
    if signal == libc::SIGKILL { cgroups::kill_all(cgroups) } else { cgroups::signal_all(cgroups, signal) }
}

/// Whether a cgroup is there in which processes of it may be left.
fn has_cgroup(container: &Container) -> Result<bool, String> {
    let Some(cgroup) = container.record.cgroups.first() else { return Ok(false) };
    fs::exists(cgroup.path.as_str()).map_err(|error| format!("cannot look at the cgroup {}: {error}", cgroup.path))
}

/// The process beside a supervising init.
pub struct Payload {
    pub pid: i32,
    pub start_time: u64,
    process: Fd,
}

/// It is the init's first child: orphans that it has adopted come after it.
pub fn payload(init: i32) -> Result<Option<Payload>, String> {
    let file = format!("/proc/{init}/task/{init}/children");
    let children = match fs::read_to_string(&file) {
        // It has ended. Or the kernel does not tell (CONFIG_PROC_CHILDREN).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        read => read.map_err(|error| format!("cannot read {file}: {error}"))?,
    };
    let Some(first) = children.split_whitespace().next() else { return Ok(None) };
    let first = first.parse().map_err(|_| format!("cannot understand {file}"))?;
    let held = match process::open_pidfd(first) {
        Err(Errno::ESRCH) => return Ok(None),
        held => held.map_err(|errno| format!("pidfd_open of process {first}: {}", describe::errno(errno.0)))?,
    };
    // Asked of the number after it is held: one that was given to another meanwhile is not hit.
    let stat = Stat::of(first)?.filter(|stat| stat.parent == init);
    Ok(stat.map(|stat| Payload { pid: first, start_time: stat.start_time, process: held }))
}
