//! What the kernel keeps for a namespace or a process: sysctls, names, personality, memory policy, OOM score.
use std::fs;

use rspawn_tests::{Bundle, cannot_make_containers};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

fn with_sysctls(script: &str, sysctls: Value) -> Bundle {
    Bundle::script(script).with(|config| config["linux"]["sysctl"] = sysctls)
}

#[test]
fn sysctls_of_the_containers_namespaces() {
    if cannot_make_containers() {
        return;
    }
    // Key, file below /proc/sys, value: none is a default.
    let cases = [
        ("kernel.msgmax", "kernel/msgmax", "4321"),
        ("kernel/msgmni", "kernel/msgmni", "1234"),
        ("kernel.sem", "kernel/sem", "300\t40000\t100\t200"),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "77"),
        ("fs/mqueue/queues_max", "fs/mqueue/queues_max", "78"),
        ("net.ipv4.ip_default_ttl", "net/ipv4/ip_default_ttl", "77"),
        ("net.ipv4.ping_group_range", "net/ipv4/ping_group_range", "5\t6"),
        ("net/ipv4/conf/lo/rp_filter", "net/ipv4/conf/lo/rp_filter", "2"),
        ("net.core.somaxconn", "net/core/somaxconn", "333"),
        ("kernel.domainname", "kernel/domainname", "by-sysctl"),
    ];
    let host = || cases.map(|(_, file, _)| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default());
    let before = host();
    let script: String = cases.iter().map(|(_, file, _)| format!("cat /proc/sys/{file};")).collect();
    let sysctls = cases.iter().map(|(key, _, value)| (key.to_string(), json!(value))).collect();
    let shown = with_sysctls(&script, Value::Object(sysctls)).run().ok();
    assert_eq!(shown.lines().collect::<Vec<_>>(), cases.map(|(_, _, value)| value));
    assert_eq!(host(), before);
}

#[test]
fn sysctls_of_the_whole_machine_are_refused() {
    if cannot_make_containers() {
        return;
    }
    let keys = [
        "kernel.panic", "kernel/core_pattern", "vm.swappiness", "fs.file-max", "kernel.msgmax.more", "net",
        "net.ipv4/../../kernel/panic", "net/../kernel/panic", "/net/ipv4/ip_forward", "net..ipv4", "",
    ];
    for key in keys {
        let error = with_sysctls("true", json!({key: "1"})).run().refused();
        let pointer = format!("config.json /linux/sysctl/{}", key.replace('/', "~1"));
        assert!(error.contains(&pointer) && error.contains("no namespace"), "{key}: {error}");
    }
}

#[test]
fn sysctls_need_a_namespace_of_the_containers_own() {
    if cannot_make_containers() {
        return;
    }
    let cases = [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc"), ("kernel.domainname", "uts")];
    for (key, kind) in cases {
        let bundle = with_sysctls("true", json!({key: "1"})).without_namespaces(&[kind]);
        let error = bundle.with(|config| drop(config.as_object_mut().unwrap().remove("hostname"))).run().refused();
        assert!(error.contains(&format!("needs a {kind} namespace")), "{key}: {error}");
    }
}

#[test]
fn sysctls_that_the_kernel_refuses_are_named() {
    if cannot_make_containers() {
        return;
    }
    for (key, value, errno) in [("net.ipv4.nosuch", "1", "ENOENT"), ("net.ipv4.ip_default_ttl", "many", "EINVAL")] {
        let error = with_sysctls("true", json!({key: value})).run().refused();
        assert!(error.contains(&format!("config.json /linux/sysctl/{key}")) && error.contains(errno), "{error}");
    }
}

/// The procfs that is written is nobody's but rspawn-setup's (CVE-2025-52881).
#[test]
fn sysctls_are_set_whatever_is_mounted_on_proc() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_sysctls("ls -A /proc/sys; cat /p/sys/kernel/msgmax", json!({"kernel.msgmax": "4321"}))
        .with_mount("/proc/sys", "tmpfs", "tmpfs", &[])
        .with_mount("/p", "proc", "proc", &[])
        .with(|config| config["linux"]["readonlyPaths"] = json!([]));
    assert_eq!(bundle.run().ok(), "4321\n");
}

#[test]
fn names_need_a_uts_namespace() {
    if cannot_make_containers() {
        return;
    }
    for name in ["hostname", "domainname"] {
        let bundle = Bundle::new().without_namespaces(&["uts"]).with(|config| {
            config.as_object_mut().unwrap().remove("hostname");
            config[name] = json!("a-name");
        });
        let error = bundle.run().refused();
        assert!(error.contains(&format!("config.json /{name}")) && error.contains("uts namespace"), "{error}");
    }
}

#[test]
fn personality_is_the_payloads() {
    if cannot_make_containers() {
        return;
    }
    let run = |domain: &str| {
        Bundle::script("uname -m; cat /proc/self/personality")
            .with(|config| config["linux"]["personality"] = json!({"domain": domain}))
            .run()
    };
    let machine = nix::sys::utsname::uname().unwrap().machine().to_string_lossy().into_owned();
    let short = if machine == "x86_64" { "i686".to_string() } else { "armv8l".to_string() };
    assert_eq!(run("LINUX32").ok(), format!("{short}\n00000008\n"));
    assert_eq!(run("LINUX").ok(), format!("{machine}\n00000000\n"));
    let error = run("LINUX23").refused();
    assert!(error.contains("/linux/personality/domain") && error.contains("LINUX32"), "{error}");
}

#[test]
fn memory_policy_is_the_payloads() {
    if cannot_make_containers() {
        return;
    }
    let run = |policy: Value| {
        Bundle::script("cut -d ' ' -f 2 /proc/self/numa_maps | sort -u")
            .with(|config| config["linux"]["memoryPolicy"] = policy)
            .run()
    };
    let cases = [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
    ];
    for (policy, shown) in cases {
        let output = run(policy.clone()).ok();
        assert!(output.lines().any(|line| line == shown), "{policy}: {output}");
    }
    let refused = [
        (json!({"mode": "MPOL_BOND", "nodes": "0"}), "/linux/memoryPolicy/mode"),
        (json!({"mode": "MPOL_BIND", "nodes": "0-"}), "/linux/memoryPolicy/nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC"]}), "/linux/memoryPolicy/flags"),
        // The kernel's word: there is no such node.
        (json!({"mode": "MPOL_BIND", "nodes": "63"}), "/linux/memoryPolicy"),
    ];
    for (policy, pointer) in refused {
        let error = run(policy.clone()).refused();
        assert!(error.contains(&format!("config.json {pointer}")), "{policy}: {error}");
    }
}

#[test]
fn the_oom_score_is_the_payloads() {
    if cannot_make_containers() {
        return;
    }
    let run = |score: Value| {
        Bundle::script("cat /proc/self/oom_score_adj /proc/1/oom_score_adj")
            .with(|config| config["process"]["oomScoreAdj"] = score)
            .run()
    };
    assert_eq!(run(json!(500)).ok(), "500\n500\n");
    assert_eq!(run(json!(1000)).ok(), "1000\n1000\n");
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(run(Value::Null).ok(), own.repeat(2), "not given: the caller's");
    for score in [1001, -1001] {
        let error = run(json!(score)).refused();
        assert!(error.contains("config.json /process/oomScoreAdj"), "{error}");
    }
}
