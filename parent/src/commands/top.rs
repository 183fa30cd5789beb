//! `rspawn top`: what containers use, as a table, again and again.
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use rspawn_sys::channel::{Interest, wait};
use rspawn_sys::{Errno, Fd};

use crate::cli::{Global, Top};
use crate::commands::usage::{self, Row};
use crate::session::Signals;
use crate::session::console::{self, RawMode};
use rspawn_host::containers::stats::usage as samples;
use rspawn_host::deputies::stats_opener::StatsOpener;
use rspawn_host::state::StateRoot;
use rspawn_host::{sandbox, streams};
use rspawn_planner::printable::printable;
use rspawn_planner::units;
use rspawn_report::describe::errno as errno_name;

/// Between the two looks at the CPUs' time that the first table takes.
const FIRST: Duration = Duration::from_millis(300);

/// How long one wait may be, in milliseconds.
const LONGEST: u128 = 1 << 30;

pub fn top(global: &Global, arguments: Top) -> Result<i32, String> {
    let Top { interval, once, no_trunc, ids } = arguments;
    let interval = units::duration(&interval).map_err(|reason| format!("--interval: {reason}"))?;
    if interval == 0 {
        return Err("--interval: it must be longer than 0".into());
    }
    let interval = Duration::from_nanos(interval);
    let root = StateRoot::open(global.root.as_deref())?;
    for id in &ids {
        root.container(id).map_err(|reason| if ids.len() > 1 { format!("{id}: {reason}") } else { reason })?;
    }
    let opener = StatsOpener::start(&root.path).map_err(|error| format!("cannot start the second process: {error}"))?;
    let on_terminal = std::io::stdout().is_terminal();
    let whole_ids = no_trunc || !on_terminal;
    let live = !once && on_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let keys = if live && std::io::stdin().is_terminal() { Some(Keys::take()?) } else { None };
    // The records are read, and files opened, by the second process from here on.
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;

    let mut meter = Meter::default();
    meter.look(&opener, &ids)?;
    if let Some(status) = pause(FIRST.min(interval), keys.as_ref(), &opener)? {
        return Ok(status);
    }
    let mut first = true;
    loop {
        let (rows, unreadable) = meter.look(&opener, &ids)?;
        let none = rows.is_empty();
        let mut lines = usage::table(rows, whole_ids);
        lines.extend(unreadable.iter().map(|reason| printable(reason)));
        let text = if live {
            lines.insert(0, headline(interval, keys.is_some()));
            usage::screen(&lines, console::caller_size())
        } else {
            let between = if first { "" } else { "\n" };
            format!("{between}{}\n", lines.join("\n"))
        };
        first = false;
        let wanted = streams::print_more(text)?;
        // Those that were named are all gone.
        if !wanted || once || (none && !ids.is_empty()) {
            return Ok(0);
        }
        if let Some(status) = pause(interval, keys.as_ref(), &opener)? {
            return Ok(status);
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
    fn look(&mut self, opener: &StatsOpener, ids: &[String]) -> Result<(Vec<Row>, Vec<String>), String> {
        let found = opener.find(ids)?;
        let (mut rows, mut now) = (Vec::new(), BTreeMap::new());
        for (seen, files) in found.containers {
            let (sample, when) = (samples::read(&files), Instant::now());
            let key = (seen.id.clone(), seen.pid, seen.created);
            let before = self.before.get(&key);
            let cpu = sample.cpu.zip(before).and_then(|(time, (earlier, then))| {
                let passed = when.duration_since(*then).as_nanos() as f64;
                (passed > 0.0).then(|| 100.0 * time.saturating_sub(*earlier) as f64 / passed)
            });
            if let Some(time) = sample.cpu {
                now.insert(key, (time, when));
            }
            rows.push(Row { id: seen.id, status: seen.status, ending: seen.ending, cpu, sample });
        }
        self.before = now;
        Ok((rows, found.unreadable))
    }
}

/// The terminal's keys, one by one, and the signals that would end this process before the terminal is as it was.
struct Keys {
    /// Not this one's to close.
    stdin: ManuallyDrop<Fd>,
    signals: Signals,
    _mode: RawMode,
}

impl Keys {
    fn take() -> Result<Self, String> {
        let signals = Signals::take()?;
        Ok(Self { stdin: ManuallyDrop::new(Fd::from_raw(0)), signals, _mode: RawMode::keys() })
    }

    /// Waits for milliseconds; the exit status if it is time to end.
    fn wait(&self, milliseconds: u32) -> Result<Option<i32>, String> {
        let readable = |fd| Interest { fd, read: true, write: false };
        let [pressed, told] = match wait([readable(&self.stdin), readable(&self.signals.0)], Some(milliseconds)) {
            Err(Errno::EINTR) => return Ok(None),
            ready => ready.map_err(|errno| format!("cannot wait for keys: {}", errno_name(errno.0)))?,
        };
        let signal = if told.read { self.signals.next()?.map(i32::from) } else { None };
        if let Some(signal @ (libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM)) = signal {
            return Ok(Some(128 + signal));
        }
        if !pressed.read {
            return Ok(None);
        }
        let mut keys = [0u8; 64];
        let length = self.stdin.read(&mut keys).unwrap_or(0);
        // 3 is Ctrl-C, 4 Ctrl-D.
        let ends = length == 0 || keys[..length].iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4));
        Ok(ends.then_some(0))
    }
}

/// Waits; the exit status if a key or a signal ends it meanwhile, or nobody is there any more to press one.
fn pause(time: Duration, keys: Option<&Keys>, opener: &StatsOpener) -> Result<Option<i32>, String> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Rounded up, so that the last part of a millisecond is not spent in a busy loop.
        let left = left.as_micros().div_ceil(1000).min(LONGEST) as u32;
        match keys {
            None => opener.rest(left)?,
            Some(keys) => {
                if let Some(status) = keys.wait(left)? {
                    return Ok(Some(status));
                }
            }
        }
    }
}
