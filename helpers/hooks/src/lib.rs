//! `rspawn-hooks SOCKET`: runs hooks, so that nothing else of rspawn's executes what config.json names on the host.
//!
//! Each message on the socket is a [`HookJob`]; the answer says that all of its hooks succeeded, or why one did not.
//! A hook gets the arguments and the environment of config.json and nothing else: the state on its standard input, no
//! other descriptor, `/` as working directory (CVE-2025-23266: an environment that others control is code).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_proto::msg::FromStage;
use rspawn_proto::record::{Hook, HookJob};
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::failure::{Named, Outcome};
use rspawn_sys::hook::Prepared;
use rspawn_sys::process::{self, StringArray};
use rspawn_sys::{Fd, channel, cred, fd, file, signal};

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

fn run(hook: &Hook, state: &str) -> Outcome<()> {
    let env = StringArray::new(hook.env.iter().flatten().map(|word| word.as_str())).named("execve")?;
    Prepared::new(hook, state, env)?.run(|| {
        // Signals of the caller's terminal are not for it.
        process::new_process_group(0)?;
        // A hook that hangs does not outlive whoever waits for it.
        cred::set_parent_death_signal(libc::SIGKILL)
    })
}
