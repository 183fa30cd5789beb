//! A node under the policy that is shipped for nodes, and the configurations that are shipped.
use std::fs;
use std::path::PathBuf;

use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::*;
use rspawn_cri_tests::node::documented_config;
use rspawn_cri_tests::pods::{namespaces, pod_config, script, security};
use rspawn_cri_tests::{Answer, Node, Pod};
use rspawn_tests::clients::{runtime, runtime_name, shipped_policy, under_policy};
use rspawn_tests::{Scratch, skip_unless, wait_for};

/// What the kubelet asks for with `seccompDefault: true`.
fn default_filter() -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() })
}

/// A pod of the profile "baseline".
fn baseline(node: &Node, name: &str) -> PodSandboxConfig {
    let mut config = pod_config(node, name);
    namespaces(&mut config).network = NamespaceMode::Pod.into();
    let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    context.expect("a context").seccomp = default_filter();
    config
}

/// What is refused, in the policy's words.
#[track_caller]
fn refused<T>(answer: Answer<T>, words: &str) {
    let Err(status) = answer else { panic!("it is not refused: {words}") };
    assert!(
        status.message().contains("the policy refuses this container: ") && status.message().contains(words),
        "{words}: {status}"
    );
}

/// A node under that policy; without it where another runtime is tested.
fn node_in_mode(policy: &Scratch, mode: &str) -> Option<Node> {
    if skip_unless(runtime_name() == "rspawn", "the policy is rspawn's") {
        return None;
    }
    let place = std::env::temp_dir().to_string_lossy().into_owned();
    // This node's directories and cgroups are elsewhere than a real one's.
    let text = shipped_policy("kubernetes-node", &format!("{place}/**"));
    let text = format!("{text}cgroups.allow = /**\njoin.allow = {place}/**\n");
    assert!(text.contains("mode = enforce\n"), "{text}");
    let text = text.replace("mode = enforce\n", &format!("mode = {mode}\n"));
    Node::with_runtime(&under_policy(&policy.path, &runtime(), &text))
}

#[test]
fn pods_under_the_policy_for_nodes() {
    let policy = Scratch::new();
    let Some(node) = node_in_mode(&policy, "enforce") else { return };
    let pod = Pod::run(&node, baseline(&node, "baseline"));
    let with_filter = |name: &str| {
        let mut config = script(name, "echo works");
        security(&mut config).seccomp = default_filter();
        config
    };
    assert_eq!(pod.output_of(with_filter("main")), "works\n");
    let start = |change: &dyn Fn(&mut ContainerConfig), name: &str| {
        let mut config = with_filter(name);
        change(&mut config);
        let container = pod.create(config);
        container.try_start()
    };
    let host_path = PathBuf::from("/etc/shadow");
    let mount = Mount {
        container_path: "/stolen".into(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Default::default()
    };
    refused(start(&|config| config.mounts = vec![mount.clone()], "host-path"), "/etc/shadow");
    let capability = Capability { add_capabilities: vec!["SYS_ADMIN".into()], ..Default::default() };
    refused(start(&|config| security(config).capabilities = Some(capability.clone()), "capability"), "SYS_ADMIN");
    refused(start(&|config| security(config).seccomp = None, "no-filter"), "seccomp");
    let mut config = baseline(&node, "host-network");
    namespaces(&mut config).network = NamespaceMode::Node.into();
    refused(Pod::try_run(&node, config, "").map(|pod| pod.id), "network");
    node.finish();
}

/// To begin with, `mode = warn`: what would be refused runs, and is in the log of the container's shim, where the
/// documentation has people look; the streams are the payload's.
#[test]
fn a_policy_that_only_warns() {
    let policy = Scratch::new();
    let Some(node) = node_in_mode(&policy, "warn") else { return };
    let pod = Pod::run(&node, baseline(&node, "warned"));
    let main = pod.start(script("main", "echo works; trap 'exit 0' TERM; while :; do sleep 0.1; done"));
    wait_for("it says so", || main.text("stdout") == "works\n");
    assert_eq!(main.text("stderr"), "");
    let answer = main.try_exec(&["echo", "inside"], 0).expect("ExecSync");
    assert_eq!((&answer.stdout[..], &answer.stderr[..]), (&b"inside\n"[..], &b""[..]));
    let log = node.path().join("state/io.containerd.runtime.v2.task/k8s.io").join(&main.id).join("log.json");
    let log = fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let warned = |line: &str| line.contains("\"warning\"") && line.contains("the container has no seccomp filter");
    assert!(log.lines().any(warned), "{log}");
    node.finish();
}

/// `parent/dist/containerd.toml` is the documented configuration, but for the runtime's being the default one.
#[test]
fn the_shipped_configuration_is_the_documented_one() {
    let shipped = include_str!("../../../parent/dist/containerd.toml");
    let lines = |text: &'static str| -> Vec<&'static str> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.collect()
    };
    let documented = lines(documented_config());
    let default = documented.iter().position(|line| line.starts_with("default_runtime_name")).expect("the default");
    let rest = [&documented[..default - 1], &documented[default + 1..]].concat();
    assert_eq!(lines(shipped), rest);
}
