//! The last mile: what the kernel lets the container's first process set, by the invoker's rights and limits.
use rspawn_planner::origin::{finish_origin, spawn_origin};
use rspawn_planner::problem::Problem;
use rspawn_planner::tables::{policy_name, rlimit_name};
use rspawn_proto::plan::*;
use rspawn_proto::report::{FinishStep, SpawnStep};

use super::subject::{Start, beyond, is_in, some};

const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;

const RLIMIT_NOFILE: u8 = 7;
const RLIMIT_NICE: usize = 13;
const RLIMIT_RTPRIO: usize = 14;

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_IDLE: u32 = 5;
const SCHED_DEADLINE: u32 = 6;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) {
    let finish = &start.plan.finish;
    for (index, limit) in finish.rlimits.iter().enumerate() {
        let pointer = format!("{}/{index}", finish_origin(FinishStep::Rlimits));
        problems.extend(wrong_limit(start, limit).map(|message| start.problem(&pointer, message)));
    }
    let of = |step, wrong: Option<String>| wrong.map(|message| start.problem(finish_origin(step), message));
    let scheduler = finish.scheduler.as_ref().and_then(|scheduler| wrong_scheduler(start, scheduler));
    problems.extend(of(FinishStep::Scheduler, scheduler));
    problems.extend(of(FinishStep::IoPriority, finish.io_priority.and_then(|value| wrong_io_priority(start, value))));
    let policy = finish.memory_policy.as_ref().and_then(|policy| wrong_memory_policy(start, policy));
    problems.extend(of(FinishStep::MemoryPolicy, policy));
    problems.extend(of(FinishStep::Affinity, wrong_affinity(start, &finish.affinity)));
    let score = start.plan.spawn.oom_score_adj.and_then(|score| wrong_score(start, score));
    problems.extend(score.map(|message| start.problem(spawn_origin(SpawnStep::OomScore), message)));
}

fn wrong_limit(start: &Start, limit: &Rlimit) -> Option<String> {
    let name = rlimit_name(limit.resource);
    let most_files = start.start.most_files;
    if limit.resource == RLIMIT_NOFILE && most_files != 0 && limit.hard > most_files {
        return Some(format!(
            "{name} cannot be {}: no process may have more than fs.nr_open, {most_files}",
            limit.hard
        ));
    }
    let (_, hard) = start.start.rlimits.get(usize::from(limit.resource))?;
    if limit.hard <= *hard || start.host_may(CAP_SYS_RESOURCE) {
        return None;
    }
    Some(format!(
        "{name} cannot be raised to {} above your own hard limit of {hard}: that needs CAP_SYS_RESOURCE on the host",
        words(limit.hard)
    ))
}

fn words(limit: u64) -> String {
    if limit == u64::MAX { "no limit".into() } else { limit.to_string() }
}

/// Below zero, and below what the invoker has, which it may have been given by somebody with the right.
fn wrong_score(start: &Start, score: i32) -> Option<String> {
    let denied = score < 0 && score < start.start.oom_score && !start.host_may(CAP_SYS_RESOURCE);
    denied.then(|| {
        format!("a score of {score}, below your own of {}, needs CAP_SYS_RESOURCE on the host", start.start.oom_score)
    })
}

fn wrong_scheduler(start: &Start, scheduler: &Scheduler) -> Option<String> {
    let name = policy_name(scheduler.policy);
    let may = start.first_process_may(CAP_SYS_NICE);
    let soft = |resource: usize| start.start.rlimits.get(resource).map_or(u64::MAX, |(soft, _)| *soft);
    match scheduler.policy {
        SCHED_FIFO | SCHED_RR => {
            if scheduler.priority == 0 {
                return Some(format!("{name} needs a priority from 1 to 99"));
            }
            if !may && u64::from(scheduler.priority) > soft(RLIMIT_RTPRIO) {
                return Some(format!("{name} needs CAP_SYS_NICE on the host, or a limit RLIMIT_RTPRIO of as much"));
            }
            if start.start.real_time_groups && !has_real_time(start.plan) {
                let place = "/linux/resources/cpu/realtimeRuntime";
                return Some(format!("{name} needs time of the cgroup's for it, and this one has none: set {place}"));
            }
            None
        }
        SCHED_DEADLINE if !may => Some(format!("{name} needs CAP_SYS_NICE on the host")),
        SCHED_DEADLINE => wrong_deadline(scheduler),
        // The kernel asks nobody for its right to that, whatever the nice value.
        SCHED_IDLE => None,
        _ => {
            let least = 20 - soft(RLIMIT_NICE).min(40) as i32;
            let (wanted, own) = (scheduler.nice, start.start.nice);
            let denied = wanted < own && wanted < least && !may;
            denied.then(|| format!("a nice value of {wanted}, below your own of {own}, needs CAP_SYS_NICE on the host"))
        }
    }
}

/// Whether the container's cgroup is given time for real-time processes, or has no such file.
fn has_real_time(plan: &Plan) -> bool {
    let mut has_cgroup = false;
    for step in &plan.host {
        match &step.op {
            HostOp::OpenCgroup { hierarchy, .. } => {
                has_cgroup |= hierarchy.as_str().split(',').any(|name| name == "cpu")
            }
            HostOp::SetCgroup { choices, .. } => {
                let is_time = |setting: &CgroupSetting| {
                    let gives = setting.values.iter().any(|value| value.as_str() != "0");
                    setting.file.as_str() == "cpu.rt_runtime_us" && gives
                };
                if choices.iter().any(is_time) {
                    return true;
                }
            }
            _ => {}
        }
    }
    !has_cgroup
}

/// __checkparam_dl() of the kernel.
fn wrong_deadline(scheduler: &Scheduler) -> Option<String> {
    /// 1 << DL_SCALE, in nanoseconds.
    const LEAST: u64 = 1024;
    let Scheduler { runtime, deadline, period, .. } = *scheduler;
    let fits = deadline != 0 && runtime >= LEAST && runtime <= deadline && (period == 0 || deadline <= period);
    (!fits).then(|| {
        format!("SCHED_DEADLINE needs {LEAST} ns ≤ runtime ≤ deadline ≤ period, not {runtime}, {deadline}, {period}")
    })
}

/// ioprio_check_cap() of the kernel.
fn wrong_io_priority(start: &Start, value: u16) -> Option<String> {
    const CLASS_RT: u16 = 1;
    let may = start.first_process_may(CAP_SYS_NICE) || start.first_process_may(CAP_SYS_ADMIN);
    (value >> 13 == CLASS_RT && !may).then(|| "IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN on the host".into())
}

/// set_mempolicy(2).
fn wrong_memory_policy(start: &Start, policy: &MemoryPolicy) -> Option<String> {
    const FLAGS: u32 = 0xe000;
    let named = (0..policy.nodes.len() * 64).any(|node| is_in(&policy.nodes, node));
    match policy.mode & !FLAGS {
        // MPOL_DEFAULT, MPOL_LOCAL
        0 | 4 if named => return Some("this policy has no nodes of its own: leave them out".into()),
        // MPOL_PREFERRED means the local node then.
        0 | 1 | 4 if !named => return None,
        _ if !named => return Some("this policy needs nodes".into()),
        _ => {}
    }
    let known = &start.start.online_nodes;
    let missing = beyond(&policy.nodes, known);
    let all = (0..policy.nodes.len() * 64).filter(|node| is_in(&policy.nodes, *node)).count();
    // Of those that are there, the kernel takes what is left.
    (!known.is_empty() && missing.len() == all).then(|| format!("this machine has no memory node {}", some(&missing)))
}

/// sched_setaffinity(2): of CPUs that are not there, the others are taken.
fn wrong_affinity(start: &Start, mask: &[u64]) -> Option<String> {
    let known = &start.start.online_cpus;
    let all: Vec<usize> = (0..mask.len() * 64).filter(|cpu| is_in(mask, *cpu)).collect();
    let missing = beyond(mask, known);
    let none = !known.is_empty() && !all.is_empty() && missing.len() == all.len();
    none.then(|| format!("this machine has no CPU {}", some(&missing)))
}
