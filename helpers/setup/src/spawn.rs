//! The container's first process: created in its namespaces, mapped, and on its way into rspawn-init.
//!
//! The order here is security and therefore not the plan's: namespaces are joined by a process that ends at once,
//! user namespace first; ids are mapped before the new process makes any use of them; and it executes rspawn-init
//! from sealed memory before the container's files are in sight.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rspawn_proto::ids::Id;
use rspawn_proto::msg::FromStage;
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_sys::process::{Side, StringArray};
use rspawn_sys::{Errno, Fd, channel, cred, fd, file, process, tune};

use crate::host::Slots;
use crate::rootfs::open_terminal;
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
        Ok(status.map_or(0, |(_, status)| status))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.ended {
            let _ = process::signal(&self.process, 9);
            let _ = process::wait(self.pid, true);
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
    if plan.host.len() + plan.rootfs.len() < 512 {
        return Ok(None);
    }
    let limit = tune::limit(RLIMIT_NOFILE).named("prlimit")?;
    tune::set_limit(&Rlimit { soft: limit.hard, ..limit }).named("prlimit")?;
    Ok(Some(limit))
}

/// Opens another of rspawn's programs, beside this one.
pub fn open_beside(name: &str) -> Outcome<Fd> {
    let me = file::read_self_path().named("readlink")?;
    let directory = me.rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = format!("{directory}/{name}");
    file::open_host(&path, file::O_RDONLY).named("openat2").map_err(|failure| failure.with(path))
}

/// Copies another of rspawn's programs into sealed memory, to be executed where the container can reach it.
pub fn seal(name: &str) -> Outcome<Fd> {
    file::sealed_copy(&open_beside(name)?, name).named("memfd_create")
}

/// Creates the process. On return it waits in rspawn-init for its last mile, or for its id maps.
pub fn spawn(plan: &Spawn, finish: &Finish, slots: &Slots, image: &InitImage) -> Result<Container, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let offsets = !plan.time_offsets.is_empty() || plan.new.contains(Namespace::Time);
    if offsets {
        enter_time_namespace(&plan.time_offsets).map_err(at(SpawnStep::TimeOffsets))?;
    }
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at(SpawnStep::Clone))?;
    let mapped = plan.new.contains(Namespace::User);
    let entry = Entry::prepare(finish, theirs, image, mapped).map_err(at(SpawnStep::Enter))?;
    let mut new = plan.new;
    new.remove(Namespace::Time);
    let (pid, child) = if plan.join.is_empty() {
        match process::fork(new.clone_flags()).named("clone3").map_err(at(SpawnStep::Clone))? {
            Side::Child => entry.enter(),
            Side::Parent { pid, child } => (pid, child),
        }
    } else {
        joined_clone(|| join_and_create(plan, new, slots, &entry))?
    };
    let container = Container { pid, process: child, stage: mine, ended: false };
    drop(entry);
    if mapped {
        write_id_maps(pid, &plan.uid_map, &plan.gid_map).map_err(at(SpawnStep::IdMaps))?;
        channel::send(&container.stage, &[], &[]).named("sendmsg").map_err(at(SpawnStep::IdMaps))?;
    }
    if let Some(score) = plan.oom_score_adj {
        write_oom_score(pid, score).map_err(at(SpawnStep::OomScore))?;
    }
    Ok(container)
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
    write_proc("/proc/self/timens_offsets", &lines)
}

/// Creates a process in the namespaces of a running container. On return it waits in rspawn-init for its last mile.
pub fn spawn_inside(
    target: &Fd,
    kinds: NamespaceSet,
    finish: &Finish,
    image: &InitImage,
) -> Result<Container, StepError> {
    let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at(SpawnStep::Clone))?;
    let mut entry = Entry::prepare(finish, theirs, image, false).map_err(at(SpawnStep::Enter))?;
    entry.terminal = finish.terminal.then_some(finish.uid);
    let create = || {
        process::join(target, kinds.clone_flags()).named("setns")?;
        if kinds.contains(Namespace::User) {
            become_root()?;
        }
        create_sibling(NamespaceSet::default(), &entry)
    };
    let (pid, child) = joined_clone(create)?;
    Ok(Container { pid, process: child, stage: mine, ended: false })
}

/// A helper process joins namespaces, creates the container's process as a sibling, all by `create`, and ends.
fn joined_clone(create: impl FnOnce() -> Outcome<i32>) -> Result<(i32, Fd), StepError> {
    let at = |failure: Failure| failure.at(Place::Spawn(SpawnStep::Join));
    let (mine, theirs) = channel::pair().named("socketpair").map_err(at)?;
    match process::fork(0).named("clone3").map_err(at)? {
        Side::Child => {
            let created = create().map_err(at);
            process::exit(channel::send_value(&theirs, &created, &[]).is_err().into())
        }
        Side::Parent { pid: helper, child: _ } => {
            drop(theirs);
            let answer: rspawn_sys::Result<Option<(Result<i32, StepError>, _)>> = channel::receive_value(&mine);
            let _ = process::wait(helper, true);
            let (created, _) = answer.ok().flatten().ok_or_else(|| at(Failure::check("the joining process died")))?;
            // The process is our child and not reaped, so its number cannot have been given to another.
            let pid = created?;
            Ok((pid, process::open_pidfd(pid).named("pidfd_open").map_err(at)?))
        }
    }
}

/// In the helper process.
fn join_and_create(plan: &Spawn, new: NamespaceSet, slots: &Slots, entry: &Entry) -> Outcome<i32> {
    let mut joins: Vec<Join> = plan.join.iter().map(|step| step.op).collect();
    joins.sort_by_key(|join| join.kind);
    for join in &joins {
        let joined = process::join(slots.get(join.from)?, join.kind.clone_flag()).named("setns");
        joined.map_err(|failure| failure.with(join.kind.name()))?;
    }
    if joins.iter().any(|join| join.kind == Namespace::User) {
        become_root()?;
    }
    create_sibling(new, entry)
}

/// Keeps over the next exec what being in a new user namespace, or joining one, gave: as its root, or, where no id is
/// mapped to root, by ambient capabilities, which rspawn-init replaces with the payload's.
fn become_root() -> Outcome<()> {
    let became_root = match cred::set_gid(0).and_then(|()| cred::set_uid(0)) {
        Err(Errno::EINVAL) => cred::permitted_capabilities().and_then(|all| {
            let (effective, permitted, inheritable, ambient) = (all, all, all, all);
            cred::set_capabilities(&Capabilities { bounding: 0, effective, permitted, inheritable, ambient })
        }),
        became_root => became_root,
    };
    became_root.named("setresuid").map_err(|failure| failure.with(Namespace::User.name()))
}

fn create_sibling(new: NamespaceSet, entry: &Entry) -> Outcome<i32> {
    match process::fork_sibling(new.clone_flags()).named("clone3")? {
        Side::Child => entry.enter(),
        Side::Parent { pid, .. } => Ok(pid),
    }
}

/// Everything that the new process needs up to its exec, made ready before it exists.
struct Entry<'a> {
    stage: Fd,
    /// Id maps are to be waited for.
    mapped: bool,
    /// A terminal of the container's devpts is to be opened, for this user.
    terminal: Option<Id>,
    argv: StringArray,
    env: StringArray,
    image: &'a InitImage,
}

impl<'a> Entry<'a> {
    /// rspawn-init's arguments and environment are the payload's, so that /proc/1/environ is what images expect and
    /// neither has to be carried over in any other way.
    fn prepare(finish: &Finish, stage: Fd, image: &'a InitImage, mapped: bool) -> Outcome<Self> {
        let lowest = 3 + image.preserve_fds as i32;
        let stage = stage.duplicate(lowest).named("fcntl")?;
        let option = format!("--stage={}", stage.raw());
        let words = ["rspawn-init", &option, "--"].into_iter().chain(finish.argv.iter().map(|word| word.as_str()));
        let argv = StringArray::new(words).named("execveat")?;
        let env = StringArray::new(finish.env.iter().map(|word| word.as_str())).named("execveat")?;
        Ok(Self { stage, mapped, terminal: None, argv, env, image })
    }

    /// In the new process.
    fn enter(&self) -> ! {
        let failure = match self.prepare_process().and_then(|()| self.open_terminal()) {
            Err(failure) => failure,
            Ok(()) => Failure::of("execveat", process::execute_file(&self.image.sealed, &self.argv, &self.env)),
        };
        let report = FromStage::Failed(failure.at(Place::Spawn(SpawnStep::Enter)));
        let _ = channel::send_value(&self.stage, &report, &[]);
        process::exit(1)
    }

    /// In a running container the terminal is opened here, by its root, in its namespaces.
    fn open_terminal(&self) -> Outcome<()> {
        let Some(uid) = self.terminal else { return Ok(()) };
        let devpts = file::open_host("/dev/pts", file::O_PATH).named("openat2");
        let (master, slave) = open_terminal(&devpts.map_err(|failure| failure.with("/dev/pts"))?, uid)?;
        channel::send_value(&self.stage, &FromStage::Console, &[&master, &slave]).named("sendmsg")
    }

    /// Ids and descriptors.
    fn prepare_process(&self) -> Outcome<()> {
        if self.mapped {
            // An empty message says that the id maps are written.
            channel::receive(&self.stage, 0).named("recvmsg")?.ok_or_else(|| Failure::check("rspawn-setup died"))?;
            become_root()?;
        }
        // A hole in the range is the caller's choice (podman's --preserve-fd leaves some), and what fills it by now
        // is this program's own.
        let end = 3 + self.image.preserve_fds as i32;
        for kept in self.image.inherited.iter().filter(|kept| kept.raw() < end) {
            kept.keep_on_exec().named("fcntl")?;
        }
        if let Some(limit) = &self.image.file_limit {
            tune::set_limit(limit).named("prlimit")?;
        }
        self.stage.keep_on_exec().named("fcntl")
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
    write_proc(&format!("/proc/{pid}/uid_map"), &lines(uid_map))?;
    write_proc(&format!("/proc/{pid}/gid_map"), &lines(gid_map))
}

pub fn write_oom_score(pid: i32, score: i32) -> Outcome<()> {
    write_proc(&format!("/proc/{pid}/oom_score_adj"), &format!("{score}"))
}

/// Writes a file of the host's procfs, after making sure that it is procfs.
fn write_proc(path: &str, text: &str) -> Outcome<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let opened = file::open_proc(path).named("openat2").map_err(|failure| failure.with(path))?;
    if file::filesystem_magic(&opened).named("fstatfs")? != PROC_SUPER_MAGIC {
        return Err(Failure::check("/proc is not a procfs"));
    }
    opened.write(text.as_bytes()).named("write").map_err(|failure| failure.with(path))
}
