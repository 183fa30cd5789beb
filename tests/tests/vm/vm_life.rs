//! The life cycle on cgroup v2 alone: in the virtual machine (tests/vm.md).
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, cgroups_named, container_processes, finish, vm, wait_for};
use serde_json::json;

/// The container's cgroup.
fn cgroup(life: &Life) -> PathBuf {
    PathBuf::from(life.record().cgroups[0].path.as_str())
}

/// One directory, in the one hierarchy, beside the caller's own.
#[test]
fn the_cgroup_is_one() {
    if vm::outside() {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let found = cgroups_named(Path::new("/sys/fs/cgroup"), life.id());
    assert_eq!(found, [Path::new("/sys/fs/cgroup/session.slice").join(life.id())]);
    assert_eq!(cgroup(&life), found[0]);
    let inside = fs::read_to_string(found[0].join("cgroup.procs")).unwrap();
    let inside: Vec<i32> = inside.lines().map(|pid| pid.parse().unwrap()).collect();
    assert!(inside.contains(&life.pid()), "{inside:?}");
    assert_eq!(inside, container_processes(&life.bundle));
    life.started().stop();
    life.delete(&[]).ok();
    life.assert_gone();
}

/// The first process begins its life in the cgroup: no moment outside of its limits, no migration.
#[test]
fn the_first_process_is_made_in_its_cgroup() {
    if vm::outside() {
        return;
    }
    let bundle = Bundle::script("cat /proc/self/cgroup");
    let trace = bundle.path().join("trace");
    let run = bundle.command(&[]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", "trace=clone3,openat,openat2", "-o"])
        .arg(&trace)
        .arg(run.get_program())
        .args(run.get_args());
    assert_eq!(finish(strace, b"").ok(), "0::/\n");
    let trace = fs::read_to_string(trace).unwrap();
    let into: Vec<&str> = trace.lines().filter(|line| line.contains("CLONE_INTO_CGROUP")).collect();
    assert!(into.iter().any(|line| line.contains("CLONE_NEWPID")), "{trace}");
    let migrations = |line: &&str| line.contains("cgroup.procs") && line.contains("O_WRONLY");
    assert_eq!(trace.lines().find(migrations), None);
}

#[test]
fn the_container_sees_its_own_cgroup_alone() {
    if vm::outside() {
        return;
    }
    let script = "cat /proc/self/cgroup; ls -d /sys/fs/cgroup/*.slice 2>/dev/null; wc -l </sys/fs/cgroup/cgroup.procs; \
        mkdir /sys/fs/cgroup/sub 2>/dev/null && echo made && (echo 5 >/sys/fs/cgroup/sub/cgroup.max.depth) && echo set; \
        (echo 5 >/sys/fs/cgroup/pids.max) 2>/dev/null && echo its own; true";
    // rspawn-init, the shell and wc.
    assert_eq!(Bundle::script(script).run().ok(), "0::/\n3\n");
    // Writable: it may divide what it has, but its own limits are not its own (nsdelegate).
    assert_eq!(Bundle::script(script).with_writable_cgroups().run().ok(), "0::/\n3\nmade\nset\n");
    // Without a namespace of its own it sees where it is, and still writes nothing.
    let bundle = Bundle::script(script).without_namespaces(&["cgroup"]);
    let shown = bundle.run().ok();
    assert!(shown.starts_with(&format!("0::/session.slice/{}\n", bundle.id)), "{shown}");
    assert!(!shown.contains("made") && !shown.contains("set"), "{shown}");
}

/// What counts does not count while it is paused.
#[test]
fn pause_and_resume() {
    if vm::outside() {
        return;
    }
    let life = Life::script("i=0; while :; do i=$((i+1)); echo $i >/count; done");
    life.created(&[]).started();
    wait_for("it counts", || life.file("count").trim().parse::<u64>().is_ok_and(|count| count > 0));
    let events = || fs::read_to_string(cgroup(&life).join("cgroup.events")).unwrap();
    life.run(life.on_it("pause", &[])).ok();
    assert_eq!(life.status(), "paused");
    assert!(events().contains("frozen 1"), "{}", events());
    let count = life.file("count");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(life.file("count"), count);
    life.run(life.on_it("resume", &[])).ok();
    assert_eq!(life.status(), "running");
    assert!(events().contains("frozen 0"), "{}", events());
    wait_for("it counts on", || life.file("count") != count);
    // A paused one can be killed and deleted too.
    life.run(life.on_it("pause", &[])).ok();
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

/// Faster than they can be listed, processes are made; without a pid namespace no kernel kills them with the first.
#[test]
fn a_fork_bomb_without_a_pid_namespace_dies_at_once() {
    if vm::outside() {
        return;
    }
    let bomb = "bomb() { bomb & bomb; }; bomb 2>/dev/null; sleep 1000";
    for how in ["kill --all", "delete --force"] {
        let bundle = Bundle::script(bomb).without_namespaces(&["pid"]);
        let life = Life::new(bundle.with(|config| config["linux"]["resources"]["pids"] = json!({"limit": 60})));
        life.created(&[]).started();
        wait_for("they are many", || container_processes(&life.bundle).len() > 20);
        if how == "kill --all" {
            let mut kill = life.on_it("kill", &["--all"]);
            kill.arg("KILL");
            life.run(kill).ok();
            wait_for("the cgroup is empty", || {
                fs::read_to_string(cgroup(&life).join("cgroup.events")).unwrap().contains("populated 0")
            });
        }
        life.delete(&["--force"]).ok();
        assert!(container_processes(&life.bundle).is_empty(), "{how}");
        life.assert_gone();
    }
}

/// As systemd does in a container: everything moves into leaves, and controllers are handed on.
#[test]
fn a_payload_divides_its_cgroup() {
    if vm::outside() {
        return;
    }
    let script = "set -e; cd /sys/fs/cgroup; mkdir -p init a/b/c; for pid in $(cat cgroup.procs); do \
        echo $pid >init/cgroup.procs 2>/dev/null || true; done; \
        for c in $(cat cgroup.controllers); do echo +$c >cgroup.subtree_control; done; echo 50 >a/pids.max; \
        (echo 0 >a/b/c/cgroup.procs; exec sleep 1000) & \
        until grep -q . a/b/c/cgroup.procs; do sleep 0.1; done; touch /started; exec sleep 1000";
    let life = Life::new(Bundle::script(script).with_writable_cgroups());
    life.created(&[]).started();
    wait_for("it has divided its cgroup", || life.bundle.rootfs().join("started").exists());
    // The container's own cgroup takes no process any more: exec goes where the first process is.
    let exec = life.exec(&[], &["cat", "/proc/self/cgroup"]);
    assert_eq!(exec.ok(), "0::/init\n");
    let listed = life.run(life.on_it("ps", &["--format", "json"])).ok();
    let listed: Vec<i32> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, container_processes(&life.bundle));
    life.run(life.on_it("pause", &[])).ok();
    assert_eq!(life.status(), "paused");
    life.run(life.on_it("resume", &[])).ok();
    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
}

/// Whoever joins is limited too, and dies too.
#[test]
fn exec_is_within_the_limits() {
    if vm::outside() {
        return;
    }
    let bundle = Bundle::new().with_args(&["sleep", "1000"]);
    let limit = json!({"limit": 30 << 20, "swap": 30 << 20});
    let life = Life::new(bundle.with(|config| config["linux"]["resources"] = json!({ "memory": limit })));
    life.created(&[]).started();
    assert_eq!(life.exec(&[], &["cat", "/proc/self/cgroup"]).ok(), "0::/\n");
    let killed = life.exec(&[], &["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]);
    assert_eq!(killed.status, 137, "{killed:?}");
    assert_eq!(life.status(), "running");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}
