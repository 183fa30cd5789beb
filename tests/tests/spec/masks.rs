//! `linux.maskedPaths` and `linux.readonlyPaths`.
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::mountinfo::{in_private_mounts, mount_at, mounts};
use rspawn_tests::{Bundle, cannot_make_containers, finish, program};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

/// A root with a secret file, a directory with one, and links to both.
fn with_secrets(script: &str, masked: &[&str], readonly: &[&str]) -> Bundle {
    let bundle = Bundle::script(script).with(|config| {
        config["linux"]["maskedPaths"] = json!(masked);
        config["linux"]["readonlyPaths"] = json!(readonly);
    });
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("data/deep")).unwrap();
    fs::write(root.join("etc/secret"), "secret\n").unwrap();
    fs::write(root.join("data/secret"), "secret\n").unwrap();
    fs::write(root.join("data/deep/secret"), "secret\n").unwrap();
    symlink("/etc/secret", root.join("file-link")).unwrap();
    symlink("../../data", root.join("data-link")).unwrap();
    bundle
}

const LOOK: &str = "cat /etc/secret; ls -A /data; cat /data/secret /data/deep/secret 2>/dev/null; \
    touch /data/new 2>&1; \
    stat -c '%F %t:%T' /etc/secret; echo x >/etc/secret && echo swallowed; exit 0";
const MASKED: &str = "touch: /data/new: Read-only file system\ncharacter special file 1:3\nswallowed\n";

#[test]
fn files_and_directories_are_covered() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_secrets(LOOK, &["/etc/secret", "/data", "/data/deep", "/nosuch", "/etc/secret/below"], &[]);
    assert_eq!(bundle.run().ok(), MASKED);
    assert_eq!(fs::read_to_string(bundle.rootfs().join("etc/secret")).unwrap(), "secret\n");
    assert!(!bundle.rootfs().join("nosuch").exists());
    // An ordinary user sees as little.
    let user = bundle.with(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    assert!(!user.run().ok().contains("secret\n"));
}

#[test]
fn links_are_masked_where_they_lead() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(with_secrets(LOOK, &["/file-link", "/data-link"], &[]).run().ok(), MASKED);
    // Links of the image that point out of it point into it.
    let bundle = with_secrets("ls /etc | wc -l", &["/up/../etc"], &[]);
    symlink("../../../../../..", bundle.rootfs().join("up")).unwrap();
    assert_eq!(bundle.run().ok(), "0\n");
    // A link to nothing is a missing path.
    let bundle = with_secrets("echo ran", &["/nowhere"], &["/nowhere"]);
    symlink("/not/there", bundle.rootfs().join("nowhere")).unwrap();
    assert_eq!(bundle.run().ok(), "ran\n");
}

#[test]
fn many_masks_share_one_filesystem() {
    if cannot_make_containers() {
        return;
    }
    const MANY: usize = 400;
    let paths: Vec<String> = (0..MANY).map(|index| format!("/many/{index}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let bundle = with_secrets("ls -A /many/* | grep -c secret; cat /proc/self/mountinfo", &paths, &[]);
    for index in 0..MANY {
        let path = bundle.rootfs().join(format!("many/{index}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("secret"), "").unwrap();
    }
    let shown = bundle.run().ok();
    assert!(shown.starts_with("0\n"), "{shown}");
    let covers: Vec<_> = mounts(&shown).into_iter().filter(|mount| mount.at.starts_with("/many/")).collect();
    assert_eq!(covers.len(), MANY);
    assert!(covers.iter().all(|cover| cover.fs == "tmpfs" && cover.has("ro")), "{covers:?}");
}

#[test]
fn the_payload_cannot_take_a_mask_off() {
    if cannot_make_containers() {
        return;
    }
    let script = "umount /etc/secret; umount -l /data; umount /proc/sys; mount -o remount,rw /data; \
        mount -o remount,rw /proc/sys; mount -o bind /etc /tmp; mknod /tmp/n c 1 3; \
        cat /proc/self/root/etc/secret /proc/1/root/etc/secret /proc/1/cwd/etc/secret; \
        cat /proc/1/root/data/secret; echo x >/proc/sys/kernel/domainname; ls /proc/acpi; \
        cat /proc/keys /proc/timer_list; \
        head -c 1 /proc/interrupts | wc -c";
    let bundle = with_secrets(script, &[], &[]).with(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/etc/secret", "/data", "/proc/acpi", "/proc/keys", "/proc/timer_list", "/proc/interrupts",]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    });
    let output = bundle.run();
    assert_eq!(output.stdout, "0\n", "{output:?}");
    let refusals = output.stderr.matches("denied").count() + output.stderr.matches("not permitted").count();
    assert!(refusals >= 6, "{output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
}

#[test]
fn read_only_paths_keep_their_content() {
    if cannot_make_containers() {
        return;
    }
    let script = "cat /etc/secret /data/deep/secret; echo x >/etc/secret; touch /data/deep/new; touch /var/new && \
        echo elsewhere is writable; cat /proc/self/mountinfo";
    let readonly = ["/file-link", "/data-link", "/nosuch", "/proc/sys", "/nosuch/x"];
    let bundle = with_secrets(script, &[], &readonly).with_mount("/data/more", "tmpfs", "tmpfs", &["noexec"]);
    let output = bundle.run();
    assert!(output.stdout.starts_with("secret\nsecret\nelsewhere is writable\n"), "{output:?}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
    assert!(mount_at(&output.stdout, "/etc/secret").has("ro") && mount_at(&output.stdout, "/data").has("ro"));
    // Attributes of the mount it was part of stay, and so does what was mounted below it.
    let sys = mount_at(&output.stdout, "/proc/sys");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| sys.has(option)), "{sys:?}");
    assert!(mount_at(&output.stdout, "/data/more").has("noexec"), "{output:?}");
}

#[test]
fn the_root_itself_is_not_covered() {
    if cannot_make_containers() {
        return;
    }
    for (list, pointer) in [("maskedPaths", "/linux/maskedPaths/1"), ("readonlyPaths", "/linux/readonlyPaths/1")] {
        for path in ["/", "/etc/..", "", "."] {
            let error = Bundle::new().with(|config| config["linux"][list] = json!(["/etc", path])).run().refused();
            assert!(error.contains(&format!("config.json {pointer}")), "{list} {path}: {error}");
        }
    }
}

/// Where no node can be made, masks are made of the host's null device, and nothing that poses as it (CVE-2025-31133).
#[test]
fn a_null_device_that_is_none_is_refused() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_secrets("cat /etc/secret", &["/etc/secret"], &[]).with(in_user_namespace);
    let script = "mount --bind /dev/zero /dev/null; \"$@\"";
    let output = finish(in_private_mounts(script, &bundle.command(&[])), b"");
    let error = output.refused();
    assert!(error.contains("null") && error.contains("it is not the device"), "{error}");
    bundle.assert_nothing_left();
}

/// Below the root, wherever the payload works: runc and crun do so too.
#[test]
fn relative_paths_begin_at_the_root() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_secrets("cat /etc/secret; touch /data/new 2>&1; exit 0", &["etc/secret"], &["data"]);
    let bundle = bundle.with(|config| config["process"]["cwd"] = json!("/data/deep"));
    assert_eq!(bundle.run().ok(), "touch: /data/new: Read-only file system\n");
    let mut check = Command::new(program("rspawn"));
    check.arg("check").arg(bundle.path());
    let said = finish(check, b"").stdout;
    for note in
        ["/linux/maskedPaths/0: the path \"etc/secret\" is not absolute; /etc/secret is taken", "/data is taken"]
    {
        assert!(said.contains(note), "{said}");
    }
}
