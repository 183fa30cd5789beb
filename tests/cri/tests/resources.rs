//! Limits and counts: stats, updates, what the kernel kills for memory.
use std::fs;
use std::path::PathBuf;

use k8s_cri::v1::*;
use rspawn_cri_tests::pods::{idle, pod_config, resources, script};
use rspawn_cri_tests::{Container, Node, Pod, known};
use rspawn_tests::{cgroups_named, skip_unless, wait_for};
use tonic::Code;

/// A file of a container's own cgroup, whichever hierarchy it is in: by its names on v1 and v2.
fn limit(container: &Container, names: [&str; 2]) -> Option<String> {
    let cgroups = cgroups_named("/sys/fs/cgroup".as_ref(), &container.id);
    let files = cgroups.iter().flat_map(|cgroup| names.map(|name| cgroup.join(name)));
    let found: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
    found.first().map(|file| fs::read_to_string(file).expect("a limit").trim().to_string())
}

#[test]
fn memory_that_is_used_up() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "memory"));
    let mut config = idle("idle");
    resources(&mut config).memory_limit_in_bytes = 32 << 20;
    let idle = pod.start(config);
    if skip_unless(limit(&idle, ["memory.limit_in_bytes", "memory.max"]).is_some(), "there is no memory controller") {
        return node.finish();
    }
    let mut config = script("main", "head -c 200000000 /dev/zero | tail > /dev/null; sleep 1; echo alive; exit 5");
    resources(&mut config).memory_limit_in_bytes = 32 << 20;
    let main = pod.start(config);
    let status = main.ended();
    // It was a child that the kernel killed; the event is the container's.
    assert_eq!((status.exit_code, status.reason.as_str()), (5, "OOMKilled"), "{status:?}");

    assert_eq!(idle.status().state(), ContainerState::ContainerRunning, "the limit is each container's own");
    let mut config = script("first", "exec tail /dev/zero");
    resources(&mut config).memory_limit_in_bytes = 32 << 20;
    let status = pod.start(config).ended();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{status:?}");
    node.finish();
}

#[test]
fn limits_are_set_and_changed() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "limits"));
    let mut config = idle("main");
    *resources(&mut config) = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0".into(),
        oom_score_adj: 987,
        ..Default::default()
    };
    let main = pod.start(config);
    assert_eq!(main.sh("cat /proc/1/oom_score_adj"), "987\n");
    assert!(main.sh("grep Cpus_allowed_list /proc/1/status").ends_with("\t0\n"));
    let memory = || limit(&main, ["memory.limit_in_bytes", "memory.max"]).expect("the memory controller");
    let quota = || limit(&main, ["cpu.cfs_quota_us", "cpu.max"]).expect("the cpu controller");
    let shares = || limit(&main, ["cpu.shares", "cpu.weight"]).expect("the cpu controller");
    assert_eq!(memory(), (64 << 20).to_string());
    assert!(["50000", "50000 100000"].contains(&quota().as_str()), "{}", quota());
    assert!(["512", "20"].contains(&shares().as_str()), "{}", shares());
    let request = UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(LinuxContainerResources {
            cpu_quota: 75_000,
            cpu_period: 100_000,
            cpu_shares: 1024,
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    node.cri.update_container_resources(request).expect("UpdateContainerResources");
    assert_eq!(memory(), (96 << 20).to_string());
    assert!(["75000", "75000 100000"].contains(&quota().as_str()), "{}", quota());
    assert!(["1024", "39"].contains(&shares().as_str()), "{}", shares());
    let shown = main.status().resources.and_then(|resources| resources.linux);
    // containerd 1.6 does not say it.
    if !skip_unless(shown.is_some(), "this containerd's ContainerStatus has no limits") {
        assert_eq!(shown.expect("limits").memory_limit_in_bytes, 96 << 20);
    }
    node.finish();
}

/// What the metrics of a node are made of.
#[test]
fn stats_count_what_a_container_uses() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "stats"));
    let script = script("main", "dd if=/dev/zero of=/srv/f bs=1M count=4; while :; do :; done");
    let main = pod.start(script);
    let stats = || -> ContainerStats {
        let answer = node.cri.container_stats(ContainerStatsRequest { container_id: main.id.clone() });
        answer.expect("ContainerStats").stats.expect("stats")
    };
    let cpu = |stats: &ContainerStats| {
        stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds).map_or(0, |usage| usage.value)
    };
    let first = cpu(&stats());
    wait_for("processor time is counted", || cpu(&stats()) > first + 50_000_000);
    let memory = stats().memory.and_then(|memory| memory.working_set_bytes).expect("memory").value;
    assert!((50_000..64_000_000).contains(&memory), "{memory}");
    let all = node.cri.list_container_stats(ListContainerStatsRequest::default()).expect("ListContainerStats").stats;
    assert!(all.iter().any(|one| one.attributes.as_ref().is_some_and(|own| own.id == main.id)), "{all:?}");

    let answer = node.cri.pod_sandbox_stats(PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() });
    if let Some(answer) = known("PodSandboxStats", answer) {
        let linux = answer.stats.and_then(|stats| stats.linux).expect("a pod's numbers");
        assert!(linux.containers.iter().any(|one| cpu(one) > 0), "{linux:?}");
        let count = linux.process.and_then(|process| process.process_count).map_or(0, |count| count.value);
        assert!(count >= 1, "those of its containers: {count}");
    }
    let answer = node.cri.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default());
    if let Some(answer) = known("ListPodSandboxStats", answer) {
        assert_eq!(answer.stats.len(), 1);
    }
    node.finish();
}

/// Calls that came to the CRI later: what answers is right, and what does not is said.
#[test]
fn newer_calls() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "newer"));
    let main = pod.start(idle("main"));
    println!("containerd {}", node.containerd_version());
    if let Some(answer) = known("RuntimeConfig", node.cri.runtime_config(RuntimeConfigRequest::default())) {
        let driver = answer.linux.expect("its Linux part").cgroup_driver();
        assert_eq!(driver, CgroupDriver::Cgroupfs, "as the documented configuration says");
    }
    let answer = node.cri.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest::default());
    known("ListPodSandboxMetrics", answer);
    known("ListMetricDescriptors", node.cri.list_metric_descriptors(ListMetricDescriptorsRequest::default()));
    // rspawn saves no containers: where the call is known it fails, and the container goes on.
    let location = node.path().join("checkpoint.tar").to_string_lossy().into_owned();
    let request = CheckpointContainerRequest { container_id: main.id.clone(), location, timeout: 10 };
    match node.cri.checkpoint_container(request) {
        Err(status) if status.code() != Code::Unimplemented => {}
        answer => assert!(known("CheckpointContainer", answer).is_none(), "a container was saved"),
    }
    assert_eq!(main.status().state(), ContainerState::ContainerRunning);
    let answer = node.cri.status(StatusRequest { verbose: false }).expect("Status");
    let handlers = answer.runtime_handlers;
    if !skip_unless(!handlers.is_empty(), "this containerd's Status does not say what its handlers can do") {
        let ours = handlers.iter().find(|handler| handler.name == "rspawn").expect("the handler");
        let features = ours.features.expect("what `rspawn features` says");
        assert!(features.recursive_read_only_mounts && features.user_namespaces, "{features:?}");
    }
    node.finish();
}
