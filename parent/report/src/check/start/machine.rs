//! Devices of the network that are to be moved, and clocks.
use rspawn_planner::origin::spawn_origin;
use rspawn_planner::problem::{Problem, did_you_mean};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::report::SpawnStep;

use super::subject::Start;
use crate::describe;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) {
    let known = &start.start.net_devices;
    for step in &start.plan.attach {
        let AttachOp::MoveNetDevice { name, .. } = &step.op;
        let wrong = if name.as_str() == "lo" {
            Some("the loopback device cannot be moved: each network namespace has its own".to_string())
        } else if !known.is_empty() && !known.iter().any(|device| device == name.as_str()) {
            let hint = did_you_mean(name.as_str(), known);
            Some(format!("there is no network device {name} in the invoker's network namespace{hint}"))
        } else {
            None
        };
        problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
    }
    if start.makes(Namespace::Time) {
        let wrong = start.plan.spawn.time_offsets.iter().find(|offset| is_out_of_range(start, offset));
        problems.extend(wrong.map(|_| {
            let reason = describe::errno(libc::ERANGE);
            let message = format!("a clock would be before its start, or beyond its end: {reason}");
            start.problem(spawn_origin(SpawnStep::TimeOffsets), message)
        }));
    }
}

/// timens_set_offset() of the kernel. The monotonic clock is never ahead of the one that counts suspension too.
fn is_out_of_range(start: &Start, offset: &TimeOffset) -> bool {
    /// KTIME_SEC_MAX
    const MOST: i64 = i64::MAX / 1_000_000_000;
    if !(-MOST..=MOST).contains(&offset.seconds) {
        return true;
    }
    // A minute, for the time until the start.
    let now = start.start.uptime.saturating_add(60);
    let then = offset.seconds.saturating_add(now);
    then < 0 || offset.seconds.saturating_add(start.start.uptime) > MOST / 2
}
