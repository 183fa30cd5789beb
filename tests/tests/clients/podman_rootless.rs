//! Podman and buildah without root: rspawn is the root of their user namespace.
use std::fs;
use std::process::Command;

use rspawn_tests::clients::{cannot_use, client, make_image_archive};
use rspawn_tests::podman::Podman;
use rspawn_tests::user::{RANGE, User};
use rspawn_tests::{Output, Scratch, finish, skip_unless};

/// Inside, outside, count, line by line; outside is podman's own user namespace, or the machine.
fn numbers(text: &str) -> Vec<Vec<u32>> {
    text.lines()
        .map(|line| line.split_whitespace().map(|number| number.parse().unwrap_or(u32::MAX)).collect())
        .collect()
}

#[test]
fn a_containers_life() {
    let Some(podman) = Podman::of_user() else { return };
    let output = podman.script(&[], "id -u; cat /proc/self/uid_map; exit 7");
    assert_eq!(output.status, 7, "{output:?}");
    assert!(output.stdout.starts_with("0\n"), "{output:?}");
    assert_eq!(numbers(&output.stdout)[1..][1], [1, RANGE.0, RANGE.1], "{output:?}");
    podman.detached("one", &[], &["sh", "-c", "echo said; sleep 100"]);
    assert_eq!(podman.ok(&["exec", "one", "id", "-u"]), "0");
    assert_eq!(podman.ok(&["exec", "--user", "1000:1000", "one", "id", "-u"]), "1000");
    assert_eq!(podman.run(&["exec", "one", "sh", "-c", "exit 5"]).status, 5);
    assert_eq!(podman.run(&["exec", "one", "/no/such"]).status, 127);
    assert_eq!(podman.ok(&["logs", "one"]), "said");
    assert_eq!(podman.inspect("one", ".State.Status"), "running");
    podman.ok(&["kill", "--signal", "KILL", "one"]);
    assert_eq!(podman.ok(&["wait", "one"]), "137");
    podman.ok(&["rm", "one"]);
    podman.assert_nothing_left();
}

#[test]
fn volumes_and_their_owners() {
    let Some(podman) = Podman::of_user() else { return };
    let shared = podman.path().join("shared");
    fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(podman.user_number()), Some(podman.user_number())).unwrap();
    let volume = format!("{}:/v", shared.display());
    podman.script(&["--volume", &volume], "touch /v/root; touch /v/other; chown 7:7 /v/other").ok();
    let owner = |name: &str| std::os::unix::fs::MetadataExt::uid(&fs::metadata(shared.join(name)).unwrap());
    assert_eq!((owner("root"), owner("other")), (podman.user_number(), RANGE.0 + 6));
    let read_only = podman.script(&["--volume", &format!("{volume}:ro")], "touch /v/more");
    assert!(read_only.status == 1 && read_only.stderr.contains("Read-only"), "{read_only:?}");
    podman.script(&["--volume", "named:/v"], "touch /v/kept").ok();
    assert_eq!(podman.script(&["--volume", "named:/v"], "ls /v").ok(), "kept\n");
    podman.script(&["--tmpfs", "/t", "--read-only"], "touch /t/x && ! touch /x 2>/dev/null").ok();
    podman.ok(&["volume", "rm", "named"]);
    podman.assert_nothing_left();
}

#[test]
fn user_namespaces_of_containers() {
    let Some(podman) = Podman::of_user() else { return };
    let number = podman.user_number();
    let kept = podman.script(&["--userns=keep-id"], "id -u; touch /tmp/mine; stat -c %u /tmp/mine").ok();
    assert_eq!(kept, format!("{number}\n{number}\n"));
    let maps = ["--uidmap=0:1:5", "--uidmap=5:10:50", "--gidmap=0:0:100"];
    let text = podman.script(&maps, "cat /proc/self/uid_map").ok();
    assert_eq!(numbers(&text), [[0, 1, 5], [5, 10, 50]]);
    assert_eq!(podman.script(&["--user=33:44"], "id -u; id -g").ok(), "33\n44\n");
    let groups = podman.script(&["--user=33:44", "--group-add=2000"], "grep Groups /proc/self/status").ok();
    assert!(groups.split_whitespace().any(|group| group == "2000"), "{groups}");
    podman.assert_nothing_left();
}

#[test]
fn the_hosts_namespaces_and_privileges() {
    let Some(podman) = Podman::of_user() else { return };
    let host = podman.script(&["--network=host"], "ls /sys/kernel; cat /proc/self/mountinfo").ok();
    assert!(host.lines().any(|line| line.contains(" /sys ro,")), "{host}");
    podman.script(&["--pid=host"], "test -d /proc/1").ok();
    let privileged = podman.script(&["--privileged"], "grep CapEff /proc/self/status; id -u").ok();
    assert!(privileged.contains("1ffffffffff") || privileged.contains("ffffff"), "{privileged}");
    // With every capability it is still the user: what belongs to the machine's root stays out of reach.
    let closed = podman.script(&["--privileged", "--volume=/etc:/e"], "cat /e/shadow; echo 1 > /proc/sys/kernel/panic");
    assert!(closed.status != 0 && closed.stdout.is_empty(), "{closed:?}");
    podman.assert_nothing_left();
}

#[test]
fn pods_share_namespaces() {
    let Some(podman) = Podman::of_user() else { return };
    podman.ok(&["pod", "create", "--name=pod", "--network=none", "--infra-image=image", "--infra-command=sleep 100"]);
    podman.detached("in", &["--pod=pod"], &["sh", "-c", "hostname > /dev/shm/name; sleep 100"]);
    let show = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc";
    let one = podman.ok(&["exec", "in", "sh", "-c", show]);
    assert_eq!(podman.script(&["--pod=pod"], show).ok().trim(), one);
    podman.ok(&["pod", "rm", "--force", "--time=0", "pod"]);
    podman.assert_nothing_left();
}

#[test]
fn networks_of_a_user() {
    let Some(podman) = Podman::of_user() else { return };
    if skip_unless(client("slirp4netns").is_absolute(), "not installed: slirp4netns") {
        return;
    }
    let output = podman.script(&["--network=slirp4netns"], "ip -o addr; cat /etc/resolv.conf");
    let no_tunnel = output.stderr.contains("/dev/net/tun");
    if !skip_unless(!no_tunnel, "slirp4netns cannot open /dev/net/tun here") {
        assert!(output.stdout.contains("tap0"), "{output:?}");
    }
    podman.assert_nothing_left();
}

#[test]
fn buildah_of_a_user() {
    if cannot_use(&["buildah"]) {
        return;
    }
    let Some(user) = User::with_range() else { return };
    let scratch = Scratch::new();
    make_image_archive(&scratch.path);
    user.give(&scratch.path);
    let runtime = user.runtime().to_string_lossy().into_owned();
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(client("buildah"));
        for (option, place) in [("--root", "root"), ("--runroot", "runroot")] {
            command.arg(option).arg(scratch.path.join(place));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(&scratch.path);
        command.env("TMPDIR", &scratch.path);
        finish(user.run(command), b"")
    };
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
    run(&[&["from", "--name", "work"][..], &limits, &["scratch"]].concat()).ok();
    run(&["add", "work", "image.tar", "/"]).ok();
    let own = ["run", "--isolation", "oci", "--runtime", &runtime, "--network", "none"];
    let output = run(&[&own[..], &["work", "--", "sh", "-c", "id -u; touch /made"]].concat()).ok();
    assert_eq!(output, "0\n");
    let output = run(&[&own[..], &["--user", "1000", "work", "--", "sh", "-c", "id -u; ls /made"]].concat()).ok();
    assert_eq!(output, "1000\n/made\n");
    run(&["rm", "--all"]).ok();
    let states = fs::read_dir(user.runtime_directory().join("rspawn")).into_iter().flatten().count();
    assert_eq!(states, 0, "a state directory is left");
}
