//! A tenth of the fault lane: which tenth, the commit says. All of it, as any contributor can run it:
//!
//! ```sh
//! cargo build --release && sudo target/*/release/faults && sudo target/*/release/faults --kills
//! ```
use std::process::Command;

use rspawn_tests::sources::workspace;
use rspawn_tests::{cannot_make_containers, program};

/// The commit's hash; that of another day where there is no git.
fn seed() -> String {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(workspace()).output();
    let hash = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    hash.map_or_else(|| "none".into(), |hash| String::from_utf8_lossy(&hash).trim().to_string())
}

fn run(options: &[&str]) {
    if cannot_make_containers() {
        return;
    }
    let seed = seed();
    println!("seed: {seed}");
    let mut command = Command::new(program("faults"));
    command.args(["--tenth", "--seed", &seed, "--seconds", "80"]).args(options);
    let output = command.output().expect("the fault lane");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "seed {seed}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Zero fail-open, zero hangs, zero leftovers after `delete --force`, zero lies.
#[test]
fn a_tenth_of_all_calls_fails() {
    run(&[]);
}

/// The same where the process is killed at the call.
#[test]
fn at_a_tenth_of_all_calls_their_process_is_killed() {
    run(&["--kills"]);
}
