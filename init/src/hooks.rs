//! startContainer hooks: run inside the container, with the payload's rights, right before it begins.
//!
//! Each wears what the payload wears (security: a hook without the filter would be the way around it). Without an agent
//! they are forked before the filter is on, and install it themselves as the last thing before they become the hook, so
//! that it may refuse every call but `execve`. With one, they are forked under the filter that the agent answers for,
//! since a filter that they installed themselves would be another one, with a listener of its own.
use alloc::vec::Vec;

use rspawn_proto::plan::{Finish, InitMode};
use rspawn_sys::hook::Prepared;
use rspawn_sys::process::{self, StringArray};
use rspawn_sys::{Named, Outcome, Result, cred, fd};

/// Makes everything ready. `environment` is for those that have none of their own.
pub fn prepare(finish: &Finish, environment: impl Fn() -> Result<StringArray>) -> Outcome<Vec<Prepared<'_>>> {
    if finish.hooks.is_empty() {
        return Ok(Vec::new());
    }
    let first = if finish.init == InitMode::Supervise { process::parent() } else { process::pid() };
    let state = finish.state.fill("created", Some(first));
    let mut prepared = Vec::with_capacity(finish.hooks.len());
    for hook in &finish.hooks {
        let env = match &hook.env {
            Some(words) => StringArray::new(words.iter().map(|word| word.as_str())),
            None => environment(),
        };
        prepared.push(Prepared::new(hook, None, &state, env.named("execve")?)?);
    }
    Ok(prepared)
}

/// Runs them up to the first that fails. `install` is the filter, if this process does not wear it yet.
pub fn run(hooks: &[Prepared], preserve_fds: u32, install: Option<&dyn Fn() -> Result<()>>) -> Outcome<()> {
    let wear = || {
        if preserve_fds > 0 {
            // They are the payload's alone.
            fd::close_from_on_exec(3)?;
        }
        let Some(install) = install else { return Ok(()) };
        // A hook that hangs does not outlive whoever waits for it.
        cred::set_parent_death_signal(libc::SIGKILL)?;
        install()
    };
    hooks.iter().try_for_each(|hook| hook.run(wear))
}
