//! What /proc tells of single processes.
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::facts;

/// Ticks in a second of the times in /proc/PID/stat: USER_HZ, which is 100 on every machine.
const TICKS: u64 = 100;

/// Among the flags of /proc/PID/stat, of include/linux/sched.h.
const PF_EXITING: u32 = 4;

/// What rspawn-init calls itself.
const INIT: &str = "rspawn-init";

/// SIGTERM in a mask of /proc/PID/status.
const ASKS_TO_END: u64 = 1 << (libc::SIGTERM - 1);

/// Most bytes of a command line: more, nobody reads.
const MOST: u64 = 16 << 10;

/// /proc/PID/stat (proc_pid_stat(5)), of which nothing is read twice: all fields are of one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    pub name: String,
    pub state: char,
    pub parent: i32,
    /// It has ended, or is about to: it executes nothing any more.
    pub is_ending: bool,
    /// User and kernel time together, in ticks.
    pub ticks: u64,
    pub threads: u32,
    pub start_time: u64,
    /// As wait(2) would give it; 0 as well where the reader may not know.
    pub exit_code: i32,
}

impl Stat {
    /// `None` for a process that is not there: ENOENT, or ESRCH where it ended meanwhile. Whatever else the kernel
    /// answers says nothing about it.
    pub fn of(pid: i32) -> Result<Option<Self>, String> {
        let path = format!("/proc/{pid}/stat");
        match fs::read(&path) {
            Ok(text) => {
                let parsed = Self::parse(&String::from_utf8_lossy(&text));
                parsed.map(Some).ok_or_else(|| format!("cannot understand {path}"))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(format!("cannot read {path}: {error}")),
        }
    }

    /// Whether it is one that ended, or is about to, as rspawn-init that had not yet executed the payload: with its
    /// name, and with its handlers, which an exec resets. Of one whose end its parent has taken note of, nothing is
    /// known.
    pub fn ended_as_init(pid: i32, start_time: u64) -> Result<bool, String> {
        let is_it =
            |stat: &Self| stat.start_time == start_time && stat.name == INIT && (stat.is_ending || stat.is_dead());
        if !Self::of(pid)?.as_ref().is_some_and(is_it) {
            return Ok(false);
        }
        let path = format!("/proc/{pid}/status");
        let status = match fs::read_to_string(&path) {
            Err(error) if is_gone(&error) => return Ok(false),
            read => read.map_err(|error| format!("cannot read {path}: {error}"))?,
        };
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        let caught = caught.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        caught.map(|mask| mask & ASKS_TO_END != 0).ok_or_else(|| format!("cannot understand {path}"))
    }

    /// It has ended, and nobody has taken note of it yet (proc_pid_stat(5)). The first thread of several may be a zombie
    /// while the others run.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }

    pub fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; field 3 follows it.
        let (head, rest) = text.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_string();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            name,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            is_ending: field(9)?.parse::<u32>().ok()? & PF_EXITING != 0,
            ticks: field(14)?.parse::<u64>().ok()?.saturating_add(field(15)?.parse().ok()?),
            threads: field(20)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            exit_code: field(52)?.parse().ok()?,
        })
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            'R' => "running",
            'S' => "sleeping",
            'D' => "waiting",
            'T' => "stopped",
            't' => "traced",
            'I' => "idle",
            'Z' => "ended",
            _ => "-",
        }
    }
}

/// A process with everything opened that is still to be read: its name and words are the payload's to choose, and are
/// read by a confined process.
pub struct Opened {
    pub pid: i32,
    pub user: String,
    stat: File,
    words: File,
    memory: File,
}

/// A process as it is shown.
pub struct Shown {
    pub pid: i32,
    pub user: String,
    pub stat: Stat,
    pub cpu: Duration,
    pub memory: u64,
    pub command: String,
}

impl Opened {
    /// Nothing if it is gone.
    pub fn open(pid: i32) -> Result<Option<Self>, String> {
        let file = |name: &str| File::open(format!("/proc/{pid}/{name}"));
        let open = || -> io::Result<Self> {
            let stat = file("stat")?;
            let user = facts::ids::shown_user(stat.metadata()?.uid());
            Ok(Self { pid, user, stat, words: file("cmdline")?, memory: file("statm")? })
        };
        match open() {
            Err(error) if is_gone(&error) => Ok(None),
            opened => opened.map(Some).map_err(|error| format!("cannot look at process {pid}: {error}")),
        }
    }

    /// Nothing if it is gone.
    pub fn read(&self, machine: &Machine) -> Result<Option<Shown>, String> {
        let texts = || io::Result::Ok((text(&self.stat)?, text(&self.memory)?, text(&self.words)?));
        let (stat, memory, words) = match texts() {
            Err(error) if is_gone(&error) => return Ok(None),
            read => read.map_err(|error| format!("cannot look at process {}: {error}", self.pid))?,
        };
        let pages = memory.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let (Some(stat), Some(pages)) = (Stat::parse(&stat), pages) else {
            return Err(format!("cannot understand what /proc says of process {}", self.pid));
        };
        let words: Vec<&str> = words.split_terminator('\0').collect();
        // As ps(1) shows kernel threads, and what has ended.
        let command = if words.is_empty() { format!("[{}]", stat.name) } else { words.join(" ") };
        let cpu = Duration::from_millis(stat.ticks.saturating_mul(1000 / TICKS));
        Ok(Some(Shown { pid: self.pid, user: self.user.clone(), stat, cpu, memory: pages * machine.page, command }))
    }
}

/// What the numbers of /proc count by.
pub struct Machine {
    uptime: Duration,
    page: u64,
}

impl Machine {
    /// Before privileges go: with them goes the right to open its file.
    pub fn now() -> Result<Self, String> {
        const FILE: &str = "/proc/uptime";
        let text = fs::read_to_string(FILE).map_err(|error| format!("cannot read {FILE}: {error}"))?;
        let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
        let uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64;
        Ok(Self { uptime: uptime.ok_or_else(|| format!("cannot understand {FILE}: {text:?}"))?, page })
    }

    /// How long ago a process began.
    pub fn age(&self, stat: &Stat) -> Duration {
        self.uptime.saturating_sub(Duration::from_millis(stat.start_time.saturating_mul(1000 / TICKS)))
    }
}

fn text(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether /proc has said that there is no such process; any other error says nothing about it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let text = "42 (a ) Z 9 (b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 12345 0 0 18446744073709551615 \
            0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 768\n";
        let expected = Stat {
            name: "a ) Z 9 (b".into(),
            state: 'S',
            parent: 7,
            is_ending: false,
            ticks: 200,
            threads: 3,
            start_time: 12345,
            exit_code: 768,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a) S 7"), None);
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = std::process::id() as i32;
        let machine = Machine::now().unwrap();
        let shown = Opened::open(own).unwrap().unwrap().read(&machine).unwrap().unwrap();
        let words: Vec<String> = std::env::args().collect();
        assert_eq!((shown.pid, shown.command), (own, words.join(" ")));
        assert_eq!(shown.stat.parent, nix::unistd::getppid().as_raw());
        // Something between nothing and all of a large machine.
        assert!((100 << 10..1 << 40).contains(&shown.memory), "{}", shown.memory);
        assert!(machine.age(&shown.stat) < Duration::from_secs(24 * 3600));
    }
}
