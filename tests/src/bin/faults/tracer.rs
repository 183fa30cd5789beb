//! A small strace: one call of one process of a command fails, or its process is killed at it.
//!
//! A process has a name that is the same in every run: `0` is the command, `0.1` its second child, and so on. A call is
//! named by how many of its kind the process has made before. Only the process that is meant is stopped at its calls,
//! and none after that, which is what makes thousands of cases a matter of minutes.
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Error(i32),
    Kill,
    /// By SIGSTOP: the call is its last.
    Stop,
}

/// Which call of which process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub process: String,
    pub call: String,
    /// Counted from 1.
    pub number: usize,
}

struct Tracee {
    name: String,
    children: usize,
    counts: HashMap<u64, usize>,
    /// It has executed what is not rspawn's: a payload, a hook.
    is_foreign: bool,
    /// Its first stop, of which its parent's event tells as well, has been.
    begun: bool,
    /// At the end of this call, the registers are these, but for the result.
    failing: Option<(libc::user_regs_struct, i32)>,
}

/// Traces a command to its end. Gives the calls of every process where nothing is to happen. What lives on goes on
/// untraced when this process ends.
pub struct Tracer {
    wanted: Option<(Site, Fate)>,
    tracees: HashMap<i32, Tracee>,
    pub done: bool,
    pub counts: BTreeMap<(String, String), usize>,
    /// What each process executed.
    pub programs: BTreeMap<String, String>,
}

const WAIT: WaitPidFlag = WaitPidFlag::__WALL;

impl Tracer {
    pub fn new(wanted: Option<(Site, Fate)>) -> Self {
        Self { wanted, tracees: HashMap::new(), done: false, counts: BTreeMap::new(), programs: BTreeMap::new() }
    }

    /// The wait status of the command as a shell gives it.
    // Waited for below, by its number.
    #[allow(clippy::zombie_processes)]
    pub fn run(&mut self, words: &[String]) -> i32 {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // SAFETY: the child makes one system call here.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
        let child = command.spawn().expect("the command");
        let root = Pid::from_raw(child.id() as i32);
        // The exec's own trap.
        waitpid(root, Some(WAIT)).expect("the command's first stop");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::setoptions(root, options).expect("options");
        self.add(root, "0".into(), true);
        self.note_program(root);
        self.go_on(root, None);
        loop {
            match waitpid(None, Some(WAIT)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == root => return self.leave(status),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == root => return self.leave(128 + signal as i32),
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.tracees.remove(&pid.as_raw());
                }
                Ok(status) => self.stopped(status),
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("waitpid: {errno}"),
            }
        }
    }

    /// Before this process ends: the first stop of a new process, which would become a real one, has to be taken.
    fn leave(&mut self, status: i32) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.tracees.values().any(|tracee| !tracee.begun) && Instant::now() < deadline {
            match waitpid(None, Some(WAIT | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.tracees.remove(&pid.as_raw());
                }
                Ok(status) => self.stopped(status),
                Err(_) => break,
            }
        }
        status
    }

    fn add(&mut self, pid: Pid, name: String, begun: bool) {
        let tracee = Tracee { name, children: 0, counts: HashMap::new(), is_foreign: false, begun, failing: None };
        self.tracees.insert(pid.as_raw(), tracee);
    }

    fn stopped(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                let was_done = self.done;
                self.at_call(pid);
                match &self.wanted {
                    // One that is traced could not stay stopped.
                    Some((_, Fate::Stop)) if self.done && !was_done => {
                        self.tracees.remove(&pid.as_raw());
                        let _ = ptrace::detach(pid, None);
                    }
                    _ => self.go_on(pid, None),
                }
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                match event {
                    libc::PTRACE_EVENT_EXEC => self.note_program(pid),
                    _ => self.note_child(pid),
                }
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                let known = self.tracees.get_mut(&pid.as_raw());
                match known {
                    Some(tracee) if tracee.begun => self.go_on(pid, Some(signal)),
                    Some(tracee) => {
                        tracee.begun = true;
                        self.go_on(pid, None);
                    }
                    // Its parent's event comes next, and lets it go on.
                    None => self.add(pid, String::new(), false),
                }
            }
            _ => {}
        }
    }

    /// A child has been made; its own first stop may have come before.
    fn note_child(&mut self, parent: Pid) {
        let Ok(child) = ptrace::getevent(parent).map(|pid| Pid::from_raw(pid as i32)) else { return };
        let Some(tracee) = self.tracees.get_mut(&parent.as_raw()) else { return };
        let name = format!("{}.{}", tracee.name, tracee.children);
        tracee.children += 1;
        let is_foreign = tracee.is_foreign;
        let has_stopped = self.tracees.contains_key(&child.as_raw());
        self.add(child, name, has_stopped);
        if let Some(tracee) = self.tracees.get_mut(&child.as_raw()) {
            tracee.is_foreign = is_foreign;
        }
        if has_stopped {
            self.go_on(child, None);
        }
    }

    /// What a process has executed. The payload's calls are its own.
    fn note_program(&mut self, pid: Pid) {
        let Some(tracee) = self.tracees.get_mut(&pid.as_raw()) else { return };
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default().to_string_lossy().into_owned();
        let name = program.rsplit('/').next().unwrap_or_default();
        let name = name.strip_prefix("memfd:").unwrap_or(name).split(' ').next().unwrap_or_default();
        tracee.is_foreign = !name.starts_with("rspawn") || name == "rspawn-test-payload";
        if !tracee.is_foreign {
            self.programs.insert(tracee.name.clone(), name.to_string());
        }
    }

    /// Whether a process is to be stopped at its calls.
    fn is_watched(&self, tracee: &Tracee) -> bool {
        if tracee.failing.is_some() {
            return true;
        }
        match &self.wanted {
            None => !tracee.is_foreign,
            Some((site, _)) => !self.done && !tracee.is_foreign && site.process == tracee.name,
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let watched = self.tracees.get(&pid.as_raw()).is_some_and(|tracee| self.is_watched(tracee));
        // One that was killed meanwhile is gone.
        let _ = if watched { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }

    fn at_call(&mut self, pid: Pid) {
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        let Some(tracee) = self.tracees.get_mut(&pid.as_raw()) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some((mut registers, errno)) = tracee.failing.take() {
                registers.rax = -i64::from(errno) as u64;
                let _ = ptrace::setregs(pid, registers);
            }
            return;
        }
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY || tracee.is_foreign {
            return;
        }
        // SAFETY: at an entry, this is the part that the kernel has filled.
        let number = unsafe { info.u.entry.nr };
        let count = tracee.counts.entry(number).or_default();
        *count += 1;
        let Some((site, fate)) = &self.wanted else {
            let known = self.counts.entry((tracee.name.clone(), calls::name(number))).or_default();
            *known = (*known).max(*count);
            return;
        };
        if self.done || site.process != tracee.name || site.number != *count || calls::name(number) != site.call {
            return;
        }
        self.done = true;
        match fate {
            Fate::Kill => drop(kill(pid, Signal::SIGKILL)),
            Fate::Stop => drop(kill(pid, Signal::SIGSTOP)),
            Fate::Error(errno) => {
                let Ok(registers) = ptrace::getregs(pid) else { return };
                tracee.failing = Some((registers, *errno));
                let _ = ptrace::setregs(pid, calls::disarmed(registers, has_filter(pid)));
            }
        }
    }

    /// Every process, with what it executed, and its calls.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for ((process, call), count) in &self.counts {
            let program = self.programs.get(process).map_or("-", String::as_str);
            let _ = writeln!(text, "{process} {program} {call} {count}");
        }
        text
    }
}

/// Whether a process wears a seccomp filter, which sees what the call is made into.
fn has_filter(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    rspawn_tests::status_field(&status, "Seccomp") != Some("0")
}
