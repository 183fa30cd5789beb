//! What one plan may do that another may not, in words.
use std::collections::BTreeSet;

use rspawn_proto::plan::*;
use serde_json::{Value, json};

use super::colours::{Colours, Tone};
use super::diff_inside::inside;
use super::exposure::{self, Access, POWERFUL};
use super::lines;
use super::sentences::{Change, Sentence, both_ways};
use super::subject::{Subject, subject_of_pointer, subject_of_step};
use super::summary::command;
use crate::describe;
use rspawn_planner::overrides::syscall_sets::SETS;

/// Sentences about rights first, what is gained before what is lost; then every step that only one of the two has.
pub fn diff(before: &Plan, after: &Plan, colours: Colours) -> String {
    let sentences = sentences(before, after);
    if sentences.is_empty() {
        return "the two plans do the same\n".into();
    }
    let mut out = String::new();
    for (change, text) in sentences {
        let tone = match change {
            Change::More if POWERFUL.iter().any(|name| text.contains(name)) => Tone::Alarming,
            Change::More => Tone::Notable,
            Change::Less => Tone::Reassuring,
            Change::Other => Tone::Plain,
        };
        out.push_str(&colours.paint(tone, &text));
        out.push('\n');
    }
    out
}

pub fn json(before: &Plan, after: &Plan) -> Value {
    let sentences = sentences(before, after);
    let of = |wanted: Change| -> Vec<&String> {
        sentences.iter().filter(|(change, _)| *change == wanted).map(|(_, text)| text).collect()
    };
    json!({"more": of(Change::More), "less": of(Change::Less), "other": of(Change::Other)})
}

/// Every difference, sorted: what is gained first.
pub fn sentences(before: &Plan, after: &Plan) -> Vec<Sentence> {
    let mut out = Vec::new();
    let mut said = Vec::new();
    let subjects: [(Subject, Speaker); 8] = [
        (Subject::Capabilities, capabilities),
        (Subject::Identity, identity),
        (Subject::Confinement, confinement),
        (Subject::Namespaces, namespaces),
        (Subject::HostPaths, host_paths),
        (Subject::Inside, inside),
        (Subject::Payload, payload),
        (Subject::Hooks, hooks),
    ];
    for (subject, speak) in subjects {
        let length = out.len();
        speak(&mut out, before, after);
        if out.len() > length {
            said.push(subject);
        }
    }
    out.sort_by_key(|(change, _)| *change);
    steps(&mut out, before, after, &said);
    out
}

/// Adds its sentences about two plans.
type Speaker = fn(&mut Vec<Sentence>, &Plan, &Plan);

fn capabilities(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let (old, new) = (exposure::capabilities(&before.finish), exposure::capabilities(&after.finish));
    let named = |bits| describe::capabilities(bits).join(" ");
    if new & !old != 0 {
        out.push((Change::More, format!("gains {}", named(new & !old))));
    }
    if old & !new != 0 {
        out.push((Change::Less, format!("loses {}", named(old & !new))));
    }
}

fn identity(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let name = |uid: u32| if uid == 0 { "root (uid 0)".to_string() } else { format!("uid {uid}") };
    let (old, new) = (before.finish.uid.raw(), after.finish.uid.raw());
    if old != new {
        let change = match (old, new) {
            (_, 0) => Change::More,
            (0, _) => Change::Less,
            _ => Change::Other,
        };
        out.push((change, format!("runs as {} instead of {}", name(new), name(old))));
    }
    let groups = |plan: &Plan| -> BTreeSet<u32> {
        plan.finish.groups.iter().flatten().chain([&plan.finish.gid]).map(|id| id.raw()).collect()
    };
    both_ways(
        out,
        &groups(before),
        &groups(after),
        |gid| format!("is in group {gid}"),
        |gid| format!("is no longer in group {gid}"),
    );
    if before.spawn.uid_map != after.spawn.uid_map {
        let map = |plan: &Plan| match plan.spawn.uid_map.as_slice() {
            [] => "are the host's own".to_string(),
            map => format!("are {}", describe::id_map(map)),
        };
        out.push((
            Change::Other,
            format!("its user ids {}; before, they {}", map(after), map(before).replacen("are", "were", 1)),
        ));
    }
}

fn confinement(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let (old, new) = (&before.finish, &after.finish);
    match (old.no_new_privileges, new.no_new_privileges) {
        (true, false) => out.push((Change::More, "may gain privileges by exec".into())),
        (false, true) => out.push((Change::Less, "can no longer gain privileges by exec".into())),
        _ => {}
    }
    if old.label != new.label {
        out.push((Change::Other, "has another security label".into()));
    }
    match (&old.seccomp, &new.seccomp) {
        (Some(_), None) => out.push((Change::More, "is no longer under a seccomp filter".into())),
        (None, Some(_)) => out.push((Change::Less, "is now under a seccomp filter".into())),
        _ => {}
    }
    let empty = |finish: &Finish| finish.seccomp.as_ref().is_some_and(exposure::is_empty_filter);
    if empty(new) && !empty(old) {
        out.push((Change::More, "has a seccomp filter that allows everything".into()));
    }
    out.extend(exposure::change_of_agent(before, after).map(|words| (Change::Other, words.into())));
    if old.seccomp != new.seccomp {
        calls(out, old, new);
    }
}

/// The calls by which two filters differ.
fn calls(out: &mut Vec<Sentence>, old: &Finish, new: &Finish) {
    let permitted = |finish: &Finish| exposure::permitted_calls(finish.seccomp.as_ref(), exposure::native());
    let (before, after) = (permitted(old), permitted(new));
    let named = |mut calls: Vec<&&str>| {
        const SHOWN: usize = 12;
        calls.sort_by_key(|name| (weight(name), **name));
        let more = calls.len().saturating_sub(SHOWN);
        let names: Vec<&str> = calls.into_iter().take(SHOWN).copied().collect();
        if more == 0 { names.join(" ") } else { format!("{} and {more} more", names.join(" ")) }
    };
    let (gained, lost): (Vec<_>, Vec<_>) = (after.difference(&before).collect(), before.difference(&after).collect());
    if gained.is_empty() && lost.is_empty() && old.seccomp.is_some() == new.seccomp.is_some() {
        out.push((Change::Other, "has another seccomp filter".into()));
    }
    if !gained.is_empty() {
        out.push((Change::More, format!("may call {}", named(gained))));
    }
    if !lost.is_empty() {
        out.push((Change::Less, format!("may no longer call {}", named(lost))));
    }
}

/// The place of a call among many: those that change the machine first, those that do nothing any more last.
fn weight(call: &str) -> usize {
    const HEAVY: [&str; 9] =
        ["@module", "@raw-io", "@reboot", "@swap", "@mount", "@clock", "@debug", "@keyring", "@privileged"];
    let has = |set: &str| SETS.iter().any(|(name, members)| *name == set && members.split(' ').any(|m| m == call));
    let light = if has("@obsolete") { HEAVY.len() + 1 } else { HEAVY.len() };
    HEAVY.iter().position(|set| has(set)).unwrap_or(light)
}

fn namespaces(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let shared = |plan: &Plan| -> BTreeSet<&'static str> {
        exposure::shared_namespaces(plan).into_iter().map(|kind| kind.name()).collect()
    };
    let joined = exposure::joined_namespaces(before);
    for (kind, file) in exposure::joined_namespaces(after) {
        if !joined.contains(&(kind, file.clone())) {
            out.push((Change::Other, format!("joins the {kind} namespace {file}")));
        }
    }
    both_ways(
        out,
        &shared(before),
        &shared(after),
        |kind| format!("shares the host's {kind} namespace"),
        |kind| format!("no longer shares the host's {kind} namespace"),
    );
    let devices = |plan: &Plan| -> BTreeSet<String> {
        plan.attach
            .iter()
            .map(|step| match &step.op {
                AttachOp::MoveNetDevice { name, .. } => name.to_string(),
            })
            .collect()
    };
    both_ways(
        out,
        &devices(before),
        &devices(after),
        |name| format!("takes the host's network device {name}"),
        |name| format!("no longer takes the host's network device {name}"),
    );
}

fn host_paths(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let how = |access: &Access| if access.writable { "writable" } else { "read-only" };
    let places = |access: &Access| access.at.iter().cloned().collect::<Vec<_>>().join(" ");
    let (old, new) = (exposure::host_paths(before), exposure::host_paths(after));
    let gone: Vec<_> = old.iter().filter(|(path, _)| !new.contains_key(*path)).collect();
    let mut replaced = BTreeSet::new();
    for (path, access) in &new {
        match old.get(path) {
            None => {
                let same_place = |(_, was): &&(&String, &Access)| !was.at.is_empty() && was.at == access.at;
                let instead = match gone.iter().find(same_place) {
                    Some((was, _)) => {
                        replaced.insert(was.as_str());
                        format!(", at {} instead of {was}", places(access))
                    }
                    None => String::new(),
                };
                out.push((Change::More, format!("host path {path} becomes visible, {}{instead}", how(access))));
            }
            Some(was) if !was.writable && access.writable => {
                out.push((Change::More, format!("host path {path} becomes writable")));
            }
            Some(was) if was.writable && !access.writable => {
                out.push((Change::Less, format!("host path {path} becomes read-only")));
            }
            Some(was) if was.at != access.at => {
                let text = format!("host path {path} is at {} instead of {}", places(access), places(was));
                out.push((Change::Other, text));
            }
            Some(_) => {}
        }
    }
    for (path, access) in gone.into_iter().filter(|(path, _)| !replaced.contains(path.as_str())) {
        out.push((Change::Less, format!("host path {path} is no longer visible, {}", how(access))));
    }
}

/// Programs that the runtime runs for the container.
fn hooks(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let hooks = |plan: &Plan| -> BTreeSet<String> {
        exposure::hooks(plan).into_iter().map(|(when, command)| format!("the {when} hook {command}")).collect()
    };
    both_ways(out, &hooks(before), &hooks(after), |hook| format!("has {hook}"), |hook| format!("no longer has {hook}"));
}

fn payload(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let (old, new) = (&before.finish, &after.finish);
    if old.argv != new.argv {
        out.push((Change::Other, format!("runs {} instead of {}", command(new), command(old))));
    }
    if old.cwd != new.cwd {
        out.push((Change::Other, format!("starts in {} instead of {}", new.cwd, old.cwd)));
    }
    // Values may be secrets.
    let variables = |finish: &Finish| -> Vec<(String, String)> {
        let split = |entry: &rspawn_proto::ids::Text| entry.as_str().split_once('=').map(|(a, b)| (a.into(), b.into()));
        finish.env.iter().filter_map(split).collect()
    };
    let (before, after) = (variables(old), variables(new));
    for (name, value) in &after {
        match before.iter().find(|(known, _)| known == name) {
            None => out.push((Change::Other, format!("has the variable {name}"))),
            Some((_, was)) if was != value => {
                out.push((Change::Other, format!("has another value of the variable {name}")))
            }
            Some(_) => {}
        }
    }
    for (name, _) in before.iter().filter(|(name, _)| !after.iter().any(|(known, _)| known == name)) {
        out.push((Change::Other, format!("no longer has the variable {name}")));
    }
    if old.init != new.init {
        let text = match new.init {
            InitMode::Supervise => "has rspawn-init for PID 1, with the payload beside it",
            InitMode::Exec => "is PID 1 itself",
        };
        out.push((Change::Other, format!("{text} ({})", new.init_reason)));
    }
}

/// Steps that only one of the two takes, `+` and `-`, but what the sentences have said already.
fn steps(out: &mut Vec<Sentence>, before: &Plan, after: &Plan, said: &[Subject]) {
    let known = (exposure::host_paths(before), exposure::host_paths(after));
    let in_both = |path: &str| known.0.contains_key(path) && known.1.contains_key(path);
    let facts = |plan: &Plan| -> Vec<String> {
        let steps = lines(plan).into_iter().filter(|line| {
            let repeats = |subject: Option<Subject>| subject.is_some_and(|subject| said.contains(&subject));
            !repeats(subject_of_step(plan, line.place, &in_both))
        });
        let last = super::text::finish_lines(&plan.finish).into_iter();
        let last = last.filter(|line| !subject_of_pointer(&line.pointer).is_some_and(|s| said.contains(&s)));
        steps.map(|line| line.action).chain(last.map(|line| line.text)).collect()
    };
    let (old, new) = (facts(before), facts(after));
    let only = |of: &[String], other: &[String], sign: char| -> Vec<Sentence> {
        let other: BTreeSet<&String> = other.iter().collect();
        let mut seen = BTreeSet::new();
        of.iter()
            .filter(|step| !other.contains(step) && seen.insert(*step))
            .map(|step| (Change::Other, format!("{sign} {step}")))
            .collect()
    };
    out.extend(only(&new, &old, '+'));
    out.extend(only(&old, &new, '-'));
}
