//! The first lines of a plan: who it runs as, and what of the host it reaches.
use rspawn_proto::plan::*;

use super::colours::{Colours, Tone};
use super::exposure::{self, POWERFUL};
use super::quoting::quoted;
use super::verdict::Verdict;
use crate::describe;
use rspawn_planner::Planned;

/// Width of the column with the labels.
const WIDTH: usize = 14;

pub fn summary(planned: &Planned, verdict: Option<&Verdict>, colours: Colours) -> String {
    let plan = &planned.plan;
    let finish = &plan.finish;
    let mut out = String::new();
    let mut line = |label: &str, parts: Vec<String>| {
        for (index, part) in parts.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            out.push_str(&format!("{}{part}\n", colours.paint(Tone::Heading, &format!("{label:<WIDTH$}"))));
        }
    };
    line("policy", verdict.map_or(Vec::new(), |verdict| verdict.head(colours)));
    line("runs", vec![colours.paint(Tone::Plain, &command(finish))]);
    line("as", vec![identity(plan, colours)]);
    line("capabilities", vec![capabilities(finish, colours)]);
    line("confined by", vec![confinement(finish, colours)]);
    let shared: Vec<&str> = exposure::shared_namespaces(plan).into_iter().map(|kind| kind.name()).collect();
    line(
        "shares",
        vec![match shared.as_slice() {
            [] => "no namespace with the host".into(),
            // Nearly every bundle shares these two.
            kinds if kinds.iter().all(|kind| matches!(*kind, "user" | "time")) => {
                format!("the host's namespaces {}", kinds.join(" "))
            }
            kinds => colours.paint(Tone::Alarming, &format!("the host's namespaces {}", kinds.join(" "))),
        }],
    );
    let joins = exposure::joined_namespaces(plan).into_iter();
    line(
        "joins",
        joins.map(|(kind, path)| colours.paint(Tone::Notable, &format!("the {kind} namespace {path}"))).collect(),
    );
    let mut paths: Vec<_> = exposure::host_paths(plan).into_iter().collect();
    paths.sort_by(|(a, x), (b, y)| (&x.at, a).cmp(&(&y.at, b)));
    let paths = paths.into_iter().map(|(path, access)| {
        let at: Vec<&str> = access.at.iter().map(String::as_str).collect();
        let place = match at.as_slice() {
            [] => path.clone(),
            [same] if *same == path => path.clone(),
            at => format!("{} from {path}", at.join(" ")),
        };
        let how = if access.writable { "writable" } else { "read-only" };
        let tone = if access.writable && !access.at.contains("/") { Tone::Notable } else { Tone::Plain };
        colours.paint(tone, &format!("{place}, {how}"))
    });
    line("host paths", paths.collect());
    let hooks = exposure::hooks(plan).into_iter();
    line("hooks", hooks.map(|(when, run)| colours.paint(Tone::Notable, &format!("{when}: {run}"))).collect());
    out
}

/// The command as one would type it.
pub fn command(finish: &Finish) -> String {
    quoted(finish.argv.iter().map(|word| word.as_str()))
}

fn identity(plan: &Plan, colours: Colours) -> String {
    let finish = &plan.finish;
    let mut text = format!("uid {}, gid {}", finish.uid.raw(), finish.gid.raw());
    if let Some(groups @ [_, ..]) = finish.groups.as_deref() {
        let groups: Vec<String> = groups.iter().map(|id| id.raw().to_string()).collect();
        text.push_str(&format!(", groups {}", groups.join(" ")));
    }
    let host_id = outside(&plan.spawn.uid_map, finish.uid.raw());
    match host_id {
        _ if plan.spawn.uid_map.is_empty() && finish.uid.raw() == 0 => {
            text.push_str(&format!(", {}", colours.paint(Tone::Notable, "which is root on the host as well")));
        }
        Some(id) if id != finish.uid.raw() => text.push_str(&format!(", which is uid {id} on the host")),
        _ => {}
    }
    text.push_str(&format!("; in {}", colours.paint(Tone::Plain, finish.cwd.as_str())));
    text
}

/// What an id is on the host.
fn outside(map: &[IdMap], id: u32) -> Option<u32> {
    let range = map.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
    range.outside.checked_add(id - range.inside)
}

fn capabilities(finish: &Finish, colours: Colours) -> String {
    let names = describe::capabilities(exposure::capabilities(finish));
    if names.is_empty() {
        return "none".into();
    }
    let word = |name: &String| {
        let tone = if POWERFUL.contains(&name.as_str()) { Tone::Alarming } else { Tone::Plain };
        colours.paint(tone, name.trim_start_matches("CAP_"))
    };
    names.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn confinement(finish: &Finish, colours: Colours) -> String {
    let filter = match &finish.seccomp {
        Some(filter) if exposure::is_empty_filter(filter) => {
            colours.paint(Tone::Alarming, "a seccomp filter that allows everything")
        }
        Some(filter) => format!("a seccomp filter of {} instructions", filter.program.len()),
        None => colours.paint(Tone::Alarming, "no seccomp filter"),
    };
    let privileges = if finish.no_new_privileges {
        "no new privileges by exec".into()
    } else {
        colours.paint(Tone::Notable, "new privileges by exec are possible")
    };
    let label = match &finish.label {
        Some(Label::AppArmor(profile)) => format!(", AppArmor profile {profile}"),
        Some(Label::SeLinux(label)) => format!(", SELinux label {label}"),
        None => String::new(),
    };
    format!("{filter}, {privileges}{}", colours.paint(Tone::Plain, &label))
}
