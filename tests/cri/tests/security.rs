//! Security contexts: what a pod's and a container's fields make of the processes in it.
use std::fs;

use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::*;
use rspawn_cri_tests::pods::{container_config, idle, namespaces, pod_config, resources, script, security};
use rspawn_cri_tests::{Node, Pod};
use rspawn_tests::{skip_unless, status_field};
use serde_json::json;

/// Names of capabilities, in the kernel's order, as bits.
const CHOWN: u64 = 1;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;

fn mask(status: &str, field: &str) -> u64 {
    u64::from_str_radix(status_field(status, field).expect("capabilities"), 16).expect("a number")
}

#[test]
fn users_and_groups() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "users"));
    let shown = |name: &str, change: &dyn Fn(&mut LinuxContainerSecurityContext)| {
        let mut config = script(name, "id");
        change(security(&mut config));
        pod.output_of(config)
    };
    assert!(shown("root", &|_| {}).starts_with("uid=0(root) gid=0(root)"));
    let by_number = shown("number", &|security| {
        security.run_as_user = Some(Int64Value { value: 1234 });
        security.run_as_group = Some(Int64Value { value: 5678 });
        security.supplemental_groups = vec![3000, 4000];
    });
    assert!(by_number.starts_with("uid=1234 gid=5678 groups="), "{by_number}");
    assert!(by_number.contains("3000") && by_number.contains("4000") && !by_number.contains("root"), "{by_number}");
    // The image's own /etc/passwd knows the name, and the group that goes with it.
    let by_name = shown("name", &|security| security.run_as_username = "alice".into());
    assert!(by_name.starts_with("uid=1000(alice) gid=1000(alice)"), "{by_name}");
    node.finish();
}

#[test]
fn a_root_that_is_read_only() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "roots"));
    let attempt = "touch /srv/x 2>&1 || true; touch /dev/shm/x && echo shm";
    let mut config = script("main", attempt);
    security(&mut config).readonly_rootfs = true;
    let shown = pod.output_of(config);
    assert!(shown.contains("Read-only file system") && shown.ends_with("shm\n"), "{shown}");
    assert_eq!(pod.output_of(script("writable", "touch /srv/x && echo done")), "done\n");
    node.finish();
}

#[test]
fn capabilities_and_no_new_privileges() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "capabilities"));
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let status = |name: &str, add: &[&str], drop: &[&str], user: i64, no_new_privs: bool| {
        let mut config = script(name, "cat /proc/self/status");
        let security = security(&mut config);
        let capabilities =
            Capability { add_capabilities: words(add), drop_capabilities: words(drop), ..Default::default() };
        security.capabilities = Some(capabilities);
        security.run_as_user = Some(Int64Value { value: user });
        security.no_new_privs = no_new_privs;
        pod.output_of(config)
    };
    let default = status("default", &[], &[], 0, false);
    assert_eq!(mask(&default, "CapEff") & (CHOWN | SYS_ADMIN), CHOWN);
    assert_eq!(status_field(&default, "NoNewPrivs"), Some("0"));
    let none = status("none", &[], &["ALL"], 0, true);
    let all = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    assert_eq!(all.map(|field| mask(&none, field)), [0; 5], "{none}");
    assert_eq!(status_field(&none, "NoNewPrivs"), Some("1"));
    let one = status("one", &["NET_ADMIN"], &["ALL"], 0, false);
    assert_eq!((mask(&one, "CapEff"), mask(&one, "CapBnd")), (NET_ADMIN, NET_ADMIN), "{one}");
    let user = status("user", &["NET_ADMIN"], &["ALL"], 1000, false);
    assert_eq!((mask(&user, "CapEff"), mask(&user, "CapBnd")), (0, NET_ADMIN), "{user}");
    node.finish();
}

#[test]
fn seccomp_profiles() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "seccomp"));
    let profile = node.path().join("profile.json");
    let refuse = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    fs::write(&profile, refuse.to_string()).expect("a profile");
    let shown = |name: &str, kind: ProfileType, file: &str| {
        let mut config =
            script(name, "grep ^Seccomp: /proc/self/status; mkdir /srv/d 2>&1; unshare -U true 2>&1; true");
        let profile = SecurityProfile { profile_type: kind.into(), localhost_ref: file.into() };
        security(&mut config).seccomp = Some(profile);
        pod.output_of(config)
    };
    assert_eq!(shown("unconfined", ProfileType::Unconfined, ""), "Seccomp:\t0\n");
    // containerd's own profile: no namespaces for who has no CAP_SYS_ADMIN.
    let default = shown("default", ProfileType::RuntimeDefault, "");
    assert!(default.starts_with("Seccomp:\t2\n") && !default.contains("mkdir:"), "{default}");
    assert!(default.contains("unshare") && default.contains("Operation not permitted"), "{default}");
    let local = shown("local", ProfileType::Localhost, &profile.to_string_lossy());
    assert!(local.starts_with("Seccomp:\t2\n") && local.contains("Operation not supported"), "{local}");
    node.finish();
}

/// rspawn-init as the entry point of an image wants nothing that the default profile refuses.
#[test]
fn rspawn_init_runs_under_the_default_profile() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "init"));
    let mut config = container_config("main", &["/pause", "--", "sh", "-c", "grep ^Seccomp: /proc/1/status; exit 7"]);
    security(&mut config).seccomp =
        Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() });
    let main = pod.start(config);
    let code = main.ended().exit_code;
    assert_eq!((code, main.text("stdout").as_str()), (7, "Seccomp:\t2\n"), "{}", main.log());
    node.finish();
}

/// `procMount: Default` has parts of procfs hidden, and others read-only; `Unmasked` has not.
#[test]
fn proc_is_masked_unless_it_is_asked_for() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "proc"));
    let look =
        "wc -c < /proc/keys; grep -c ' /proc/' /proc/self/mountinfo; touch /proc/sys/kernel/domainname 2>&1; true";
    let masked = pod.output_of(script("masked", look));
    assert!(masked.starts_with("0\n") && masked.contains("Read-only file system"), "{masked}");
    let mut config = script("unmasked", look);
    let context = security(&mut config);
    (context.masked_paths, context.readonly_paths) = (Vec::new(), Vec::new());
    let open = pod.output_of(config);
    assert!(open.lines().nth(1) == Some("0") && !open.contains("Read-only"), "{open}");
    node.finish();
}

#[test]
fn sysctls() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "sysctls");
    namespaces(&mut config).network = NamespaceMode::Pod.into();
    let linux = config.linux.as_mut().expect("its Linux part");
    linux.sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_unprivileged_port_start", "81")]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .into();
    let pod = Pod::run(&node, config);
    let look = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(pod.output_of(script("main", look)), "1\n81\n");

    // One of the node's own is refused, by its name, and leaves no pod.
    let mut config = pod_config(&node, "of-the-node");
    namespaces(&mut config).network = NamespaceMode::Pod.into();
    config.linux.as_mut().expect("its Linux part").sysctls = [("kernel.panic".to_string(), "1".to_string())].into();
    let Err(status) = Pod::try_run(&node, config, "") else { panic!("the node's own sysctl is set") };
    assert!(status.message().contains("kernel.panic"), "{status}");
    node.finish();
}

#[test]
fn privileged_containers() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "privileged");
    config.linux.as_mut().expect("its Linux part").security_context.as_mut().expect("a context").privileged = true;
    let pod = Pod::run(&node, config);
    let mut config = script(
        "main",
        "cat /proc/self/status; ls /dev; mount -t tmpfs x /mnt && echo mounted; \
                                     touch /proc/sys/kernel/domainname && echo writable",
    );
    config.command[2].insert_str(0, "mkdir -p /mnt; ");
    security(&mut config).privileged = true;
    let shown = pod.output_of(config);
    let own = fs::read_to_string("/proc/self/status").expect("procfs");
    assert_eq!(mask(&shown, "CapEff"), mask(&own, "CapBnd"), "all that the node has: {shown}");
    assert_eq!(status_field(&shown, "Seccomp"), Some("0"));
    assert!(shown.ends_with("mounted\nwritable\n"), "{shown}");
    let nodes = fs::read_dir("/dev")
        .expect("/dev")
        .flatten()
        .filter(|entry| std::os::unix::fs::FileTypeExt::is_char_device(&entry.file_type().expect("a kind")));
    let missing: Vec<_> = nodes.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let missing: Vec<_> = missing.iter().filter(|name| !shown.lines().any(|line| line == name.as_str())).collect();
    // containerd leaves these to the container's own /dev.
    assert!(missing.iter().all(|name| ["console", "ptmx"].contains(&name.as_str())), "{missing:?}");
    node.finish();
}

/// Which namespaces are whose: the node's, the pod's, the container's own.
#[test]
fn namespaces_of_the_node_of_the_pod_and_of_the_container() {
    let Some(node) = Node::new() else { return };
    let of = |file: &str| fs::read_link(format!("/proc/self/ns/{file}")).expect("a namespace").display().to_string();
    let look = "for i in net pid ipc uts mnt; do readlink /proc/self/ns/$i; done";
    let shown = |name: &str, mode: NamespaceMode| -> [Vec<String>; 2] {
        let mut config = pod_config(&node, name);
        let all = namespaces(&mut config);
        (all.network, all.pid, all.ipc) = (mode.into(), mode.into(), mode.into());
        let pod = Pod::run(&node, config);
        // Two that run at once: the number of a namespace that has gone is given to another.
        ["one", "two"]
            .map(|name| pod.start(idle(name)))
            .map(|container| container.sh(look).lines().map(ToString::to_string).collect())
    };
    let [one, two] = shown("of-the-node", NamespaceMode::Node);
    for (index, file) in ["net", "pid", "ipc", "uts"].iter().enumerate() {
        assert_eq!((&one[index], &two[index]), (&of(file), &of(file)), "{file} is the node's");
    }
    assert!(one[4] != of("mnt") && one[4] != two[4], "no pod has mounts of another");
    let [one, two] = shown("of-the-pod", NamespaceMode::Pod);
    assert_eq!(one[..4], two[..4], "shared by the pod");
    assert!(["net", "pid", "ipc", "uts"].iter().zip(&one).all(|(file, own)| *own != of(file)), "{one:?}");
    let mut config = pod_config(&node, "of-containers");
    namespaces(&mut config).pid = NamespaceMode::Container.into();
    let pod = Pod::run(&node, config);
    let pids = ["one", "two"].map(|name| pod.start(idle(name)).sh("readlink /proc/self/ns/pid"));
    assert_ne!(pids[0], pids[1], "each has its own");
    node.finish();
}

/// A pod that shares its processes: the pause program is PID 1, sees to orphans, and the containers see each other.
#[test]
fn a_pod_that_shares_its_processes() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "shared");
    namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = Pod::run(&node, config);
    let one = pod.start(script("one", "while :; do sleep 0.1; done # the first"));
    // As the kubelet writes it for every container of its class.
    let mut config = idle("two");
    resources(&mut config).oom_score_adj = 987;
    let two = pod.start(config);
    assert_eq!(two.sh("cat /proc/self/oom_score_adj"), "987\n");
    let seen = two.sh("ps -o pid,args");
    assert!(seen.lines().any(|line| line.trim_start().starts_with("1 /pause")), "{seen}");
    assert!(seen.contains("# the first"), "{seen}");
    // Orphans are PID 1's, and it takes note of their ends.
    two.sh("for i in 1 2 3; do (sleep 0.01 &) ; done; sleep 0.2");
    let dead = |seen: &str| seen.lines().filter(|line| line.contains(" Z ")).count();
    assert_eq!(dead(&two.sh("ps -o pid,stat,args")), 0);
    one.stop(0).expect("StopContainer");
    assert_eq!(one.ended().exit_code, 137);
    assert_eq!(two.status().state(), ContainerState::ContainerRunning, "its neighbour goes on");
    // A container that joins another's, as an ephemeral one that debugs it.
    let mut config = idle("debugger");
    let target = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Target.into(),
        target_id: two.id.clone(),
        ..Default::default()
    };
    security(&mut config).namespace_options = Some(target);
    let debugger = pod.start(config);
    assert_eq!(debugger.sh("readlink /proc/self/ns/pid"), two.sh("readlink /proc/self/ns/pid"));
    node.finish();
}

/// Ids of the pod's own (`hostUsers: false`).
#[test]
fn user_namespaces() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "users");
    let ids = || vec![IdMapping { host_id: 200_000, container_id: 0, length: 65_536 }];
    let own = UserNamespace { mode: NamespaceMode::Pod.into(), uids: ids(), gids: ids() };
    let all = namespaces(&mut config);
    (all.network, all.userns_options) = (NamespaceMode::Pod.into(), Some(own));
    let pod = match Pod::try_run(&node, config, "") {
        Ok(pod) => pod,
        Err(status) => {
            let version = node.containerd_version();
            assert!(version.starts_with("1."), "containerd {version} has user namespaces: {}", node.explain(&status));
            skip_unless(false, &format!("containerd {version} makes no pod with a user namespace: {status}"));
            return node.finish();
        }
    };
    let map = pod.output_of(script("main", "cat /proc/self/uid_map"));
    let map: Vec<&str> = map.split_whitespace().collect();
    // 1.6 does not know the field, and makes the pod without.
    let old = node.containerd_version().starts_with("1.6");
    if !skip_unless(!(old && map == ["0", "0", "4294967295"]), "containerd 1.6 has no user namespaces") {
        assert_eq!(map, ["0", "200000", "65536"]);
    }
    node.finish();
}
