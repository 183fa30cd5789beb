//! Malformed and hostile configurations, images and bundles: each is refused with one error that names the place, or
//! does what the specification says; the host stays as it is, and nothing is left.
#[path = "bad_input/table.rs"]
mod table;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use rspawn_planner::problem::Problem;
use rspawn_tests::hostile::{Canaries, options};
use rspawn_tests::{Bundle, Scratch, cannot_make_containers, finish, program};
use serde_json::{Value, json};
use table::{entries, put};

fn problems(config: &[u8]) -> Vec<Problem> {
    match rspawn_planner::oci::parse(config) {
        Err(problem) => vec![problem],
        Ok(spec) => rspawn_planner::plan(
            &spec,
            &rspawn_host::facts::gather().expect("facts"),
            &options("bad", "/bundle".as_ref()),
        )
        .err()
        .unwrap_or_default(),
    }
}

#[test]
fn every_error_names_its_place() {
    let scratch = Bundle::new();
    let entries = entries();
    assert!(entries.len() >= 200, "only {}", entries.len());
    let mut failures = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let mut config = scratch.config.clone();
        put(&mut config, &entry.at, entry.value.clone());
        let name: String = format!("{} = {}", entry.at, entry.value).chars().take(150).collect();
        let text = config.to_string();
        let found = problems(text.as_bytes());
        if !found.iter().any(|problem| problem.pointer == entry.pointer) {
            failures.push(format!("{name}: expected an error at {}: {:.300}", entry.pointer, format!("{found:?}")));
            continue;
        }
        fs::write(scratch.path().join("config.json"), &text).unwrap();
        let ask = |verb: &str| {
            let mut command = Command::new(program("rspawn"));
            match verb {
                "run" => command.args(["run", "--bundle"]).arg(scratch.path()).arg(&scratch.id),
                _ => command.arg(verb).arg(scratch.path()),
            };
            finish(command, b"")
        };
        let output = ask("check");
        let line = format!("error: {}: ", entry.pointer);
        if output.status != 1 || !output.stdout.lines().any(|l| l.starts_with(&line)) {
            failures.push(format!("{name}: rspawn check: {output:.300?}"));
        }
        // A third of them to the end.
        if index % 3 == 0 && rspawn_tests::is_root() {
            let error = ask("run").refused();
            if !error.lines().any(|l| l.starts_with(&format!("rspawn: config.json {}: ", entry.pointer))) {
                failures.push(format!("{name}: rspawn run: {error:.300}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), entries.len(), failures.join("\n"));
    scratch.assert_nothing_left();
}

/// A misspelt word is named with its entry and with what was probably meant.
#[test]
fn what_was_probably_meant_is_said() {
    if cannot_make_containers() {
        return;
    }
    for (at, value, meant) in [
        ("/linux/namespaces/0/type", json!("pdi"), "pid"),
        ("/linux/rootfsPropagation", json!("rslav"), "rslave"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALOW"}), "SCMP_ACT_ALLOW"),
        ("/linux/personality", json!({"domain": "LINUX23"}), "LINUX32"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BINDD", "nodes": "0"}), "MPOL_BIND"),
        ("/process/rlimits/0/type", json!("RLIMIT_NOFIEL"), "RLIMIT_NOFILE"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHR"}), "SCHED_OTHER"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BES", "priority": 1}), "IOPRIO_CLASS_BE"),
        ("/mounts/1/type", json!("tmpf"), "tmpfs"),
        ("/mounts/1/options/0", json!("nosiud"), "nosuid"),
    ] {
        let mut bundle = Bundle::script("true");
        put(&mut bundle.config, at, value);
        let error = bundle.run().refused();
        let entry = at.trim_end_matches("/type").trim_end_matches("/0");
        assert!(error.contains(entry) && error.contains(&format!("(did you mean {meant}?)")), "{at}: {error}");
    }
}

#[test]
fn truncated_and_garbled_documents_are_refused() {
    let bundle = Bundle::new();
    let text = bundle.config.to_string();
    for length in 0..text.len() {
        let found = problems(&text.as_bytes()[..length]);
        assert_eq!(found.len(), 1, "cut at {length}");
        assert!(found[0].message.contains("line 1"), "cut at {length}: {found:?}");
    }
    let deep = format!("{{\"ociVersion\":{}1", "[".repeat(200_000));
    let deep_ignored = format!("{{\"x\":{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let twice = text.replacen('{', "{\"ociVersion\":\"1.0.0\",", 1);
    let garbled: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"{}".to_vec(),
        b"{\"ociVersion\":\"1.0.0\"}{}".to_vec(),
        [text.as_bytes(), b"x"].concat(),
        [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
        b"\xff\xfe{\x00".to_vec(),
        vec![0; 4096],
        deep.into_bytes(),
        deep_ignored.into_bytes(),
        twice.into_bytes(),
        text.replace("\"sh\"", "\"\\ud800\"").into_bytes(),
        [&text.as_bytes()[..20], b"\xff\xff", &text.as_bytes()[20..]].concat(),
    ];
    for (index, bytes) in garbled.iter().enumerate() {
        assert!(!problems(bytes).is_empty(), "document {index} is accepted");
        fs::write(bundle.path().join("config.json"), bytes).unwrap();
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(bundle.state_root()).args(["run", "--bundle"]).arg(bundle.path()).arg(&bundle.id);
        let error = finish(command, b"").refused();
        assert!(error.starts_with("rspawn: config.json"), "document {index}: {error}");
    }
    fs::write(bundle.path().join("config.json"), vec![b' '; (32 << 20) + 1]).unwrap();
    let mut command = Command::new(program("rspawn"));
    command.arg("check").arg(bundle.path());
    assert!(finish(command, b"").refused().contains("larger than 32 MiB"));
    bundle.assert_nothing_left();
}

/// What is large is refused, or works; before the harness takes it for hung, either way.
#[test]
fn size_is_no_weapon() {
    let bundle = Bundle::new();
    let many = |pointer: &str, count: usize, make: &dyn Fn(usize) -> Value| {
        let mut config = bundle.config.clone();
        put(&mut config, pointer, (0..count).map(make).collect());
        config.to_string().into_bytes()
    };
    let map = |i: usize| json!({"containerID": i, "hostID": i, "size": 1});
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("mounts", many("/mounts", 100_000, &|i| json!({"destination": format!("/m{i}"), "type": "tmpfs"}))),
        ("binds", many("/mounts", 20_000, &|_| json!({"destination": "/m", "source": "/etc", "options": ["bind"]}))),
        ("id maps", many("/linux/uidMappings", 100_000, &map)),
        ("network devices", {
            let mut config = bundle.config.clone();
            let devices: serde_json::Map<_, _> = (0..100_000).map(|i| (format!("eth{i}"), json!({}))).collect();
            put(&mut config, "/linux/netDevices", devices.into());
            config.to_string().into_bytes()
        }),
        ("capabilities", many("/process/capabilities/bounding", 200_000, &|i| json!(format!("CAP_SYS_NICF{i}")))),
        (
            "limits",
            many("/process/rlimits", 200_000, &|i| json!({"type": format!("RLIMIT_NO{i}"), "soft": 0, "hard": 0})),
        ),
        ("devices", many("/linux/devices", 100_000, &|i| json!({"path": format!("/dev/x{i}"), "type": "p"}))),
        ("namespaces", many("/linux/namespaces", 200_000, &|_| json!({"type": "pidd"}))),
        ("arguments", many("/process/args", 1_000_000, &|_| json!("x"))),
        ("variables", many("/process/env", 300_000, &|i| json!(format!("A{i}=x")))),
        ("a long argument", many("/process/args", 2, &|_| json!("x".repeat(4 << 20)))),
        ("masks", many("/linux/maskedPaths", 100_000, &|i| json!(format!("/m{i}")))),
        ("calls", many("/linux/seccomp", 1, &|_| json!(0))),
    ];
    for (name, config) in cases {
        fs::write(bundle.path().join("config.json"), &config).unwrap();
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(bundle.state_root()).args(["run", "--bundle"]).arg(bundle.path()).arg(&bundle.id);
        let output = finish(command, b"");
        // Unknown capabilities are left out, as the specification wants it.
        if name == "capabilities" {
            assert!(output.status <= 1 && !output.stderr.contains("panicked"), "{name}: {:.300}", output.stderr);
        } else if rspawn_tests::is_root() {
            assert_eq!(output.status, 1, "{name}: {:.200}", output.stderr);
            assert!(output.stderr.starts_with("rspawn: config.json /"), "{name}: {:.300}", output.stderr);
            assert!(output.stderr.len() < 20_000, "{name}: {} bytes of error", output.stderr.len());
        }
    }
    bundle.assert_nothing_left();
}

/// The first process ends while rspawn-setup goes on with what it needs it for: the error is always the first one's.
#[test]
fn what_cannot_be_executed_is_said_in_the_same_words() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with(|config| config["process"]["env"] = json!([format!("A={}", "x".repeat(200_000))]));
    for _ in 0..30 {
        let text = bundle.run().refused();
        let said =
            "rspawn: config.json /process/args: execute rspawn-init in the container's first process: execveat: E2BIG";
        assert!(text.starts_with(said), "{text}");
    }
}

/// Images whose links point at the host's files.
#[test]
fn links_of_the_image_end_inside_it() {
    if cannot_make_containers() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.path.join("host");
    let canaries = Canaries::lay_out(&outside);
    let up = "../".repeat(30);
    let host = outside.to_str().unwrap().to_string();
    let climbing = format!("{up}{}", host.trim_start_matches('/'));
    type Change<'a> = Box<dyn Fn(Bundle) -> Bundle + 'a>;
    let mut cases: Vec<(String, Change)> = Vec::new();
    for target in
        [host.clone(), climbing.clone(), format!("{host}/dir"), format!("{host}/secret"), "/link".into(), "link".into()]
    {
        for (what, destination) in
            [("a mount on", "/link"), ("a mount below", "/link/below/it"), ("a mount beside", "/link/../x")]
        {
            let target = target.clone();
            cases.push((
                format!("{what} a link to {target}"),
                Box::new(move |b| {
                    symlink(&target, b.rootfs().join("link")).unwrap();
                    b.with_mount(destination, "tmpfs", "tmpfs", &[])
                }),
            ));
        }
        let file = target.clone();
        let lay = move |b: &Bundle| symlink(&file, b.rootfs().join("link")).unwrap();
        let (a, b, c, d, e) = (lay.clone(), lay.clone(), lay.clone(), lay.clone(), lay);
        cases.push((
            format!("a mask of a link to {target}"),
            Box::new(move |x| {
                a(&x);
                x.with(|config| put(config, "/linux/maskedPaths/0", json!("/link")))
            }),
        ));
        cases.push((
            format!("a read-only link to {target}"),
            Box::new(move |x| {
                b(&x);
                x.with(|config| put(config, "/linux/readonlyPaths/0", json!("/link")))
            }),
        ));
        cases.push((
            format!("a device at a link to {target}"),
            Box::new(move |x| {
                c(&x);
                x.with(|config| {
                    put(
                        config,
                        "/linux/devices",
                        json!([{"path": "/link/null", "type": "c", "major": 1, "minor": 3, "uid": 7}]),
                    )
                })
            }),
        ));
        cases.push((
            format!("a directory at a link to {target}"),
            Box::new(move |x| {
                d(&x);
                x.with(|config| put(config, "/process/cwd", json!("/link/new")))
            }),
        ));
        cases.push((
            format!("copied up from a link to {target}"),
            Box::new(move |x| {
                e(&x);
                x.with_mount("/link", "tmpfs", "tmpfs", &["tmpcopyup"])
            }),
        ));
        for system in ["proc", "sys", "dev", "dev/pts"] {
            let target = target.clone();
            cases.push((
                format!("/{system} is a link to {target}"),
                Box::new(move |x| {
                    let at = x.rootfs().join(system);
                    let _ = fs::remove_dir(&at);
                    fs::create_dir_all(at.parent().unwrap()).unwrap();
                    symlink(&target, at).unwrap();
                    x
                }),
            ));
        }
    }
    for (name, change) in &cases {
        let bundle = change(Bundle::script("cat /link/secret /link 2>/dev/null; exit 0"));
        let output = bundle.run_with(&[], b"");
        assert!(!output.stdout.contains("the host's secret"), "{name}: the payload read the host's file");
        assert!(output.status == 0 || output.stderr.starts_with("rspawn: "), "{name}: {output:?}");
        assert!(output.status != 70 && !output.stderr.contains("a bug"), "{name}: {output:?}");
        canaries.assert_untouched();
    }
    assert!(cases.len() >= 60, "{}", cases.len());
}

/// What the planner cannot know to be wrong is refused by the step that finds out, with its origin.
#[test]
fn what_only_the_machine_knows_is_wrong_is_said_as_well() {
    if cannot_make_containers() {
        return;
    }
    for (at, value, error) in [
        ("/root/path", json!("missing"), "config.json /root/path: "),
        ("/root/path", json!("config.json"), "config.json /root/path: "),
        (
            "/mounts/7",
            json!({"destination": "/m", "source": "/nonexistent", "options": ["bind"]}),
            "config.json /mounts/7: ",
        ),
        ("/mounts/7", json!({"destination": "/m", "type": "nofs"}), "config.json /mounts/7: "),
        ("/mounts/7", json!({"destination": "/m", "type": "tmpfs", "options": ["size=x"]}), "config.json /mounts/7: "),
        ("/mounts/7", json!({"destination": "/bin/busybox/x", "type": "tmpfs"}), "config.json /mounts/7: "),
        (
            "/mounts/7",
            json!({"destination": "/m", "source": "/proc/self/exe", "options": ["bind"]}),
            "config.json /mounts/7: ",
        ),
        (
            "/mounts/7",
            json!({"destination": "/m", "source": "/proc/self/root/etc", "options": ["bind"]}),
            "config.json /mounts/7: ",
        ),
        ("/linux/namespaces/1/path", json!("/nonexistent"), "config.json /linux/namespaces/1: "),
        ("/linux/namespaces/1/path", json!("/etc/passwd"), "config.json /linux/namespaces/1: "),
        ("/linux/namespaces/1/path", json!("/dev/zero"), "config.json /linux/namespaces/1: "),
        ("/linux/namespaces/1/path", json!("/proc/self/ns/uts"), "config.json /linux/namespaces/1: "),
        ("/linux/namespaces/3/path", json!("/proc/self/ns/uts"), "config.json /linux/namespaces/3: "),
        (
            "/linux/devices",
            json!([{"path": "/etc", "type": "c", "major": 1, "minor": 3}]),
            "config.json /linux/devices/0: ",
        ),
        ("/linux/sysctl", json!({"net.ipv4.nothing": "1"}), "config.json /linux/sysctl/net.ipv4.nothing: "),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "many"}), "config.json /linux/sysctl/net.ipv4.ip_forward: "),
        ("/process/cwd", json!("/bin/busybox"), "config.json /process/cwd: "),
        ("/process/args", json!(["/missing"]), "exec: \"/missing\": stat /missing: no such file or directory"),
        ("/process/args", json!(["/etc"]), "exec: \"/etc\": is a directory"),
        ("/process/args", json!(["missing"]), "exec: \"missing\": executable file not found in $PATH"),
        ("/process/args", json!(["sh", "x".repeat(200_000)]), "config.json /process/args"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "4000"}), "config.json /linux/memoryPolicy: "),
        ("/linux/maskedPaths", json!(["/loop/a"]), "config.json /linux/maskedPaths/0: "),
        ("/linux/readonlyPaths", json!(["/loop"]), "config.json /linux/readonlyPaths/0: "),
        ("/mounts/7", json!({"destination": "/loop/x", "type": "tmpfs"}), "config.json /mounts/7: "),
    ] {
        let bundle = Bundle::script("echo ran").with(|config| put(config, at, value.clone()));
        symlink("pool", bundle.rootfs().join("loop")).unwrap();
        symlink("loop", bundle.rootfs().join("pool")).unwrap();
        let output = bundle.run_with(&[], b"");
        let case: String = format!("{at} = {value}").chars().take(200).collect();
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{case}: {:.400}", output.stderr);
        assert!(output.stderr.starts_with(&format!("rspawn: {error}")), "{case}: {:.400}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{case}: {:.400}", output.stderr);
    }
}
