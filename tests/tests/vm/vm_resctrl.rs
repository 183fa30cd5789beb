//! `linux.intelRdt`: in the virtual machine, where a module stands in for the kernel's resctrl filesystem, since neither
//! a processor nor an emulator is at hand that has something to control (tests/vm.md).
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once};

use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, finish, vm};
use serde_json::{Value, json};

const MOUNT: &str = "/run/resctrl";

/// True, with the reason printed, elsewhere. Mounts the filesystem.
fn cannot() -> bool {
    static MOUNTED: Once = Once::new();
    if vm::outside() {
        return true;
    }
    MOUNTED.call_once(|| {
        fs::create_dir_all(MOUNT).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "resctrl", "resctrl", MOUNT]);
        finish(mount, b"").ok();
    });
    false
}

/// There are few classes of service: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn idle(intel_rdt: Value) -> Life {
    let bundle = Bundle::new().with_args(&["sleep", "1000"]);
    Life::new(bundle.with(|config| config["linux"]["intelRdt"] = intel_rdt))
}

fn group(name: &str) -> PathBuf {
    Path::new(MOUNT).join(name)
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| line.trim().to_string()).collect()
}

fn tasks(group: &Path) -> Vec<i32> {
    lines(&group.join("tasks")).iter().map(|pid| pid.parse().unwrap()).collect()
}

/// Nothing of a container is left, nor are there groups but these.
#[track_caller]
fn assert_groups(expected: &[&str]) {
    let entries = fs::read_dir(MOUNT).unwrap().flatten();
    let is_group = |name: &String| !["info", "mon_data", "mon_groups"].contains(&name.as_str());
    let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut found: Vec<String> =
        directories.map(|entry| entry.file_name().into_string().unwrap()).filter(is_group).collect();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(fs::read_dir(group("mon_groups")).unwrap().count(), 0);
}

#[test]
fn a_class_of_the_containers_own() {
    if cannot() {
        return;
    }
    let _guard = alone();
    let life = idle(json!({"l3CacheSchema": "L3:0=ff\nMB:0=20", "memBwSchema": "MB:0=30", "enableMonitoring": true}));
    life.created(&[]);
    let its = group(life.id());
    let watching = its.join("mon_groups").join(life.id());
    assert_eq!(lines(&its.join("schemata")), ["MB:0=  30", "L3:0=000ff"]);
    // Before it runs anything.
    assert_eq!(tasks(&its), [life.pid()]);
    assert_eq!(tasks(&watching), [life.pid()]);
    life.started();
    // Another process of the container's too.
    let pid_file = life.bundle.path().join("pid");
    life.exec(&["--detach", "--pid-file", pid_file.to_str().unwrap()], &["sleep", "1000"]).ok();
    let other: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    for group in [&its, &watching] {
        let mut members = tasks(group);
        members.sort();
        assert_eq!(members, [life.pid(), other]);
    }

    let update = |options: &[&str]| life.run(life.on_it("update", options));
    update(&["--l3-cache-schema=L3:0=f0", "--mem-bw-schema", "MB:0=40"]).ok();
    assert_eq!(lines(&its.join("schemata")), ["MB:0=  40", "L3:0=000f0"]);
    let refused = error(update(&["--mem-bw-schema=MB:0=1"]));
    assert!(refused.contains("--mem-bw-schema") && refused.contains("EINVAL"), "{refused}");

    let stats: Value = serde_json::from_str(&life.run(life.on_it("events", &["--stats"])).ok()).unwrap();
    let rdt = &stats["data"]["intel_rdt"];
    assert_eq!(rdt["l3_cache_schema"], "L3:0=000f0");
    assert_eq!(rdt["mem_bw_schema_root"], "MB:0= 100");
    assert_eq!(rdt["l3_cache_info"], json!({"cbm_mask": "fffff"}));
    assert_eq!(rdt["cmt_stats"], json!([{"llc_occupancy": 4096}]));

    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
    assert_groups(&[]);
}

/// The first to name it makes it; it is everybody's from then on, and changes for nobody.
#[test]
fn a_class_that_containers_share() {
    if cannot() {
        return;
    }
    let _guard = alone();
    // Bandwidth is rounded up, which makes it no other.
    let wanted = json!({"closID": "gold", "schemata": ["L3:0=f", "MB:0=45"]});
    let (first, second) = (idle(wanted.clone()), idle(wanted));
    first.created(&[]);
    second.created(&[]).started();
    assert_eq!(lines(&group("gold/schemata")), ["MB:0=  50", "L3:0=0000f"]);
    let mut members = tasks(&group("gold"));
    members.sort();
    let mut both = [first.pid(), second.pid()];
    both.sort();
    assert_eq!(members, both);

    let without = idle(json!({"closID": "gold"}));
    without.created(&[]);
    assert!(tasks(&group("gold")).contains(&without.pid()));
    let differing = error(idle(json!({"closID": "gold", "l3CacheSchema": "L3:0=1f"})).create(&[]));
    assert!(differing.contains("/linux/intelRdt/l3CacheSchema") && differing.contains("L3:0=0000f"), "{differing}");
    let refused = error(second.run(second.on_it("update", &["--l3-cache-schema=L3:0=1"])));
    assert!(refused.contains("no resctrl group of its own"), "{refused}");
    assert_eq!(lines(&group("gold/schemata")), ["MB:0=  50", "L3:0=0000f"]);

    // Who removes it leaves them in the first class, and in peace.
    fs::remove_dir(group("gold")).unwrap();
    assert_eq!(without.started().exec(&[], &["echo", "fine"]).ok(), "fine\n");
    fs::create_dir(group("gold")).unwrap();

    second.stop();
    for life in [first, second, without] {
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
    assert_groups(&["gold"]);
    fs::remove_dir(group("gold")).unwrap();
}

/// The class that all processes begin in, and a group that watches the container in it.
#[test]
fn the_first_class_watched() {
    if cannot() {
        return;
    }
    let _guard = alone();
    let life = idle(json!({"closID": "/", "enableMonitoring": true}));
    life.created(&[]);
    assert_eq!(tasks(&group("mon_groups").join(life.id())), [life.pid()]);
    life.delete(&["--force"]).ok();
    life.assert_gone();
    assert_groups(&[]);
}

/// `run` removes what it made, and so is it removed if rspawn-setup is killed.
#[test]
fn a_foreground_containers_class_goes_with_it() {
    if cannot() {
        return;
    }
    let _guard = alone();
    let script = "echo $$; exec sleep 1000";
    let bundle = Bundle::script("true").with(|config| config["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=1"}));
    bundle.run().ok();
    assert_groups(&[]);
    let bundle = Bundle::script(script).with(|config| config["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=1"}));
    let life = Life::new(bundle);
    let (mut rspawn, _) = life.spawn(&mut life.making("run", &[]));
    life.wait_for_status("running");
    assert_groups(&[life.id()]);
    rspawn.kill().unwrap();
    rspawn.wait().unwrap();
    rspawn_tests::wait_for("the group is gone", || !group(life.id()).exists());
}

#[test]
fn what_cannot_be_is_refused() {
    if cannot() {
        return;
    }
    let _guard = alone();
    for (wanted, expected) in [
        (json!({"closID": "silver"}), vec!["/linux/intelRdt/closID", "\"silver\"", "no schema"]),
        (json!({"closID": "../x", "schemata": ["L3:0=1"]}), vec!["/linux/intelRdt/closID", "lead elsewhere"]),
        (json!({"closID": "info", "schemata": ["L3:0=1"]}), vec!["/linux/intelRdt/closID", "EEXIST"]),
        // In the kernel's own words.
        (json!({"l3CacheSchema": "L3:0=fffffff"}), vec!["/linux/intelRdt", "EINVAL", "Mask out of range"]),
        (json!({"closID": "silver", "schemata": ["L9:0=1"]}), vec!["/linux/intelRdt/closID", "unsupported resource"]),
    ] {
        let life = idle(wanted);
        let said = error(life.create(&[]));
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
        life.assert_gone();
        assert_groups(&[]);
    }
    for name in ["a", "b", "c"] {
        fs::create_dir(group(name)).unwrap();
    }
    let said = error(idle(json!({"l3CacheSchema": "L3:0=1"})).create(&[]));
    assert!(said.contains("ENOSPC") && said.contains("Out of CLOSIDs"), "{said}");
    assert_groups(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        fs::remove_dir(group(name)).unwrap();
    }
}
