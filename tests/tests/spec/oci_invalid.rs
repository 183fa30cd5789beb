//! `--oci-bundle`: what is wrong with a bundle is an error at its place, or a documented note. Each snippet is merged into
//! the smallest bundle.
use rspawn_tests::silent::{command, look, run, silent};
use rspawn_tests::{Bundle, cannot_make_containers, finish};
use serde_json::{Value, json};

/// As RFC 7396 merges, but for lists, which are replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value));
        }
        (into, from) => *into = from.clone(),
    }
}

fn with(snippet: &Value) -> Bundle {
    silent().with(|config| merge(config, snippet))
}

/// The snippets, each with where the error is. The specification is the OCI runtime specification 1.3.
fn errors() -> Vec<(Value, &'static str)> {
    let rule = |rule: Value| json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}});
    let mount = |mount: Value| json!({"mounts": [mount]});
    let device = |device: Value| json!({"linux": {"devices": [device]}});
    let hook = |hook: Value| json!({"hooks": {"prestart": [hook]}});
    let namespaces = |list: Value| json!({"linux": {"namespaces": list}});
    let limit = |limit: Value| json!({"process": {"rlimits": [limit]}});
    let own = json!({"type": "mount"});
    vec![
        (json!({"ociVersion": "6.6.6"}), "/ociVersion"),
        (json!({"ociVersion": ""}), "/ociVersion"),
        (json!({"root": {"path": "no/such"}}), "/root/path"),
        (json!({"root": {"path": "../../etc"}}), "/root/path"),
        (json!({"root": {"path": ""}}), "/root/path"),
        (json!({"root": null}), "/root"),
        (json!({"root": {"readonly": "yes"}}), "/root/readonly"),
        (json!({"process": {"args": []}}), "/process/args"),
        (json!({"process": {"args": [""]}}), "/process/args/0"),
        (json!({"process": {"args": "sh"}}), "/process/args"),
        (json!({"process": {"cwd": "relative"}}), "/process/cwd"),
        (json!({"process": {"env": ["no assignment"]}}), "/process/env/0"),
        (json!({"process": {"env": ["=value"]}}), "/process/env/0"),
        (json!({"process": {"consoleSize": {"height": 70000, "width": 80}}}), "/process/consoleSize/height"),
        (json!({"process": {"user": {"uid": -1, "gid": 0}}}), "/process/user/uid"),
        (json!({"process": {"oomScoreAdj": 2000}}), "/process/oomScoreAdj"),
        (limit(json!({"type": "RLIMIT_FOO", "soft": 1, "hard": 1})), "/process/rlimits/0/type"),
        (limit(json!({"type": "RLIMIT_CORE", "soft": 2, "hard": 1})), "/process/rlimits/0/soft"),
        (mount(json!({"type": "tmpfs"})), "/mounts/0"),
        (mount(json!({"destination": "/"})), "/mounts/0/destination"),
        (mount(json!({"destination": "/x", "source": "data"})), "/mounts/0/type"),
        (mount(json!({"destination": "/x", "type": "bind", "source": "no/such"})), "/mounts/0"),
        (namespaces(json!([])), "/linux/namespaces"),
        (namespaces(json!([{"type": "pid"}])), "/linux/namespaces"),
        (namespaces(json!([own, {"type": "foo"}])), "/linux/namespaces/1/type"),
        (namespaces(json!([own, own])), "/linux/namespaces/1/type"),
        (namespaces(json!([own, {"type": "network", "path": "relative"}])), "/linux/namespaces/1/path"),
        (namespaces(json!([own, {"type": "user"}])), "/linux/uidMappings"),
        (device(json!({"path": "/dev/x", "type": "z"})), "/linux/devices/0/type"),
        (device(json!({"path": "/dev/x", "type": "c"})), "/linux/devices/0/major"),
        (device(json!({"path": "x", "type": "p"})), "/linux/devices/0/path"),
        (json!({"linux": {"sysctl": {"kernel.panic": "1"}}}), "/linux/sysctl/kernel.panic"),
        (json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}}), "/linux/sysctl/net.ipv4.ip_forward"),
        (json!({"linux": {"rootfsPropagation": "foo"}}), "/linux/rootfsPropagation"),
        (
            json!({"linux": {"resources": {"devices": [{"allow": true, "access": "x"}]}}}),
            "/linux/resources/devices/0/access",
        ),
        (json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_FOO"}}}), "/linux/seccomp/defaultAction"),
        (rule(json!({"names": [], "action": "SCMP_ACT_ERRNO"})), "/linux/seccomp/syscalls/0/names"),
        (rule(json!({"names": [""], "action": "SCMP_ACT_ERRNO"})), "/linux/seccomp/syscalls/0/names/0"),
        (rule(json!({"names": ["open"], "action": ""})), "/linux/seccomp/syscalls/0/action"),
        (
            rule(
                json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
            ),
            "/linux/seccomp/syscalls/0/args/0/index",
        ),
        (hook(json!({"path": "relative"})), "/hooks/prestart/0/path"),
        (hook(json!({"path": "/bin/true", "timeout": 0})), "/hooks/prestart/0/timeout"),
        (hook(json!({"path": "/bin/true", "timeout": -1})), "/hooks/prestart/0/timeout"),
        (hook(json!({"args": ["true"]})), "/hooks/prestart/0"),
        (json!({"annotations": {"": "x"}}), "/annotations/"),
        (json!({"annotations": {"a": 7}}), "/annotations/a"),
    ]
}

#[test]
fn what_is_wrong_is_an_error_at_its_place() {
    if cannot_make_containers() {
        return;
    }
    let errors = errors();
    assert!(errors.len() >= 30);
    for (snippet, pointer) in errors {
        let bundle = with(&snippet);
        let is_about_args = pointer.starts_with("/process/args");
        let words: &[&str] = if is_about_args { &[] } else { &["--", "true"] };
        let error = run(&bundle, words).refused();
        assert!(error.contains(&format!("config.json {pointer}: ")), "{snippet}: {error}");
        // `check` says the same.
        let found = look(&bundle, "check", words);
        assert!(found.status == 1 && found.stdout.contains(&format!("error: {pointer}: ")), "{snippet}: {found:?}");
    }
}

/// Not so with `--bundle`, where an engine has written every part: the three that the specification calls errors.
#[test]
fn three_errors_of_the_specification_are_errors_of_every_bundle() {
    if cannot_make_containers() {
        return;
    }
    for (snippet, pointer) in [
        (json!({"annotations": {"": "x"}}), "/annotations/"),
        (
            json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}}}),
            "/linux/seccomp/syscalls/0/names",
        ),
        (json!({"hooks": {"poststop": [{"path": "/bin/true", "timeout": 0}]}}), "/hooks/poststop/0/timeout"),
    ] {
        let bundle = Bundle::script("true").with(|config| merge(config, &snippet));
        let error = bundle.run().refused();
        assert!(error.contains(&format!("config.json {pointer}: ")), "{snippet}: {error}");
    }
}

/// What systemd-nspawn refuses and rspawn does not: it runs, and `check` says what has no effect.
#[test]
fn what_is_no_error_is_said() {
    if cannot_make_containers() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    for (snippet, note) in [
        (json!({"ociVersion": "1.2.0-dev"}), ""),
        (json!({"unknown": 1}), "/unknown: ignored"),
        (json!({"process": {"terminal": false, "noNewPriviledges": true}}), "/process/noNewPriviledges: ignored"),
        (
            json!({"mounts": [{"destination": "relative", "type": "tmpfs"}]}),
            "/mounts/0/destination: the path \"relative\" is not absolute",
        ),
        (
            json!({"mounts": [{"destination": "/proc", "type": "proc"}]}),
            "/mounts/0: systemd-nspawn would ignore this entry",
        ),
        (json!({"linux": {"uidMappings": map}}), "/linux/uidMappings: ignored"),
        (
            json!({"linux": {"maskedPaths": ["relative"]}}),
            "/linux/maskedPaths/0: the path \"relative\" is not absolute",
        ),
        (json!({"process": {"capabilities": {"bounding": ["CAP_FOO"]}}}), "/process/capabilities/bounding/0"),
        (json!({"linux": {"personality": {"domain": "LINUX", "flags": ["x"]}}}), "/linux/personality/flags: ignored"),
    ] {
        let bundle = with(&snippet);
        let output = finish(command(&bundle, &["--console=pipe", "--", "echo", "it runs"]), b"");
        assert_eq!((output.status, output.stdout.as_str()), (0, "it runs\n"), "{snippet}: {output:?}");
        let found = look(&bundle, "check", &["--", "true"]);
        assert!(found.status == 0 && found.stdout.contains(note), "{snippet}: {found:?}");
    }
}
