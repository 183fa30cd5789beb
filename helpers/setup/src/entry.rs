//! A new process of the container's on its way from clone3 to rspawn-init: cgroups, root, rights, descriptors.
use alloc::{format, vec::Vec};

use crate::container::ContainerProcess;
use crate::programs::InitImage;
use crate::terminal::open_terminal;
use rspawn_proto::ids::Id;
use rspawn_proto::msg::FromStage;
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_sys::process::StringArray;
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, cgroup, channel, cred, fd, file, process, tune};

/// How a new process gets into its cgroups.
pub struct CgroupPlacement<'a> {
    /// The cgroup of v2 that it is created in (CLONE_INTO_CGROUP).
    pub born_in: Option<&'a Fd>,
    /// The cgroup of v2 that rspawn-setup puts it into, where clone3(2) cannot, for the namespaces that are joined
    /// before.
    pub put_in: Option<&'a Fd>,
    /// The `tasks` files by which it joins cgroups of v1 itself. A thread that moves itself costs little; to move a
    /// process by `cgroup.procs`, the kernel stops every fork and exit of the machine and waits for a grace period.
    pub tasks: Vec<Fd>,
}

impl<'a> CgroupPlacement<'a> {
    pub fn choose(cgroups: impl Iterator<Item = &'a Fd>, joined: NamespaceSet) -> Outcome<Self> {
        // As root of another user namespace it may not write there; from another cgroup namespace it may not see it.
        let is_far = joined.contains(Namespace::User) || joined.contains(Namespace::Cgroup);
        let mut placement = Self { born_in: None, put_in: None, tasks: Vec::new() };
        let mut hierarchies = Vec::new();
        for found in cgroups {
            let hierarchy = file::status(found).named("statx")?.device;
            // A process is in one cgroup of a hierarchy: the limits and device rules of all but the last would not
            // hold.
            if hierarchies.contains(&hierarchy) && !cgroup::is_resctrl(found).named("fstatfs")? {
                return Err(Failure::check("the plan has two cgroups of one hierarchy"));
            }
            hierarchies.push(hierarchy);
            match cgroup::is_v2(found).named("fstatfs")? {
                true if is_far => placement.put_in = Some(found),
                true => placement.born_in = Some(found),
                false => placement.tasks.push(cgroup::open_file(found, "tasks").named("openat2")?),
            }
        }
        Ok(placement)
    }

    /// Joins the cgroups of v1.
    pub fn join(&self) -> Outcome<()> {
        self.tasks.iter().try_for_each(|tasks| match tasks.write(b"0") {
            Err(Errno::ENODEV) => Err(Failure::check("the container has ended: its cgroup is gone")),
            written => written.named("write"),
        })
    }

    /// Puts a process into the cgroup of v2 that it was not created in.
    pub fn put(&self, pid: i32) -> Outcome<()> {
        let Some(found) = self.put_in else { return Ok(()) };
        cgroup::write(found, "cgroup.procs", &format!("{pid}")).named("write")
    }
}

/// Keeps the capabilities that a new or joined user namespace has given over the next exec: as its root; or, where no
/// id is mapped to root, as ambient capabilities, which rspawn-init replaces with the payload's.
pub fn become_root() -> Outcome<()> {
    let became_root = match cred::set_gid(0).and_then(|()| cred::set_uid(0)) {
        Err(Errno::EINVAL) => cred::permitted_capabilities().and_then(|all| {
            let (effective, permitted, inheritable, ambient) = (all, all, all, all);
            cred::set_capabilities(&Capabilities { bounding: 0, effective, permitted, inheritable, ambient })
        }),
        became_root => became_root,
    };
    became_root.named("setresuid").map_err(|failure| failure.with(Namespace::User.name()))
}

/// Everything that the new process needs up to its exec, made ready before it exists.
pub struct Entry<'a> {
    pub stage: Fd,
    /// rspawn-setup's end of it, by number.
    pub far_end: i32,
    pub placement: CgroupPlacement<'a>,
    /// It has id maps.
    pub mapped: bool,
    /// It unshares its cgroup namespace once it is in its cgroups, and says so: one that clone3(2) creates would have
    /// its root in the cgroups of rspawn-setup.
    pub own_view: bool,
    /// It is created in a pid namespace with others, who may look at it.
    pub among_others: bool,
    /// An empty directory that it has for a root at first.
    pub root: Option<Fd>,
    /// Capabilities that it needs on its way, and then as the payload.
    pub capabilities: u64,
    /// A terminal of the container's devpts is to be opened, for this user.
    pub terminal: Option<(Id, (u16, u16))>,
    pub argv: StringArray,
    pub env: StringArray,
    pub image: &'a InitImage,
}

impl<'a> Entry<'a> {
    /// rspawn-init's arguments and environment are the payload's, so that /proc/1/environ is what images expect and
    /// neither has to be carried over in any other way.
    ///
    /// Gives rspawn-setup's end of the socket to it, too.
    pub fn prepare(finish: &Finish, image: &'a InitImage, placement: CgroupPlacement<'a>) -> Outcome<(Self, Fd)> {
        let (mine, stage) = channel::pair().named("socketpair")?;
        let lowest = 3 + image.preserve_fds as i32;
        let stage = stage.duplicate(lowest).named("fcntl")?;
        let option = format!("--stage={}", stage.raw());
        let words = ["rspawn-init", &option, "--"].into_iter().chain(finish.argv.iter().map(|word| word.as_str()));
        let argv = StringArray::new(words).named("execveat")?;
        let env = StringArray::new(finish.env.iter().map(|word| word.as_str())).named("execveat")?;
        let entry = Self {
            stage,
            far_end: mine.raw(),
            placement,
            mapped: false,
            own_view: false,
            among_others: false,
            root: None,
            capabilities: needed_capabilities(finish),
            terminal: None,
            argv,
            env,
            image,
        };
        Ok((entry, mine))
    }

    /// In the helper process, which ends soon: closes what the new process would otherwise have open until its exec.
    pub fn close_the_rest(&self, answer: &Fd) -> Outcome<()> {
        let own = [&self.stage, &self.image.sealed, answer].into_iter().chain(&self.root);
        let mut kept: Vec<i32> = (0..3).chain(own.chain(&self.image.inherited).map(Fd::raw)).collect();
        fd::close_all_but(&mut kept).named("close_range")
    }

    pub fn enter_empty_root(&self) -> Outcome<()> {
        self.root.as_ref().map_or(Ok(()), file::enter_root).named("chroot")
    }

    /// Among others, who may be able to take it over by ptrace(2), it has no rights that it can do without.
    pub fn keep_what_it_needs(&self) -> Outcome<()> {
        let view = if self.own_view { Capabilities::SYS_ADMIN } else { 0 };
        self.keep(self.capabilities | view | if self.root.is_some() { CAP_SYS_CHROOT } else { 0 })
    }

    pub fn keep(&self, kept: u64) -> Outcome<()> {
        cred::limit_bounding_set(kept).named("prctl PR_CAPBSET_DROP")?;
        let permitted = cred::permitted_capabilities().named("capget")? & kept;
        // Where no id is root's, they get over the exec as ambient ones.
        let ambient = if cred::effective_uid() == 0 { 0 } else { permitted };
        let kept = Capabilities { bounding: 0, effective: permitted, permitted, inheritable: ambient, ambient };
        cred::set_capabilities(&kept).named("capset")
    }

    /// The process is to wait until its id maps are written and it is where it belongs.
    pub fn waits(&self) -> bool {
        self.mapped || self.placement.put_in.is_some()
    }

    /// Lets the process go on, by an empty message.
    pub fn let_go(&self, container: &ContainerProcess) -> Outcome<()> {
        if self.waits() { channel::send(&container.stage, &[], &[]).named("sendmsg") } else { Ok(()) }
    }

    /// In the new process.
    pub fn enter(&self) -> ! {
        let at = |step| move |failure: Failure| failure.at(Place::Spawn(step));
        // With a copy of it open here, the end of rspawn-setup would never be heard.
        drop(Fd::from_raw(self.far_end));
        let hidden = if self.mapped { self.enter_empty_root() } else { Ok(()) };
        let ready =
            hidden.map_err(at(SpawnStep::Enter)).and_then(|()| self.join_cgroups().map_err(at(SpawnStep::Cgroups)));
        let prepare = || self.prepare_process().and_then(|()| self.open_terminal()).map_err(at(SpawnStep::Enter));
        let error = ready.and_then(|()| prepare()).err().unwrap_or_else(|| {
            // What may read any file may read the image, and its process could be looked at from its first moment on
            // (would_dump() of fs/exec.c). The exec of root restores them.
            if let Err(errno) = cred::drop_effective(CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH) {
                return Failure::of("capset", errno).at(Place::Spawn(SpawnStep::Enter));
            }
            let errno = process::execute_file(&self.image.sealed, &self.argv, &self.env);
            Failure::of("execveat", errno).at(Place::Spawn(SpawnStep::Enter))
        });
        let _ = channel::send_value(&self.stage, &FromStage::Failed(error), &[]);
        process::exit(1)
    }

    pub fn join_cgroups(&self) -> Outcome<()> {
        if !self.among_others {
            self.placement.join()?;
        }
        if self.waits() {
            channel::receive(&self.stage, 0).named("recvmsg")?.ok_or_else(|| Failure::check("rspawn-setup died"))?;
        }
        if self.own_view {
            process::unshare(Namespace::Cgroup.clone_flag()).named("unshare")?;
            if self.among_others && !self.mapped {
                self.keep(self.capabilities | CAP_SYS_CHROOT)?;
            }
            channel::send_value(&self.stage, &FromStage::Done, &[]).named("sendmsg")?;
        }
        Ok(())
    }

    /// In a running container the terminal is opened here, by its root, in its namespaces.
    pub fn open_terminal(&self) -> Outcome<()> {
        let Some((uid, size)) = self.terminal else { return Ok(()) };
        let devpts = file::open_host("/dev/pts", file::O_PATH).named("openat2");
        let (master, slave) = open_terminal(&devpts.map_err(|failure| failure.with("/dev/pts"))?, uid, size)?;
        channel::send_value(&self.stage, &FromStage::Console, &[&master, &slave]).named("sendmsg")
    }

    /// Ids and descriptors.
    pub fn prepare_process(&self) -> Outcome<()> {
        if self.mapped {
            become_root()?;
        }
        // A hole in the range is the caller's choice (podman's --preserve-fd leaves some), and what fills it by now
        // is this program's own.
        let end = 3 + self.image.preserve_fds as i32;
        for kept in self.image.inherited.iter().filter(|kept| kept.raw() < end) {
            kept.keep_on_exec().named("fcntl")?;
        }
        if let Some(limit) = &self.image.file_limit {
            let now = tune::limit(limit.resource).named("prlimit")?;
            tune::set_limit(0, &Rlimit { soft: limit.soft, ..now }).named("prlimit")?;
        }
        self.stage.keep_on_exec().named("fcntl")
    }
}

/// Numbers of capability.h, as bits.
const CAP_CHOWN: u64 = 1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SETPCAP: u64 = 1 << 8;
const CAP_SYS_CHROOT: u64 = 1 << 18;
const CAP_SYS_NICE: u64 = 1 << 23;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Capabilities of the last mile: the payload's, and what the steps to them take.
fn needed_capabilities(finish: &Finish) -> u64 {
    let Capabilities { bounding, effective, permitted, inheritable, ambient } = finish.capabilities;
    let payload = bounding | effective | permitted | inheritable | ambient;
    // A filter without no_new_privs, and a procfs for a label, take the right to administrate.
    let filters = finish.seccomp.is_some() && !finish.no_new_privileges;
    let when = |needed: bool, capability: u64| if needed { capability } else { 0 };
    payload
        | CAP_CHOWN
        | CAP_SETGID
        | CAP_SETUID
        | CAP_SETPCAP
        | when(filters || finish.label.is_some(), Capabilities::SYS_ADMIN)
        | when(finish.scheduler.is_some() || finish.io_priority.is_some(), CAP_SYS_NICE)
        | when(!finish.rlimits.is_empty(), CAP_SYS_RESOURCE)
}
