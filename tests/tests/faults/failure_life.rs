//! Whatever fails in a command of the life cycle, and whichever of its processes is killed: one error or none, and
//! `delete --force` removes all that is left.
//!
//! As in failure.rs, strace makes the Nth call of a kind fail or kills its caller, in a bounded sample that is the same
//! each time (`RSPAWN_FAULT_SECONDS`, `RSPAWN_FAULTS=all`).
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rspawn_tests::hostile::Numbers;
use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, Output, cannot_make_containers, skip_unless};
use serde_json::{Value, json};

const VERBS: [&str; 4] = ["create", "start", "exec", "delete"];

fn life() -> Life {
    let hook = json!([{"path": "/bin/true"}]);
    Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
        config["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "startContainer": hook,
            "poststart": hook, "poststop": hook});
    }))
}

/// The command under strace. strace stays beside what the command leaves behind, and the command's status is its own.
fn strace(life: &Life, verb: &str, options: &[String]) -> Command {
    let inner = match verb {
        "create" => life.making("create", &[]),
        "exec" => life.exec_command(&[], &["true"]),
        "delete" => life.on_it("delete", &["--force"]),
        verb => life.on_it(verb, &[]),
    };
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(life.bundle.path().join("trace")).args(options);
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

/// Brings the container to where the command applies.
#[track_caller]
fn prepare(life: &Life, verb: &str) {
    if verb != "create" {
        life.created(&[]);
    }
    if matches!(verb, "exec" | "delete") {
        life.started();
    }
}

/// Calls of the command's processes, and how often each is made by any one of them, in an order that is mixed and the
/// same each time.
fn faults(life: &Life, verb: &str) -> Vec<(String, usize)> {
    prepare(life, verb);
    life.run(strace(life, verb, &[])).ok();
    life.delete(&["--force"]).ok();
    life.assert_gone();
    let trace = fs::read_to_string(life.bundle.path().join("trace")).unwrap();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            *counts.entry((pid, name)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    counts.iter().for_each(|((_, name), count)| {
        let known = most.entry(name).or_default();
        *known = (*known).max(*count);
    });
    let mut all: Vec<(String, usize)> =
        most.iter().flat_map(|(name, count)| (1..=(*count).min(6)).map(|n| (name.to_string(), n))).collect();
    let mut numbers = Numbers(23);
    for index in (1..all.len()).rev() {
        all.swap(index, numbers.below(index + 1));
    }
    all
}

/// What is wrong with an answer.
fn fault_of(output: &Output) -> Option<&'static str> {
    let is_error = |line: &&str| line.starts_with("rspawn: ") && !line.starts_with("rspawn: warning: ");
    let errors = output.stderr.lines().filter(is_error).count();
    if output.stderr.contains("panicked") || output.stderr.contains("a bug") {
        return Some("a panic");
    }
    match output.status {
        0 if output.stderr.lines().all(|line| line.starts_with("rspawn: warning: ")) => None,
        1 | 126 | 127 | 255 if errors <= 1 => None,
        137 => None,
        // strace makes the call fail by making it none, for which seccomp ends a confined process (SIGSYS).
        159 => None,
        _ => Some("neither one error nor none"),
    }
}

fn try_all(kind: &str, cannot: &[&str]) {
    if cannot_make_containers() || skip_unless(Path::new("/usr/bin/strace").exists(), "strace is not installed") {
        return;
    }
    let seconds = std::env::var("RSPAWN_FAULT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let all = std::env::var("RSPAWN_FAULTS").is_ok_and(|value| value == "all");
    for verb in VERBS {
        let life = life();
        let mut faults = faults(&life, verb);
        faults.retain(|(name, _)| !cannot.contains(&name.as_str()));
        let (began, mut tried, mut failed) = (Instant::now(), 0, 0);
        for (name, number) in &faults {
            // However slow the machine is, what is asserted below has to be reached.
            let is_enough = tried > 2 && failed > 0;
            if !all && is_enough && began.elapsed() > Duration::from_secs(seconds) / VERBS.len() as u32 {
                break;
            }
            println!("{verb}: {kind} at {name} {number}");
            prepare(&life, verb);
            let output = life.run(strace(&life, verb, &[format!("-einject={name}:{kind}:when={number}")]));
            failed += usize::from(output.status != 0);
            assert_eq!(fault_of(&output), None, "{verb}: {kind} at {name} {number}: {output:?}");
            let output = life.delete(&["--force"]);
            assert_eq!(output.status, 0, "{verb}: {kind} at {name} {number}, then delete: {}", output.stderr);
            life.assert_gone();
            tried += 1;
        }
        println!("{verb}: {tried} of {} faults, {failed} failures", faults.len());
        assert!(tried > 2 && failed > 0, "{verb}: {tried} faults made {failed} failures");
    }
}

#[test]
fn a_call_that_fails() {
    // What cannot fail, or what nothing can be done about: the end, a wait for a child and its end, memory; and
    // close(2), which closes whatever it answers.
    try_all(
        "error=EPERM",
        &[
            "wait4", "rt_sigtimedwait", "exit_group", "rt_sigreturn", "mmap", "mprotect", "brk", "uname",
            "rt_sigaction", "close", "munmap", "pidfd_send_signal", "poll", "futex",
        ],
    );
}

#[test]
fn a_process_that_is_killed() {
    try_all("signal=KILL", &[]);
}

/// The last line of an audit log.
#[track_caller]
fn ending(audit: &Path) -> Value {
    let text = fs::read_to_string(audit).unwrap_or_default();
    let last = text.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((line["phase"].as_str(), line["op"].as_str()), (Some("end"), Some("exit")), "{text}");
    assert_eq!(text.matches("\"phase\":\"end\"").count(), 1, "{text}");
    line
}

/// Whatever fails, and wherever: the audit log ends with it.
#[test]
fn an_audit_log_ends_with_how_it_ended() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("sleep 1000; exit 3");
    let audit = life.bundle.path().join("audit");
    let option = format!("--audit={}", audit.display());
    let fails = |command: Command| {
        let _ = fs::remove_file(&audit);
        let said = error(life.run(command));
        let line = ending(&audit);
        assert_eq!((line["result"].as_str(), &line["payload_status"]), (Some(said.as_str()), &Value::Null));
        said
    };
    let good = fs::read(life.bundle.path().join("config.json")).unwrap();
    let config = |text: &[u8]| fs::write(life.bundle.path().join("config.json"), text).unwrap();
    for verb in ["create", "run"] {
        config(b"{");
        assert!(fails(life.making(verb, &[&option])).starts_with("config.json"));
        config(&good);
        fails(life.making(verb, &[&option, "--preserve-fds=100000"]));
        fails(life.making(verb, &[&option, "--pid-file=/no/such/file"]));
        fails(life.making(verb, &[&option, "--console-socket=/no/such/socket"]));
        fails(life.making(verb, &[&option, "--policy=/no/such/policy"]));
        fails(life.command(&[verb, &option, "--bundle", "/no/such/bundle", life.id()]));
        life.assert_gone();
    }
    for verb in ["exec", "update"] {
        assert_eq!(fails(life.on_it(verb, &[&option])), "container does not exist");
    }
    let succeeds = |command: Command, payload: Option<i32>| {
        let _ = fs::remove_file(&audit);
        assert_eq!(life.run(command).status, payload.unwrap_or(0));
        let line = ending(&audit);
        assert_eq!((line["result"].as_str(), &line["payload_status"]), (Some("ok"), &json!(payload)));
    };
    succeeds(life.making("create", &[&option]), None);
    assert_eq!(fails(life.making("create", &[&option])), "container with given ID already exists");
    life.started();
    succeeds(life.exec_command(&[&option], &["sh", "-c", "exit 4"]), Some(4));
    succeeds(life.exec_command(&[&option, "--detach"], &["true"]), None);
    fails(life.exec_command(&[&option], &["no-such-program"]));
    fails(life.exec_command(&[&option, "--process=/no/such/file"], &["true"]));
    fails(life.exec_command(&[&option, "--user=nobody"], &["true"]));
    succeeds(life.on_it("update", &[&option]), None);
    fails(life.on_it("update", &[&option, "--pids-limit=many"]));
    fails(life.on_it("update", &[&option, "--resources=/no/such/file"]));
    life.delete(&["--force"]).ok();
    let life = Life::script("exit 3");
    let _ = fs::remove_file(&audit);
    assert_eq!(life.run(life.making("run", &[&option])).status, 3);
    assert_eq!(ending(&audit)["payload_status"], 3);
}
