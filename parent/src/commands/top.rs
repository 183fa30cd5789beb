//! `rspawn top`: what containers use, as a table, again and again.
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use rspawn_sys::{Fd, channel};

use crate::cli::{Global, Top};
use crate::opener::Opener;
use crate::sandbox;
use crate::show::colours::printable;
use crate::show::usage::{self, Row};
use crate::state::StateRoot;
use crate::stats::few;
use crate::streams;
use crate::terminal::{self, RawMode};
use crate::units;

/// Between the two looks at the CPUs' time that the first table takes.
const FIRST: Duration = Duration::from_millis(300);

/// How long one wait may be, in milliseconds.
const LONGEST: u128 = 1 << 30;

pub fn top(global: &Global, arguments: Top) -> Result<i32, String> {
    let Top { interval, once, ids } = arguments;
    let interval = units::duration(&interval).map_err(|reason| format!("--interval: {reason}"))?;
    if interval == 0 {
        return Err("--interval: it must be longer than 0".into());
    }
    let interval = Duration::from_nanos(interval);
    let root = StateRoot::open(global.root.as_deref())?;
    for id in &ids {
        root.container(id).map_err(|reason| if ids.len() > 1 { format!("{id}: {reason}") } else { reason })?;
    }
    let opener = Opener::start(&root.path).map_err(|error| format!("cannot start the second process: {error}"))?;
    let live = !once && std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let keys = live.then(RawMode::keys).filter(RawMode::is_on);
    // The records are read, and files opened, by the second process from here on.
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;

    let mut meter = Meter::default();
    meter.look(&opener, &ids)?;
    if pause(FIRST.min(interval), keys.is_some(), &opener)? {
        return Ok(0);
    }
    let mut first = true;
    loop {
        let (rows, unreadable) = meter.look(&opener, &ids)?;
        let none = rows.is_empty();
        let mut lines = usage::table(rows);
        lines.extend(unreadable.iter().map(|reason| printable(reason)));
        let text = if live {
            lines.insert(0, headline(interval, keys.is_some()));
            usage::screen(&lines, terminal::caller_size())
        } else {
            let between = if first { "" } else { "\n" };
            format!("{between}{}\n", lines.join("\n"))
        };
        first = false;
        let wanted = streams::print_more(text)?;
        // Those that were named are all gone.
        if !wanted || once || (none && !ids.is_empty()) || pause(interval, keys.is_some(), &opener)? {
            return Ok(0);
        }
    }
}

fn headline(interval: Duration, keys: bool) -> String {
    let end = if keys { "q" } else { "Ctrl-C" };
    format!("rspawn top, every {}: {end} ends", humantime::format_duration(interval))
}

/// What was counted before: rates need two looks.
#[derive(Default)]
struct Meter {
    before: BTreeMap<(String, i32, u64), (u64, Instant)>,
}

impl Meter {
    fn look(&mut self, opener: &Opener, ids: &[String]) -> Result<(Vec<Row>, Vec<String>), String> {
        let found = opener.find(ids)?;
        let (mut rows, mut now) = (Vec::new(), BTreeMap::new());
        for (seen, files) in found.containers {
            let (few, when) = (few::read(&files), Instant::now());
            let key = (seen.id.clone(), seen.pid, seen.created);
            let before = self.before.get(&key);
            let cpu = few.cpu.zip(before).and_then(|(time, (earlier, then))| {
                let passed = when.duration_since(*then).as_nanos() as f64;
                (passed > 0.0).then(|| 100.0 * time.saturating_sub(*earlier) as f64 / passed)
            });
            if let Some(time) = few.cpu {
                now.insert(key, (time, when));
            }
            rows.push(Row { id: seen.id, status: seen.status, ending: seen.ending, cpu, few });
        }
        self.before = now;
        Ok((rows, found.unreadable))
    }
}

/// Waits; true if a key that ends was pressed, or nobody is there any more to press one.
fn pause(time: Duration, keys: bool, opener: &Opener) -> Result<bool, String> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Rounded up, so that the last part of a millisecond is not spent in a busy loop.
        let left = left.as_micros().div_ceil(1000).min(LONGEST) as u32;
        if !keys {
            opener.rest(left)?;
            continue;
        }
        let stdin = Fd::from_raw(0);
        let pressed = channel::wait_readable(&stdin, Some(left)).and_then(|ready| {
            let mut keys = [0u8; 64];
            let length = if ready { stdin.read(&mut keys)? } else { return Ok(false) };
            // 3 is Ctrl-C, 4 Ctrl-D.
            Ok(length == 0 || keys[..length].iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4)))
        });
        stdin.leak();
        match pressed {
            Ok(false) | Err(rspawn_sys::Errno::EINTR) => {}
            Ok(true) => return Ok(true),
            Err(errno) => return Err(format!("cannot read keys: {}", crate::describe::errno(errno.0))),
        }
    }
}
