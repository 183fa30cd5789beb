//! The container's first process: created in its namespaces, mapped, and on its way into rspawn-init.
//!
//! The order here is security and therefore not the plan's: namespaces are joined by a process that ends at once;
//! ids are mapped before the new process makes any use of them; and it executes rspawn-init
//! from a source that nobody can write to before the container's files are in sight.
//! This program itself is executed from such a source: between clone3 and execveat the new process runs it in the
//! container's pid namespace.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::process::Side;
use rspawn_sys::{Errno, Fd, channel, cred, fd, file, image, process, tune};

use crate::entry::{Entry, Seats, become_root};
use crate::host::Slots;
use rspawn_sys::failure::{Failure, Named, Outcome};

/// The new process, and the socket to it. Killed when dropped: whatever fails, nothing is left running.
pub struct Container {
    pub pid: i32,
    pub process: Fd,
    pub stage: Fd,
    ended: bool,
}

impl Container {
    /// Lets the process live on without this program.
    pub fn release(mut self) {
        self.ended = true;
    }

    /// Blocks until the process has ended and gives its wait status.
    pub fn wait(&mut self) -> Outcome<i32> {
        let status = process::wait(self.pid, true).named("wait4")?;
        self.ended = true;
        status.map(|(_, status)| status).ok_or_else(|| Failure::check("it has not ended"))
    }

    /// Kills it. Its wait status, if it ends: what is frozen does so only when its cgroups are removed.
    pub fn kill(&mut self) -> Outcome<Option<i32>> {
        match process::signal(&self.process, 9) {
            Err(Errno::ESRCH) => {}
            sent => sent.named("pidfd_send_signal")?,
        }
        let dies = channel::wait_readable(&self.process, Some(MILLISECONDS_TO_DIE)).named("ppoll")?;
        if dies { self.wait().map(Some) } else { Ok(None) }
    }
}

const MILLISECONDS_TO_DIE: u32 = 1000;

impl Drop for Container {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.kill();
        }
    }
}

/// What the new process executes.
pub struct InitImage {
    pub sealed: Fd,
    pub preserve_fds: u32,
    /// The invoker's limit of open files, where it was raised for this program's own sake.
    pub file_limit: Option<Rlimit>,
    /// What was open when this program began.
    pub inherited: Vec<Fd>,
}

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

/// Copies another of rspawn's programs to where nobody can change it, to be executed where the container can see it.
pub fn seal(programs: &Fd, name: &str) -> Outcome<Fd> {
    image::unwritable(&open_program(programs, name)?, name)
}

/// Opens another of rspawn's programs.
pub fn open_program(programs: &Fd, name: &str) -> Outcome<Fd> {
    file::open_program(programs, name).named("openat2").map_err(|failure| failure.with(name))
}

/// Creates the process. On return it waits in rspawn-init for its last mile, or for its id maps.
pub fn spawn(plan: &Spawn, finish: &Finish, slots: &Slots, image: &InitImage) -> Result<Container, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let offsets = !plan.time_offsets.is_empty() || plan.new.contains(Namespace::Time);
    if offsets {
        enter_time_namespace(&plan.time_offsets).map_err(at(SpawnStep::TimeOffsets))?;
    }
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at(SpawnStep::Clone))?;
    let cgroups = plan.cgroups.iter().map(|slot| slots.get(*slot)).collect::<Outcome<Vec<&Fd>>>();
    let joined = plan.join.iter().map(|step| step.op.kind).collect();
    let seats = cgroups.and_then(|cgroups| Seats::take(cgroups.into_iter(), joined));
    let seats = seats.map_err(at(SpawnStep::Cgroups))?;
    let mut entry = Entry::prepare(finish, (&mine, theirs), image, seats).map_err(at(SpawnStep::Enter))?;
    entry.mapped = plan.new.contains(Namespace::User);
    entry.own_view = plan.new.contains(Namespace::Cgroup);
    entry.among_others = hides_root(plan);
    if entry.among_others {
        let empty = NewFilesystem::open("tmpfs").and_then(|new| new.create(0)).named("fsmount");
        entry.root = Some(empty.map_err(at(SpawnStep::Enter))?);
    }
    let mut new = plan.new;
    // The one is made by this process before, the other by the new one once it is in its cgroups.
    new.remove(Namespace::Time);
    new.remove(Namespace::Cgroup);
    let (pid, child) = with_oom_score(plan.oom_score_adj, || {
        if !plan.join.is_empty() {
            return joined_clone(&entry, |answer| join_and_create(plan, new, slots, &entry, answer));
        }
        let forked = process::fork_into(new.clone_flags(), entry.seats.born_in).named("clone3");
        match forked.map_err(at(SpawnStep::Clone))? {
            Side::Child => entry.enter(),
            Side::Parent { pid, child } => Ok((pid, child)),
        }
    })?;
    let container = Container { pid, process: child, stage: mine, ended: false };
    raise_limits(pid, &finish.rlimits);
    entry.seats.put(pid).map_err(at(SpawnStep::Cgroups))?;
    if entry.mapped {
        write_id_maps(pid, &plan.uid_map, &plan.gid_map).map_err(at(SpawnStep::IdMaps))?;
    }
    entry.let_go(&container).map_err(at(SpawnStep::IdMaps))?;
    drop(entry);
    Ok(container)
}

/// Raises hard limits to those that are wanted: only a process of the first user namespace may (getrlimit(2)). Where
/// this one may not either, the new one's own attempt says so.
fn raise_limits(pid: i32, wanted: &[Rlimit]) {
    for limit in wanted {
        if let Ok(own) = tune::limit(limit.resource)
            && limit.hard > own.hard
        {
            let _ = tune::set_limit(pid, &Rlimit { hard: limit.hard, ..own });
        }
    }
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
    write_proc("/proc/self/timens_offsets", lines.as_bytes())
}

/// Creates a process in the namespaces of a running container. On return it waits in rspawn-init for its last mile.
pub fn spawn_inside(
    target: &Fd,
    kinds: NamespaceSet,
    cgroups: &[Fd],
    Plan { spawn, finish, .. }: &Plan,
    image: &InitImage,
) -> Result<Container, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at(SpawnStep::Clone))?;
    let seats = Seats::take(cgroups.iter(), kinds).map_err(at(SpawnStep::Cgroups))?;
    let mut entry = Entry::prepare(finish, (&mine, theirs), image, seats).map_err(at(SpawnStep::Enter))?;
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
    let container = Container { pid, process: child, stage: mine, ended: false };
    raise_limits(pid, &finish.rlimits);
    entry.seats.put(pid).map_err(at(SpawnStep::Cgroups))?;
    entry.let_go(&container).map_err(at(SpawnStep::Cgroups))?;
    Ok(container)
}

/// A helper process joins namespaces, creates the container's process as a sibling, all by `create`, and ends.
fn joined_clone(entry: &Entry, create: impl FnOnce(&Fd) -> Outcome<i32>) -> Result<(i32, Fd), StepError> {
    let at = |failure: Failure| failure.at(Place::Spawn(SpawnStep::Join));
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at)?;
    // Among others the new process must have no descriptor of a cgroup, so it inherits the cgroups of the helper.
    let born_in = if entry.among_others { entry.seats.born_in } else { None };
    match process::fork_into(0, born_in).named("clone3").map_err(at)? {
        Side::Child => {
            let seated = if entry.among_others { entry.seats.join() } else { Ok(()) };
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
    // Those that the caller may enter and root of the user namespace may not; then those of which the opposite is so.
    let rest: Vec<&Join> = others.iter().filter(|other| user.is_empty() || join(other).is_err()).collect();
    user.iter().chain(rest).try_for_each(join)?;
    if !user.is_empty() {
        become_root()?;
    }
    // A process whose root is not its mount namespace's can make no user namespace (clone(2)): the child enters it then.
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
    let born_in = if entry.among_others { None } else { entry.seats.born_in };
    match process::fork_sibling(new.clone_flags(), born_in).named("clone3")? {
        Side::Child => entry.enter(),
        Side::Parent { pid, .. } => Ok(pid),
    }
}

/// Marks all descriptors but the first three as close-on-exec: a caller may have leaked some to this process.
pub fn guard_descriptors() -> Outcome<()> {
    fd::close_from_on_exec(3).named("close_range")
}

/// Writes the id maps of a process in a new user namespace.
pub fn write_id_maps(pid: i32, uid_map: &[IdMap], gid_map: &[IdMap]) -> Outcome<()> {
    let lines = |map: &[IdMap]| -> String {
        map.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
    };
    write_proc(&format!("/proc/{pid}/uid_map"), lines(uid_map).as_bytes())?;
    write_proc(&format!("/proc/{pid}/gid_map"), lines(gid_map).as_bytes())
}

/// Creates a process with an OOM score that it inherits from this one. A process that is not dumpable, as the new one
/// soon is, has files in procfs that a user may not write.
fn with_oom_score<T>(score: Option<i32>, create: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let at = |failure: Failure| failure.at(Place::Spawn(SpawnStep::OomScore));
    let Some(score) = score else { return create() };
    let write = |score: &[u8]| {
        // For a moment, and not while there is a process in the container's namespaces that shares it.
        cred::set_dumpable(true).named("prctl")?;
        let written = write_proc(FILE, score);
        cred::set_dumpable(false).named("prctl").and(written)
    };
    let mut own = [0; 16];
    let length = file::open_plainly(FILE).and_then(|file| file.read(&mut own)).named("read").map_err(at)?;
    write(format!("{score}").as_bytes()).map_err(at)?;
    let created = create()?;
    write(&own[..length]).map_err(at)?;
    Ok(created)
}

/// Writes a file of the host's procfs, after making sure that it is procfs.
fn write_proc(path: &str, text: &[u8]) -> Outcome<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let opened = file::open_proc(path).named("openat2").map_err(|failure| failure.with(path))?;
    if file::filesystem_magic(&opened).named("fstatfs")? != PROC_SUPER_MAGIC {
        return Err(Failure::check("/proc is not a procfs"));
    }
    opened.write(text).named("write").map_err(|failure| failure.with(path))
}
