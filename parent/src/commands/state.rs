//! `rspawn state`: a container's state, as JSON or in words.
use super::output_format::{OutputFormat, STATE};
use crate::cli::{Global, State};
use crate::commands::human;
use crate::commands::view::View;
use rspawn_host::state::{StateRoot, Status};
use rspawn_host::{sandbox, streams};
use rspawn_planner::printable::printable;

pub fn state(global: &Global, arguments: State) -> Result<i32, String> {
    let shape = OutputFormat::choose(arguments.format.as_deref(), STATE, OutputFormat::Json)?;
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let view = View::of(&container)?;
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let text = if shape == OutputFormat::Human { in_words(&view)? } else { format!("{:#}\n", view.json("")?) };
    streams::print(text).map(|()| 0)
}

fn in_words(view: &View) -> Result<String, String> {
    let spec = view.spec()?;
    let record = &view.record;
    let mut facts = vec![("status", human::status(view.status, view.ending))];
    if view.status != Status::Stopped {
        facts.push(("pid", record.pid.to_string()));
    }
    facts.push(("created", format!("{} ({})", human::since(record.created), view.created())));
    facts.push(("bundle", record.bundle.to_string()));
    facts.push(("root", view.rootfs(spec.as_ref())));
    let mut hierarchies: Vec<String> = Vec::new();
    for cgroup in &record.cgroups {
        let path = cgroup.path.to_string();
        if !hierarchies.contains(&path) {
            hierarchies.push(path);
        }
    }
    facts.extend(hierarchies.into_iter().map(|path| ("cgroup", path)));
    let annotations = spec.map(|spec| spec.annotations).unwrap_or_default();
    facts.extend(annotations.iter().map(|(name, value)| ("annotation", format!("{name}={value}"))));
    // A fact of several lines says its name once.
    let mut before = "";
    let lines = facts.iter().map(|(name, fact)| {
        let shown = if *name == before { "" } else { *name };
        before = name;
        format!("  {shown:<12}{}\n", printable(fact))
    });
    let lines: String = lines.collect();
    Ok(format!("{}\n{lines}", record.id))
}
