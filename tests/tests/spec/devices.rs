//! The default devices and links of /dev, and `linux.devices`.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rspawn_tests::mountinfo::mount_at;
use rspawn_tests::{Bundle, cannot_make_containers};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// Without mounts below /dev, and with other mounts on it.
fn with_dev(bundle: Bundle, dev: Option<Value>) -> Bundle {
    bundle.with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.extend(dev);
    })
}

fn with_devices(bundle: Bundle, devices: Value) -> Bundle {
    bundle.with(|config| config["linux"]["devices"] = devices)
}

#[test]
fn the_default_devices() {
    if cannot_make_containers() {
        return;
    }
    let script = "cd /dev; stat -c '%n %F %a %u:%g %t:%T' null zero full random urandom tty; \
        echo x >null; cat null; head -c 3 zero | wc -c; head -c 3 urandom | wc -c; echo 2>&1 x >full";
    let shown = Bundle::script(script).run();
    let expected = "null character special file 666 0:0 1:3\n\
        zero character special file 666 0:0 1:5\n\
        full character special file 666 0:0 1:7\n\
        random character special file 666 0:0 1:8\n\
        urandom character special file 666 0:0 1:9\n\
        tty character special file 666 0:0 5:0\n3\n3\n";
    assert!(shown.stdout.starts_with(expected), "{shown:?}");
    assert!(shown.stdout.contains("No space left on device"), "{shown:?}");
}

#[test]
fn the_links() {
    if cannot_make_containers() {
        return;
    }
    let script = "cd /dev; for l in fd stdin stdout stderr core ptmx; do readlink $l; done; \
        echo through stdout >/dev/stdout; echo in | cat /dev/stdin; echo err >/dev/stderr; \
        exec 3<>/dev/ptmx; ls pts; stat -c %t:%T pts/ptmx";
    let shown = Bundle::script(script).run();
    let expected = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\npts/ptmx\n\
        through stdout\nin\n0\nptmx\n5:2\n";
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), (expected, "err\n"));
}

#[test]
fn listed_devices_have_their_kind_mode_and_owner() {
    if cannot_make_containers() {
        return;
    }
    let devices = json!([
        {"path": "/dev/c", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 1, "gid": 2},
        {"path": "/dev/u", "type": "u", "major": 4095, "minor": 1048575},
        {"path": "/dev/deep/er/b", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600, "uid": 1000},
        {"path": "/dev/p", "type": "p", "fileMode": 0o612, "gid": 5},
        {"path": "/etc/elsewhere", "type": "c", "major": 1, "minor": 3, "fileMode": 0o020_444},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7},
    ]);
    let script = "cd /dev; stat -c '%n %F %a %u:%g %t:%T' c u deep/er/b p /etc/elsewhere null; stat -c %a deep";
    let shown = with_devices(Bundle::script(script), devices).run().ok();
    let expected = "c character special file 640 1:2 a:e5\n\
        u character special file 666 0:0 fff:fffff\n\
        deep/er/b block special file 600 1000:0 7:12c\n\
        p fifo 612 0:5 0:0\n\
        /etc/elsewhere character special file 444 0:0 1:3\n\
        null character special file 600 7:0 1:3\n755\n";
    assert_eq!(shown, expected);
}

#[test]
fn numbers_that_are_none_are_refused() {
    if cannot_make_containers() {
        return;
    }
    let cases = [
        (json!({"path": "/dev/x", "type": "c", "major": -1, "minor": 3}), "major"),
        (json!({"path": "/dev/x", "type": "c", "major": 4096, "minor": 3}), "major"),
        (json!({"path": "/dev/x", "type": "b", "major": 7, "minor": 1048576}), "minor"),
        (json!({"path": "/dev/x", "type": "b", "major": 7}), "minor"),
        (json!({"path": "/dev/x", "type": "b"}), "major"),
        (json!({"path": "/dev/x", "type": "x", "major": 1, "minor": 3}), "type"),
        (json!({"path": "dev/x", "type": "c", "major": 1, "minor": 3}), "path"),
        (json!({"path": "/", "type": "c", "major": 1, "minor": 3}), "path"),
        (json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 4294967295u32}), "uid"),
        (json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 1 << 20}), "fileMode"),
    ];
    for (device, field) in cases {
        let error = with_devices(Bundle::new(), json!([device])).run().refused();
        assert!(error.contains(&format!("config.json /linux/devices/0/{field}")), "{device}: {error}");
    }
}

/// The nodes would be made on the host.
#[test]
fn a_bound_dev_is_left_alone() {
    if cannot_make_containers() {
        return;
    }
    for options in [["bind"], ["rbind"]] {
        let dev = json!({"destination": "/dev", "source": "dev", "options": options});
        let devices = json!([
            {"path": "/dev/x", "type": "c", "major": 1, "minor": 3},
            {"path": "/dev/../dev/y", "type": "p"},
            {"path": "/etc/z", "type": "c", "major": 1, "minor": 3},
        ]);
        let bundle = with_devices(with_dev(Bundle::script("ls -A /dev /etc"), Some(dev)), devices);
        fs::create_dir(bundle.path().join("dev")).unwrap();
        fs::write(bundle.path().join("dev/of-the-host"), "").unwrap();
        // Masks need no null device of the container's.
        assert_eq!(bundle.run().ok(), "/dev:\nof-the-host\n\n/etc:\nz\n");
        assert_eq!(fs::read_dir(bundle.path().join("dev")).unwrap().count(), 1);
    }
}

#[test]
fn the_hosts_own_dev_can_be_bound() {
    if cannot_make_containers() {
        return;
    }
    let dev = json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "ro"]});
    let bundle = with_dev(Bundle::script("echo x >/dev/null && cat /proc/self/mountinfo"), Some(dev));
    let shown = bundle.run().ok();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mount_at(&shown, "/dev").fs, mount_at(&host, "/dev").fs);
    assert!(mount_at(&shown, "/dev").has("ro"));
}

#[test]
fn the_console_comes_with_a_terminal_only() {
    if cannot_make_containers() {
        return;
    }
    let script = "if [ -e /dev/console ]; then stat -c '%F %t:%T %u:%g' /dev/console; tty; cat /proc/self/mountinfo; \
        else echo none; fi";
    assert_eq!(Bundle::script(script).run().ok(), "none\n");
    let with_terminal = |uid: u32| {
        Bundle::script(&format!("exec >/out; {script}")).with(|config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["consoleSize"] = json!({"height": 40, "width": 100});
            config["process"]["user"]["uid"] = json!(uid);
        })
    };
    for uid in [0, 12] {
        // Nobody reads a passive console: the payload writes into a file.
        let bundle = with_terminal(uid).with_mount("/out", "bind", "out", &["bind"]);
        let out = bundle.path().join("out");
        fs::write(&out, "").unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
        bundle.run_with(&["--console=passive", "--init=exec"], b"").ok();
        let shown = fs::read_to_string(out).unwrap();
        let expected = format!("character special file 88:0 {uid}:5\n/dev/pts/0\n");
        assert!(shown.starts_with(&expected), "{shown}");
        assert_eq!(mount_at(&shown, "/dev/console").fs, "devpts");
    }
    let without = with_dev(with_terminal(0), None).run_with(&["--console=passive"], b"").refused();
    assert!(without.contains("/process/terminal") && without.contains("/dev/pts"), "{without}");
}

/// A root with its own /dev: what fits is taken, what does not is an error, and a link leads nowhere.
#[test]
fn nodes_of_the_image_are_checked() {
    if cannot_make_containers() {
        return;
    }
    let bundle = || with_dev(Bundle::script("stat -c '%F %t:%T' /dev/null /dev/zero"), None);
    let fine = bundle();
    assert_eq!(fine.run().ok(), "character special file 1:3\ncharacter special file 1:5\n");
    // Again, over what the first run has made.
    assert_eq!(fine.run().ok(), "character special file 1:3\ncharacter special file 1:5\n");
    let wrong = bundle();
    fs::write(wrong.rootfs().join("dev/zero"), "").unwrap();
    let error = wrong.run().refused();
    assert!(error.contains("/dev/zero") && error.contains("not the device"), "{error}");
    let linked = bundle();
    symlink("/dev/full", linked.rootfs().join("dev/zero")).unwrap();
    let error = linked.run().refused();
    assert!(error.contains("/dev/zero") && error.contains("not the device"), "{error}");
    // The image's own links are its own business.
    let link = bundle().with(|config| config["process"]["args"] = json!(["readlink", "/dev/stdin"]));
    symlink("/etc/x", link.rootfs().join("dev/stdin")).unwrap();
    assert_eq!(link.run().ok(), "/etc/x\n");
}
