//! Whose network a container has: `--network=`, and what parent/docs/networks.md says of it.
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_tests::mountinfo::mount_at;
use rspawn_tests::{Bundle, Output, cannot_make_containers, docs, finish, program, skip_unless};

rspawn_tests::also_as_an_ordinary_user!();

/// `run -D` of a bundle's root, with a script.
fn start(bundle: &Bundle, options: &[&str], script: &str) -> Output {
    let mut command = Command::new(program("rspawn"));
    command.arg("--root").arg(bundle.state_root());
    command.arg("run").arg("-D").arg(bundle.rootfs()).args(options).arg("--console=pipe");
    command.args([&bundle.id as &str, "--", "sh", "-c", script]);
    let output = finish(bundle.by_its_user(command), b"");
    bundle.assert_nothing_left_by(&output);
    output
}

fn hosts() -> String {
    fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().into_owned()
}

const LOOK: &str = "readlink /proc/self/ns/net; ls /sys/class/net | tr '\\n' ' '";

#[test]
fn of_its_own_unless_another_is_asked_for() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    for options in [&[] as &[&str], &["--network=none"], &["--network=private"], &["--private-network"]] {
        let output = start(&bundle, options, LOOK).ok();
        let (network, devices) = output.split_once('\n').unwrap();
        assert!(network != hosts() && devices == "lo ", "{options:?}: {output}");
    }
    let of_host = start(&bundle, &["--network=host"], LOOK).ok();
    assert_eq!(of_host.split_once('\n').unwrap().0, hosts());
    // The one of a configuration goes too.
    let output = Bundle::script(LOOK).run_with(&["--network=host"], b"").ok();
    assert_eq!(output.split_once('\n').unwrap().0, hosts());
}

#[test]
fn the_hosts_name_servers_come_with_its_network() {
    if cannot_make_containers() || skip_unless(Path::new("/etc/resolv.conf").exists(), "the host has no resolv.conf") {
        return;
    }
    let of_host = fs::read_to_string("/etc/resolv.conf").unwrap();
    let bundle = Bundle::new();
    let file = bundle.rootfs().join("etc/resolv.conf");
    let look = "cat /etc/resolv.conf; cat /proc/self/mountinfo >&2";
    // Without such a file nothing is made in the root.
    start(&bundle, &["--network=host"], "test ! -e /etc/resolv.conf").ok();
    assert!(!file.exists());
    fs::write(&file, "the image's\n").unwrap();
    let output = start(&bundle, &["--network=host"], look);
    assert_eq!(output.stdout, of_host);
    let mount = mount_at(&output.stderr, "/etc/resolv.conf");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|word| mount.has(word)), "{output:?}");
    assert_ne!(start(&bundle, &["--network=host"], "echo x > /etc/resolv.conf").status, 0);
    assert_eq!(start(&bundle, &["--network=none"], "cat /etc/resolv.conf").ok(), "the image's\n");
    // What somebody mounts there counts.
    let own = bundle.path().join("own");
    fs::write(&own, "chosen\n").unwrap();
    let bind = format!("--bind={}:/etc/resolv.conf", own.display());
    assert_eq!(start(&bundle, &["--network=host", &bind], "cat /etc/resolv.conf").ok(), "chosen\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the image's\n");
}

#[test]
fn a_namespace_that_somebody_made() {
    if cannot_make_containers() {
        return;
    }
    // As the page has it, commands and all.
    let bundle = Bundle::new();
    let root = bundle.path().join("deb");
    fs::rename(bundle.rootfs(), &root).unwrap();
    fs::write(root.join("etc/resolv.conf"), "").unwrap();
    for commands in docs::blocks("networks.md") {
        // Tests run beside each other.
        let name = format!("rst{}", std::process::id());
        let commands = commands.replace("demo", &name).replace(" web ", &format!(" {} ", bundle.id));
        let output = docs::run(bundle.path(), &commands).ok();
        if commands.contains("netns add") {
            let expected = "default via 10.77.0.1 dev eth0 \n10.77.0.0/24 dev eth0 scope link  src 10.77.0.2 \n";
            assert_eq!(output, expected);
        }
    }
    assert!(!Path::new(&format!("/run/netns/rst{}", std::process::id())).exists());
}

#[test]
fn a_trusted_file_of_settings_says_it_too() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let file = bundle.path().join("own.nspawn");
    for (word, is_shared) in [("no", true), ("yes", false)] {
        fs::write(&file, format!("[Network]\nPrivate={word}\n")).unwrap();
        let settings = format!("--settings={}", file.display());
        let output = start(&bundle, &[&settings], LOOK).ok();
        assert_eq!(output.starts_with(&hosts()), is_shared, "{word}: {output}");
        // The command line counts more.
        let output = start(&bundle, &[&settings, "--network=none"], LOOK).ok();
        assert!(!output.starts_with(&hosts()), "{word}: {output}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    for (options, said) in [
        (&["--network=bridge"] as &[&str], "--network=bridge: \"bridge\" is none of host, none and private"),
        (&["--network=/nosuch"], "--network=/nosuch: open network namespace /nosuch: openat2: ENOENT"),
        (&["--network=/etc/passwd"], "--network=/etc/passwd: "),
    ] {
        let text = start(&bundle, options, "true").refused();
        assert!(text.contains(said), "{options:?}: {text}");
    }
    let both = start(&bundle, &["--network=host", "--private-network"], "true");
    assert!(both.status != 0 && both.stderr.contains("cannot be used with"), "{both:?}");
    // Nobody whose policy says nothing of it shares the host's network.
    let policy = bundle.path().join("policy");
    fs::write(&policy, "mode = enforce\n").unwrap();
    let policy = format!("--policy={}", policy.display());
    let text = start(&bundle, &[&policy, "--network=host"], "true").refused();
    assert!(text.contains("namespaces.own"), "{text}");
}
