//! What keeps the trusted part small: its size, its dependencies, where `unsafe` may be.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a source directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources_of(crates: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    crates.iter().for_each(|name| sources(&workspace().join(name).join("src"), &mut found));
    found
}

/// Lines that are neither blank nor comment, up to the unit tests, which end a file.
fn code_lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).expect("a source file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

const PRIVILEGED: [&str; 5] = ["proto", "helpers/sys", "helpers/start", "helpers/setup", "init"];

/// The goal was 4,000 lines, and is not reached: with cgroups, hooks, the life cycle, exec and user namespaces there are
/// more. This holds what there is, so that it can only come nearer. bubblewrap has 4,214 by the same count, and none of
/// these.
const MOST_LINES: usize = 5988;

#[test]
fn the_privileged_part_stays_small() {
    let lines: usize = sources_of(&PRIVILEGED).iter().map(|path| code_lines(path)).sum();
    println!("privileged code: {lines} lines");
    assert!(lines <= MOST_LINES, "{lines} lines");
}

#[test]
fn privileged_programs_link_few_crates_and_no_parser() {
    for program in ["rspawn-setup", "rspawn-init"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal,no-proc-macro", "--prefix", "none", "--package", program])
            .current_dir(workspace())
            .output()
            .expect("cargo tree");
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let text = String::from_utf8(tree.stdout).expect("UTF-8");
        let mut foreign: Vec<&str> =
            text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.starts_with("rspawn")).collect();
        foreign.sort();
        foreign.dedup();
        assert_eq!(foreign, ["bincode", "libc", "unty"], "{program}");
    }
}

#[test]
fn unsafe_is_confined() {
    let allowed = ["helpers/sys/src", "helpers/start/src"];
    for path in
        sources_of(&["proto", "helpers/sys", "helpers/start", "helpers/setup", "helpers/scope", "init", "parent"])
    {
        let relative = path.strip_prefix(workspace()).expect("inside the workspace").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a source file");
        let uses = text.lines().any(|line| {
            let line = line.trim();
            !line.starts_with("//")
                && (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        });
        assert!(!uses || allowed.iter().any(|directory| relative.starts_with(directory)), "{relative} has unsafe code");
    }
    for library in ["proto", "helpers/setup", "init", "parent"] {
        let text = fs::read_to_string(workspace().join(library).join("src/lib.rs")).expect("lib.rs");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{library}");
    }
}

#[test]
fn files_stay_readable() {
    for path in
        sources_of(&["proto", "helpers/sys", "helpers/start", "helpers/setup", "helpers/scope", "init", "parent"])
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lines = code_lines(&path);
        // Tables of numbers are not read.
        assert!(lines <= 400 || name.starts_with("syscalls_"), "{}: {lines} lines", path.display());
    }
}
