//! Which test programs run in the machine, and which do not and why.
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// On cgroup v2 with all of its controllers, with every capability, on another kernel than the builder's.
const RESOURCES: [&str; 13] = [
    "vm_resources", "vm_life", "vm_privileges", "vm_resctrl", "cgroups", "events", "update", "kernel_state",
    "namespaces", "process", "exec", "lifecycle", "run",
];

/// What runs in the machine when it is asked for by name: emulated, all together would take longer than a submission
/// may, and what they are about is seen on any machine with Linux.
const BY_NAME: [&str; 42] = [
    "bad_input", "bad_state", "bundles", "capabilities", "check", "device_rules", "devices", "evil_exec",
    "evil_planner", "evil_update", "exec_errors", "failure", "failure_life", "faults", "hooks", "host",
    "incompatibilities", "init", "last_mile", "last_words", "masks", "mount_words", "mounts", "no_pivot", "notify",
    "oci_bundle", "oci_everything", "oci_invalid", "orphans", "out_of_reach", "overrides", "policy", "races", "root",
    "rootless", "rootless_security", "sandbox", "shortages", "streams", "terminal", "updates", "waits",
];

/// On Debian with systemd.
const SYSTEMD: [&str; 2] = ["vm_systemd", "vm_scope"];

/// Programs that tests start by CARGO_BIN_EXE_….
const HELPERS: [&str; 2] = ["confined", "on_ramfs"];

/// Nothing about them is another on another machine, or the machine lacks what they are about.
const LEFT_OUT: [(&str, &str); 21] = [
    ("as_user", "the suite once more"),
    ("budget", "reads the sources"),
    ("fuzz", "asks the decoder, not the kernel; slow without hardware's help"),
    ("golden", "the planner alone, on written facts; reads the sources"),
    ("house", "reads the sources"),
    ("security_page", "reads the sources"),
    ("swallowed", "reads the sources"),
    ("plan_text", "the planner alone"),
    ("people", "what is shown of containers; the numbers are those of events"),
    ("runc_flags", "the command line alone"),
    ("seccomp_vs_libseccomp", "the compiler alone, millions of verdicts"),
    ("settings", "the planner alone; reads the sources"),
    ("policy_files", "needs podman; what it says of bundles is policy's"),
    ("buildah", "needs buildah"),
    ("containerd", "needs containerd"),
    ("debian", "needs a mirror of Debian's"),
    ("docker", "needs docker"),
    ("podman_errors", "needs podman; vm_systemd has what is about the machine"),
    ("podman_life", "needs podman; vm_systemd has what is about the machine"),
    ("podman_options", "needs podman; vm_systemd has what is about the machine"),
    ("podman_rootless", "needs podman and a network"),
];

pub fn list() {
    for (lane, names) in [("resources", RESOURCES.as_slice()), ("systemd", SYSTEMD.as_slice())] {
        names.iter().for_each(|name| println!("{lane}: {name}"));
    }
    BY_NAME.iter().for_each(|name| println!("resources, by name: {name}: long under emulation"));
    LEFT_OUT.iter().for_each(|(name, why)| println!("left out: {name}: {why}"));
}

/// Builds the tests and chooses: those of the lane, or those asked for, as NAME or NAME::PART-OF-A-TEST'S-NAME.
pub fn jobs(lane: &str, wanted: &[String]) -> Outcome<Vec<Job>> {
    let built = build()?;
    let tests: Vec<&Built> = built.iter().filter(|built| built.is_test).collect();
    for Built { name, .. } in &tests {
        let known = RESOURCES.iter().chain(&SYSTEMD).chain(&BY_NAME).chain(LEFT_OUT.iter().map(|(name, _)| name));
        if !known.into_iter().any(|known| known == name) {
            return Err(format!(
                "tests/tests/{name}.rs is in no lane, nor is it left out: see tests/src/bin/vm/suite.rs"
            ));
        }
    }
    let of_lane = if lane == "systemd" { SYSTEMD.as_slice() } else { RESOURCES.as_slice() };
    let mut names: Vec<String> = wanted.to_vec();
    if names.is_empty() {
        names = of_lane.iter().map(ToString::to_string).collect();
    }
    let is_helper = |built: &&Built| HELPERS.contains(&built.name.as_str());
    let helpers: Vec<PathBuf> = built.iter().filter(is_helper).map(|built| built.path.clone()).collect();
    let job = |wanted: &String| {
        let (name, filter) = wanted.split_once("::").unwrap_or((wanted, ""));
        let test = tests.iter().find(|test| test.name == name).ok_or(format!("there is no test program {name}"))?;
        let arguments = if filter.is_empty() { Vec::new() } else { vec![filter.to_string()] };
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
