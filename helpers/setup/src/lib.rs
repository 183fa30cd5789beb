//! `rspawn-setup`, the one privileged program: decodes a plan, checks it, has the policy judge it, carries it out.
//!
//! It reads no JSON, looks no name up, and takes no decision that a plan could have taken. The pipeline is
//! `serve::serve`; read it first.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod attach;
pub mod cgroup;
mod check_command;
mod container;
mod copy_up;
mod create;
pub mod device_program;
mod entry;
mod exec;
mod follow;
mod helper_process;
mod host_cleanup;
mod host_phase;
mod idmap;
mod invoker;
mod joined_procfs;
mod mount_table;
mod objects;
mod parent;
mod policy_recheck;
mod proc_file;
mod programs;
mod report;
mod rootfs;
mod runner;
mod serve;
mod slots;
mod spawn;
mod state;
mod streams;
mod supervise;
mod target;
mod terminal;
mod update;
pub mod worker;

use alloc::{string::String, vec::Vec};
use core::ffi::CStr;

use rspawn_sys::Fd;

/// The two uses: `rspawn-setup CONTROL PROGRESS PROGRAMS` (descriptor numbers), started by `rspawn`, and
/// `rspawn-setup --check PLAN [POLICY]` (files), which does nothing to the machine.
pub fn main(argv: Vec<&'static CStr>, _env: Vec<&'static CStr>) -> i32 {
    let arguments: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str().ok()).collect();
    match arguments[..] {
        ["--check", plan] => print(check_command::check(plan, None)),
        ["--check", plan, policy] => print(check_command::check(plan, Some(policy))),
        [control, progress, programs] => match (control.parse(), progress.parse(), programs.parse()) {
            (Ok(control), Ok(progress), Ok(programs)) => {
                serve::serve(Fd::from_raw(control), Fd::from_raw(progress), Fd::from_raw(programs))
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> i32 {
    print(Err((2, "usage: rspawn-setup --check PLAN [POLICY]\n(rspawn starts it in any other way itself)\n".into())))
}

/// Prints a verdict, what is not a verdict to standard error, and gives the exit status.
fn print(verdict: Result<String, (i32, String)>) -> i32 {
    let (status, text) = verdict.map_or_else(|refused| refused, |text| (0, text));
    let stream = Fd::from_raw(if status == 2 { 2 } else { 1 });
    let _ = stream.write(text.as_bytes());
    stream.leak();
    status
}
