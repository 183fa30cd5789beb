//! startContainer hooks: run by rspawn-hooks inside the container, with the payload's rights, right before it begins.
use alloc::format;

use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::{Finish, InitMode};
use rspawn_proto::record::HookJob;
use rspawn_sys::failure::{Failure, Named, Outcome};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Errno, Fd, channel};

/// Runs the hooks; `program` is rspawn-hooks in sealed memory.
pub fn run(program: &Fd, finish: &Finish) -> Outcome<()> {
    let (mine, theirs) = channel::pair().named("socketpair")?;
    let number = format!("{}", theirs.raw());
    let argv = StringArray::new(["rspawn-hooks", &number].into_iter()).named("execveat")?;
    let env = StringArray::new(core::iter::empty()).named("execveat")?;
    let pid = match process::fork(0).named("clone3")? {
        Side::Parent { pid, .. } => pid,
        Side::Child => {
            drop(mine);
            if theirs.keep_on_exec().is_ok() {
                process::execute_file(program, &argv, &env);
            }
            process::exit(127)
        }
    };
    drop(theirs);
    let first = if finish.init == InitMode::Supervise { process::parent() } else { process::pid() };
    let job = HookJob { hooks: finish.hooks.clone(), state: finish.state.fill("created", Some(first)) };
    let answer = channel::send_value(&mine, &job, &[]).and_then(|()| channel::receive_value(&mine));
    drop(mine);
    process::wait(pid, true).named("wait4")?;
    match answer.named("recvmsg")? {
        Some((FromStage::Done, _)) => Ok(()),
        Some((FromStage::Failed(error), _)) => Err(Failure::of("execve", Errno(error.errno)).with(error.detail)),
        _ => Err(Failure::check("rspawn-hooks died")),
    }
}
