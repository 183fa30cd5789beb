//! Another process in a running container.
use alloc::vec::Vec;

use rspawn_proto::codec::encode_word;
use rspawn_proto::msg::{FromStage, Purpose};
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::Approved;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Fd, Named};

use crate::cgroup::{Cgroups, open_recorded};
use crate::follow::{await_init, died, follow_init, next_word, pass_console, reach_agent, send_finish};
use crate::invoker::Invoker;
use crate::parent::{End, Ended};
use crate::programs::InitImage;
use crate::report::announce;
use crate::supervise::wait_or_detach;
use crate::{host_phase, spawn, streams};

/// Carries a plan out in the container of a process. Gives the wait status where it was waited for.
pub fn exec(invoker: &Invoker, target: &Fd, plan: Approved<Plan>, image: InitImage) -> Ended {
    let parent = invoker.parent;
    let Purpose::Exec { namespaces, cgroups } = &invoker.request.purpose else { return Err(End::Orphaned) };
    let plan = plan.into_inner();
    let (slots, _) = host_phase::run(invoker, &plan, &mut Cgroups::default())?;
    let agent = reach_agent(&plan.finish, &slots)?;
    let mode = invoker.request.mode;
    parent.progress.store(encode_word(&Place::Spawn(SpawnStep::Join)));
    let cgroups = parent.step(Place::Spawn(SpawnStep::Cgroups), || open_recorded(cgroups))?;
    let cgroups: Vec<Fd> = cgroups.into_iter().flatten().collect();
    parent.step(Place::Spawn(SpawnStep::Enter), || streams::prepare(&plan))?;
    let place = Place::Spawn(SpawnStep::Record);
    let mut process = spawn::spawn_inside(target, *namespaces, &cgroups, &plan, &image)?;
    parent.stage.replace(Some(parent.step(place, || process.stage.duplicate(0).named("fcntl"))?));
    let finish = plan.finish;
    drop((image, cgroups));
    spawn::leave_callers_cpus(parent, process.pid, &finish)?;
    let slave = match finish.terminal.then(|| next_word(parent, &process)).transpose()? {
        Some(Some((FromStage::Console, fds))) => pass_console(parent, fds)?,
        Some(_) => return Err(died()),
        None => None,
    };
    let note = parent.step(place, || SharedWord::map(&parent.page, true).named("mmap"))?;
    let fds: Vec<&Fd> = [&parent.page].into_iter().chain(&slave).chain(&agent).collect();
    send_finish(invoker, finish, &process, false, &fds)?;
    drop(agent);
    await_init(parent, &process)?;
    follow_init(parent, &mut process, mode, note, None)?;
    announce(invoker, &process)?;
    wait_or_detach(parent, mode, process)
}
