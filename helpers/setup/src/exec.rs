//! Another process in a running container.
use alloc::format;
use alloc::vec::Vec;

use rspawn_proto::msg::Purpose;
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::Approved;
use rspawn_proto::record::CgroupDir;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::Fd;
use rspawn_sys::failure::{Failure, Named, Outcome};
use rspawn_sys::{file, tune};

use crate::follow::{await_init, follow_init, pass_console, send_finish};
use crate::invoker::Invoker;
use crate::parent::{End, Parent, progress_word};
use crate::serve::{announce, stay};
use crate::spawn::{self, InitImage};
use rspawn_proto::msg::FromStage;

/// Carries a plan out in the container of a process. Gives the wait status where it was waited for.
pub fn exec(
    parent: &Parent,
    invoker: &Invoker,
    target: &Fd,
    plan: Approved<Plan>,
    image: InitImage,
) -> Result<Option<i32>, End> {
    let Purpose::Exec { namespaces, cgroups } = &invoker.trusted.purpose else { return Err(End::Orphaned) };
    let Plan { spawn, finish, .. } = plan.into_inner();
    let mode = invoker.trusted.mode;
    parent.progress.store(progress_word(Place::Spawn(SpawnStep::Join)));
    let mut process = spawn::spawn_inside(target, *namespaces, &finish, &image)?;
    drop(image);
    parent.step(Place::Spawn(SpawnStep::Cgroups), || {
        if !finish.first_affinity.is_empty() {
            tune::set_affinity(process.pid, &finish.first_affinity).named("sched_setaffinity")?;
        }
        enter_cgroups(cgroups, process.pid)
    })?;
    if let Some(score) = spawn.oom_score_adj {
        parent.step(Place::Spawn(SpawnStep::OomScore), || spawn::write_oom_score(process.pid, score))?;
    }
    let slave = if finish.terminal {
        match parent.hear(&process.stage)? {
            Some((FromStage::Console, fds)) => pass_console(parent, fds)?,
            Some((FromStage::Failed(error), _)) => return Err(error.into()),
            _ => return Err(Failure::check("it died").at(Place::Spawn(SpawnStep::Enter)).into()),
        }
    } else {
        None
    };
    let fds: Vec<&Fd> = slave.iter().collect();
    let sent = send_finish(invoker, finish, &process, &fds);
    await_init(parent, &mut process, sent)?;
    follow_init(parent, &mut process, mode)?;
    announce(parent, invoker, &process)?;
    stay(parent, mode, process)
}

/// The limits of the container are the process's before it runs anything of the container's.
fn enter_cgroups(cgroups: &[CgroupDir], pid: i32) -> Outcome<()> {
    for CgroupDir { path, .. } in cgroups {
        let file = format!("{path}/cgroup.procs");
        let procs = file::open_host(&file, file::O_WRONLY).named("openat2");
        let joined = procs.and_then(|procs| procs.write(format!("{pid}").as_bytes()).named("write"));
        joined.map_err(|failure| failure.with(file))?;
    }
    Ok(())
}
