//! What needs capabilities that machines for CI do not grant: in the virtual machine (tests/vm.md), which has all.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, finish, vm, wait_for};
use serde_json::{Value, json};

/// The number in a field of /proc/PID/stat (proc_pid_stat(5)).
#[track_caller]
fn stat_field(stat: &str, number: usize) -> i64 {
    let rest = stat.rsplit(") ").next().expect("a line");
    rest.split_whitespace().nth(number - 3).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{stat}"))
}

/// A payload that shows its own line: no shell, which could not make a child under every policy.
fn scheduled(scheduler: &Value) -> Bundle {
    Bundle::new()
        .with_args(&["cat", "/proc/self/stat"])
        .with(|config| config["process"]["scheduler"] = scheduler.clone())
}

/// CAP_SYS_RESOURCE: a hard limit may be raised, and the caller's own is another.
#[test]
fn resource_limits_above_the_callers() {
    if vm::outside() {
        return;
    }
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 123_456_512}]);
    let bundle = Bundle::script("ulimit -n; ulimit -H -n; ulimit -c; ulimit -H -c");
    let bundle = bundle.with(|config| config["process"]["rlimits"] = limits);
    let run = bundle.command(&[]);
    let mut low = Command::new("sh");
    low.args(["-c", "ulimit -S -n 256; ulimit -H -n 256; ulimit -c 0; exec \"$0\" \"$@\""]);
    low.arg(run.get_program()).args(run.get_args());
    assert_eq!(finish(low, b"").ok(), "2000\n3000\n0\n241126\n");
    bundle.assert_nothing_left();
}

#[test]
fn real_time_policies() {
    if vm::outside() {
        return;
    }
    for (name, policy) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
        let stat = scheduled(&json!({"policy": name, "priority": 12})).run().ok();
        assert_eq!((stat_field(&stat, 41), stat_field(&stat, 40)), (policy, 12), "{name}");
    }
    // SCHED_RESET_ON_FORK is seen in what a child gets.
    let reset = json!({"policy": "SCHED_FIFO", "priority": 12, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let stat = scheduled(&reset).with_args(&["sh", "-c", "cat /proc/$$/stat; cat /proc/self/stat; true"]).run().ok();
    let policies: Vec<i64> = stat.lines().map(|line| stat_field(line, 41)).collect();
    assert_eq!(policies, [1, 0], "{stat}");
}

#[test]
fn deadlines() {
    if vm::outside() {
        return;
    }
    let deadline =
        json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 50_000_000, "period": 100_000_000});
    let stat = scheduled(&deadline).run().ok();
    assert_eq!(stat_field(&stat, 41), 6);
    let wrong =
        json!({"policy": "SCHED_DEADLINE", "runtime": 60_000_000, "deadline": 50_000_000, "period": 100_000_000});
    let error = scheduled(&wrong).run().refused();
    assert!(error.contains("config.json /process/scheduler") && error.contains("EINVAL"), "{error}");
}

/// Less nice than the caller, and less likely to be killed than it.
#[test]
fn better_than_the_caller() {
    if vm::outside() {
        return;
    }
    let bundle = Bundle::script("cat /proc/self/oom_score_adj; cat /proc/self/stat").with(|config| {
        config["process"]["oomScoreAdj"] = json!(-500);
        config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": -7});
    });
    let shown = bundle.run().ok();
    let (score, stat) = shown.split_once('\n').unwrap();
    assert_eq!((score, stat_field(stat, 19)), ("-500", -7));
}

/// The disk that no test needs. Root in the container, with every capability, cannot open what no rule allows.
#[test]
fn a_disk_is_opened_as_the_rules_say() {
    if vm::outside() {
        return;
    }
    let numbers = std::fs::read_to_string("/sys/block/vdb/dev").unwrap();
    let (major, minor) = numbers.trim().split_once(':').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
    let (major, minor): (u32, u32) = (major, minor);
    let node = json!({"path": "/dev/disk", "type": "b", "major": major, "minor": minor});
    let script = "(: </dev/disk) 2>/dev/null && echo read; (: >>/dev/disk) 2>/dev/null && echo write; true";
    for (access, expected) in [("", ""), ("r", "read\n"), ("w", "write\n"), ("rw", "read\nwrite\n"), ("m", "")] {
        let rule = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": access});
        let rules = if access.is_empty() { json!([]) } else { json!([rule]) };
        let bundle = Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
            config["linux"]["devices"] = json!([node]);
            config["linux"]["resources"] = json!({ "devices": rules });
        });
        let life = Life::new(bundle);
        life.created(&[]).started();
        assert_eq!(life.exec(&[], &["sh", "-c", script]).ok(), expected, "{access:?}");
        life.delete(&["--force"]).ok();
    }
}

/// Where the machine lets programs that change ids be looked at, others of the payload's id reach no process that has
/// its ids, and neither filter nor label yet. The kernel gives files of a process that may not be looked at to root.
#[test]
fn whoever_has_the_payloads_id_may_not_look_before_it_runs() {
    const SETTING: &str = "/proc/sys/fs/suid_dumpable";
    if vm::outside() {
        return;
    }
    let before = fs::read_to_string(SETTING).unwrap();
    fs::write(SETTING, "1").unwrap();
    for (init, uid) in [("--init=exec", 1000), ("--init=supervise", 1000), ("--init=exec", 0)] {
        let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
            config["process"]["user"] = json!({"uid": uid, "gid": uid});
            config["process"]["noNewPrivileges"] = json!(true);
            config["process"]["capabilities"] = json!({});
        }));
        life.created(&[init]);
        let first = life.pid();
        // PID 1 beside the payload may be looked at: images read /proc/1/environ. It has given up all, and is filtered.
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let child = children.split_whitespace().next().map(|pid| pid.parse().unwrap());
        assert_eq!(child.is_some(), init == "--init=supervise");
        let pid = child.unwrap_or(first);
        let owner = fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
        assert_eq!(owner, 0, "{init}, uid {uid}: process {pid} may be looked at");
        life.started();
        wait_for("the payload may be looked at", || {
            let process = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
            let payload = process.split_whitespace().next().map_or(first, |pid| pid.parse().unwrap());
            fs::metadata(format!("/proc/{payload}/environ")).unwrap().uid() == uid
        });
        life.delete(&["--force"]).ok();
    }
    fs::write(SETTING, before).unwrap();
}

/// The kernel has AppArmor, and no profile is loaded.
#[test]
fn labels_of_apparmor() {
    if vm::outside() {
        return;
    }
    let labelled = |label: &str| {
        let bundle = Bundle::script("cat /proc/self/attr/current");
        bundle.with(|config| config["process"]["apparmorProfile"] = json!(label)).run()
    };
    assert_eq!(labelled("unconfined").ok(), "unconfined\n");
    let error = labelled("no-such-profile").refused();
    assert!(error.contains("config.json /process/apparmorProfile") && error.contains("ENOENT"), "{error}");
}

/// Clocks of a new time namespace, also for those who join it later.
#[test]
fn clocks_of_a_time_namespace() {
    if vm::outside() {
        return;
    }
    let bundle = Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 1_000_000}});
    });
    let life = Life::new(bundle);
    life.created(&[]).started();
    let shown = life.exec(&[], &["cat", "/proc/uptime"]).ok();
    let seconds: f64 = shown.split(' ').next().unwrap().parse().unwrap();
    assert!((1_000_000.0..1_100_000.0).contains(&seconds), "{shown}");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}
