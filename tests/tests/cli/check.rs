//! `rspawn check`: everything in one go, most important first, as text and for programs.
use std::fs;
use std::process::Command;

use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program};
use serde_json::{Value, json};

#[track_caller]
fn check(bundle: &Bundle, options: &[&str]) -> Output {
    bundle.write_config();
    let mut command = Command::new(program("rspawn"));
    command.arg("check").arg(bundle.path()).args(options);
    finish(command, b"")
}

#[track_caller]
fn findings(bundle: &Bundle, options: &[&str]) -> Vec<Value> {
    let output = check(bundle, &[options, &["--format=json"]].concat());
    let document: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(document["startable"], json!(output.status == 0), "{document}");
    document["findings"].as_array().unwrap().clone()
}

fn pointers(findings: &[Value], severity: &str) -> Vec<String> {
    let of_kind = findings.iter().filter(|finding| finding["severity"] == severity);
    of_kind.map(|finding| finding["pointer"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_good_bundle() {
    if cannot_make_containers() {
        return;
    }
    let output = check(&Bundle::new(), &[]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.ends_with("the bundle can be started here\n"), "{output:?}");
}

#[test]
fn errors_of_every_kind_in_one_go() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with(|config| {
        config["hostname"] = json!(7);
        config["process"]["args"] = json!([]);
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NETADMIN"]);
        config["process"]["rlimits"][0]["type"] = json!("RLIMIT_NOFIEL");
        config["process"]["noNewPriviledges"] = json!(true);
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": [], "type": "tmpfs"}));
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pidd"}));
    });
    let found = findings(&bundle, &[]);
    let errors = pointers(&found, "error");
    // What keeps others from mattering comes first.
    let expected =
        ["/process/args", "/process/rlimits/0/type", "/linux/namespaces/6/type", "/mounts/7/destination", "/hostname"];
    assert_eq!(errors, expected, "{found:#?}");
    assert_eq!(pointers(&found, "warning"), ["/process/capabilities/bounding/0"]);
    assert_eq!(pointers(&found, "note"), ["/process/noNewPriviledges"]);
    let at = |pointer: &str| found.iter().find(|finding| finding["pointer"] == pointer).unwrap();
    let namespace = at("/linux/namespaces/6/type");
    assert_eq!(namespace["suggestion"], "pid");
    assert_eq!(namespace["found"], "\"pidd\"");
    assert!(namespace["expected"].as_str().unwrap().starts_with("pid, network"));
    assert_eq!(at("/process/capabilities/bounding/0")["suggestion"], "CAP_NET_ADMIN");
    assert_eq!(at("/process/noNewPriviledges")["suggestion"], "noNewPrivileges");
    assert_eq!(at("/hostname")["found"], "7");
    assert!(findings_are_sorted(&found), "{found:#?}");
    let text = check(&bundle, &[]).stdout;
    let error =
        "error: /linux/namespaces/6/type: there is no namespace \"pidd\" (did you mean pid?)\n    expected  pid,";
    assert!(text.contains(error) && text.contains("\n    try       pid\n"), "{text}");
    assert!(text.ends_with("the bundle cannot be started here: 5 errors\n"), "{text}");
}

fn findings_are_sorted(findings: &[Value]) -> bool {
    let rank = |finding: &Value| ["error", "warning", "note"].iter().position(|s| finding["severity"] == *s);
    findings.is_sorted_by_key(rank)
}

#[test]
fn what_is_not_on_this_machine_is_said_before_anything_starts() {
    if cannot_make_containers() {
        return;
    }
    let file = Scratch::new();
    fs::write(file.path.join("file"), "").unwrap();
    let missing = file.path.join("missing");
    let bundle = Bundle::new()
        .with_mount("/a", "bind", missing.to_str().unwrap(), &["bind"])
        .with_mount("/b", "bind", "/etc", &["rbind"])
        .with_mount("/c", "nosuchfs", "none", &[]);
    let found = findings(&bundle, &[&format!("--bind={}/missing2", file.path.display())]);
    let errors = pointers(&found, "error");
    let option = format!("--bind={}/missing2", file.path.display());
    assert_eq!(errors, ["/mounts/7".to_string(), "/mounts/9".to_string(), option], "{found:#?}");
    assert!(found[0]["message"].as_str().unwrap().contains("ENOENT"));
    assert!(found[1]["message"].as_str().unwrap().contains("does not know the filesystem \"nosuchfs\""));
    fs::remove_dir_all(bundle.rootfs()).unwrap();
    fs::write(bundle.rootfs(), "").unwrap();
    assert!(pointers(&findings(&bundle, &[]), "error").contains(&"/root/path".to_string()));
    // An AppArmor profile where the kernel has none.
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        let bundle = Bundle::new().with(|config| config["process"]["apparmorProfile"] = json!("x"));
        assert_eq!(pointers(&findings(&bundle, &[]), "error"), ["/process/apparmorProfile"]);
    }
}

#[test]
fn another_user_is_told_what_it_lacks() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    bundle.write_config();
    // Where that user can reach it, and the program as well.
    let public = Scratch::new();
    let script = format!(
        "cp {} {}/rspawn && chmod 755 {1} && chmod -R a+rX {} && exec setpriv --reuid=65534 --regid=65534 \
         --clear-groups {1}/rspawn check {2}",
        program("rspawn").display(),
        public.path.display(),
        bundle.path().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let output = finish(command, b"");
    // nobody has no subordinate ids.
    assert!(output.stdout.contains("note: machine: the container can have only your own ids: "), "{output:?}");
    assert!(output.stdout.contains("note: /linux/namespaces: a user namespace is added"), "{output:?}");
}

#[test]
fn the_policy_is_asked() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let policy = bundle.path().join("policy.conf");
    let option = format!("--policy={}", policy.display());
    for (mode, severity) in [("enforce", "error"), ("warn", "warning")] {
        fs::write(&policy, format!("mode = {mode}\nseccomp = required\n")).unwrap();
        let found = findings(&bundle, &[&option]);
        let said = found.iter().find(|finding| finding["message"].as_str().unwrap().contains("the policy (seccomp)"));
        assert_eq!(said.unwrap_or_else(|| panic!("{found:#?}"))["severity"], severity);
    }
}

#[test]
fn settings_without_effect_are_listed_with_the_reason() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let path = bundle.path().join("x.nspawn");
    fs::write(&path, "[Exec]\nNotifyReady=yes\nUsr=x\n[Network]\nZone=a\n[Files]\nBind=-/nonexistent\n").unwrap();
    let found = findings(&bundle, &[&format!("--settings={}", path.display())]);
    assert!(pointers(&found, "error").is_empty(), "{found:#?}");
    let notes: Vec<String> = found
        .iter()
        .map(|note| format!("{}: {}", note["pointer"].as_str().unwrap(), note["message"].as_str().unwrap()))
        .collect();
    for expected in [
        "x.nspawn:2 NotifyReady=: ignored: READY=1 is passed on whenever NOTIFY_SOCKET is set",
        "x.nspawn:5 Zone=: ignored: networks are made by",
        "x.nspawn:7 Bind=: left out: \"/nonexistent\" does not exist",
    ] {
        assert!(notes.iter().any(|note| note.starts_with(expected)), "{expected}: {notes:#?}");
    }
    assert!(notes.iter().any(|note| note.contains("has no key \"Usr\" (did you mean User?)")), "{notes:#?}");
}

/// What a bundle calls things does not command the terminal that it is shown on.
#[test]
fn hostile_names_are_written_out() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with(|config| {
        config["linux"]["sysctl"] = json!({"net.\u{1b}[2J": "1"});
        config["\u{9b}2J"] = json!(1);
    });
    let text = check(&bundle, &[]).stdout;
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let error = bundle.run().refused();
    assert!(!error.chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
}

/// What is found has no form in binary.
#[test]
fn only_a_plan_is_bytes() {
    let output = check(&Bundle::new(), &["--format=bin"]);
    assert_eq!(output.stderr, "rspawn: check --format=bin: findings have no binary form: use text or json\n");
    assert_eq!((output.status, output.stdout.as_str()), (1, ""));
}
