//! Keys about what a container holds: capabilities, its filter, devices, sysctls, filesystems, cgroups.
use rspawn_proto::ids::{HostPath, RelPath};
use rspawn_proto::plan::HostOp;
use rspawn_tests::hostile::{Verdict, only, plan_of, policy, submit, trusted};
use rspawn_tests::{Bundle, cannot_make_containers, skip_unless};
use serde_json::{Value, json};

use super::trial::{Counts, Ground, Trial};

fn with(pointer: &'static str, value: Value) -> Bundle {
    Bundle::script("echo ran").with(|config| {
        let (above, name) = pointer.rsplit_once('/').expect("a pointer");
        config.pointer_mut(above).unwrap_or_else(|| panic!("{above}"))[name] = value;
    })
}

pub fn trials(counts: &mut Counts) {
    let ground = Ground::lay_out();
    capabilities(&ground, counts);
    filters(&ground, counts);
    devices(&ground, counts);
    sysctls_and_filesystems(&ground, counts);
    cgroups(&ground, counts);
    kernel(&ground, counts);
}

fn capabilities(ground: &Ground, counts: &mut Counts) {
    let sets = |bounding: &[&str], permitted: &[&str]| {
        with("/process/capabilities", json!({"bounding": bounding, "permitted": permitted, "effective": permitted}))
    };
    Trial::new(ground, "two", sets(&["CAP_KILL", "CAP_CHOWN"], &["CAP_KILL"]))
        .granted(counts, &["caps.max = KILL CHOWN", "caps.max = CAP_KILL CAP_CHOWN CAP_SYS_ADMIN", "caps.max = all"])
        .refused(
            counts,
            &[("caps.max = KILL", "caps.max"), ("caps.max = CHOWN", "caps.max"), ("caps.max = none", "CAP_KILL")],
        );
    Trial::new(ground, "one that only an exec could bring", sets(&["CAP_SYS_ADMIN"], &[]))
        .granted(counts, &["caps.max = SYS_ADMIN"])
        .refused(counts, &[("caps.max = KILL", "CAP_SYS_ADMIN"), ("caps.max = none", "caps.max")]);
    Trial::new(ground, "what docker's containers have, where nothing is said", sets(&["CAP_CHOWN", "CAP_MKNOD"], &[]))
        .granted(counts, &["-caps.max"]);
    Trial::new(ground, "more than that", sets(&["CAP_CHOWN", "CAP_SYS_PTRACE"], &[]))
        .refused(counts, &[("-caps.max", "CAP_SYS_PTRACE")]);
    Trial::new(ground, "none", sets(&[], &[])).granted(counts, &["caps.max = none", "caps.max = KILL"]);
    Trial::new(ground, "docker's", sets(&["CAP_NET_RAW", "CAP_MKNOD", "CAP_SETFCAP"], &["CAP_NET_RAW"]))
        .granted(counts, &["caps.max = NET_RAW MKNOD SETFCAP"])
        .refused(counts, &[("caps.max = NET_RAW MKNOD", "caps.max")]);
    let new = |is| with("/process/noNewPrivileges", json!(is));
    Trial::new(ground, "no new privileges", new(true))
        .granted(counts, &["no_new_privs = required", "no_new_privs = allowed"]);
    Trial::new(ground, "new privileges", new(false))
        .granted(counts, &["no_new_privs = allowed", ""])
        .refused(counts, &[("no_new_privs = required", "no_new_privs")]);
}

/// A filter is judged by what it does to each call.
fn filters(ground: &Ground, counts: &mut Counts) {
    let filter = |default: &str, arches: &[&str], rules: Value| {
        with("/linux/seccomp", json!({"defaultAction": default, "architectures": arches, "syscalls": rules}))
    };
    let every = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let only_bpf = "seccomp = required\nseccomp.must-deny = bpf";
    let nothing = "seccomp = required\nseccomp.must-deny = none";
    let deny = |names: &[&str]| json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
    Trial::new(ground, "no filter", Bundle::script("echo ran"))
        .granted(counts, &["seccomp = allowed"])
        .refused(counts, &[("seccomp = required", "seccomp"), (nothing, "seccomp"), ("-seccomp", "seccomp")]);
    Trial::new(ground, "a filter that allows everything", filter("SCMP_ACT_ALLOW", &every, json!([])))
        .granted(counts, &["seccomp = allowed", nothing])
        .refused(counts, &[("seccomp = required", "seccomp.must-deny"), (only_bpf, "seccomp.must-deny")]);
    Trial::new(ground, "one call", filter("SCMP_ACT_ALLOW", &every, deny(&["bpf"])))
        .granted(counts, &[only_bpf, nothing])
        .refused(
            counts,
            &[
                ("seccomp = required", "seccomp.must-deny"),
                ("seccomp = required\nseccomp.must-deny = bpf acct", "acct"),
            ],
        );
    let zero = json!([{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]);
    Trial::new(ground, "one call with one argument", filter("SCMP_ACT_ALLOW", &every, zero))
        .granted(counts, &[nothing])
        .refused(counts, &[(only_bpf, "bpf")]);
    for action in ["SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let rules = json!([{"names": ["bpf"], "action": action}]);
        Trial::new(ground, action, filter("SCMP_ACT_ALLOW", &every, rules))
            .granted(counts, &[nothing])
            .refused(counts, &[(only_bpf, "bpf")]);
    }
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let rules = json!([{"names": ["bpf"], "action": action}]);
        Trial::new(ground, action, filter("SCMP_ACT_ALLOW", &every, rules)).granted(counts, &[only_bpf]);
    }
    // The usual calls are allowed, and nothing else.
    let usual = "read write open openat close stat fstat lstat newfstatat execve exit exit_group brk mmap mprotect munmap \
        rt_sigaction rt_sigprocmask rt_sigreturn ioctl access arch_prctl set_tid_address set_robust_list rseq prlimit64 \
        getpid getppid getuid getgid geteuid getegid uname fcntl dup dup2 wait4 clone fork vfork getcwd chdir prctl capget \
        capset futex gettid setresuid setresgid setgroups statx poll sendto sendmsg recvmsg lseek getdents64 readlink";
    let list = json!([{"names": usual.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}]);
    Trial::new(ground, "a list of what is allowed", filter("SCMP_ACT_ERRNO", &every, list))
        .granted(counts, &["seccomp = required", only_bpf])
        .refused(counts, &[("seccomp = required\nseccomp.must-deny = openat", "openat")]);
}

fn devices(ground: &Ground, counts: &mut Counts) {
    let node = |kind: &str, major: u32, minor: u32| {
        with("/linux/devices", json!([{"path": "/dev/x", "type": kind, "major": major, "minor": minor}]))
    };
    Trial::new(ground, "the usual ones", Bundle::script("echo ran"))
        .granted(
            counts,
            &[
                "devices.allow = c 1:* c 5:*",
                "devices.allow = any",
                "devices.allow = c 1:3 c 1:5 c 1:7 c 1:8 c 1:9 c 5:0 c 5:2",
            ],
        )
        .refused(
            counts,
            &[("devices.allow = c 1:3 c 1:5", "devices.allow"), ("devices.allow = none", "devices.allow")],
        );
    Trial::new(ground, "the usual ones, where nothing is said", Bundle::script("echo ran"))
        .granted(counts, &["-devices.allow"]);
    Trial::new(ground, "one more, where nothing is said", node("c", 10, 229))
        .refused(counts, &[("-devices.allow", "10:229")]);
    Trial::new(ground, "one more", node("c", 10, 229))
        .granted(counts, &["devices.allow = c 1:* c 5:* c 10:229", "devices.allow = c 1:* c 5:* c 10:*"])
        .refused(
            counts,
            &[("devices.allow = c 1:* c 5:* c 10:228", "10:229"), ("devices.allow = c 1:* c 5:* b 10:229", "10:229")],
        );
    let rule = |rule: Value| with("/linux/resources", json!({"devices": [rule]}));
    let disk = json!({"allow": true, "access": "rw", "type": "b", "major": 8, "minor": 0});
    Trial::new(ground, "a rule for a disk", rule(disk))
        .granted(counts, &["devices.allow = c 1:* c 5:* b 8:0", "devices.allow = c 1:* c 5:* b 8:*"])
        .refused(
            counts,
            &[("devices.allow = c 1:* c 5:* b 8:1", "devices.allow"), ("devices.allow = c 1:* c 5:*", "devices.allow")],
        );
    Trial::new(ground, "a rule for everything", rule(json!({"allow": true, "access": "rwm"})))
        .granted(counts, &["devices.allow = any"])
        .refused(counts, &[("devices.allow = c 1:* c 5:* b 8:*", "devices.allow")]);
    Trial::new(ground, "a rule to make any node", rule(json!({"allow": true, "access": "m"})))
        .granted(counts, &["devices.allow = c 1:* c 5:*"]);
}

/// What of the machine's kernel uid 0 may write to, where nothing is read-only.
fn kernel(ground: &Ground, counts: &mut Counts) {
    let key = "kernel";
    Trial::new(ground, "the usual paths", Bundle::script("echo ran"))
        .granted(counts, &["-kernel", "kernel = protected"]);
    let bare = || {
        Bundle::script("echo ran").with(|config| {
            config["linux"]["readonlyPaths"] = json!([]);
            config["linux"]["maskedPaths"] = json!([]);
        })
    };
    Trial::new(ground, "no read-only paths", bare())
        .granted(counts, &["kernel = writable"])
        .refused(counts, &[("-kernel", key), ("kernel = protected", "of its procfs")]);
    let some = Bundle::script("echo ran").with(|config| {
        config["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"]);
    });
    Trial::new(ground, "all but one", some).refused(counts, &[("kernel = protected", "sys of its procfs")]);
    let sysfs = Bundle::script("echo ran").with(|config| {
        for mount in config["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["type"] == "sysfs") {
            mount["options"] = json!(["nosuid", "rw"]);
        }
    });
    Trial::new(ground, "a sysfs that is written to", sysfs)
        .granted(counts, &["kernel = writable"])
        .refused(counts, &[("-kernel", "its sysfs")]);
}

/// Nodes that a root filesystem brings along serve in a user namespace, too, where no device rules are.
#[test]
fn nodes_of_the_image_are_under_rules_in_a_user_namespace() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    let bundle = Bundle::script("exit 0").with(rspawn_tests::bundle::in_user_namespace);
    let mut plan = plan_of(&bundle.config, &bundle.id, bundle.path());
    let is_of_cgroups =
        |op: &HostOp| matches!(op, HostOp::OpenCgroup { .. } | HostOp::SetCgroup { .. } | HostOp::DeviceRules { .. });
    plan.host.retain(|step| !is_of_cgroups(&step.op));
    plan.spawn.cgroups.clear();
    let rules = policy(&only("-devices.allow"), bundle.path());
    match submit(trusted(&bundle.id, rules), plan) {
        (Verdict::Refused(found), 1, _) => {
            assert!(found.iter().any(|violation| violation.what.contains("any device")), "{found:?}");
        }
        other => panic!("{other:?}"),
    }
}

fn sysctls_and_filesystems(ground: &Ground, counts: &mut Counts) {
    let sysctl = |key: &str| with("/linux/sysctl", json!({key: "1"}));
    Trial::new(ground, "a sysctl", sysctl("net.ipv4.ip_forward"))
        .granted(
            counts,
            &[
                "sysctl.allow = net.*", "sysctl.allow = net.ipv4.ip_forward", "sysctl.allow = net/ipv4/*",
                "sysctl.allow = any",
            ],
        )
        .refused(
            counts,
            &[("sysctl.allow = none", "sysctl.allow"), ("sysctl.allow = net.ipv4.tcp_syncookies", "sysctl.allow")],
        )
        .refused(counts, &[("sysctl.allow = kernel.*", "sysctl.allow"), ("sysctl.allow = net.ipv6.*", "sysctl.allow")]);
    let mount = |kind: &str| Bundle::script("echo ran").with_mount("/mnt", kind, kind, &[]);
    let usual = "proc tmpfs devpts sysfs mqueue cgroup cgroup2 ";
    for kind in ["tmpfs", "ramfs"] {
        let named = format!("filesystems.allow = {usual} {kind}");
        Trial::new(ground, kind, mount(kind))
            .granted(counts, &[named.as_str(), "filesystems.allow = any"])
            .refused(counts, &[("filesystems.allow = proc devpts", "filesystems.allow")]);
    }
    for kind in ["devtmpfs", "debugfs", "tracefs", "securityfs", "binfmt_misc"] {
        let has = std::fs::read_to_string("/proc/filesystems")
            .unwrap()
            .lines()
            .any(|line| line.ends_with(&format!("\t{kind}")));
        if skip_unless(has, &format!("this kernel has no {kind}")) {
            continue;
        }
        let named = format!("filesystems.allow = {usual} {kind}");
        let lacks = format!("filesystems.allow = {usual}");
        Trial::new(ground, kind, mount(kind))
            .granted(counts, &[named.as_str()])
            .refused(counts, &[(lacks.as_str(), "filesystems.allow")]);
    }
    // Where nothing is said: what shows nothing but the container's own.
    let unset = "-filesystems.allow";
    let shown = |kinds: &'static [&'static str], kind: &str| {
        let bundle = Bundle::script("echo ran").without_namespaces(kinds).with(|config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !["sysfs", "mqueue", "cgroup"].contains(&mount["type"].as_str().unwrap()));
        });
        bundle.with_mount("/mnt", kind, kind, &[])
    };
    for (kind, namespace) in [("sysfs", &["network"]), ("mqueue", &["ipc"])] {
        Trial::new(ground, kind, shown(&[], kind)).granted(counts, &[unset]);
        Trial::new(ground, kind, shown(namespace, kind))
            .granted(counts, &["filesystems.allow = any"])
            .refused(counts, &[(unset, "which shows the host's")]);
    }
    for kind in ["tmpfs", "ramfs", "proc"] {
        Trial::new(ground, kind, shown(&[], kind)).granted(counts, &[unset]);
    }
}

fn cgroups(ground: &Ground, counts: &mut Counts) {
    if skip_unless(rspawn_tests::is_root(), "a user's cgroups lie below those of the session") {
        return;
    }
    let above = format!("/rspawn-policy-{}", std::process::id());
    let bundle = with("/linux/cgroupsPath", json!(format!("{above}/x")));
    let [exact, below, parent] = ["/x", "/**", ""].map(|end| format!("cgroups.allow = {above}{end}"));
    Trial::new(ground, "a cgroup", bundle)
        .granted(counts, &["cgroups.allow = any", "-cgroups.allow", &exact, &below])
        .refused(
            counts,
            &[("cgroups.allow = /somewhere/**", "cgroups.allow"), ("cgroups.allow = none", "cgroups.allow")],
        )
        .refused(counts, &[(&parent, "cgroups.allow")]);
}

/// A plan that begins within a hierarchy, where the rest of the path is one that the policy grants.
#[test]
fn a_hierarchy_begins_at_its_root() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    let above = format!("rspawn-policy-root-{}", std::process::id());
    let bundle = Bundle::script("exit 0").with(|config| config["linux"]["cgroupsPath"] = json!(format!("/{above}/x")));
    let mut plan = plan_of(&bundle.config, &bundle.id, bundle.path());
    let rules = || policy(&only("cgroups.allow = /kubepods/**"), bundle.path());
    let mut changed = 0;
    for step in &mut plan.host {
        if let HostOp::OpenCgroup { mount, path, .. } = &mut step.op {
            // A directory of the hierarchy that is there, or was made for this.
            let inner = format!("{}/{above}", mount.as_str());
            std::fs::create_dir_all(&inner).unwrap();
            *mount = HostPath::new(inner).unwrap();
            *path = RelPath::new("kubepods/x").unwrap();
            changed += 1;
        }
    }
    let mounts: Vec<String> = plan
        .host
        .iter()
        .filter_map(|step| match &step.op {
            HostOp::OpenCgroup { mount, .. } => Some(mount.to_string()),
            _ => None,
        })
        .collect();
    let outcome = submit(trusted(&bundle.id, rules()), plan);
    mounts.iter().for_each(|mount| drop(std::fs::remove_dir(mount)));
    match outcome {
        (Verdict::Failed(error), 1, _) if changed > 0 => assert!(error.detail.contains("not its root"), "{error:?}"),
        other => panic!("{changed} changed: {other:?}"),
    }
}
