//! What a container leaves on the host, and how it is cleared away when the container ends or never begins.
use alloc::{format, string::String, vec::Vec};
use core::slice;

use rspawn_proto::hook::{Hook, Hooks};
use rspawn_proto::policy::PathRule;
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError};
use rspawn_sys::{Fd, Outcome};

use crate::cgroup::{self, CgroupReaper, Cgroups};
use crate::parent::{End, Parent};
use crate::runner::Runner;
use crate::state::StateDir;

/// What a container leaves on the host.
pub struct HostCleanup<'a> {
    pub state: &'a StateDir,
    pub cgroups: Cgroups,
    /// Removes the cgroups where this program has given up the rights to.
    pub reaper: Option<CgroupReaper>,
    /// Runs hooks in the caller's namespaces.
    pub runner: Option<Runner>,
    pub hooks: Hooks,
    /// The cgroup that limits its memory.
    pub memory: Option<Fd>,
}

impl<'a> HostCleanup<'a> {
    pub fn new(state: &'a StateDir) -> Self {
        Self { state, cgroups: Cgroups::default(), reaper: None, runner: None, hooks: Hooks::default(), memory: None }
    }

    /// Clears everything away, unless another command has. What cannot be removed stays recorded, so that `delete
    /// --force` and the next container of this name find it.
    pub fn clear(&mut self, parent: &Parent) -> Outcome<()> {
        if !self.state.lock()? {
            return Ok(());
        }
        let reaped = self.reaper.as_mut().map_or(Ok(()), CgroupReaper::end);
        // Until the reaper is ready, what it cannot do is done here.
        let removed = if self.cgroups.0.is_empty() { reaped } else { self.cgroups.remove() };
        removed?;
        if let Some(runner) = &self.runner {
            for hook in &self.hooks.deferred.poststop {
                // Whatever it says, the others run, and the container is deleted (runtime.md, "Lifecycle").
                let ran = runner.run(None, slice::from_ref(hook), self.state_text("stopped", None), self.allowed());
                if let Err(End::Failed(error)) = ran {
                    parent.report_left(error);
                }
            }
        }
        self.state.remove()
    }

    /// Explains the death of a stage that sent no error, where the container's own memory limit has killed it.
    pub fn explain(&self, error: &mut StepError) {
        let died = matches!(error.place, Place::Spawn(SpawnStep::Enter) | Place::Finish(FinishStep::Receive));
        // Or an operation on the process failed because it was gone.
        let gone = error.errno == libc::ESRCH;
        let Some(memory) = self.memory.as_ref().filter(|_| gone || (died && error.errno == 0)) else { return };
        let read = |names: [&str; 2]| names.iter().find_map(|name| cgroup::words_of(memory, name));
        let Some(events) = read(["memory.events", "memory.oom_control"]) else { return };
        let killed = events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count != "0");
        if let Some(limit) = read(["memory.max", "memory.limit_in_bytes"]).filter(|_| killed) {
            let used = read(["memory.peak", "memory.max_usage_in_bytes"]).unwrap_or("unknown".into());
            error.detail =
                format!("{}: its limit of memory, {limit} bytes, is too small ({used} were used)", error.detail);
        }
    }

    pub fn state_text(&self, status: &str, pid: Option<i32>) -> String {
        self.hooks.deferred.state.fill(status, pid)
    }

    pub fn allowed(&self) -> Option<Vec<PathRule>> {
        self.hooks.deferred.allowed.clone()
    }

    /// Runs hooks in the caller's namespaces.
    pub fn run(&self, parent: &Parent, list: &[Hook], status: &str, pid: i32) -> Result<(), End> {
        match &self.runner {
            Some(runner) => runner.run(Some(parent), list, self.state_text(status, Some(pid)), self.allowed()),
            None => Ok(()),
        }
    }
}
