//! `rspawn-hooks SOCKET`: runs hooks, so that nothing else of rspawn's executes what config.json names.
//!
//! Each message on the socket is a [`HookJob`]; the answer says that all of its hooks succeeded, or why one did not.
//! A hook gets the arguments and the environment of config.json and nothing else: the state on its standard input, no
//! other descriptor, `/` as working directory (CVE-2025-23266: an environment that others control is code).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_proto::msg::FromStage;
use rspawn_proto::record::{Hook, HookJob};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::failure::{Failure, Named, Outcome};
use rspawn_sys::process::{self, Side, StringArray};
use rspawn_sys::{Errno, Fd, channel, cred, fd, file, signal};

/// Bytes of a hook's output that an error quotes.
const QUOTED: usize = 1024;

pub fn main(argv: Vec<&'static CStr>, _env: Vec<&'static CStr>) -> i32 {
    let number = argv.get(1).and_then(|word| word.to_str().ok()?.parse().ok());
    let Some(number) = number else {
        let stderr = Fd::from_raw(2);
        let _ = stderr.write(b"usage: rspawn-hooks SOCKET (rspawn starts it itself)\n");
        stderr.leak();
        return 2;
    };
    let socket = Fd::from_raw(number);
    signal::reset_dispositions();
    let apart = fd::close_from_on_exec(3).and_then(|()| signal::set_blocked(0));
    if apart.and_then(|_| file::change_directory_to("/")).is_err() {
        return 1;
    }
    while let Ok(Some((message, _))) = channel::receive(&socket, MAX_PLAN) {
        // As large as a plan may be: the state has every annotation.
        let Ok(job) = codec::decode_plan::<HookJob>(&message) else { return 1 };
        let answer = match job.hooks.iter().try_for_each(|hook| run(hook, &job.state)) {
            Ok(()) => FromStage::Done,
            Err(failure) => FromStage::Failed(failure.at(Place::Spawn(SpawnStep::Hooks))),
        };
        if channel::send_value(&socket, &answer, &[]).is_err() {
            return 1;
        }
    }
    0
}

/// Runs one hook to its end, or to its time's.
fn run(hook: &Hook, state: &str) -> Outcome<()> {
    let named = |failure: Failure| {
        let separator = if failure.detail.is_empty() { "" } else { ": " };
        let detail = format!("{}: the hook {}{separator}{}", hook.origin, hook.path, failure.detail);
        failure.with(detail)
    };
    start_and_wait(hook, state).map_err(named)
}

fn start_and_wait(hook: &Hook, state: &str) -> Outcome<()> {
    let input = file::memory("rspawn-state").named("memfd_create")?;
    input.write(state.as_bytes()).and_then(|()| input.rewind()).named("write")?;
    let output = file::memory("rspawn-hook-output").named("memfd_create")?;
    let words = hook.argv.iter().map(|word| word.as_str());
    let argv =
        if hook.argv.is_empty() { StringArray::new([hook.path.as_str()].into_iter()) } else { StringArray::new(words) };
    let argv = argv.named("execve")?;
    let env = StringArray::new(hook.env.iter().map(|word| word.as_str())).named("execve")?;
    let (verdict, tells) = process::pipe().named("pipe2")?;
    let (pid, child) = match process::fork(0).named("clone3")? {
        Side::Child => {
            let errno = execute(hook, &input, &output, &argv, &env);
            let _ = tells.write(&errno.0.to_ne_bytes());
            process::exit(127)
        }
        Side::Parent { pid, child } => (pid, child),
    };
    // Its other end closes with the hook's exec.
    drop(tells);
    let ended = channel::wait_readable(&child, (hook.timeout > 0).then(|| hook.timeout.saturating_mul(1000)));
    if !ended.named("ppoll")? {
        // Its children, too: it leads a process group.
        let _ = process::kill(-pid, libc::SIGKILL);
        let _ = process::wait(pid, true);
        return Err(Failure::check(&format!("it was killed after its timeout of {} s", hook.timeout)));
    }
    let status = process::wait(pid, true).named("wait4")?.map_or(0, |(_, status)| status);
    let mut errno = [0; 4];
    if verdict.read(&mut errno) == Ok(4) {
        return Err(Failure::of("execve", Errno(i32::from_ne_bytes(errno))));
    }
    match (process::exit_status(status), status & 0x7f) {
        (0, _) => Ok(()),
        (code, 0) => Err(Failure::check(&format!("exit status {code}{}", quoted(&output)))),
        (_, signal) => Err(Failure::check(&format!("killed by signal {signal}{}", quoted(&output)))),
    }
}

/// In the child. Returns only on failure.
fn execute(hook: &Hook, input: &Fd, output: &Fd, argv: &StringArray, env: &StringArray) -> Errno {
    // A hook that hangs does not outlive whoever waits for it.
    let apart = process::new_process_group(0).and_then(|()| cred::set_parent_death_signal(libc::SIGKILL));
    let placed =
        apart.and_then(|()| input.install(0)).and_then(|()| output.install(1)).and_then(|()| output.install(2));
    match placed {
        Ok(()) => process::execute(hook.path.as_str(), argv, env),
        Err(errno) => errno,
    }
}

/// What a hook said, for the error that it caused.
fn quoted(output: &Fd) -> String {
    let mut bytes = [0u8; QUOTED];
    let length = output.rewind().and_then(|()| output.read(&mut bytes)).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    // An error is one line.
    let text = text.trim().replace('\n', "; ");
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
