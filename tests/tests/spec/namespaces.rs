//! `linux.namespaces`, id mappings, time offsets and network devices.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::mountinfo::mount_at;
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, status_field, wait_for};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// Each kind, and its file in /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

const SHOW: &str = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done";

fn own(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}")).unwrap().display().to_string()
}

fn mapped(bundle: Bundle) -> Bundle {
    bundle.with(|config| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    })
}

fn with_namespaces(bundle: Bundle, namespaces: Value) -> Bundle {
    bundle.with(|config| config["linux"]["namespaces"] = namespaces)
}

/// A process that only holds new namespaces. Killed when dropped.
struct Holder(Child);

impl Holder {
    /// `flags` are unshare(1)'s.
    fn new(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["--fork", "--kill-child", "sleep", "600"]);
        let holder = Self(command.stdin(Stdio::null()).spawn().expect("unshare of util-linux"));
        // The last thing that unshare does before its child runs.
        wait_for("the holder's child", || holder.child().is_some());
        holder
    }

    fn child(&self) -> Option<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "sleep").then_some(child)
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.child().expect("the holder's child"))
    }

    fn shows(&self, file: &str) -> String {
        fs::read_link(self.path(file)).unwrap().display().to_string()
    }

    fn map_ids(&self) {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", self.child().unwrap()), "0 100000 65536\n").unwrap();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_eight_kinds_are_new() {
    if cannot_make_containers() {
        return;
    }
    let all = json!(KINDS.map(|(kind, _)| json!({"type": kind})));
    let shown = mapped(with_namespaces(Bundle::script(SHOW), all)).run().ok();
    for ((kind, file), inside) in KINDS.into_iter().zip(shown.lines()) {
        assert!(inside.starts_with(&format!("{file}:[")), "{kind}: {shown}");
        assert_ne!(inside, own(file), "{kind}");
    }
    assert_eq!(shown.lines().count(), KINDS.len());
}

#[test]
fn kinds_that_are_not_listed_are_the_callers() {
    if cannot_make_containers() {
        return;
    }
    let me = std::process::id();
    let script = format!("{SHOW}; test -d /proc/{me} && echo the test is in sight");
    let bundle = with_namespaces(Bundle::script(&script), json!([{"type": "mount"}]));
    let shown = bundle.with(|config| drop(config.as_object_mut().unwrap().remove("hostname"))).run().ok();
    for ((kind, file), inside) in KINDS.into_iter().zip(shown.lines()) {
        assert_eq!(inside == own(file), kind != "mount", "{kind}: {shown}");
    }
    assert!(shown.ends_with("the test is in sight\n"), "{shown}");
    let error = Bundle::new().without_namespaces(&["mount"]).run().refused();
    assert!(error.contains("/linux/namespaces") && error.contains("mount namespace"), "{error}");
    let twice = with_namespaces(Bundle::new(), json!([{"type": "mount"}, {"type": "mount"}])).run().refused();
    assert!(twice.contains("/linux/namespaces/1/type"), "{twice}");
    let unknown = with_namespaces(Bundle::new(), json!([{"type": "netwrok"}])).run().refused();
    assert!(unknown.contains("/linux/namespaces/0/type") && unknown.contains("network"), "{unknown}");
}

#[test]
fn each_kind_is_joined_by_its_path() {
    if cannot_make_containers() {
        return;
    }
    let holder = Holder::new(&["--net", "--ipc", "--uts", "--cgroup", "--time", "--pid", "--mount"]);
    for (kind, file) in KINDS {
        // A user namespace has to own the others, and a mount namespace is given up to the container: see below.
        if matches!(kind, "user" | "mount") {
            continue;
        }
        let bundle = Bundle::script(SHOW).without_namespaces(&[kind]).with(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.push(json!({"type": kind, "path": holder.path(file)}));
        });
        let shown = bundle.run().ok();
        let inside = shown.lines().find(|line| line.starts_with(&format!("{file}:"))).unwrap();
        assert_eq!(inside, holder.shows(file), "{kind}");
    }
}

/// As containerd makes the containers of a pod that shares its processes, on cgroup v1: no namespace of cgroups, whose
/// making would leave a right for that of the others.
#[test]
fn a_pid_namespace_is_joined_without_a_cgroup_namespace() {
    if cannot_make_containers() {
        return;
    }
    let holder = Holder::new(&["--pid"]);
    let list = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
                      {"type": "pid", "path": holder.path("pid")}]);
    let script = format!("{SHOW}; cat /proc/self/status; umount /proc");
    let output = with_namespaces(Bundle::script(&script), list).run();
    let shown = &output.stdout;
    assert!(shown.lines().any(|line| line == holder.shows("pid")), "{output:?}");
    let capabilities = status_field(shown, "CapBnd").expect("its capabilities");
    let bits = u64::from_str_radix(capabilities, 16).expect("a number");
    assert_eq!(bits & 1 << 21, 0, "CAP_SYS_ADMIN is left: {capabilities}");
    assert!(output.status != 0 && output.stderr.contains("umount"), "{output:?}");
}

/// What a pod is: the namespaces of another container, its user namespace among them.
#[test]
fn a_user_namespace_is_joined_with_what_it_owns() {
    if cannot_make_containers() {
        return;
    }
    let holder = Holder::new(&["--user", "--net", "--ipc", "--uts", "--pid"]);
    holder.map_ids();
    let joined = ["user", "network", "ipc", "uts", "pid"];
    let mut list: Vec<Value> = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    for (kind, file) in KINDS.into_iter().filter(|(kind, _)| joined.contains(kind)) {
        list.push(json!({"type": kind, "path": holder.path(file)}));
    }
    let script = format!("{SHOW}; id -u; cat /proc/self/uid_map; hostname; echo x >/dev/null && echo null works");
    let shown = with_namespaces(Bundle::script(&script), json!(list)).run().ok();
    for ((kind, file), inside) in KINDS.into_iter().zip(shown.lines()) {
        if joined.contains(&kind) {
            assert_eq!(inside, holder.shows(file), "{kind}: {shown}");
        }
    }
    let rest: Vec<&str> = shown.lines().skip(8).flat_map(str::split_whitespace).collect();
    assert_eq!(rest, ["0", "0", "100000", "65536", "rspawn", "null", "works"]);
}

#[test]
fn a_path_must_lead_to_a_namespace_of_that_kind() {
    if cannot_make_containers() {
        return;
    }
    let with_path = |path: &str| {
        let list = json!([{"type": "mount"}, {"type": "ipc", "path": path}]);
        with_namespaces(Bundle::new(), list)
            .with(|config| drop(config.as_object_mut().unwrap().remove("hostname")))
            .run()
            .refused()
    };
    let cases = [
        ("/proc/self/ns/net", "kind network"),
        ("/proc/self/ns/mnt", "kind mount"),
        ("/etc/passwd", "not a namespace"),
        ("/proc/self/stat", "not a namespace"),
        ("/nosuch", "ENOENT"),
        ("relative", "absolute"),
    ];
    for (path, words) in cases {
        let error = with_path(path);
        assert!(error.contains("config.json /linux/namespaces/1") && error.contains(words), "{path}: {error}");
    }
}

/// The container's root becomes the namespace's: a holder of it sees what the container sees.
#[test]
fn a_mount_namespace_is_joined_and_becomes_the_containers() {
    if cannot_make_containers() {
        return;
    }
    let holder = Holder::new(&["--mount", "--uts"]);
    let bundle = Bundle::script(&format!("{SHOW}; ls /")).without_namespaces(&["mount"]).with(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "mount", "path": holder.path("mnt")}));
    });
    let output = finish(bundle.command(&[]), b"");
    let shown = output.ok();
    assert!(
        shown.contains(&holder.shows("mnt")) && shown.ends_with("bin\ndev\netc\nproc\nsys\ntmp\nusr\nvar\n"),
        "{shown}"
    );
    let held = fs::read_to_string(format!("/proc/{}/mountinfo", holder.child().unwrap())).unwrap();
    assert_eq!(mount_at(&held, "/dev").fs, "tmpfs");
    drop(holder);
    bundle.assert_nothing_left();
}

/// Pivoting in the caller's own mount namespace would be the end of the host's tree.
#[test]
fn the_callers_mount_namespace_is_never_the_containers() {
    if cannot_make_containers() {
        return;
    }
    let list = json!([{"type": "mount", "path": format!("/proc/{}/ns/mnt", std::process::id())}]);
    let bundle = with_namespaces(Bundle::new(), list);
    let error = bundle.with(|config| drop(config.as_object_mut().unwrap().remove("hostname"))).run().refused();
    assert!(error.contains("config.json /linux/namespaces/0") && error.contains("caller's mount namespace"), "{error}");
}

#[test]
fn ids_are_mapped_range_by_range() {
    if cannot_make_containers() {
        return;
    }
    let run = |uid: u32| {
        let script = "cat /proc/self/uid_map /proc/self/gid_map; touch /out/made; id -u; \
            stat -c %t:%T /dev/null /dev/zero /dev/tty; echo x >/dev/null; cat /proc/self/mountinfo >/out/mounts";
        let kinds = ["user", "pid", "network", "ipc", "uts", "mount", "cgroup"];
        let list = json!(kinds.map(|kind| json!({"type": kind})));
        let bundle = with_namespaces(Bundle::script(script), list).with(|config| {
            config["linux"]["uidMappings"] = json!([
                {"containerID": 0, "hostID": 100_000, "size": 10},
                {"containerID": 10, "hostID": 200_000, "size": 1000},
                {"containerID": 5000, "hostID": 7, "size": 1},
            ]);
            config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
            config["process"]["user"] = json!({"uid": uid, "gid": uid});
        });
        let out = bundle.rootfs().join("out");
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let shown = bundle.run().ok();
        let words: Vec<&str> = shown.split_whitespace().collect();
        let maps = ["0", "100000", "10", "10", "200000", "1000", "5000", "7", "1", "0", "300000", "65536"];
        let rest = [uid.to_string(), "1:3".into(), "1:5".into(), "5:0".into()];
        assert_eq!(words, [&maps[..], &rest.each_ref().map(String::as_str)].concat());
        let mounts = fs::read_to_string(out.join("mounts")).unwrap();
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mount_at(&mounts, "/dev/null").fs, mount_at(&host, "/dev").fs, "bound from the host");
        let made = fs::metadata(out.join("made")).unwrap();
        (made.uid(), made.gid())
    };
    assert_eq!(run(0), (100_000, 300_000));
    assert_eq!(run(15), (200_005, 300_015));
    assert_eq!(run(5000), (7, 305_000));
}

/// Clients give the mappings of a namespace that is joined along, or, as podman, some that are not.
#[test]
fn a_user_namespace_is_joined_with_mappings_beside_it() {
    if cannot_make_containers() {
        return;
    }
    let map = |host: u32, size: u32| json!([{"containerID": 0, "hostID": host, "size": size}]);
    let user = |config: &mut Value, path: Option<String>, map: Value| {
        let mut namespace = json!({"type": "user"});
        if let Some(path) = path {
            namespace["path"] = json!(path);
        }
        config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    };
    let first = Bundle::new().with_args(&["sleep", "1000"]).with(|config| user(config, None, map(100_000, 65536)));
    let life = rspawn_tests::life::Life::new(first);
    life.created(&[]).started();
    let path = format!("/proc/{}/ns/user", life.pid());
    for given in [map(100_000, 65536), map(0, 1), json!([])] {
        let bundle = Bundle::script("cat /proc/self/uid_map");
        let bundle = bundle.with(|config| user(config, Some(path.clone()), given));
        for directory in [bundle.path(), &bundle.rootfs()] {
            fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let shown = bundle.run();
        assert_eq!(shown.status, 0, "{}", shown.stderr);
        assert_eq!(shown.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    }
}

/// As containers of a pod with a user namespace do: their network was made by the engine, outside of it.
#[test]
fn a_user_namespace_is_joined_and_a_network_of_the_hosts() {
    if cannot_make_containers() {
        return;
    }
    let first = Bundle::new().with_args(&["sleep", "1000"]).with(in_user_namespace);
    let life = rspawn_tests::life::Life::new(first);
    life.created(&[]).started();
    let mut network = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    let path = format!("/proc/{}/ns/net", network.id());
    wait_for("another network", || fs::metadata(&path).is_ok_and(|found| found.ino() != own));
    let bundle = Bundle::script("readlink /proc/self/ns/net; cat /proc/self/uid_map").with(|config| {
        in_user_namespace(config);
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            match namespace["type"].as_str() {
                Some("user") => namespace["path"] = json!(format!("/proc/{}/ns/user", life.pid())),
                Some("network") => namespace["path"] = json!(path),
                _ => {}
            }
        }
        // Which show a network, or ask for rights over it.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    });
    for directory in [bundle.path(), &bundle.rootfs()] {
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = bundle.run();
    let expected = fs::read_link(&path).unwrap();
    network.kill().unwrap();
    network.wait().unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.starts_with(expected.to_str().unwrap()), "{output:?}");
    assert!(output.stdout.contains("100000"), "{output:?}");
}

/// Limits of a user namespace are its own root's to set.
#[test]
fn sysctls_of_a_user_namespace() {
    if cannot_make_containers() {
        return;
    }
    let with_sysctl = |user: bool| {
        Bundle::script("cat /proc/sys/user/max_net_namespaces").with(|config| {
            config["linux"]["sysctl"] = json!({"user.max_net_namespaces": "7"});
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
            if user {
                in_user_namespace(config);
            }
        })
    };
    let bundle = with_sysctl(true);
    fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(bundle.run().ok(), "7\n");
    let refused = with_sysctl(false).run().refused();
    assert!(refused.contains("/linux/sysctl/user.max_net_namespaces"), "{refused}");
}

#[test]
fn id_mappings_that_make_no_sense() {
    if cannot_make_containers() {
        return;
    }
    let run = |user: bool, mappings: Value| {
        let bundle = Bundle::new().with(|config| {
            if user {
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
            config["linux"]["uidMappings"] = mappings.clone();
            config["linux"]["gidMappings"] = mappings;
        });
        bundle.run().refused()
    };
    let range = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    let cases = [
        (false, json!([range(0, 1000, 1)]), "/linux/uidMappings"),
        (true, json!([]), "/linux/uidMappings"),
        (true, json!([range(0, 1000, 0)]), "/linux/uidMappings/0/size"),
        (true, json!([range(0, 4_294_967_295, 1)]), "/linux/uidMappings/0"),
        (true, json!([range(0, 1000, 10), range(9, 2000, 1)]), "/linux/uidMappings/1"),
        (true, json!([range(0, 1000, 10), range(20, 1005, 1)]), "/linux/uidMappings/1"),
    ];
    for (user, mappings, pointer) in cases {
        let error = run(user, mappings.clone());
        assert!(error.contains(&format!("config.json {pointer}")), "{mappings}: {error}");
    }
}

#[test]
fn clocks_are_offset() {
    if cannot_make_containers() {
        return;
    }
    let with_offsets = |offsets: Value| {
        Bundle::script("cat /proc/uptime /proc/self/timens_offsets").with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
            config["linux"]["timeOffsets"] = offsets;
        })
    };
    let offsets = json!({"boottime": {"secs": 50_000_000, "nanosecs": 5}, "monotonic": {"secs": 1000}});
    let shown = with_offsets(offsets).run().ok();
    let uptime: f64 = shown.split_whitespace().next().unwrap().parse().unwrap();
    assert!((50_000_000.0..100_000_000.0).contains(&uptime), "{shown}");
    let words: Vec<&str> = shown.lines().skip(1).flat_map(str::split_whitespace).collect();
    assert_eq!(words, ["monotonic", "1000", "0", "boottime", "50000000", "5"]);

    let error = with_offsets(json!({"realtime": {"secs": 1}})).run().refused();
    assert!(error.contains("/linux/timeOffsets/realtime"), "{error}");
    let error = with_offsets(json!({"boottime": {"nanosecs": 1_000_000_000}})).run().refused();
    assert!(error.contains("/linux/timeOffsets/boottime/nanosecs"), "{error}");
    let error = with_offsets(json!({"boottime": {"secs": 1}})).without_namespaces(&["time"]).run().refused();
    assert!(error.contains("/linux/timeOffsets") && error.contains("time namespace"), "{error}");
}

/// Runs a bundle from a network namespace of the test's own, after a script and before another.
#[track_caller]
fn run_in_network(before: &str, bundle: &Bundle, after: &str) -> Output {
    let command = bundle.command(&[]);
    let script = format!("{before}; \"$@\"; {after}");
    let mut outer = Command::new("unshare");
    outer.args(["--net", "sh", "-euc", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    let output = finish(outer, b"");
    bundle.assert_nothing_left();
    output
}

#[test]
fn network_devices_move_with_their_addresses() {
    if cannot_make_containers() {
        return;
    }
    let before = "ip link add out0 type veth peer name peer0; ip link add out1 type veth peer name peer1; \
        ip link set out0 mtu 1400; ip addr add 10.9.8.7/24 dev out0; ip addr add 10.9.8.8/24 dev out0; \
        ip -6 addr add fd00:9::1/64 dev out0 nodad; ip link set out0 up; ip link set peer0 up";
    let script = "ip link; ip addr; ip route; cat /sys/class/net/in0/mtu; \
        ping -c 1 -w 1 10.9.8.7 >/dev/null 2>&1; cat /proc/sys/net/ipv4/conf/out1/forwarding";
    let bundle = Bundle::script(script).with(|config| {
        config["linux"]["netDevices"] = json!({"out0": {"name": "in0"}, "out1": {}});
        // A device's sysctls are there once the device is.
        config["linux"]["sysctl"] = json!({"net.ipv4.conf.out1.forwarding": "1"});
    });
    let shown = run_in_network(before, &bundle, "echo HOST; ip -o link").ok();
    let (inside, host) = shown.split_once("HOST\n").unwrap();
    for address in ["10.9.8.7/24", "10.9.8.8/24", "fd00:9::1/64"] {
        assert!(inside.contains(address), "{address}: {inside}");
    }
    let link = |name: &str| inside.lines().find(|line| line.contains(&format!(" {name}@"))).unwrap_or(inside);
    assert!(link("in0").contains(",UP") && link("out1").contains("UP"), "{inside}");
    assert!(inside.contains("10.9.8.0/24 dev in0"), "{inside}");
    assert!(inside.ends_with("1400\n1\n"), "{inside}");
    assert!(!host.contains("out0") && !host.contains("out1"), "{host}");
}

#[test]
fn network_devices_that_cannot_move_are_named() {
    if cannot_make_containers() {
        return;
    }
    let with_device = |name: &str, new_name: &str| {
        Bundle::new().with(|config| config["linux"]["netDevices"] = json!({name: {"name": new_name}}))
    };
    let error = run_in_network("true", &with_device("nosuch0", "eth0"), "true").refused();
    assert!(error.contains("config.json /linux/netDevices/nosuch0") && error.contains("ENODEV"), "{error}");
    let before = "ip link add out0 type veth peer name peer0";
    let error = run_in_network(before, &with_device("out0", "lo"), "true").refused();
    assert!(error.contains("config.json /linux/netDevices/out0") && error.contains("EEXIST"), "{error}");
    for (name, new_name) in [("a/b", "x"), ("out0", "sixteen-bytes-is"), ("out0", "a b"), ("..", "x")] {
        let error = with_device(name, new_name).run().refused();
        assert!(error.contains("config.json /linux/netDevices/"), "{error}");
    }
    let error = with_device("out0", "eth0").without_namespaces(&["network"]).run().refused();
    assert!(error.contains("/linux/netDevices") && error.contains("network namespace"), "{error}");
}

#[test]
fn loopback_is_up_in_a_new_network_namespace_only() {
    if cannot_make_containers() {
        return;
    }
    let script = "ip link show lo; ip -4 addr show lo; ls /sys/class/net | wc -l";
    let shown = Bundle::script(script).run().ok();
    assert!(shown.contains("LOOPBACK,UP") && shown.contains("127.0.0.1/8"), "{shown}");
    let holder = Holder::new(&["--net"]);
    let joined = Bundle::script(script).without_namespaces(&["network"]).with(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "network", "path": holder.path("net")}));
    });
    let shown = joined.run().ok();
    assert!(shown.contains("LOOPBACK") && !shown.contains("LOOPBACK,UP"), "the other's affair: {shown}");
}
