//! `rspawn list`: every container of a state root.
use serde_json::Value;

use super::output_format::{OutputFormat, TABLES};
use crate::cli::{Global, List};
use crate::commands::human::{self, Side};
use crate::commands::view::View;
use rspawn_host::state::{StateRoot, Status, Unreadable};
use rspawn_host::{facts, sandbox, streams};
use rspawn_planner::printable::printable;

pub fn list(global: &Global, arguments: List) -> Result<i32, String> {
    let shape = OutputFormat::choose(arguments.format.as_deref(), TABLES, OutputFormat::Table)?;
    let root = StateRoot::open_existing(global.root.as_deref())?;
    let (mut views, mut damaged, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for found in root.as_ref().map(StateRoot::containers).transpose()?.unwrap_or_default() {
        match found.and_then(|container| View::of(&container).map_err(Unreadable::Fault)) {
            Ok(view) => {
                let owner = facts::ids::shown_user(view.record.owner);
                views.push((view, owner));
            }
            Err(Unreadable::Absent) => {}
            Err(Unreadable::Damaged(reason)) => damaged.push(reason),
            Err(Unreadable::Fault(reason)) => faults.push(reason),
        }
    }
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    damaged.into_iter().for_each(streams::warn);
    let text = match shape {
        _ if arguments.quiet => views.iter().map(|(view, _)| format!("{}\n", view.record.id)).collect(),
        OutputFormat::Json if views.is_empty() => "null\n".to_string(),
        OutputFormat::Json => {
            let all: Result<Vec<Value>, String> = views.iter().map(|(view, owner)| view.json(owner)).collect();
            format!("{}\n", Value::Array(all?))
        }
        OutputFormat::Table => table(&views),
        OutputFormat::Human if views.is_empty() => match &root {
            Some(root) => format!("no containers in {}\n", printable(&root.path.to_string_lossy())),
            None => "no containers\n".to_string(),
        },
        OutputFormat::Human => for_people(&views, arguments.no_trunc),
    };
    streams::print(text)?;
    // What could not be asked is not what is not there.
    if faults.is_empty() { Ok(0) } else { Err(faults.join("; ")) }
}

fn table(views: &[(View, String)]) -> String {
    const HEAD: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let row = |(view, owner): &(View, String)| {
        let record = &view.record;
        let status = view.status.name().to_string();
        [
            record.id.to_string(),
            view.pid().to_string(),
            status,
            record.bundle.to_string(),
            view.created(),
            owner.clone(),
        ]
    };
    let rows: Vec<[String; 6]> = [HEAD.map(str::to_string)].into_iter().chain(views.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The bundle stands last: it is what may be long.
fn for_people(views: &[(View, String)], whole: bool) -> String {
    let rows = views.iter().map(|(view, owner)| {
        let record = &view.record;
        let pid = if view.status == Status::Stopped { "-".to_string() } else { record.pid.to_string() };
        let status = human::status(view.status, view.ending);
        let id = human::short_id(record.id.as_str(), whole);
        [id, status, pid, human::since(record.created), owner.clone(), record.bundle.to_string()]
    });
    use Side::{Left, Right};
    let heads = [("ID", Left), ("STATUS", Left), ("PID", Right), ("CREATED", Left), ("OWNER", Left), ("BUNDLE", Left)];
    human::table(heads, rows).iter().map(|line| format!("{line}\n")).collect()
}
