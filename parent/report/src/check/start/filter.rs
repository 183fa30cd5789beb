//! The seccomp filter: whether it lets the payload be executed at all.
use rspawn_planner::origin::finish_origin;
use rspawn_planner::problem::Problem;
use rspawn_proto::filter::may_allow;
use rspawn_proto::report::FinishStep;

use super::subject::Start;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) {
    let Some(seccomp) = &start.plan.finish.seccomp else { return };
    let Some(arch) = start.facts.arch() else { return };
    // Whatever its arguments are. A program that cannot be followed is not judged.
    if may_allow(&seccomp.program, arch.number("execve"), Some(arch.audit())) == Ok(false) {
        let message = "the filter refuses execve, by which rspawn-init becomes the payload: allow it";
        problems.push(start.problem(finish_origin(FinishStep::Seccomp), message));
    }
}
