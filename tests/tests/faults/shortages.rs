//! Descriptors, memory, file sizes, processes and streams run short: an error with its reason, or success; never a lie,
//! a half-confined payload, or something that is left.
#[path = "shortages/around.rs"]
mod around;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rspawn_tests::life::Life;
use rspawn_tests::{Output, cannot_make_containers, leftovers};

/// A command of rspawn's below a shell that takes something away from it.
fn short(life: &Life, limit: &str, inner: &Command) -> Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{limit}; exec \"$@\""), "sh"]).arg(inner.get_program()).args(inner.get_args());
    life.run(command)
}

fn is_fine(what: &str, output: &Output) {
    let Output { status, stderr, .. } = output;
    // The shell's own error, a loader without memory, and the standard library's are none of rspawn's.
    let is_others = stderr.contains("sh: ") || stderr.contains("memory allocation of") || *status >= 126;
    let has_reason = *status == 0 || stderr.contains("rspawn: ") || is_others || stderr.contains("/rustc/");
    assert!(has_reason && !stderr.contains("a bug"), "{what}: {output:?}");
}

#[test]
fn few_descriptors_make_no_lies() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let mut pid = life.pid();
    for number in 3..=64 {
        let limit = format!("ulimit -n {number}");
        for verb in ["state", "delete", "pause", "resume", "ps", "list"] {
            let command = if verb == "list" { life.command(&["list"]) } else { life.on_it(verb, &[]) };
            let output = short(&life, &limit, &command);
            is_fine(&format!("{verb} with {number}"), &output);
            let is_true = match verb {
                "state" | "list" => output.status != 0 || output.stdout.contains("running"),
                "delete" => output.status != 0,
                "ps" => output.status != 0 || output.stdout.contains(&pid.to_string()),
                _ => true,
            };
            assert!(is_true, "{verb} with {number}: {output:?}");
        }
        if life.status() == "paused" {
            life.run(life.on_it("resume", &[])).ok();
        }
        assert_eq!((life.status().as_str(), life.pid()), ("running", pid), "with {number}");
        // With force, it is gone, or it is still there.
        if number < 16 {
            let output = short(&life, &limit, &life.on_it("delete", &["--force"]));
            is_fine(&format!("delete --force with {number}"), &output);
            match output.status {
                0 => life.assert_gone(),
                // Killed or not: it is not forgotten.
                _ => assert!(matches!(life.status().as_str(), "running" | "stopped"), "{output:?}"),
            }
            life.delete(&["--force"]).ok();
            life.created(&[]).started();
            pid = life.pid();
        }
    }
}

#[test]
fn few_descriptors_make_nothing_halfway() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    for number in 3..=64 {
        for verb in ["create", "run"] {
            let options: &[&str] = if verb == "run" { &["--detach"] } else { &[] };
            let output = short(&life, &format!("ulimit -n {number}"), &life.making(verb, options));
            is_fine(&format!("{verb} with {number}"), &output);
            life.delete(&["--force"]).ok();
            life.assert_gone();
        }
    }
}

#[test]
fn no_memory_no_file_sizes_no_processes_no_streams() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("exit 7");
    let limits = [
        "ulimit -v 2000", "ulimit -v 4000", "ulimit -v 6000", "ulimit -v 8000", "ulimit -v 16000", "ulimit -f 0",
        "ulimit -f 8", "ulimit -f 64", "exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-", "exec >/dev/full",
        "exec 2>/dev/full",
    ];
    for limit in limits {
        let output = short(&life, limit, &life.making("run", &[]));
        // Where stderr cannot be written to, nothing is heard.
        let is_unheard = limit.contains("2>") || limit == "ulimit -f 0";
        assert!(is_unheard || output.status == 7 || output.status != 0, "{limit}: {output:?}");
        if !is_unheard && output.status != 7 {
            is_fine(limit, &output);
        }
        assert!(!life.state_directory().exists(), "{limit}: the state is left; {output:?}");
        let left = leftovers(life.id());
        assert!(left.is_empty(), "{limit}: {left:?}");
    }
}

/// Ten commands race for one container, over and over: what is true afterwards is what one of them did.
#[test]
fn racing_commands_lose_nothing() {
    if cannot_make_containers() {
        return;
    }
    let rounds = std::env::var("RSPAWN_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let life = Life::idle();
    for round in 0..rounds {
        life.created(&[]);
        let verbs: [(&str, &[&str]); 10] = [
            ("start", &[]),
            ("start", &[]),
            ("pause", &[]),
            ("resume", &[]),
            ("state", &[]),
            ("kill", &[]),
            ("pause", &[]),
            ("delete", &[]),
            ("resume", &[]),
            ("ps", &[]),
        ];
        thread::scope(|scope| {
            for (verb, options) in verbs {
                let life = &life;
                scope.spawn(move || {
                    let output = life.run(life.on_it(verb, options));
                    is_fine(&format!("round {round}: {verb}"), &output);
                });
            }
        });
        thread::sleep(Duration::from_millis(2));
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
}

/// Many at a time, each a whole life.
#[test]
fn lives_side_by_side_leave_nothing() {
    if cannot_make_containers() {
        return;
    }
    let all: usize = std::env::var("RSPAWN_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    const TOGETHER: usize = 64;
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(move || {
                let life = Life::idle();
                for _ in 0..all.div_ceil(TOGETHER) {
                    life.created(&[]).started().stop();
                    life.delete(&[]).ok();
                }
                assert!(!life.state_directory().exists());
                assert!(fs::read_dir(&life.root).is_ok_and(|mut entries| entries.next().is_none()));
                life.assert_gone();
            });
        }
    });
}

/// As many at a time as a busy machine has: none is lost, and none is left.
#[test]
fn five_hundred_are_alive_at_once() {
    if cannot_make_containers() {
        return;
    }
    const ALIVE: usize = 500;
    let life = Life::idle();
    let ids: Vec<String> = (0..ALIVE).map(|number| format!("{}-{number}", life.id())).collect();
    let of = |verb: &str, words: &[&str], id: &str| {
        let mut command = life.command(&[verb]);
        command.args(words).arg(id);
        let (child, paths) = life.spawn(&mut command);
        let output = life.outcome(child, &paths);
        paths.iter().for_each(|path| drop(fs::remove_file(path)));
        output.ok()
    };
    let on_each = |action: &(dyn Fn(&str) + Sync)| {
        thread::scope(|scope| {
            for some in ids.chunks(ALIVE.div_ceil(16)) {
                scope.spawn(move || some.iter().for_each(|id| action(id)));
            }
        });
    };
    let listed = || -> Vec<serde_json::Value> {
        let text = life.run(life.command(&["list", "--format=json"])).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let bundle = life.bundle.path().to_str().expect("UTF-8");
    on_each(&|id| drop(of("run", &["--detach", "--bundle", bundle], id)));
    let list = listed();
    let mut pids: Vec<i64> = list.iter().filter_map(|one| one["pid"].as_i64()).filter(|pid| *pid > 0).collect();
    pids.sort();
    pids.dedup();
    let running = list.iter().filter(|one| one["status"] == "running").count();
    assert_eq!((list.len(), running, pids.len()), (ALIVE, ALIVE, ALIVE));
    on_each(&|id| assert!(of("state", &[], id).contains("running"), "{id}"));
    on_each(&|id| drop(of("delete", &["--force"], id)));
    // As JSON of runc's, no containers are `null`.
    assert!(fs::read_dir(&life.root).is_ok_and(|mut entries| entries.next().is_none()));
    life.assert_gone();
}
