//! `mounts`: options, filesystems, mount points.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rspawn_tests::mountinfo::{Mount, in_private_mounts, mount_at, mounts};
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, skip_unless};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

const SHOW_MOUNTS: &str = "cat /proc/self/mountinfo";

/// Options, attributes that mountinfo then shows, and attributes that it does not.
type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// The specification's attribute options; `rw,relatime` is what a mount is without any.
const ATTRIBUTES: [Case; 21] = [
    (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"]),
    (&["defaults", "async", "loud", "silent", "nomand", "nolazytime", "noiversion", "iversion"], &["rw"], &["ro"]),
    (&["ro"], &["ro"], &["rw"]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["nosuid"], &["nosuid"], &[]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["nodev"], &["nodev"], &[]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &[]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["noatime", "relatime"], &["relatime"], &["noatime"]),
    (&["norelatime"], &["relatime"], &[]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"], &[]),
    (&["nodiratime"], &["nodiratime"], &[]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["ro,nosuid,nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &[]),
];

#[track_caller]
fn assert_shows(mount: &Mount, case: &Case) {
    let (options, shown, hidden) = case;
    let fits = shown.iter().all(|option| mount.has(option)) && !hidden.iter().any(|option| mount.has(option));
    assert!(fits, "{options:?} became {mount:?}");
}

/// A bundle that shows its mounts; with a directory `src` to bind from, and one below it.
fn showing() -> Bundle {
    let bundle = Bundle::script(SHOW_MOUNTS);
    fs::create_dir_all(bundle.path().join("src/below")).unwrap();
    bundle
}

/// Runs a bundle with preparations on the host's side that no other test sees.
#[track_caller]
fn run_after(script: &str, bundle: &Bundle) -> Output {
    let script = format!("cd {}; {script}; \"$@\"", bundle.path().display());
    let output = finish(in_private_mounts(&script, &bundle.command(&[])), b"");
    bundle.assert_nothing_left();
    output
}

#[test]
fn attributes_of_new_filesystems() {
    if cannot_make_containers() {
        return;
    }
    let mut bundle = showing();
    for (index, (options, _, _)) in ATTRIBUTES.iter().enumerate() {
        bundle = bundle.with_mount(&format!("/m{index}"), "tmpfs", "tmpfs", options);
    }
    let shown = bundle.run().ok();
    for (index, case) in ATTRIBUTES.iter().enumerate() {
        assert_shows(&mount_at(&shown, &format!("/m{index}")), case);
    }
}

#[test]
fn attributes_of_binds() {
    if cannot_make_containers() {
        return;
    }
    let mut bundle = showing();
    for (index, (options, _, _)) in ATTRIBUTES.iter().enumerate() {
        let options = [&["bind"], *options].concat();
        bundle = bundle.with_mount(&format!("/m{index}"), "none", "src", &options);
    }
    let shown = bundle.run().ok();
    for (index, case) in ATTRIBUTES.iter().enumerate() {
        assert_shows(&mount_at(&shown, &format!("/m{index}")), case);
    }
}

/// A bind takes over what its source has, and negative options take it away.
#[test]
fn binds_keep_and_drop_attributes_of_their_source() {
    if cannot_make_containers() {
        return;
    }
    let bundle = showing()
        .with_mount("/kept", "bind", "src", &["nodev"])
        .with_mount("/dropped", "bind", "src", &["rw", "suid", "dev", "exec", "atime", "diratime", "symfollow"])
        .with_mount("/all", "bind", "src", &["rbind", "rrw", "rsuid", "rdev", "rexec", "ratime", "rdiratime"]);
    let all = "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
    let prepare = format!("mount -t tmpfs -o {all} t src; mount -t tmpfs t /mnt; mount --bind /mnt src -o {all}");
    // A read-only superblock would stay read-only; the attributes belong to a bind on it.
    let prepare = format!("{prepare}; mount -o remount,bind,{all} src");
    let shown = run_after(&prepare, &bundle).ok();
    let kept = mount_at(&shown, "/kept");
    assert!(all.split(',').all(|option| kept.has(option)), "{kept:?}");
    let dropped = mount_at(&shown, "/dropped");
    assert!(!all.split(',').any(|option| dropped.has(option)), "{dropped:?}");
    let all_dropped = mount_at(&shown, "/all");
    assert!(all_dropped.has("nosymfollow") && !all_dropped.has("ro") && !all_dropped.has("noatime"), "{all_dropped:?}");
}

#[test]
fn recursive_forms_reach_submounts() {
    if cannot_make_containers() {
        return;
    }
    const FORMS: [Case; 8] = [
        (&["rro"], &["ro"], &["rw"]),
        (&["rnosuid"], &["nosuid"], &["ro"]),
        (&["rnodev"], &["nodev"], &[]),
        (&["rnoexec"], &["noexec"], &[]),
        (&["rnoatime"], &["noatime"], &["relatime"]),
        (&["rstrictatime"], &[], &["relatime", "noatime"]),
        (&["rnodiratime", "rnosymfollow"], &["nodiratime", "nosymfollow"], &[]),
        (&["rnoatime", "rrelatime", "rro", "rrw"], &["relatime", "rw"], &["noatime"]),
    ];
    let mut bundle = showing()
        .with_mount("/flat", "bind", "src", &["rbind", "ro", "noexec"])
        .with_mount("/alone", "bind", "src", &["bind", "rro"])
        .with_mount("/mixed", "bind", "src", &["rbind", "ro", "rnosuid"]);
    for (index, (options, _, _)) in FORMS.iter().enumerate() {
        bundle = bundle.with_mount(&format!("/m{index}"), "bind", "src", &[&["rbind"], *options].concat());
    }
    let shown = run_after("mount -t tmpfs t src/below", &bundle).ok();
    for (index, case) in FORMS.iter().enumerate() {
        assert_shows(&mount_at(&shown, &format!("/m{index}")), case);
        assert_shows(&mount_at(&shown, &format!("/m{index}/below")), case);
    }
    assert_shows(&mount_at(&shown, "/flat"), &(&["ro"], &["ro", "noexec"], &[]));
    assert_shows(&mount_at(&shown, "/flat/below"), &(&["ro"], &["rw"], &["noexec"]));
    assert!(mount_at(&shown, "/alone").has("ro") && !shown.contains("/alone/below"), "{shown}");
    assert_shows(&mount_at(&shown, "/mixed"), &(&["mixed"], &["ro", "nosuid"], &[]));
    assert_shows(&mount_at(&shown, "/mixed/below"), &(&["mixed"], &["rw", "nosuid"], &[]));
}

#[test]
fn flags_of_superblocks() {
    if cannot_make_containers() {
        return;
    }
    let shown = showing()
        .with_mount("/sync", "tmpfs", "tmpfs", &["sync", "dirsync", "lazytime", "mand"])
        .with_mount("/not", "tmpfs", "tmpfs", &["sync", "async", "lazytime", "nolazytime", "mand", "nomand"])
        .run()
        .ok();
    let sync = mount_at(&shown, "/sync");
    assert!(["sync", "dirsync", "lazytime"].iter().all(|flag| sync.filesystem_has(flag)), "{sync:?}");
    let not = mount_at(&shown, "/not");
    assert!(!["sync", "lazytime", "mand"].iter().any(|flag| not.filesystem_has(flag)), "{not:?}");
}

#[test]
fn remount_changes_an_earlier_mount() {
    if cannot_make_containers() {
        return;
    }
    let shown = showing()
        .with_mount("/a", "bind", "src", &["bind"])
        .with_mount("/b", "tmpfs", "tmpfs", &["ro"])
        .with_mount("/b/c", "tmpfs", "tmpfs", &[])
        .with_mount("/a", "", "", &["remount", "ro", "noexec"])
        .with_mount("/b", "", "", &["remount", "nosuid"])
        .run()
        .ok();
    assert_shows(&mount_at(&shown, "/a"), &(&["remount"], &["ro", "noexec"], &[]));
    assert_shows(&mount_at(&shown, "/b"), &(&["remount"], &["ro", "nosuid"], &[]));
    assert_eq!(mounts(&shown).iter().filter(|mount| mount.at == "/a").count(), 1);
    let error = Bundle::new().with_mount("/etc", "", "", &["remount", "ro"]).run().refused();
    assert!(error.contains("/mounts/7/options") && error.contains("remount"), "{error}");
}

#[test]
fn propagation_flags() {
    if cannot_make_containers() {
        return;
    }
    let names = ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];
    let mut bundle = showing().with_mount("/plain", "bind", "src", &["rbind"]);
    for name in names {
        bundle = bundle.with_mount(&format!("/{name}"), "bind", "src", &["rbind", name]).with_mount(
            &format!("/t-{name}"),
            "tmpfs",
            "tmpfs",
            &[name],
        );
    }
    let prepare = "mount -t tmpfs t src; mkdir src/below; mount -t tmpfs t src/below; mount --make-rshared src";
    let shown = run_after(prepare, &bundle).ok();
    // Each in mountinfo's words: (a peer, a slave, unbindable).
    let seen = |path: &str| {
        let mount = mount_at(&shown, path);
        (mount.is_peer(), mount.is_slave(), mount.propagation.iter().any(|field| field == "unbindable"))
    };
    assert_eq!(seen("/plain"), (false, true, false));
    assert_eq!(seen("/plain/below"), (false, true, false));
    let top = [(false, false, false), (false, true, false), (true, true, false), (false, false, true)];
    for (name, expected) in names.iter().zip(top.into_iter().flat_map(|expected| [expected, expected])) {
        assert_eq!(seen(&format!("/{name}")), expected, "{name}: {shown}");
        let below = if name.starts_with('r') { expected } else { (false, true, false) };
        assert_eq!(seen(&format!("/{name}/below")), below, "{name}: {shown}");
        // A new filesystem has no master.
        assert_eq!(seen(&format!("/t-{name}")), (expected.0, false, expected.2), "{name}: {shown}");
    }
}

/// Runs the command of [`in_private_mounts`] in the middle of a script, and nothing in its place at the end.
const QUIET: &str = "\"$@\" && set -- true";

/// What engines ask for with `:rshared` volumes: rootfsPropagation and the bind, both shared.
#[test]
fn a_shared_bind_of_a_shared_root_is_a_peer_of_the_hosts_mount() {
    if cannot_make_containers() {
        return;
    }
    let script = "mkdir /peer/new /slave/new; mount -t tmpfs from-inside /peer/new && mount -t tmpfs t /slave/new";
    let bundle = Bundle::script(script)
        .with(|config| {
            config["linux"]["rootfsPropagation"] = json!("rshared");
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            }
        })
        .with_mount("/peer", "bind", "a", &["rbind", "rshared"])
        .with_mount("/slave", "bind", "b", &["rbind", "rslave"]);
    let prepare = "for d in a b; do mkdir $d; mount -t tmpfs t $d; mount --make-shared $d; done";
    let shown = run_after(&format!("{prepare}; {QUIET}; cat /proc/self/mountinfo"), &bundle).ok();
    let path = |name: &str| bundle.path().join(name).display().to_string();
    assert_eq!(mount_at(&shown, &path("a/new")).source, "from-inside");
    assert!(!shown.contains(&path("b/new")), "{shown}");
}

/// Without a shared root, as with runc, `shared` makes no peer of the host's mount.
#[test]
fn a_shared_bind_alone_does_not_reach_the_host() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("mkdir /m/new; mount -t tmpfs from-inside /m/new")
        .with(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            }
        })
        .with_mount("/m", "bind", "a", &["rbind", "rshared"]);
    let script = format!("mkdir a; mount -t tmpfs t a; mount --make-shared a; {QUIET}; cat /proc/self/mountinfo");
    let shown = run_after(&script, &bundle).ok();
    assert!(!shown.contains("from-inside"), "{shown}");
}

/// Mappings as /proc/PID/uid_map has them: an id on disk is "inside", what the container sees is "outside".
#[test]
fn id_mapped_binds_shift_owners() {
    if cannot_make_containers() {
        return;
    }
    let script = "stat -c %u:%g /m /m/below /m/f /r/below/f /flat/below/f /plain/f; touch /m/new";
    let map = |inside: u32, outside: u32| json!([{"containerID": inside, "hostID": outside, "size": 1000}]);
    let mounts = json!([
        {"destination": "/m", "type": "bind", "source": "src", "options": ["bind"],
         "uidMappings": map(0, 5000), "gidMappings": map(0, 7000)},
        {"destination": "/r", "type": "bind", "source": "src", "options": ["rbind", "ridmap", "ro"],
         "uidMappings": map(0, 5000), "gidMappings": map(0, 7000)},
        {"destination": "/flat", "type": "bind", "source": "src", "options": ["rbind", "idmap", "rro"],
         "uidMappings": map(0, 6000), "gidMappings": map(0, 6000)},
        {"destination": "/plain", "type": "bind", "source": "src", "options": ["bind"]},
    ]);
    let bundle = Bundle::script(script).with(|config| {
        let list = config["mounts"].as_array_mut().unwrap();
        list.extend(mounts.as_array().unwrap().iter().cloned());
        config["process"]["user"] = json!({"uid": 5003, "gid": 7004});
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!([]);
        }
    });
    let source = bundle.path().join("src");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("f"), "").unwrap();
    std::os::unix::fs::chown(source.join("f"), Some(1), Some(2)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o777)).unwrap();
    let prepare = "mount -t tmpfs t src/below; touch src/below/f; chown 1:2 src/below/f";
    let output = run_after(prepare, &bundle).ok();
    let expected = ["5000:7000", "5000:7000", "5001:7002", "5001:7002", "1:2", "1:2"];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
    let new = fs::metadata(source.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (3, 4), "what the mapped user makes belongs to the id on disk");
}

#[test]
fn id_maps_are_for_binds_and_need_both_kinds() {
    if cannot_make_containers() {
        return;
    }
    let with =
        |mount: serde_json::Value| Bundle::new().with(|config| config["mounts"] = json!([mount])).run().refused();
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let bind = json!({"destination": "/m", "type": "bind", "source": ".", "options": ["bind"], "uidMappings": map});
    assert!(with(bind).contains("/mounts/0/gidMappings"));
    let nothing = json!({"destination": "/m", "type": "bind", "source": ".", "options": ["bind", "idmap"]});
    assert!(with(nothing).contains("/mounts/0/options"));
    let tmpfs = json!({"destination": "/m", "type": "tmpfs", "uidMappings": map, "gidMappings": map});
    assert!(with(tmpfs).contains("/mounts/0"));
}

#[test]
fn tmpcopyup_brings_what_the_image_has() {
    if cannot_make_containers() {
        return;
    }
    let script =
        "cd /data; stat -c '%n %a %u:%g' . f d d/g; readlink l; cat d/g; echo new >f; cat f; cd /other; stat -c %a .";
    let bundle = Bundle::script(script)
        .with_mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
        .with_mount("/other", "tmpfs", "tmpfs", &["tmpcopyup", "mode=1770"])
        .with_mount("/missing", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let data = bundle.rootfs().join("data");
    fs::create_dir_all(data.join("d")).unwrap();
    fs::create_dir(bundle.rootfs().join("other")).unwrap();
    fs::write(data.join("f"), "old\n").unwrap();
    fs::write(data.join("d/g"), "of the image\n").unwrap();
    symlink("/etc/passwd", data.join("l")).unwrap();
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    mode("f", 0o640);
    mode("d", 0o2751);
    mode("d/g", 0o604);
    std::os::unix::fs::chown(data.join("d/g"), Some(3), Some(4)).unwrap();
    let shown = bundle.run().ok();
    let expected =
        [". 755 0:0", "f 640 0:0", "d 2751 0:0", "d/g 604 3:4", "/etc/passwd", "of the image", "new", "1770"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert_eq!(fs::read_to_string(data.join("f")).unwrap(), "old\n");
    let error = Bundle::new().with_mount("/m", "bind", ".", &["bind", "tmpcopyup"]).run().refused();
    assert!(error.contains("/mounts/7/options") && error.contains("tmpcopyup"), "{error}");
}

#[test]
fn virtual_filesystems_take_their_options() {
    if cannot_make_containers() {
        return;
    }
    let shown = showing()
        .with_mount("/p", "proc", "proc", &["hidepid=2", "subset=pid"])
        .with_mount("/t", "tmpfs", "tmpfs", &["size=128k", "mode=0711", "uid=5", "gid=6", "nr_inodes=20"])
        .with_mount("/d", "devpts", "devpts", &["newinstance", "ptmxmode=0600", "mode=0640", "gid=7", "max=3"])
        .with_mount("/q", "mqueue", "mqueue", &["nosuid"])
        .with_mount("/s", "sysfs", "sysfs", &["ro"])
        .with_mount("/c2", "cgroup2", "cgroup", &["ro", "nsdelegate"])
        .run()
        .ok();
    let has = |path: &str, fs: &str, options: &[&str]| {
        let mount = mount_at(&shown, path);
        assert_eq!(mount.fs, fs);
        assert!(options.iter().all(|option| mount.filesystem_has(option)), "{mount:?}");
    };
    has("/p", "proc", &["hidepid=invisible", "subset=pid"]);
    has("/t", "tmpfs", &["size=128k", "mode=711", "uid=5", "gid=6", "nr_inodes=20"]);
    has("/d", "devpts", &["ptmxmode=600", "mode=640", "gid=7", "max=3"]);
    has("/q", "mqueue", &[]);
    has("/s", "sysfs", &[]);
    has("/c2", "cgroup2", &[]);
    assert!(mount_at(&shown, "/s").has("ro") && mount_at(&shown, "/c2").has("ro"));
    let error = Bundle::new().with_mount("/t", "tmpfs", "tmpfs", &["size=many"]).run().refused();
    assert!(error.contains("/mounts/7") && error.contains("size"), "{error}");
    let error = Bundle::new().with_mount("/t", "tmpfs", "tmpfs", &["nosuch"]).run().refused();
    assert!(error.contains("/mounts/7") && error.contains("nosuch"), "{error}");
    let error = Bundle::new().with_mount("/t", "nosuchfs", "x", &[]).run().refused();
    assert!(error.contains("/mounts/7") && error.contains("nosuchfs"), "{error}");
    let error = Bundle::new().with_mount("/t", "", "x", &[]).run().refused();
    assert!(error.contains("/mounts/7/type"), "{error}");
}

/// The hierarchies that this process is in, as the container's cgroup mount should show them.
#[test]
fn cgroup_mounts_show_each_hierarchy() {
    if cannot_make_containers() {
        return;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let names: Vec<&str> = own.lines().filter_map(|line| line.split(':').nth(1)).filter(|n| !n.is_empty()).collect();
    let shown = showing().run().ok();
    if names.is_empty() {
        assert_eq!(mount_at(&shown, "/sys/fs/cgroup").fs, "cgroup2");
        return;
    }
    let base = mount_at(&shown, "/sys/fs/cgroup");
    assert!(base.fs == "tmpfs" && base.has("ro") && base.has("noexec") && base.source == "cgroup", "{base:?}");
    for name in names {
        let name = name.strip_prefix("name=").unwrap_or(name);
        let mount = mount_at(&shown, &format!("/sys/fs/cgroup/{name}"));
        assert!(mount.fs == "cgroup" && mount.has("ro") && mount.root == "/", "{mount:?}");
        assert_eq!(mount.source, "cgroup");
    }
    // A writable one only in a cgroup namespace, which shows no more than the container's own (CVE-2023-25809).
    let shown = showing().with_writable_cgroups().run().ok();
    assert!(mount_at(&shown, "/sys/fs/cgroup").has("rw"));
    let without = showing().without_namespaces(&["cgroup"]).with_writable_cgroups();
    let shown = without.run().ok();
    let pids = mount_at(&shown, "/sys/fs/cgroup/pids");
    assert!(pids.has("rw") && pids.root.ends_with(&without.id), "{pids:?}");
}

#[test]
fn sources_are_shown_as_written() {
    if cannot_make_containers() {
        return;
    }
    let bundle = showing()
        .with_mount("/my", "tmpfs", "my tmpfs", &[])
        .with_mount("/none", "tmpfs", "", &[])
        .with_mount("/o", "overlay", "the-layers", &["lowerdir=src:other"]);
    fs::create_dir(bundle.path().join("other")).unwrap();
    let shown = bundle.run().ok();
    let expected = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "shm"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/my", "my\\040tmpfs"),
        ("/none", "none"),
        ("/o", "the-layers"),
    ];
    for (path, source) in expected {
        assert_eq!(mount_at(&shown, path).source, source, "{path}");
    }
}

/// As runc and crun: who puts a tmpfs over /tmp or /root wants the mode that the image gave it.
#[test]
fn a_tmpfs_takes_the_mode_of_its_mount_point() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("stat -c %a /there /given /new /through/.")
        .with_mount("/there", "tmpfs", "tmpfs", &["nosuid"])
        .with_mount("/given", "tmpfs", "tmpfs", &["mode=0701"])
        .with_mount("/new", "tmpfs", "tmpfs", &[])
        .with_mount("/through", "tmpfs", "tmpfs", &["ro"]);
    for name in ["there", "given", "behind"] {
        let path = bundle.rootfs().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1750)).unwrap();
    }
    symlink("/behind", bundle.rootfs().join("through")).unwrap();
    assert_eq!(bundle.run().ok(), "1750\n701\n1777\n1750\n");
}

#[test]
fn overlays_have_as_many_layers_as_asked() {
    if cannot_make_containers() {
        return;
    }
    // Before Linux 6.7 as many as fit into one value of the kernel's.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).take(2).map(|number| number.parse().unwrap()).collect();
    let layers = if numbers < vec![6, 7] { 13 } else { 130 };
    let layer = |index: usize| format!("layers/{}-{index}", "long-".repeat(20));
    let script = format!("cat /o/top; ls /o | wc -l; for i in $(seq 0 {}); do cat /o/$i; done", layers - 1);
    let list: Vec<String> = (0..layers).map(layer).collect();
    let bundle = Bundle::script(&script);
    let absolute: Vec<String> = list.iter().map(|layer| bundle.path().join(layer).display().to_string()).collect();
    assert!(layers < 100 || absolute.join(":").len() > 3 * 4096);
    let lower = format!("lowerdir={}", absolute.join(":"));
    let bundle = bundle.with_mount("/o", "overlay", "overlay", &[&lower]);
    for (index, layer) in list.iter().enumerate() {
        let path = bundle.path().join(layer);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(index.to_string()), format!("{index}\n")).unwrap();
        fs::write(path.join("top"), format!("top is {index}\n")).unwrap();
    }
    let output = bundle.run().ok();
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("top is 0"), "the first is the topmost");
    assert_eq!(lines.next(), Some((layers + 1).to_string().as_str()));
    assert!(lines.eq((0..layers).map(|index| index.to_string())));
}

#[test]
fn overlays_are_written_to_their_upper_layer() {
    if cannot_make_containers() {
        return;
    }
    let options =
        ["lowerdir=a\\:b,c", "upperdir=up", "workdir=work", "nosuid", "index=off", "metacopy=off", "userxattr"];
    let bundle = Bundle::script("cat /o/f; echo new >/o/f; echo more >/o/g; cat /proc/self/mountinfo")
        .with_mount("/o", "overlay", "overlay", &options);
    for directory in ["a:b,c", "up", "work"] {
        fs::create_dir(bundle.path().join(directory)).unwrap();
    }
    let of = |path: &str| fs::read_to_string(bundle.path().join(path)).unwrap();
    fs::write(bundle.path().join("a:b,c/f"), "old\n").unwrap();
    let shown = bundle.run().ok();
    assert!(shown.starts_with("old\n"), "{shown}");
    assert!(mount_at(&shown, "/o").has("nosuid") && mount_at(&shown, "/o").fs == "overlay");
    assert_eq!((of("a:b,c/f"), of("up/f"), of("up/g")), ("old\n".into(), "new\n".into(), "more\n".into()));
    let error = Bundle::new().with_mount("/o", "overlay", "overlay", &["lowerdir=/nosuch:/tmp"]).run().refused();
    assert!(error.contains("/mounts/7") && error.contains("/nosuch"), "{error}");
    let error = Bundle::new().with_mount("/o", "overlay", "overlay", &["upperdir=/tmp"]).run().refused();
    assert!(error.contains("/mounts/7/options") && error.contains("lowerdir"), "{error}");
    let error = Bundle::new().with_mount("/o", "overlay", "overlay", &["lowerdir=/tmp"]).run().refused();
    assert!(error.contains("/mounts/7/options") && error.contains("two layers"), "{error}");
}

/// A loop device over an ext4 image, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(image: &Path) -> Option<Self> {
        fs::File::create(image).and_then(|file| file.set_len(4 << 20)).ok()?;
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image).status().ok()?;
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output().ok()?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_string();
        (made.success() && output.status.success() && !device.is_empty()).then_some(Self(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_filesystem_on_a_block_device() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo kept >/data/f; cat /data/f; cat /proc/self/mountinfo; ! touch /ro/f 2>&1");
    let device = Loop::new(&bundle.path().join("image"));
    let Some(device) = device else {
        skip_unless(false, "no loop device with ext4 can be made here (losetup, mkfs.ext4)");
        return;
    };
    let shown = bundle.with_mount("/data", "ext4", &device.0, &["nosuid", "errors=remount-ro", "data=ordered"]);
    let second = Loop::new(&shown.path().join("image2")).unwrap();
    let shown = shown.with_mount("/ro", "ext4", &second.0, &["ro", "noload"]).run().ok();
    assert!(shown.starts_with("kept\n"), "{shown}");
    let mount = mount_at(&shown, "/data");
    assert!(mount.fs == "ext4" && mount.has("nosuid"), "{mount:?}");
    assert!(mount.filesystem_has("errors=remount-ro"), "{mount:?}");
    let read_only = mount_at(&shown, "/ro");
    assert!(read_only.has("ro") && read_only.filesystem_has("ro"), "{read_only:?}");
}

#[test]
fn missing_mount_points_are_made_inside_the_root() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("for p in /a/b/c /etc-link/made /up/made /var/run/x /chain/x; do cat $p/mark; done");
    let paths = ["/a/b/c", "/etc-link/made", "/up/made", "/var/run/x", "/chain/x", "/../../dots"];
    let bundle = paths.iter().fold(bundle, |bundle, path| bundle.with_mount(path, "bind", "src", &["bind"]));
    fs::create_dir(bundle.path().join("src")).unwrap();
    fs::write(bundle.path().join("src/mark"), "here\n").unwrap();
    let root = bundle.rootfs();
    symlink("/etc", root.join("etc-link")).unwrap();
    symlink("../../../../..", root.join("up")).unwrap();
    // As in many images: /run comes later, or never.
    symlink("/run/../run", root.join("var/run")).unwrap();
    symlink("var/lib/../chain2", root.join("chain")).unwrap();
    symlink("../../../srv/deep", root.join("var/chain2")).unwrap();
    let output = bundle.run();
    let shown = output.ok();
    assert_eq!(shown, "here\n".repeat(5));
    for made in ["a/b/c", "etc/made", "made", "run/x", "srv/deep/x", "dots"] {
        assert!(root.join(made).is_dir(), "{made}");
    }
    assert!(!Path::new("/etc/made").exists() && !Path::new("/made").exists() && !Path::new("/srv/deep").exists());
    assert!(root.join("var/run").is_symlink() && root.join("chain").is_symlink(), "links stay links");
}

#[test]
fn dangling_links_are_followed_for_files_too() {
    if cannot_make_containers() {
        return;
    }
    let bundle =
        Bundle::script("cat /etc/resolv.conf").with_mount("/etc/resolv.conf", "bind", "resolv", &["bind", "ro"]);
    fs::write(bundle.path().join("resolv"), "nameserver\n").unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", bundle.rootfs().join("etc/resolv.conf")).unwrap();
    assert_eq!(bundle.run().ok(), "nameserver\n");
    assert!(bundle.rootfs().join("run/systemd/resolve/stub-resolv.conf").is_file());
}

#[test]
fn links_in_circles_are_an_error() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with_mount("/one/x", "tmpfs", "tmpfs", &[]);
    symlink("two", bundle.rootfs().join("one")).unwrap();
    symlink("one", bundle.rootfs().join("two")).unwrap();
    let error = bundle.run().refused();
    assert!(error.contains("/mounts/7"), "{error}");
}

/// CVE-2019-19921, CVE-2023-27561.
#[test]
fn proc_and_sys_are_no_links_of_the_image() {
    if cannot_make_containers() {
        return;
    }
    for (name, pointer) in [("proc", "/mounts/0"), ("sys", "/mounts/5")] {
        for target in ["tmp", "/tmp", "nowhere"] {
            let bundle = Bundle::new();
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(target, bundle.rootfs().join(name)).unwrap();
            let error = bundle.run().refused();
            assert!(error.contains(pointer) && error.contains("ELOOP"), "{error}");
        }
    }
}

#[test]
fn files_are_bound_on_files() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /etc/there /etc/new/file; stat -c %F /etc/new/file")
        .with_mount("/etc/there", "bind", "f", &["bind"])
        .with_mount("/etc/new/file", "bind", "./f", &["bind", "ro"]);
    fs::write(bundle.path().join("f"), "of the host\n").unwrap();
    fs::write(bundle.rootfs().join("etc/there"), "of the image\n").unwrap();
    assert_eq!(bundle.run().ok(), "of the host\nof the host\nregular file\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("etc/there")).unwrap(), "of the image\n");
    let clash = Bundle::new().with_mount("/etc", "bind", "f", &["bind"]);
    fs::write(clash.path().join("f"), "").unwrap();
    let error = clash.run().refused();
    assert!(error.contains("/mounts/7") && error.contains("ENOTDIR"), "{error}");
}

#[test]
fn a_missing_source_is_named() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with_mount("/m", "bind", "nosuch", &["bind"]);
    let error = bundle.run().refused();
    assert!(error.contains("config.json /mounts/7") && error.contains("ENOENT"), "{error}");
    assert!(error.contains(&format!("{}/nosuch", bundle.path().display())), "{error}");
    assert!(!bundle.path().join("nosuch").exists(), "nothing is made on the host");
    let error = Bundle::new().with_mount("/m", "bind", "", &["bind"]).run().refused();
    assert!(error.contains("/mounts/7/source"), "{error}");
    let error = Bundle::new().with_mount("/", "tmpfs", "tmpfs", &[]).run().refused();
    assert!(error.contains("/mounts/7/destination"), "{error}");
}

#[test]
fn order_is_the_lists_order() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /m/f /m/in/f; cat /proc/self/mountinfo")
        .with_mount("/m", "bind", "one", &["bind"])
        .with_mount("/m", "bind", "two", &["bind"])
        .with_mount("/m/in", "bind", "one", &["bind"])
        .with_mount("/hidden/in", "tmpfs", "tmpfs", &[])
        .with_mount("/hidden", "tmpfs", "tmpfs", &[]);
    for name in ["one", "two"] {
        fs::create_dir(bundle.path().join(name)).unwrap();
        fs::write(bundle.path().join(name).join("f"), format!("{name}\n")).unwrap();
    }
    let shown = bundle.run().ok();
    assert!(shown.starts_with("two\none\n"), "{shown}");
    assert_eq!(mounts(&shown).iter().filter(|mount| mount.at == "/m").count(), 2);
    assert!(bundle.path().join("two/in").is_dir(), "the mount point is made on what is mounted there");
}

/// What a tmpfs is to hold is made before it becomes read-only.
#[test]
fn a_read_only_tmpfs_has_its_mount_points() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("! touch /t/f 2>/dev/null && touch /t/in/f && ls /t")
        .with_mount("/t", "tmpfs", "tmpfs", &["ro", "mode=777"])
        .with_mount("/t/in", "tmpfs", "tmpfs", &["mode=777"]);
    assert_eq!(bundle.run().ok(), "in\n");
}
