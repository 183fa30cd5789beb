//! How much code has privileges: lines of proto, helpers and init, and the crates that others wrote.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{headline, skipped};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub fn trusted_code_section() {
    headline("privileged code: lines that are not blank, comment or test");
    let mut sum = 0;
    for part in ["proto", "helpers", "init"] {
        let lines: usize = sources(&Path::new(ROOT).join(part)).iter().map(|path| count(path)).sum();
        println!("  {part:<20} {lines:>6}");
        sum += lines;
    }
    println!("  {:<20} {sum:>6}", "together");
    match third_party_crates() {
        Some(crates) => {
            let names = crates.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            println!("  crates of others in rspawn-setup, build-time ones included: {} ({names})", crates.len());
        }
        None => skipped("crates", "`cargo tree` does not run"),
    }
}

/// Every Rust source below a directory that is part of a program.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.as_str() {
            "target" | "tests" | "fuzz" | "benches" | "tests.rs" => {}
            _ if path.is_dir() => found.extend(sources(&path)),
            _ if name.ends_with(".rs") => found.push(path),
            _ => {}
        }
    }
    found
}

fn count(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let mut counted = 0;
    while let Some(line) = lines.next() {
        match line.trim() {
            "#[cfg(test)]" => skip_item(&mut lines),
            code if code.is_empty() || code.starts_with("//") => {}
            _ => counted += 1,
        }
    }
    counted
}

/// Skips one item at the outermost level: up to its closing brace or semicolon, as rustfmt puts them.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    for line in lines {
        if line == "}" || (line.ends_with(';') && !line.starts_with(' ')) {
            return;
        }
    }
}

fn third_party_crates() -> Option<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "-p", "rspawn-setup", "-e", "normal", "--prefix", "none", "--offline", "--format", "{p}"];
    let output = Command::new(cargo).args(arguments).current_dir(ROOT).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.starts_with("rspawn"));
    Some(names.map(str::to_string).collect())
}
