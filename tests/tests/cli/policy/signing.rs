//! What a person signs: the verdict beside each step, the policy spelt out, and a log that tells runs apart.
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_tests::hostile::only;
use rspawn_tests::{Bundle, Scratch, cannot_make_containers, finish, program};
use serde_json::{Value, json};

fn rspawn(words: &[&str]) -> rspawn_tests::Output {
    let mut command = Command::new(program("rspawn"));
    command.args(words);
    finish(command, b"")
}

fn policy_file(scratch: &Scratch, text: &str) -> String {
    let path = scratch.path.join("policy.conf");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_plan_has_the_verdict_beside_each_step() {
    if cannot_make_containers() {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::script("true").with_mount("/mnt", "none", "/etc", &["bind", "ro"]);
    bundle.write_config();
    let directory = bundle.path().display().to_string();
    let text = only(&format!("bind.allow = {directory}/**\ncaps.max = none"));
    let file = policy_file(&scratch, &text);
    let shown = rspawn(&["plan", "--policy", &file, &directory]).ok();
    let steps: Vec<&str> = shown.lines().filter(|line| line.starts_with("  ")).collect();
    let refused: Vec<&&str> = steps.iter().filter(|line| line.contains("refused (bind.allow): ")).collect();
    assert!(refused.iter().all(|line| line.contains("/mounts/7")) && !refused.is_empty(), "{shown}");
    assert!(steps.iter().any(|line| line.contains("granted: ")), "{shown}");
    assert!(shown.contains("refused (caps.max): "), "{shown}");
    for head in
        ["policy        refuses /mounts/7 by bind.allow: it shows the host path /etc, ", "by caps.max: it holds CAP_"]
    {
        assert!(shown.contains(head), "{head}: {shown}");
    }
    let json: Value =
        serde_json::from_str(&rspawn(&["plan", "--format=json", "--policy", &file, &directory]).ok()).unwrap();
    assert_eq!(json["policy"]["mode"], "enforce");
    let of_mount = |step: &&Value| step["origin"] == "/mounts/7";
    let steps = json["steps"].as_array().unwrap();
    assert!(steps.iter().filter(of_mount).all(|step| step["policy"] == "refused (bind.allow)"), "{json:#}");
    // A policy that grants it says so; without one there is no verdict.
    let file = policy_file(&scratch, &only(""));
    assert!(rspawn(&["plan", "--policy", &file, &directory]).ok().starts_with("policy        grants all of it\n"));
    let plain = rspawn(&["plan", &directory]).ok();
    assert!(!plain.contains("policy ") && !plain.contains("granted: "), "{plain}");
}

#[test]
fn a_policy_is_shown_with_every_default() {
    let scratch = Scratch::new();
    let file = policy_file(&scratch, "mode = enforce\nhooks.allow = /usr/bin/dockerd\n");
    let shown = rspawn(&["policy", "show", &file]).ok();
    for line in [
        "mode = enforce\n", "hooks.allow = /usr/bin/dockerd\n", "seccomp = required  # default\n",
        "join.allow = none  # default\n",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("seccomp.must-deny = acct bpf ") && shown.contains("# bind.allow = the bundle"), "{shown}");
    // It is a policy file itself, and the same one.
    let again = policy_file(&scratch, &shown);
    let without = |text: &str| text.replace("  # default", "");
    assert_eq!(without(&rspawn(&["policy", "show", &again]).ok()), without(&shown));
    assert!(rspawn(&["policy", "show", "--format=bin", &file]).status == 0);
    let missing = rspawn(&["policy", "show", "/no/such/file"]).refused();
    assert!(missing.contains("/no/such/file") && missing.contains("No such file"), "{missing}");
    // To a terminal nobody sends bytes.
    let script = format!("{} policy show --format=bin {file}", program("rspawn").display());
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-qec", &script, "/dev/null"]);
    let output = finish(on_terminal, b"");
    assert!(output.stdout.contains("binary output is for a file or a pipe"), "{output:?}");
}

#[test]
fn runs_can_be_told_apart_in_the_log() {
    if cannot_make_containers() {
        return;
    }
    let scratch = Scratch::new();
    let log = scratch.path.join("audit");
    let option = format!("--audit={}", log.display());
    let bundles = [Bundle::script("exit 3"), Bundle::script("exit 4")];
    for bundle in &bundles {
        bundle.run_with(&[&option], b"");
    }
    let refused = Bundle::script("true").with(|config| config["process"]["args"] = json!([]));
    refused.run_with(&[&option], b"").refused();
    let lines: Vec<Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let firsts: Vec<&Value> = lines.iter().filter(|line| line["phase"] == "begin").collect();
    assert_eq!(firsts.len(), 3, "{lines:#?}");
    for (first, bundle) in firsts.iter().zip(bundles.iter().chain([&refused])) {
        assert_eq!((first["op"].as_str(), first["id"].as_str()), (Some("run"), Some(bundle.id.as_str())));
        assert!(
            first["time"].as_str().unwrap().contains('T') && first["version"].is_string() && first["invoker"].is_u64()
        );
        assert_eq!(first["config_sha256"].as_str(), Some(sum(&bundle.path().join("config.json")).as_str()));
    }
    assert_ne!(firsts[0]["plan_sha256"], firsts[1]["plan_sha256"]);
    assert!(firsts[0]["plan_sha256"].as_str().unwrap().len() == 64 && firsts[2]["plan_sha256"].is_null());
    // One clock for every stage: what the stages say of one run lies between its first line and its last.
    for bundle in &bundles {
        let own: Vec<&Value> = lines.iter().filter(|line| line["id"] == bundle.id.as_str()).collect();
        let at = |line: &&Value| line["at"].as_u64().expect("microseconds");
        let stages: std::collections::BTreeSet<&str> = own.iter().filter_map(|line| line["stage"].as_str()).collect();
        assert!(stages.len() >= 3, "{stages:?}");
        let end = at(own.last().unwrap());
        assert!(own.iter().all(|line| at(line) <= end) && end < 60_000_000, "{own:#?}");
        assert!(own[1..].iter().any(|line| line["stage"] == "rspawn-init" && at(line) > 0), "{own:#?}");
    }
}

fn sum(path: &Path) -> String {
    let mut command = Command::new("sha256sum");
    command.arg(path);
    finish(command, b"").ok().split(' ').next().unwrap().to_string()
}

/// What a signer reads first of two plans: rights, in words.
#[test]
fn a_difference_says_what_became_possible() {
    let scratch = Scratch::new();
    let bundle = |change: fn(&mut Value)| {
        let bundle = Bundle::script("true").with(change);
        bundle.write_config();
        bundle
    };
    let before = bundle(|_| {});
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (|c| c["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]}), "may use a *:* rwm"),
        (|c| c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}), "sets the sysctl net.ipv4.ip_forward = 1"),
        (
            |c| c["linux"]["rootfsPropagation"] = json!("shared"),
            "shares the mounts of its root filesystem with the host",
        ),
        (
            |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}),
            "has a seccomp filter that allows everything",
        ),
        (|c| c["hooks"] = json!({"prestart": [{"path": "/bin/true"}]}), "has the prestart hook /bin/true"),
    ];
    for (change, sentence) in cases {
        let after = bundle(change);
        let words = ["plan", "--diff", before.path().to_str().unwrap(), after.path().to_str().unwrap()];
        let shown = rspawn(&words).ok();
        assert!(shown.lines().any(|line| line.contains(sentence)), "{sentence}: {shown}");
    }
    drop(scratch);
    let joins = bundle(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != "network");
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "network", "path": "/run/netns/blue"}));
    });
    let head = rspawn(&["plan", joins.path().to_str().unwrap()]).ok();
    assert!(head.contains("joins         the network namespace /run/netns/blue\n"), "{head}");
}
