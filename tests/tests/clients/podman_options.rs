//! podman drives the runtime through conmon: what its options make of a container, seen from inside.
use std::fs;
use std::process::Command;

use rspawn_tests::podman::{Errors, Podman};
use rspawn_tests::{finish, status_field};
use serde_json::json;

#[test]
fn identity_and_rights() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let status = |options: &[&str]| podman.to_its_end(options, &["cat", "/proc/self/status"]).ok();
    let field = |text: &str, name: &str| status_field(text, name).unwrap_or_default().to_string();

    let named = status(&["--user", "alice", "--group-add", "2000", "--umask", "0077"]);
    assert_eq!(field(&named, "Uid"), "1000\t1000\t1000\t1000", "--user by name");
    assert_eq!(field(&named, "Gid"), "1000\t1000\t1000\t1000", "the user's own group");
    assert!(field(&named, "Groups").split(' ').any(|group| group == "2000"), "--group-add: {named}");
    assert_eq!(field(&named, "Umask"), "0077", "--umask");
    assert_eq!(field(&named, "CapEff"), "0000000000000000", "a user that is not root has no capabilities");
    assert_eq!(field(&named, "Seccomp"), "2", "podman's default profile is in force");
    assert_eq!(field(&named, "NoNewPrivs"), "0", "no_new_privs is not the default");

    let few = ["--user", "1234:5678", "--cap-drop", "all", "--cap-add", "net_raw"];
    let few = status(&[&few[..], &["--security-opt", "no-new-privileges"]].concat());
    assert_eq!(field(&few, "Uid"), "1234\t1234\t1234\t1234", "--user by number");
    assert_eq!(field(&few, "Gid"), "5678\t5678\t5678\t5678");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&few, set), "0000000000002000", "--cap-drop all --cap-add net_raw: {set}");
    }
    assert_eq!(field(&few, "NoNewPrivs"), "1", "--security-opt no-new-privileges");

    let all = status(&["--privileged"]);
    assert!(field(&all, "CapEff") > field(&status(&[]), "CapEff"), "--privileged has more capabilities");
    assert_eq!(field(&all, "Seccomp"), "0", "--privileged has no profile");
    podman.assert_nothing_left();
}

#[test]
fn a_seccomp_profile() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let profile = podman.path().join("profile.json");
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    fs::write(&profile, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).to_string()).unwrap();
    let option = format!("seccomp={}", profile.display());
    let output = podman.to_its_end(&["--security-opt", &option], &["mkdir", "/tmp/x"]);
    assert_eq!(output.status, 1, "the profile's call fails: {output:?}");
    assert!(output.stderr.contains("No space left on device"), "with the profile's errno: {output:?}");
    podman.to_its_end(&["--security-opt", "seccomp=unconfined"], &["mkdir", "/tmp/x"]).ok();
    podman.assert_nothing_left();
}

#[test]
fn volumes_and_filesystems() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let shared = podman.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "host\n").unwrap();
    let volume = |rest: &str| format!("{}:{rest}", shared.display());
    let (writable, read_only, overlay) = (volume("/rw"), volume("/ro:ro"), volume("/over:O"));
    let options = ["--read-only", "--tmpfs", "/scratch:size=1m,mode=0700", "-v", "named:/named"];
    let options = [&options[..], &["-v", &writable, "-v", &read_only, "-v", &overlay]].concat();
    let script = "for place in / /ro /rw /over /scratch /named /tmp; do touch ${place%/}/made && echo wrote $place; done; \
        cat /ro/from-host /rw/from-host /over/from-host; stat -c '%a' /scratch; df -m /scratch | tail -n 1";
    let output = podman.script(&options, script);
    let wrote = |place: &str| output.stdout.lines().any(|line| line == format!("wrote {place}"));
    assert!(!wrote("/"), "--read-only: {output:?}");
    assert!(!wrote("/ro"), "a volume with :ro: {output:?}");
    assert!(wrote("/rw") && shared.join("made").exists(), "a volume is the host's directory: {output:?}");
    assert!(wrote("/over"), "a volume with :O can be written to: {output:?}");
    assert!(wrote("/scratch") && wrote("/named") && wrote("/tmp"), "tmpfs and a named volume: {output:?}");
    assert_eq!(output.stdout.matches("host\n").count(), 3, "each shows the host's file: {output:?}");
    assert!(output.stdout.contains("\n700\n"), "--tmpfs has the mode asked for: {output:?}");

    fs::remove_file(shared.join("made")).unwrap();
    podman.to_its_end(&["-v", &overlay], &["touch", "/over/made"]).ok();
    assert!(!shared.join("made").exists(), "what is written to :O does not reach the host");
    podman.ok(&["volume", "rm", "named"]);
    podman.assert_nothing_left();
}

#[test]
fn devices() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    // A device that no driver has: who may open it hears of that, who may not hears of the rule.
    let node = podman.path().join("node");
    let mut mknod = Command::new("mknod");
    mknod.arg(&node).args(["c", "1", "200"]);
    finish(mknod, b"").ok();
    let script = "stat -c '%t:%T' /dev/mine; mknod /tmp/loop b 7 0; \
        head -c 1 /dev/mine; echo x >/dev/mine; head -c 1 /tmp/loop; head -c 4 /dev/zero | wc -c";
    let output = podman.script(&["--device", &format!("{}:/dev/mine:r", node.display())], script);
    let said =
        |device: &str, words: &str| output.stderr.lines().any(|line| line.contains(device) && line.ends_with(words));
    assert_eq!(output.stdout, "1:c8\n4\n", "--device under another name: {output:?}");
    assert!(said("head: /dev/mine", "No such device or address"), "it may be read: {output:?}");
    assert!(said("create /dev/mine", "Operation not permitted"), "it may not be written: {output:?}");
    assert!(said("head: /tmp/loop", "Operation not permitted"), "no other device may be read: {output:?}");
    podman.assert_nothing_left();
}

#[test]
fn kernel_settings() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let options = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shm_rmid_forced=1", "--hostname", "box"];
    let options =
        [&options[..], &["--ulimit", "core=1000:2000", "--shm-size", "2m", "--oom-score-adj", "500"]].concat();
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/self/oom_score_adj; hostname; \
        grep core /proc/self/limits; grep -c 'open files *1024 *1024' /proc/self/limits; \
        df -m /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; ls /sys/class/net; cat /sys/class/net/lo/flags";
    let output = podman.script(&options, script).ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..4], ["1", "1", "500", "box"], "--sysctl, --oom-score-adj, --hostname");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>()[4..6], ["1000", "2000"], "--ulimit core: {output}");
    assert_eq!(lines[5..], ["1", "2", "lo", "0x9"], "--ulimit nofile, --shm-size, --network none with lo up: {output}");
    podman.assert_nothing_left();
}

#[test]
fn limits() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let options = ["--memory", "64m", "--pids-limit", "33", "--cpu-quota", "50000", "--cpu-period", "100000"];
    podman.detached("c", &options, &["sleep", "1000"]);
    let read = |controller: &str, v1: &str, v2: &str| {
        let text = fs::read_to_string(podman.cgroup_file("c", controller, v1));
        text.or_else(|_| fs::read_to_string(podman.cgroup_file("c", controller, v2))).unwrap().trim().to_string()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), "67108864", "--memory");
    assert_eq!(read("pids", "pids.max", "pids.max"), "33", "--pids-limit");
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "--cpu-quota: {quota}");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[test]
fn namespaces_of_the_host() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    let show = "for kind in pid ipc uts; do readlink /proc/self/ns/$kind; done";
    let of_host = ["pid", "ipc", "uts"].map(own);
    let shared = podman.script(&["--pid", "host", "--ipc", "host", "--uts", "host"], show).ok();
    assert_eq!(shared.lines().collect::<Vec<_>>(), of_host, "--pid host --ipc host --uts host");
    let apart = podman.script(&[], show).ok();
    assert!(apart.lines().zip(&of_host).all(|(inside, outside)| inside != outside), "by default: {apart}");

    // What a container without a pid namespace of its own leaves running must be killed one by one.
    podman.detached("c", &["--pid", "host"], &["sh", "-c", "sleep 1000 & sleep 1000"]);
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

/// podman asks for none by `--cgroup-manager=disabled`, of runtimes that its configuration names.
#[test]
fn no_cgroups() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    if rspawn_tests::skip_unless(rspawn_tests::clients::runtime_name() != "runc", "runc makes cgroups always") {
        return;
    }
    let options = ["--cgroups=disabled", "--cgroupns=host"];
    let shown = podman.to_its_end(&options, &["cat", "/proc/self/cgroup"]).ok();
    assert_eq!(shown, fs::read_to_string("/proc/self/cgroup").unwrap());
    podman.assert_nothing_left();
}

#[test]
fn an_init_of_podmans() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let script = "tr '\\0' ' ' </proc/1/cmdline; echo; exit 8";
    let output = podman.script(&["--init"], script);
    assert!(output.stdout.contains("podman-init -- sh -c") || output.stdout.contains("/dev/init -- sh"), "{output:?}");
    assert_eq!(output.status, 8, "the status comes through podman's init");
    podman.assert_nothing_left();
}

#[test]
fn a_user_namespace() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let options = ["--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000"];
    let script = "tr -s ' ' </proc/self/uid_map; id -u; touch /made && stat -c '%u' /made; cat /proc/self/setgroups";
    let output = podman.script(&options, script).ok();
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert_eq!(lines, ["0 200000 5000", "0", "0", "allow"], "--uidmap");
    podman.assert_nothing_left();
}
