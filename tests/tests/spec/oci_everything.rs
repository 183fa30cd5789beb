//! `--oci-bundle` on a bundle with everything that systemd-nspawn reads. Its entry point looks at each from inside.
use std::fs;
use std::path::Path;

use rspawn_tests::mountinfo::{in_private_mounts, mount_at};
use rspawn_tests::silent::{command, silent};
use rspawn_tests::{Bundle, cannot_make_containers, finish, status_field};
use serde_json::{Value, json};

/// What the payload prints, under headings.
const LOOK: &str = "\
    at() { echo \"@$1\"; }; \
    at console; stty size; tty; \
    at ids; id -u; id -g; id -G; \
    at environment; echo \"$A:$LANG:$HOME:$container\"; \
    at directory; pwd; \
    at limits; ulimit -Sn; ulimit -Hn; ulimit -Sc; cat /proc/self/oom_score_adj; \
    at status; cat /proc/self/status; \
    at names; hostname; \
    at devices; stat -c '%n %F %t:%T %a %u:%g' /dev/zero2 /dev/disk /dev/pipe; head -c 3 /dev/zero2 | wc -c; \
    (: </dev/control) && echo opened; (: >>/dev/control) 2>&1; \
    at sysctls; cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward; \
    at seccomp; mkdir /scratch/x 2>&1; kill -23 $$ 2>&1; kill -18 $$ && echo sent; \
    at paths; wc -c </etc/secret; wc -c </proc/uptime; touch /var/kept/x 2>&1; \
    at data; cat /data/file /data/below/file; touch /data/x 2>&1; touch /scratch/x && echo writable; \
    at hooks; cat /tmp/started; \
    at cgroups; for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
        memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus \
        pids/pids.max blkio/blkio.bfq.weight blkio/blkio.throttle.read_bps_device \
        blkio/blkio.throttle.write_bps_device blkio/blkio.throttle.read_iops_device \
        blkio/blkio.throttle.write_iops_device memory.max memory.low pids.max cpuset.cpus; do \
        [ ! -e /sys/fs/cgroup/$file ] || echo $file $(cat /sys/fs/cgroup/$file); done; \
    at mounts; cat /proc/self/mountinfo";

fn process() -> Value {
    json!({
        "terminal": true,
        "consoleSize": {"height": 40, "width": 120},
        "user": {"uid": 1, "gid": 2, "additionalGids": [4, 5]},
        "args": ["sh", "-c", LOOK],
        "env": ["A=b c", "LANG=de_DE", "HOME=/var"],
        "cwd": "/var",
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "noNewPrivileges": true,
        "oomScoreAdj": 20,
    })
}

fn linux(disk: &str) -> Value {
    let (major, minor) = disk.split_once(':').unwrap();
    let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let kinds = ["mount", "pid", "ipc", "uts", "network", "cgroup"];
    let refuse = |names: Value, args: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "args": args});
    json!({
        "namespaces": kinds.map(|kind| json!({"type": kind})),
        "devices": [
            {"path": "/dev/zero2", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 1, "gid": 2},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 1, "fileMode": 0o600},
            {"path": "/dev/control", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 3, "gid": 4},
        ],
        "resources": {
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"},
            ],
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0"},
            "blockIO": {
                "weight": 300,
                "throttleReadBpsDevice": throttle(1_000_000), "throttleWriteBpsDevice": throttle(2_000_000),
                "throttleReadIOPSDevice": throttle(300), "throttleWriteIOPSDevice": throttle(400),
            },
            "pids": {"limit": 33},
        },
        "sysctl": {"kernel.msgmax": "4096", "net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                refuse(json!(["mkdir", "mkdirat"]), json!([])),
                // Signal 23 alone of all whose lowest eight bits these are.
                refuse(json!(["kill"]), json!([{"index": 1, "value": 255, "valueTwo": 23, "op": "SCMP_CMP_MASKED_EQ"}])),
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/etc/secret", "/proc/uptime", "/no/such"],
        "readonlyPaths": ["/var/kept", "/no/such"],
    })
}

const HOOKS: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

fn bundle() -> Bundle {
    let bundle = silent();
    let log = bundle.path().join("hooks.log").display().to_string();
    let root = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let disk = root.lines().filter(|line| line.contains(" - ext4 ")).find_map(|line| line.split(' ').nth(2));
    let disk = disk.unwrap_or("1:0").to_string();
    for (path, content) in [("rootfs/etc/secret", "secret"), ("data/file", "data\n"), ("rootfs/var/kept/file", "")] {
        let path = bundle.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir_all(bundle.path().join("data/below")).unwrap();
    bundle.with(|config| {
        let hook = |text: String, tag: &str| {
            let env = [format!("TAG={tag}"), "PATH=/bin:/usr/bin".into()];
            json!([{"path": "/bin/sh", "args": ["sh", "-c", text], "env": env, "timeout": 30}])
        };
        let mut hooks = json!({"startContainer": hook("echo $TAG >/tmp/started".into(), "inside")});
        for kind in HOOKS {
            hooks[kind] = hook(format!("echo $TAG $(cat) >>{log}"), kind);
        }
        *config = json!({
            "ociVersion": "1.0.0",
            "root": {"path": "rootfs"},
            "hostname": "everything",
            "mounts": [
                {"destination": "/scratch", "type": "tmpfs", "source": "scratch", "options": ["size=1M", "mode=1777"]},
                {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "rro"]},
            ],
            "process": process(),
            "linux": linux(&disk),
            "hooks": hooks,
            "annotations": {"org.example.key": "its value"},
        });
    })
}

/// The lines under a heading.
fn under<'a>(output: &'a str, heading: &str) -> Vec<&'a str> {
    let mut lines = output.lines().skip_while(|line| *line != format!("@{heading}")).skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('@')).collect()
}

#[test]
fn all_that_a_bundle_says_is_so() {
    if cannot_make_containers() {
        return;
    }
    let bundle = bundle();
    let mut outer = in_private_mounts(
        &format!(
            "mount -t tmpfs deep {0}/data/below; echo below >{0}/data/below/file; exec \"$@\"",
            bundle.path().display()
        ),
        &command(&bundle, &[]),
    );
    outer.env_remove("COLUMNS").env_remove("LINES");
    let output = finish(outer, b"").ok();
    bundle.assert_nothing_left();
    let has = |heading: &str, expected: &[&str]| assert_eq!(under(&output, heading), expected, "{heading}: {output}");
    has("console", &["40 120", "/dev/pts/0"]);
    has("ids", &["1", "2", "2 4 5"]);
    has("environment", &["b c:de_DE:/var:systemd-nspawn"]);
    has("directory", &["/var"]);
    has("limits", &["100", "200", "0", "20"]);
    has("names", &["everything"]);
    has("sysctls", &["4096", "1"]);
    has("hooks", &["inside"]);
    let devices = ["character special file 1:5 640 1:2", "block special file 7:1 600 0:0", "fifo 0:0 622 3:4"];
    let found = under(&output, "devices");
    assert!(devices.iter().zip(&found).all(|(expected, found)| found.ends_with(expected)), "{found:?}");
    assert_eq!(found[3], "3", "{found:?}");
    // Of one that may be read, if this machine has it.
    let has_loops = fs::read_to_string("/proc/misc").unwrap().contains("237 loop-control");
    assert_eq!(found.contains(&"opened"), has_loops, "{found:?}");
    assert!(found.iter().any(|line| line.ends_with("/dev/control: Operation not permitted")), "{found:?}");
    let status = under(&output, "status").join("\n");
    for (field, value) in [
        ("CapInh", "0000000000000020"),
        ("CapPrm", "0000000000000020"),
        ("CapEff", "0000000000000020"),
        ("CapBnd", "0000000000000021"),
        ("CapAmb", "0000000000000020"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Seccomp_filters", "1"),
    ] {
        assert_eq!(status_field(&status, field), Some(value), "{field}: {status}");
    }
    let seccomp = under(&output, "seccomp");
    assert_eq!(seccomp.iter().filter(|line| line.ends_with("Operation not permitted")).count(), 2, "{seccomp:?}");
    assert_eq!(seccomp.last(), Some(&"sent"));
    let paths = under(&output, "paths");
    assert!(paths[..2] == ["0", "0"] && paths[2].ends_with("/var/kept/x: Read-only file system"), "{paths:?}");
    let data = under(&output, "data");
    assert!(data[..2] == ["data", "below"] && data[2].ends_with("/data/x: Read-only file system"), "{data:?}");
    assert_eq!(data[3], "writable");
    let mounts = under(&output, "mounts").join("\n");
    assert!(mount_at(&mounts, "/scratch").filesystem_has("size=1024k"), "{mounts}");
    assert!(mount_at(&mounts, "/data/below").has("ro"), "{mounts}");
    // And what no entry asks for.
    for (place, kind) in
        [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/run", "tmpfs"), ("/tmp", "tmpfs")]
    {
        assert_eq!(mount_at(&mounts, place).fs, kind);
    }
    limits(&under(&output, "cgroups"));
    let log = fs::read_to_string(bundle.path().join("hooks.log")).unwrap();
    let kinds: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, HOOKS, "{log}");
    for state in log.lines() {
        assert!(state.contains("\"org.example.key\":\"its value\"") && state.contains(&bundle.id), "{state}");
    }
}

/// Of those kinds that this machine has.
fn limits(found: &[&str]) {
    let expected: &[&str] = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        &["memory.max 67108864", "memory.low 33554432", "pids.max 33", "cpuset.cpus 0"]
    } else {
        &[
            "memory/memory.limit_in_bytes 67108864",
            "memory/memory.memsw.limit_in_bytes 100663296",
            "memory/memory.soft_limit_in_bytes 33554432",
            "cpu/cpu.shares 512",
            "cpu/cpu.cfs_quota_us 50000",
            "cpu/cpu.cfs_period_us 200000",
            "cpuset/cpuset.cpus 0",
            "pids/pids.max 33",
            "blkio/blkio.bfq.weight 300",
            "read_bps_device",
            "write_bps_device",
            "read_iops_device",
            "write_iops_device",
        ]
    };
    for (limit, value) in [
        ("read_bps_device", "1000000"),
        ("write_bps_device", "2000000"),
        ("read_iops_device", "300"),
        ("write_iops_device", "400"),
    ] {
        let lines = found.iter().filter(|line| line.contains(limit));
        assert!(lines.into_iter().all(|line| line.ends_with(value)), "{found:?}");
    }
    for line in expected {
        assert!(found.iter().any(|found| found.contains(line)), "{line}: {found:?}");
    }
}
