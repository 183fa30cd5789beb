//! `rspawn-hooks SOCKET`: runs hooks, so that nothing else of rspawn's executes what config.json names on the host.
//!
//! Each message on the socket is a [`HookJob`]; the answer says that all of its hooks succeeded, or why one did not.
//! A hook gets the arguments and the environment of config.json and nothing else: the state on its standard input, no
//! other descriptor, `/` as working directory, or the bundle in a container's namespaces (CVE-2025-23266: an environment
//! that others control is code).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::{format, vec::Vec};
use core::ffi::CStr;

use rspawn_proto::hook::{Hook, HookJob};
use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::attr;
use rspawn_proto::policy::PathRule;
use rspawn_proto::report::{Place, SpawnStep};
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::hook::Prepared;
use rspawn_sys::hook_program::Program;
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::process::{self, StringArray};
use rspawn_sys::{Failure, Fd, Named, Outcome, Result, channel, cred, fd, file, signal};

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
    // In a container's namespaces the host's `/` is where a relative path would lead and write, and the container's root
    // has what its image likes (CVE-2025-23266): there it is the bundle.
    let bundle = argv.get(2).and_then(|word| word.to_str().ok());
    let is_there = || bundle.is_some_and(|bundle| file::change_directory_to(bundle).is_ok());
    if apart.is_err() || !(is_there() || enter_empty(bundle.is_some()).is_ok()) {
        return 1;
    }
    while let Ok(Some((message, _))) = channel::receive(&socket, MAX_PLAN) {
        // As large as a plan may be: the state has every annotation.
        let Ok(job) = codec::decode_plan::<HookJob>(&message) else { return 1 };
        let answer = match job.hooks.iter().try_for_each(|hook| run(hook, &job)) {
            Ok(()) => FromStage::Done,
            Err(failure) => FromStage::Failed(failure.at(Place::Spawn(SpawnStep::Hooks))),
        };
        if channel::send_value(&socket, &answer, &[]).is_err() {
            return 1;
        }
    }
    0
}

/// `/`; or, where the root of a user namespace may not enter the bundle, a directory in which nothing is.
fn enter_empty(inside: bool) -> Result<()> {
    if inside {
        let empty = NewFilesystem::open("tmpfs").and_then(|new| new.create(attr::RDONLY))?;
        file::change_directory(&empty)
    } else {
        file::change_directory_to("/")
    }
}

fn run(hook: &Hook, job: &HookJob) -> Outcome<()> {
    let judge = |allowed: &Vec<PathRule>| {
        let words = |failure: Failure| {
            let detail =
                format!("the policy (hooks.allow) refuses {}: the hook {}: {}", hook.origin, hook.path, failure.detail);
            failure.with(detail)
        };
        Program::judge(hook, allowed).map_err(words)
    };
    let program = job.allowed.as_ref().map(judge).transpose()?;
    let env = StringArray::new(hook.env.iter().flatten().map(|word| word.as_str())).named("execve")?;
    Prepared::new(hook, program, &job.state, env)?.run(|| {
        // Signals of the caller's terminal are not for it.
        process::new_process_group(0)?;
        // A hook that hangs does not outlive whoever waits for it.
        cred::set_parent_death_signal(libc::SIGKILL)
    })
}
