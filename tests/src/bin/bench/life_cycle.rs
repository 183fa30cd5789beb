//! A container's life as clients drive it: `create`, `start`, `kill`, `delete`, and `exec` into a running one, with the
//! same command line for every runtime. This process is a subreaper, as conmon and containerd's shim are: what `create`
//! leaves becomes its child, and its end is waited for, not polled for.
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rspawn_tests::clients::remove_parent_cgroups;
use rspawn_tests::{Bundle, leftovers, program};
use serde_json::json;

use crate::contestants::{RSPAWN, RUNC, find_program, quiet};
use crate::time::{Measured, print_table};
use crate::{headline, skipped};

/// Rounds that are not counted.
const WARM_UP: usize = 3;
const STEPS: [&str; 4] = ["create", "start", "kill", "delete"];

/// A program with runc's command line, and a bundle and a state root of its own.
pub struct Runtime {
    pub name: &'static str,
    path: PathBuf,
    bundle: Bundle,
}

impl Runtime {
    fn new(name: &'static str, path: PathBuf) -> Self {
        let bundle = Bundle::new().with_args(&["/bin/sleep", "100000"]).with(|config| {
            config["root"]["readonly"] = json!(true);
            // The newest that Debian's crun takes.
            config["ociVersion"] = json!("1.0.2");
        });
        Self { name, path, bundle }
    }

    /// All that are here and can take a container through its life, and why the others cannot.
    pub fn all() -> (Vec<Self>, Vec<(&'static str, String)>) {
        if let Err(errno) = set_child_subreaper(true) {
            return (Vec::new(), vec![("everyone", format!("cannot become a subreaper: {errno}"))]);
        }
        let installed = |name: &str| find_program(name).ok_or_else(|| "not installed".to_string());
        let candidates = [(RSPAWN, Ok(program("rspawn"))), ("crun", installed("crun")), (RUNC, installed("runc"))];
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for (name, path) in candidates {
            let works = path.and_then(|path| {
                let runtime = Self::new(name, path);
                runtime.live("trial").map(|_| runtime)
            });
            match works {
                Ok(runtime) => here.push(runtime),
                Err(reason) => missing.push((name, reason)),
            }
        }
        (here, missing)
    }

    /// The name that all it makes has.
    fn mark(&self) -> &str {
        &self.bundle.id
    }

    pub fn id(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.mark())
    }

    /// One of its commands, quiet.
    fn command(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(self.bundle.path().join("state")).arg(verb).args(words);
        quiet(command)
    }

    /// Runs one of its commands; what it says when it fails is the error.
    fn act(&self, verb: &str, words: &[&str]) -> Result<Duration, String> {
        let errors = self.bundle.path().join("errors");
        let file = fs::File::create(&errors).map_err(|error| error.to_string())?;
        let mut command = self.command(verb, words);
        command.stderr(Stdio::from(file));
        let began = Instant::now();
        let status = command.status().map_err(|error| error.to_string())?;
        let took = began.elapsed();
        if status.success() {
            return Ok(took);
        }
        let text = fs::read_to_string(&errors).unwrap_or_default();
        Err(format!("{verb}: {status}: {}", text.lines().next().unwrap_or("it says nothing")))
    }

    /// Makes and starts a container; its first process.
    pub fn bring_up(&self, id: &str) -> Result<(Pid, [Duration; 2]), String> {
        let mut config = self.bundle.config.clone();
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.mark()));
        fs::write(self.bundle.path().join("config.json"), config.to_string()).map_err(|error| error.to_string())?;
        let (bundle, pid_file) = (self.bundle.path(), self.bundle.path().join("pid"));
        let (bundle, pid_name) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        let create = self.act("create", &["--bundle", &bundle, "--pid-file", &pid_name, id])?;
        let text = fs::read_to_string(&pid_file).map_err(|error| format!("its pid file: {error}"))?;
        let pid = text.trim().parse().map_err(|_| format!("its pid file holds {text:?}"))?;
        let start = self.act("start", &[id])?;
        Ok((Pid::from_raw(pid), [create, start]))
    }

    /// Kills and removes a container.
    pub fn take_down(&self, id: &str, pid: Pid) -> Result<[Duration; 2], String> {
        let kill = self.act("kill", &[id, "KILL"])?;
        let waited = waitpid(pid, None);
        waited.map_err(|errno| format!("the container is not this process's to wait for: {errno}"))?;
        Ok([kill, self.act("delete", &[id])?])
    }

    /// A whole life, step by step. One that goes wrong leaves nothing either.
    pub fn live(&self, suffix: &str) -> Result<[Duration; 4], String> {
        let id = self.id(suffix);
        let lived = self.bring_up(&id).and_then(|(pid, [create, start])| {
            let [kill, delete] = self.take_down(&id, pid)?;
            Ok([create, start, kill, delete])
        });
        if lived.is_err() {
            self.give_up(&id);
        }
        lived
    }

    /// Removes a container of which something went wrong.
    pub fn give_up(&self, id: &str) {
        let _ = self.act("delete", &["--force", id]);
    }

    /// What of its containers is left once all are deleted; removes the cgroups, the parent included.
    pub fn left_behind(&self, ids: &[String]) -> Vec<String> {
        let mut left = leftovers(&self.id(""));
        left.extend(remove_parent_cgroups(self.mark(), ids));
        let states = fs::read_dir(self.bundle.path().join("state")).into_iter().flatten().flatten();
        left.extend(states.map(|entry| format!("state {}", entry.path().display())));
        left
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        remove_parent_cgroups(self.mark(), &[]);
    }
}

pub fn life_cycle_section(runs: usize) {
    let (runtimes, missing) = Runtime::all();
    headline(&format!("time of create + start + kill + delete, milliseconds, {runs} interleaved lives of each"));
    for (name, reason) in &missing {
        skipped(name, reason);
    }
    let lives: Vec<Vec<[Duration; 4]>> = measure(&runtimes, runs, |runtime| runtime.live("life"));
    let table = |pick: &dyn Fn(&[Duration; 4]) -> Duration| -> Vec<Measured> {
        let samples = runtimes.iter().zip(&lives).map(|(runtime, all)| (runtime.name, all.iter().map(pick).collect()));
        samples.map(|(name, samples)| Measured::new(name, samples)).collect()
    };
    print_table(&table(&|life| life.iter().sum()));
    for (index, step) in STEPS.into_iter().enumerate() {
        println!("  {step} alone:");
        print_table(&table(&|life| life[index]));
    }
    exec(&runtimes, runs);
    // Other sections start programs in the foreground and wait for those alone.
    let _ = set_child_subreaper(false);
}

fn exec(runtimes: &[Runtime], runs: usize) {
    headline(&format!("time of exec of /bin/true into a running container, milliseconds, {runs} interleaved runs"));
    let mut running = Vec::new();
    for runtime in runtimes {
        match runtime.bring_up(&runtime.id("exec")) {
            Ok((pid, _)) => running.push((runtime, pid)),
            Err(reason) => skipped(runtime.name, &reason),
        }
    }
    let samples = measure(&running, runs, |(runtime, _)| runtime.act("exec", &[&runtime.id("exec"), "/bin/true"]));
    let tables = running.iter().zip(samples).map(|((runtime, _), samples)| Measured::new(runtime.name, samples));
    print_table(&tables.collect::<Vec<_>>());
    for (runtime, pid) in running {
        if let Err(reason) = runtime.take_down(&runtime.id("exec"), pid) {
            println!("  the end of {}'s container: {reason}", runtime.name);
        }
    }
}

/// Round-robin, so that whatever slows the machine down slows all alike.
fn measure<R, T>(all: &[R], runs: usize, one: impl Fn(&R) -> Result<T, String>) -> Vec<Vec<T>> {
    let mut samples: Vec<Vec<T>> = all.iter().map(|_| Vec::with_capacity(runs)).collect();
    for round in 0..WARM_UP + runs {
        for (each, samples) in all.iter().zip(&mut samples) {
            match one(each) {
                Ok(sample) if round >= WARM_UP => samples.push(sample),
                Ok(_) => {}
                Err(reason) => println!("  a run failed: {reason}"),
            }
        }
    }
    samples
}
