//! The container's first process: created in its namespaces, mapped, and on its way into rspawn-init.
//!
//! The order here is security and therefore not the plan's: namespaces are joined by a process that ends at once;
//! ids are mapped before the new process makes any use of them; and it executes rspawn-init
//! from a source that nobody can write to before the container's files are in sight.
//! This program itself is executed from such a source: between clone3 and execveat the new process runs it in the
//! container's pid namespace.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::policy::Violation;
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::process::Side;
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred, file, process, tune};

use crate::container::ContainerProcess;
use crate::entry::{CgroupPlacement, Entry, become_root};
use crate::idmap::write_id_maps;
use crate::parent::{End, Parent};
use crate::proc_file;
use crate::programs::InitImage;
use crate::report::warn;
use crate::slots::Slots;

/// Raises the soft limit of open files to the hard one if a plan needs it: each bind mount is a descriptor for a
/// while. Gives the limit that the payload is to get back.
pub fn make_room(plan: &Plan) -> Outcome<Option<Rlimit>> {
    const RLIMIT_NOFILE: u8 = 7;
    let limit = tune::limit(RLIMIT_NOFILE).named("prlimit")?;
    // Beside what the steps open: sockets, the state directory, what the invoker passes on.
    let needed = plan.host.len() + plan.rootfs.len() + 64 + plan.finish.preserve_fds as usize;
    if needed as u64 <= limit.soft || limit.soft == limit.hard {
        return Ok(None);
    }
    tune::set_limit(0, &Rlimit { soft: limit.hard, ..limit }).named("prlimit")?;
    Ok(Some(limit))
}

/// Creates the process. On return it waits in rspawn-init for its last mile, or for its id maps.
pub fn spawn(plan: &Spawn, finish: &Finish, slots: &Slots, image: &InitImage) -> Result<ContainerProcess, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let offsets = !plan.time_offsets.is_empty() || plan.new.contains(Namespace::Time);
    if offsets {
        enter_time_namespace(&plan.time_offsets).map_err(at(SpawnStep::TimeOffsets))?;
    }
    let cgroups = plan.cgroups.iter().map(|slot| slots.get(*slot)).collect::<Outcome<Vec<&Fd>>>();
    let joined = plan.join.iter().map(|step| step.op.kind).collect();
    let placement = cgroups.and_then(|cgroups| CgroupPlacement::choose(cgroups.into_iter(), joined));
    let placement = placement.map_err(at(SpawnStep::Cgroups))?;
    let (mut entry, mine) = Entry::prepare(finish, image, placement).map_err(at(SpawnStep::Enter))?;
    entry.mapped = plan.new.contains(Namespace::User);
    entry.own_view = plan.new.contains(Namespace::Cgroup);
    entry.among_others = hides_root(plan);
    if entry.among_others {
        let empty = NewFilesystem::open("tmpfs").and_then(|new| new.create(0)).named("fsmount");
        entry.root = Some(empty.map_err(at(SpawnStep::Enter))?);
    }
    let mut new = plan.new;
    // This process has made the time namespace; the new process unshares the cgroup namespace once it is in its
    // cgroups, which become the root of it.
    new.remove(Namespace::Time);
    new.remove(Namespace::Cgroup);
    let (pid, child) = with_oom_score(plan.oom_score_adj, || {
        if !plan.join.is_empty() {
            return joined_clone(&entry, |answer| join_and_create(plan, new, slots, &entry, answer));
        }
        let forked = process::fork_into(new.clone_flags(), entry.placement.born_in).named("clone3");
        match forked.map_err(at(SpawnStep::Clone))? {
            Side::Child => entry.enter(),
            Side::Parent { pid, child } => Ok((pid, child)),
        }
    })?;
    let container = ContainerProcess::new(pid, child, mine);
    raise_limits(pid, &finish.rlimits);
    entry.placement.put(pid).map_err(at(SpawnStep::Cgroups))?;
    if entry.mapped {
        write_id_maps(pid, &plan.uid_map, &plan.gid_map).map_err(at(SpawnStep::IdMaps))?;
    }
    entry.let_go(&container).map_err(at(SpawnStep::IdMaps))?;
    drop(entry);
    Ok(container)
}

/// Raises hard limits of the new process, for which it takes CAP_SYS_RESOURCE in the first user namespace
/// (getrlimit(2)). A failure is not reported here: rspawn-init sets the same limits later, and reports it.
fn raise_limits(pid: i32, wanted: &[Rlimit]) {
    for limit in wanted {
        if let Ok(own) = tune::limit(limit.resource)
            && limit.hard > own.hard
        {
            let _ = tune::set_limit(pid, &Rlimit { hard: limit.hard, ..own });
        }
    }
}

/// Lets a new process run wherever its cgroups do: the container is not limited to the CPUs
/// that the caller is bound to, unless it is to begin on others. The kernel clips the mask to the cpuset when the process enters it
/// (sched_setaffinity(2)). A failure is a warning: the container runs on the caller's CPUs then.
pub fn leave_callers_cpus(parent: &Parent, pid: i32, finish: &Finish) -> Result<(), End> {
    // The most CPUs that a kernel is built for today.
    const ALL: [u64; 128] = [u64::MAX; 128];
    if !finish.first_affinity.is_empty() {
        let set = || tune::set_affinity(pid, &finish.first_affinity).named("sched_setaffinity");
        return parent.step(Place::Spawn(SpawnStep::Cgroups), set);
    } else if !finish.affinity.is_empty() {
        return Ok(());
    }
    let Err(errno) = tune::set_affinity(pid, &ALL) else { return Ok(()) };
    let what = format!("keeps the CPU affinity of the caller: sched_setaffinity: errno {}", errno.0);
    warn(parent, Vec::from([Violation::new("", "/process", what)]))
}

/// Offsets can be written only while the new time namespace has no process: it is made first, and the child, not
/// this process, enters it (time_namespaces(7)).
fn enter_time_namespace(offsets: &[TimeOffset]) -> Outcome<()> {
    process::unshare(Namespace::Time.clone_flag()).named("unshare")?;
    if offsets.is_empty() {
        return Ok(());
    }
    let lines: String = offsets
        .iter()
        .map(|offset| {
            let clock = match offset.clock {
                Clock::Monotonic => "monotonic",
                Clock::Boottime => "boottime",
            };
            format!("{clock} {} {}\n", offset.seconds, offset.nanoseconds)
        })
        .collect();
    proc_file::write("/proc/self/timens_offsets", lines.as_bytes())
}

/// Creates a process in the namespaces of a running container. On return it waits in rspawn-init for its last mile.
pub fn spawn_inside(
    target: &Fd,
    kinds: NamespaceSet,
    cgroups: &[Fd],
    Plan { spawn, finish, .. }: &Plan,
    image: &InitImage,
) -> Result<ContainerProcess, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let placement = CgroupPlacement::choose(cgroups.iter(), kinds).map_err(at(SpawnStep::Cgroups))?;
    let (mut entry, mine) = Entry::prepare(finish, image, placement).map_err(at(SpawnStep::Enter))?;
    entry.terminal = finish.terminal.then_some((finish.uid, finish.terminal_size));
    entry.among_others = true;
    let create = |answer: &Fd| {
        process::join(target, kinds.clone_flags()).named("setns")?;
        if kinds.contains(Namespace::User) {
            become_root()?;
        }
        entry.keep_what_it_needs()?;
        entry.close_the_rest(answer)?;
        create_sibling(NamespaceSet::default(), &entry)
    };
    let (pid, child) = with_oom_score(spawn.oom_score_adj, || joined_clone(&entry, create))?;
    let container = ContainerProcess::new(pid, child, mine);
    raise_limits(pid, &finish.rlimits);
    entry.placement.put(pid).map_err(at(SpawnStep::Cgroups))?;
    entry.let_go(&container).map_err(at(SpawnStep::Cgroups))?;
    Ok(container)
}

/// Forks a helper process, which joins namespaces and creates the container's process as its sibling, both by `create`,
/// and ends.
fn joined_clone(entry: &Entry, create: impl FnOnce(&Fd) -> Outcome<i32>) -> Result<(i32, Fd), StepError> {
    let at = |failure: Failure| failure.at(Place::Spawn(SpawnStep::Join));
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at)?;
    // Among others the new process must have no descriptor of a cgroup, so it inherits the cgroups of the helper.
    let born_in = if entry.among_others { entry.placement.born_in } else { None };
    match process::fork_into(0, born_in).named("clone3").map_err(at)? {
        Side::Child => {
            let seated = if entry.among_others { entry.placement.join() } else { Ok(()) };
            let created = seated.and_then(|()| create(&theirs)).map_err(at);
            process::exit(channel::send_value(&theirs, &created, &[]).is_err().into())
        }
        Side::Parent { pid: helper, child: _ } => {
            drop(theirs);
            let answer = channel::receive_value::<Result<i32, StepError>>(&mine).named("recvmsg");
            process::wait(helper, true).named("wait4").map_err(at)?;
            let (created, _) = answer.map_err(at)?.ok_or_else(|| at(Failure::check("the joining process died")))?;
            // The process is our child and not reaped, so its number cannot have been given to another.
            let pid = created?;
            Ok((pid, process::open_pidfd(pid).named("pidfd_open").map_err(at)?))
        }
    }
}

/// In the helper process.
fn join_and_create(plan: &Spawn, mut new: NamespaceSet, slots: &Slots, entry: &Entry, answer: &Fd) -> Outcome<i32> {
    let join = |join: &Join| {
        let joined = process::join(slots.get(join.from)?, join.kind.clone_flag()).named("setns");
        joined.map_err(|failure| failure.with(join.kind.name()))
    };
    let joins = plan.join.iter().map(|step| step.op);
    let (user, others): (Vec<Join>, Vec<Join>) = joins.partition(|join| join.kind == Namespace::User);
    // First the namespaces that the caller may enter, and that root of the joined user namespace may not; then the user
    // namespace; then the others, which its root may enter.
    let rest: Vec<&Join> = others.iter().filter(|other| user.is_empty() || join(other).is_err()).collect();
    user.iter().chain(rest).try_for_each(join)?;
    if !user.is_empty() {
        become_root()?;
    }
    // A process whose root is not its mount namespace's can make no user namespace (clone(2)): the child enters it
    // then.
    if entry.among_others {
        if !new.contains(Namespace::User) {
            // By this process, which nobody of the joined pid namespace sees: the new one is born without the right.
            process::unshare(core::mem::take(&mut new).clone_flags()).named("unshare")?;
            entry.enter_empty_root()?;
            entry.keep_what_it_needs()?;
        }
        entry.close_the_rest(answer)?;
    }
    create_sibling(new, entry)
}

/// Whether the new process is to have an empty root until it gets the container's: in a pid namespace with others, one
/// of them with CAP_SYS_PTRACE would find the host's tree at `/proc/PID/root`.
pub fn hides_root(plan: &Spawn) -> bool {
    plan.join.iter().any(|step| step.op.kind == Namespace::Pid)
}

fn create_sibling(new: NamespaceSet, entry: &Entry) -> Outcome<i32> {
    let born_in = if entry.among_others { None } else { entry.placement.born_in };
    match process::fork_sibling(new.clone_flags(), born_in).named("clone3")? {
        Side::Child => entry.enter(),
        Side::Parent { pid, .. } => Ok(pid),
    }
}

/// Creates a process that inherits its OOM score from this one. The score of the new process itself could not be set:
/// it is soon not dumpable, and its files in procfs belong to root.
fn with_oom_score<T>(score: Option<i32>, create: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let at = |failure: Failure| failure.at(Place::Spawn(SpawnStep::OomScore));
    let Some(score) = score else { return create() };
    let write = |score: &[u8]| {
        // For a moment, and not while there is a process in the container's namespaces that shares it.
        cred::set_dumpable(true).named("prctl")?;
        let written = proc_file::write(FILE, score);
        cred::set_dumpable(false).named("prctl").and(written)
    };
    let mut own = [0; 16];
    let length = file::open_plainly(FILE).and_then(|file| file.read(&mut own)).named("read").map_err(at)?;
    write(format!("{score}").as_bytes()).map_err(at)?;
    let created = create()?;
    write(&own[..length]).map_err(at)?;
    Ok(created)
}
