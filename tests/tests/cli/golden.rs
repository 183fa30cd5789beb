//! Golden plans: what is printed for seven configurations on one imagined machine. `UPDATE_GOLDEN=1` writes the files.
use std::path::Path;

use rspawn_planner::Options;
use rspawn_planner::default_spec::{default_spec, host_spec};
use rspawn_planner::facts::{CgroupFacts, Facts, Hierarchy, Manager};
use rspawn_planner::seccomp::Arch;
use rspawn_report::show::{self, Colours};
use rspawn_tests::hostile::options;
use serde_json::{Value, json};

/// A machine like no other, so that the one that runs the test does not matter.
fn facts() -> Facts {
    Facts {
        kernel: (6, 12),
        machine: "x86_64".into(),
        uid: 0,
        gid: 0,
        capabilities: (1 << 41) - 1,
        cgroup: CgroupFacts {
            unified: true,
            hierarchies: vec![Hierarchy {
                controllers: String::new(),
                mount: Some("/sys/fs/cgroup".into()),
                own: "user.slice/session-1.scope".into(),
                ..Hierarchy::default()
            }],
            controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_string).to_vec(),
            units: Some(String::new()),
        },
        systemd: Some(Manager::System),
        ..Facts::default()
    }
}

#[track_caller]
fn golden(name: &str, config: &Value) {
    golden_with(name, config, options("golden", Path::new("/bundle")));
}

#[track_caller]
fn golden_with(name: &str, config: &Value, options: Options) {
    let spec =
        rspawn_planner::oci::parse(config.to_string().as_bytes()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    let planned = rspawn_planner::plan(&spec, &facts(), &options);
    let planned = planned.unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
    let text = show::text::text(&planned, None, Colours::NEVER);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).expect("a golden file");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    for (number, (new, old)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(new, old, "{name}.txt, line {}; UPDATE_GOLDEN=1 if it is meant", number + 1);
    }
    assert_eq!(text, golden, "{name}.txt has another length; UPDATE_GOLDEN=1 if it is meant");
}

fn default() -> Value {
    serde_json::to_value(default_spec(false)).unwrap()
}

#[test]
fn the_default_configuration() {
    golden("default", &default());
}

#[test]
fn a_terminal() {
    let mut config = serde_json::to_value(default_spec(true)).unwrap();
    config["process"]["consoleSize"] = json!({"height": 25, "width": 80});
    golden("terminal", &config);
}

#[test]
fn the_hosts_own_root() {
    let spec = host_spec(vec!["ls".into(), "/".into()], false, Some("vt100".into()), Some(Arch::X86_64));
    golden("host", &serde_json::to_value(spec).unwrap());
}

#[test]
fn a_user_namespace() {
    let mut config = default();
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rro", "idmap"]}),
    );
    golden("userns", &config);
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

/// `runc spec` of runc 1.1, word for word where it matters.
#[test]
fn the_configuration_of_runc_spec() {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"], "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "ambient": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}], "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &devpts),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    golden("runc-spec", &config);
}

/// What podman makes of `podman run -v data:/data`: much of everything.
#[test]
fn a_configuration_like_podmans() {
    let mut config = default();
    let caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
    config["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps, "ambient": []});
    config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "umask": 18, "additionalGids": [1000, 27]});
    config["process"]["oomScoreAdj"] = json!(0);
    config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 1_048_576},
        {"type": "RLIMIT_NPROC", "hard": 4_194_304, "soft": 4_194_304},
    ]);
    config["root"] = json!({"path": "/var/lib/containers/storage/overlay/abc/merged"});
    let run = "/run/containers/storage/overlay-containers/abc/userdata";
    for (destination, source) in
        [("/etc/resolv.conf", "resolv.conf"), ("/etc/hosts", "hosts"), ("/etc/hostname", "hostname")]
    {
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": destination, "type": "bind",
            "source": format!("{run}/{source}"), "options": ["bind", "rprivate"]}));
    }
    config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/data", "type": "bind",
        "source": "/var/lib/containers/storage/volumes/data/_data", "options": ["nosuid", "nodev", "rbind"]}));
    config["annotations"] = json!({"io.container.manager": "libpod", "org.opencontainers.image.stopSignal": "15"});
    config["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 0"});
    config["linux"]["cgroupsPath"] = json!("machine.slice:libpod:abc");
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["bdflush", "kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["read", "write", "openat", "execve", "exit_group", "clone3"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
        ]
    });
    golden("podman", &config);
}

/// A scope of systemd's, with limits that systemd is told of and a property of the bundle's own.
#[test]
fn a_scope() {
    let mut config = default();
    config["linux"]["cgroupsPath"] = json!("kubepods-besteffort.slice:cri-containerd:abc");
    config["linux"]["resources"] = json!({
        "memory": {"limit": 1 << 26}, "pids": {"limit": 20}, "cpu": {"shares": 512, "quota": 1234, "period": 10_000,
        "cpus": "0-1"}, "devices": [{"allow": false, "access": "rwm"}]
    });
    config["annotations"] =
        json!({"org.systemd.property.TimeoutStopSec": "5", "org.systemd.property.After": "['crio.service']"});
    let options = Options { systemd: true, ..options("golden", Path::new("/bundle")) };
    golden_with("scope", &config, options);
}
