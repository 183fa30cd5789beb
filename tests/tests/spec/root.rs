//! `root`, `linux.rootfsPropagation`, and what stands at the top of config.json.
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use rspawn_tests::mountinfo::{in_private_mounts, mount_at, mounts};
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

/// A bundle whose root has a mark, with another `root.path`.
fn marked(path: impl FnOnce(&Bundle) -> String) -> Bundle {
    let mut bundle = Bundle::script("cat /mark");
    fs::write(bundle.rootfs().join("mark"), "this root\n").unwrap();
    let path = path(&bundle);
    bundle.config["root"]["path"] = json!(path);
    bundle
}

#[test]
fn the_path_is_relative_absolute_or_through_links() {
    if cannot_make_containers() {
        return;
    }
    let absolute = |bundle: &Bundle| bundle.rootfs().display().to_string();
    assert_eq!(marked(absolute).run().ok(), "this root\n");
    for relative in ["rootfs", "./rootfs", "rootfs/", "rootfs/../rootfs", "rootfs//."] {
        assert_eq!(marked(|_| relative.into()).run().ok(), "this root\n");
    }
    let linked = marked(|_| "link".into());
    symlink("other", linked.path().join("link")).unwrap();
    symlink(linked.rootfs(), linked.path().join("other")).unwrap();
    assert_eq!(linked.run().ok(), "this root\n");
}

#[test]
fn a_bundle_is_found_through_links_too() {
    if cannot_make_containers() {
        return;
    }
    let bundle = marked(|_| "rootfs".into());
    let link = bundle.path().join("to-itself");
    symlink(".", &link).unwrap();
    let mut command = Command::new(rspawn_tests::program("rspawn"));
    bundle.write_config();
    command.arg("run").arg("--bundle").arg("to-itself").arg(&bundle.id).current_dir(bundle.path());
    assert_eq!(finish(bundle.by_its_user(command), b"").ok(), "this root\n");
    bundle.assert_nothing_left();
}

#[test]
fn a_path_that_is_no_root_is_named() {
    if cannot_make_containers() {
        return;
    }
    for (path, word) in [("nosuch", "ENOENT"), ("config.json", "not a directory"), ("../..", "leaves"), ("", "empty")] {
        let error = marked(|_| path.into()).run().refused();
        assert!(error.contains("config.json /root/path") && error.contains(word), "{path}: {error}");
    }
    let error = Bundle::new().with(|config| drop(config.as_object_mut().unwrap().remove("root"))).run().refused();
    assert!(error.contains("config.json /root"), "{error}");
}

#[test]
fn readonly_is_the_root_alone() {
    if cannot_make_containers() {
        return;
    }
    let script = "touch /f 2>&1; touch /mnt/made/f && echo mount is writable; cat /proc/self/mountinfo";
    let run = |readonly: bool| {
        let bundle = Bundle::script(script).with(|config| config["root"]["readonly"] = json!(readonly)).with_mount(
            "/mnt/made",
            "tmpfs",
            "tmpfs",
            &[],
        );
        let output = bundle.run();
        (output.ok(), bundle.rootfs().join("f").exists())
    };
    let (shown, written) = run(true);
    assert!(shown.contains("Read-only file system") && shown.contains("mount is writable"), "{shown}");
    assert!(mount_at(&shown, "/").has("ro") && !written);
    let (shown, written) = run(false);
    assert!(mount_at(&shown, "/").has("rw") && written, "{shown}");
}

/// Runs a bundle in a mount namespace where its root is a shared mount with another below it.
fn run_on_shared_root(bundle: &Bundle, rest: &str) -> Output {
    let prepare = "mkdir -p rootfs/sub; mount --bind rootfs rootfs; mount -t tmpfs t rootfs/sub";
    let script = format!("cd {}; {prepare}; mount --make-rshared rootfs; {rest}", bundle.path().display());
    let output = finish(in_private_mounts(&script, &bundle.command(&[])), b"");
    bundle.assert_nothing_left();
    output
}

#[test]
fn each_propagation_shows_in_mountinfo() {
    if cannot_make_containers() {
        return;
    }
    // (a peer, a slave, unbindable), of the root and of what is mounted below it.
    let slave = (false, true, false);
    let cases = [
        (None, slave, slave),
        (Some("slave"), slave, slave),
        (Some("rslave"), slave, slave),
        (Some("private"), (false, false, false), slave),
        (Some("rprivate"), (false, false, false), (false, false, false)),
        (Some("shared"), (true, true, false), slave),
        (Some("rshared"), (true, true, false), (true, true, false)),
        (Some("unbindable"), (false, false, true), slave),
        (Some("runbindable"), (false, false, true), (false, false, true)),
    ];
    for (name, root, below) in cases {
        let bundle = Bundle::script("cat /proc/self/mountinfo").with(|config| {
            if let Some(name) = name {
                config["linux"]["rootfsPropagation"] = json!(name);
            }
        });
        let shown = run_on_shared_root(&bundle, "\"$@\"").ok();
        let seen = |path: &str| {
            let mount = mount_at(&shown, path);
            (mount.is_peer(), mount.is_slave(), mount.propagation.iter().any(|field| field == "unbindable"))
        };
        assert_eq!((seen("/"), seen("/sub")), (root, below), "{name:?}: {shown}");
    }
    let wrong = Bundle::new().with(|config| config["linux"]["rootfsPropagation"] = json!("sharde"));
    let error = wrong.run().refused();
    assert!(error.contains("/linux/rootfsPropagation") && error.contains("shared"), "{error}");
}

/// Mounts of the container stay in it, whatever the propagation of its root; those of the host reach a slave.
#[test]
fn mounts_cross_the_root_only_inwards() {
    if cannot_make_containers() {
        return;
    }
    for (name, arrives) in [("private", false), ("slave", true), ("rslave", true), ("shared", true)] {
        let script = "mkdir /inside; mount -t tmpfs from-inside /inside; touch /ready; \
            while [ ! -e /go ]; do sleep 0.02; done; grep from-outside /proc/self/mountinfo; true";
        let bundle = Bundle::script(script).with(|config| {
            config["linux"]["rootfsPropagation"] = json!(name);
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
            }
        });
        let rest = "\"$@\" & while [ ! -e rootfs/ready ]; do sleep 0.02; done; mkdir rootfs/outside; \
            mount -t tmpfs from-outside rootfs/outside; grep -q from-inside /proc/self/mountinfo && echo LEAK; \
            touch rootfs/go; wait $!";
        let shown = run_on_shared_root(&bundle, rest).ok();
        assert!(!shown.contains("LEAK"), "{name}: {shown}");
        assert_eq!(shown.contains("from-outside"), arrives, "{name}: {shown}");
    }
}

#[test]
fn nothing_of_the_host_is_in_sight() {
    if cannot_make_containers() {
        return;
    }
    let script = "echo $(ls / /.. /../.. | sort -u); \
        for l in /proc/1/root /proc/self/root /proc/1/cwd; do readlink $l; done; \
        cat /proc/self/mountinfo";
    let bundle = Bundle::script(script);
    fs::write(bundle.rootfs().join("mark"), "").unwrap();
    let shown = bundle.run().ok();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("/../..: /..: /: bin dev etc mark proc sys tmp usr var"), "{shown}");
    assert_eq!((lines.next(), lines.next(), lines.next()), (Some("/"), Some("/"), Some("/")), "{shown}");
    let expected =
        ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/sys/firmware"];
    for mount in mounts(&shown) {
        let known = expected.contains(&mount.at.as_str())
            || mount.at.starts_with("/proc/")
            // A user can make no devices: these are the host's.
            || (bundle.user.is_some() && mount.fs == "devtmpfs" && mount.at == format!("/dev{}", mount.root))
            || mount.at.starts_with("/sys/fs/cgroup/");
        assert!(known, "{mount:?}");
    }
    assert_eq!(mounts(&shown).iter().filter(|mount| mount.at == "/").count(), 1, "the old root is gone: {shown}");
}

#[test]
fn versions_of_the_specification() {
    if cannot_make_containers() {
        return;
    }
    let run = |version: &str| Bundle::script("echo ran").with(|config| config["ociVersion"] = json!(version)).run();
    for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.99.0-rc.1+build"] {
        assert_eq!(run(version).ok(), "ran\n", "{version}");
    }
    for version in ["", "1", "1.0", "0.9.0", "2.0.0", "1.x.0", "v1.0.0", "1.0.0.0", "-1.0.0"] {
        let error = run(version).refused();
        assert!(error.contains("config.json /ociVersion"), "{version}: {error}");
    }
    let error = Bundle::new().with(|config| drop(config.as_object_mut().unwrap().remove("ociVersion"))).run().refused();
    assert!(error.contains("ociVersion"), "{error}");
}

#[test]
fn names_of_the_machine() {
    if cannot_make_containers() {
        return;
    }
    let host =
        || ["hostname", "domainname"].map(|name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap());
    let before = host();
    let script = "hostname; cat /proc/sys/kernel/domainname";
    let names = |hostname: &str, domainname: &str| {
        Bundle::script(script).with(|config| {
            config["hostname"] = json!(hostname);
            config["domainname"] = json!(domainname);
        })
    };
    assert_eq!(names("a-container", "example.org").run().ok(), "a-container\nexample.org\n");
    let longest = "x".repeat(64);
    assert_eq!(names(&longest, &longest).run().ok(), format!("{longest}\n{longest}\n"));
    let error = names(&format!("{longest}x"), "").run().refused();
    assert!(error.contains("config.json /hostname") && error.contains("64"), "{error}");
    assert_eq!(host(), before);
}

#[test]
fn annotations_do_not_disturb() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo ran").with(|config| {
        config["annotations"] = json!({
            "org.opencontainers.image.os": "linux", "com.example/ü \n": "any\u{1}thing", "empty": "",
            "run.oci.keep_original_groups": "1",
        });
    });
    let output = bundle.run();
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "ran\n", ""));
}
