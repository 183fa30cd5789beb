//! Hooks of commands that come after `create`: poststart and poststop, as the record keeps them. rspawn-hooks runs
//! them, as it does for rspawn-setup.
use std::process::{Command, Stdio};

use rspawn_proto::hook::{DeferredHooks, Hook, HookJob};
use rspawn_proto::msg::FromStage;
use rspawn_sys::channel;

use super::helper_process;
use rspawn_planner::origins::Origins;
use rspawn_report::describe;

/// Runs hooks in their order, up to the first that fails.
/// Which programs may be hooks was said by the policy of the container's creation.
pub fn run(hooks: &[Hook], deferred: &DeferredHooks, state: String) -> Result<(), String> {
    if hooks.is_empty() {
        return Ok(());
    }
    let say = |error: &dyn std::fmt::Display| format!("cannot run hooks: {error}");
    let program = helper_process::find("rspawn-hooks").map_err(|error| say(&error))?;
    let (socket, theirs) = channel::pair().map_err(|errno| say(&describe::errno(errno.0)))?;
    theirs.keep_on_exec().map_err(|errno| say(&describe::errno(errno.0)))?;
    let started = Command::new(&program).arg(theirs.raw().to_string()).env_clear().stdin(Stdio::null()).spawn();
    let mut child = started.map_err(|error| say(&format!("{}: {error}", program.display())))?;
    drop(theirs);
    let job = HookJob { hooks: hooks.to_vec(), state, allowed: deferred.allowed.clone() };
    let answer = channel::send_value(&socket, &job, &[]).and_then(|()| channel::receive_value(&socket));
    drop(socket);
    let _ = child.wait();
    match answer.map_err(|errno| say(&describe::errno(errno.0)))? {
        Some((FromStage::Done, _)) => Ok(()),
        Some((FromStage::Failed(error), _)) => Err(describe::failure(None, &error, &Origins::default())),
        _ => Err(say(&"rspawn-hooks died")),
    }
}
