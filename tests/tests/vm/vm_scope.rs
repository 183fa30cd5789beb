//! Scopes that systemd makes (`--systemd-cgroup`): on a Debian with systemd, in the virtual machine's second lane
//! (tests/vm.md).
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rspawn_tests::clients::make_image_archive;
use rspawn_tests::life::{Life, error};
use rspawn_tests::podman::{Errors, Podman};
use rspawn_tests::vm::prints;
use rspawn_tests::{Bundle, Output, Scratch, cgroups_named, container_processes, finish, program, vm, wait_for};
use serde_json::json;

/// A property of a unit, as systemd has it now.
#[track_caller]
fn property(unit: &str, name: &str) -> String {
    prints(&["systemctl", "show", "--value", "--property", name, unit])
}

fn is_known(unit: &str) -> bool {
    property(unit, "LoadState") == "loaded"
}

fn unit(life: &Life) -> String {
    format!("rspawn-{}.scope", life.id())
}

/// `create` or `run`, with systemd's cgroups.
fn making(life: &Life, verb: &str, options: &[&str]) -> Command {
    let mut command = life.command(&["--systemd-cgroup", verb, "--bundle"]);
    command.arg(life.bundle.path()).args(options).arg(life.id());
    command
}

#[track_caller]
fn created(life: &Life) {
    life.run(making(life, "create", &[])).ok();
}

#[track_caller]
fn assert_no_unit(unit: &str) {
    wait_for("the scope is gone", || !is_known(unit));
    assert_eq!(prints(&["systemctl", "list-units", "--all", "--plain", "--no-legend", unit]), "");
    assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), unit), Vec::<PathBuf>::new());
}

fn idle() -> Bundle {
    Bundle::new().with_args(&["sleep", "1000"])
}

/// The whole life of one: where it is, what systemd knows of it, and that it stays so.
#[test]
fn a_scope_has_the_limits_and_keeps_them() {
    if vm::outside_of_systemd() {
        return;
    }
    let life = Life::new(idle().with(|config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "devices": [{"allow": false, "access": "rwm"}],
        });
        config["linux"]["cgroupsPath"] = json!("rspawn-test.slice:prefix:NAME");
        config["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "uint64 7",
            "org.systemd.property.After": "['dbus.socket']"});
        let capabilities = config["process"]["capabilities"].as_object_mut().unwrap();
        capabilities.values_mut().for_each(|list| list.as_array_mut().unwrap().push(json!("CAP_MKNOD")));
    }));
    let unit = format!("prefix-{}.scope", life.id());
    let bundle = life.bundle.path().join("config.json");
    let text = fs::read_to_string(&bundle).unwrap().replace("prefix:NAME", &format!("prefix:{}", life.id()));
    fs::write(&bundle, text).unwrap();
    created(&life);
    let cgroup = Path::new("/sys/fs/cgroup/rspawn.slice/rspawn-test.slice").join(&unit);
    assert_eq!(life.record().cgroups[0].path.as_str(), cgroup.to_str().unwrap());
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    let procs: Vec<i32> = procs.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(procs, container_processes(&life.bundle), "and no holder");
    life.started();
    let of_unit = |name: &str| property(&unit, name);
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "rspawn-test.slice"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("DefaultDependencies", "no"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("TasksMax", "20"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("TimeoutStopUSec", "7s"),
    ] {
        assert_eq!(of_unit(name), value, "{name}");
    }
    assert!(of_unit("After").split(' ').any(|unit| unit == "dbus.socket"), "{}", of_unit("After"));
    assert_eq!(of_unit("Description"), format!("rspawn container {}", life.id()));
    let file = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap().trim().to_string();
    let files = || ["memory.max", "memory.low", "pids.max", "cpu.weight", "cpu.max", "cpuset.cpus"].map(file);
    let expected = ["67108864", "33554432", "20", "59", "50000 100000", "0"];
    assert_eq!(files(), expected);
    // Memory itself, which no rule allows.
    let forbidden = "mknod /memory c 1 1; dd if=/memory of=/dev/null bs=1 count=1";
    let refused = |life: &Life| {
        let output = life.exec(&[], &["sh", "-c", forbidden]);
        assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
        life.exec(&[], &["rm", "/memory"]).ok();
    };
    refused(&life);
    prints(&["systemctl", "daemon-reload"]);
    assert_eq!(files(), expected);
    refused(&life);
    life.run(life.on_it("update", &["--memory=128M", "--pids-limit=30", "--cpu-quota=25000"])).ok();
    prints(&["systemctl", "daemon-reload"]);
    let now = ["134217728", "33554432", "30", "59", "25000 100000", "0"];
    assert_eq!(files(), now);
    let limits = ["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec"].map(of_unit);
    assert_eq!(limits, ["134217728", "30", "250ms"]);
    assert_eq!(life.exec(&[], &["cat", "/proc/self/cgroup"]).ok(), "0::/\n");
    life.run(life.on_it("pause", &[])).ok();
    assert_eq!(life.status(), "paused");
    life.run(life.on_it("resume", &[])).ok();
    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
    assert_no_unit(&unit);
}

/// However it ends, systemd forgets it.
#[test]
fn no_unit_is_left() {
    if vm::outside_of_systemd() {
        return;
    }
    let life = Life::new(Bundle::script("cat /proc/self/cgroup; exit 3"));
    let output = life.run(making(&life, "run", &[]));
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (3, "0::/\n", ""));
    assert_no_unit(&unit(&life));
    life.assert_gone();
    // By force.
    let life = Life::new(idle());
    created(&life);
    life.started();
    assert_eq!(property(&unit(&life), "ActiveState"), "active");
    let path = format!("/sys/fs/cgroup/system.slice/{}", unit(&life));
    assert_eq!(life.record().cgroups[0].path.as_str(), path);
    life.delete(&["--force"]).ok();
    assert_no_unit(&unit(&life));
    life.assert_gone();
    // Never started.
    let life = Life::new(idle());
    created(&life);
    life.delete(&["--force"]).ok();
    assert_no_unit(&unit(&life));
    // By the kernel.
    let life = Life::new(Bundle::script("dd if=/dev/zero of=/dev/null bs=100M count=1").with(|config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    }));
    created(&life);
    life.started().wait_for_status("stopped");
    life.delete(&[]).ok();
    assert_no_unit(&unit(&life));
    life.assert_gone();
    // By systemd: PID 1 hears a SIGTERM that it has a handler for.
    let life = Life::new(Bundle::script("trap 'exit 0' TERM; while :; do sleep 0.1; done"));
    created(&life);
    life.started();
    prints(&["systemctl", "stop", &unit(&life)]);
    life.wait_for_status("stopped");
    life.delete(&[]).ok();
    assert_no_unit(&unit(&life));
    life.assert_gone();
    assert_eq!(prints(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "rspawn-rspawn-test*"]), "");
}

/// In a container that could not be finished, the scope goes with it.
#[test]
fn no_unit_is_left_of_one_that_fails() {
    if vm::outside_of_systemd() {
        return;
    }
    let life = Life::new(Bundle::new().with_args(&["/no/such/program"]));
    let _ = life.run(making(&life, "run", &[])).refused();
    assert_no_unit(&unit(&life));
    life.assert_gone();
}

#[test]
fn names_that_are_taken() {
    if vm::outside_of_systemd() {
        return;
    }
    let life = Life::new(idle());
    let unit = unit(&life);
    let start = |properties: &[&str], time: &str| {
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--quiet", &format!("--unit={unit}")]).args(properties).args(["sleep", time]);
        command.spawn().unwrap()
    };
    let mut other = start(&[], "1000");
    wait_for("another scope", || property(&unit, "ActiveState") == "active");
    let message = error(life.run(making(&life, "create", &[])));
    assert!(message.contains(&format!("systemd has a unit {unit} already")), "{message}");
    assert_eq!(property(&unit, "ActiveState"), "active", "the other lives");
    life.assert_no_state();
    prints(&["systemctl", "stop", &unit]);
    let _ = other.wait();
    wait_for("it is gone", || !is_known(&unit));
    // One that has failed is in nobody's way.
    let mut failed = start(&["--property=RuntimeMaxSec=1"], "1000");
    let _ = failed.wait();
    wait_for("a scope that failed", || property(&unit, "ActiveState") == "failed");
    created(&life);
    life.delete(&["--force"]).ok();
    assert_no_unit(&unit);
}

trait NoState {
    fn assert_no_state(&self);
}

impl NoState for Life {
    #[track_caller]
    fn assert_no_state(&self) {
        assert!(!self.state_directory().exists(), "the state directory is left");
    }
}

#[test]
fn what_systemd_is_not_asked() {
    if vm::outside_of_systemd() {
        return;
    }
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let life = Life::new(idle().with(change));
        let message = error(life.run(making(&life, "create", &[])));
        life.assert_gone();
        assert_no_unit(&unit(&life));
        message
    };
    for (path, words) in [
        ("/a/b", "slice:prefix:name"),
        ("a:b", "slice:prefix:name"),
        ("system.slice:x:y.slice", "names a slice"),
        ("nothing:x:y", "not a slice such as"),
        ("system.slice:x:a b", "cannot be the name of a unit"),
    ] {
        let message = refused(&|config| config["linux"]["cgroupsPath"] = json!(path));
        assert!(message.contains("/linux/cgroupsPath: ") && message.contains(words), "{path}: {message}");
    }
    for (name, value, words) in [
        ("TimeoutStopUSec", "soon", "quoted"),
        ("Slice", "'a.slice'", "rspawn sets it itself"),
        ("X", "true", "three letters"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let message = refused(&|config| config["annotations"] = json!({&key: value}));
        assert!(message.contains(&format!("/annotations/{key}: ")) && message.contains(words), "{message}");
    }
    // What only systemd can tell.
    let message = refused(&|config| config["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"}));
    assert!(message.contains("systemd refuses") && message.contains("NoSuchThing"), "{message}");
}

#[test]
fn podman_with_systemds_manager() {
    if vm::outside_of_systemd() {
        return;
    }
    let podman = Podman::new(Errors::JsonLog).expect("the lane has podman").with_systemds_cgroups();
    let options = ["--memory=50m", "--pids-limit=30", "--cpus=0.5"];
    let output = podman.script(&options, "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; exit 4");
    assert_eq!((output.status, output.stdout.as_str()), (4, "52428800\n30\n50000 100000\n"), "{output:?}");
    podman.detached("c", &["--memory=60m"], &["sleep", "1000"]);
    let unit = format!("libpod-{}.scope", podman.inspect("c", ".Id"));
    let show = |name: &str| property(&unit, name);
    assert_eq!(["ActiveState", "Slice", "MemoryMax"].map(show), ["active", "machine.slice", "62914560"]);
    assert_eq!(podman.ok(&["exec", "c", "cat", "/proc/self/cgroup"]), "0::/");
    podman.ok(&["pause", "c"]);
    assert_eq!(podman.inspect("c", ".State.Status"), "paused");
    podman.ok(&["unpause", "c"]);
    podman.ok(&["update", "--memory=70m", "c"]);
    assert_eq!(property(&unit, "MemoryMax"), "73400320");
    podman.ok(&["stats", "--no-stream", "c"]);
    podman.ok(&["rm", "--force", "--time=0", "c"]);
    assert_no_unit(&unit);
    podman.assert_nothing_left();
}

/// A user with a session's systemd: its bus, and a command in its cgroup.
struct Session {
    name: &'static str,
    number: &'static str,
}

impl Session {
    fn new(name: &'static str, number: &'static str) -> Self {
        prints(&["useradd", "--create-home", "--uid", number, "--add-subids-for-system", name]);
        prints(&["systemctl", "start", &format!("user@{number}.service")]);
        wait_for("the session's bus", || Path::new(&format!("/run/user/{number}/bus")).exists());
        Self { name, number }
    }

    /// The command, run by the user in a cgroup of its own systemd's, or where the test is.
    fn by_user(&self, inside: bool, command: &Command) -> Command {
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--reuid", self.number, "--regid", self.number, "--init-groups", "env", "-C", "/"]);
        let (home, runtime) =
            (format!("HOME=/home/{}", self.name), format!("XDG_RUNTIME_DIR=/run/user/{}", self.number));
        wrapped.args([home, runtime]);
        if inside {
            wrapped.args(["systemd-run", "--user", "--scope", "--quiet"]);
        }
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    }

    fn run(&self, inside: bool, command: &Command) -> Output {
        finish(self.by_user(inside, command), b"")
    }

    fn rspawn(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("rspawn"));
        command.args(words);
        command
    }

    fn systemctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(words);
        self.run(false, &command).stdout.trim().to_string()
    }
}

/// Without root, the session's systemd makes it.
#[test]
fn a_users_own_scope() {
    if vm::outside_of_systemd() {
        return;
    }
    let session = Session::new("tester", "4242");
    let life = Life::new(idle().with(|config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    }));
    let bundle = &life.bundle;
    prints(&["chown", "-R", session.number, bundle.path().to_str().unwrap()]);
    let (id, path) = (bundle.id.as_str(), bundle.path().to_str().unwrap());
    let unit = format!("rspawn-{id}.scope");
    let create = session.rspawn(&["--systemd-cgroup", "run", "--detach", "--bundle", path, id]);
    // The kernel lets nobody move a process from a cgroup that is not delegated to them.
    let message = error(session.run(false, &create));
    assert!(message.contains("systemd-run --user --scope"), "{message}");
    // What stays behind would keep a pipe open.
    let output = life.run(session.by_user(true, &create));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    let show = |name: &str| session.systemctl(&["show", "--value", "--property", name, &unit]);
    assert_eq!(["ActiveState", "Slice", "MemoryMax", "TasksMax"].map(show), ["active", "user.slice", "67108864", "20"]);
    let manager = "/sys/fs/cgroup/user.slice/user-4242.slice/user@4242.service/user.slice";
    let cgroup = Path::new(manager).join(&unit);
    let file = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap().trim().to_string();
    assert_eq!(["memory.max", "pids.max"].map(file), ["67108864", "20"]);
    session.systemctl(&["daemon-reload"]);
    assert_eq!(["memory.max", "pids.max"].map(file), ["67108864", "20"]);
    let run = |words: &[&str]| session.run(true, &session.rspawn(words)).ok();
    run(&["update", "--pids-limit=30", id]);
    assert_eq!((file("pids.max"), show("TasksMax")), ("30".into(), "30".into()));
    assert_eq!(run(&["exec", id, "cat", "/proc/self/cgroup"]), "0::/\n");
    run(&["delete", "--force", id]);
    wait_for("the scope is gone", || show("LoadState") != "loaded");
    assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), id), Vec::<PathBuf>::new());
    bundle.assert_nothing_left();
}

/// podman of a user's, which takes systemd's manager by itself where there is a session.
#[test]
fn podman_of_a_user() {
    if vm::outside_of_systemd() {
        return;
    }
    let session = Session::new("sailor", "4243");
    let scratch = Scratch::new();
    let place = scratch.path.display().to_string();
    make_image_archive(&scratch.path);
    prints(&["chown", "-R", session.number, &place]);
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        for (option, name) in [("--root", "root"), ("--runroot", "runroot")] {
            command.arg(option).arg(scratch.path.join(name));
        }
        command.args(["--storage-driver=vfs", "--runtime"]).arg(program("rspawn")).args(words);
        session.run(true, &command)
    };
    let archive = scratch.path.join("image.tar").display().to_string();
    podman(&["import", "--quiet", "--change", "ENV=PATH=/usr/bin:/bin", &archive, "image"]).ok();
    assert_eq!(podman(&["info", "--format", "{{.Host.CgroupManager}}"]).ok().trim(), "systemd");
    let script = "cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; exit 4";
    let limits = ["run", "--rm", "--network=none", "--memory=50m", "--pids-limit=30", "image", "sh", "-c", script];
    let output = podman(&limits);
    assert_eq!((output.status, output.stdout.as_str()), (4, "0::/\n52428800\n30\n"), "{output:?}");
    podman(&["run", "--detach", "--name=c", "--network=none", "image", "sleep", "1000"]).ok();
    let unit = format!("libpod-{}.scope", podman(&["inspect", "--format", "{{.Id}}", "c"]).ok().trim());
    let show = |name: &str| session.systemctl(&["show", "--value", "--property", name, &unit]);
    assert_eq!(["ActiveState", "Slice"].map(show), ["active", "user.slice"]);
    assert_eq!(podman(&["exec", "c", "cat", "/proc/self/cgroup"]).ok(), "0::/\n");
    podman(&["rm", "--force", "--time=0", "c"]).ok();
    wait_for("the scope is gone", || show("LoadState") != "loaded");
}
