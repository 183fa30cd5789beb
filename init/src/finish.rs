//! The last mile: what the process that becomes the payload does to itself, in one fixed order.
//!
//! The order is security. Limits and labels need rights that the ids take away; groups go before the gid and the gid
//! before the uid, which ends the right to change either; capabilities go when nothing needs them any more; seccomp
//! is last.
//!
//! # What is called after the filter
//!
//! A profile is written for the payload. It must allow `execve`, which is the last thing that is called, and should
//! allow nothing for rspawn's own sake. So whatever needs a look-up or a descriptor comes before, under the payload's ids
//! and capabilities:
//!
//! 1. working directory, program and HOME are found, and the head of the program is read, with which a failed execve is
//!    explained. What a look-up is refused by EPERM or ENOSYS (rspawn itself may be under a filter) is unknown, and
//!    execve decides.
//! 2. arguments, environment and hooks are made ready, no_new_privs is set, and signals are let through: those that ask
//!    a program to end have a handler now, so that the wait at the gate is one `read`.
//! 3. Without an agent: the gate, where `create` ends and `start` begins; then the startContainer hooks, which
//!    install the filter themselves ([`hooks`]); then the filter; then `execve`.
//!
//! Without no_new_privs the kernel wants CAP_SYS_ADMIN of who installs a filter. It stays among the permitted
//! capabilities until the payload's exec, if it is there, and among the effective ones from the filter on: what a
//! process may do after execve is computed from its inheritable, ambient and bounding sets and the file (capabilities(7)),
//! which are the payload's by then, and not from what it had. So no capset comes after the filter.
//!
//! With an agent (SCMP_ACT_NOTIFY), the agent is to have its listener before `create` returns, as with runc, and for
//! that the filter must be on. Then 3. is: the filter, then the gate, then the hooks, then `execve`. So the
//! profile must allow, or the agent must, beside `execve`: for `create`, the `read` at the gate; for startContainer hooks
//! `clone`, `dup3` and `wait4` (and `nanosleep` and `setpgid` where one has a timeout, `close_range` with
//! `--preserve-fds`). A process without the filter, which shares the descriptors, takes the listener to the agent, and
//! says that the container is created ([`listener`]).
//!
//! What goes wrong after the filter is noted in memory that is shared with whoever waits, then said by `write`, then
//! the process ends by `exit_group`. Where the filter refuses these, the note is what is known (the step, and errno of
//! an execve), and a fault ends the process.
use alloc::{format, vec::Vec};

use rspawn_proto::plan::{Capabilities, Finish, Label, Seccomp};
use rspawn_proto::report::FinishStep;
use rspawn_sys::cred::Filter;
use rspawn_sys::file::Resolve;
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::process::StringArray;
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, Result, cred, fd, file, process, pty, signal, tune};

use crate::lookup::{FoundProgram, Payload};
use crate::{home, hooks, listener, streams};

use crate::stage::Stage;

/// What the last mile needs beside the process that goes it.
pub struct FinishContext<'a> {
    pub finish: &'a Finish,
    /// The slave of the container's console.
    pub console: Option<&'a Fd>,
    /// The payload must not outlive rspawn-setup.
    pub foreground: bool,
    /// The seccomp agent that the filter asks, and what it is told.
    pub agent: Option<(&'a Fd, &'a str)>,
}

/// What is left to execute when all steps are taken.
pub struct PayloadExec {
    pub program: FoundProgram,
    pub argv: StringArray,
    pub env: StringArray,
}

impl FinishContext<'_> {
    /// What PID 1 and the payload share: session, terminal, standard streams. `None` if a step failed.
    pub fn prepare(&self, stage: &Stage) -> Option<()> {
        stage.step(FinishStep::Session, || {
            die_with_parent(self.foreground)?;
            fd::close_from_on_exec(3 + self.finish.preserve_fds).named("close_range")?;
            process::new_session().named("setsid")
        })?;
        let Some(console) = self.console else {
            return stage.step(FinishStep::Stdio, || streams::give_pipes(self.finish.uid.raw()));
        };
        stage.step(FinishStep::Terminal, || pty::take_as_controlling(console).named("ioctl TIOCSCTTY"))?;
        stage.step(FinishStep::Stdio, || (0..3).try_for_each(|number| console.install(number)).named("dup3"))
    }

    /// Everything else, up to but without the exec. Gives what to execute; `None` if a step failed.
    pub fn apply(&self, stage: &mut Stage, payload: &Payload) -> Option<PayloadExec> {
        let finish = self.finish;
        self.take_attributes(stage)?;
        stage.wait_for_root()?;
        if finish.own_null && self.console.is_none() {
            stage.step(FinishStep::Stdio, streams::take_containers_null)?;
        }
        self.take_rights(stage)?;
        let program = stage.step(FinishStep::Exec, || payload.find())?;
        let home = home::missing_home(payload.env, finish.uid.raw());
        let environment = || payload.environment(home.as_deref());
        let env = stage.step(FinishStep::Exec, || environment().named("execve"))?;
        let hooks = stage.step(FinishStep::Hooks, || hooks::prepare(finish, environment))?;
        if finish.no_new_privileges {
            stage.step(FinishStep::NoNewPrivileges, || cred::no_new_privileges().named("prctl"))?;
        }
        stage.step(FinishStep::Gate, || {
            signal::end_when_told().named("rt_sigaction")?;
            signal::set_blocked(0).named("rt_sigprocmask").map(drop)
        })?;
        let filter = finish.seccomp.as_ref().map(compiled);
        let install = || filter.as_ref().map_or(Ok(0), |filter| self.install(filter));
        let wear = || install().map(drop);
        match self.agent {
            Some(agent) => {
                let install = |stage: &_| listener::install(stage, agent, !hooks.is_empty(), install);
                stage.last_step(FinishStep::Listener, install)?;
                stage.wait_for_start()?;
                stage.step(FinishStep::Hooks, || hooks::run(&hooks, finish.preserve_fds, None))?;
            }
            None => {
                stage.say_done()?;
                stage.wait_for_start()?;
                if !hooks.is_empty() {
                    stage.step(FinishStep::Hooks, || hooks::run(&hooks, finish.preserve_fds, Some(&wear)))?;
                }
                if filter.is_some() {
                    stage.last_step(FinishStep::Seccomp, |_| install().named("seccomp"))?;
                }
            }
        }
        // Closed under the filter, they would be a call of rspawn's own; the exec closes them.
        core::mem::forget(hooks);
        Some(PayloadExec { program, argv: StringArray::from_start(payload.argv), env })
    }

    /// What needs the rights that go next, and no look-up.
    fn take_attributes(&self, stage: &Stage) -> Option<()> {
        let finish = self.finish;
        for (index, limit) in finish.rlimits.iter().enumerate() {
            stage.step(FinishStep::Rlimits, || {
                // The parent, which has the plan, makes words of the index.
                tune::set_limit(0, limit).named("prlimit").map_err(|failure| failure.with(format!("{index}")))
            })?;
        }
        if let Some(scheduler) = &finish.scheduler {
            stage.step(FinishStep::Scheduler, || tune::set_scheduler(scheduler).named("sched_setattr"))?;
        }
        if let Some(priority) = finish.io_priority {
            stage.step(FinishStep::IoPriority, || tune::set_io_priority(priority).named("ioprio_set"))?;
        }
        if let Some(policy) = &finish.memory_policy {
            stage.step(FinishStep::MemoryPolicy, || tune::set_memory_policy(policy).named("set_mempolicy"))?;
        }
        if !finish.affinity.is_empty() {
            stage.step(FinishStep::Affinity, || tune::set_affinity(0, &finish.affinity).named("sched_setaffinity"))?;
        }
        if let Some(persona) = finish.personality {
            stage.step(FinishStep::Personality, || tune::set_personality(persona).named("personality"))?;
        }
        if let Some(name) = &finish.keyring {
            stage.step(FinishStep::Keyring, || join_keyring(name.as_str()))?;
        }
        if let Some(label) = &finish.label {
            let step = match label {
                Label::AppArmor(_) => FinishStep::AppArmorProfile,
                Label::SeLinux(_) => FinishStep::SelinuxLabel,
            };
            stage.step(step, || set_label(label))?;
        }
        if let Some(mask) = finish.umask {
            stage.step(FinishStep::Umask, || {
                file::set_umask(mask);
                Ok(())
            })?;
        }
        Some(())
    }

    /// Ids and capabilities, and the working directory, which one or the other may open.
    fn take_rights(&self, stage: &Stage) -> Option<()> {
        let finish = self.finish;
        let early = stage.step(FinishStep::Cwd, || self.enter_cwd(true))?;
        if let Some(groups) = &finish.groups {
            stage.step(FinishStep::Groups, || cred::set_groups(groups).named("setgroups"))?;
        }
        stage.step(FinishStep::Gid, || cred::set_gid(finish.gid.raw()).named("setresgid"))?;
        stage.step(FinishStep::BoundingSet, || limit_bounding_set(&finish.capabilities))?;
        stage.step(FinishStep::Uid, || {
            cred::keep_capabilities(true).named("prctl PR_SET_KEEPCAPS")?;
            cred::set_uid(finish.uid.raw()).named("setresuid")?;
            // New ids make it what fs.suid_dumpable says. Others of this id must not reach a process that has no filter
            // and no label yet (CVE-2016-9962). The payload's exec ends it.
            cred::set_dumpable(false).named("prctl PR_SET_DUMPABLE")?;
            die_with_parent(self.foreground)
        })?;
        // Not effective yet: the look-ups are the payload's.
        let set = || self.installing().and_then(|kept| self.set_capabilities(0, kept));
        stage.step(FinishStep::Capabilities, || set().named("capset"))?;
        if !early {
            // What root could not enter, its owner may: a FUSE or NFS directory of the user's.
            stage.step(FinishStep::Cwd, || self.enter_cwd(false))?;
        }
        Some(())
    }

    /// What it takes to install the filter, if it is there.
    fn installing(&self) -> Result<u64> {
        let needs_it = self.finish.seccomp.is_some() && !self.finish.no_new_privileges;
        Ok(if needs_it { Capabilities::SYS_ADMIN & cred::permitted_capabilities()? } else { 0 })
    }

    /// Sets the four sets that are not the bounding set, and keeps some for this process alone. A set may hold more than
    /// this process has: capset says EPERM.
    fn set_capabilities(&self, effective: u64, permitted: u64) -> Result<()> {
        let caps = self.finish.capabilities;
        let (effective, permitted) = (caps.effective | effective, caps.permitted | permitted);
        cred::set_capabilities(&Capabilities { effective, permitted, ..caps })
    }

    /// Installs the filter on this process. Gives the number of the listener, if the filter has one.
    fn install(&self, filter: &[Filter]) -> Result<usize> {
        match self.installing()? {
            0 => {}
            kept => self.set_capabilities(kept, kept)?,
        }
        // Room for what is said of a failure: more memory would be a call.
        drop(core::hint::black_box(Vec::<u8>::with_capacity(16 << 10)));
        cred::install_filter(filter, self.finish.seccomp.as_ref().map_or(0, |seccomp| seccomp.flags))
    }

    /// Enters the working directory; false if `later` may still succeed where this could not.
    fn enter_cwd(&self, later: bool) -> Outcome<bool> {
        let cwd = self.finish.cwd.as_str();
        match file::change_directory_to(cwd) {
            Err(Errno::EACCES | Errno::EPERM) if later => return Ok(false),
            entered => entered.named("chdir").map_err(|failure| failure.with(cwd))?,
        }
        // A descriptor that leaked from the host could make it point outside (CVE-2024-21626).
        if file::working_directory_is_reachable().named("getcwd")? {
            Ok(true)
        } else {
            Err(Failure::check("the directory is outside the container"))
        }
    }
}

/// Keeps the parent-death signal over changes of credentials, which clear it (prctl(2)).
pub fn die_with_parent(foreground: bool) -> Outcome<()> {
    if foreground { cred::set_parent_death_signal(9).named("prctl PR_SET_PDEATHSIG") } else { Ok(()) }
}

fn join_keyring(name: &str) -> Outcome<()> {
    match tune::join_session_keyring(name) {
        // A kernel without keys has none to keep from the payload.
        Err(Errno::ENOSYS) => Ok(()),
        joined => joined.named("keyctl"),
    }
}

/// Sets the label of the next exec, through a procfs of our own: the container's /proc may be anything.
fn set_label(label: &Label) -> Outcome<()> {
    let pid = process::pid();
    let (path, value) = match label {
        Label::AppArmor(profile) => (format!("{pid}/attr/apparmor/exec"), format!("exec {profile}")),
        Label::SeLinux(label) => (format!("{pid}/attr/exec"), format!("{label}")),
    };
    let procfs = NewFilesystem::open("proc").and_then(|proc| proc.create(0)).named("fsmount")?;
    let attribute = file::open_at(&procfs, &path, file::O_WRONLY, 0, Resolve::Beneath).named("openat2")?;
    attribute.write(value.as_bytes()).named("write").map_err(|failure| failure.with(value))
}

/// Limits the bounding set, and before that makes inheritable what the limit would forbid later (capabilities(7)).
fn limit_bounding_set(caps: &Capabilities) -> Outcome<()> {
    if caps.inheritable & !caps.bounding != 0 {
        let all = cred::permitted_capabilities().named("capget")?;
        let inheritable = caps.inheritable;
        let inheriting = Capabilities { effective: all, permitted: all, inheritable, ..Capabilities::default() };
        cred::set_capabilities(&inheriting).named("capset")?;
    }
    cred::limit_bounding_set(caps.bounding).named("prctl PR_CAPBSET_DROP")
}

fn compiled(seccomp: &Seccomp) -> Vec<Filter> {
    seccomp.program.iter().map(|i| Filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}
