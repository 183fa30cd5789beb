//! Every test program is in its folder, in Cargo.toml, and in the list of lanes; every exception is one test's.
use std::collections::BTreeSet;
use std::fs;

use rspawn_tests::lanes::exceptions::{EXCEPTIONS, WITHOUT_COMMANDS};
use rspawn_tests::lanes::programs::{AsUser, Machine, PROGRAMS, find};
use rspawn_tests::sources::workspace;

/// What each folder is for.
const FOLDERS: [(&str, &str); 7] = [
    ("spec", "properties of config.json, looked at from inside"),
    ("cli", "commands, their options, and what they print"),
    ("clients", "engines that drive rspawn"),
    ("hostile", "attackers: a parent that was taken over, a neighbour, a user"),
    ("faults", "calls that fail, processes that are killed, resources that run short"),
    ("vm", "what needs the virtual machine"),
    ("source", "what the sources and documents must keep"),
];

/// Folder, name and text of every file at the top of a folder.
fn files() -> Vec<(String, String, String)> {
    let top = workspace().join("tests/tests");
    let mut found = Vec::new();
    for folder in fs::read_dir(top).expect("the folders").map(|entry| entry.expect("a folder")) {
        let name = folder.file_name().into_string().expect("UTF-8");
        assert!(FOLDERS.iter().any(|(known, _)| *known == name), "tests/tests/{name}: what is it for?");
        for file in fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("a file")) {
            let program = file.file_name().into_string().expect("UTF-8");
            if let Some(program) = program.strip_suffix(".rs") {
                let text = fs::read_to_string(file.path()).expect("a source file");
                found.push((name.clone(), program.to_string(), text));
            }
        }
    }
    found
}

#[test]
fn every_program_is_in_cargo_toml_and_in_the_list() {
    let manifest = fs::read_to_string(workspace().join("tests/Cargo.toml")).expect("the manifest");
    let mut names = BTreeSet::new();
    for (folder, name, text) in files() {
        let entry = format!("[[test]]\nname = \"{name}\"\npath = \"tests/{folder}/{name}.rs\"\n");
        assert!(manifest.contains(&entry), "not in tests/Cargo.toml:\n{entry}");
        let program = find(&name).unwrap_or_else(|| panic!("{name} is not in tests/src/lanes/programs.rs"));
        let again = text.contains("\nrspawn_tests::also_as_an_ordinary_user!();\n");
        assert_eq!(again, program.as_user == AsUser::Runs, "{name}: also_as_an_ordinary_user!() and the list differ");
        names.insert(name);
    }
    let unknown: Vec<&str> =
        PROGRAMS.iter().map(|program| program.name).filter(|name| !names.contains(*name)).collect();
    assert_eq!((unknown, PROGRAMS.len()), (Vec::new(), names.len()));
}

#[test]
fn what_is_left_out_has_a_reason() {
    for program in &PROGRAMS {
        let reasons = [matches!(program.machine, Machine::LeftOut("")), matches!(program.as_user, AsUser::Not(""))];
        assert_eq!(reasons, [false, false], "{}", program.name);
    }
    let mut names = BTreeSet::new();
    for (name, reason) in EXCEPTIONS.iter().chain(&WITHOUT_COMMANDS) {
        let program = name.split("::").next().and_then(find).unwrap_or_else(|| panic!("{name}: of which program?"));
        assert_eq!(program.as_user, AsUser::Runs, "{name} is an exception of a program that does not run");
        assert!(!reason.is_empty() && names.insert(name), "{name} has no reason, or is listed twice");
    }
}
