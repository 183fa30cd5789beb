//! Bundles that say next to nothing, for `--oci-bundle`.
use std::fs;
use std::process::Command;

use serde_json::json;

use crate::{Bundle, Output, finish, program};

/// The smallest bundle that systemd-nspawn runs.
pub fn silent() -> Bundle {
    let mut bundle = Bundle::new();
    bundle.config = json!({"ociVersion": "1.0.0", "root": {"path": "rootfs"},
        "mounts": [{"destination": "/root", "type": "tmpfs", "source": "tmpfs"}]});
    // What a user runs makes no place for a mount in a directory of somebody else's.
    fs::create_dir_all(bundle.rootfs().join("root")).expect("a directory of the root");
    bundle
}

/// `rspawn run --oci-bundle` on a bundle, with options, and a command behind `--`; not started yet.
pub fn command(bundle: &Bundle, words: &[&str]) -> Command {
    bundle.write_config();
    let mut command = Command::new(program("rspawn"));
    command.arg("--root").arg(bundle.state_root()).arg("run");
    command.arg(format!("--oci-bundle={}", bundle.path().display())).args(words);
    bundle.by_its_user(command)
}

/// Runs it to its end, stdin empty.
#[track_caller]
pub fn run(bundle: &Bundle, words: &[&str]) -> Output {
    let output = finish(command(bundle, words), b"");
    bundle.assert_nothing_left_by(&output);
    output
}

/// `rspawn plan` or `check` of the same.
#[track_caller]
pub fn look(bundle: &Bundle, verb: &str, words: &[&str]) -> Output {
    bundle.write_config();
    let mut command = Command::new(program("rspawn"));
    command.arg(verb).arg(format!("--oci-bundle={}", bundle.path().display())).args(words);
    finish(bundle.by_its_user(command), b"")
}
