//! No error is thrown away but those of a list, each with its reason: in all of the privileged code, and in what the
//! parent decides life, cgroups, ids, devices, policy and removal by.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rspawn_tests::sources::{sources_of, workspace};

/// How errors are thrown away.
const HABITS: [&str; 8] = [
    "let _ =", ".ok()", ".unwrap_or_default()", ".is_ok_and(", ".is_err_and(", ".unwrap_or(", ".flatten()",
    "drop(process::",
];

/// What gives an Option, in the standard library: no error is lost where it is nothing.
const GIVES_OPTION: [&str; 21] = [
    "as_deref", "err", "file_name", "file_stem", "filter", "find", "find_map", "first", "get", "last", "max", "min",
    "next", "nth", "parent", "pop", "position", "rsplit_once", "split_once", "strip_prefix", "strip_suffix",
];

/// Of the parent, what decides.
const DECIDES: [&str; 57] = [
    "parent/host/src/containers/cgroups.rs",
    "parent/host/src/containers/processes.rs",
    "parent/host/src/containers/running.rs",
    "parent/host/src/deputies/ephemeral_dir.rs",
    "parent/host/src/deputies/stats_opener.rs",
    "parent/host/src/errors.rs",
    "parent/host/src/facts/cgroups.rs",
    "parent/host/src/facts/ids.rs",
    "parent/host/src/facts/mod.rs",
    "parent/host/src/facts/mountinfo.rs",
    "parent/host/src/facts/resctrl.rs",
    "parent/host/src/facts/systemd.rs",
    "parent/host/src/inputs/bundle.rs",
    "parent/host/src/inputs/cli_inputs.rs",
    "parent/host/src/inputs/policy_file.rs",
    "parent/host/src/inputs/policy_links.rs",
    "parent/host/src/sandbox.rs",
    "parent/host/src/state/container.rs",
    "parent/host/src/state/ending.rs",
    "parent/host/src/state/files.rs",
    "parent/host/src/state/head.rs",
    "parent/host/src/state/new.rs",
    "parent/host/src/state/root.rs",
    "parent/host/src/state/unread.rs",
    "parent/host/src/state/unreadable.rs",
    "parent/host/src/user_namespace.rs",
    "parent/planner/src/policy/mod.rs",
    "parent/planner/src/policy/words.rs",
    "parent/planner/src/sections/cgroup.rs",
    "parent/planner/src/sections/cgroup_mount.rs",
    "parent/planner/src/sections/cgroups_path.rs",
    "parent/planner/src/sections/device_rules.rs",
    "parent/planner/src/sections/devices.rs",
    "parent/planner/src/sections/filesystems.rs",
    "parent/planner/src/sections/namespaces.rs",
    "parent/planner/src/sections/rootless.rs",
    "parent/planner/src/sections/scope.rs",
    "parent/planner/src/sections/scope_properties.rs",
    "parent/src/commands/console_choice.rs",
    "parent/src/commands/create_run.rs",
    "parent/src/commands/delete.rs",
    "parent/src/commands/exec.rs",
    "parent/src/commands/exec_spec.rs",
    "parent/src/commands/kill.rs",
    "parent/src/commands/list.rs",
    "parent/src/commands/notes.rs",
    "parent/src/commands/pause.rs",
    "parent/src/commands/ps.rs",
    "parent/src/commands/start.rs",
    "parent/src/commands/state.rs",
    "parent/src/commands/update.rs",
    "parent/src/commands/view.rs",
    "parent/src/session/event_loop.rs",
    "parent/src/session/helper_process.rs",
    "parent/src/session/hooks.rs",
    "parent/src/session/run_outcome.rs",
    "parent/src/session/signals.rs",
];

/// The call that a piece of code ends with.
fn last_call(code: &str) -> Option<&str> {
    let mut depth = 0;
    let open = code.strip_suffix(')')?.char_indices().rev().find(|(_, character)| {
        depth += match character {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        depth < 0
    })?;
    let named = &code[..open.0];
    let named = if named.ends_with('>') { named.rsplit_once("::<")?.0 } else { named };
    named.rsplit(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// Whether a line throws away what may be an error. What is nothing, or a text that is not a number where that is handed
/// on, is none; what the line does not tell is taken for one.
fn throws_away(line: &str) -> bool {
    HABITS.iter().any(|habit| {
        line.match_indices(habit).any(|(at, _)| {
            let (call, rest) = (last_call(&line[..at]), &line[at + habit.len()..]);
            match *habit {
                ".ok()" => !(call == Some("parse") && rest.starts_with('?')),
                ".unwrap_or_default()" | ".unwrap_or(" => !call.is_some_and(|call| GIVES_OPTION.contains(&call)),
                _ => true,
            }
        })
    })
}

type Lines = BTreeMap<(String, String), usize>;

/// The lines of some files that throw something away, with how often each is there.
fn found(files: Vec<PathBuf>) -> Lines {
    let mut found = Lines::new();
    for path in files {
        let relative = path.strip_prefix(workspace()).expect("inside the workspace").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//") && throws_away(line)) {
            *found.entry((relative.clone(), line.to_string())).or_default() += 1;
        }
    }
    found
}

/// Those that a list allows. There is a reason above each.
fn allowed(list: &str) -> Lines {
    let text = fs::read_to_string(workspace().join("tests").join(list)).expect("the list");
    let mut allowed = Lines::new();
    let mut reason = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("    ") {
            Some(entry) => {
                assert!(reason, "{entry}: there is no reason above it");
                let (path, code) = entry.split_once(": ").expect("a path, and a line of code");
                *allowed.entry((path.into(), code.trim().into())).or_default() += 1;
            }
            None => reason = true,
        }
    }
    allowed
}

fn compare(found: &Lines, list: &str, most: usize) {
    let allowed = allowed(list);
    let new: Vec<_> = found.iter().filter(|(line, count)| allowed.get(line) != Some(count)).collect();
    let gone: Vec<_> = allowed.keys().filter(|line| !found.contains_key(line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "not in tests/{list}: {new:#?}\nthere no more: {gone:#?}");
    assert!(found.len() <= most, "{} lines: the list is to be short", found.len());
}

#[test]
fn no_error_is_thrown_away_but_those_of_the_list() {
    let files = sources_of(["proto", "helpers/sys", "helpers/setup", "init"]);
    compare(&found(files), "swallowed-errors.txt", 65);
}

#[test]
fn the_parent_decides_nothing_by_an_error() {
    let files = DECIDES.iter().map(|name| workspace().join(name)).collect();
    compare(&found(files), "swallowed-errors-parent.txt", 69);
    // What comes to the state of containers decides about it.
    let all: BTreeSet<PathBuf> = sources_of(["parent/host"]).into_iter().collect();
    let below = |path: &PathBuf| path.strip_prefix(workspace()).expect("inside the workspace").to_path_buf();
    let state = all.iter().map(below).filter(|path| path.starts_with("parent/host/src/state"));
    let forgotten: Vec<PathBuf> =
        state.filter(|path| !path.ends_with("mod.rs") && !DECIDES.iter().any(|name| path == Path::new(name))).collect();
    assert!(forgotten.is_empty(), "not in DECIDES: {forgotten:?}");
}

#[test]
fn the_habits_are_known() {
    for line in [
        "let words = read(path).unwrap_or_default();",
        "let _ = file.write(text);",
        "text.parse().ok()",
        "open(path).ok()?",
        "text.get(1).and_then(read).unwrap_or(0)",
        ".unwrap_or_default()",
        "file.metadata().is_ok_and(|found| found.is_dir())",
    ] {
        assert!(throws_away(line), "{line}");
    }
    for line in [
        "let line = lines.next().unwrap_or_default();",
        "path.split_once('/').unwrap_or((\"\", path))",
        "text.parse::<u32>().ok()?",
        "words.iter().find(|word| is_it(word)).unwrap_or(&own)",
        "let read = read(path)?;",
    ] {
        assert!(!throws_away(line), "{line}");
    }
}
