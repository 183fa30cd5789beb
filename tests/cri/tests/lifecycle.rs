//! From `RunPodSandbox` to `RemovePodSandbox`, by the default runtime and by a handler's name.
use std::fs;

use k8s_cri::v1::*;
use rspawn_cri_tests::node::{descendants, shims};
use rspawn_cri_tests::pods::{container_config, idle, pod_config, script};
use rspawn_cri_tests::{Node, Pod};
use rspawn_tests::clients::runtime_name;
use rspawn_tests::skip_unless;

#[test]
fn a_pod_from_its_beginning_to_its_end() {
    let Some(node) = Node::new() else { return };
    for handler in ["", "rspawn"] {
        let name = if handler.is_empty() { "default" } else { handler };
        let pod = Pod::run_by(&node, pod_config(&node, name), handler);
        let status = pod.status();
        assert_eq!(status.state(), PodSandboxState::SandboxReady, "{status:?}");
        assert_eq!(status.runtime_handler, handler);
        // Under the runtime that the documented configuration names.
        assert!(node.states().join(&pod.id).is_dir(), "the sandbox has a state of this runtime's");

        let container = pod.create(idle("main"));
        assert_eq!(container.status().state(), ContainerState::ContainerCreated);
        container.try_start().expect("StartContainer");
        let status = container.status();
        assert_eq!(status.state(), ContainerState::ContainerRunning, "{status:?}");
        let processes = container.sh("ps -o pid,args");
        assert!(processes.lines().any(|line| line.trim_start().starts_with("1 sh -c trap")), "PID 1: {processes}");
        let list = node.cri.list_containers(ListContainersRequest::default()).expect("ListContainers").containers;
        assert!(list.iter().any(|one| one.id == container.id && one.pod_sandbox_id == pod.id), "{list:?}");

        container.stop(30).expect("StopContainer");
        let status = container.ended();
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"), "TERM was heard: {status:?}");
        container.stop(30).expect("what has stopped is stopped again");
        container.remove().expect("RemoveContainer");
        container.remove().expect("what has gone is removed again");

        pod.stop().expect("StopPodSandbox");
        assert_eq!(pod.status().state(), PodSandboxState::SandboxNotready);
        pod.stop().expect("what has stopped is stopped again");
        pod.remove().expect("RemovePodSandbox");
        assert!(!node.states().join(&pod.id).exists(), "its state has gone");
    }
    node.finish();
}

/// `org.rspawn.init` of a pod, where containerd passes it on as the documentation says.
#[test]
fn an_annotation_chooses_who_pid_1_is() {
    if skip_unless(runtime_name() == "rspawn", "the annotation is rspawn's") {
        return;
    }
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "supervised");
    config.annotations = [("org.rspawn.init".to_string(), "supervise".to_string())].into();
    let pod = Pod::run(&node, config);
    let main = pod.start(script("main", "trap 'exit 4' TERM; while :; do sleep 0.1; done"));
    let processes = main.sh("cat /proc/1/comm; ps -o pid,args");
    assert!(processes.starts_with("rspawn-init\n") && processes.contains("sh -c trap"), "{processes}");
    main.stop(30).expect("StopContainer");
    assert_eq!(main.ended().exit_code, 4, "TERM reaches the payload, and its status the kubelet");
    node.finish();
}

#[test]
fn stopping_takes_sigkill_where_sigterm_is_not_heard() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "deaf"));
    let deaf = pod.start(script("deaf", "trap '' TERM; while :; do sleep 0.1; done"));
    let polite = pod.start(script("polite", "trap 'exit 7' TERM; while :; do sleep 0.1; done"));
    let at_once = pod.start(idle("at-once"));
    deaf.stop(1).expect("StopContainer");
    let status = deaf.ended();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"), "{status:?}");
    assert!(status.finished_at - status.started_at > 900_000_000, "it had its second: {status:?}");
    polite.stop(30).expect("StopContainer");
    assert_eq!(polite.ended().exit_code, 7);
    at_once.stop(0).expect("StopContainer");
    assert_eq!(at_once.ended().exit_code, 137, "no grace is SIGKILL");
    node.finish();
}

/// Containers of a pod that is removed are killed with it, and so is what they forked.
#[test]
fn a_pod_is_removed_with_all_that_runs_in_it() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "crowd");
    rspawn_cri_tests::pods::namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = Pod::run(&node, config);
    pod.start(script("orphans", "for i in 1 2 3; do sleep 1000 & done; setsid sleep 1000 & wait"));
    pod.start(idle("beside"));
    pod.create(idle("never-started"));
    pod.stop().expect("StopPodSandbox");
    pod.remove().expect("RemovePodSandbox");
    node.finish();
}

/// What ends how, as the kubelet sees it: the same as with runc.
#[test]
fn exit_codes_and_reasons_are_runcs() {
    let Some(node) = Node::new() else { return };
    let payloads: [(&str, &[&str]); 8] = [
        ("zero", &["true"]),
        ("one", &["false"]),
        ("number", &["sh", "-c", "exit 42"]),
        ("large", &["sh", "-c", "exit 255"]),
        ("missing", &["/no/such/program"]),
        ("missing-in-path", &["no-such-program"]),
        ("no-program", &["/etc/plain"]),
        ("directory", &["/etc"]),
    ];
    let outcomes = |handler: &str| -> Vec<(String, i32, String, bool)> {
        let pod = Pod::run_by(&node, pod_config(&node, &format!("by-{handler}")), handler);
        let mut all = Vec::new();
        for (name, command) in payloads {
            let container = pod.create(container_config(name, command));
            let started = container.try_start();
            let status = container.ended();
            all.push((name.to_string(), status.exit_code, status.reason, started.is_ok()));
        }
        // PID 1 of a container is deaf to what it does not handle; the kubelet's SIGKILL is heard.
        let killed = pod.start(script("killed", "sleep 1000"));
        killed.stop(0).expect("StopContainer");
        all.push(("killed".into(), killed.ended().exit_code, killed.status().reason, true));
        all
    };
    let ours = outcomes("rspawn");
    let expected = [
        ("zero", 0, "Completed", true),
        ("one", 1, "Error", true),
        ("number", 42, "Error", true),
        ("large", 255, "Error", true),
        ("missing", 128, "StartError", false),
        ("missing-in-path", 128, "StartError", false),
        ("no-program", 128, "StartError", false),
        ("directory", 128, "StartError", false),
        ("killed", 137, "Error", true),
    ];
    let expected = expected.map(|(name, code, reason, started)| (name.to_string(), code, reason.to_string(), started));
    assert_eq!(ours, expected);
    if !skip_unless(rspawn_tests::clients::client("runc").is_absolute(), "runc is not installed") {
        assert_eq!(ours, outcomes("runc"));
    }
    node.finish();
}

/// A pod costs a shim, the pause program and its payloads, whichever runtime has started them.
#[test]
fn process_counts_are_runcs() {
    let Some(node) = Node::new() else { return };
    let processes = |handler: &str| -> Vec<String> {
        let pod = Pod::run_by(&node, pod_config(&node, &format!("by-{handler}")), handler);
        let all = ["one", "two"].map(|name| pod.start(container_config(name, &["sleep", "1000"])));
        all[0].sh("true");
        let all = shims(&node);
        let of_pod: Vec<_> = all.iter().filter(|(_, line)| line.contains(&pod.id)).collect();
        assert_eq!(of_pod.len(), 1, "{all:?}");
        descendants(of_pod[0].0)
    };
    let ours = processes("rspawn");
    // The pause program is rspawn-init, which has `sleep` for a child.
    assert_eq!(ours, ["pause", "sleep", "sleep", "sleep"]);
    if !skip_unless(rspawn_tests::clients::client("runc").is_absolute(), "runc is not installed") {
        assert_eq!(ours, processes("runc"));
    }
    node.finish();
}

/// What a container writes there is the `message` of its termination: a file of the kubelet's, bound into it.
#[test]
fn termination_messages() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "last-words"));
    let file = node.path().join("termination-log");
    fs::write(&file, "").expect("the kubelet's file");
    let mut config = script("main", "echo it was the disk > /dev/termination-log; exit 3");
    config.mounts.push(Mount {
        container_path: "/dev/termination-log".into(),
        host_path: file.to_string_lossy().into_owned(),
        ..Default::default()
    });
    assert_eq!(pod.start(config).ended().exit_code, 3);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "it was the disk\n");
    node.finish();
}
