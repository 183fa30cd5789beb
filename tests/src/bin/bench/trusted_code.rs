//! How much code has privileges, as tests/budget.rs counts it, and the crates that others wrote.
use std::collections::BTreeSet;
use std::process::Command;

use rspawn_tests::sources::{BESIDE, PRIVILEGED, lines_of, workspace};

use crate::{headline, skipped};

pub fn trusted_code_section() {
    headline("privileged code: lines that are not blank, comment or test");
    let mut sum = 0;
    for part in PRIVILEGED {
        let lines = lines_of(part);
        println!("  {part:<20} {lines:>6}");
        sum += lines;
    }
    println!("  {:<20} {sum:>6}", "together");
    for part in BESIDE {
        println!("  {part:<20} {:>6}, beside them", lines_of(part));
    }
    match third_party_crates() {
        Some(crates) => {
            let names = crates.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            println!("  crates of others in rspawn-setup, build-time ones included: {} ({names})", crates.len());
        }
        None => skipped("crates", "`cargo tree` does not run"),
    }
}

fn third_party_crates() -> Option<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "-p", "rspawn-setup", "-e", "normal", "--prefix", "none", "--offline", "--format", "{p}"];
    let output = Command::new(cargo).args(arguments).current_dir(workspace()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.starts_with("rspawn"));
    Some(names.map(str::to_string).collect())
}
