//! Configurations of every kind that a start may refuse, and those beside them that it takes.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rspawn_tests::Bundle;
use serde_json::{Value, json};

/// A change of a bundle that starts.
pub struct Case {
    pub name: &'static str,
    pub change: fn(&mut Bundle),
    /// Words that `check` and `run` both take.
    pub options: &'static [&'static str],
}

const fn case(name: &'static str, change: fn(&mut Bundle)) -> Case {
    Case { name, change, options: &[] }
}

const fn option(name: &'static str, options: &'static [&'static str]) -> Case {
    Case { name, change: |_| (), options }
}

/// Puts a value at a JSON pointer; objects on the way are made.
fn put(bundle: &mut Bundle, pointer: &str, value: Value) {
    let mut place = &mut bundle.config;
    for part in pointer.split('/').skip(1) {
        place = match (place.is_array(), part.parse::<usize>()) {
            (true, Ok(index)) => &mut place[index],
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

fn mount(bundle: &mut Bundle, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn bind(bundle: &mut Bundle, source: &str, destination: &str, options: &[&str]) {
    mount(bundle, destination, "bind", source, &[&["bind"], options].concat());
}

/// A file in the bundle's root.
fn file(bundle: &Bundle, path: &str, text: &str, mode: u32) {
    let path = bundle.rootfs().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn link(bundle: &Bundle, path: &str, target: &str) {
    symlink(target, bundle.rootfs().join(path)).unwrap();
}

fn args(bundle: &mut Bundle, args: &[&str]) {
    put(bundle, "/process/args", json!(args));
}

/// Joins a namespace by a path; `PID` in it is this process.
fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    let path = path.replace("PID", &std::process::id().to_string());
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|entry| entry["type"] != kind);
    list.push(json!({"type": kind, "path": path}));
}

fn without_namespace(bundle: &mut Bundle, kind: &str) {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != kind);
}

fn in_user_namespace(bundle: &mut Bundle) {
    rspawn_tests::bundle::in_user_namespace(&mut bundle.config);
    let root = bundle.path().to_path_buf();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
}

fn hook(bundle: &mut Bundle, kind: &str, path: &str) {
    put(bundle, &format!("/hooks/{kind}"), json!([{"path": path}]));
}

fn sysctl(bundle: &mut Bundle, key: &str, value: &str) {
    put(bundle, "/linux/sysctl", json!({key: value}));
}

fn rlimit(bundle: &mut Bundle, kind: &str, soft: u64, hard: u64) {
    put(bundle, "/process/rlimits", json!([{"type": kind, "soft": soft, "hard": hard}]));
}

fn resources(bundle: &mut Bundle, value: Value) {
    put(bundle, "/linux/resources", value);
}

/// A filter that answers these calls with EPERM, and allows all others.
fn denying(bundle: &mut Bundle, names: &[&str]) {
    let rule = json!({"names": names, "action": "SCMP_ACT_ERRNO"});
    put(bundle, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
}

fn as_user(bundle: &mut Bundle) {
    put(bundle, "/process/user", json!({"uid": 1000, "gid": 1000}));
    put(bundle, "/process/capabilities", json!({}));
}

pub fn all() -> impl Iterator<Item = &'static Case> {
    let lists = [START, COMMANDS, NAMESPACES, HOOKS, MOUNTS, PLACES, PROCESS, SYSCTLS, LIMITS, OTHERS, OPTIONS];
    lists.into_iter().flatten()
}

pub const START: &[Case] = &[
    case("the default bundle", |_| ()),
    case("a read-only root", |b| put(b, "/root/readonly", json!(true))),
    case("no root", |b| put(b, "/root/path", json!("nowhere"))),
    case("a root that is a file", |b| {
        file(b, "etc/file", "", 0o644);
        put(b, "/root/path", json!("rootfs/etc/file"));
    }),
    case("a cgroup path of its own", |b| {
        let path = format!("/rspawn-check/{}", b.id);
        put(b, "/linux/cgroupsPath", json!(path));
    }),
    case("the top of the hierarchies", |b| put(b, "/linux/cgroupsPath", json!("/"))),
    case("a cgroup with a long name", |b| put(b, "/linux/cgroupsPath", json!(format!("/{}", "x".repeat(300))))),
    case("no mounts", |b| put(b, "/mounts", json!([]))),
    case("a user namespace", in_user_namespace),
    case("a hostname that is too long", |b| put(b, "/hostname", json!("x".repeat(65)))),
    case("a domainname", |b| put(b, "/domainname", json!("example.org"))),
    case("no cgroup namespace", |b| without_namespace(b, "cgroup")),
    case("no network namespace", |b| without_namespace(b, "network")),
    case("no pid namespace", |b| without_namespace(b, "pid")),
    case("no ipc namespace", |b| without_namespace(b, "ipc")),
    case("no uts namespace", |b| without_namespace(b, "uts")),
    case("no mount namespace", |b| without_namespace(b, "mount")),
];

pub const COMMANDS: &[Case] = &[
    case("a command that is nowhere", |b| args(b, &["nosuchcommand"])),
    case("a path that is nowhere", |b| args(b, &["/bin/nosuchcommand"])),
    case("a path below a file", |b| args(b, &["/bin/busybox/x"])),
    case("a command that is a directory", |b| args(b, &["/etc"])),
    case("a command by a relative path", |b| args(b, &["bin/true"])),
    case("a command by a relative path from elsewhere", |b| {
        put(b, "/process/cwd", json!("/etc"));
        args(b, &["bin/true"]);
    }),
    case("a command by dots", |b| {
        put(b, "/process/cwd", json!("/etc"));
        args(b, &["../bin/./true"]);
    }),
    case("a command that may not be executed", |b| {
        file(b, "bin/data", "#!/bin/sh\n", 0o644);
        args(b, &["/bin/data"]);
    }),
    case("a command of the search that may not be executed", |b| {
        file(b, "bin/data", "#!/bin/sh\n", 0o644);
        args(b, &["data"]);
    }),
    case("a script", |b| {
        file(b, "bin/script", "#!/bin/sh\nexit 0\n", 0o755);
        args(b, &["script"]);
    }),
    case("a script of a missing interpreter", |b| {
        file(b, "bin/script", "#!/bin/nosuch -x\nexit 0\n", 0o755);
        args(b, &["script"]);
    }),
    case("a script with the interpreter of Windows", |b| {
        file(b, "bin/script", "#!/bin/sh\r\nexit 0\r\n", 0o755);
        args(b, &["script"]);
    }),
    case("a text that is no program", |b| {
        file(b, "bin/text", "exit 0\n", 0o755);
        args(b, &["/bin/text"]);
    }),
    case("an empty program", |b| {
        file(b, "bin/empty", "", 0o755);
        args(b, &["/bin/empty"]);
    }),
    case("a program whose loader is missing", |b| {
        fs::copy("/bin/ls", b.rootfs().join("bin/dynamic")).unwrap();
        args(b, &["dynamic"]);
    }),
    case("a program of another machine", |b| {
        let mut program = fs::read(b.rootfs().join("bin/busybox")).unwrap();
        // EM_S390 (elf.h).
        (program[18], program[19]) = (22, 0);
        fs::write(b.rootfs().join("bin/foreign"), program).unwrap();
        fs::set_permissions(b.rootfs().join("bin/foreign"), fs::Permissions::from_mode(0o755)).unwrap();
        args(b, &["foreign"]);
    }),
    case("an absolute link", |b| {
        link(b, "usr/true", "/bin/true");
        args(b, &["/usr/true"]);
    }),
    case("a link out of the root", |b| {
        link(b, "usr/true", "../../../../../../bin/true");
        args(b, &["/usr/true"]);
    }),
    case("a link to nothing", |b| {
        link(b, "usr/true", "/usr/nothing");
        args(b, &["/usr/true"]);
    }),
    case("a link to itself", |b| {
        link(b, "usr/true", "true");
        args(b, &["/usr/true"]);
    }),
    case("no search path", |b| put(b, "/process/env", json!([]))),
    case("a search path without the command", |b| put(b, "/process/env", json!(["PATH=/usr:/etc"]))),
    case("an empty search path", |b| put(b, "/process/env", json!(["PATH="]))),
    case("a search path with a relative directory", |b| put(b, "/process/env", json!(["PATH=bin"]))),
    case("a command that a tmpfs covers", |b| mount(b, "/bin", "tmpfs", "tmpfs", &[])),
    case("a command on a tmpfs that has a copy", |b| mount(b, "/bin", "tmpfs", "tmpfs", &["tmpcopyup"])),
    case("a command that a bound directory brings", |b| {
        let bin = b.rootfs().join("bin").display().to_string();
        bind(b, &bin, "/opt/programs", &[]);
        args(b, &["/opt/programs/true"]);
    }),
    case("a command that a bound directory covers", |b| {
        fs::create_dir(b.path().join("empty")).unwrap();
        bind(b, "empty", "/bin", &[]);
    }),
    case("a command below noexec", |b| {
        let bin = b.rootfs().join("bin").display().to_string();
        bind(b, &bin, "/opt/programs", &["noexec"]);
        args(b, &["/opt/programs/true"]);
    }),
    case("a command that a user may not execute", |b| {
        fs::copy(b.rootfs().join("bin/busybox"), b.rootfs().join("bin/own")).unwrap();
        fs::set_permissions(b.rootfs().join("bin/own"), fs::Permissions::from_mode(0o700)).unwrap();
        as_user(b);
        args(b, &["own"]);
    }),
    case("a command in a directory that a user may not search", |b| {
        file(b, "opt/x", "", 0o644);
        fs::copy(b.rootfs().join("bin/busybox"), b.rootfs().join("opt/true")).unwrap();
        fs::set_permissions(b.rootfs().join("opt"), fs::Permissions::from_mode(0o700)).unwrap();
        as_user(b);
        args(b, &["/opt/true"]);
    }),
    case("a command that a user may execute", as_user),
    case("a command in /dev", |b| args(b, &["/dev/null"])),
    case("a command that is missing in /proc", |b| args(b, &["/proc/nosuch"])),
];

pub const NAMESPACES: &[Case] = &[
    case("a network namespace of a process", |b| join(b, "network", "/proc/PID/ns/net")),
    case("an ipc namespace of a process", |b| join(b, "ipc", "/proc/PID/ns/ipc")),
    case("a uts namespace of a process", |b| join(b, "uts", "/proc/PID/ns/uts")),
    case("a uts namespace of a process, with its name", |b| {
        b.config.as_object_mut().unwrap().remove("hostname");
        join(b, "uts", "/proc/PID/ns/uts");
    }),
    case("a pid namespace of a process", |b| join(b, "pid", "/proc/PID/ns/pid")),
    case("a cgroup namespace of a process", |b| join(b, "cgroup", "/proc/PID/ns/cgroup")),
    case("a user namespace of a process that is the own", |b| join(b, "user", "/proc/PID/ns/user")),
    case("a mount namespace of a process that is the own", |b| join(b, "mount", "/proc/PID/ns/mnt")),
    case("a time namespace of a process", |b| join(b, "time", "/proc/PID/ns/time")),
    case("a namespace of a process's children", |b| join(b, "pid", "/proc/PID/ns/pid_for_children")),
    case("a namespace of another kind", |b| join(b, "network", "/proc/PID/ns/uts")),
    case("a namespace that is /etc/passwd", |b| join(b, "network", "/etc/passwd")),
    case("a namespace that is a directory", |b| join(b, "network", "/etc")),
    case("a namespace that is /dev/null", |b| join(b, "network", "/dev/null")),
    case("a namespace that is missing", |b| join(b, "network", "/run/netns/nosuch")),
    case("a namespace of a missing process", |b| join(b, "network", "/proc/4194305/ns/net")),
    case("a descriptor as a namespace", |b| join(b, "network", "/proc/self/fd/0")),
    case("a root of a process as a namespace", |b| join(b, "network", "/proc/PID/root")),
    case("a link to a namespace", |b| {
        let link = b.path().join("net");
        symlink(format!("/proc/{}/ns/net", std::process::id()), &link).unwrap();
        join(b, "network", link.to_str().unwrap());
    }),
    case("a link to no namespace", |b| {
        let link = b.path().join("net");
        symlink("/etc/passwd", &link).unwrap();
        join(b, "network", link.to_str().unwrap());
    }),
    case("time offsets", |b| {
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        put(b, "/linux/timeOffsets", json!({"monotonic": {"secs": 100, "nanosecs": 0}}));
    }),
    case("time offsets before the start of the clock", |b| {
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        put(b, "/linux/timeOffsets", json!({"boottime": {"secs": -4_000_000_000i64, "nanosecs": 0}}));
    }),
    case("time offsets beyond the end of the clock", |b| {
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        put(b, "/linux/timeOffsets", json!({"boottime": {"secs": 9_000_000_000i64, "nanosecs": 0}}));
    }),
];

pub const HOOKS: &[Case] = &[
    case("a prestart hook", |b| hook(b, "prestart", "/bin/true")),
    case("a missing prestart hook", |b| hook(b, "prestart", "/nosuch/hook")),
    case("a missing createRuntime hook", |b| hook(b, "createRuntime", "/nosuch/hook")),
    case("a missing createContainer hook", |b| hook(b, "createContainer", "/nosuch/hook")),
    case("a missing startContainer hook", |b| hook(b, "startContainer", "/nosuch/hook")),
    case("a startContainer hook that is the host's", |b| hook(b, "startContainer", "/usr/bin/env")),
    case("a startContainer hook", |b| hook(b, "startContainer", "/bin/true")),
    case("a missing poststart hook", |b| hook(b, "poststart", "/nosuch/hook")),
    case("a missing poststop hook", |b| hook(b, "poststop", "/nosuch/hook")),
    case("a hook that is a directory", |b| hook(b, "createRuntime", "/etc")),
    case("a hook that may not be executed", |b| hook(b, "createRuntime", "/etc/passwd")),
    case("a hook of a missing interpreter", |b| {
        let path = b.path().join("hook");
        fs::write(&path, "#!/nosuch/interpreter\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        hook(b, "createRuntime", path.to_str().unwrap());
    }),
    case("a hook that fails", |b| hook(b, "createRuntime", "/bin/false")),
    case("a startContainer hook that fails", |b| hook(b, "startContainer", "/bin/false")),
    case("a createContainer hook", |b| hook(b, "createContainer", "/bin/true")),
];

pub const MOUNTS: &[Case] = &[
    case("a word of a mount that is misspelt", |b| mount(b, "/x", "tmpfs", "tmpfs", &["sze=64k"])),
    case("a size that is none", |b| mount(b, "/x", "tmpfs", "tmpfs", &["size=big"])),
    case("a size in percent", |b| mount(b, "/x", "tmpfs", "tmpfs", &["size=10%"])),
    case("a size of a tmpfs", |b| mount(b, "/x", "tmpfs", "tmpfs", &["size=64k", "mode=1777", "nr_inodes=1k"])),
    case("a mode that is none", |b| mount(b, "/x", "tmpfs", "tmpfs", &["mode=rwx"])),
    case("a mode that is too large", |b| mount(b, "/x", "tmpfs", "tmpfs", &["mode=99999"])),
    case("a user of a tmpfs", |b| mount(b, "/x", "tmpfs", "tmpfs", &["uid=1000", "gid=1000"])),
    case("a user of a tmpfs who is not mapped", |b| {
        in_user_namespace(b);
        mount(b, "/x", "tmpfs", "tmpfs", &["uid=100000"]);
    }),
    case("inodes that are none", |b| mount(b, "/x", "tmpfs", "tmpfs", &["nr_inodes=few"])),
    case("huge pages of a tmpfs", |b| mount(b, "/x", "tmpfs", "tmpfs", &["huge=never"])),
    case("huge pages that are misspelt", |b| mount(b, "/x", "tmpfs", "tmpfs", &["huge=nevr"])),
    case("a policy of a tmpfs that is none", |b| mount(b, "/x", "tmpfs", "tmpfs", &["mpol=nosuch"])),
    case("a parameter of another filesystem", |b| mount(b, "/x", "tmpfs", "tmpfs", &["newinstance"])),
    case("a parameter of a mqueue", |b| mount(b, "/x", "mqueue", "mqueue", &["size=64k"])),
    case("a parameter of a devpts that is misspelt", |b| mount(b, "/x", "devpts", "devpts", &["ptmxmod=0666"])),
    case("a group of a devpts that is none", |b| mount(b, "/x", "devpts", "devpts", &["gid=tty"])),
    case("a parameter of a procfs", |b| mount(b, "/x", "proc", "proc", &["hidepid=2"])),
    case("a parameter of a procfs that is out of range", |b| mount(b, "/x", "proc", "proc", &["hidepid=9"])),
    case("a filesystem that no kernel has", |b| mount(b, "/x", "nosuchfs", "none", &[])),
    case("a filesystem that this kernel lacks", |b| mount(b, "/x", "zonefs", "none", &[])),
    case("a ramfs", |b| mount(b, "/x", "ramfs", "ramfs", &[])),
    case("a disk that is missing", |b| mount(b, "/x", "ext4", "/dev/nosuchdisk", &[])),
    case("a disk that is a file", |b| {
        fs::write(b.path().join("disk"), "").unwrap();
        let disk = b.path().join("disk").display().to_string();
        mount(b, "/x", "ext4", &disk, &[]);
    }),
    case("a disk that is no path", |b| mount(b, "/x", "ext4", "none", &[])),
    case("an overlay without layers", |b| mount(b, "/x", "overlay", "overlay", &[])),
    case("an overlay of one layer", |b| mount(b, "/x", "overlay", "overlay", &["lowerdir=/etc"])),
    case("an overlay of two layers", |b| mount(b, "/x", "overlay", "overlay", &["lowerdir=/etc:/usr"])),
    case("an overlay of a missing layer", |b| mount(b, "/x", "overlay", "overlay", &["lowerdir=/etc:/nosuch"])),
    case("an overlay of a file", |b| mount(b, "/x", "overlay", "overlay", &["lowerdir=/etc:/etc/passwd"])),
    case("an overlay without a work directory", |b| {
        let upper = b.path().join("upper");
        fs::create_dir(&upper).unwrap();
        mount(b, "/x", "overlay", "overlay", &["lowerdir=/etc", &format!("upperdir={}", upper.display())]);
    }),
    case("a source that is missing", |b| bind(b, "/nosuch/source", "/x", &[])),
    case("a source below a file", |b| bind(b, "/etc/passwd/x", "/x", &[])),
    case("a source by a link", |b| {
        symlink("/etc", b.path().join("link")).unwrap();
        bind(b, "link", "/x", &[]);
    }),
    case("a source by a link to nothing", |b| {
        symlink("/nosuch", b.path().join("link")).unwrap();
        bind(b, "link", "/x", &[]);
    }),
    case("a source by a magic link", |b| bind(b, "/proc/self/root", "/x", &[])),
    case("a source by a magic link on the way", |b| bind(b, "/proc/self/cwd/etc", "/x", &[])),
    case("a source with mounts below, without them", |b| bind(b, "/sys", "/x", &[])),
    case("a source that is /dev", |b| bind(b, "/dev", "/x", &["rbind"])),
    case("a sysfs without a network namespace in a user namespace", |b| {
        in_user_namespace(b);
        without_namespace(b, "network");
    }),
    case("a procfs without a pid namespace in a user namespace", |b| {
        in_user_namespace(b);
        without_namespace(b, "pid");
    }),
    case("a mqueue without an ipc namespace in a user namespace", |b| {
        in_user_namespace(b);
        without_namespace(b, "ipc");
    }),
    case("a mount of cgroup v2", |b| mount(b, "/x", "cgroup2", "cgroup2", &[])),
    case("a mount with ids of its own", |b| {
        fs::create_dir(b.path().join("data")).unwrap();
        bind(b, "data", "/x", &[]);
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let last = b.config["mounts"].as_array().unwrap().len() - 1;
        put(b, &format!("/mounts/{last}/uidMappings"), map.clone());
        put(b, &format!("/mounts/{last}/gidMappings"), map);
    }),
    case("a procfs with ids of its own", |b| {
        bind(b, "/proc", "/x", &[]);
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let last = b.config["mounts"].as_array().unwrap().len() - 1;
        put(b, &format!("/mounts/{last}/uidMappings"), map.clone());
        put(b, &format!("/mounts/{last}/gidMappings"), map);
    }),
];

/// Where mounts and devices are put.
pub const PLACES: &[Case] = &[
    case("a file bound on a directory", |b| bind(b, "/etc/passwd", "/etc", &[])),
    case("a directory bound on a file", |b| bind(b, "/etc", "/bin/busybox", &[])),
    case("a file bound on a file", |b| bind(b, "/etc/passwd", "/bin/ls", &[])),
    case("a file bound on nothing", |b| bind(b, "/etc/passwd", "/a/b/c", &[])),
    case("a directory bound on nothing", |b| bind(b, "/etc", "/a/b/c", &[])),
    case("a file bound on a directory of a link", |b| {
        link(b, "x", "/etc");
        bind(b, "/etc/passwd", "/x", &[]);
    }),
    case("a file bound on a link to nothing", |b| {
        link(b, "x", "/nosuch");
        bind(b, "/etc/passwd", "/x", &[]);
    }),
    case("a directory bound on a link to nothing", |b| {
        link(b, "x", "/nosuch/below");
        bind(b, "/etc", "/x", &[]);
    }),
    case("a place below a file", |b| bind(b, "/etc", "/bin/busybox/x", &[])),
    case("a place by a link to itself", |b| {
        link(b, "x", "x");
        bind(b, "/etc", "/x/y", &[]);
    }),
    case("a tmpfs on a file", |b| mount(b, "/bin/busybox", "tmpfs", "tmpfs", &[])),
    case("a tmpfs on nothing", |b| mount(b, "/a/b", "tmpfs", "tmpfs", &[])),
    case("a tmpfs on nothing in a read-only root", |b| {
        put(b, "/root/readonly", json!(true));
        mount(b, "/a/b", "tmpfs", "tmpfs", &[]);
    }),
    case("a place in a read-only mount", |b| {
        fs::create_dir(b.path().join("data")).unwrap();
        bind(b, "data", "/x", &["ro"]);
        bind(b, "/etc", "/x/etc", &[]);
    }),
    case("a place that is there in a read-only mount", |b| {
        fs::create_dir_all(b.path().join("data/etc")).unwrap();
        bind(b, "data", "/x", &["ro"]);
        bind(b, "/etc", "/x/etc", &[]);
    }),
    case("a place in a read-only tmpfs", |b| {
        mount(b, "/x", "tmpfs", "tmpfs", &["ro"]);
        bind(b, "/etc", "/x/etc", &[]);
    }),
    case("a place in a tmpfs", |b| {
        mount(b, "/x", "tmpfs", "tmpfs", &[]);
        bind(b, "/etc", "/x/a/etc", &[]);
    }),
    case("a file on a directory of an earlier mount", |b| {
        fs::create_dir_all(b.path().join("data/etc")).unwrap();
        bind(b, "data", "/x", &[]);
        bind(b, "/etc/passwd", "/x/etc", &[]);
    }),
    case("a place in /proc that is missing", |b| bind(b, "/etc", "/proc/nosuch", &[])),
    case("a place in /proc", |b| bind(b, "/etc/passwd", "/proc/uptime", &[])),
    case("a place in /sys that is missing", |b| bind(b, "/etc", "/sys/nosuch", &[])),
    case("a place in /dev", |b| bind(b, "/etc", "/dev/etc", &[])),
    case("a procfs on a link", |b| {
        fs::remove_dir(b.rootfs().join("proc")).unwrap();
        link(b, "proc", "usr");
    }),
    case("a tmpfs on a link", |b| {
        link(b, "x", "usr");
        mount(b, "/x", "tmpfs", "tmpfs", &[]);
    }),
    case("a mount on the root", |b| bind(b, "/etc", "/", &[])),
    case("a relative place", |b| bind(b, "/etc", "x/y", &[])),
    case("a device", |b| put(b, "/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 5}]))),
    case("a device on a directory", |b| {
        put(b, "/linux/devices", json!([{"path": "/etc", "type": "c", "major": 1, "minor": 5}]));
    }),
    case("a device on a file", |b| {
        file(b, "etc/x", "", 0o644);
        put(b, "/linux/devices", json!([{"path": "/etc/x", "type": "c", "major": 1, "minor": 5}]));
    }),
    case("a device below a file", |b| {
        put(b, "/linux/devices", json!([{"path": "/bin/busybox/x", "type": "c", "major": 1, "minor": 5}]));
    }),
    case("a device in a new directory", |b| {
        put(b, "/linux/devices", json!([{"path": "/dev/a/b", "type": "p"}]));
    }),
    case("a device in /proc", |b| put(b, "/linux/devices", json!([{"path": "/proc/x", "type": "p"}]))),
    case("a masked path that is missing", |b| put(b, "/linux/maskedPaths", json!(["/nosuch", "/etc"]))),
    case("a working directory that is missing", |b| put(b, "/process/cwd", json!("/a/b"))),
    case("a working directory that is a file", |b| put(b, "/process/cwd", json!("/bin/busybox"))),
    case("a working directory below a file", |b| put(b, "/process/cwd", json!("/bin/busybox/x"))),
    case("a working directory that is missing in /proc", |b| put(b, "/process/cwd", json!("/proc/nosuch"))),
    case("a working directory in /proc", |b| put(b, "/process/cwd", json!("/proc/self"))),
    case("a working directory of root's, for a user", |b| {
        file(b, "own/x", "", 0o644);
        fs::set_permissions(b.rootfs().join("own"), fs::Permissions::from_mode(0o700)).unwrap();
        as_user(b);
        put(b, "/process/cwd", json!("/own"));
    }),
    case("a working directory of root's, for root", |b| {
        file(b, "own/x", "", 0o644);
        fs::set_permissions(b.rootfs().join("own"), fs::Permissions::from_mode(0o700)).unwrap();
        put(b, "/process/cwd", json!("/own"));
    }),
];

pub const PROCESS: &[Case] = &[
    case("a limit above the hard one", |b| rlimit(b, "RLIMIT_NOFILE", 1024, 1 << 30)),
    case("a limit at the hard one", |b| rlimit(b, "RLIMIT_NOFILE", 1024, 1024)),
    case("no limit of memory", |b| rlimit(b, "RLIMIT_AS", u64::MAX, u64::MAX)),
    case("no limit of locked memory", |b| rlimit(b, "RLIMIT_MEMLOCK", u64::MAX, u64::MAX)),
    case("no limit of processes", |b| rlimit(b, "RLIMIT_NPROC", u64::MAX, u64::MAX)),
    case("no limit of files", |b| rlimit(b, "RLIMIT_NOFILE", u64::MAX, u64::MAX)),
    case("no limit of the core", |b| rlimit(b, "RLIMIT_CORE", u64::MAX, u64::MAX)),
    case("a limit of nice", |b| rlimit(b, "RLIMIT_NICE", 20, 20)),
    case("a limit above the hard one in a user namespace", |b| {
        in_user_namespace(b);
        rlimit(b, "RLIMIT_NPROC", u64::MAX, u64::MAX);
    }),
    case("no memory", |b| rlimit(b, "RLIMIT_AS", 4096, 4096)),
    case("no files", |b| rlimit(b, "RLIMIT_NOFILE", 1, 1)),
    case("a score of 500", |b| put(b, "/process/oomScoreAdj", json!(500))),
    case("a score of 0", |b| put(b, "/process/oomScoreAdj", json!(0))),
    case("a score of -500", |b| put(b, "/process/oomScoreAdj", json!(-500))),
    case("a score of -1000", |b| put(b, "/process/oomScoreAdj", json!(-1000))),
    case("a score of -500 in a user namespace", |b| {
        in_user_namespace(b);
        put(b, "/process/oomScoreAdj", json!(-500));
    }),
    case("SCHED_FIFO", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 10}))),
    case("SCHED_FIFO without a priority", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_FIFO"}))),
    case("SCHED_FIFO in a user namespace", |b| {
        in_user_namespace(b);
        put(b, "/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 10}));
    }),
    case("SCHED_RR", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_RR", "priority": 1}))),
    case("SCHED_BATCH", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))),
    case("SCHED_BATCH that is less nice", |b| {
        put(b, "/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": -5}))
    }),
    case("less nice in a user namespace", |b| {
        in_user_namespace(b);
        put(b, "/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -5}));
    }),
    case("SCHED_IDLE", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_IDLE"}))),
    case("SCHED_DEADLINE", |b| {
        let deadline =
            json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000});
        put(b, "/process/scheduler", deadline);
    }),
    case("SCHED_DEADLINE without times", |b| put(b, "/process/scheduler", json!({"policy": "SCHED_DEADLINE"}))),
    case("SCHED_DEADLINE that is late", |b| {
        let deadline =
            json!({"policy": "SCHED_DEADLINE", "runtime": 20_000_000, "deadline": 10_000_000, "period": 10_000_000});
        put(b, "/process/scheduler", deadline);
    }),
    case("a priority of real time for I/O", |b| {
        put(b, "/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0}));
    }),
    case("a priority of real time for I/O in a user namespace", |b| {
        in_user_namespace(b);
        put(b, "/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0}));
    }),
    case("a priority for I/O", |b| {
        put(b, "/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 7}));
    }),
    case("a memory policy", |b| put(b, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}))),
    case("a memory policy of a missing node", |b| {
        put(b, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "7"}));
    }),
    case("a memory policy without nodes", |b| put(b, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": ""}))),
    case("the default memory policy with nodes", |b| {
        put(b, "/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT", "nodes": "0"}));
    }),
    case("a personality", |b| put(b, "/linux/personality", json!({"domain": "LINUX32"}))),
    case("an AppArmor profile", |b| put(b, "/process/apparmorProfile", json!("nosuch"))),
    case("a capability that the invoker lacks", |b| {
        let names = json!(["CAP_KILL", "CAP_SYS_RESOURCE"]);
        for set in ["bounding", "effective", "permitted"] {
            put(b, &format!("/process/capabilities/{set}"), names.clone());
        }
    }),
    case("ids beyond the map", |b| {
        in_user_namespace(b);
        put(b, "/process/user", json!({"uid": 70000, "gid": 0}));
    }),
    case("many groups", |b| put(b, "/process/user/additionalGids", json!((1..200).collect::<Vec<u32>>()))),
];

pub const SYSCTLS: &[Case] = &[
    case("a sysctl of the network", |b| sysctl(b, "net.ipv4.ip_forward", "1")),
    case("a sysctl with a slash", |b| sysctl(b, "net/ipv4/ip_forward", "1")),
    case("a sysctl that is unknown", |b| sysctl(b, "net.ipv4.nosuch", "1")),
    case("a sysctl of a missing device", |b| sysctl(b, "net.ipv4.conf.nosuch0.forwarding", "1")),
    case("a sysctl of the loopback device", |b| sysctl(b, "net.ipv4.conf.lo.forwarding", "1")),
    case("a sysctl of memory", |b| sysctl(b, "kernel.shmmax", "1048576")),
    case("a sysctl that is no number", |b| sysctl(b, "kernel.shmmax", "much")),
    case("a sysctl of the network that is no number", |b| sysctl(b, "net.ipv4.ip_forward", "yes")),
    case("a sysctl of two numbers", |b| sysctl(b, "net.ipv4.ping_group_range", "0 1000")),
    case("a sysctl of two numbers and no more", |b| sysctl(b, "net.ipv4.ping_group_range", "0 x")),
    case("a sysctl of four numbers", |b| sysctl(b, "kernel.sem", "250 32000 32 128")),
    case("a sysctl that is too small", |b| sysctl(b, "kernel.msgmni", "-5")),
    case("a sysctl that is empty", |b| sysctl(b, "kernel.shmall", "")),
    case("a sysctl of queues", |b| sysctl(b, "fs.mqueue.msg_max", "20")),
    case("a sysctl of queues that is too large", |b| sysctl(b, "fs.mqueue.msg_max", "99999999")),
    case("a sysctl of queues that is unknown", |b| sysctl(b, "fs.mqueue.nosuch", "20")),
    case("a sysctl of the machine", |b| sysctl(b, "kernel.panic", "1")),
    case("a sysctl of the name", |b| sysctl(b, "kernel.domainname", "example.org")),
    case("a sysctl of the name in a user namespace", |b| {
        in_user_namespace(b);
        sysctl(b, "kernel.domainname", "example.org");
    }),
    case("a sysctl of the network in a user namespace", |b| {
        in_user_namespace(b);
        sysctl(b, "net.ipv4.ip_forward", "1");
    }),
    case("a sysctl of memory in a user namespace", |b| {
        in_user_namespace(b);
        sysctl(b, "kernel.shmmax", "1048576");
    }),
    case("a sysctl that is text", |b| sysctl(b, "net.ipv4.tcp_congestion_control", "reno")),
    case("a sysctl that is text nobody knows", |b| sysctl(b, "net.ipv4.tcp_congestion_control", "nosuch")),
    case("a sysctl that is a directory", |b| sysctl(b, "net.ipv4", "1")),
    case("a sysctl that is read only", |b| sysctl(b, "net.ipv4.tcp_available_congestion_control", "reno")),
];

pub const LIMITS: &[Case] = &[
    case("a memory limit", |b| resources(b, json!({"memory": {"limit": 64 << 20}}))),
    case("a memory limit nothing can start in", |b| resources(b, json!({"memory": {"limit": 4096}}))),
    case("a memory limit of nothing", |b| resources(b, json!({"memory": {"limit": 0}}))),
    case("swap below memory", |b| resources(b, json!({"memory": {"limit": 64 << 20, "swap": 32 << 20}}))),
    case("swap above memory", |b| resources(b, json!({"memory": {"limit": 64 << 20, "swap": 128 << 20}}))),
    case("swap without memory", |b| resources(b, json!({"memory": {"swap": 128 << 20}}))),
    case("swap without end", |b| resources(b, json!({"memory": {"limit": 64 << 20, "swap": -1}}))),
    case("a reservation above the limit", |b| {
        resources(b, json!({"memory": {"limit": 64 << 20, "reservation": 128 << 20}}));
    }),
    case("swappiness", |b| resources(b, json!({"memory": {"swappiness": 60}}))),
    case("swappiness beyond all", |b| resources(b, json!({"memory": {"swappiness": 201}}))),
    case("a limit of the network's memory", |b| resources(b, json!({"memory": {"kernelTCP": 1 << 20}}))),
    case("one CPU", |b| resources(b, json!({"cpu": {"cpus": "0"}}))),
    case("CPUs that do not exist", |b| resources(b, json!({"cpu": {"cpus": "0-63"}}))),
    case("a CPU that does not exist", |b| resources(b, json!({"cpu": {"cpus": "4000"}}))),
    case("CPUs that are no list", |b| resources(b, json!({"cpu": {"cpus": "all"}}))),
    case("a range of CPUs that is backwards", |b| resources(b, json!({"cpu": {"cpus": "1-0"}}))),
    case("one node", |b| resources(b, json!({"cpu": {"mems": "0"}}))),
    case("a node that does not exist", |b| resources(b, json!({"cpu": {"mems": "5"}}))),
    case("a quota", |b| resources(b, json!({"cpu": {"quota": 50_000}}))),
    case("a quota of 10", |b| resources(b, json!({"cpu": {"quota": 10}}))),
    case("a quota of 0", |b| resources(b, json!({"cpu": {"quota": 0}}))),
    case("a quota of 999", |b| resources(b, json!({"cpu": {"quota": 999}}))),
    case("a quota of 1000", |b| resources(b, json!({"cpu": {"quota": 1000}}))),
    case("no quota", |b| resources(b, json!({"cpu": {"quota": -1}}))),
    case("a quota without end", |b| resources(b, json!({"cpu": {"quota": 1u64 << 60}}))),
    case("a period", |b| resources(b, json!({"cpu": {"period": 200_000}}))),
    case("a period of 10", |b| resources(b, json!({"cpu": {"period": 10}}))),
    case("a period of 2 seconds", |b| resources(b, json!({"cpu": {"period": 2_000_000}}))),
    case("a burst", |b| resources(b, json!({"cpu": {"quota": 50_000, "burst": 10_000}}))),
    case("a burst above the quota", |b| resources(b, json!({"cpu": {"quota": 50_000, "burst": 60_000}}))),
    case("shares", |b| resources(b, json!({"cpu": {"shares": 512}}))),
    case("shares of 1", |b| resources(b, json!({"cpu": {"shares": 1}}))),
    case("real time", |b| resources(b, json!({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1_000_000}}))),
    case("idle", |b| resources(b, json!({"cpu": {"idle": 1}}))),
    case("idle of 2", |b| resources(b, json!({"cpu": {"idle": 2}}))),
    case("huge pages of 3MB", |b| resources(b, json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}))),
    case("huge pages of 2MB", |b| resources(b, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}))),
    case("processes", |b| resources(b, json!({"pids": {"limit": 20}}))),
    case("two processes", |b| resources(b, json!({"pids": {"limit": 2}}))),
    case("one process", |b| resources(b, json!({"pids": {"limit": 1}}))),
    case("no process", |b| resources(b, json!({"pids": {"limit": 0}}))),
    case("any number of processes", |b| resources(b, json!({"pids": {"limit": -1}}))),
    case("a weight", |b| resources(b, json!({"blockIO": {"weight": 100}}))),
    case("a weight of 5", |b| resources(b, json!({"blockIO": {"weight": 5}}))),
    case("a weight of 2000", |b| resources(b, json!({"blockIO": {"weight": 2000}}))),
    case("a weight of leaves", |b| resources(b, json!({"blockIO": {"leafWeight": 100}}))),
    case("a throttle of a missing disk", |b| {
        let rate = json!([{"major": 4000, "minor": 0, "rate": 1_000_000}]);
        resources(b, json!({"blockIO": {"throttleReadBpsDevice": rate}}));
    }),
    case("a network class", |b| resources(b, json!({"network": {"classID": 1}}))),
    case("a rdma device", |b| resources(b, json!({"rdma": {"nosuch0": {"hcaHandles": 1}}}))),
    case("a file of cgroup v2", |b| resources(b, json!({"unified": {"memory.max": "1000000000"}}))),
    case("a file that cgroup v2 lacks", |b| resources(b, json!({"unified": {"memory.nosuch": "1"}}))),
    case("a device rule", |b| {
        resources(b, json!({"devices": [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]}));
    }),
    case("a class of the processor's cache", |b| put(b, "/linux/intelRdt", json!({"closID": "x"}))),
];

pub const OTHERS: &[Case] = &[
    case("a network device that is absent", |b| put(b, "/linux/netDevices", json!({"nosuch0": {}}))),
    case("the loopback device", |b| put(b, "/linux/netDevices", json!({"lo": {"name": "lo2"}}))),
    case("a filter that denies execve", |b| denying(b, &["execve", "execveat"])),
    case("a filter that denies execve alone", |b| denying(b, &["execve"])),
    case("a filter that denies mkdir", |b| denying(b, &["mkdir"])),
    case("a filter that denies everything", |b| put(b, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"}))),
    case("a filter that kills everything", |b| put(b, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_KILL"}))),
    case("a filter that denies execve by its arguments", |b| {
        let arg = json!([{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]);
        let rule = json!({"names": ["execve"], "action": "SCMP_ACT_ERRNO", "args": arg});
        put(b, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    }),
    case("a filter of another machine", |b| {
        put(b, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_AARCH64"]}));
    }),
    case("a filter that allows what a start takes", |b| {
        let names =
            ["execve", "exit_group", "brk", "arch_prctl", "mmap", "mprotect", "set_tid_address", "read", "write"];
        let rules = json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]);
        let filter =
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules});
        put(b, "/linux/seccomp", filter);
    }),
    case("an agent that is missing", |b| {
        let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nosuch/agent", "syscalls": [rule]});
        put(b, "/linux/seccomp", filter);
    }),
    case("an agent that is a file", |b| {
        let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/etc/passwd", "syscalls": [rule]});
        put(b, "/linux/seccomp", filter);
    }),
    case("a filter without rights", |b| {
        denying(b, &["mkdir"]);
        put(b, "/process/noNewPrivileges", json!(false));
    }),
    case("another version of the specification", |b| put(b, "/ociVersion", json!("2.0.0"))),
    case("a file for what hooks say", |b| {
        put(b, "/annotations", json!({"run.oci.hooks.stdout": "/nosuch/log"}));
        hook(b, "createRuntime", "/bin/true");
    }),
];

pub const OPTIONS: &[Case] = &[
    option("a bound file that is missing", &["--bind=/nosuch:/x"]),
    option("a bound file on a directory", &["--bind=/etc/passwd:/etc"]),
    option("a bound directory", &["--bind-ro=/etc:/x"]),
    option("a user by name who is missing", &["--user=nosuchuser"]),
    option("a CPU to run on", &["--cpu-affinity=0"]),
    option("a CPU to run on that is missing", &["--cpu-affinity=4000"]),
    option("a CPU to run on that is missing here", &["--cpu-affinity=60"]),
    option("a namespace by path", &["--network-namespace-path=/proc/1/ns/net"]),
    option("a namespace by a path that is none", &["--network-namespace-path=/etc/passwd"]),
    option("a directory to start in", &["--chdir=/nosuch"]),
];
