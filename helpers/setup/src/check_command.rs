//! `rspawn-setup --check`: the verdict on a saved plan. Nothing is done.
use alloc::{format, string::String};
use core::fmt::Display;

use rspawn_proto::MAX_PLAN;
use rspawn_proto::check::check as check_structure;
use rspawn_proto::codec;
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::{Enforcement, Policy, Violation, violations};
use rspawn_sys::file;

/// The verdict in words. Exit status 0: the plan would be carried out; 1: it would be refused; 2: it could not be read.
pub fn check(plan: &str, policy: Option<&str>) -> Result<String, (i32, String)> {
    let refused = |reason: &dyn Display| (1, format!("refused: {reason}\n"));
    let read = |path: &str| file::open_relative(path)?.read_all(MAX_PLAN);
    let load = |path: &str| read(path).map_err(|errno| (2, format!("cannot read {path}: errno {}\n", errno.0)));
    let path = plan;
    let plan: Plan = codec::decode_plan(&load(path)?).map_err(|reason| refused(&format!("{path}: {reason}")))?;
    check_structure(&plan).map_err(|fault| refused(&format!("{:?}: {}", fault.place, fault.reason)))?;
    let policy: Policy = match policy {
        None => Policy::default(),
        Some(path) => codec::decode_message(&load(path)?).map_err(|reason| refused(&format!("{path}: {reason}")))?,
    };
    let found = if policy.mode == Enforcement::Off { [].into() } else { violations(&policy, &plan) };
    if !found.is_empty() {
        let line = |Violation { origin, rule, what, capabilities }: &Violation| match capabilities {
            0 => format!("violates {rule}: {origin} {what}\n"),
            set => format!("violates {rule}: {origin} {what}{set:#x}\n"),
        };
        let lines: String = found.iter().map(line).collect();
        let (status, last) = refused(&"the policy does not grant what the plan asks for");
        return Err((status, lines + &last));
    }
    const JUDGED: &str =
        "the policy grants it, but for host paths and hooks, which are judged where they lead at a start";
    let judged = if policy.mode == Enforcement::Off { "no policy was given" } else { JUDGED };
    let steps = plan.host.len() + plan.attach.len() + plan.rootfs.len();
    Ok(format!("well formed: {steps} operations for container {}; {judged}\n", plan.header.id))
}
