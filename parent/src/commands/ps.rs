//! `rspawn ps`: the processes of a container.
use std::process::Command;

use serde_json::json;

use super::output_format::{OutputFormat, TABLES};
use crate::cli::{Global, Ps};
use crate::commands::human::{self, Side};
use rspawn_host::containers::cgroups;
use rspawn_host::containers::processes::{Machine, Opened, Shown};
use rspawn_host::state::StateRoot;
use rspawn_host::{sandbox, streams};

pub fn ps(global: &Global, arguments: Ps) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    // Options of ps(1) ask for its table, whoever reads it.
    let asked = arguments.format.as_deref().or((!arguments.options.is_empty()).then_some("table"));
    let shape = OutputFormat::choose(asked, TABLES, OutputFormat::Table)?;
    if shape != OutputFormat::Table && !arguments.options.is_empty() {
        let format = asked.unwrap_or_default();
        return Err(format!("ps --format={format}: options of ps(1) are for its table, and there are some"));
    }
    let pids = cgroups::processes(&container.record.cgroups)?;
    let text = match shape {
        OutputFormat::Json => format!("{}\n", json!(pids)),
        OutputFormat::Table => table(&pids, &arguments.options)?,
        OutputFormat::Human => for_people(&pids)?,
    };
    streams::print(text).map(|()| 0)
}

/// What ps(1) prints of the processes, its own options applied; a column of its table tells which they are.
fn table(pids: &[i32], options: &[String]) -> Result<String, String> {
    const DEFAULT: &str = "-ef";
    let words = if options.is_empty() { vec![DEFAULT.to_string()] } else { options.to_vec() };
    let output = Command::new("ps").args(words).output().map_err(|error| format!("cannot execute ps: {error}"))?;
    if !output.status.success() {
        return Err(format!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID").ok_or("the table of ps has no column PID")?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok([head].into_iter().chain(lines.filter(is_ours)).map(|line| format!("{line}\n")).collect())
}

/// The same from /proc, without ps(1): names and words are the payload's, and are made safe for a terminal.
fn for_people(pids: &[i32]) -> Result<String, String> {
    let machine = Machine::now()?;
    let opened: Vec<Opened> = pids.iter().filter_map(|pid| Opened::open(*pid).transpose()).collect::<Result<_, _>>()?;
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    let shown = opened.iter().filter_map(|process| process.read(&machine).transpose());
    let shown: Vec<Shown> = shown.collect::<Result<_, _>>()?;
    let rows = shown.into_iter().map(|process| {
        [
            process.pid.to_string(),
            process.stat.parent.to_string(),
            process.user,
            process.stat.state_name().to_string(),
            human::span(machine.age(&process.stat)),
            human::cpu_time(process.cpu),
            human::size(process.memory),
            process.command,
        ]
    });
    use Side::{Left, Right};
    let heads = [
        ("PID", Right),
        ("PARENT", Right),
        ("USER", Left),
        ("STATE", Left),
        ("AGE", Right),
        ("CPU", Right),
        ("MEM", Right),
        ("COMMAND", Left),
    ];
    Ok(human::table(heads, rows).iter().map(|line| format!("{line}\n")).collect())
}
