//! `rspawn-setup --check`: the verdict on a saved plan. Nothing is done.
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use rspawn_proto::check::check as check_structure;
use rspawn_proto::codec;
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::{Policy, violations};
use rspawn_proto::{MAX_MESSAGE, MAX_PLAN};
use rspawn_sys::{Errno, file};

use crate::say;

/// Exit status 0: the plan would be carried out; 1: it would be refused; 2: it could not be read.
pub fn check(plan: &str, policy: Option<&str>) -> i32 {
    let Some(bytes) = load(plan, MAX_PLAN) else { return 2 };
    let plan: Plan = match codec::decode_plan(&bytes) {
        Ok(plan) => plan,
        Err(reason) => return refuse(&format!("{plan}: {reason}")),
    };
    if let Err(fault) = check_structure(&plan) {
        return refuse(&format!("{:?}: {}", fault.place, fault.reason));
    }
    let policy = match policy {
        None => Policy::default(),
        Some(path) => {
            let Some(bytes) = load(path, MAX_MESSAGE) else { return 2 };
            match codec::decode_message(&bytes) {
                Ok(policy) => policy,
                Err(reason) => return refuse(&format!("{path}: {reason}")),
            }
        }
    };
    let violations = violations(&policy, &plan);
    for found in &violations {
        say(1, &format!("violates {}: {} {}\n", found.rule, found.origin, found.what));
    }
    if !violations.is_empty() {
        return refuse("the policy does not grant what the plan asks for");
    }
    let steps = plan.host.len() + plan.attach.len() + plan.rootfs.len();
    say(1, &format!("well formed: {steps} operations for container {}; the policy grants all of it\n", plan.header.id));
    0
}

fn refuse(reason: &str) -> i32 {
    say(1, &format!("refused: {reason}\n"));
    1
}

fn load(path: &str, most: usize) -> Option<Vec<u8>> {
    read_file(path, most).map_err(|errno| say(2, &format!("cannot read {path}: errno {}\n", errno.0))).ok()
}

fn read_file(path: &str, most: usize) -> Result<Vec<u8>, Errno> {
    let source = file::open_relative(path)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(bytes),
            _ if bytes.len() > most => return Err(Errno::EMSGSIZE),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}
