//! The suite's containers a second time, run by an ordinary user who has a range of subordinate ids. What cannot be
//! true of them is listed by name in `rspawn_tests::lane`.
#[path = "capabilities.rs"]
mod capabilities;
#[path = "devices.rs"]
mod devices;
#[path = "exec.rs"]
mod exec;
#[path = "exec_errors.rs"]
mod exec_errors;
#[path = "hooks.rs"]
mod hooks;
#[path = "incompatibilities.rs"]
mod incompatibilities;
#[path = "init.rs"]
mod init;
#[path = "kernel_state.rs"]
mod kernel_state;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "masks.rs"]
mod masks;
#[path = "mounts.rs"]
mod mounts;
#[path = "namespaces.rs"]
mod namespaces;
#[path = "notify.rs"]
mod notify;
#[path = "oci_bundle.rs"]
mod oci_bundle;
#[path = "orphans.rs"]
mod orphans;
#[path = "overrides.rs"]
mod overrides;
#[path = "process.rs"]
mod process;
#[path = "root.rs"]
mod root;
#[path = "run.rs"]
mod run;
#[path = "terminal.rs"]
mod terminal;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rspawn_tests::lane::{EXCEPTIONS, LEFT_OUT, WITHOUT_COMMANDS, has_run};
use rspawn_tests::{cannot_make_containers, finish};

/// What this program would run with the same arguments.
fn tests(arguments: &[String]) -> BTreeSet<String> {
    let mut list = Command::new(std::env::current_exe().expect("this program's path"));
    list.args(arguments).arg("--list");
    let text = finish(list, b"").ok();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(ToString::to_string).collect()
}

#[test]
fn every_listed_name_is_a_test() {
    let tests = tests(&[]);
    let listed: Vec<&str> = EXCEPTIONS.iter().chain(&WITHOUT_COMMANDS).map(|(name, _)| *name).collect();
    let unknown: Vec<&&str> = listed.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "one is listed twice");
    for (name, reason) in EXCEPTIONS.iter().chain(&WITHOUT_COMMANDS).chain(&LEFT_OUT) {
        assert!(!reason.is_empty(), "{name} has no reason");
    }
}

#[test]
fn every_test_program_is_here_or_left_out_by_name() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let modules: BTreeSet<String> =
        tests(&[]).iter().filter_map(|name| Some(name.split_once("::")?.0.to_string())).collect();
    let mut programs = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("the tests' sources").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        programs.extend(name.strip_suffix(".rs").filter(|name| *name != "as_user").map(ToString::to_string));
    }
    for program in &programs {
        let left_out = LEFT_OUT.iter().any(|(name, _)| name == program);
        assert_ne!(modules.contains(program), left_out, "{program} is to be either in the lane or in LEFT_OUT");
    }
    let unknown: Vec<_> = LEFT_OUT.iter().filter(|(name, _)| !programs.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Tests start in the order of their names, and this is the last one's: it waits for those that still run.
#[test]
fn unlisted_tests_had_commands_run_by_the_user() {
    if cannot_make_containers() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let here = tests(&arguments);
    let is_listed = |name: &String| EXCEPTIONS.iter().chain(&WITHOUT_COMMANDS).any(|(listed, _)| listed == name);
    let due = |name: &&String| name.contains("::") && !is_listed(name) && !has_run(name);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let missing: Vec<&String> = here.iter().filter(due).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "by whom did their containers run? {missing:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
