//! `rspawn ps`: the processes of a container.
use std::process::Command;

use serde_json::json;

use crate::cgroups;
use crate::cli::{Global, Ps};
use crate::state::StateRoot;
use crate::streams;

pub fn ps(global: &Global, arguments: Ps) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let pids = cgroups::processes(&container.record.cgroups);
    let text = match arguments.format.as_str() {
        "json" => format!("{}\n", json!(pids)),
        "table" => table(&pids, &arguments.options)?,
        _ => return Err("invalid format option: table and json are known".into()),
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
