//! What is wrong with a configuration, and the place that the error must name.
use serde_json::{Value, json};

/// A value put at a JSON pointer of the valid configuration (missing parents are made), and the pointer that the
/// error must name.
pub struct Entry {
    pub at: String,
    pub value: Value,
    pub pointer: String,
}

/// Every property that rspawn reads, with what it must not be.
type Values = &'static [fn() -> Value];

const BOOL: Values = &[|| json!("x"), || json!(1), || json!([])];
const TEXT: Values = &[|| json!(1), || json!([]), || json!({})];
const ID: Values = &[|| json!(-1), || json!(1u64 << 32), || json!("0"), || json!(1.5), || json!([])];
const INTEGER: Values = &[|| json!(1e30), || json!("7"), || json!({}), || json!(u64::MAX)];
const LIST: Values = &[|| json!("x"), || json!(3), || json!({"a": 1})];
const OBJECT: Values = &[|| json!("x"), || json!(7), || json!(true)];

const TYPES: &[(&str, Values)] = &[
    ("/ociVersion", TEXT),
    ("/root", OBJECT),
    ("/root/path", TEXT),
    ("/root/readonly", BOOL),
    ("/mounts", LIST),
    ("/mounts/0", OBJECT),
    ("/mounts/0/destination", TEXT),
    ("/mounts/0/type", TEXT),
    ("/mounts/0/source", TEXT),
    ("/mounts/0/options", LIST),
    ("/mounts/0/options/0", TEXT),
    ("/mounts/0/uidMappings", LIST),
    ("/mounts/0/gidMappings", LIST),
    ("/process", OBJECT),
    ("/process/terminal", BOOL),
    ("/process/consoleSize", OBJECT),
    ("/process/user", OBJECT),
    ("/process/user/uid", ID),
    ("/process/user/gid", ID),
    ("/process/user/umask", ID),
    ("/process/user/additionalGids", LIST),
    ("/process/args", LIST),
    ("/process/args/0", TEXT),
    ("/process/env", LIST),
    ("/process/env/0", TEXT),
    ("/process/cwd", TEXT),
    ("/process/capabilities", OBJECT),
    ("/process/capabilities/bounding", LIST),
    ("/process/capabilities/effective", LIST),
    ("/process/capabilities/ambient", LIST),
    ("/process/rlimits", LIST),
    ("/process/rlimits/0", OBJECT),
    ("/process/rlimits/0/type", TEXT),
    ("/process/rlimits/0/soft", &[|| json!(-1), || json!("7"), || json!(1e30)]),
    ("/process/noNewPrivileges", BOOL),
    ("/process/apparmorProfile", TEXT),
    ("/process/selinuxLabel", TEXT),
    ("/process/oomScoreAdj", INTEGER),
    ("/process/scheduler", OBJECT),
    ("/process/ioPriority", OBJECT),
    ("/hostname", TEXT),
    ("/domainname", TEXT),
    ("/annotations", OBJECT),
    ("/annotations/key", TEXT),
    ("/hooks", OBJECT),
    ("/hooks/prestart", LIST),
    ("/linux", OBJECT),
    ("/linux/namespaces", LIST),
    ("/linux/namespaces/0", OBJECT),
    ("/linux/namespaces/0/type", TEXT),
    ("/linux/namespaces/0/path", TEXT),
    ("/linux/uidMappings", LIST),
    ("/linux/gidMappings", LIST),
    ("/linux/timeOffsets", OBJECT),
    ("/linux/devices", LIST),
    ("/linux/netDevices", OBJECT),
    ("/linux/cgroupsPath", TEXT),
    ("/linux/resources", OBJECT),
    ("/linux/rootfsPropagation", TEXT),
    ("/linux/seccomp", OBJECT),
    ("/linux/seccomp/architectures", LIST),
    ("/linux/seccomp/syscalls", LIST),
    ("/linux/sysctl", OBJECT),
    ("/linux/maskedPaths", LIST),
    ("/linux/maskedPaths/0", TEXT),
    ("/linux/readonlyPaths", LIST),
    ("/linux/mountLabel", TEXT),
    ("/linux/personality", OBJECT),
    ("/linux/memoryPolicy", OBJECT),
];

/// Strings that a system call would cut at a NUL byte.
const NUL: &[&str] = &[
    "/root/path", "/mounts/0/destination", "/process/args/0", "/process/env/0", "/process/cwd", "/hostname",
    "/domainname", "/linux/namespaces/0/type", "/linux/maskedPaths/0", "/linux/readonlyPaths/0",
    "/linux/rootfsPropagation", "/process/rlimits/0/type",
];

pub fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |at: &str, value: Value, pointer: &str| {
        entries.push(Entry { at: at.into(), value, pointer: pointer.into() });
    };
    for (at, values) in TYPES {
        values.iter().for_each(|value| add(at, value(), at));
    }
    let empty_range = json!([{"containerID": 0, "hostID": 0, "size": 0}]);
    NUL.iter().for_each(|at| add(at, json!("/a\u{0}=b"), at));
    for (at, value, pointer) in [
        ("/ociVersion", json!(""), "/ociVersion"),
        ("/ociVersion", json!("2.0.0"), "/ociVersion"),
        ("/ociVersion", json!("1.x"), "/ociVersion"),
        ("/ociVersion", json!("1.0.0.0"), "/ociVersion"),
        ("/root", json!(null), "/root"),
        ("/root/path", json!(""), "/root/path"),
        ("/root/path", json!("../../etc"), "/root/path"),
        ("/root/path", json!("rootfs/../../x"), "/root/path"),
        ("/root/path", json!("x".repeat(5000)), "/root/path"),
        ("/process", json!(null), "/process"),
        ("/process/args", json!([]), "/process/args"),
        ("/process/args", json!(null), "/process/args"),
        ("/process/args", json!([""]), "/process/args/0"),
        ("/process/cwd", json!("relative"), "/process/cwd"),
        ("/process/cwd", json!(""), "/process/cwd"),
        ("/process/cwd", json!(format!("/{}", "x".repeat(300))), "/process/cwd"),
        ("/process/env/0", json!("NOVALUE"), "/process/env/0"),
        ("/process/env/0", json!("=x"), "/process/env/0"),
        ("/process/env/0", json!(""), "/process/env/0"),
        ("/process/user/uid", json!(u32::MAX), "/process/user/uid"),
        ("/process/user/gid", json!(u32::MAX), "/process/user/gid"),
        ("/process/user/umask", json!(0o1000), "/process/user/umask"),
        ("/process/user/additionalGids", json!([0, u32::MAX]), "/process/user/additionalGids/1"),
        ("/process/user/additionalGids", json!([-1]), "/process/user/additionalGids/0"),
        ("/process/user/additionalGids", json!(vec![0; 65537]), "/process/user/additionalGids"),
        ("/process/oomScoreAdj", json!(1001), "/process/oomScoreAdj"),
        ("/process/oomScoreAdj", json!(-1001), "/process/oomScoreAdj"),
        ("/process/rlimits/0/type", json!("RLIMIT_NOPE"), "/process/rlimits/0/type"),
        ("/process/rlimits/0/type", json!(""), "/process/rlimits/0/type"),
        ("/process/rlimits/0/soft", json!(4096), "/process/rlimits/0/soft"),
        ("/process/rlimits/1", json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}), "/process/rlimits/1/type"),
        ("/process/scheduler", json!({"policy": "SCHED_NOPE"}), "/process/scheduler/policy"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 20}), "/process/scheduler/nice"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -21}), "/process/scheduler/nice"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 100}), "/process/scheduler/priority"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 1}), "/process/scheduler/priority"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "runtime": 1}), "/process/scheduler"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": ["X"]}), "/process/scheduler/flags/0"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_X"}), "/process/ioPriority/class"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "/process/ioPriority/priority"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": -1}), "/process/ioPriority/priority"),
        ("/annotations/org.rspawn.init", json!("maybe"), "/annotations/org.rspawn.init"),
        ("/hostname", json!("x".repeat(65)), "/hostname"),
        ("/domainname", json!("x".repeat(1 << 20)), "/domainname"),
        ("/mounts/0/destination", json!("/"), "/mounts/0/destination"),
        ("/mounts/0/destination", json!(""), "/mounts/0/destination"),
        ("/mounts/0/destination", json!("/a/../.."), "/mounts/0/destination"),
        ("/mounts/0/destination", json!(format!("/{}", "x".repeat(256))), "/mounts/0/destination"),
        ("/mounts/0/destination", json!("/x".repeat(1 << 19)), "/mounts/0/destination"),
        ("/mounts/0/type", json!(""), "/mounts/0/type"),
        ("/mounts/0/type", json!("none"), "/mounts/0/type"),
        ("/mounts/1/options", json!(["idmap"]), "/mounts/1/options"),
        ("/mounts/0/options", json!(["tmpcopyup"]), "/mounts/0/options"),
        ("/mounts/1/options", json!([format!("size={}", "9".repeat(256))]), "/mounts/1/options"),
        ("/mounts/7", json!({"destination": "/m", "options": ["bind"]}), "/mounts/7/source"),
        ("/mounts/7", json!({"destination": "/m", "source": "", "options": ["rbind"]}), "/mounts/7/source"),
        ("/mounts/7", json!({"destination": "/m", "source": "/a\u{0}b", "options": ["bind"]}), "/mounts/7/source"),
        ("/mounts/7", json!({"destination": "/m", "type": "overlay"}), "/mounts/7/options"),
        (
            "/mounts/7",
            json!({"destination": "/m", "type": "overlay", "options": ["lowerdir=/a", "upperdir=/b"]}),
            "/mounts/7/options",
        ),
        ("/mounts/7", json!({"destination": "/m", "type": "a\u{0}b"}), "/mounts/7/type"),
        ("/mounts/7", mapped(json!([{"containerID": 0, "hostID": 0, "size": 1}]), json!([])), "/mounts/7/gidMappings"),
        (
            "/mounts/7",
            mapped(empty_range.clone(), json!([{"containerID": 0, "hostID": 0, "size": 1}])),
            "/mounts/7/uidMappings/0/size",
        ),
        ("/linux", json!(null), "/linux/namespaces"),
        ("/linux/namespaces", json!([]), "/linux/namespaces"),
        ("/linux/namespaces/0/type", json!("pidd"), "/linux/namespaces/0/type"),
        ("/linux/namespaces/0/type", json!("network"), "/linux/namespaces/1/type"),
        ("/linux/namespaces/0/path", json!("relative"), "/linux/namespaces/0/path"),
        ("/linux/namespaces/0/path", json!("/x".repeat(3000)), "/linux/namespaces/0/path"),
        ("/linux/namespaces/6", json!({"type": "user"}), "/linux/uidMappings"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "/linux/uidMappings"),
        (
            "/linux/uidMappings",
            json!([{"containerID": -1, "hostID": 0, "size": 1}]),
            "/linux/uidMappings/0/containerID",
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 1u64 << 33, "size": 1}]),
            "/linux/uidMappings/0/hostID",
        ),
        ("/linux/gidMappings", json!([{"containerID": 0, "size": 1}]), "/linux/gidMappings/0"),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}), "/linux/timeOffsets"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "z"}]), "/linux/devices/0/type"),
        ("/linux/devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 1}]), "/linux/devices/0/path"),
        ("/linux/devices", json!([{"path": "/", "type": "c", "major": 1, "minor": 1}]), "/linux/devices/0/path"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "minor": 1}]), "/linux/devices/0/major"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "b", "major": 4096, "minor": 1}]),
            "/linux/devices/0/major",
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "b", "major": 1, "minor": -1}]), "/linux/devices/0/minor"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "b", "major": 1, "minor": 1 << 20}]),
            "/linux/devices/0/minor",
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "p", "fileMode": 1 << 20}]), "/linux/devices/0/fileMode"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "p", "uid": u32::MAX}]), "/linux/devices/0/uid"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "p", "gid": -5}]), "/linux/devices/0/gid"),
        ("/linux/devices", json!([{"type": "p"}]), "/linux/devices/0"),
        ("/linux/netDevices", json!({"e/th0": {}}), "/linux/netDevices/e~1th0"),
        ("/linux/netDevices", json!({"0123456789abcdef": {}}), "/linux/netDevices/0123456789abcdef"),
        ("/linux/netDevices", json!({"eth0": {"name": ".."}}), "/linux/netDevices/eth0"),
        ("/linux/netDevices", json!({"a": {"name": "x"}, "b": {"name": "x"}}), "/linux/netDevices/b"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "|/x"}), "/linux/sysctl/kernel.core_pattern"),
        ("/linux/sysctl", json!({"net/../kernel/core_pattern": "|/x"}), "/linux/sysctl/net~1..~1kernel~1core_pattern"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "/linux/sysctl/vm.swappiness"),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": 1}), "/linux/sysctl/net.ipv4.ip_forward"),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1\u{0}"}), "/linux/sysctl/net.ipv4.ip_forward"),
        ("/linux/maskedPaths/0", json!("proc/.."), "/linux/maskedPaths/0"),
        ("/linux/maskedPaths/0", json!("/"), "/linux/maskedPaths/0"),
        ("/linux/readonlyPaths/0", json!("/.."), "/linux/readonlyPaths/0"),
        ("/linux/readonlyPaths/0", json!("."), "/linux/readonlyPaths/0"),
        ("/linux/rootfsPropagation", json!("sharde"), "/linux/rootfsPropagation"),
        ("/linux/personality", json!({"domain": "DOS"}), "/linux/personality/domain"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_X"}), "/linux/memoryPolicy/mode"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "3-1"}), "/linux/memoryPolicy/nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "flags": ["X"]}), "/linux/memoryPolicy/flags/0"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOPE"}), "/linux/seccomp/defaultAction"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "/linux/seccomp/defaultAction"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "/linux/seccomp/defaultErrnoRet",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1 << 17}),
            "/linux/seccomp/defaultErrnoRet",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X"]}),
            "/linux/seccomp/architectures/0",
        ),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}), "/linux/seccomp/flags/0"),
        ("/linux/seccomp", rule(json!({"names": ["read"], "action": "X"})), "/linux/seccomp/syscalls/0/action"),
        ("/linux/seccomp", rule(json!({"names": [""], "action": "SCMP_ACT_LOG"})), "/linux/seccomp/syscalls/0/names/0"),
        (
            "/linux/seccomp",
            rule(arg(json!({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}))),
            "/linux/seccomp/syscalls/0/args/0/index",
        ),
        (
            "/linux/seccomp",
            rule(arg(json!({"index": 0, "value": 1, "op": "EQ"}))),
            "/linux/seccomp/syscalls/0/args/0/op",
        ),
        (
            "/linux/seccomp",
            rule(arg(json!({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}))),
            "/linux/seccomp/syscalls/0/args/0/value",
        ),
        (
            "/linux/seccomp",
            rule(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})),
            "/linux/seccomp/listenerPath",
        ),
    ] {
        add(at, value, pointer);
    }
    entries
}

/// A bind mount with id maps of its own.
fn mapped(uids: Value, gids: Value) -> Value {
    json!({"destination": "/m", "source": "/etc", "options": ["bind"], "uidMappings": uids, "gidMappings": gids})
}

fn rule(rule: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

fn arg(arg: Value) -> Value {
    json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [arg]})
}

/// Puts a value at a JSON pointer; missing parents are made.
pub fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for part in pointer.split('/').skip(1) {
        place = match (place.is_array(), part.parse::<usize>()) {
            (true, Ok(index)) => {
                let list = place.as_array_mut().expect("a list");
                while list.len() <= index {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
            (false, Ok(index)) if !place.is_object() => {
                *place = json!([]);
                let list = place.as_array_mut().expect("a list");
                list.resize(index + 1, Value::Null);
                &mut list[index]
            }
            _ => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[part]
            }
        };
    }
    *place = value;
}
