//! The container as rspawn-setup holds it: one of its processes, and the way into its namespaces for the worker and for
//! hooks, which are not part of it.
use rspawn_proto::check::owned_namespaces;
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::{IdMap, Spawn};
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, cred};

/// The new process, and the socket to it. Killed when dropped: whatever fails, nothing is left running.
pub struct ContainerProcess {
    pub pid: i32,
    pub process: Fd,
    pub stage: Fd,
    ended: bool,
}

impl ContainerProcess {
    pub fn new(pid: i32, process: Fd, stage: Fd) -> Self {
        Self { pid, process, stage, ended: false }
    }

    /// Lets the process live on without this program.
    pub fn release(mut self) {
        self.ended = true;
    }

    /// Blocks until the process has ended and gives its wait status.
    pub fn wait(&mut self) -> Outcome<i32> {
        let status = process::wait(self.pid, true).named("wait4")?;
        self.ended = true;
        status.map(|(_, status)| status).ok_or_else(|| Failure::check("the process has not ended"))
    }

    /// Kills the process, and gives its wait status if it ends. A frozen one ends only when its cgroups are removed.
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

impl Drop for ContainerProcess {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.kill();
        }
    }
}

/// The namespaces that a container has of its own.
pub struct ContainerNamespaces<'a> {
    /// A process that is in them.
    process: &'a ContainerProcess,
    pub owned: NamespaceSet,
    /// The ids by which files are made in the container: its root's, or, if its new user namespace maps no root, the
    /// first that it maps. An id that is not mapped cannot make files.
    uid: u32,
    gid: u32,
    new_pid: bool,
}

impl<'a> ContainerNamespaces<'a> {
    pub fn of(process: &'a ContainerProcess, spawn: &Spawn) -> Self {
        let root = |map: &[IdMap]| match map {
            [first, ..] if map.iter().all(|range| range.inside > 0) => first.inside,
            _ => 0,
        };
        let (uid, gid) = (root(&spawn.uid_map), root(&spawn.gid_map));
        Self { process, owned: owned_namespaces(spawn), uid, gid, new_pid: spawn.new.contains(Namespace::Pid) }
    }

    /// The container's first process, as its pid namespace numbers it.
    pub fn pid_of_first(&self) -> i32 {
        if self.new_pid { 1 } else { self.process.pid }
    }

    /// It is in a pid namespace with others.
    pub fn joined_pid(&self) -> bool {
        self.owned.contains(Namespace::Pid) && !self.new_pid
    }

    /// Joins the container's pid namespace for the next children of this process.
    pub fn join_pid(&self) -> Outcome<()> {
        process::join(&self.process.process, Namespace::Pid.clone_flag()).named("setns")
    }

    /// Forks a process. If the container's pid namespace is new, the process is in it from its beginning, since a
    /// process cannot enter one later; nobody is in there yet who could look at it. If it was joined, the process
    /// stays outside: others in it would find the host's tree and the program of a hook at `/proc/PID`. All later
    /// children of this program are in the new namespace too: without root there is no way back (pid_namespaces(7)).
    pub fn fork(&self) -> Outcome<Side> {
        if self.new_pid {
            self.join_pid()?;
        }
        process::fork(0).named("clone3")
    }

    /// In the new process: joins the other namespaces, as their root. It does not outlive this program.
    pub fn enter(&self) -> Outcome<()> {
        cred::set_parent_death_signal(9).named("prctl")?;
        let mut kinds = self.owned;
        kinds.remove(Namespace::Pid);
        process::join(&self.process.process, kinds.clone_flags()).named("setns")?;
        if kinds.contains(Namespace::User) {
            cred::set_gid(self.gid).named("setresgid")?;
            cred::set_uid(self.uid).named("setresuid")?;
            // Changing ids cleared it.
            cred::set_parent_death_signal(9).named("prctl")?;
        }
        Ok(())
    }
}
