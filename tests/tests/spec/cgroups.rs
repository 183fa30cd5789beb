//! The container's cgroups on the machine's own layout: where they are, what is in them, what they do, and that they
//! go. And on cgroup v2 alone, in a mount namespace of the test's.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_planner::facts::CgroupFacts;
use rspawn_tests::{
    Bundle, Output, cannot_make_containers, cgroups_named, collect, container_processes, finish, program, skip_unless,
    wait_for,
};
use serde_json::{Value, json};

fn layout() -> CgroupFacts {
    rspawn_host::facts::gather().expect("facts").cgroup
}

/// Where a container's cgroup is in the hierarchy of a controller ("" for v2), if it is mounted here.
fn directory(controller: &str, name: &str) -> Option<PathBuf> {
    let facts = layout();
    let has = |names: &str| names == controller || names.split(',').any(|name| name == controller);
    let hierarchy = facts.hierarchies.iter().find(|hierarchy| has(&hierarchy.controllers))?;
    let own =
        if facts.unified { hierarchy.own.rsplit_once('/').map_or("", |(above, _)| above) } else { &hierarchy.own };
    Some(Path::new(hierarchy.mount.as_deref()?).join(own).join(name))
}

/// True, with the reason printed, where a v1 controller is not mounted.
fn lacks(controller: &str) -> bool {
    cannot_make_containers()
        || skip_unless(directory(controller, "x").is_some(), &format!("there is no v1 hierarchy of {controller} here"))
}

fn limited(bundle: Bundle, resources: Value) -> Bundle {
    bundle.with(|config| config["linux"]["resources"] = resources)
}

/// A container that runs until it is stopped.
struct Running {
    child: Child,
    bundle: Bundle,
}

impl Running {
    fn start(bundle: Bundle) -> Self {
        let bundle = bundle.with_args(&["sh", "-c", "touch /started; exec sleep 1000"]);
        Self::start_as_is(bundle)
    }

    fn start_as_is(bundle: Bundle) -> Self {
        let mut command = bundle.command(&[]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Self { child, bundle };
        wait_for("the payload starts", || {
            assert!(running.child.try_wait().unwrap().is_none(), "it ended: {:?}", running.child.stderr);
            running.bundle.rootfs().join("started").exists()
        });
        running
    }

    /// The host's pid of rspawn-setup.
    fn setup(&self) -> i32 {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// A file of the container's cgroup.
    fn shows(&self, controller: &str, file: &str) -> String {
        let path = directory(controller, &self.bundle.id).unwrap().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_string()
    }

    fn stop(self) -> Bundle {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let output = collect(self.child);
        assert_eq!(output.status, 143, "{output:?}");
        self.bundle.assert_nothing_left();
        self.bundle
    }
}

#[test]
fn a_container_has_a_cgroup_in_every_hierarchy() {
    if cannot_make_containers() {
        return;
    }
    let running = Running::start(Bundle::new());
    let mut looked_at = 0;
    for pid in container_processes(&running.bundle) {
        // PID 1 and the payload, before whose start the worker has ended. What the payload has started may end meanwhile.
        let cgroups = match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
            read => read.unwrap(),
        };
        looked_at += 1;
        for hierarchy in layout().hierarchies.iter().filter(|hierarchy| hierarchy.mount.is_some()) {
            let line = cgroups.lines().find(|line| line.split(':').nth(1) == Some(&hierarchy.controllers)).unwrap();
            assert!(line.ends_with(&format!("/{}", running.bundle.id)), "{line}");
            let directory = directory(&hierarchy.controllers, &running.bundle.id).unwrap();
            let inside = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
            let is_inside = inside.lines().any(|line| line == pid.to_string());
            let is_there = fs::exists(format!("/proc/{pid}")).unwrap();
            assert!(is_inside || !is_there, "{}", directory.display());
        }
    }
    assert!(looked_at >= 2, "{looked_at} processes");
    let bundle = running.stop();
    assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), &bundle.id), Vec::<PathBuf>::new());
}

/// In a cgroup namespace the container's cgroup is the top of everything.
#[test]
fn a_cgroup_namespace_begins_at_the_containers_cgroup() {
    if cannot_make_containers() {
        return;
    }
    let script = "cat /proc/self/cgroup; cat /proc/self/cgroup >/dev/null; \
        for d in /sys/fs/cgroup/*; do [ -L $d ] || [ ! -e $d/cgroup.procs ] || wc -l <$d/cgroup.procs; done";
    let shown = Bundle::script(script).run().ok();
    let (lines, counts): (Vec<&str>, Vec<&str>) = shown.lines().partition(|line| line.contains(':'));
    assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(":/")), "{shown}");
    // rspawn-init, the shell and wc.
    assert!(counts.iter().all(|count| *count == "3"), "{shown}");
    let outside = Bundle::script("cat /proc/self/cgroup").without_namespaces(&["cgroup"]);
    let shown = outside.run().ok();
    assert!(shown.lines().filter(|line| line.ends_with(&outside.id)).count() > 0, "{shown}");
}

#[test]
fn every_limit_reaches_its_file() {
    if lacks("memory") || lacks("cpu") || lacks("cpuset") || lacks("pids") {
        return;
    }
    let resources = json!({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "swappiness": 7, "kernel": 1 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 1000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 33}, "devices": [{"allow": false, "access": "rwm"}],
        "network": null, "unified": null, "rdma": {}, "hugepageLimits": null,
    });
    let running = Running::start(limited(Bundle::new(), resources));
    for (controller, file, expected) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "7"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "33"),
    ] {
        assert_eq!(running.shows(controller, file), expected, "{file}");
    }
    let bundle = running.stop();
    let note = rspawn_check(&bundle);
    assert!(note.contains("/linux/resources/memory/kernel: ignored"), "{note}");
}

fn rspawn_check(bundle: &Bundle) -> String {
    let mut command = Command::new(program("rspawn"));
    command.arg("check").arg(bundle.path());
    finish(command, b"").stdout
}

#[test]
fn idle_time_and_weights_of_block_devices() {
    if lacks("cpu") || lacks("blkio") {
        return;
    }
    let running = Running::start(limited(Bundle::new(), json!({"cpu": {"idle": 1}, "blockIO": {"weight": 300}})));
    assert_eq!(running.shows("cpu", "cpu.idle"), "1");
    let weight = directory("blkio", &running.bundle.id).unwrap().join("blkio.bfq.weight");
    assert_eq!(fs::read_to_string(weight).unwrap().trim(), "300");
    running.stop();
}

/// rspawn-init is one of them.
#[test]
fn a_limit_of_processes_stops_forks() {
    if lacks("pids") {
        return;
    }
    let script = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all";
    let limit = |limit: i64| limited(Bundle::script(script), json!({"pids": {"limit": limit}})).run();
    let stopped = limit(8);
    assert!(stopped.stdout.is_empty() && stopped.stderr.contains("can't fork"), "{stopped:?}");
    assert_eq!(limit(-1).ok(), "all\n");
    // There is no room for rspawn-init beside the payload.
    let alone = limited(Bundle::script("echo $$"), json!({"pids": {"limit": 1}}));
    assert_eq!(alone.run().ok(), "1\n");
}

#[test]
fn a_limit_of_memory_kills() {
    if lacks("memory") {
        return;
    }
    let script = "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?";
    let limit = |bytes: u64| {
        let resources = json!({"memory": {"limit": bytes, "swap": bytes}});
        limited(Bundle::script(script), resources).run().ok()
    };
    assert_eq!(limit(40 << 20), "137\n");
    assert_eq!(limit(400 << 20), "0\n");
}

#[test]
fn devices_are_denied_and_allowed() {
    if cannot_make_containers() {
        return;
    }
    // Devices that nobody has: what opens them is told so, once it may.
    let script = "mknod /tmp/char c 240 11; mknod /tmp/loop b 7 99; \
        for f in /tmp/char /tmp/loop; do (: <$f) 2>&1; (: >>$f) 2>&1; done; echo x >/dev/null; head -c 1 /dev/zero | wc -c";
    let run = |resources: Value| {
        let bundle = limited(Bundle::script(script), resources).with(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
            }
        });
        let shown = bundle.run().ok();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.last(), Some(&"1"), "{shown}");
        shown.matches("Operation not permitted").count()
    };
    assert_eq!(run(json!({})), 4);
    assert_eq!(run(json!({"devices": [{"allow": false, "access": "rwm"}]})), 4);
    let allow = |rules: Value| run(json!({ "devices": rules }));
    let one = |access: &str| json!({"allow": true, "type": "c", "major": 240, "minor": 11, "access": access});
    assert_eq!(allow(json!([{"allow": false, "access": "rwm"}, one("r")])), 3);
    assert_eq!(allow(json!([one("rw"), {"allow": true, "type": "b", "major": 7, "minor": -1, "access": "rwm"}])), 0);
    assert_eq!(allow(json!([one("rw"), {"allow": false, "access": "rwm"}])), 4);
    // As `--privileged` has it; the last rule decides.
    assert_eq!(allow(json!([{"allow": true, "access": "rwm"}])), 0);
    let but = json!({"allow": false, "type": "c", "major": 240, "minor": 11, "access": "w"});
    assert_eq!(allow(json!([{"allow": true, "access": "rwm"}, but])), 1);
}

/// The same list as runc makes for the same bundle.
#[test]
fn the_default_devices_are_runcs() {
    if lacks("devices") || skip_unless(Path::new("/usr/sbin/runc").exists(), "runc is not installed") {
        return;
    }
    let list = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let running = Running::start(Bundle::new());
    let ours = list(running.shows("devices", "devices.list"));
    let bundle = running.stop();
    fs::remove_file(bundle.rootfs().join("started")).unwrap();
    let id = format!("{}-runc", bundle.id);
    let mut command = Command::new("runc");
    command.args(["run", "--bundle"]).arg(bundle.path()).arg(&id).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for("runc's payload starts", || bundle.rootfs().join("started").exists());
    let theirs = list(fs::read_to_string(directory("devices", &id).unwrap().join("devices.list")).unwrap());
    finish(
        {
            let mut command = Command::new("runc");
            command.args(["kill", &id, "KILL"]);
            command
        },
        b"",
    )
    .ok();
    assert_eq!(collect(child).status, 137);
    assert_eq!(ours, theirs);
}

#[test]
fn the_path_is_as_config_json_says() {
    if cannot_make_containers() {
        return;
    }
    let facts = layout();
    let hierarchy = facts.hierarchies.iter().find(|hierarchy| hierarchy.mount.is_some()).unwrap();
    let name = &hierarchy.controllers;
    let (mount, beside) = (hierarchy.mount.clone().unwrap(), directory(name, "x").unwrap());
    let beside = beside.parent().unwrap();
    let id = |bundle: &Bundle| bundle.id.clone();
    for (path, expected) in [
        ("/ID-a/b", Path::new(&mount).join("ID-a/b")),
        ("ID-r/b", beside.join("ID-r/b")),
        ("../../ID-up", beside.join("ID-up")),
        ("/../x/../ID-slash/", Path::new(&mount).join("ID-slash")),
        ("ID:prefix:name", beside.join("ID:prefix:name")),
        ("", beside.join("ID")),
    ] {
        let bundle = Bundle::new();
        let named = |text: &str| text.replace("ID", &id(&bundle));
        let (path, expected) = (named(path), named(expected.to_str().unwrap()));
        let running = Running::start(bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path)));
        assert!(Path::new(&expected).join("cgroup.procs").exists(), "{path}: {expected}");
        // The directories on the way to it go too, since they were made for it.
        running.stop();
    }
    let root = Bundle::new().with(|config| config["linux"]["cgroupsPath"] = json!("/"));
    let error = root.run().refused();
    assert!(error.contains("config.json /linux/cgroupsPath: the root of the hierarchy"), "{error}");
}

#[test]
fn what_cannot_be_had_is_an_error_at_its_place() {
    if lacks("memory") || lacks("blkio") {
        return;
    }
    for (resources, pointer, what) in [
        (json!({"memory": {"swappiness": 101}}), "/memory/swappiness", "not from 0 to 100"),
        (json!({"memory": {"limit": "64M"}}), "/memory/limit", "invalid type"),
        (json!({"cpu": {"shares": 1}}), "/cpu/shares", "not from 2"),
        (json!({"cpu": {"cpus": "4095"}}), "/cpu/cpus", "ERANGE"),
        (json!({"cpu": {"quota": 1}}), "/cpu/quota", "write: EINVAL: Invalid argument (1 to cpu.cfs_quota_us)"),
        (json!({"blockIO": {"weight": 2000}}), "/blockIO/weight", "to blkio.bfq.weight"),
        (
            json!({"blockIO": {"leafWeight": 100}}),
            "/blockIO/leafWeight",
            "blkio.leaf_weight = 100: the container's cgroup has no",
        ),
        (json!({"unified": {"memory.max": "1"}}), "/unified/memory.max", "no controller \"memory\" in cgroup v2"),
        (json!({"unified": {"cgroup.procs": "1"}}), "/unified/cgroup.procs", "no file of a cgroup that"),
        (json!({"network": {"classID": 5}}), "/network/classID", "no cgroup controller \"net_cls\""),
        (json!({"devices": [{"allow": true, "access": "x"}]}), "/devices/0/access", "other than r, w and m"),
        (json!({"pids": {"limit": 1.5}}), "/pids/limit", "invalid type"),
    ] {
        let bundle = limited(Bundle::script("echo ran"), resources.clone());
        let output = bundle.run();
        assert!(output.stdout.is_empty(), "{resources}");
        let error = output.refused();
        assert!(error.contains(&format!("config.json /linux/resources{pointer}: ")), "{resources}: {error}");
        assert!(error.contains(what), "{resources}: {error}");
    }
}

/// A cgroup with processes in it, or below it, is another container's.
#[test]
fn a_cgroup_in_use_is_refused() {
    if cannot_make_containers() {
        return;
    }
    let first = Bundle::new();
    let path = format!("/{}-shared", first.id);
    let placed = |bundle: Bundle, path: &str| bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path));
    let running = Running::start(placed(first, &format!("{path}/in")));
    for taken in [format!("{path}/in"), path.clone()] {
        let error = placed(Bundle::script("echo ran"), &taken).run_with(&[], b"").refused();
        assert!(error.contains("config.json /linux/cgroupsPath: make the cgroup"), "{error}");
        assert!(error.contains("processes are in it"), "{error}");
    }
    assert_eq!(container_processes(&running.bundle).len(), 2);
    // Beside it there is room, and its end takes nothing of the first one's away.
    placed(Bundle::script("true"), &format!("{path}/beside")).run().ok();
    assert_eq!(container_processes(&running.bundle).len(), 2);
    running.stop();
}

/// Kills of every helper: the cgroups go anyway, or are taken over by the next container.
#[test]
fn a_killed_helper_strands_no_cgroup() {
    if cannot_make_containers() {
        return;
    }
    let running = Running::start(Bundle::new());
    let setup = running.setup();
    kill(Pid::from_raw(setup), Signal::SIGKILL).unwrap();
    let error = collect(running.child).refused();
    assert!(error.contains("rspawn-setup died"), "{error}");
    running.bundle.assert_nothing_left();

    let bundle = running.bundle;
    fs::remove_file(bundle.rootfs().join("started")).unwrap();
    let running = Running::start_as_is(bundle);
    let setup = running.setup();
    // Whoever else is its child, but for the container's first process, would remove them.
    let children = fs::read_to_string(format!("/proc/{setup}/task/{setup}/children")).unwrap();
    let inside = container_processes(&running.bundle);
    let keepers =
        children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).filter(|pid| !inside.contains(pid));
    for pid in keepers.collect::<Vec<i32>>().into_iter().chain([setup]) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    collect(running.child).refused();
    wait_for("the container dies", || container_processes(&running.bundle).is_empty());
    let stranded = cgroups_named(Path::new("/sys/fs/cgroup"), &running.bundle.id);
    assert!(!stranded.is_empty(), "without a keeper they stay");
    running.bundle.with_args(&["true"]).run().ok();
}

/// Cgroups that the payload makes go with its own, however deep they are and however they are called.
#[test]
fn what_the_payload_makes_below_goes_too() {
    if cannot_make_containers() {
        return;
    }
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -L $d ] || [ ! -e $d/cgroup.procs ] || (cd $d && mkdir -p a/b/c d && \
        mkdir \"$(printf 'x\\377y')\" && i=0 && while [ $i -lt 70 ]; do mkdir deep && cd deep; i=$((i+1)); done && \
        echo made) ; done; for d in /sys/fs/cgroup/pids /sys/fs/cgroup/freezer; do \
        [ -e $d/d/cgroup.procs ] && echo 0 >$d/d/cgroup.procs; done; true";
    let shown = Bundle::script(script).with_writable_cgroups().run().ok();
    assert!(shown.contains("made"), "{shown}");
}

/// Without a pid namespace, processes live on after the first one; not so in a container.
#[test]
fn processes_that_stay_behind_are_killed() {
    if cannot_make_containers() {
        return;
    }
    let script = "(setsid sleep 1000 >/dev/null 2>&1 </dev/null &); echo done";
    assert_eq!(Bundle::script(script).without_namespaces(&["pid"]).run().ok(), "done\n");
}

#[test]
fn user_namespaces_and_joined_ones() {
    if cannot_make_containers() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mapped = |bundle: Bundle| {
        let bundle = bundle.with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
        });
        nix::unistd::chown(&bundle.rootfs(), Some(100_000.into()), Some(100_000.into())).unwrap();
        bundle
    };
    let shown = mapped(Bundle::script("cat /proc/self/cgroup")).run().ok();
    assert!(shown.lines().all(|line| line.ends_with(":/")), "{shown}");
    // Joined: the network of a container in a user namespace, and that user namespace.
    let holder = Running::start(mapped(Bundle::new()));
    let first = container_processes(&holder.bundle)[0];
    let join = |kinds: &[(&str, &str)]| {
        let bundle = Bundle::script("cat /proc/self/cgroup; cat /proc/1/cgroup").with(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|entry| !kinds.iter().any(|(kind, _)| entry["type"] == *kind));
            for (kind, file) in kinds {
                list.push(json!({"type": kind, "path": format!("/proc/{first}/ns/{file}")}));
            }
            // A sysfs of a network that its user namespace does not own cannot be mounted.
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
        });
        nix::unistd::chown(&bundle.rootfs(), Some(100_000.into()), Some(100_000.into())).unwrap();
        let shown = bundle.run().ok();
        assert!(!shown.is_empty() && shown.lines().all(|line| line.ends_with(":/")), "{kinds:?}: {shown}");
    };
    join(&[("network", "net")]);
    join(&[("user", "user"), ("network", "net")]);
    holder.stop();
}

/// The life cycle: `create` leaves the cgroups to `delete`, and `exec` joins them.
#[test]
fn later_commands_know_the_cgroups() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("touch /started; sleep 1000");
    bundle.write_config();
    let root = bundle.path().join("state");
    let rspawn = |arguments: &[&str]| -> Output {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(&root).args(arguments);
        finish(command, b"")
    };
    let path = bundle.path().to_string_lossy().into_owned();
    // Not through a pipe, which it would hold open.
    let detached = |arguments: &[&str]| {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(&root).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.stderr(Stdio::null()).status().unwrap().success(), "{arguments:?}");
    };
    detached(&["run", "--detach", "--bundle", &path, &bundle.id]);
    wait_for("the payload starts", || bundle.rootfs().join("started").exists());
    let shown = rspawn(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]).ok();
    assert!(!shown.is_empty() && shown.lines().all(|line| line.ends_with(":/")), "{shown}");
    detached(&["exec", "--detach", &bundle.id, "sleep", "1000"]);
    let inside = container_processes(&bundle).len();
    for hierarchy in layout().hierarchies.iter().filter(|hierarchy| hierarchy.mount.is_some()) {
        let procs = directory(&hierarchy.controllers, &bundle.id).unwrap().join("cgroup.procs");
        assert_eq!(fs::read_to_string(procs).unwrap().lines().count(), inside, "{}", hierarchy.controllers);
    }
    rspawn(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_nothing_left();
}

/// The lane of cgroup v2 alone: a mount namespace in which nothing else is mounted. Which controllers it has is the
/// machine's affair.
mod v2 {
    use rspawn_tests::v2_alone::lane;

    use super::*;

    fn run(bundle: &Bundle) -> Output {
        let output = finish(lane(bundle.command(&[])), b"");
        bundle.assert_nothing_left();
        output
    }

    /// Where the same hierarchy is outside of the lane.
    fn outside() -> Option<PathBuf> {
        let facts = layout();
        facts.v2().and_then(|hierarchy| hierarchy.mount.clone()).map(PathBuf::from)
    }

    fn cannot() -> bool {
        cannot_make_containers() || skip_unless(outside().is_some(), "cgroup v2 is not mounted here")
    }

    fn has(controller: &str) -> bool {
        fs::read_to_string(outside().unwrap().join("cgroup.controllers"))
            .unwrap()
            .split_whitespace()
            .any(|c| c == controller)
    }

    #[test]
    fn the_container_is_in_it_and_sees_it() {
        if cannot() {
            return;
        }
        let script = "grep ^0: /proc/self/cgroup; grep -c . /sys/fs/cgroup/cgroup.procs; \
            grep ' /sys/fs/cgroup ' /proc/self/mountinfo | grep -c ' - cgroup2 '; touch /started; \
            while [ ! -e /go ]; do sleep 0.02; done";
        let bundle = Bundle::script(script);
        let mut command = lane(bundle.command(&[]));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the payload starts", || bundle.rootfs().join("started").exists());
        // Beside the caller's own.
        let own = layout().v2().unwrap().own.clone();
        let above = own.rsplit_once('/').map_or("", |(above, _)| above);
        let directory = outside().unwrap().join(above).join(&bundle.id);
        // Asked again, since one `sleep` follows the other.
        wait_for("every process of it is there", || {
            let inside = container_processes(&bundle);
            let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
            !inside.is_empty() && inside.iter().all(|pid| procs.lines().any(|line| line == pid.to_string()))
        });
        // No hierarchy of v1 has it: they are out of sight there.
        assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), &bundle.id), [directory]);
        fs::write(bundle.rootfs().join("go"), "").unwrap();
        let output = collect(child).ok();
        assert!(output.starts_with("0::/\n") && output.ends_with("\n1\n"), "{output}");
        bundle.assert_nothing_left();
    }

    #[test]
    fn devices_are_denied_by_a_program() {
        if cannot() {
            return;
        }
        let script =
            "mknod /tmp/char c 240 11; (: </tmp/char) 2>&1; (: >>/tmp/char) 2>&1; echo x >/dev/null && echo fine";
        let denials = |rules: Value| {
            let bundle = limited(Bundle::script(script), json!({ "devices": rules })).with(|config| {
                for set in ["bounding", "effective", "permitted"] {
                    config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
                }
            });
            let shown = run(&bundle).ok();
            assert!(shown.ends_with("fine\n"), "{shown}");
            shown.matches("Operation not permitted").count()
        };
        assert_eq!(denials(json!([])), 2);
        assert_eq!(denials(json!([{"allow": true, "access": "rwm"}])), 0);
        let one = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 240, "minor": 11, "access": access});
        assert_eq!(denials(json!([one(true, "rw"), one(false, "w")])), 1);
        // A hole in a wildcard, which v1 cannot have.
        let all = json!({"allow": true, "type": "c", "access": "rwm"});
        assert_eq!(denials(json!([all, one(false, "r")])), 1);
    }

    #[test]
    fn limits_of_what_this_machine_has() {
        if cannot() || skip_unless(has("hugetlb"), "cgroup v2 has no hugetlb controller here") {
            return;
        }
        let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "unified": {"cgroup.max.depth": "3", "hugetlb.1GB.max": "0"}});
        let files = "hugetlb.2MB.max hugetlb.2MB.rsvd.max hugetlb.1GB.max cgroup.max.depth";
        let bundle = limited(Bundle::script(&format!("cd /sys/fs/cgroup; cat {files}")), resources);
        assert_eq!(run(&bundle).ok(), "4194304\n4194304\n0\n3\n");
    }

    /// Beside hierarchies of v1, a controller that v2 has is found there.
    #[test]
    fn a_controller_of_v2_on_a_hybrid_layout() {
        let hybrid = || !layout().unified && has("hugetlb");
        if cannot() || skip_unless(hybrid(), "this is no hybrid layout with a controller of v2") {
            return;
        }
        let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}], "pids": {"limit": 50}});
        let running = Running::start(limited(Bundle::new(), resources));
        assert_eq!(running.shows("", "hugetlb.2MB.max"), "2097152");
        running.stop();
    }

    #[test]
    fn a_missing_controller_is_an_error() {
        if cannot() || skip_unless(!has("memory"), "cgroup v2 has every controller here") {
            return;
        }
        let cases = [
            (json!({"memory": {"limit": 1 << 30}}), "/memory/limit", "no cgroup controller \"memory\" here"),
            (json!({"memory": {"disableOOMKiller": true, "limit": 1}}), "/memory/limit", "no cgroup controller"),
            (json!({"cpu": {"realtimeRuntime": 5}}), "/cpu/realtimeRuntime", "no cgroup controller \"cpu\""),
            (json!({"network": {"classID": 5}}), "/network/classID", "cgroup v2 has no such setting"),
        ];
        for (resources, pointer, what) in cases {
            let error = run(&limited(Bundle::script("echo ran"), resources)).refused();
            assert!(error.contains(&format!("config.json /linux/resources{pointer}: ")), "{error}");
            assert!(error.contains(what), "{error}");
        }
    }

    /// Root of a user namespace, with a writable view of its cgroup, may divide it.
    #[test]
    fn a_cgroup_is_delegated_to_root_of_the_user_namespace() {
        if cannot() {
            return;
        }
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let script = "cd /sys/fs/cgroup; mkdir sub && echo 0 >sub/cgroup.procs && cat /proc/self/cgroup | grep ^0:; \
            stat -c %u cgroup.procs cgroup.subtree_control";
        let bundle = Bundle::script(script).with_writable_cgroups().with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
        });
        nix::unistd::chown(&bundle.rootfs(), Some(100_000.into()), Some(100_000.into())).unwrap();
        assert_eq!(run(&bundle).ok(), "0::/sub\n0\n0\n");
    }

    /// And so is it to the payload's user, in whichever user namespace (config-linux.md, "cgroup ownership").
    #[test]
    fn a_cgroup_is_delegated_to_the_payloads_user() {
        if cannot() {
            return;
        }
        let script =
            "cd /sys/fs/cgroup; mkdir sub && echo 0 >sub/cgroup.procs && grep ^0: /proc/self/cgroup; stat -c %u .";
        let bundle = Bundle::script(script)
            .with_writable_cgroups()
            .with(|config| config["process"]["user"] = json!({"uid": 4321, "gid": 4321}));
        assert_eq!(run(&bundle).ok(), "0::/sub\n4321\n");
        let bundle = Bundle::script("stat -c %u /sys/fs/cgroup")
            .with(|config| config["process"]["user"] = json!({"uid": 4321, "gid": 4321}));
        assert_eq!(run(&bundle).ok(), "0\n");
    }

    /// Processes that stay behind in sub-cgroups are killed, and all is removed.
    #[test]
    fn nothing_stays() {
        if cannot() {
            return;
        }
        let script = "cd /sys/fs/cgroup; mkdir -p a/b; (echo 0 >a/b/cgroup.procs; setsid sleep 1000 >/dev/null 2>&1 &); echo fine";
        let bundle = Bundle::script(script).with_writable_cgroups().without_namespaces(&["pid"]);
        assert_eq!(run(&bundle).ok(), "fine\n");
    }
}

/// Where systemd does not run, it is one error, and nothing is made.
#[test]
fn no_scope_without_systemd() {
    if skip_unless(!Path::new("/run/systemd/system").exists(), "systemd runs this machine") {
        return;
    }
    let life = rspawn_tests::life::Life::idle();
    for option in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        let mut create = life.command(&[option, "create", "--bundle"]);
        create.arg(life.bundle.path()).arg(life.id());
        let message = rspawn_tests::life::error(life.run(create));
        assert!(message.starts_with("systemd does not run this machine"), "{message}");
        life.assert_gone();
        for verb in ["plan", "check"] {
            let mut look = life.command(&[option, verb]);
            look.arg(life.bundle.path());
            let output = life.run(look);
            assert_eq!(output.status, 1, "{output:?}");
            assert!(format!("{output:?}").contains("systemd does not run this machine"), "{verb}: {output:?}");
        }
    }
    let odd = life.run(life.command(&["--cgroup-manager=sytemd", "list"]));
    assert!(rspawn_tests::life::error(odd).contains("cgroupfs, systemd or disabled"));
}
