//! A plan as a story: who does what, with which right, from which line of config.json.
use std::fmt::Write;

use rspawn_proto::plan::*;
use rspawn_proto::report::FinishStep;

use super::{Line, lines};
use crate::describe;
use crate::plan::{Planned, policy_name, rlimit_name};

/// Width of the column with the origin. It stands first, since what follows it may be long.
const WIDTH: usize = 34;

pub fn text(planned: &Planned) -> String {
    let plan = &planned.plan;
    let mut out = String::new();
    let all = lines(plan);
    let of = |wanted: &str| -> Vec<&Line> { all.iter().filter(|line| describe::phase(line.place) == wanted).collect() };
    heading(&mut out, "host", "rspawn-setup, with the invoker's rights in the host's namespaces");
    steps(&mut out, &of("host"));
    heading(&mut out, "spawn", "rspawn-setup makes the container's first process");
    spawn(&mut out, &plan.spawn);
    let attach = of("attach");
    if !attach.is_empty() {
        heading(&mut out, "attach", "rspawn-setup, while that process waits");
        steps(&mut out, &attach);
    }
    heading(&mut out, "rootfs", "the worker, inside the container's namespaces, under a seccomp filter");
    steps(&mut out, &of("rootfs"));
    heading(&mut out, "finish", "rspawn-init, on its way to the payload's rights");
    finish(&mut out, &plan.finish);
    if !planned.notes.is_empty() {
        heading(&mut out, "notes", "what the plan leaves out, and why");
        for note in &planned.notes {
            line(&mut out, &note.message, &note.pointer);
        }
    }
    out
}

fn heading(out: &mut String, name: &str, who: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{name}: {who}");
}

fn line(out: &mut String, action: &str, origin: &str) {
    let _ = writeln!(out, "  {origin:<WIDTH$}  {action}");
}

fn steps(out: &mut String, steps: &[&Line]) {
    for step in steps {
        line(out, &step.action, &step.origin);
    }
}

fn spawn(out: &mut String, spawn: &Spawn) {
    for step in &spawn.join {
        line(out, &format!("join the {} namespace", step.op.kind.name()), &step.origin);
    }
    let names: Vec<&str> = spawn.new.iter().map(|kind| kind.name()).collect();
    line(out, &format!("new namespaces: {}", names.join(" ")), "/linux/namespaces");
    for (name, map, origin) in
        [("uids", &spawn.uid_map, "/linux/uidMappings"), ("gids", &spawn.gid_map, "/linux/gidMappings")]
    {
        if !map.is_empty() {
            line(out, &format!("map {name}: {}", describe::id_map(map)), origin);
        }
    }
    for offset in &spawn.time_offsets {
        let clock = if offset.clock == Clock::Monotonic { "monotonic" } else { "boottime" };
        let text = format!("shift the {clock} clock by {} s {} ns", offset.seconds, offset.nanoseconds);
        line(out, &text, "/linux/timeOffsets");
    }
    if let Some(score) = spawn.oom_score_adj {
        line(out, &format!("OOM score {score}"), "/process/oomScoreAdj");
    }
}

fn finish(out: &mut String, finish: &Finish) {
    for (step, text) in finish_lines(finish) {
        line(out, &text, describe::finish_origin(step));
    }
}

/// The last mile in words, in its order.
pub fn finish_lines(finish: &Finish) -> Vec<(FinishStep, String)> {
    let mut lines = Vec::new();
    let mut add = |step, text: String| lines.push((step, text));
    let who = match finish.init {
        InitMode::Supervise => "rspawn-init stays PID 1 beside the payload",
        InitMode::Exec => "rspawn-init becomes the payload",
    };
    add(FinishStep::Session, format!("{who} ({})", finish.init_reason));
    let streams = if finish.terminal { "the console" } else { "the invoker's own" };
    add(FinishStep::Stdio, format!("stdin, stdout, stderr: {streams}"));
    for limit in &finish.rlimits {
        add(
            FinishStep::Rlimits,
            format!("{}: soft {}, hard {}", rlimit_name(limit.resource), amount(limit.soft), amount(limit.hard)),
        );
    }
    if let Some(scheduler) = &finish.scheduler {
        add(
            FinishStep::Scheduler,
            format!("{}, nice {}, priority {}", policy_name(scheduler.policy), scheduler.nice, scheduler.priority),
        );
    }
    if let Some(priority) = finish.io_priority {
        add(FinishStep::IoPriority, format!("I/O priority class {}, level {}", priority >> 13, priority & 7));
    }
    if let Some(policy) = &finish.memory_policy {
        add(FinishStep::MemoryPolicy, format!("memory policy {:#x}", policy.mode));
    }
    if let Some(personality) = finish.personality {
        add(FinishStep::Personality, format!("personality {personality:#x}"));
    }
    if let Some(name) = &finish.keyring {
        add(FinishStep::Keyring, format!("new session keyring {name}"));
    }
    match &finish.label {
        Some(Label::AppArmor(profile)) => add(FinishStep::Label, format!("AppArmor profile {profile}")),
        Some(Label::SeLinux(label)) => add(FinishStep::Label, format!("SELinux label {label}")),
        None => {}
    }
    if let Some(umask) = finish.umask {
        add(FinishStep::Umask, format!("umask {umask:04o}"));
    }
    add(FinishStep::Cwd, format!("working directory {}", finish.cwd));
    let groups = match finish.groups.as_deref() {
        None => "the caller's".into(),
        Some([]) => "none".into(),
        Some(groups) => groups.iter().map(|id| id.raw().to_string()).collect::<Vec<_>>().join(" "),
    };
    add(FinishStep::Groups, format!("supplementary groups: {groups}"));
    add(FinishStep::Gid, format!("gid {}", finish.gid.raw()));
    add(FinishStep::BoundingSet, format!("capability bounding set: {}", set(finish.capabilities.bounding)));
    if !finish.no_new_privileges {
        add_filter(&mut add, finish);
    }
    add(FinishStep::Uid, format!("uid {}", finish.uid.raw()));
    let caps = &finish.capabilities;
    for (name, bits) in [
        ("permitted", caps.permitted),
        ("effective", caps.effective),
        ("inheritable", caps.inheritable),
        ("ambient", caps.ambient),
    ] {
        add(FinishStep::Capabilities, format!("capabilities {name}: {}", set(bits)));
    }
    if finish.no_new_privileges {
        add(FinishStep::NoNewPrivileges, "no new privileges by exec".into());
        add_filter(&mut add, finish);
    }
    let argv: Vec<&str> = finish.argv.iter().map(|word| word.as_str()).collect();
    add(FinishStep::Exec, format!("execute {argv:?} with {} environment entries", finish.env.len()));
    lines
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

fn add_filter(add: &mut impl FnMut(FinishStep, String), finish: &Finish) {
    add(
        FinishStep::Seccomp,
        match &finish.seccomp {
            Some(filter) => format!("seccomp filter of {} instructions", filter.program.len()),
            None => "no seccomp filter".into(),
        },
    );
}

fn set(bits: u64) -> String {
    let names = describe::capabilities(bits);
    if names.is_empty() {
        "none".into()
    } else {
        names.iter().map(|n| n.trim_start_matches("CAP_")).collect::<Vec<_>>().join(" ")
    }
}
