//! `rspawn list`: every container of a state root.
use serde_json::Value;

use super::shape::{Shape, TABLES};
use crate::cli::{Global, List};
use crate::ids;
use crate::sandbox;
use crate::show::colours::printable;
use crate::show::people::{self, Side};
use crate::state::{Container, StateRoot, Status, View};
use crate::streams;

pub fn list(global: &Global, arguments: List) -> Result<i32, String> {
    let shape = Shape::choose(arguments.format.as_deref(), TABLES, Shape::Table)?;
    let root = StateRoot::open(global.root.as_deref())?;
    let (found, damaged): (Vec<_>, Vec<_>) = root.containers().into_iter().partition(Result::is_ok);
    let with_owner = |container: Container| {
        let view = View::of(&container);
        let owner = owner(view.record.owner);
        (view, owner)
    };
    let views: Vec<(View, String)> = found.into_iter().flatten().map(with_owner).collect();
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    damaged.into_iter().filter_map(Result::err).for_each(streams::warn);
    let text = match shape {
        _ if arguments.quiet => views.iter().map(|(view, _)| format!("{}\n", view.record.id)).collect(),
        Shape::Json if views.is_empty() => "null\n".to_string(),
        Shape::Json => format!("{}\n", Value::Array(views.iter().map(|(view, owner)| view.json(owner)).collect())),
        Shape::Table => table(&views),
        Shape::People if views.is_empty() => format!("no containers in {}\n", printable(&root.path.to_string_lossy())),
        Shape::People => for_people(&views),
    };
    streams::print(text).map(|()| 0)
}

fn owner(uid: u32) -> String {
    ids::user_name(uid).unwrap_or_else(|| format!("#{uid}"))
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
fn for_people(views: &[(View, String)]) -> String {
    let rows = views.iter().map(|(view, owner)| {
        let record = &view.record;
        let pid = if view.status == Status::Stopped { "-".to_string() } else { record.pid.to_string() };
        let status = people::status(view.status, view.ending);
        [record.id.to_string(), status, pid, people::since(record.created), owner.clone(), record.bundle.to_string()]
    });
    use Side::{Left, Right};
    let heads = [("ID", Left), ("STATUS", Left), ("PID", Right), ("CREATED", Left), ("OWNER", Left), ("BUNDLE", Left)];
    people::table(heads, rows).iter().map(|line| format!("{line}\n")).collect()
}
