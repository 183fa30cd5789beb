//! Containers of ordinary users: one id or a range of them, every command, and what config.json may say of ids.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rspawn_tests::user::{RANGE, User};
use rspawn_tests::{Bundle, Output, cannot_make_containers, cgroups_named, finish, program, skip_unless, wait_for};
use serde_json::{Value, json};

/// Runs a bundle to its end, by a user.
#[track_caller]
fn run(user: &User, bundle: &Bundle) -> Output {
    let output = finish(bundle.command_of(user, bundle.command(&[])), b"");
    bundle.assert_nothing_left();
    output
}

/// An id map as /proc shows it: first inside, first outside, count, of each line.
fn map(text: &str) -> Vec<Vec<u32>> {
    text.lines().map(|line| line.split_whitespace().filter_map(|number| number.parse().ok()).collect()).collect()
}

/// The user namespace of every process of a container, as seen from the machine's.
fn map_outside(pid: i32) -> Vec<Vec<u32>> {
    map(&fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default())
}

/// A container in the background, with what a user does to it.
struct Life<'a> {
    user: &'a User,
    bundle: Bundle,
}

impl<'a> Life<'a> {
    fn new(user: &'a User, script: &str) -> Self {
        let bundle = Bundle::script(script);
        bundle.write_config();
        Self { user, bundle }
    }

    fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(self.bundle.state_root()).args(words);
        finish(self.bundle.command_of(self.user, command), b"")
    }

    #[track_caller]
    fn create(&self) {
        let bundle = self.bundle.path().to_string_lossy().into_owned();
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(self.bundle.state_root());
        command.args(["create", "--bundle", &bundle, "--pid-file", &format!("{bundle}/pid"), "c"]);
        let mut command = self.bundle.command_of(self.user, command);
        // Pipes of ours would be the container's: nothing would end them before it.
        assert!(command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.ask(&["state", "c"]).ok()).expect("JSON")
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        let _ = self.ask(&["delete", "--force", "c"]);
    }
}

#[test]
fn a_user_with_one_id() {
    let Some(user) = User::by_number() else { return };
    let script = "id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; touch /made; ls /dev/null";
    let bundle = Bundle::script(script);
    let text = run(&user, &bundle).ok();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("uid=0 gid=0"), "{text}");
    assert_eq!(map(&lines[1..3].join("\n")), [[0, 0, 1], [0, 0, 1]], "{text}");
    assert_eq!(lines[3..], ["deny", "/dev/null"], "{text}");
    let made = fs::metadata(bundle.rootfs().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (user.number, user.number));
}

#[test]
fn a_user_with_a_range() {
    let Some(user) = User::with_range() else { return };
    let script = "cat /proc/self/setgroups; mkdir -m 777 /d; touch /d/root; chown 5:6 /d/root";
    let bundle = Bundle::script(script).with(|config| {
        for set in ["bounding", "permitted", "effective"] {
            config["process"]["capabilities"][set] = json!(["CAP_CHOWN"]);
        }
    });
    assert_eq!(run(&user, &bundle).ok(), "allow\n");
    let made = fs::metadata(bundle.rootfs().join("d/root")).unwrap();
    // 0 is the user, 1 the first of the range.
    assert_eq!((made.uid(), made.gid()), (RANGE.0 + 4, RANGE.0 + 5));
}

#[test]
fn every_command_of_a_life() {
    for user in [User::by_number(), User::with_range()] {
        let Some(user) = user else { continue };
        let life = Life::new(&user, "trap 'exit 3' TERM; echo here > /started; while :; do sleep 0.05; done");
        life.create();
        assert_eq!(life.state()["status"], "created");
        let pid: i32 = fs::read_to_string(life.bundle.path().join("pid")).unwrap().parse().unwrap();
        assert_eq!(life.state()["pid"], pid);
        life.ask(&["start", "c"]).ok();
        wait_for("the payload", || life.bundle.rootfs().join("started").exists());
        assert_eq!(life.state()["status"], "running");
        let status = life.ask(&["exec", "c", "sh", "-c", "id -u; grep CapPrm /proc/self/status"]).ok();
        assert!(status.starts_with("0\n") && !status.contains("0000000000000000"), "{status}");
        assert_eq!(life.ask(&["exec", "c", "sh", "-c", "exit 9"]).status, 9);
        let list = life.ask(&["list"]).ok();
        assert!(list.contains("running"), "{list}");
        let deleted = life.ask(&["delete", "c"]);
        assert!(deleted.status == 1 && deleted.stderr.contains("running"), "{deleted:?}");
        life.ask(&["kill", "c", "TERM"]).ok();
        wait_for("its end", || life.state()["status"] == "stopped");
        life.ask(&["delete", "c"]).ok();
        assert_eq!(life.ask(&["list", "--quiet"]).ok(), "");
    }
}

#[test]
fn the_hosts_root_as_a_container() {
    let Some(user) = User::by_number() else { return };
    let script = "id -u; hostname; touch /etc/x 2>&1; cat /etc/shadow 2>&1; touch /tmp/x && echo ok";
    let output = finish(user.rspawn(&["run", "--host", "--", "sh", "-c", script]), b"").ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines[0], lines[1], lines[4]), ("0", "rspawn-host", "ok"), "{output}");
    assert!(lines[2].contains("Read-only") && lines[3].contains("Permission denied"), "{output}");
}

#[test]
fn spec_rootless_works_as_it_is() {
    for user in [User::by_number(), User::with_range()] {
        let Some(user) = user else { continue };
        let bundle = Bundle::new();
        let spec = ["spec", "--rootless", "--no-terminal", "--bundle", &bundle.path().to_string_lossy()];
        user.give(bundle.path());
        finish(user.rspawn(&spec), b"").ok();
        let config: Value = serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], user.number);
        let directory = bundle.path().to_string_lossy().into_owned();
        let check = finish(user.rspawn(&["check", directory.as_str()]), b"").ok();
        assert!(!check.contains("/linux/namespaces") && !check.contains("gid=5"), "{check}");
        let mut command = user.rspawn(&["run", "--bundle", directory.as_str(), &bundle.id]);
        command.env("LANG", "C");
        assert_eq!(finish(command, b"id -u\n").ok(), "0\n");
    }
}

/// A bundle with these mappings: inside, outside, count.
fn with_maps(script: &str, ranges: &[[u32; 3]]) -> Bundle {
    let list: Vec<Value> = ranges.iter().map(|[i, o, n]| json!({"containerID": i, "hostID": o, "size": n})).collect();
    Bundle::script(script).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = json!(list);
        config["linux"]["gidMappings"] = json!(list);
    })
}

#[test]
fn mappings_name_the_machines_ids() {
    let Some(user) = User::with_range() else { return };
    let first = RANGE.0;
    // Any order; a range that is cut, since the user's own id is not beside the others; without the user's own.
    let cases: [&[[u32; 3]]; 4] = [
        &[[10, first, 20], [0, user.number, 1]],
        &[[0, first + 100, 1], [1, first, 100], [500, first + 1000, 10]],
        &[[0, first, RANGE.1]],
        &[[0, user.number, 1], [1, first + 5, 1], [2, first + 3, 1]],
    ];
    for ranges in cases {
        let life = with_maps("sleep 100", ranges);
        let child = start(&user, &life);
        let mut expected: Vec<Vec<u32>> = ranges.iter().map(|range| range.to_vec()).collect();
        let mut found = map_outside(first_process(&life));
        expected.sort();
        found.sort();
        end(child, &life);
        assert_eq!(found, expected);
    }
}

fn start(user: &User, bundle: &Bundle) -> Child {
    let mut command = bundle.command_of(user, bundle.command(&[]));
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    wait_for("the container", || rspawn_tests::container_processes(bundle).len() > 1);
    child
}

fn first_process(bundle: &Bundle) -> i32 {
    rspawn_tests::container_processes(bundle)[0]
}

fn end(mut child: Child, bundle: &Bundle) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGKILL);
    let _ = child.wait();
    bundle.assert_nothing_left();
}

#[test]
fn ids_of_others_cannot_be_mapped() {
    let Some(user) = User::with_range() else { return };
    let last = RANGE.0 + RANGE.1;
    for (ranges, id) in [
        ([[0, 0, 1]], 0),
        ([[0, user.number + 1, 1]], user.number + 1),
        ([[0, RANGE.0 - 1, 2]], RANGE.0 - 1),
        ([[0, last - 5, 10]], last),
    ] {
        let error = run(&user, &with_maps("true", &ranges)).refused();
        assert!(error.contains("/linux/uidMappings/0") && error.contains(&format!("host id {id} ")), "{error}");
    }
    let Some(alone) = User::by_number() else { return };
    let error = run(&alone, &with_maps("true", &[[0, alone.number, 1], [1, RANGE.0, 5]])).refused();
    assert!(error.contains("/etc/subuid"), "{error}");
}

#[test]
fn ids_that_the_container_lacks_are_refused() {
    let Some(user) = User::by_number() else { return };
    for (member, value) in [("uid", json!(1)), ("gid", json!(1)), ("additionalGids", json!([0]))] {
        let bundle = Bundle::script("true").with(|config| config["process"]["user"] = json!({"uid": 0, "gid": 0}));
        let bundle = bundle.with(|config| config["process"]["user"][member] = value);
        let error = run(&user, &bundle).refused();
        assert!(error.contains(&format!("/process/user/{member}")), "{error}");
    }
}

/// As podman calls it: root of a user namespace that is not the machine's.
#[test]
fn the_root_of_a_user_namespace() {
    let Some(user) = User::by_number() else { return };
    let bundle = Bundle::script("id -u; cat /proc/self/uid_map; echo x > /dev/null; touch /made");
    let in_namespace = |bundle: &Bundle, before: &str| {
        let rspawn = bundle.command(&[]);
        let mut command = Command::new("unshare");
        let script = format!("{before} exec \"$@\"");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(rspawn.get_program()).args(rspawn.get_args());
        finish(bundle.command_of(&user, command), b"")
    };
    let text = in_namespace(&bundle, "").ok();
    assert_eq!((text.lines().next(), map(text.lines().nth(1).unwrap())), (Some("0"), vec![vec![0, user.number, 1]]));
    // In a user namespace of its own the container sees what the kernel makes of a covered procfs.
    let bundle = with_maps("true", &[[0, 0, 1]]);
    let error = in_namespace(&bundle, "mount -t tmpfs none /proc/fs;").refused();
    assert!(error.contains("/mounts/0") && error.contains("mount too revealing"), "{error}");
    let bundle = with_maps("ls /sys; cat /proc/self/mountinfo", &[[0, 0, 1]]);
    let text = in_namespace(&bundle, "mount -t tmpfs none /sys/class;").ok();
    assert!(text.contains("kernel"), "the host's sysfs is bound: {text}");
}

#[test]
fn what_shows_the_hosts_namespaces_is_bound() {
    let Some(user) = User::by_number() else { return };
    let bundle =
        Bundle::script("cat /proc/self/mountinfo; ls /sys/class/net").without_namespaces(&["network", "cgroup"]);
    let text = run(&user, &bundle).ok();
    let line = |at: &str| text.lines().find(|line| line.split(' ').nth(4) == Some(at)).unwrap_or_default().to_string();
    assert!(line("/sys").contains(" ro,") && line("/sys/fs/cgroup").contains(" ro,"), "{text}");
    for mount in text.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/sys/"))) {
        assert!(mount.split(' ').nth(5).unwrap().starts_with("ro"), "{mount}");
    }
    let bundle = Bundle::script("ls -d /proc/1").without_namespaces(&["pid"]);
    assert_eq!(run(&user, &bundle).ok(), "/proc/1\n");
}

#[test]
fn mounts_of_a_user() {
    let Some(user) = User::with_range() else { return };
    let bundle = Bundle::script("cat /o/low; touch /o/new; cat /o/new; echo ok");
    for directory in ["low", "up", "work"] {
        fs::create_dir(bundle.path().join(directory)).unwrap();
    }
    fs::write(bundle.path().join("low/low"), "low\n").unwrap();
    let options = ["lowerdir=low", "upperdir=up", "workdir=work"];
    let bundle = bundle.with_mount("/o", "overlay", "overlay", &options).with_mount("/t", "tmpfs", "tmpfs", &[]);
    assert_eq!(run(&user, &bundle).ok(), "low\nok\n");
    assert!(bundle.path().join("up/new").exists());
    for (kind, source, options, words) in [
        ("ext4", "/dev/null", &[][..], "without root"),
        ("bind", "/usr", &["bind", "idmap"][..], "ids are mapped only by the root of the namespace that owns"),
        ("bind", "/sys", &["bind"][..], "use rbind"),
    ] {
        let mut bundle = with_maps("true", &[[0, user.number, 1], [1, RANGE.0, 10]]);
        bundle = bundle.with_mount("/m", kind, source, options);
        let error = run(&user, &bundle).refused();
        let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
        assert!(error.contains(&format!("/mounts/{index}")) && error.contains(words), "{kind}: {error}");
    }
}

#[test]
fn hooks_are_run_by_the_user() {
    let Some(user) = User::by_number() else { return };
    let bundle = Bundle::script("true");
    let log = bundle.path().join("log");
    let hook = |name: &str| {
        let script = format!("cat >/dev/null; echo {name} $(id -u) $(cat /proc/self/uid_map) >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let bundle = bundle.with(|config| {
        config["hooks"] =
            json!({"createRuntime": hook("runtime"), "poststop": hook("stop"), "createContainer": hook("in")});
    });
    run(&user, &bundle).ok();
    let number = user.number;
    let expected = format!("runtime 0 0 {number} 1\nin 0 0 0 1\nstop 0 0 {number} 1\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    assert_eq!(fs::metadata(&log).unwrap().uid(), number);
}

/// Without delegation there are none, and `check` says so; where one was delegated, it is used.
#[test]
fn cgroups_where_they_are_delegated() {
    let Some(user) = User::by_number() else { return };
    let bundle = Bundle::script("cat /proc/self/cgroup").without_namespaces(&["cgroup"]);
    let bundle = bundle.with(|config| config["linux"]["resources"] = json!({"pids": {"limit": 100}}));
    let output = run(&user, &bundle);
    assert!(output.stderr.contains("/linux/resources/pids") && output.stderr.contains("not applied"), "{output:?}");
    assert!(!output.ok().contains(&bundle.id));
    bundle.write_config();
    let check = finish(user.rspawn(&["check", &bundle.path().to_string_lossy()]), b"").ok();
    assert!(check.contains("delegated"), "{check}");

    let v2 = Path::new("/sys/fs/cgroup/unified");
    if skip_unless(v2.join("cgroup.procs").exists(), "cgroup v2 is not at /sys/fs/cgroup/unified") {
        return;
    }
    let delegated = v2.join(format!("delegated-{}", bundle.id));
    fs::create_dir(&delegated).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(delegated.join(file), Some(user.number), Some(user.number)).unwrap();
    }
    let rspawn = bundle.command_of(&user, bundle.command(&[]));
    let mut command = Command::new("sh");
    command.args(["-c", "echo 0 > \"$1/cgroup.procs\"; shift; exec \"$@\"", "sh"]).arg(&delegated);
    command
        .arg(rspawn.get_program())
        .args(rspawn.get_args())
        .envs(rspawn.get_envs().filter_map(|(n, v)| Some((n, v?))));
    let output = finish(command, b"");
    wait_for("the container's cgroup is gone", || cgroups_named(&delegated, &bundle.id).is_empty());
    wait_for("the delegated cgroup is empty", || fs::remove_dir(&delegated).is_ok());
    let text = output.ok();
    let own = format!("0::/delegated-{0}/{0}", bundle.id);
    assert!(text.lines().any(|line| line == own), "{text}");
}

#[test]
fn a_user_namespace_of_others_cannot_be_joined() {
    if cannot_make_containers() {
        return;
    }
    let Some(user) = User::by_number() else { return };
    let bundle = Bundle::script("true").with(|config| {
        let entry = json!({"type": "user", "path": "/proc/1/ns/user"});
        config["linux"]["namespaces"].as_array_mut().unwrap().push(entry);
    });
    let error = run(&user, &bundle).refused();
    assert!(error.contains("without root, a user namespace that somebody else made cannot be joined"), "{error}");
}
