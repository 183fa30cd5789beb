//! A plan as a story: what it amounts to; then who does what, with which right, from which line of config.json.
use rspawn_proto::plan::*;
use rspawn_proto::report::{FinishStep, Place};

use super::colours::{Colours, Tone};
use super::exposure::{self, POWERFUL};
use super::verdict::Verdict;
use super::{Line, lines, summary};
use crate::describe;
use rspawn_planner::Planned;
use rspawn_planner::origin::finish_origin;
use rspawn_planner::tables::{policy_name, rlimit_name};

/// Widest column with the origins. It stands first, since what follows it may be long.
const WIDEST: usize = 44;

/// With a policy, what it says stands beside each step.
pub fn text(planned: &Planned, verdict: Option<&Verdict>, colours: Colours) -> String {
    let plan = &planned.plan;
    let all = lines(plan);
    let mut page = Page { colours, width: 0, verdict, out: summary::summary(planned, verdict, colours) };
    let of = |wanted: &str| -> Vec<Row> {
        let lines = all.iter().filter(|line| describe::phase(line.place) == wanted);
        lines.map(|line| Row::of_step(plan, line)).collect()
    };
    let own = |pointer: &str| planned.origins.of(pointer).to_string();
    let finish = finish_lines(&plan.finish).into_iter().map(|line| Row {
        tone: line.tone,
        origin: own(&line.pointer),
        text: line.text,
    });
    let notes = planned.notes.iter().map(|note| Row {
        tone: Tone::Notable,
        origin: note.pointer.clone(),
        text: note.message.clone(),
    });
    let sections: [(&str, &str, Vec<Row>); 6] = [
        ("host", "rspawn-setup, with the invoker's rights in the host's namespaces", of("host")),
        ("spawn", "rspawn-setup makes the container's first process", spawn(&plan.spawn, own)),
        ("attach", "rspawn-setup, while that process waits", of("attach")),
        ("rootfs", "the worker, inside the container's namespaces, under a seccomp filter", of("rootfs")),
        ("finish", "rspawn-init, on its way to the payload's rights", finish.collect()),
        ("notes", "what the plan leaves out, and why", notes.collect()),
    ];
    let origins = sections.iter().flat_map(|(_, _, rows)| rows).map(|row| row.origin.chars().count());
    page.width = origins.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    for (name, who, rows) in sections.into_iter().filter(|(_, _, rows)| !rows.is_empty()) {
        page.section(name, who, &rows);
    }
    page.out
}

struct Row {
    tone: Tone,
    origin: String,
    text: String,
}

impl Row {
    fn of_step(plan: &Plan, line: &Line) -> Self {
        Self { tone: tone(plan, line.place), origin: line.origin.clone(), text: line.action.clone() }
    }
}

struct Page<'a> {
    colours: Colours,
    verdict: Option<&'a Verdict>,
    width: usize,
    out: String,
}

impl Page<'_> {
    fn section(&mut self, name: &str, who: &str, rows: &[Row]) {
        let heading = self.colours.paint(Tone::Heading, &format!("{name}:"));
        self.out.push_str(&format!("\n{heading} {who}\n"));
        for row in rows {
            let padding = " ".repeat(self.width.saturating_sub(row.origin.chars().count()));
            let origin = self.colours.paint(Tone::Faint, &row.origin);
            let refused = self.verdict.is_some_and(|verdict| !verdict.is_granted(&row.origin));
            let verdict = self.verdict.filter(|_| name != "notes").map(|verdict| verdict.word(&row.origin));
            let words = verdict.into_iter().chain([row.text.clone()]).collect::<Vec<_>>().join(": ");
            let text = self.colours.paint(if refused { Tone::Alarming } else { row.tone }, &words);
            self.out.push_str(&format!("  {origin}{padding}  {text}\n"));
        }
    }
}

/// How much a step deserves to be seen.
fn tone(plan: &Plan, place: Place) -> Tone {
    let step = match place {
        Place::Host(index) => plan.host.get(index as usize).map(|step| &step.op),
        Place::Attach(_) => return Tone::Notable,
        Place::Rootfs(index) => {
            return match plan.rootfs.get(index as usize) {
                // A node beside the usual ones.
                Some(step) if step.origin.starts_with('/') && matches!(step.op, RootfsOp::MakeNode { .. }) => {
                    Tone::Notable
                }
                _ => Tone::Plain,
            };
        }
        _ => None,
    };
    match step {
        Some(HostOp::CloneTree { expect: Expect::NullDevice, .. }) => Tone::Plain,
        Some(HostOp::CloneTree { out, attrs, .. }) if attrs.set & attr::RDONLY == 0 => {
            let is_root = exposure::root(plan).is_some_and(|(mount, _)| mount == *out);
            if is_root { Tone::Plain } else { Tone::Notable }
        }
        Some(HostOp::OpenNamespace { .. } | HostOp::OpenPath { .. }) => Tone::Notable,
        _ => Tone::Plain,
    }
}

fn spawn(spawn: &Spawn, own: impl Fn(&str) -> String) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |tone, origin: String, text: String| rows.push(Row { tone, origin, text });
    for step in &spawn.join {
        row(Tone::Notable, step.origin.clone(), format!("join the {} namespace", step.op.kind.name()));
    }
    let names: Vec<&str> = spawn.new.iter().map(|kind| kind.name()).collect();
    row(Tone::Plain, own("/linux/namespaces"), format!("new namespaces: {}", names.join(" ")));
    for (name, map, origin) in
        [("uids", &spawn.uid_map, "/linux/uidMappings"), ("gids", &spawn.gid_map, "/linux/gidMappings")]
    {
        if !map.is_empty() {
            row(Tone::Plain, own(origin), format!("map {name}: {}", describe::id_map(map)));
        }
    }
    for offset in &spawn.time_offsets {
        let clock = if offset.clock == Clock::Monotonic { "monotonic" } else { "boottime" };
        let text = format!("shift the {clock} clock by {} s {} ns", offset.seconds, offset.nanoseconds);
        row(Tone::Plain, own("/linux/timeOffsets"), text);
    }
    if let Some(score) = spawn.oom_score_adj {
        row(Tone::Plain, own("/process/oomScoreAdj"), format!("OOM score {score}"));
    }
    rows
}

/// A step of the last mile in words.
pub struct FinishLine {
    pub pointer: String,
    pub text: String,
    pub tone: Tone,
}

/// A mask of CPUs, 64 a word, as people write it.
fn cpu_list(mask: &[u64]) -> String {
    let cpus = (0..mask.len() * 64).filter(|cpu| mask[cpu / 64] & 1 << (cpu % 64) != 0);
    cpus.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}

/// Who PID 1 is, and why.
pub fn first_process(finish: &Finish) -> String {
    let who = match finish.init {
        InitMode::Supervise => "rspawn-init stays PID 1 beside the payload",
        InitMode::Exec => "rspawn-init becomes the payload",
    };
    format!("{who} ({})", finish.init_reason)
}

/// The last mile in words, in its order.
pub fn finish_lines(finish: &Finish) -> Vec<FinishLine> {
    let mut lines = Lines::default();
    lines.add(FinishStep::Session, first_process(finish));
    let streams = if finish.terminal { "the console" } else { "the invoker's own" };
    lines.add(FinishStep::Stdio, format!("stdin, stdout, stderr: {streams}"));
    lines.process_attributes(finish);
    if let Some(umask) = finish.umask {
        lines.add(FinishStep::Umask, format!("umask {umask:04o}"));
    }
    lines.add(FinishStep::Cwd, format!("working directory {}", finish.cwd));
    lines.credentials(finish);
    let variables: Vec<&str> = finish.env.iter().filter_map(|entry| entry.as_str().split('=').next()).collect();
    lines.at("/process/env".into(), format!("environment: {}", variables.join(" ")), Tone::Plain);
    lines.filter(finish);
    lines.add(FinishStep::Exec, format!("execute {}", summary::command(finish)));
    lines.0
}

#[derive(Default)]
struct Lines(Vec<FinishLine>);

impl Lines {
    /// Limits, scheduling, keyring and label.
    fn process_attributes(&mut self, finish: &Finish) {
        for (index, limit) in finish.rlimits.iter().enumerate() {
            let text =
                format!("{}: soft {}, hard {}", rlimit_name(limit.resource), amount(limit.soft), amount(limit.hard));
            self.at(format!("/process/rlimits/{index}"), text, Tone::Plain);
        }
        if let Some(scheduler) = &finish.scheduler {
            let policy = policy_name(scheduler.policy);
            self.add(
                FinishStep::Scheduler,
                format!("{policy}, nice {}, priority {}", scheduler.nice, scheduler.priority),
            );
        }
        if let Some(priority) = finish.io_priority {
            self.add(FinishStep::IoPriority, format!("I/O priority class {}, level {}", priority >> 13, priority & 7));
        }
        if let Some(policy) = &finish.memory_policy {
            self.add(FinishStep::MemoryPolicy, format!("memory policy {:#x}", policy.mode));
        }
        if !finish.affinity.is_empty() {
            self.add(FinishStep::Affinity, format!("on the CPUs {}", cpu_list(&finish.affinity)));
        }
        if let Some(personality) = finish.personality {
            self.add(FinishStep::Personality, format!("personality {personality:#x}"));
        }
        if let Some(name) = &finish.keyring {
            self.add(FinishStep::Keyring, format!("new session keyring {name}"));
        }
        match &finish.label {
            Some(Label::AppArmor(profile)) => {
                self.add(FinishStep::AppArmorProfile, format!("AppArmor profile {profile}"))
            }
            Some(Label::SeLinux(label)) => self.add(FinishStep::SelinuxLabel, format!("SELinux label {label}")),
            None => {}
        }
    }

    /// Groups, ids and capabilities.
    fn credentials(&mut self, finish: &Finish) {
        let groups = match finish.groups.as_deref() {
            None => "the caller's".into(),
            Some([]) => "none".into(),
            Some(groups) => groups.iter().map(|id| id.raw().to_string()).collect::<Vec<_>>().join(" "),
        };
        self.add(FinishStep::Groups, format!("supplementary groups: {groups}"));
        self.add(FinishStep::Gid, format!("gid {}", finish.gid.raw()));
        self.set(FinishStep::BoundingSet, "capability bounding set", finish.capabilities.bounding);
        self.add(FinishStep::Uid, format!("uid {}", finish.uid.raw()));
        let caps = &finish.capabilities;
        for (name, bits) in [
            ("capabilities permitted", caps.permitted),
            ("capabilities effective", caps.effective),
            ("capabilities inheritable", caps.inheritable),
            ("capabilities ambient", caps.ambient),
        ] {
            self.set(FinishStep::Capabilities, name, bits);
        }
        if finish.no_new_privileges {
            self.add(FinishStep::NoNewPrivileges, "no new privileges by exec".into());
        } else {
            let pointer = finish_origin(FinishStep::NoNewPrivileges).to_string();
            self.at(pointer, "new privileges by exec are possible".into(), Tone::Notable);
        }
    }

    fn add(&mut self, step: FinishStep, text: String) {
        self.at(finish_origin(step).to_string(), text, Tone::Plain);
    }

    fn at(&mut self, pointer: String, text: String, tone: Tone) {
        self.0.push(FinishLine { pointer, text, tone });
    }

    fn set(&mut self, step: FinishStep, what: &str, bits: u64) {
        let names = describe::capabilities(bits);
        let powerful = names.iter().any(|name| POWERFUL.contains(&name.as_str()));
        let list: Vec<&str> = names.iter().map(|name| name.trim_start_matches("CAP_")).collect();
        let list = if list.is_empty() { "none".into() } else { list.join(" ") };
        let tone = if powerful { Tone::Alarming } else { Tone::Plain };
        self.at(finish_origin(step).to_string(), format!("{what}: {list}"), tone);
    }

    fn filter(&mut self, finish: &Finish) {
        let (text, tone) = match &finish.seccomp {
            Some(filter) => {
                let asks = if filter.listener.is_some() { ", which asks an agent" } else { "" };
                (format!("seccomp filter of {} instructions{asks}", filter.program.len()), Tone::Plain)
            }
            None => ("no seccomp filter".into(), Tone::Alarming),
        };
        self.at(finish_origin(FinishStep::Seccomp).to_string(), text, tone);
    }
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}
