//! Conversions, against what the documentation of runc, crun and the kernel says.
use crate::prelude::*;
use serde_json::{Value, json};

use super::cpu::weight;
use super::io::longer;
use super::{CurrentLimits, Settings, changes, settings};
use crate::facts::{CgroupFacts, Delegation, Hierarchy};

fn hierarchy(controllers: &str, mount: &str) -> Hierarchy {
    Hierarchy {
        controllers: controllers.into(),
        mount: Some(mount.into()),
        own: String::new(),
        reach: Delegation::Everywhere,
    }
}

fn v1() -> CgroupFacts {
    let names = ["cpu,cpuacct", "cpuset", "memory", "devices", "blkio", "pids", "hugetlb", "net_cls,net_prio", "rdma"];
    let hierarchies = names.iter().map(|names| hierarchy(names, &format!("/sys/fs/cgroup/{names}"))).collect();
    CgroupFacts { hierarchies, ..CgroupFacts::default() }
}

fn v2() -> CgroupFacts {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"].map(str::to_string).to_vec();
    CgroupFacts {
        unified: true,
        hierarchies: vec![hierarchy("", "/sys/fs/cgroup")],
        controllers,
        ..CgroupFacts::default()
    }
}

fn of<'a>(resources: Value, facts: &'a CgroupFacts) -> Settings<'a> {
    settings(&serde_json::from_value(resources).expect("resources"), facts, "")
}

/// `file=value`, alternatives separated by a bar, values of one file by a semicolon.
#[track_caller]
fn writes(resources: Value, facts: &CgroupFacts) -> Vec<String> {
    lines(of(resources, facts))
}

/// The same of a container in which other limits hold.
#[track_caller]
fn updates(resources: Value, facts: &CgroupFacts, now: CurrentLimits) -> Vec<String> {
    lines(changes(&serde_json::from_value(resources).expect("resources"), facts, now, ""))
}

#[track_caller]
fn lines(found: Settings) -> Vec<String> {
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let choice = |choice: &super::Choice| format!("{}={}", choice.file, choice.values.join(";"));
    let line = |write: &super::Write| write.choices.iter().map(choice).collect::<Vec<_>>().join("|");
    found.writes.iter().map(line).collect()
}

#[track_caller]
fn problem(resources: Value, facts: &CgroupFacts) -> String {
    let found = of(resources, facts);
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    found.problems[0].pointer.clone()
}

#[test]
fn shares_become_weights() {
    for (shares, expected) in [(0, 1), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    let all: Vec<u64> = (2..262_144).step_by(97).map(weight).collect();
    assert!(all.is_sorted() && all.iter().all(|weight| (1..=10_000).contains(weight)));
}

#[test]
fn weights_of_block_devices_become_longer() {
    assert_eq!([10, 500, 1000].map(longer), [1, 4950, 10_000]);
    let weight = json!({"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}});
    assert_eq!(
        writes(weight.clone(), &v2()),
        ["io.bfq.weight=500|io.weight=4950", "io.bfq.weight=8:0 10|io.weight=8:0 1"]
    );
    assert_eq!(
        writes(weight, &v1()),
        ["blkio.bfq.weight=500|blkio.weight=500", "blkio.bfq.weight_device=8:0 10|blkio.weight_device=8:0 10"]
    );
    assert_eq!(problem(json!({"blockIO": {"weight": 9}}), &v2()), "/blockIO/weight");
    let leaf = json!({"blockIO": {"leafWeight": 20}});
    assert_eq!(writes(leaf.clone(), &v1()), ["blkio.leaf_weight=20"]);
    assert_eq!(problem(leaf, &v2()), "/blockIO/leafWeight");
}

#[test]
fn throttles() {
    let device = |rate: u64| json!([{"major": 8, "minor": 16, "rate": rate}]);
    let limits = json!({"blockIO": {"throttleReadBpsDevice": device(1000), "throttleWriteBpsDevice": device(0),
        "throttleReadIOPSDevice": device(7), "throttleWriteIOPSDevice": device(8)}});
    assert_eq!(
        writes(limits.clone(), &v2()),
        ["io.max=8:16 rbps=1000", "io.max=8:16 wbps=max", "io.max=8:16 riops=7", "io.max=8:16 wiops=8"]
    );
    assert_eq!(
        writes(limits, &v1()),
        [
            "blkio.throttle.read_bps_device=8:16 1000",
            "blkio.throttle.write_bps_device=8:16 0",
            "blkio.throttle.read_iops_device=8:16 7",
            "blkio.throttle.write_iops_device=8:16 8",
        ]
    );
}

#[test]
fn memory_and_swap() {
    let memory = |value: Value| json!({ "memory": value });
    let both = memory(json!({"limit": 1000, "swap": 1500, "reservation": 500}));
    assert_eq!(writes(both.clone(), &v2()), ["memory.swap.max=500", "memory.max=1000", "memory.low=500"]);
    assert_eq!(
        writes(both, &v1()),
        ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=1500", "memory.soft_limit_in_bytes=500"]
    );
    // As much together as memory alone: no swap.
    let none = memory(json!({"limit": 1000, "swap": 1000}));
    assert_eq!(writes(none, &v2()), ["memory.swap.max=0", "memory.max=1000"]);
    // Beside memory without a limit, what is given is the limit of swap.
    assert_eq!(writes(memory(json!({"limit": -1, "swap": 500})), &v2()), ["memory.swap.max=500", "memory.max=max"]);
    let unlimited = memory(json!({"limit": -1}));
    assert_eq!(writes(unlimited.clone(), &v2()), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(writes(unlimited, &v1()), ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
    assert_eq!(writes(memory(json!({"limit": 1000, "swap": -1})), &v2()), ["memory.swap.max=max", "memory.max=1000"]);
    // Zero is absent to runc, and an explicit null to everyone.
    for nothing in
        [json!({"limit": 0, "swap": 0, "reservation": 0, "kernelTCP": 0}), json!({"limit": null}), json!(null)]
    {
        for facts in [v1(), v2()] {
            assert!(writes(memory(nothing.clone()), &facts).is_empty(), "{nothing}");
        }
    }
    assert_eq!(problem(memory(json!({"swap": 1000})), &v2()), "/memory/swap");
    assert_eq!(problem(memory(json!({"limit": 1000, "swap": 999})), &v2()), "/memory/swap");
    assert_eq!(problem(memory(json!({"limit": -2})), &v1()), "/memory/limit");
}

#[test]
fn what_memory_of_v2_does_not_have() {
    let memory = |value: Value| json!({ "memory": value });
    assert_eq!(writes(memory(json!({"swappiness": 60})), &v1()), ["memory.swappiness=60"]);
    assert_eq!(problem(memory(json!({"swappiness": 101})), &v1()), "/memory/swappiness");
    assert_eq!(writes(memory(json!({"disableOOMKiller": true})), &v1()), ["memory.oom_control=1"]);
    assert_eq!(problem(memory(json!({"disableOOMKiller": true})), &v2()), "/memory/disableOOMKiller");
    assert_eq!(writes(memory(json!({"kernelTCP": 9})), &v1()), ["memory.kmem.tcp.limit_in_bytes=9"]);
    let (kernel, facts) = (json!({"kernel": 1, "kernelTCP": 9, "swappiness": 60}), v2());
    let found = of(memory(kernel), &facts);
    let noted: Vec<&str> = found.notes.iter().map(|note| note.pointer.as_str()).collect();
    assert_eq!(noted, ["/memory/kernel", "/memory/kernelTCP", "/memory/swappiness"]);
    assert!(found.writes.is_empty() && found.problems.is_empty());
}

#[test]
fn processor_time() {
    let cpu = |value: Value| json!({ "cpu": value });
    let quota = cpu(json!({"shares": 1024, "quota": 50_000, "period": 100_000, "burst": 10_000}));
    assert_eq!(writes(quota.clone(), &v2()), ["cpu.weight=100", "cpu.max=50000 100000", "cpu.max.burst=10000"]);
    assert_eq!(
        writes(quota, &v1()),
        ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=10000"]
    );
    assert_eq!(writes(cpu(json!({"quota": 5000})), &v2()), ["cpu.max=5000 100000"]);
    assert_eq!(writes(cpu(json!({"quota": -1, "period": 5000})), &v2()), ["cpu.max=max 5000"]);
    assert_eq!(writes(cpu(json!({"period": 5000})), &v2()), ["cpu.max=max 5000"]);
    assert_eq!(writes(cpu(json!({"idle": 1, "shares": 50})), &v2()), ["cpu.idle=1"]);
    assert_eq!(writes(cpu(json!({"idle": 0, "shares": 2})), &v2()), ["cpu.idle=0", "cpu.weight=1"]);
    let real = cpu(json!({"realtimeRuntime": 1000, "realtimePeriod": 2000}));
    assert_eq!(writes(real.clone(), &v1()), ["cpu.rt_period_us=2000", "cpu.rt_runtime_us=1000"]);
    assert_eq!(of(real, &v2()).problems.len(), 2);
    assert_eq!(problem(cpu(json!({"shares": 1})), &v1()), "/cpu/shares");
    assert_eq!(problem(cpu(json!({"shares": 262_145})), &v1()), "/cpu/shares");
    assert_eq!(problem(cpu(json!({"idle": 2})), &v2()), "/cpu/idle");
    let set = cpu(json!({"cpus": "0-1,3", "mems": "0"}));
    assert_eq!(writes(set, &v1()), ["cpuset.cpus=0-1,3", "cpuset.mems=0"]);
    assert_eq!(problem(cpu(json!({"cpus": "all"})), &v2()), "/cpu/cpus");
}

#[test]
fn the_other_controllers() {
    for facts in [v1(), v2()] {
        for (limit, expected) in [(json!(7), "7"), (json!(-1), "max"), (json!(0), "1")] {
            assert_eq!(writes(json!({"pids": {"limit": limit}}), &facts), [format!("pids.max={expected}")]);
        }
        // The limit may be left out since 1.3 of the specification.
        for nothing in [json!({}), json!({"limit": null}), json!(null)] {
            assert!(writes(json!({ "pids": nothing }), &facts).is_empty());
        }
        let rdma = json!({"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10_000}, "mlx4_0": {}}});
        assert_eq!(writes(rdma, &facts), ["rdma.max=mlx5_0 hca_handle=3 hca_object=10000"]);
        let odd = json!({"hugepageLimits": [{"pageSize": "2M/../x", "limit": 1}]});
        assert_eq!(problem(odd, &facts), "/hugepageLimits/0/pageSize");
    }
    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    assert_eq!(writes(huge.clone(), &v2()), ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]);
    assert_eq!(writes(huge, &v1()), ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304"]);
    let network = json!({"network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 5}]}});
    assert_eq!(writes(network.clone(), &v1()), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
    assert_eq!(of(network, &v2()).problems.len(), 2);
}

#[test]
fn unified_files() {
    let unified = |file: &str, value: &str| json!({"unified": {file: value}});
    assert_eq!(writes(unified("memory.high", "1000"), &v2()), ["memory.high=1000"]);
    assert_eq!(writes(unified("io.max", "8:0 rbps=1\n8:16 wbps=2\n"), &v2()), ["io.max=8:0 rbps=1;8:16 wbps=2"]);
    assert_eq!(writes(unified("cgroup.max.depth", "3"), &v2()), ["cgroup.max.depth=3"]);
    for file in ["cgroup.procs", "cgroup.freeze", "../memory.max", "memory/max", "release_agent", "memory", "x.y", ""] {
        let found = of(unified(file, "1"), &v2()).problems.remove(0).pointer;
        assert_eq!(found, format!("/unified/{}", file.replace('/', "~1")));
    }
    assert_eq!(problem(unified("memory.high", "1000"), &v1()), "/unified/memory.high");
    assert_eq!(problem(unified("misc.max", "x 1"), &v2()), "/unified/misc.max");
}

/// On a hybrid layout each controller is looked for where it is.
#[test]
fn a_controller_of_v2_beside_v1() {
    let mut facts = v1();
    facts.hierarchies.retain(|hierarchy| hierarchy.controllers != "hugetlb");
    facts.hierarchies.push(hierarchy("", "/sys/fs/cgroup/unified"));
    facts.controllers = vec!["hugetlb".into()];
    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "pids": {"limit": 5}});
    let found = of(huge.clone(), &facts);
    let last = facts.hierarchies.len() - 1;
    let places: Vec<usize> = found.writes.iter().map(|write| write.hierarchy).collect();
    assert_eq!(places, [5, last, last]);
    assert_eq!(found.writes[1].choices[0].file, "hugetlb.2MB.max");
    facts.controllers.clear();
    assert_eq!(problem(huge, &facts), "/hugepageLimits/0/pageSize");
    // What is not mounted is not there.
    let mut facts = v1();
    facts.hierarchies[5].mount = None;
    assert_eq!(problem(json!({"pids": {"limit": 5}}), &facts), "/pids/limit");
}

#[test]
fn a_half_that_is_not_given_stays() {
    let now =
        CurrentLimits { memory: Some(1 << 20), quota: Some(5000), period: Some(50_000), ..CurrentLimits::default() };
    assert_eq!(updates(json!({"cpu": {"period": 20_000}}), &v2(), now), ["cpu.max=5000 20000"]);
    assert_eq!(updates(json!({"cpu": {"quota": 7000}}), &v2(), now), ["cpu.max=7000 50000"]);
    assert_eq!(updates(json!({"cpu": {"quota": -1}}), &v2(), now), ["cpu.max=max 50000"]);
    let free =
        CurrentLimits { quota: Some(-1), period: Some(100_000), memory: Some(i64::MAX), ..CurrentLimits::default() };
    assert_eq!(updates(json!({"cpu": {"period": 20_000}}), &v2(), free), ["cpu.max=max 20000"]);
    // Of memory and swap together, the limit of memory that holds is the memory.
    assert_eq!(updates(json!({"memory": {"swap": 3 << 20}}), &v2(), now), ["memory.swap.max=2097152"]);
    assert_eq!(updates(json!({"memory": {"swap": -1}}), &v2(), now), ["memory.swap.max=max"]);
    let limits = serde_json::from_value(json!({"memory": {"swap": 1}})).unwrap();
    assert_eq!(changes(&limits, &v2(), free, "").problems[0].pointer, "/memory/swap");
}

/// On cgroup v2 too, a limit of memory that is changed alone leaves memory and swap together what they were.
#[test]
fn memory_and_swap_together_stay_what_they_are() {
    let now = CurrentLimits { memory: Some(1000), swap: Some(500), ..CurrentLimits::default() };
    let limit = |limit: i64| json!({"memory": {"limit": limit}});
    assert_eq!(updates(limit(800), &v2(), now), ["memory.swap.max=700", "memory.max=800"]);
    assert_eq!(updates(limit(1200), &v2(), now), ["memory.swap.max=300", "memory.max=1200"]);
    assert_eq!(updates(limit(1500), &v2(), now), ["memory.swap.max=0", "memory.max=1500"]);
    let resources = serde_json::from_value(limit(1501)).unwrap();
    let facts = v2();
    let problems = changes(&resources, &facts, now, "").problems;
    assert_eq!((problems.len(), problems[0].pointer.as_str()), (1, "/memory/limit"));
    assert!(problems[0].message.contains("1501 is above the limit of memory and swap together, 1500"));
    // Both lifted, or both given.
    assert_eq!(updates(limit(-1), &v2(), now), ["memory.swap.max=max", "memory.max=max"]);
    let both = json!({"memory": {"limit": 2000, "swap": 2100}});
    assert_eq!(updates(both, &v2(), now), ["memory.swap.max=100", "memory.max=2000"]);
    // Without a limit of swap, or of memory, or without swap, there is no sum to keep.
    for (memory, swap) in [(Some(1000), Some(i64::MAX)), (Some(i64::MAX), Some(500)), (Some(1000), None)] {
        let now = CurrentLimits { memory, swap, ..CurrentLimits::default() };
        assert_eq!(updates(limit(3000), &v2(), now), ["memory.max=3000"]);
    }
}

#[test]
fn the_order_follows_what_holds() {
    let both = |limit: i64, swap: i64, now: i64| {
        let now = CurrentLimits { memory: Some(now), memory_and_swap: Some(now), ..CurrentLimits::default() };
        let lines = updates(json!({"memory": {"limit": limit, "swap": swap}}), &v1(), now);
        lines.iter().map(|line| if line.contains("memsw") { 's' } else { 'm' }).collect::<String>()
    };
    assert_eq!([both(20, 30, 10), both(5, 8, 10), both(5, 10, 10), both(20, -1, 10)], ["sm", "ms", "sm", "sm"]);
    let bandwidth = |quota: u64, period: u64, burst: u64, facts: &CgroupFacts| {
        let now = CurrentLimits { quota: Some(5000), period: Some(50_000), ..CurrentLimits::default() };
        let lines = updates(json!({"cpu": {"quota": quota, "period": period, "burst": burst}}), facts, now);
        lines.iter().filter_map(|line| line.split_once('=')).map(|(file, _)| file.to_string()).collect::<Vec<_>>()
    };
    let [period, quota, burst] = ["cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us"];
    assert_eq!(bandwidth(9000, 60_000, 8000, &v1()), [period, quota, burst]);
    assert_eq!(bandwidth(3000, 40_000, 2000, &v1()), [burst, quota, period]);
    let real_time = |period: u64| {
        let now = CurrentLimits { realtime_period: Some(50_000), ..CurrentLimits::default() };
        updates(json!({"cpu": {"realtimePeriod": period, "realtimeRuntime": 100}}), &v1(), now).remove(0)
    };
    assert_eq!([real_time(60_000), real_time(9)], ["cpu.rt_period_us=60000", "cpu.rt_runtime_us=100"]);
    assert_eq!(bandwidth(9000, 60_000, 8000, &v2()), ["cpu.max", "cpu.max.burst"]);
    assert_eq!(bandwidth(3000, 40_000, 2000, &v2()), ["cpu.max.burst", "cpu.max"]);
}

/// A cgroup that runs when nobody else does has no weight, and takes none.
#[test]
fn an_idle_cgroup_takes_no_weight() {
    let now = CurrentLimits { idle: Some(1), ..CurrentLimits::default() };
    for facts in [v1(), v2()] {
        assert_eq!(updates(json!({"cpu": {"shares": 512}}), &facts, now), [""; 0]);
        assert_eq!(updates(json!({"cpu": {"shares": 512, "idle": 0}}), &facts, now).len(), 2);
    }
}

#[test]
fn a_limit_above_that_of_memory_and_swap_together() {
    let now = CurrentLimits { memory: Some(10), memory_and_swap: Some(20), usage: Some(7), ..CurrentLimits::default() };
    let pointers = |resources: Value| {
        let found = changes(&serde_json::from_value(resources).expect("resources"), &v1(), now, "").problems;
        found.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    assert_eq!(pointers(json!({"memory": {"limit": 21}})), ["/memory/limit"]);
    assert_eq!(pointers(json!({"memory": {"limit": 21, "swap": 30}})), [""; 0]);
    assert_eq!(pointers(json!({"memory": {"limit": 20}})), [""; 0]);
    assert_eq!(pointers(json!({"memory": {"limit": 7, "checkBeforeUpdate": true}})), ["/memory/limit"]);
    assert_eq!(pointers(json!({"memory": {"limit": 8, "checkBeforeUpdate": true}})), [""; 0]);
}
