//! Which test programs run in the machine, and which do not and why.
use std::path::{Path, PathBuf};
use std::process::Command;

use rspawn_tests::lanes::programs::{self, Machine, PROGRAMS, Program};
use rspawn_tests::lanes::user::AGAIN;
use serde_json::Value;

use crate::Outcome;
use crate::cache::output_of;

/// A test program to run.
pub struct Job {
    pub name: String,
    pub executable: PathBuf,
    pub arguments: Vec<String>,
    /// Programs that it starts by the paths that they were built at.
    pub helpers: Vec<PathBuf>,
}

/// Programs that tests start by CARGO_BIN_EXE_….
const HELPERS: [&str; 2] = ["confined", "on_ramfs"];

pub fn list() {
    for Program { name, machine, .. } in &PROGRAMS {
        match machine {
            Machine::Resources => println!("resources: {name}"),
            Machine::ByName => println!("resources, by name: {name}: long under emulation"),
            Machine::Systemd => println!("systemd: {name}"),
            Machine::LeftOut(why) => println!("left out: {name}: {why}"),
        }
    }
}

/// Builds the tests and chooses: those of the lane, or those asked for, as NAME or NAME::PART-OF-A-TEST'S-NAME.
pub fn jobs(lane: &str, wanted: &[String]) -> Outcome<Vec<Job>> {
    let built = build()?;
    let tests: Vec<&Built> = built.iter().filter(|built| built.is_test).collect();
    if let Some(Built { name, .. }) = tests.iter().find(|built| programs::find(&built.name).is_none()) {
        return Err(format!("the test program {name} is in no lane: see tests/src/lanes/programs.rs"));
    }
    let of_lane = if lane == "systemd" { Machine::Systemd } else { Machine::Resources };
    let mut names: Vec<String> = wanted.to_vec();
    if names.is_empty() {
        let chosen = PROGRAMS.iter().filter(|program| program.machine == of_lane);
        names = chosen.map(|program| program.name.to_string()).collect();
    }
    let is_helper = |built: &&Built| HELPERS.contains(&built.name.as_str());
    let helpers: Vec<PathBuf> = built.iter().filter(is_helper).map(|built| built.path.clone()).collect();
    let job = |wanted: &String| {
        let (name, filter) = wanted.split_once("::").unwrap_or((wanted, ""));
        let test = tests.iter().find(|test| test.name == name).ok_or(format!("there is no test program {name}"))?;
        // The ordinary user's lane is about ids and rights, which are the same on every machine.
        let mut arguments = vec!["--skip".to_string(), AGAIN.to_string()];
        arguments.extend((!filter.is_empty()).then(|| filter.to_string()));
        Ok(Job { name: name.into(), executable: test.path.clone(), arguments, helpers: helpers.clone() })
    };
    names.iter().map(job).collect()
}

struct Built {
    name: String,
    path: PathBuf,
    is_test: bool,
}

/// What cargo says that it built: tests, and the programs beside them.
fn build() -> Outcome<Vec<Built>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([
        "test",
        "--no-run",
        "--package",
        "rspawn-tests",
        "--message-format=json-render-diagnostics",
        "--quiet",
    ]);
    // Cargo's words to this program say how it was built itself.
    let messages = output_of(cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))))?;
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let is_test = kind == "test";
        let is_program = kind == "bin" && !message["profile"]["test"].as_bool()?;
        let path = PathBuf::from(message["executable"].as_str().filter(|_| is_test || is_program)?);
        Some(Built { name: message["target"]["name"].as_str()?.to_string(), path, is_test })
    };
    Ok(messages.lines().filter_map(artifact).collect())
}
