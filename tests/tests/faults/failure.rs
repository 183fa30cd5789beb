//! Whatever fails, and whoever is killed: one error that names the step and its origin, and nothing left.
//!
//! strace makes the Nth call of a kind fail, or kills its caller, in one stage after another. What is tried is a
//! sample, the same each time and bounded in time (`RSPAWN_FAULT_SECONDS`, default 25 for each of the two kinds of
//! fault); `RSPAWN_FAULTS=all` tries them all.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_proto::codec::encode_word;
use rspawn_proto::report::Place;
use rspawn_tests::hostile::Numbers;
use rspawn_tests::user::User;
use rspawn_tests::{
    Bundle, Output, cannot_make_containers, collect, finish, leftovers, leftovers_besides, program, skip_unless,
};
use serde_json::json;

fn bundle() -> Bundle {
    Bundle::script("echo ran")
        .with_mount("/data", "none", "/etc", &["bind", "ro"])
        .with_mount("/copied", "tmpfs", "tmpfs", &["tmpcopyup"])
        .with(|config| {
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            config["process"]["user"] = json!({"uid": 7, "gid": 7, "additionalGids": [8]});
            config["process"]["oomScoreAdj"] = json!(100);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
        })
}

/// strace of a run; `inject` is strace's option, absent for a baseline. Only the helper and what it starts are
/// traced when the faults are theirs: its own wrapper is rspawn-setup's name in a directory of the test's.
fn strace(bundle: &Bundle, user: Option<&User>, options: &[String]) -> Command {
    bundle.write_config();
    let runtime = user.map_or_else(|| program("rspawn"), User::runtime);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(bundle.path().join("trace")).args(options).arg(runtime);
    command.arg("--root").arg(bundle.state_root()).args(["run", "--bundle"]).arg(bundle.path()).arg(&bundle.id);
    match user {
        Some(user) => bundle.command_of(user, command),
        None => command,
    }
}

/// Calls of the baseline and how often each is made by any one process.
fn baseline(bundle: &Bundle, user: Option<&User>) -> BTreeMap<String, usize> {
    finish(strace(bundle, user, &[]), b"").ok();
    let trace = fs::read_to_string(bundle.path().join("trace")).unwrap();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            *counts.entry((pid.into(), name.into())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let known: &mut usize = most.entry(name).or_default();
        *known = (*known).max(count);
    }
    most
}

/// Faults to try: the first few of each call, in an order that is the same each time and mixes them.
fn sample(bundle: &Bundle, user: Option<&User>, deepest: usize) -> Vec<(String, usize)> {
    let calls = baseline(bundle, user);
    assert!(calls.len() > 40, "a run makes only {calls:?}");
    let mut all: Vec<(String, usize)> =
        calls.into_iter().flat_map(|(name, count)| (1..=count.min(deepest)).map(move |n| (name.clone(), n))).collect();
    let mut numbers = Numbers(3);
    for index in (1..all.len()).rev() {
        all.swap(index, numbers.below(index + 1));
    }
    all
}

/// Tries faults while there is time, and until there are enough of them, by the numbers tried and answered with an
/// error, however slow the machine is. Gives these numbers.
fn try_each(
    faults: &[(String, usize)],
    is_enough: impl Fn(usize, usize) -> bool,
    mut attempt: impl FnMut(&str, usize) -> Output,
) -> (usize, usize) {
    let seconds = std::env::var("RSPAWN_FAULT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let (all, began) = (std::env::var("RSPAWN_FAULTS").is_ok_and(|value| value == "all"), Instant::now());
    let (mut tried, mut errors) = (0, 0);
    for (name, number) in faults {
        if !all && is_enough(tried, errors) && began.elapsed() > Duration::from_secs(seconds) {
            break;
        }
        // Shown only if the test fails: the last one is the one.
        println!("{name} {number}");
        let output = attempt(name, *number);
        tried += 1;
        errors += usize::from(output.status == 1);
    }
    (tried, errors)
}

fn cannot_trace() -> bool {
    cannot_make_containers() || skip_unless(Path::new("/usr/bin/strace").exists(), "strace is not installed")
}

/// Either the fault did not matter, and all went as usual; or there is an error, and the payload's output, if it had
/// begun at all, is no more than it should be.
fn fault_of(output: &Output) -> Result<(), String> {
    let Output { status, stdout, stderr } = output;
    if stderr.contains("a bug") || stderr.contains("panicked") {
        return Err("a panic".into());
    }
    match status {
        124 | 137 if stderr.is_empty() => Err("it hung, or was killed".into()),
        0 if stdout == "ran\n" => Ok(()),
        0 => Err("success without the payload".into()),
        1 if errors(stderr).count() == 1 => Ok(()),
        // All that is wrong with a configuration is said at once: without capabilities, more is.
        1 if errors(stderr).all(|line| line.starts_with("rspawn: config.json ")) => Ok(()),
        // The payload itself, or a loader before it, was hit: it has begun, and its status is its own.
        _ if stderr.is_empty() || !stderr.contains("rspawn: ") => Ok(()),
        _ => Err("neither one error nor none".into()),
    }
}

fn errors(stderr: &str) -> impl Iterator<Item = &str> {
    stderr.lines().filter(|line| line.starts_with("rspawn: ") && !line.starts_with("rspawn: warning: "))
}

#[test]
fn a_call_that_fails_anywhere_is_one_error_and_leaves_nothing() {
    if !cannot_trace() {
        calls_fail(&bundle(), None);
    }
}

/// With one id: newuidmap, which others need, is not itself when it is traced.
#[test]
fn a_call_of_a_users_that_fails_is_one_error_and_leaves_nothing() {
    if cannot_trace() {
        return;
    }
    let Some(user) = User::by_number() else { return };
    let one_id = bundle().with(|config| config["process"]["user"] = json!({"uid": 0, "gid": 0}));
    calls_fail(&one_id, Some(&user));
}

fn calls_fail(bundle: &Bundle, user: Option<&User>) {
    // Waiting fails for nobody who has something to wait for, and ending cannot fail.
    // Nor does the kernel deny the standard library what it starts with, or its own name; and close(2) closes, whatever
    // it answers, while strace leaves it out.
    let cannot_fail = [
        "wait4", "rt_sigtimedwait", "exit_group", "rt_sigreturn", "mmap", "mprotect", "brk", "uname", "rt_sigaction",
        "close", "pidfd_send_signal",
    ];
    let mut faults = sample(bundle, user, 6);
    faults.retain(|(name, _)| !cannot_fail.contains(&name.as_str()));
    let mut wrong = Vec::new();
    let is_enough = |tried, errors| tried > 10 && errors > tried / 10;
    let (tried, errors) = try_each(&faults, is_enough, |name, number| {
        let output = finish(strace(bundle, user, &[format!("-einject={name}:error=EPERM:when={number}")]), b"");
        if let Err(reason) = fault_of(&output) {
            wrong.push(format!("EPERM of {name} {number}: {reason}: {output:?}"));
        }
        // By these the cgroups are removed. The next run takes over what is left, which is empty.
        let keeps_cgroups = ["unlinkat", "close_range"].contains(&name);
        let mut left = leftovers_besides(&bundle.id, |what| keeps_cgroups && what.starts_with("cgroup "));
        if keeps_cgroups {
            finish(strace(bundle, user, &[]), b"").ok();
            left.extend(leftovers(&bundle.id));
        }
        if !left.is_empty() {
            wrong.push(format!("EPERM of {name} {number}: left behind {left:?}"));
        }
        output
    });
    println!("{tried} of {} faults, {errors} errors", faults.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(is_enough(tried, errors), "{tried} faults made only {errors} errors");
}

#[test]
fn a_stage_that_is_killed_anywhere_leaves_nothing() {
    if cannot_trace() {
        return;
    }
    let bundle = bundle();
    let faults = sample(&bundle, None, 6);
    let mut wrong = Vec::new();
    let is_enough = |tried, named| tried > 10 && named > 0;
    let (tried, named) = try_each(&faults, is_enough, |name, number| {
        let output = finish(strace(&bundle, None, &[format!("-einject={name}:signal=KILL:when={number}")]), b"");
        // 137: strace passes on that rspawn itself was killed, or the payload was.
        if !matches!(output.status, 0 | 1 | 126 | 127 | 137) || output.stderr.contains("a bug") {
            wrong.push(format!("killed at {name} {number}: {output:?}"));
        }
        if output.status == 1 {
            let error = output.stderr.lines().find(|line| line.starts_with("rspawn: ")).unwrap_or_default();
            let says_where = error.contains("config.json /") || error.contains("rule: ") || error.contains(": rspawn");
            if !says_where && !error.contains("rspawn-setup died") && !error.contains("rspawn-setup") {
                wrong.push(format!("killed at {name} {number}: the error says not where: {:?}", output.stderr));
            }
        }
        // Who makes or removes the cgroups may be killed at it. The next run takes over what is left, which is empty.
        let left = leftovers_besides(&bundle.id, |what| what.starts_with("cgroup "));
        if !left.is_empty() {
            wrong.push(format!("killed at {name} {number}: left behind {left:?}"));
        }
        output
    });
    bundle.run().ok();
    println!("{tried} of {} kills, {named} errors", faults.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(is_enough(tried, named), "{tried} kills made only {named} errors");
}

/// rspawn itself is killed, at any time from its start until the payload runs.
#[test]
fn nothing_outlives_a_killed_rspawn() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("sleep 1000");
    let mut numbers = Numbers(5);
    for _ in 0..60 {
        let mut command = bundle.command(&[]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(numbers.below(15_000) as u64));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        assert_eq!(collect(child).status, 137);
        bundle.assert_nothing_left();
    }
}

/// The step that rspawn-setup has noted in the page that an rspawn keeps.
fn step_of_setup(rspawn: u32) -> u32 {
    let is_page = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("rspawn-progress"));
    let fds = fs::read_dir(format!("/proc/{rspawn}/fd")).unwrap();
    let page = fds.map(|fd| fd.unwrap().path()).find(is_page).expect("the progress page");
    let mut word = [0u8; 4];
    File::open(page).unwrap().read_exact_at(&mut word, 0).unwrap();
    u32::from_ne_bytes(word)
}

/// rspawn-setup, and then PID 1, are killed while the payload runs: the container is gone, and rspawn says so.
#[test]
fn nothing_outlives_a_killed_helper() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        let bundle = Bundle::script("touch /started; sleep 1000");
        let mut command = bundle.command(&[init]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        rspawn_tests::wait_for("the payload starts", || bundle.rootfs().join("started").exists());
        // The payload may be faster than the note that nothing is left but to supervise it.
        rspawn_tests::wait_for("rspawn-setup supervises", || {
            step_of_setup(child.id()) == encode_word(&Place::Supervise)
        });
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        let setup: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(setup), Signal::SIGKILL).unwrap();
        let error = collect(child).refused();
        // The payload may be faster than the note of rspawn-setup that nothing is left but to supervise it.
        let steps = ["supervise the container", "hand the last mile to rspawn-init"];
        let died = |step: &&str| error.contains(&format!("{step}: rspawn-setup died: signal: 9 (SIGKILL)"));
        assert!(steps.iter().any(died), "{error}");
        bundle.assert_nothing_left();
    }
}

/// The terminal's signals go to a whole process group: the payload gets them once, from rspawn, and can answer.
#[test]
fn a_signal_to_the_whole_group_is_the_payloads() {
    use std::os::unix::process::CommandExt;
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("trap 'echo got it; exit 5' INT; touch /started; while :; do sleep 0.05; done");
    let mut command = bundle.command(&[]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap();
    rspawn_tests::wait_for("the payload starts", || bundle.rootfs().join("started").exists());
    kill(Pid::from_raw(-(child.id() as i32)), Signal::SIGINT).unwrap();
    let output = collect(child);
    assert_eq!((output.status, output.stdout.as_str()), (5, "got it\n"), "{}", output.stderr);
    bundle.assert_nothing_left();
}
