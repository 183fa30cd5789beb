//! On a Debian with systemd as its first process: in the virtual machine's second lane (tests/vm.md).
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_tests::life::Life;
use rspawn_tests::podman::{Errors, Podman};
use rspawn_tests::vm::prints;
use rspawn_tests::{Bundle, cgroups_named, finish, vm};
use serde_json::json;

/// What the lane is for: systemd runs the machine, its bus answers, and cgroup v2 is its own.
#[test]
fn systemd_runs_the_machine() {
    if vm::outside_of_systemd() {
        return;
    }
    assert_eq!(fs::read_to_string("/proc/1/comm").unwrap(), "systemd\n");
    assert!(Path::new("/run/systemd/system").is_dir());
    assert_eq!(prints(&["systemctl", "is-system-running"]), "running", "{}", prints(&["systemctl", "--failed"]));
    let scope = prints(&["systemd-run", "--scope", "--quiet", "--unit=rspawn-vm-test", "cat", "/proc/self/cgroup"]);
    assert_eq!(scope, "0::/system.slice/rspawn-vm-test.scope");
}

/// Beside the caller's own service, in a slice of systemd's.
#[test]
fn a_container_beside_a_service() {
    if vm::outside_of_systemd() {
        return;
    }
    let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    }));
    life.created(&[]).started();
    let found = cgroups_named(Path::new("/sys/fs/cgroup"), life.id());
    assert_eq!(found, [Path::new("/sys/fs/cgroup/system.slice").join(life.id())]);
    assert_eq!(fs::read_to_string(found[0].join("memory.max")).unwrap().trim(), (64 << 20).to_string());
    // systemd sets its units up anew, and leaves what it does not know alone.
    assert_eq!(prints(&["systemctl", "daemon-reload"]), "");
    assert_eq!(fs::read_to_string(found[0].join("pids.max")).unwrap().trim(), "20");
    assert_eq!(life.exec(&[], &["cat", "/proc/self/cgroup"]).ok(), "0::/\n");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

/// A scope that systemd made is the container's, by its path.
#[test]
fn within_a_scope_of_systemds() {
    if vm::outside_of_systemd() {
        return;
    }
    let bundle = Bundle::script("cat /proc/self/cgroup /sys/fs/cgroup/memory.max");
    let bundle = bundle.with(|config| {
        config["linux"]["cgroupsPath"] = json!("container");
        config["linux"]["resources"] = json!({"memory": {"limit": 32 << 20}});
    });
    let run = bundle.command(&[]);
    let unit = format!("--unit={}", bundle.id);
    let mut scope = Command::new("systemd-run");
    scope.args(["--scope", "--quiet", "--property=Delegate=yes", "--slice=machine.slice", &unit]);
    scope.arg(run.get_program()).args(run.get_args());
    assert_eq!(finish(scope, b"").ok(), format!("0::/\n{}\n", 32 << 20));
    bundle.assert_nothing_left();
}

/// podman with its own defaults for everything but the manager of cgroups.
#[test]
fn podman_without_systemds_manager() {
    if vm::outside_of_systemd() {
        return;
    }
    let podman = Podman::new(Errors::JsonLog).expect("the lane has podman");
    let options = ["--memory=50m", "--pids-limit=30", "--cpus=0.5"];
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; exit 4";
    let output = podman.script(&options, script);
    assert_eq!((output.status, output.stdout.as_str()), (4, "52428800\n30\n50000 100000\n"), "{output:?}");
    let killed = podman.to_its_end(&["--memory=30m"], &["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]);
    assert_eq!(killed.status, 137, "{killed:?}");
    podman.detached("c", &[], &["sleep", "1000"]);
    assert_eq!(podman.ok(&["exec", "c", "cat", "/proc/self/cgroup"]), "0::/");
    podman.ok(&["pause", "c"]);
    assert_eq!(podman.inspect("c", ".State.Status"), "paused");
    podman.ok(&["unpause", "c"]);
    podman.ok(&["rm", "--force", "--time=0", "c"]);
    podman.assert_nothing_left();
}
