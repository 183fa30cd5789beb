//! `rspawn events`: what a container uses, and that it ran out of memory, a line of JSON each.
use std::io::Write;
use std::time::{Duration, Instant};

use rspawn_sys::channel;
use serde::Serialize;

use crate::cli::{Events, Global};
use rspawn_host::containers::stats::{self, Files, Stats};
use rspawn_host::sandbox;
use rspawn_host::state::StateRoot;
use rspawn_planner::units;

/// How often the kernel is asked whether it has run out of memory.
const TICK: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

pub fn events(global: &Global, arguments: Events) -> Result<i32, String> {
    let id = arguments.id.as_str();
    let container = StateRoot::open(global.root.as_deref())?.container(id)?;
    let interval = units::duration(&arguments.interval).map_err(|reason| format!("--interval: {reason}"))?;
    if interval == 0 {
        return Err("duration interval must be greater than 0".into());
    }
    let process = container.process()?.ok_or_else(|| format!("container with id {id} is not running"))?;
    let files = Files::open(&container.record.cgroups);
    drop(container);
    // What is read from here on, the kernel has written; what is in it, the payload has a hand in.
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;

    let stats = || print(&Event { kind: "stats", id, data: Some(stats::read(&files)) });
    if arguments.stats {
        return stats().map(|()| 0);
    }
    let interval = Duration::from_nanos(interval);
    let (mut next, mut before) = (Instant::now() + interval, stats::oom(&files));
    loop {
        let left = next.saturating_duration_since(Instant::now()).min(TICK);
        // Rounded up, so that the last part of a millisecond is not spent in a busy loop.
        let left = left.as_micros().div_ceil(1000) as u32;
        let ended =
            channel::wait_readable(&process, Some(left)).map_err(|errno| rspawn_report::describe::errno(errno.0))?;
        let now = stats::oom(&files);
        if now.0 > before.0 || (now.1 && !before.1) {
            print(&Event { kind: "oom", id, data: None })?;
        }
        before = now;
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            stats()?;
            next = Instant::now() + interval;
        }
    }
}

/// One line, at once: who reads it may wait for it.
fn print(event: &Event) -> Result<(), String> {
    let mut line = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line).and_then(|()| stdout.flush()).map_err(|error| format!("cannot write an event: {error}"))
}
