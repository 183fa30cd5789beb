//! Limits on cgroup v2 that do something: in the virtual machine (tests/vm.md), which has every controller.
use std::fs;
use std::path::{Path, PathBuf};

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, vm, wait_for};
use serde_json::{Value, json};

const TOP: &str = "/sys/fs/cgroup";

fn limited(script: &str, resources: Value) -> Bundle {
    Bundle::script(script).with(|config| config["linux"]["resources"] = resources)
}

/// The container's cgroup, which its id names wherever it is.
fn cgroup(life: &Life) -> PathBuf {
    let path = &life.record().cgroups[0].path;
    PathBuf::from(path.as_str())
}

/// A file of the container's cgroup.
#[track_caller]
fn shows(life: &Life, file: &str) -> String {
    let path = cgroup(life).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_string()
}

/// The number after a word of such a file.
#[track_caller]
fn counts(life: &Life, file: &str, word: &str) -> u64 {
    let text = shows(life, file);
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {word} in {file}: {text}"))
}

/// A container that has run to its end; its cgroup is still there.
fn ended(bundle: Bundle) -> Life {
    let life = Life::new(bundle);
    life.created(&[]).started();
    life.wait_for_status("stopped");
    life
}

/// What the lane is for: nothing of v1, and nothing missing.
#[test]
fn the_machine_has_cgroup_v2_alone_with_every_controller() {
    if vm::outside() {
        return;
    }
    let facts = rspawn_host::facts::gather().expect("facts").cgroup;
    assert!(facts.unified && facts.v1().next().is_none(), "{facts:?}");
    for name in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"] {
        assert!(facts.controllers.iter().any(|controller| controller == name), "{name}: {facts:?}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let all = u64::from_str_radix(rspawn_tests::status_field(&status, "CapEff").unwrap(), 16).unwrap();
    let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    assert_eq!(all, (1 << (last + 1)) - 1, "every capability that the kernel has");
}

/// The payload is told as every shell tells it, and the kernel's count says why it died.
#[test]
fn memory_beyond_the_limit_kills() {
    if vm::outside() {
        return;
    }
    let bundle = |megabytes: u64| {
        let limit = json!({"memory": {"limit": megabytes << 20, "swap": megabytes << 20}});
        // The payload itself is what takes too much.
        limited("", limit).with_args(&["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"])
    };
    let killed = bundle(30).run();
    assert_eq!((killed.status, killed.stdout.as_str()), (137, ""), "{killed:?}");
    assert_eq!(bundle(300).run().status, 0);
    let life = ended(bundle(30));
    assert_eq!(shows(&life, "memory.max"), (30 << 20).to_string());
    assert_eq!(shows(&life, "memory.swap.max"), "0");
    assert!(counts(&life, "memory.events", "oom_kill") >= 1, "{}", shows(&life, "memory.events"));
    life.delete(&[]).ok();
    life.assert_gone();
}

/// With swap, the same payload lives.
#[test]
fn memory_beyond_the_limit_goes_to_swap() {
    if vm::outside() {
        return;
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap();
    assert_eq!(swaps.lines().count(), 2, "the machine has a disk for swap: {swaps}");
    // A file in memory, which nothing but swap can make room for.
    let script =
        "dd if=/dev/zero of=/dev/shm/file bs=1M count=48 2>/dev/null; echo $?; cat /sys/fs/cgroup/memory.swap.max";
    let with_swap = |together: u64| {
        let resources = json!({"memory": {"limit": 24 << 20, "swap": together << 20, "reservation": 8 << 20}});
        let bundle = limited(script, resources).with_mount("/dev/shm", "tmpfs", "shm", &["size=64m"]);
        // Once on top of the default one, which is as large as the machine's memory allows.
        bundle.run().stdout
    };
    assert_eq!(with_swap(120), format!("0\n{}\n", 96 << 20));
    assert_eq!(with_swap(24), "137\n0\n");
}

#[test]
fn a_fork_bomb_is_stopped() {
    if vm::outside() {
        return;
    }
    // It doubles until it cannot; what is left of it ends with the container.
    let life =
        Life::new(limited("bomb() { bomb & bomb; }; bomb 2>/dev/null; sleep 1000", json!({"pids": {"limit": 25}})));
    life.created(&[]).started();
    wait_for("the limit is met", || counts(&life, "pids.events", "max") > 0);
    assert_eq!(shows(&life, "pids.max"), "25");
    let now: u64 = shows(&life, "pids.current").parse().unwrap();
    assert!(now <= 25, "{now}");
    assert!(std::process::Command::new("true").status().unwrap().success(), "the machine lives on");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

/// A tenth of a processor: the kernel says that it held the payload back, and how much it had.
#[test]
fn a_quota_of_time_throttles() {
    if vm::outside() {
        return;
    }
    let bundle = limited("while :; do :; done", json!({"cpu": {"quota": 10_000, "period": 100_000, "shares": 2048}}));
    let life = Life::new(bundle);
    life.created(&[]).started();
    assert_eq!(shows(&life, "cpu.max"), "10000 100000");
    assert_eq!(shows(&life, "cpu.weight"), "174");
    let read = || {
        let periods = counts(&life, "cpu.stat", "nr_periods");
        (periods, counts(&life, "cpu.stat", "nr_throttled"), counts(&life, "cpu.stat", "usage_usec"))
    };
    let before = read();
    wait_for("ten periods more", || read().0 >= before.0 + 10);
    let after = read();
    assert!(after.1 > before.1, "{before:?} {after:?}");
    // By periods of the kernel's own clock, so that a slow machine changes nothing: 10 ms in each, and what one
    // processor takes beyond its slice.
    let mean = (after.2 - before.2) / (after.0 - before.0);
    assert!((1_000..30_000).contains(&mean), "{mean} us in a period: {before:?} {after:?}");
    life.delete(&["--force"]).ok();
}

#[test]
fn processors_are_those_of_the_set() {
    if vm::outside() {
        return;
    }
    let script = "grep _allowed_list /proc/self/status | cut -f 2; cat /sys/fs/cgroup/cpuset.cpus.effective";
    let on = |cpus: &str| limited(script, json!({"cpu": {"cpus": cpus, "mems": "0"}})).run();
    assert_eq!(on("1").ok(), "1\n0\n1\n");
    assert_eq!(on("0-1").ok(), "0-1\n0\n0-1\n");
    let error = on("1,7").refused();
    assert!(error.contains("config.json /linux/resources/cpu/cpus: ") && error.contains("ERANGE"), "{error}");
}

/// The disk that is there to be slowed down, as MAJOR:MINOR.
fn slow_disk() -> (u64, u64) {
    let text = fs::read_to_string("/sys/block/vdc/dev").expect("the third disk");
    let (major, minor) = text.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// A write of two megabytes at half a megabyte a second takes four seconds, or a little less, since the kernel counts in
/// slices of time. A slow machine takes longer, with the limit and without, so that nothing can be said of the latter.
#[test]
fn writes_to_a_disk_are_slowed_down() {
    if vm::outside() {
        return;
    }
    let (major, minor) = slow_disk();
    let device = json!({"path": "/dev/slow", "type": "b", "major": major, "minor": minor, "fileMode": 0o666});
    let script = "s() { cut -d ' ' -f 1 /proc/uptime | tr -d .; }; a=$(s); \
        busybox dd if=/dev/zero of=/dev/slow bs=64k count=32 oflag=direct 2>/dev/null || exit 9; \
        b=$(s); echo $((b - a)); cat /sys/fs/cgroup/io.max";
    let run = |block_io: Value| {
        let rule = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"});
        let bundle = limited(script, json!({"blockIO": block_io, "devices": [rule]}));
        let shown = bundle.with(|config| config["linux"]["devices"] = json!([device])).run().ok();
        let (hundredths, limits) = shown.split_once('\n').unwrap();
        (hundredths.parse::<u64>().unwrap(), limits.to_string())
    };
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let (took, limits) = run(json!({"throttleWriteBpsDevice": rate(512 << 10), "throttleReadIOPSDevice": rate(77)}));
    assert_eq!(limits, format!("{major}:{minor} rbps=max wbps=524288 riops=77 wiops=max\n"));
    assert!(took >= 300, "{took} hundredths of a second");
    assert_eq!(run(json!({})).1, "");
}

/// A weight, by the scheduler of block devices that has them.
#[test]
fn weights_of_block_devices() {
    if vm::outside() {
        return;
    }
    let (major, minor) = slow_disk();
    fs::write("/sys/block/vdc/queue/scheduler", "bfq").expect("the scheduler bfq");
    let resources =
        json!({"blockIO": {"weight": 300, "weightDevice": [{"major": major, "minor": minor, "weight": 700}]}});
    let shown = limited("cat /sys/fs/cgroup/io.bfq.weight", resources).run();
    assert_eq!(shown.ok(), format!("default 300\n{major}:{minor} 700\n"));
}

#[test]
fn huge_pages() {
    if vm::outside() {
        return;
    }
    assert_eq!(fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap().trim(), "16");
    // Four pages of two megabytes; the third and fourth are too many with the limit.
    let script = "cat /sys/fs/cgroup/hugetlb.2MB.max; cd /huge; for i in 1 2 3 4; do \
        busybox fallocate -l 2097152 $i 2>/dev/null && echo had; done; true";
    let run = |limit: Value| {
        let bundle = limited(script, json!({ "hugepageLimits": limit }));
        bundle.with_mount("/huge", "hugetlbfs", "huge", &["pagesize=2M"]).run().ok()
    };
    assert_eq!(run(json!([{"pageSize": "2MB", "limit": 4 << 20}])), "4194304\nhad\nhad\n");
    assert_eq!(run(json!([])), format!("max\n{}", "had\n".repeat(4)));
}

/// Any file of v2 by its name, whatever the other settings say of it.
#[test]
fn files_by_their_names() {
    if vm::outside() {
        return;
    }
    let (major, minor) = slow_disk();
    let unified = json!({
        "memory.high": "100000000", "memory.max": "200000000", "memory.oom.group": "1", "pids.max": "99",
        "cpu.idle": "0", "cpu.max": "60000 120000", "cpu.weight": "55", "cgroup.max.depth": "3", "cpuset.cpus": "0",
        "io.max": format!("{major}:{minor} rbps=1048576\n"), "memory.min": "4096", "memory.swap.high": "8192",
    });
    let names: Vec<&str> = unified.as_object().unwrap().keys().map(String::as_str).collect();
    let script: String = names.iter().map(|name| format!("echo {name} $(cat /sys/fs/cgroup/{name});")).collect();
    let shown = limited(&script, json!({ "unified": unified })).run().ok();
    let expected = |name: &str| match name {
        // The kernel counts in pages.
        "memory.high" => "99999744".to_string(),
        "memory.max" => "199999488".to_string(),
        "io.max" => format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"),
        other => unified[other].as_str().unwrap().to_string(),
    };
    let lines: Vec<String> = names.iter().map(|name| format!("{name} {}", expected(name))).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), lines);
    let wrong = limited("true", json!({"unified": {"memory.max": "many"}})).run().refused();
    assert!(wrong.contains("config.json /linux/resources/unified/memory.max: ") && wrong.contains("EINVAL"), "{wrong}");
}

/// What v1 had and v2 does not.
#[test]
fn settings_without_a_counterpart() {
    if vm::outside() {
        return;
    }
    for (resources, pointer) in [
        (json!({"cpu": {"realtimeRuntime": 1000}}), "/cpu/realtimeRuntime"),
        (json!({"network": {"classID": 5}}), "/network/classID"),
        (json!({"memory": {"disableOOMKiller": true}}), "/memory/disableOOMKiller"),
        (json!({"unified": {"memory.nosuch": "1"}}), "/unified/memory.nosuch"),
        (json!({"unified": {"nosuch.max": "1"}}), "/unified/nosuch.max"),
    ] {
        let output = limited("echo ran", resources).run();
        assert_eq!(output.stdout, "");
        let error = output.refused();
        assert!(error.contains(&format!("config.json /linux/resources{pointer}: ")), "{error}");
    }
}

/// Every controller reaches the container's cgroup, also where its path is new and deep.
#[test]
fn controllers_are_enabled_all_the_way_down() {
    if vm::outside() {
        return;
    }
    let all = fs::read_to_string(Path::new(TOP).join("cgroup.controllers")).unwrap();
    let script = "cat /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/memory.max";
    let bundle = limited(script, json!({"memory": {"limit": 64 << 20}}));
    let path = format!("/{}-a/b/c", bundle.id);
    let bundle = bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path));
    assert_eq!(bundle.run().ok(), format!("{all}{}\n", 64 << 20));
}
