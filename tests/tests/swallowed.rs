//! In the privileged code no error is thrown away but those of a list, each with its reason.
use std::collections::BTreeMap;
use std::fs;

use rspawn_tests::sources::{sources_of, workspace};

/// How errors are thrown away.
const HABITS: [&str; 8] = [
    "let _ =", ".ok()", "unwrap_or_default()", ".is_ok_and(", ".is_err_and(", ".unwrap_or(", ".flatten()",
    "drop(process::",
];

#[test]
fn no_error_is_thrown_away_but_those_of_the_list() {
    let list = fs::read_to_string(workspace().join("tests/swallowed-errors.txt")).expect("the list");
    let mut allowed: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut reason = false;
    for line in list.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("    ") {
            Some(entry) => {
                assert!(reason, "{entry}: there is no reason above it");
                let (path, code) = entry.split_once(": ").expect("a path, and a line of code");
                *allowed.entry((path.into(), code.trim().into())).or_default() += 1;
            }
            None => reason = true,
        }
    }
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for path in sources_of(["proto", "helpers/sys", "helpers/setup", "init"]) {
        let relative = path.strip_prefix(workspace()).expect("inside the workspace").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            if HABITS.iter().any(|habit| line.contains(habit)) {
                *found.entry((relative.clone(), line.to_string())).or_default() += 1;
            }
        }
    }
    let new: Vec<_> = found.iter().filter(|(line, count)| allowed.get(line) != Some(count)).collect();
    let gone: Vec<_> = allowed.keys().filter(|line| !found.contains_key(line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "not in tests/swallowed-errors.txt: {new:#?}\nthere no more: {gone:#?}");
    // Most are Options, which the words cannot tell from errors.
    assert!(found.len() <= 76, "{} lines: the list is to be short", found.len());
}
