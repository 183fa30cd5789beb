//! `rspawn update`: other limits for a living container, on the machine's own layout of cgroups and on cgroup v2 alone.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rspawn_proto::record::CgroupDir;
use rspawn_tests::hostile::only;
use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, skip_unless};
use serde_json::{Value, json};

/// The container's own directory in the hierarchy of a controller.
fn directory(life: &Life, controller: &str) -> Option<PathBuf> {
    let has = |cgroup: &&CgroupDir| cgroup.hierarchy.as_str().split(',').any(|name| name == controller);
    life.record().cgroups.iter().find(has).map(|cgroup| PathBuf::from(cgroup.path.as_str()))
}

#[track_caller]
fn shows(life: &Life, controller: &str, file: &str) -> String {
    let path = directory(life, controller).expect("a cgroup").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_string()
}

#[track_caller]
fn expect(life: &Life, values: &[(&str, &str, &str)]) {
    for (controller, file, value) in values {
        assert_eq!(shows(life, controller, file), *value, "{file}");
    }
}

fn update(life: &Life, options: &[&str]) -> Output {
    life.run(life.on_it("update", options))
}

/// With these limits on standard input, as docker hands them over.
fn update_json(life: &Life, resources: &Value) -> Output {
    finish(life.on_it("update", &["--resources", "-"]), resources.to_string().as_bytes())
}

fn limited(resources: Value) -> Life {
    let bundle = Bundle::new().with_args(&["sleep", "1000"]);
    Life::new(bundle.with(|config| config["linux"]["resources"] = resources))
}

/// True, with the reason printed, where a controller of v1 is not mounted.
fn lacks(controllers: &[&str]) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let has = |name: &&str| {
        mounts.lines().any(|line| {
            line.split_once(" - cgroup ").is_some_and(|(_, rest)| rest.split([' ', ',']).any(|word| word == *name))
        })
    };
    cannot_make_containers() || skip_unless(controllers.iter().all(has), &format!("v1 has not all of {controllers:?}"))
}

const ALL: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "blkio"];

#[test]
fn every_flag_reaches_its_file() {
    if lacks(&ALL) {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let flags = [
        "--memory=64M", "--memory-swap=96m", "--memory-reservation=33554432", "--pids-limit", "33", "--cpu-share=512",
        "--cpu-period=200000", "--cpu-quota=50000", "--cpu-burst=1000", "--cpuset-cpus=0", "--cpuset-mems", "0",
        "--blkio-weight=300",
    ];
    assert_eq!(update(&life, &flags).ok(), "");
    let values = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("pids", "pids.max", "33"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("blkio", "blkio.bfq.weight", "300"),
    ];
    expect(&life, &values);
    // Nothing named, nothing changed; and 0 is not a name, as with runc.
    assert_eq!(update(&life, &[]).ok(), "");
    assert_eq!(update(&life, &["--pids-limit=0", "--memory=0", "--cpu-quota=0", "--cpu-share=0"]).ok(), "");
    expect(&life, &values);
    // What is lifted is lifted, in every state of the container.
    life.started();
    assert_eq!(update(&life, &["--memory", "-1", "--cpu-quota=-1", "--cpu-burst=0", "--pids-limit=-1"]).ok(), "");
    let unlimited = "9223372036854771712";
    expect(
        &life,
        &[
            ("memory", "memory.limit_in_bytes", unlimited),
            ("memory", "memory.memsw.limit_in_bytes", unlimited),
            ("cpu", "cpu.cfs_quota_us", "-1"),
            ("cpu", "cpu.cfs_period_us", "200000"),
            ("pids", "pids.max", "max"),
        ],
    );
    life.run(life.on_it("pause", &[])).ok();
    assert_eq!(update(&life, &["--memory=128M", "--cpu-idle=1"]).ok(), "");
    expect(&life, &[("memory", "memory.limit_in_bytes", "134217728"), ("cpu", "cpu.idle", "1")]);
    assert_eq!(life.status(), "paused");
    // A weight is refused by the kernel for a cgroup that is idle; runc leaves it out.
    assert_eq!(update(&life, &["--cpu-share=100"]).ok(), "");
    assert_eq!(update(&life, &["--cpu-share=100", "--cpu-idle=0"]).ok(), "");
    expect(&life, &[("cpu", "cpu.idle", "0"), ("cpu", "cpu.shares", "100")]);
    life.run(life.on_it("resume", &[])).ok();
    life.stop();
}

#[test]
fn json_from_a_file_and_from_standard_input() {
    if lacks(&ALL) {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    // What podman and docker send: everything, with nulls and zeros for what is not set.
    let sent = json!({
        "memory": {"limit": 67_108_864, "swap": 134_217_728, "reservation": 0, "kernel": null},
        "cpu": {"shares": 100, "quota": 0, "period": 0, "realtimeRuntime": null, "cpus": "", "mems": ""},
        "pids": {}, "blockIO": {"weight": 0, "weightDevice": null}, "unified": null, "devices": null,
        "network": null, "hugepageLimits": null, "rdma": null,
    });
    assert_eq!(update_json(&life, &sent).ok(), "");
    let values = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("cpu", "cpu.shares", "100"),
    ];
    expect(&life, &values);
    let file = life.bundle.path().join("limits.json");
    fs::write(&file, r#"{"pids": {"limit": 7}, "cpu": {"shares": 300}}"#).unwrap();
    // Other options are ignored beside it, as by runc.
    assert_eq!(update(&life, &["-r", file.to_str().unwrap(), "--pids-limit=9"]).ok(), "");
    expect(&life, &[("pids", "pids.max", "7"), ("cpu", "cpu.shares", "300"), values[0]]);
    life.stop();
}

/// At no moment may the limit of memory and swap be below that of memory: whichever way both go, none is refused.
#[test]
fn the_order_of_writes_follows_what_holds() {
    if lacks(&ALL) {
        return;
    }
    let life =
        limited(json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"quota": 20_000, "burst": 9000}}));
    life.created(&[]);
    for (memory, swap) in [("128M", "256M"), ("32M", "48M"), ("256M", "-1"), ("512M", "1G"), ("16M", "1G")] {
        assert_eq!(update(&life, &["--memory", memory, "--memory-swap", swap]).ok(), "", "{memory} {swap}");
        let bytes = |text: &str| match text.trim_end_matches(['M', 'G']).parse::<i64>().unwrap() {
            -1 => i64::MAX / 4096 * 4096,
            number => number << if text.ends_with('G') { 30 } else { 20 },
        };
        let [memory, swap] = [memory, swap].map(|text| bytes(text).to_string());
        expect(
            &life,
            &[("memory", "memory.limit_in_bytes", &memory), ("memory", "memory.memsw.limit_in_bytes", &swap)],
        );
    }
    // A burst is at most the quota: down with the quota, and up with it.
    for (quota, burst) in [("50000", "40000"), ("10000", "5000"), ("30000", "30000")] {
        assert_eq!(update(&life, &["--cpu-quota", quota, "--cpu-burst", burst]).ok(), "");
        expect(&life, &[("cpu", "cpu.cfs_quota_us", quota), ("cpu", "cpu.cfs_burst_us", burst)]);
    }
    // One of quota and period, where the other stays.
    assert_eq!(update(&life, &["--cpu-period=50000"]).ok(), "");
    expect(&life, &[("cpu", "cpu.cfs_quota_us", "30000"), ("cpu", "cpu.cfs_period_us", "50000")]);
    let message = error(update(&life, &["--memory=2G"]));
    assert!(message.starts_with("--memory: 2147483648 is above the limit of memory and swap together"), "{message}");
}

/// In a cgroup below the top of the hierarchy, which alone has real time to give here.
#[test]
fn real_time() {
    let given = || {
        let text = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").unwrap_or_default();
        text.trim().parse::<i64>().is_ok_and(|runtime| runtime > 100_000)
    };
    if lacks(&["cpu"]) || skip_unless(given(), "there is no real time to give out at /sys/fs/cgroup/cpu") {
        return;
    }
    let bundle = Bundle::new().with_args(&["sleep", "1000"]);
    let path = format!("/{}", bundle.id);
    let life = Life::new(bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path)));
    life.created(&[]);
    for (period, runtime) in [("1000000", "30000"), ("20000", "1000"), ("500000", "20000")] {
        assert_eq!(update(&life, &["--cpu-rt-period", period, "--cpu-rt-runtime", runtime]).ok(), "");
        expect(&life, &[("cpu", "cpu.rt_period_us", period), ("cpu", "cpu.rt_runtime_us", runtime)]);
    }
}

/// The limits are real: a process that could be forked before cannot be now.
#[test]
fn the_payload_feels_it() {
    if lacks(&["pids"]) {
        return;
    }
    let life = Life::script(
        "while [ ! -e /go ]; do sleep 0.02; done; for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo all >/forked; wait",
    );
    life.created(&[]).started();
    // rspawn-init, the shell, and its first sleeps.
    assert_eq!(update(&life, &["--pids-limit=5"]).ok(), "");
    fs::write(life.bundle.rootfs().join("go"), "").unwrap();
    life.wait_for_status("stopped");
    assert_eq!(life.file("forked"), "", "the shell cannot fork, and ends");
}

#[test]
fn errors_name_the_flag_or_the_place() {
    if lacks(&ALL) {
        return;
    }
    let life = Life::idle();
    assert_eq!(error(update(&life, &["--memory=1G"])), "container does not exist");
    life.created(&[]);
    for (flags, expected) in [
        (&["--memory=lots"][..], "--memory: \"lots\" is not an amount of memory such as 100M"),
        (&["--cpu-period=-5"], "--cpu-period: \"-5\" is not a number, or out of range"),
        (&["--pids-limit=x"], "--pids-limit: \"x\" is not a number, or out of range"),
        (&["--cpu-idle=2"], "--cpu-idle: 2 is neither 0 nor 1"),
        (&["--cpuset-cpus=a"], "--cpuset-cpus: \"a\" is not a list of numbers such as \"0-3,7\""),
        (
            &["--l3-cache-schema=L3:0=f"],
            "--l3-cache-schema: the container has no resctrl group of its own: linux.intelRdt made none for it",
        ),
        (
            &["--mem-bw-schema=MB:0=20"],
            "--mem-bw-schema: the container has no resctrl group of its own: linux.intelRdt made none for it",
        ),
        (&["--resources=/no/such"], "--resources: cannot open /no/such: No such file or directory (os error 2)"),
    ] {
        assert_eq!(error(update(&life, flags)), expected);
    }
    for (resources, expected) in [
        (json!({"memory": {"limit": "x"}}), "--resources /memory/limit: invalid type: string \"x\", expected i64"),
        (json!({"cpu": {"cpus": 7}}), "--resources /cpu/cpus: invalid type: integer `7`, expected a string"),
        (json!({"cpu": {"idle": 5}}), "--resources /cpu/idle: 5 is neither 0 nor 1"),
        (json!(7), "--resources: it is a number, where an object is expected: { … }"),
        (json!({"unified": {"cgroup.procs": "1"}}), "--resources /unified/cgroup.procs: \"cgroup.procs\" is no file"),
        (json!({"devices": [{"allow": true, "access": "x"}]}), "--resources /devices/0/access: "),
        (
            json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}),
            "--resources /memory/limit: 4096 is not above the ",
        ),
    ] {
        let message = error(update_json(&life, &resources));
        assert!(message.starts_with(expected), "{message}");
    }
    let message = error(finish(life.on_it("update", &["-r", "-"]), b"{"));
    assert!(message.starts_with("--resources: EOF while parsing"), "{message}");
    // What the kernel refuses, and what is not set because of it.
    let before = shows(&life, "pids", "pids.max");
    let message = error(update(&life, &["--cpuset-cpus=4000", "--cpu-share=77", "--cpuset-mems=0", "--pids-limit=50"]));
    assert!(message.starts_with("--cpuset-cpus: set cpuset.cpus = 4000: write: E"), "{message}");
    assert!(message.ends_with(" (4000 to cpuset.cpus); not set any more: --cpuset-mems"), "{message}");
    assert_ne!(before, "50");
    expect(&life, &[("pids", "pids.max", "50"), ("cpu", "cpu.shares", "77")]);
    // Runc's words for one that has stopped.
    life.started();
    life.stop();
    assert_eq!(error(update(&life, &["--memory=1G"])), "container not running");
}

/// A limit below what is in use is the kernel's to refuse.
#[test]
fn a_limit_below_what_is_in_use() {
    if lacks(&["memory"]) {
        return;
    }
    // In a tmpfs without swap: memory that cannot be freed.
    let life =
        Life::script("dd if=/dev/zero of=/dev/shm/held bs=1M count=30 2>/dev/null; touch /filled; exec sleep 1000");
    life.created(&[]).started();
    rspawn_tests::wait_for("memory is in use", || life.bundle.rootfs().join("filled").exists());
    if skip_unless(fs::read_to_string("/proc/swaps").unwrap().lines().count() == 1, "there is swap to free it to") {
        return;
    }
    let message = error(update(&life, &["--memory=8M"]));
    assert!(message.starts_with("--memory: ") && message.contains("EBUSY"), "{message}");
    assert!(message.ends_with("that much is in use, and the kernel could not free it"), "{message}");
    life.stop();
}

#[test]
fn devices_are_left_alone_unless_others_are_given() {
    if lacks(&["devices"]) {
        return;
    }
    let rules = json!([{"allow": false, "access": "rwm"}]);
    let life = limited(json!({"devices": rules}));
    life.created(&[]);
    let before = shows(&life, "devices", "devices.list");
    assert!(!before.contains("c 240:11"), "{before}");
    // A plug-in has allowed a device of its own: an update that says what config.json says does not take it away.
    let allow = directory(&life, "devices").unwrap().join("devices.allow");
    fs::write(&allow, "c 10:229 rw").unwrap();
    assert_eq!(update_json(&life, &json!({"devices": rules, "pids": {"limit": 9}})).ok(), "");
    assert!(shows(&life, "devices", "devices.list").contains("c 10:229 rw"));
    let more = json!([rules[0], {"allow": true, "type": "c", "major": 240, "minor": 11, "access": "rw"}]);
    assert_eq!(update_json(&life, &json!({"devices": more})).ok(), "");
    let after = shows(&life, "devices", "devices.list");
    assert!(after.contains("c 240:11 rw") && !after.contains("10:229"), "{after}");
    assert!(before.lines().filter(|line| !line.contains("240:11")).all(|line| after.contains(line)), "{after}");
    // And the policy judges them as those of a new container.
    let policy = life.bundle.path().join("policy.conf");
    fs::write(&policy, only("devices.allow = c 1:3")).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
    let command = life.on_it("update", &["--resources=-", "--policy", policy.to_str().unwrap()]);
    let message = error(finish(command, json!({"devices": [{"allow": true, "access": "rwm"}]}).to_string().as_bytes()));
    assert!(message.contains("devices.allow"), "{message}");
    assert_eq!(shows(&life, "devices", "devices.list"), after);
}

/// The audit log has a line for every value.
#[test]
fn what_is_done_can_be_audited() {
    if lacks(&["pids"]) {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let log = life.bundle.path().join("audit");
    assert_eq!(update(&life, &["--audit", log.to_str().unwrap(), "--pids-limit=12"]).ok(), "");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["origin"] == "--pids-limit").unwrap_or_else(|| panic!("{text}"));
    assert_eq!((line["phase"].as_str(), line["result"].as_str()), (Some("host"), Some("ok")));
    assert!(lines.iter().any(|line| line["op"] == "give up privileges"), "{text}");
}

/// In a mount namespace where cgroup v2 is all there is. Which controllers it has is the machine's affair.
mod v2 {
    use rspawn_tests::v2_alone::lane;

    use super::*;

    /// A file of the container's cgroup, which is elsewhere outside of the lane.
    fn shows(life: &Life, file: &str) -> String {
        let path = directory(life, "").unwrap().join(file);
        let mut command = Command::new("cat");
        command.arg(path);
        finish(lane(command), b"").ok().trim().to_string()
    }

    fn cannot(controller: &str) -> bool {
        let mut command = Command::new("cat");
        command.arg("/sys/fs/cgroup/cgroup.controllers");
        cannot_make_containers() || {
            let output = finish(lane(command), b"");
            let has = output.stdout.split_whitespace().any(|name| name == controller);
            skip_unless(output.status == 0 && has, &format!("cgroup v2 has no controller {controller} here"))
        }
    }

    fn created(life: &Life) {
        life.run(lane(life.making("create", &[]))).ok();
    }

    fn update(life: &Life, resources: &Value) -> Output {
        finish(lane(life.on_it("update", &["--resources", "-"])), resources.to_string().as_bytes())
    }

    fn deleted(life: &Life) {
        life.run(lane(life.on_it("delete", &["--force"]))).ok();
        life.assert_gone();
    }

    #[test]
    fn what_this_machine_has() {
        if cannot("hugetlb") {
            return;
        }
        let life = Life::idle();
        created(&life);
        let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "unified": {"cgroup.max.depth": "3"}});
        assert_eq!(update(&life, &resources).ok(), "");
        let files = ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "cgroup.max.depth"];
        assert_eq!(files.map(|file| shows(&life, file)), ["4194304", "4194304", "3"]);
        let odd = json!({"unified": {"cgroup.max.depth": "3"}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}]});
        let message = error(update(&life, &odd));
        assert!(
            message.starts_with("--resources /hugepageLimits/0/limit: ")
                && message.contains("no such file")
                && message.ends_with(
                    "; not set any more: --resources /hugepageLimits/0/limit, --resources /unified/cgroup.max.depth"
                ),
            "{message}"
        );
        deleted(&life);
    }

    #[test]
    fn a_controller_that_is_not_there() {
        if cannot_make_containers() || skip_unless(!lacks(&["memory"]), "v2 has memory") || cannot("hugetlb") {
            return;
        }
        let life = Life::idle();
        created(&life);
        let message = error(update(&life, &json!({"memory": {"limit": 1 << 30}})));
        assert_eq!(message, "--resources /memory/limit: there is no cgroup controller \"memory\" here");
        deleted(&life);
    }

    #[test]
    fn devices_are_denied_by_another_program() {
        if cannot("hugetlb") {
            return;
        }
        let script =
            "mknod /tmp/char c 240 11; while :; do (: </tmp/char) 2>/tmp/said; cp /tmp/said /said; sleep 0.02; done";
        let life = Life::new(Bundle::script(script).with(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
            }
        }));
        created(&life);
        life.run(lane(life.on_it("start", &[]))).ok();
        let says = |text: &str| rspawn_tests::wait_for(text, || life.file("said").contains(text));
        says("Operation not permitted");
        let all = json!({"devices": [{"allow": true, "access": "rwm"}]});
        assert_eq!(update(&life, &all).ok(), "");
        says("No such device");
        let few = json!({"devices": [{"allow": false, "access": "rwm"}]});
        assert_eq!(update(&life, &few).ok(), "");
        says("Operation not permitted");
        deleted(&life);
    }
}
