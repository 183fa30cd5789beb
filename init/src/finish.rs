//! The last mile: what the process that becomes the payload does to itself, in one fixed order.
//!
//! The order is security. Limits and labels need rights that the ids take away; groups go before the gid and the gid
//! before the uid, which ends the right to change either; capabilities go when nothing needs them any more; seccomp
//! is last, or, where no_new_privs is not set, just before the right to install it goes.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rspawn_proto::plan::{Capabilities, Finish, Label, Seccomp};
use rspawn_proto::report::FinishStep;
use rspawn_sys::cred::Filter;
use rspawn_sys::file::Resolve;
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::{Errno, Fd, cred, fd, file, process, pty, tune};

use crate::lookup::Program;
use crate::{home, hooks, listener};
use rspawn_sys::failure::{Failure, Named, Outcome};

use crate::staged::Stage;

pub struct Last<'a> {
    pub finish: &'a Finish,
    /// The slave of the container's console.
    pub console: Option<&'a Fd>,
    /// The payload must not outlive rspawn-setup.
    pub foreground: bool,
    /// rspawn-hooks, in sealed memory, where there are startContainer hooks.
    pub hooks: Option<&'a Fd>,
    /// The seccomp agent that the filter asks, and what it is told.
    pub agent: Option<(&'a Fd, &'a str)>,
}

/// What is left to execute when all steps are taken.
pub struct Ready {
    pub path: String,
    /// An entry for the environment, which has none for HOME.
    pub home: Option<String>,
}

impl Last<'_> {
    /// What PID 1 and the payload share: session, terminal, standard streams. `None` if a step failed.
    pub fn prepare(&self, stage: &Stage) -> Option<()> {
        stage.step(FinishStep::Session, || {
            die_with_parent(self.foreground)?;
            fd::close_from_on_exec(3 + self.finish.preserve_fds).named("close_range")?;
            process::new_session().named("setsid")
        })?;
        let Some(console) = self.console else {
            return stage.step(FinishStep::Stdio, || own_streams(self.finish.uid.raw()));
        };
        stage.step(FinishStep::Terminal, || pty::take_as_controlling(console).named("ioctl TIOCSCTTY"))?;
        stage.step(FinishStep::Stdio, || (0..3).try_for_each(|number| console.install(number)).named("dup3"))
    }

    /// Everything else, up to but without the exec. Gives what to execute; `None` if a step failed.
    pub fn apply(&self, stage: &mut Stage, payload: &Program) -> Option<Ready> {
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
        stage.wait_for_root()?;
        let early = stage.step(FinishStep::Cwd, || self.enter_cwd(true))?;
        if let Some(groups) = &finish.groups {
            stage.step(FinishStep::Groups, || cred::set_groups(groups).named("setgroups"))?;
        }
        stage.step(FinishStep::Gid, || cred::set_gid(finish.gid.raw()).named("setresgid"))?;
        stage.step(FinishStep::BoundingSet, || limit_bounding_set(&finish.capabilities))?;
        if !finish.no_new_privileges {
            self.announce_and_filter(stage)?;
        }
        stage.step(FinishStep::Uid, || {
            cred::keep_capabilities(true).named("prctl PR_SET_KEEPCAPS")?;
            cred::set_uid(finish.uid.raw()).named("setresuid")?;
            die_with_parent(self.foreground)
        })?;
        stage.step(FinishStep::Capabilities, || set_capabilities(&finish.capabilities))?;
        if !early {
            // What root could not enter, its owner may: a FUSE or NFS directory of the user's.
            stage.step(FinishStep::Cwd, || self.enter_cwd(false))?;
        }
        let path = stage.step(FinishStep::Exec, || payload.find())?;
        let home = home::missing_home(payload.env, finish.uid.raw());
        let gated = stage.wait_for_start()?;
        if let Some(program) = self.hooks {
            stage.step(FinishStep::Hooks, || hooks::run(program, finish))?;
        }
        if finish.no_new_privileges {
            stage.step(FinishStep::NoNewPrivileges, || cred::no_new_privileges().named("prctl"))?;
            self.announce_and_filter(stage)?;
        } else if gated {
            stage.announce_unless_gated()?;
        }
        Some(Ready { path, home })
    }

    /// Says that all is well while the filter cannot forbid it yet, then installs the filter. Failures after this
    /// are still reported, and override it, if the filter lets them pass.
    fn announce_and_filter(&self, stage: &Stage) -> Option<()> {
        stage.announce_unless_gated()?;
        let Some(seccomp) = &self.finish.seccomp else { return Some(()) };
        match self.agent {
            Some(agent) => stage.step(FinishStep::Listener, || listener::install(stage, agent, || install(seccomp))),
            None => stage.step(FinishStep::Seccomp, || install(seccomp).map(drop)),
        }
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

/// Gives the standard streams to the payload's user, as runc does: images open /dev/stdout again by its name. What
/// cannot be given stays as it is.
fn own_streams(uid: u32) -> Outcome<()> {
    for number in 0..3 {
        let stream = Fd::from_raw(number);
        if let Ok(found) = file::status(&stream)
            && found.uid != uid
            && !found.is_null_device()
        {
            let _ = file::change_owner(&stream, uid, found.gid);
        }
        stream.leak();
    }
    Ok(())
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

/// Sets the four sets that are not the bounding set. A set may hold more than this process has: capset says EPERM.
fn set_capabilities(caps: &Capabilities) -> Outcome<()> {
    cred::set_capabilities(caps).named("capset")
}

/// Gives the number of the listener, if the filter has one.
fn install(seccomp: &Seccomp) -> Outcome<usize> {
    let program: Vec<Filter> =
        seccomp.program.iter().map(|i| Filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    cred::install_filter(&program, seccomp.flags).named("seccomp")
}
