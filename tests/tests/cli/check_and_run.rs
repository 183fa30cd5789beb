//! `rspawn check` and `rspawn run` agree: over a corpus of configurations, what one calls an error the other refuses, and
//! at the same place.
#[path = "check_and_run/corpus.rs"]
mod corpus;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use corpus::Case;
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, program, skip_unless};
use serde_json::Value;

rspawn_tests::also_as_an_ordinary_user!();

/// What no look at a configuration tells, with the reason.
const NOT_KNOWN_BEFORE: &[(&str, &str)] = &[
    ("a hook that fails", "only a hook knows how it will end"),
    ("a startContainer hook that fails", "only a hook knows how it will end"),
    ("a procfs with ids of its own", "no kernel says which filesystems can be id-mapped"),
    ("no memory", "the kernel kills the payload as it executes it; how much it needs, it alone knows"),
    ("a sysctl that is too small", "which numbers it takes, only the kernel knows"),
    ("a sysctl of queues that is too large", "which numbers it takes, only the kernel knows"),
    ("a sysctl that is text nobody knows", "which words it takes, only the kernel and its modules know"),
];

/// And what of an ordinary user's alone.
const NOT_KNOWN_OF_USERS: &[(&str, &str)] = &[(
    "an overlay of two layers",
    "of layers with mounts of the host's below them, the kernel refuses some where it was made by a user",
)];

/// Where `check` names a cause of which a start sees the effect alone, at another place.
const CAUSES: [&str; 2] = ["/linux/seccomp", "/linux/resources/memory/limit"];

/// The pointers of the errors that `check` finds.
fn check(bundle: &Bundle, options: &[&str]) -> Result<Vec<String>, Output> {
    let mut command = Command::new(program("rspawn"));
    command.arg("check").arg("--bundle").arg(bundle.path()).args(options).arg("--format=json");
    let output = finish(bundle.by_its_user(command), b"");
    let Ok(document) = serde_json::from_str::<Value>(&output.stdout) else { return Err(output) };
    let errors = document["findings"].as_array().expect("findings").iter();
    let errors = errors.filter(|finding| finding["severity"] == "error");
    let pointers: Vec<String> = errors.map(|error| error["pointer"].as_str().expect("a pointer").into()).collect();
    assert_eq!(output.status, i32::from(!pointers.is_empty()), "{output:?}");
    Ok(pointers)
}

/// Whether an error of `run` is about what one of the pointers is about: itself, or a part of it.
fn names_one(error: &str, pointers: &[String]) -> bool {
    let place = error.trim_start_matches("rspawn: ").trim_start_matches("config.json ").split(": ").next();
    let place = if error.contains("exec: ") { "/process/args" } else { place.unwrap_or_default() };
    let is_cause = |pointer: &String| CAUSES.contains(&pointer.as_str());
    pointers
        .iter()
        .any(|pointer| is_cause(pointer) || pointer.starts_with(place) || place.starts_with(pointer.as_str()))
}

/// In what `check` and `run` differ about a configuration.
fn difference(case: &Case) -> Option<String> {
    let mut bundle = Bundle::new().with_args(&["true"]);
    (case.change)(&mut bundle);
    bundle.write_config();
    // An error of the command line, which has no findings, is one.
    let checked = check(&bundle, case.options);
    let run = finish(bundle.command(case.options), b"");
    bundle.assert_nothing_left_by(&run);
    let error = run.stderr.lines().next().unwrap_or_default();
    let agree = match &checked {
        Err(output) => run.status != 0 && error == output.stderr.trim_end(),
        Ok(pointers) if run.status == 0 => pointers.is_empty(),
        // One that a signal ended has said nothing.
        Ok(pointers) => !pointers.is_empty() && (error.is_empty() || names_one(error, pointers)),
    };
    let is_in = |list: &[(&str, &str)]| list.iter().any(|(name, _)| *name == case.name);
    let of_user = bundle.user.is_some();
    match (agree, is_in(NOT_KNOWN_BEFORE) || of_user && is_in(NOT_KNOWN_OF_USERS)) {
        (true, false) | (false, true) => None,
        // Some of it is refused to users by rules that are known.
        (true, true) if of_user => None,
        (true, true) => Some(format!("{}: is known before, so it is no exception", case.name)),
        (false, false) => Some(format!("{}:\n  check: {checked:?}\n  run: {} {error}", case.name, run.status)),
    }
}

#[track_caller]
fn agree(cases: &[Case]) {
    if cannot_make_containers() {
        return;
    }
    let different: Vec<String> = cases.iter().filter_map(difference).collect();
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn about_the_bundle() {
    agree(corpus::START);
}

#[test]
fn about_the_command() {
    agree(corpus::COMMANDS);
}

#[test]
fn about_namespaces() {
    agree(corpus::NAMESPACES);
}

#[test]
fn about_hooks() {
    agree(corpus::HOOKS);
}

#[test]
fn about_mounts() {
    agree(corpus::MOUNTS);
}

#[test]
fn about_places() {
    agree(corpus::PLACES);
}

#[test]
fn about_the_process() {
    agree(corpus::PROCESS);
}

#[test]
fn about_sysctls() {
    agree(corpus::SYSCTLS);
}

#[test]
fn about_limits() {
    agree(corpus::LIMITS);
}

#[test]
fn about_devices_and_filters() {
    agree(corpus::OTHERS);
}

#[test]
fn about_options() {
    agree(corpus::OPTIONS);
}

/// The default bundle of runc, as it is and with a command that ends.
#[test]
fn the_bundle_of_runc_spec() {
    if cannot_make_containers() || skip_unless(Path::new("/usr/sbin/runc").exists(), "runc is not installed") {
        return;
    }
    let mut bundle = Bundle::new();
    let mut spec = Command::new("/usr/sbin/runc");
    spec.arg("spec").arg("--bundle").arg(bundle.path());
    if bundle.user.is_some() {
        spec.arg("--rootless");
    }
    finish(bundle.by_its_user(spec), b"").ok();
    bundle.config = serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(check(&bundle, &[]).unwrap(), Vec::<String>::new());
    let bundle = bundle.with_args(&["true"]).with(|config| config["process"]["terminal"] = false.into());
    assert_eq!(check(&bundle, &[]).unwrap(), Vec::<String>::new());
    bundle.run().ok();
}

/// A cgroup that another container is in.
#[test]
fn a_cgroup_that_is_taken() {
    if cannot_make_containers() {
        return;
    }
    let first = Bundle::script("exec >/dev/null 2>&1; sleep 60");
    let path = format!("/{}", first.id);
    let first = first.with(|config| config["linux"]["cgroupsPath"] = path.clone().into());
    // With no pipe of the test's to hold.
    let mut run = first.command(&["--detach"]);
    assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap().success());
    let second = Bundle::new().with_args(&["true"]).with(|config| config["linux"]["cgroupsPath"] = path.clone().into());
    second.write_config();
    let found = check(&second, &[]).unwrap();
    let refused = second.run().refused();
    let mut delete = Command::new(program("rspawn"));
    delete.arg("--root").arg(first.state_root()).args(["delete", "--force", &first.id]);
    finish(delete, b"").ok();
    assert!(found.iter().all(|pointer| pointer == "/linux/cgroupsPath") && !found.is_empty(), "{found:?}");
    assert!(refused.contains("/linux/cgroupsPath"), "{refused}");
    first.assert_nothing_left();
}

/// `check` and `plan` take the words of `run`: a bundle, a directory, the host's root, and a command.
#[test]
fn the_words_of_run() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    bundle.write_config();
    let (path, root) = (bundle.path().display().to_string(), bundle.rootfs().display().to_string());
    let state = bundle.state_root().display().to_string();
    let ask = |words: &[&str]| {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(&state).args(words);
        finish(bundle.by_its_user(command), b"")
    };
    for source in [&["-b", &path][..], &["--bundle", &path], &["-D", &root], &["--directory", &root], &["--host"]] {
        for (command, works) in [("true", true), ("nosuchcommand", false)] {
            let words = |verb| [&[verb], source, &["--", command]].concat();
            let (checked, run) = (ask(&words("check")), ask(&words("run")));
            assert_eq!((checked.status == 0, run.status == 0), (works, works), "{source:?}: {checked:?}\n{run:?}");
            let planned = ask(&words("plan")).ok();
            assert!(planned.contains(command), "{planned}");
            if !works {
                let reason = run.stderr.trim_start_matches("rspawn: ").trim_end();
                assert!(checked.stdout.contains(reason), "{checked:?}: {reason}");
            }
        }
    }
    bundle.assert_nothing_left();
}

#[test]
fn every_exception_is_in_the_corpus() {
    let names: Vec<&str> = corpus::all().map(|case| case.name).collect();
    let missing: Vec<&str> = NOT_KNOWN_BEFORE
        .iter()
        .chain(NOT_KNOWN_OF_USERS)
        .map(|(name, _)| *name)
        .filter(|name| !names.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
    assert_eq!(twice, None);
}
