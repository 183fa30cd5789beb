//! What a full `linux.resources` costs: `run` with it beside `run` without, each runtime against itself.
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rspawn_tests::{Bundle, program};
use serde_json::{Value, json};

use crate::contestants::{Contestant, find_program, quiet, works};
use crate::time::{measure, median_of, print_table_beside};
use crate::{headline, skipped};

/// A runtime's name, without and with resources.
const NAMES: [(&str, &str, &str); 3] = [
    ("rspawn", "rspawn, no resources", "rspawn, full resources"),
    ("runc", "runc, no resources", "runc, full resources"),
    ("crun", "crun, no resources", "crun, full resources"),
];

pub fn resources_section(runs: usize) {
    headline(&format!(
        "cost of linux.resources: time of `run` with /bin/true, milliseconds, {runs} interleaved runs of each"
    ));
    let (without, with) = (bundle(None), bundle(Some(resources())));
    let mut contestants = Vec::new();
    for (name, bare, full) in NAMES {
        let found = if name == "rspawn" { Some(program(name)) } else { find_program(name) };
        let Some(path) = found else {
            skipped(name, "not installed");
            continue;
        };
        for (label, bundle) in [(bare, &without), (full, &with)] {
            match works(command(&path, bundle)) {
                Ok(command) => contestants.push(Contestant { name: label, command }),
                Err(reason) => skipped(label, &reason),
            }
        }
    }
    let measured = measure(contestants, runs);
    print_table_beside(&measured, NAMES[0].2);
    for (name, bare, full) in NAMES {
        if let (Some(bare), Some(full)) = (median_of(&measured, bare), median_of(&measured, full)) {
            println!("  {name}: with resources {:.2} x without", full / bare);
        }
    }
}

/// Every field that this machine's controllers have a file for, with values that hinder nobody.
fn resources() -> Value {
    let has = |controller: &str| {
        let listed = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        fs::exists(format!("/sys/fs/cgroup/{controller}")).unwrap_or(false)
            || listed.split_whitespace().any(|name| name == controller)
    };
    let mut resources = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        {"allow": true, "type": "c", "major": 136, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"},
    ]});
    if has("memory") {
        resources["memory"] = json!({"limit": 512 << 20, "reservation": 256 << 20});
    }
    if has("pids") {
        resources["pids"] = json!({"limit": 500});
    }
    if has("cpu") {
        resources["cpu"] = json!({"shares": 512, "quota": 200_000, "period": 100_000});
    }
    if has("cpuset") {
        let file = |name: &str| ["", "cpuset/"].map(|directory| format!("/sys/fs/cgroup/{directory}cpuset.{name}"));
        let value = |name: &str| file(name).iter().find_map(|path| fs::read_to_string(path).ok());
        for name in ["cpus", "mems"] {
            if let Some(value) = value(name).filter(|value| !value.trim().is_empty()) {
                resources["cpu"][name] = json!(value.trim());
            }
        }
    }
    resources
}

fn bundle(resources: Option<Value>) -> Bundle {
    let bundle = Bundle::new().with_args(&["/bin/true"]).with(|config| {
        config["root"]["readonly"] = json!(true);
        // The newest that Debian's crun takes.
        config["ociVersion"] = json!("1.0.2");
        if let Some(resources) = resources {
            config["linux"]["resources"] = resources;
        }
    });
    bundle.write_config();
    bundle
}

fn command(path: &PathBuf, bundle: &Bundle) -> Command {
    let mut command = Command::new(path);
    command.arg("--root").arg(bundle.state_root());
    command.arg("run").arg("--bundle").arg(bundle.path()).arg(&bundle.id);
    quiet(command)
}
