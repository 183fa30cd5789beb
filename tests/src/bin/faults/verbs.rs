//! The commands that are tried: what each needs beforehand, and what must be true after it.
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, Output, leftovers};
use serde_json::{Value, json};

use crate::tracer::{Fate, Site};
use crate::{Case, oracle};

/// Nothing takes longer, but by hanging.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Run,
    /// With a payload that is root.
    RunRoot,
    Create,
    Start,
    Exec,
    Kill,
    /// Of one that lives: to be refused.
    Delete,
    DeleteStopped,
    DeleteForce,
    State,
    List,
    Pause,
    Resume,
    Ps,
    Update,
}

use Verb::*;

pub const VERBS: &[Verb] = &[
    Run, RunRoot, Create, Start, Exec, Kill, Delete, DeleteStopped, DeleteForce, State, List, Pause, Resume, Ps, Update,
];

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Run => "run",
            RunRoot => "run-root",
            Create => "create",
            Start => "start",
            Exec => "exec",
            Kill => "kill",
            Delete => "delete",
            DeleteStopped => "delete-stopped",
            DeleteForce => "delete-force",
            State => "state",
            List => "list",
            Pause => "pause",
            Resume => "resume",
            Ps => "ps",
            Update => "update",
        }
    }

    /// The state that the container is in beforehand; none if there is none.
    fn needs(self) -> &'static str {
        match self {
            Run | RunRoot | Create => "none",
            Start => "created",
            DeleteStopped => "stopped",
            Resume => "paused",
            _ => "running",
        }
    }

    /// Its payload says how it is confined, and ends.
    fn prints(self) -> bool {
        matches!(self, Run | RunRoot | Create | Start)
    }
}

pub struct Attempt {
    /// The call was made.
    pub hit: bool,
    pub status: i32,
    pub wrong: Vec<String>,
}

/// A bundle, and its container where that outlives a case.
pub struct Place {
    pub verb: Verb,
    life: Life,
    good: Option<String>,
    /// The container that is only created could not be started: what it prints is that of a failure.
    unstarted: Cell<bool>,
}

impl Place {
    pub fn new(verb: Verb) -> Self {
        let life = Life::new(bundle(verb));
        let mut place = Self { verb, life, good: None, unstarted: Cell::new(false) };
        place.good = Some(place.good_print());
        place
    }

    /// What the payload of a good run prints.
    fn good_print(&mut self) -> String {
        self.prepare();
        let (output, said) = match self.verb {
            Run | RunRoot | Create | Start | Exec => {
                let output = self.life.run(self.command());
                let said = self.said(&output);
                (output, said)
            }
            // The others have no payload that speaks.
            _ => return String::new(),
        };
        assert_eq!(output.status, 0, "the good run: {output:?}");
        assert!(said.contains("CapBnd") && said.contains("cgroup "), "the payload says: {said}");
        self.clear();
        said
    }

    /// The command.
    fn command(&self) -> Command {
        let life = &self.life;
        match self.verb {
            Run | RunRoot => life.making("run", &[]),
            Create => life.making("create", &[]),
            Exec => life.exec_command(&[], &["/payload", "confinement"]),
            Kill => {
                let mut command = life.on_it("kill", &[]);
                command.arg("KILL");
                command
            }
            Delete | DeleteStopped => life.on_it("delete", &[]),
            DeleteForce => life.on_it("delete", &["--force"]),
            List => life.command(&["list", "--format=json"]),
            Ps => life.on_it("ps", &["--format=json"]),
            Update => life.on_it("update", &["--pids-limit=77"]),
            verb => life.on_it(verb.name(), &[]),
        }
    }

    /// What the payload has said, which of one that is only created is to be started first.
    fn said(&self, output: &Output) -> String {
        let text = match self.verb {
            Create | Start => {
                if self.verb == Create && output.status == 0 {
                    let started = self.life.run(self.life.on_it("start", &[]));
                    self.unstarted.set(started.status != 0 && started.stderr.starts_with("rspawn: "));
                }
                let deadline = Instant::now() + PATIENCE;
                while self.life.status() == "running" && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(2));
                }
                self.life.file("said")
            }
            Run | RunRoot => self.life.file("said"),
            _ => output.stdout.clone(),
        };
        text.replace(self.life.id(), "ID")
    }

    /// Brings the container to the state that the verb needs.
    fn prepare(&self) {
        let life = &self.life;
        let _ = fs::remove_file(life.bundle.rootfs().join("said"));
        if self.verb.needs() == "none" {
            return;
        }
        let now = life.status();
        if now == self.verb.needs() {
            return;
        }
        match (now.as_str(), self.verb.needs()) {
            ("paused", "running") => drop(life.run(life.on_it("resume", &[])).ok()),
            ("running", "paused") => drop(life.run(life.on_it("pause", &[])).ok()),
            _ => {
                life.delete(&["--force"]).ok();
                life.created(&[]);
                if self.verb.needs() != "created" {
                    life.started();
                }
                match self.verb.needs() {
                    "stopped" => life.stop(),
                    "paused" => drop(life.run(life.on_it("pause", &[])).ok()),
                    _ => {}
                }
            }
        }
        assert_eq!(life.status(), self.verb.needs());
    }

    fn clear(&self) {
        self.life.delete(&["--force"]).ok();
    }

    /// Every call of every process of the command, with the program that each process is.
    pub fn sites(&mut self) -> Vec<(Site, String)> {
        self.prepare();
        let report = self.trace(&["-"]).1;
        let mut sites = Vec::new();
        for line in report.lines() {
            let [process, program, call, count] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            for number in 1..=count.parse().expect("a count") {
                let site = Site { process: process.into(), call: call.into(), number };
                sites.push((site, program.to_string()));
            }
        }
        self.clear();
        sites
    }

    /// Runs the command traced: its output, or none where it hung; and the tracer's report.
    fn trace(&self, asked: &[&str]) -> (Option<Output>, String) {
        let inner = self.command();
        let report = self.life.bundle.path().join("report");
        let _ = fs::remove_file(&report);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("--trace").arg(&report).args(asked).arg("--");
        command.arg(inner.get_program()).args(inner.get_args());
        let (mut child, paths) = self.life.spawn(&mut command);
        let deadline = Instant::now() + PATIENCE;
        let mut hung = false;
        while child.try_wait().expect("a child").is_none() {
            if Instant::now() > deadline && !hung {
                hung = true;
                kill_children(child.id());
            }
            assert!(Instant::now() < deadline + PATIENCE, "the tracer hangs: {asked:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = self.life.outcome(child, &paths);
        paths.iter().for_each(|path| drop(fs::remove_file(path)));
        let report = fs::read_to_string(report).unwrap_or_default();
        ((!hung).then_some(output), report)
    }

    /// One case.
    pub fn attempt(&mut self, case: &Case) -> Attempt {
        self.unstarted.set(false);
        self.prepare();
        let pid = if self.verb.needs() == "none" { 0 } else { self.life.record().pid };
        let Site { process, call, number } = &case.site;
        let fate = match case.fate {
            Fate::Kill => "kill".to_string(),
            Fate::Stop => "stop".to_string(),
            Fate::Error(errno) => errno.to_string(),
        };
        let (output, report) = self.trace(&[process, call, &number.to_string(), &fate]);
        let mut wrong = Vec::new();
        let status = output.as_ref().map_or(-1, |output| output.status);
        match &output {
            None => wrong.push("HANG: it took more than 10 s".to_string()),
            Some(output) => {
                // Where the standard library or a loader gets no memory, it says so in its own words.
                let runtime =
                    matches!(call.as_str(), "mmap" | "mprotect" | "mremap" | "sigaltstack" | "poll" | "madvise");
                let stderr_was_hit = matches!(call.as_str(), "write" | "writev") && process == "0";
                wrong.extend(oracle::words_fault(output, case.fate == Fate::Kill, runtime || stderr_was_hit));
                wrong.extend(self.judge(output, pid));
            }
        }
        wrong.extend(self.what_is_left(pid));
        Attempt { hit: report == "done\n", status, wrong }
    }

    /// What is false in an answer.
    fn judge(&self, output: &Output, pid: i32) -> Option<String> {
        let (life, done) = (&self.life, output.status == 0);
        let is = |status: &str| {
            let now = life.status();
            (now != status).then(|| format!("LIE: status {}, and the container is {now}", output.status))
        };
        match self.verb {
            Run | RunRoot | Create | Start | Exec => {
                let good = self.good.as_deref().unwrap_or_default();
                let said = self.said(output);
                oracle::print_fault(good, &said, done && !self.unstarted.get())
            }
            Kill if done => {
                let deadline = Instant::now() + PATIENCE;
                while life.status() != "stopped" && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(2));
                }
                is("stopped")
            }
            Delete if done => Some("LIE: a running container was deleted without --force".into()),
            Delete => is("running"),
            DeleteStopped | DeleteForce if done => {
                let lives = is_alive(pid).then(|| "LIE: it was forgotten, and lives".to_string());
                lives.or_else(|| is("none"))
            }
            State if done => {
                let state: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
                let fine = state["status"] == "running" && state["pid"] == pid && state["rootfs"] != "";
                (!fine).then(|| format!("LIE: {}", output.stdout))
            }
            List if done => {
                let list: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
                let fine = list[0]["status"] == "running" && list[0]["pid"] == pid && list[0]["rootfs"] != "";
                (!fine).then(|| format!("LIE: {}", output.stdout))
            }
            Ps if done => {
                let good = life.run(self.command()).ok();
                (output.stdout != good).then(|| format!("LIE: {}", output.stdout))
            }
            Pause if done => is("paused"),
            Resume if done => is("running"),
            Update if done => {
                let pids = life.record().cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str() == "pids").cloned();
                let now = pids.map(|pids| fs::read_to_string(format!("{}/pids.max", pids.path)).unwrap_or_default());
                let missing = now.is_some_and(|now| now.trim() != "77");
                missing.then(|| "LIE: the limit is not set".to_string())
            }
            _ => None,
        }
    }

    /// `delete --force` leaves nothing. The commands that only look have left the container as it was.
    fn what_is_left(&self, pid: i32) -> Vec<String> {
        let mut wrong = Vec::new();
        if matches!(self.verb, State | List | Ps | Delete | Exec | Update | Pause | Resume) && is_alive(pid) {
            return wrong;
        }
        if matches!(self.verb, State | List | Ps | Delete | Exec | Update | Pause | Resume) {
            wrong.push("the container died of it".to_string());
        }
        let output = self.life.delete(&["--force"]);
        if output.status != 0 {
            wrong.push(format!("LEFT: delete --force: {}", output.stderr));
        }
        if self.life.state_directory().exists() {
            wrong.push("LEFT: the state directory".to_string());
        }
        let left = leftovers(self.life.id());
        if !left.is_empty() {
            wrong.push(format!("LEFT: {left:?}"));
        }
        wrong
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Kills what a tracer has started, by which that ends too.
fn kill_children(tracer: u32) {
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// A bundle that asks for some of everything.
fn bundle(verb: Verb) -> Bundle {
    let capabilities = json!(["CAP_MKNOD", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let words: &[&str] = if verb.prints() { &["/payload", "confinement", "/said"] } else { &["sleep", "1000"] };
    let bundle = Bundle::new()
        .with_payload()
        .with_args(words)
        .with_mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "mode=1777"])
        .with_mount("/data", "none", "/etc", &["bind", "ro"])
        .with(|config| {
            config["process"]["noNewPrivileges"] = json!(true);
            config["process"]["oomScoreAdj"] = json!(100);
            config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600}]);
            config["process"]["user"] = json!({"uid": 7, "gid": 7, "additionalGids": [8]});
            if verb == RunRoot {
                config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [9], "umask": 23});
                config["process"]["noNewPrivileges"] = json!(false);
            }
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                config["process"]["capabilities"][set] = capabilities.clone();
            }
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            config["linux"]["resources"] = json!({"pids": {"limit": 100}});
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
        })
        // So that the payload sees in which cgroups of the machine's it is.
        .without_namespaces(&["cgroup"]);
    // The payload writes there what it sees.
    fs::set_permissions(bundle.rootfs(), fs::Permissions::from_mode(0o777)).expect("the root's mode");
    bundle
}
