//! `rspawn events`: numbers against the files of the cgroups, the shape against runc's, and when a line comes.
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rspawn_proto::record::CgroupDir;
use rspawn_tests::life::{Life, error};
use rspawn_tests::v2_alone::lane;
use rspawn_tests::{Bundle, cannot_make_containers, finish, skip_unless, status_field, wait_for};
use serde_json::{Value, json};

fn directory(life: &Life, controller: &str) -> Option<PathBuf> {
    let has = |cgroup: &&CgroupDir| cgroup.hierarchy.as_str().split(',').any(|name| name == controller);
    life.record().cgroups.iter().find(has).map(|cgroup| PathBuf::from(cgroup.path.as_str()))
}

#[track_caller]
fn number(life: &Life, controller: &str, file: &str) -> u64 {
    let path = directory(life, controller).expect("a cgroup").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().parse().unwrap()
}

fn limited(script: &str, resources: Value) -> Life {
    Life::new(Bundle::script(script).with(|config| config["linux"]["resources"] = resources))
}

#[track_caller]
fn stats(life: &Life) -> Value {
    let text = life.run(life.on_it("events", &["--stats"])).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(life.id())));
    event["data"].clone()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn has_v1(controllers: &[&str]) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    controllers.iter().all(|name| {
        mounts.lines().any(|line| {
            line.split_once(" - cgroup ").is_some_and(|(_, rest)| rest.split([' ', ',']).any(|word| word == *name))
        })
    })
}

fn lacks(controllers: &[&str]) -> bool {
    cannot_make_containers() || skip_unless(has_v1(controllers), &format!("v1 has not all of {controllers:?}"))
}

#[test]
fn the_numbers_are_those_of_the_files() {
    if lacks(&["memory", "cpuacct", "cpu", "cpuset", "pids"]) {
        return;
    }
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 40},
        "cpu": {"quota": 5000, "period": 10_000, "cpus": "0"}});
    // Some work, more than the quota allows at once; then nothing more happens.
    let life = limited("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; touch /worked; exec sleep 1000", limits);
    life.created(&[]).started();
    wait_for("the work is done", || life.bundle.rootfs().join("worked").exists());
    life.run(life.on_it("pause", &[])).ok();
    // The timer of the quota's periods fires once or twice more after the last process has stopped.
    wait_for("the quota's timer stops", || {
        let periods = || fs::read_to_string(directory(&life, "cpu").unwrap().join("cpu.stat")).unwrap();
        let before = periods();
        std::thread::sleep(std::time::Duration::from_millis(60));
        before == periods()
    });
    let data = stats(&life);
    let shown =
        |pointer: &str| data.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {data}"));
    for (pointer, controller, file) in [
        ("/cpu/usage/total", "cpuacct", "cpuacct.usage"),
        ("/memory/usage/limit", "memory", "memory.limit_in_bytes"),
        ("/memory/usage/usage", "memory", "memory.usage_in_bytes"),
        ("/memory/usage/max", "memory", "memory.max_usage_in_bytes"),
        ("/memory/usage/failcnt", "memory", "memory.failcnt"),
        ("/memory/swap/limit", "memory", "memory.memsw.limit_in_bytes"),
        ("/memory/kernel/usage", "memory", "memory.kmem.usage_in_bytes"),
        ("/pids/current", "pids", "pids.current"),
        ("/pids/limit", "pids", "pids.max"),
        ("/cpuset/sched_load_balance", "cpuset", "cpuset.sched_load_balance"),
    ] {
        // Memory is counted in lots for each processor, which the kernel settles when it likes.
        let slack = if controller == "memory" && !file.ends_with("limit_in_bytes") { 1 << 20 } else { 0 };
        let (shown, read) = (shown(pointer), number(&life, controller, file));
        assert!(shown.abs_diff(read) <= slack, "{pointer}: {shown}, and {file} says {read}");
    }
    assert_eq!(shown("/memory/usage/limit"), 64 << 20);
    assert_eq!((&data["cpuset"]["cpus"], shown("/pids/limit")), (&json!([0]), 40));
    let per_cpu: u64 = data["cpu"]["usage"]["percpu"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(per_cpu, shown("/cpu/usage/total"));
    let read =
        |controller: &str, file: &str| fs::read_to_string(directory(&life, controller).unwrap().join(file)).unwrap();
    let raw = read("memory", "memory.stat");
    for (name, value) in raw.lines().filter_map(|line| line.split_once(' ')) {
        let (shown, read) = (data["memory"]["raw"][name].as_u64(), value.parse::<u64>().unwrap());
        assert!(shown.is_some_and(|shown| shown.abs_diff(read) <= 1 << 20), "{name}: {shown:?} {read}");
    }
    let throttled = read("cpu", "cpu.stat");
    let of =
        |name: &str| throttled.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(shown("/cpu/throttling/periods"), of("nr_periods "));
    assert_eq!(data["cpu"]["throttling"]["throttledPeriods"].as_u64().unwrap_or(0), of("nr_throttled "));
    assert_eq!(data["cpu"]["throttling"]["throttledTime"].as_u64().unwrap_or(0), of("throttled_time "));
    let ticks = read("cpuacct", "cpuacct.stat");
    let user: u64 = ticks.lines().find_map(|line| line.strip_prefix("user ")).unwrap().parse().unwrap();
    assert_eq!(shown("/cpu/usage/user"), user * 10_000_000);
    life.run(life.on_it("resume", &[])).ok();
    life.stop();
}

/// Names of members, with those above them; what is there or not by its value, and by the layout of cgroups, aside.
fn shape(value: &Value, at: &str, names: &mut BTreeSet<String>) {
    const BY_VALUE: [&str; 9] = [
        "/data/blkio/", "/data/hugetlb/", "/data/cpu/throttling/", "/data/memory/raw/", "/data/memory/kernelTCP/",
        "/data/cpu/usage/percpu", "/data/memory/swap/", "/data/memory/kernel/", "/data/memory/cache",
    ];
    for (name, below) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        if !BY_VALUE.iter().any(|some| at.starts_with(some)) {
            names.insert(at.clone());
        }
        shape(below, &at, names);
    }
}

#[test]
fn the_shape_is_runcs() {
    let has_runc = || Command::new("runc").arg("--version").stdout(Stdio::null()).status().is_ok();
    if lacks(&["memory", "cpuacct", "cpu", "cpuset", "pids"]) || skip_unless(has_runc(), "runc is not installed") {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let ours = life.run(life.on_it("events", &["--stats"])).ok();
    life.stop();
    life.delete(&[]).ok();
    let root = life.bundle.path().join("runc");
    let runc = |words: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(words);
        command
    };
    let path = life.bundle.path().to_string_lossy().into_owned();
    let id = format!("{}-runc", life.id());
    let began = life.run(runc(&["run", "--detach", "--bundle", &path, &id]));
    let theirs = life.run(runc(&["events", "--stats", &id]));
    life.run(runc(&["delete", "--force", &id])).ok();
    assert_eq!(began.status, 0, "{began:?}");
    let [ours, theirs] = [ours, theirs.ok()].map(|text| {
        let mut names = BTreeSet::new();
        shape(&serde_json::from_str(&text).unwrap(), "", &mut names);
        names
    });
    assert!(ours.len() > 25, "{ours:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn a_line_every_interval_until_the_container_ends() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    assert_eq!(error(life.run(life.on_it("events", &[]))), "container does not exist");
    life.created(&[]);
    for (interval, expected) in [
        ("0s", "duration interval must be greater than 0"),
        ("5", "--interval: \"5\" is not a duration such as 5s or 1m30s"),
        ("-1s", "--interval: \"-1s\" is not a duration such as 5s or 1m30s"),
    ] {
        assert_eq!(error(life.run(life.on_it("events", &["--interval", interval]))), expected);
    }
    let (child, paths) = life.spawn(&mut life.on_it("events", &["--interval=150ms"]));
    let printed = || fs::read_to_string(&paths[0]).unwrap().lines().count();
    wait_for("two lines", || printed() >= 2);
    // It has nothing left that a payload could have it do: what the payload's cgroups are named, it reads as nobody.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert_eq!(status_field(&status, "CapEff").map(str::trim), Some("0000000000000000"));
    assert_eq!(status_field(&status, "Seccomp").map(str::trim), Some("2"));
    if rspawn_tests::is_root() {
        assert!(status_field(&status, "Uid").unwrap().trim().starts_with("65534"), "{status}");
    }
    life.started();
    wait_for("two more", || printed() >= 4);
    life.stop();
    let output = life.outcome(child, &paths).ok();
    assert!(lines(&output).iter().all(|line| line["type"] == "stats" && line["id"] == life.id()), "{output}");
    let stopped = format!("container with id {} is not running", life.id());
    assert_eq!(error(life.run(life.on_it("events", &[]))), stopped);
    assert_eq!(error(life.run(life.on_it("events", &["--stats"]))), stopped);
}

/// Long before the first interval is over.
#[test]
fn running_out_of_memory_is_told_at_once() {
    if lacks(&["memory"]) {
        return;
    }
    let script = "while [ ! -e /go ]; do sleep 0.02; done; dd if=/dev/zero of=/dev/null bs=100M count=1; touch /killed; \
        while [ ! -e /again ]; do sleep 0.02; done; dd if=/dev/zero of=/dev/null bs=100M count=1; exec sleep 1000";
    let life = limited(script, json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    life.created(&[]).started();
    let (child, paths) = life.spawn(&mut life.on_it("events", &["--interval=1h"]));
    let printed = || fs::read_to_string(&paths[0]).unwrap();
    let told = |count: usize| wait_for("it is told", || printed().lines().count() == count);
    // It has begun once it wears its filter.
    wait_for("it watches", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        status_field(&status, "Seccomp").is_some_and(|mode| mode.trim() == "2")
    });
    fs::write(life.bundle.rootfs().join("go"), "").unwrap();
    told(1);
    fs::write(life.bundle.rootfs().join("again"), "").unwrap();
    told(2);
    let line = json!({"type": "oom", "id": life.id()});
    assert_eq!(lines(&printed()), [line.clone(), line]);
    life.stop();
    assert_eq!(lines(&life.outcome(child, &paths).ok()).len(), 2);
}

/// The end of the container is the same moment.
#[test]
fn the_first_process_runs_out_of_memory() {
    if lacks(&["memory"]) {
        return;
    }
    let script = "until [ -e /go ]; do sleep 0.02; done; exec dd if=/dev/zero of=/dev/null bs=100M count=1";
    let life = limited(script, json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    life.created(&[]).started();
    let (child, paths) = life.spawn(&mut life.on_it("events", &["--interval=1h"]));
    wait_for("it watches", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        status_field(&status, "Seccomp").is_some_and(|mode| mode.trim() == "2")
    });
    fs::write(life.bundle.rootfs().join("go"), "").unwrap();
    let output = life.outcome(child, &paths).ok();
    assert_eq!(lines(&output), [json!({"type": "oom", "id": life.id()})]);
}

/// In a mount namespace where cgroup v2 is all there is.
#[test]
fn on_cgroup_v2() {
    let works = || finish(lane(Command::new("true")), b"").status == 0;
    if cannot_make_containers() || skip_unless(works(), "cgroup v2 cannot be mounted here") {
        return;
    }
    let life = Life::script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; touch /worked; exec sleep 1000");
    life.run(lane(life.making("create", &[]))).ok();
    life.run(lane(life.on_it("start", &[]))).ok();
    wait_for("the work is done", || life.bundle.rootfs().join("worked").exists());
    let text = life.run(lane(life.on_it("events", &["--stats"]))).ok();
    let [event] = &lines(&text)[..] else { panic!("{text}") };
    let data = &event["data"];
    let file = |name: &str| {
        let mut command = Command::new("cat");
        command.arg(directory(&life, "").unwrap().join(name));
        finish(lane(command), b"")
    };
    let time = file("cpu.stat").ok();
    let of = |name: &str| time.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
    // The scheduler's books may be a little behind.
    let total = data["cpu"]["usage"]["total"].as_u64().unwrap();
    assert!(total > 1_000_000 && total <= of("usage_usec ") * 1000, "{total} {time}");
    let sizes: Vec<&String> = data["hugetlb"].as_object().unwrap().keys().collect();
    assert_eq!(sizes.contains(&&"2MB".to_string()), file("hugetlb.2MB.current").status == 0, "{sizes:?}");
    assert_eq!(data["network_interfaces"], Value::Null);
    life.run(lane(life.on_it("delete", &["--force"]))).ok();
    life.assert_gone();
}
