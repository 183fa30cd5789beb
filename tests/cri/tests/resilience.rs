//! What a node goes through: containerd is restarted under its pods, a sandbox dies, fifty pods come at once.
use std::fs;
use std::process::Command;

use k8s_cri::v1::*;
use rspawn_cri_tests::node::shims;
use rspawn_cri_tests::pods::{idle, pod_config, script};
use rspawn_cri_tests::{Node, Pod};
use rspawn_tests::clients::{runtime, runtime_name};
use rspawn_tests::{finish, skip_unless, wait_for};

/// The first process of a container, on the node: what the CRI plugin says when asked for everything.
fn pid_of(pod: &Pod) -> i32 {
    let list = pod.node.ctr(&["tasks", "ls"]).ok();
    let line = list.lines().find(|line| line.starts_with(&pod.id)).expect("the sandbox's task");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a pid")
}

#[test]
fn containerd_is_restarted_under_its_pods() {
    let Some(mut node) = Node::new() else { return };
    let config = pod_config(&node, "lasting");
    let (pod_id, main_id, brief_id, waiting_id, log) = {
        let pod = Pod::run(&node, config.clone());
        let main = pod.start(script("main", "trap 'exit 9' TERM; i=0; while :; do echo $((i+=1)); sleep 0.05; done"));
        let brief = pod.start(script("brief", "sleep 1; exit 6"));
        let waiting = pod.create(idle("waiting"));
        (pod.id.clone(), main.id.clone(), brief.id.clone(), waiting.id.clone(), main.log_path().clone())
    };
    let before = shims(&node);
    assert!(!before.is_empty());
    let logged = || fs::read_to_string(&log).expect("the log").lines().count();
    node.restart();
    assert_eq!(shims(&node), before, "the shims were left alone");
    let pod = Pod { node: &node, id: pod_id, config };
    let find = |id: &str| pod.adopt(id, "main");
    let main = find(&main_id);
    assert_eq!(pod.status().state(), PodSandboxState::SandboxReady);
    assert_eq!(main.status().state(), ContainerState::ContainerRunning);
    assert_eq!(main.sh("echo still there"), "still there\n");
    let then = logged();
    wait_for("its log goes on", || logged() > then + 3);
    // What ends meanwhile is told afterwards.
    assert_eq!(find(&brief_id).ended().exit_code, 6);
    // 1.6 keeps what was created and not started.
    let waiting = find(&waiting_id);
    assert_eq!(waiting.status().state(), ContainerState::ContainerCreated);
    waiting.try_start().expect("StartContainer");
    waiting.stop(30).expect("StopContainer");
    assert_eq!(waiting.ended().exit_code, 0);
    main.stop(30).expect("StopContainer");
    assert_eq!(main.ended().exit_code, 9);
    // A new pod of the restarted one's.
    let config = pod_config(&node, "new");
    assert_eq!(Pod::run(&node, config).output_of(script("main", "echo new")), "new\n");
    node.finish();
}

#[test]
fn a_sandbox_that_is_killed() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "killed"));
    let main = pod.start(idle("main"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid_of(&pod)), nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait_for("the sandbox is not ready", || pod.status().state() == PodSandboxState::SandboxNotready);
    // The kubelet stops what is left of the pod, and makes another.
    assert_eq!(main.sh("echo alive"), "alive\n", "its containers are not its children");
    main.stop(30).expect("StopContainer");
    main.ended();
    pod.stop().expect("StopPodSandbox");
    pod.remove().expect("RemovePodSandbox");
    let mut config = pod_config(&node, "killed");
    config.metadata.as_mut().expect("a name").attempt = 1;
    assert_eq!(Pod::run(&node, config).output_of(script("main", "echo again")), "again\n");

    // One whose processes are the pod's goes with its first process.
    let mut config = pod_config(&node, "shared");
    rspawn_cri_tests::pods::namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = Pod::run(&node, config);
    let main = pod.start(idle("main"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid_of(&pod)), nix::sys::signal::Signal::SIGKILL).expect("kill");
    assert_eq!(main.ended().exit_code, 137);
    node.finish();
}

/// A version of rspawn that cannot read a container's record, as after one was skipped: the page for operators has what
/// to do, and containerd and the pod get over it.
#[test]
fn a_container_whose_record_is_another_versions() {
    if skip_unless(runtime_name() == "rspawn", "the record is rspawn's") {
        return;
    }
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "older"));
    let main = pod.start(idle("main"));
    let beside = pod.start(idle("beside"));
    let record = node.states().join(&main.id).join("record");
    let mut bytes = fs::read(&record).expect("a record");
    // bincode: a mark, and the version's four bytes, the lowest first.
    assert_eq!(bytes[0], 252, "a number of four bytes");
    bytes[1] += 1;
    fs::write(&record, bytes).expect("the record");

    let Err(status) = main.try_exec(&["true"], 0) else { panic!("a record of no known version is read") };
    assert!(status.message().contains("is another version's"), "{status}");
    assert!(status.message().contains(&format!("rspawn delete --force {}", main.id)), "{status}");
    assert_eq!(main.status().state(), ContainerState::ContainerRunning, "it goes on");
    let mut delete = Command::new(runtime());
    delete.arg("--root").arg(node.states()).args(["delete", "--force", &main.id]);
    assert_eq!(finish(delete, b"").ok(), "");
    assert_eq!(main.ended().exit_code, 137);
    main.remove().expect("RemoveContainer");
    assert_eq!(beside.sh("echo alive"), "alive\n");
    // The kubelet makes another in its place.
    let again = pod.start(idle("main"));
    assert_eq!(again.sh("echo again"), "again\n");
    node.finish();
}

#[test]
fn fifty_pods() {
    const PODS: usize = 50;
    let Some(node) = Node::new() else { return };
    let began = std::time::Instant::now();
    // As many at a time as the kubelet's own workers would on a small node.
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let workers = [0, 1, 2, 3].map(|worker| {
            let node = &node;
            scope.spawn(move || -> Vec<Pod> {
                let numbers = (worker..PODS).step_by(4);
                numbers.map(|number| Pod::run(node, pod_config(node, &format!("pod-{number}")))).collect()
            })
        });
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    let containers: Vec<_> = pods.iter().map(|pod| pod.start(idle("main"))).collect();
    println!("{PODS} pods with a container each in {:.1} s", began.elapsed().as_secs_f64());
    let list = node.cri.list_containers(ListContainersRequest::default()).expect("ListContainers").containers;
    let running = list.iter().filter(|one| one.state() == ContainerState::ContainerRunning).count();
    assert_eq!((list.len(), running), (PODS, PODS));
    // One shim for a pod and its containers, and nothing of the runtime's own beside it.
    assert_eq!(shims(&node).len(), PODS);
    for (number, container) in containers.iter().enumerate() {
        assert_eq!(container.sh(&format!("echo {number}")), format!("{number}\n"));
    }
    let began = std::time::Instant::now();
    for container in &containers {
        container.stop(30).expect("StopContainer");
    }
    println!("their containers were stopped in {:.1} s", began.elapsed().as_secs_f64());
    assert!(containers.iter().all(|container| container.ended().exit_code == 0));
    node.finish();
}
