//! The virtual machine that `cargo run --release -p rspawn-tests --bin vm` boots (tests/vm.md).
use std::process::Command;

use crate::{finish, skip_unless};

/// Set by what runs the tests there, to the lane's name.
const VARIABLE: &str = "RSPAWN_VM";

/// True, with the reason printed, for a test that is about the virtual machine and runs elsewhere.
pub fn outside() -> bool {
    outside_of("resources")
}

/// The same for a test of the lane in which systemd runs the machine.
pub fn outside_of_systemd() -> bool {
    outside_of("systemd")
}

fn outside_of(lane: &str) -> bool {
    let inside = std::env::var(VARIABLE).is_ok_and(|here| here == lane);
    skip_unless(inside, &format!("it runs in the virtual machine's lane `{lane}`: see tests/vm.md"))
}

/// What a command prints, whatever it ends with.
#[track_caller]
pub fn prints(words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    finish(command, b"").stdout.trim().to_string()
}
