//! The benchmark: `cargo run --release -p rspawn-tests --bin bench`, as root; with `--features libseccomp` it counts
//! libseccomp's BPF instructions too (needs libseccomp.a).
//!
//! `--runs N`: runs of each program (default 300); `--quick`: 40 runs; `--only SECTION`: one of time, life-cycle,
//! resources, policy, phases, memory, sizes, seccomp, rootless; `--many`: nothing but many containers, which takes minutes.
//! Everything is measured in one run on one machine; what is not installed is skipped, and said so.
#![forbid(unsafe_code)]

mod contestants;
mod life_cycle;
mod many;
mod memory;
mod phases;
mod policy;
mod processes;
mod resources;
mod rootless;
mod seccomp;
mod sizes;
/// The seccomp tests' own: the same filter by libseccomp.
#[cfg(feature = "libseccomp")]
#[path = "../../../tests/spec/support/mod.rs"]
mod support;
mod time;
mod trusted_code;

use std::process::{Command, ExitCode};

use contestants::Ground;

const SECTIONS: [&str; 9] =
    ["time", "life-cycle", "resources", "policy", "phases", "memory", "sizes", "seccomp", "rootless"];

struct Options {
    runs: usize,
    only: Option<String>,
    many: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("bench: {message}\nusage: bench [--runs N] [--quick] [--many] [--only {}]", SECTIONS.join("|"));
            return ExitCode::FAILURE;
        }
    };
    if rspawn_tests::cannot_make_containers() || !build_programs() {
        return ExitCode::FAILURE;
    }
    if options.many {
        many::many_section();
        return ExitCode::SUCCESS;
    }
    let ground = Ground::prepare();
    let wanted = |section: &str| options.only.as_deref().is_none_or(|only| only == section);
    if wanted("time") {
        time::time_section(&ground, options.runs);
    }
    if wanted("life-cycle") {
        life_cycle::life_cycle_section((options.runs / 4).max(10));
    }
    if wanted("resources") {
        resources::resources_section((options.runs / 4).max(10));
    }
    if wanted("policy") {
        policy::policy_section(options.runs);
    }
    if wanted("phases") {
        phases::phases_section(&ground, (options.runs / 4).max(10));
    }
    if wanted("memory") {
        memory::memory_section();
    }
    if wanted("sizes") {
        sizes::sizes_section();
        trusted_code::trusted_code_section();
    }
    if wanted("seccomp") {
        seccomp::seccomp_section();
    }
    if wanted("rootless") {
        // The last one: it leaves this process in a mount namespace of its own.
        rootless::rootless_section((options.runs / 4).max(10));
    }
    ExitCode::SUCCESS
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { runs: 300, only: None, many: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => options.runs = 40,
            "--many" => options.many = true,
            "--runs" => {
                let number = words.next().and_then(|word| word.parse().ok()).filter(|runs| *runs > 0);
                options.runs = number.ok_or("--runs takes a number above 0")?;
            }
            "--only" => {
                let section = words.next().filter(|word| SECTIONS.contains(&word.as_str()));
                options.only = Some(section.ok_or("--only takes the name of a section")?);
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

/// `cargo run` has built this program only: what it measures must be of the same source.
fn build_programs() -> bool {
    const PACKAGES: [&str; 4] = ["rspawn", "rspawn-setup", "rspawn-init", "rspawn-tests"];
    const PROGRAMS: [&str; 4] = ["rspawn", "rspawn-setup", "rspawn-init", "floor"];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--release", "--manifest-path", manifest]);
    build.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    build.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    let built = build.status();
    match built {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("bench: cargo is not here ({error}): measuring the programs that were built before");
            true
        }
    }
}

/// The headline of a section.
fn headline(text: &str) {
    println!("\n== {text}");
}

/// Says that something is not measured, and why.
fn skipped(what: &str, reason: &str) {
    println!("  SKIPPED {what}: {reason}");
}
