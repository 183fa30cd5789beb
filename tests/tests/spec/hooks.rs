//! `hooks` (config.md, "POSIX-platform Hooks"): when and where they run, what they get, and what their failure means.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::hostile::only;
use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, cannot_make_containers, skip_unless, wait_for};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that is a shell script, of the host's shell or, for startContainer, of the container's.
fn script(text: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]})
}

/// A container with an idle payload and these hooks. `@` in a script stands for the bundle's directory, or for the
/// root where the hook is the container's.
fn with_hooks(hooks: &[(&str, &str)]) -> Life {
    let bundle = Bundle::script("touch /ran; exec sleep 1000");
    let directory = bundle.path().to_str().unwrap().to_string();
    Life::new(bundle.with(|config| {
        config["hooks"] = json!({});
        for (kind, text) in hooks {
            let place = if *kind == "startContainer" { "" } else { directory.as_str() };
            let list = &mut config["hooks"][*kind];
            if list.is_null() {
                *list = json!([]);
            }
            list.as_array_mut().unwrap().push(script(&text.replace('@', place)));
        }
    }))
}

/// A file of the bundle's directory.
fn file(life: &Life, name: &str) -> String {
    fs::read_to_string(life.bundle.path().join(name)).unwrap_or_default()
}

#[test]
fn all_six_kinds_run_in_order() {
    if cannot_make_containers() {
        return;
    }
    // Two of each kind, which run in the order of the list. The container's own write where the host can read it.
    let mut hooks = Vec::new();
    let texts: Vec<String> =
        KINDS.iter().flat_map(|kind| [1, 2].map(|n| format!("sleep 0.05; echo {kind} {n} >> @/log"))).collect();
    for (index, kind) in KINDS.iter().enumerate() {
        hooks.push((*kind, texts[2 * index].as_str()));
        hooks.push((*kind, texts[2 * index + 1].as_str()));
    }
    for init in ["--init=supervise", "--init=exec"] {
        let life = with_hooks(&hooks);
        let rootfs = life.bundle.rootfs();
        let lines = |kinds: &[&str]| -> String { kinds.iter().map(|k| format!("{k} 1\n{k} 2\n")).collect() };
        life.created(&[init]);
        assert_eq!(file(&life, "log"), lines(&KINDS[..3]));
        assert_eq!(life.file("log"), "");
        // The payload waits for all of its own.
        life.started();
        assert_eq!(life.file("log"), lines(&KINDS[3..4]));
        assert_eq!(file(&life, "log"), lines(&["prestart", "createRuntime", "createContainer", "poststart"]));
        wait_for("the payload runs", || rootfs.join("ran").exists());
        life.stop();
        life.delete(&[]).ok();
        assert!(file(&life, "log").ends_with(&lines(&["poststart", "poststop"])), "{}", file(&life, "log"));
        life.assert_gone();
    }
    // In one command all of them run as well.
    for options in [["--detach"].as_slice(), &[]] {
        let life = with_hooks(&hooks);
        let (child, paths) = life.spawn(&mut life.making("run", options));
        wait_for("poststart", || file(&life, "log").contains("poststart 2"));
        life.delete(&["--force"]).ok();
        life.outcome(child, &paths);
        let host = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        let expected: String = host.iter().map(|k| format!("{k} 1\n{k} 2\n")).collect();
        assert_eq!(file(&life, "log"), expected, "{options:?}");
        assert_eq!(life.file("log"), "startContainer 1\nstartContainer 2\n");
        life.assert_gone();
    }
}

const NAMESPACES: [&str; 6] = ["mnt", "pid", "net", "uts", "ipc", "cgroup"];

/// The namespaces of a process, by kind.
fn namespaces_of(pid: &str) -> BTreeMap<&'static str, String> {
    let of = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    NAMESPACES.iter().map(|kind| (*kind, of(kind))).collect()
}

fn parse_namespaces(text: &str) -> BTreeMap<&'static str, String> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(kind, link)| (*NAMESPACES.iter().find(|k| **k == kind).unwrap(), link.to_string())).collect()
}

#[test]
fn each_kind_runs_in_its_namespaces() {
    if cannot_make_containers() {
        return;
    }
    let look = "for kind in mnt pid net uts ipc cgroup; do echo $kind $(readlink /proc/self/ns/$kind); done > @/ns.";
    let texts: Vec<String> = KINDS.iter().map(|kind| format!("{look}{kind}")).collect();
    let hooks: Vec<(&str, &str)> = KINDS.iter().zip(&texts).map(|(kind, text)| (*kind, text.as_str())).collect();
    let life = with_hooks(&hooks);
    life.created(&[]).started();
    let container = namespaces_of(&life.pid().to_string());
    let mut host = namespaces_of("self");
    life.delete(&["--force"]).ok();
    for kind in KINDS {
        let inside = ["createContainer", "startContainer"].contains(&kind);
        let name = format!("ns.{kind}");
        let seen = if kind == "startContainer" { life.file(&name) } else { file(&life, &name) };
        let seen = parse_namespaces(&seen);
        if life.bundle.user.is_some() && !inside {
            // The tests' users have mounts of their own.
            assert_ne!(seen["mnt"], container["mnt"], "{kind}");
            host.insert("mnt", seen["mnt"].clone());
        }
        assert_eq!(&seen, if inside { &container } else { &host }, "{kind}");
    }
}

#[test]
fn the_state_is_on_stdin() {
    if cannot_make_containers() {
        return;
    }
    let texts: Vec<String> = KINDS.iter().map(|kind| format!("cat > @/state.{kind}")).collect();
    for init in ["--init=supervise", "--init=exec"] {
        let hooks: Vec<(&str, &str)> = KINDS.iter().zip(&texts).map(|(kind, text)| (*kind, text.as_str())).collect();
        let mut life = with_hooks(&hooks);
        life.bundle.config["annotations"] = json!({"key": "a \"value\""});
        life.bundle.write_config();
        life.created(&[init]).started();
        let pid = life.pid();
        life.delete(&["--force"]).ok();
        for (kind, status, pid) in [
            ("prestart", "creating", Some(pid)),
            ("createRuntime", "creating", Some(pid)),
            ("createContainer", "creating", Some(1)),
            ("startContainer", "created", Some(1)),
            ("poststart", "running", Some(pid)),
            ("poststop", "stopped", None),
        ] {
            let name = format!("state.{kind}");
            let text = if kind == "startContainer" { life.file(&name) } else { file(&life, &name) };
            let mut expected = json!({
                "ociVersion": "1.3.0", "id": life.id(), "status": status, "bundle": life.bundle.path(),
                "annotations": {"key": "a \"value\""},
            });
            if let Some(pid) = pid {
                expected["pid"] = json!(pid);
            }
            let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error}: {text}"));
            assert_eq!(state, expected, "{kind} {init}");
        }
    }
}

/// Annotations of a Kubernetes object may be 256 KiB: more than any other message holds.
#[test]
fn the_state_may_be_large() {
    if cannot_make_containers() {
        return;
    }
    let texts: Vec<String> = KINDS.iter().map(|kind| format!("wc -c > @/size.{kind}")).collect();
    let hooks: Vec<(&str, &str)> = KINDS.iter().zip(&texts).map(|(kind, text)| (*kind, text.as_str())).collect();
    let mut life = with_hooks(&hooks);
    life.bundle.config["annotations"] = json!({"key": "x".repeat(256 << 10)});
    life.bundle.write_config();
    life.created(&[]).started();
    assert_eq!(life.status(), "running");
    assert_eq!(life.state().unwrap()["annotations"]["key"].as_str().unwrap().len(), 256 << 10);
    life.delete(&["--force"]).ok();
    for kind in KINDS {
        let name = format!("size.{kind}");
        let size = if kind == "startContainer" { life.file(&name) } else { file(&life, &name) };
        assert!(size.trim().parse::<usize>().is_ok_and(|size| size > 256 << 10), "{kind}: {size:?}");
    }
    life.assert_gone();
}

#[test]
fn arguments_and_environment_are_those_configured_and_nothing_else() {
    if cannot_make_containers() {
        return;
    }
    let look = "for f in /proc/$$/fd/*; do echo ${f##*/}; done > @/fds; /usr/bin/readlink /proc/$$/cwd > @/cwd; \
        /usr/bin/tr '\\0' '\\n' < /proc/$$/cmdline > @/args; /usr/bin/tr '\\0' '\\n' < /proc/$$/environ > @/env";
    // Not createContainer: it has a pid of the container's, by which the host's /proc does not know it.
    for kind in ["prestart", "poststart", "poststop"] {
        let mut life = with_hooks(&[]);
        let look = look.replace('@', life.bundle.path().to_str().unwrap());
        let args = ["any name", "-c", look.as_str(), "two words", "", "ü"];
        life.bundle.config["hooks"] = json!({kind: [
            {"path": "/bin/sh", "args": args, "env": ["B=2", "A=one=1", "EMPTY="]},
        ]});
        life.bundle.write_config();
        let mut create = life.making("create", &[]);
        create.env("SECRET_OF_THE_CALLER", "1");
        life.run(create).ok();
        life.started();
        life.delete(&["--force"]).ok();
        assert_eq!(file(&life, "env"), "B=2\nA=one=1\nEMPTY=\n", "{kind}");
        assert_eq!(file(&life, "args"), format!("{}\n", args.join("\n")), "{kind}");
        assert_eq!(file(&life, "cwd"), "/\n", "{kind}");
        // 3 is the directory that the shell lists, 10 its own stdout meanwhile.
        let mut fds: Vec<u32> = file(&life, "fds").lines().map(|line| line.parse().unwrap()).collect();
        fds.sort_unstable();
        fds.retain(|fd| *fd != 10);
        assert_eq!(fds, [0, 1, 2, 3], "{kind}");
    }
    // Neither args nor env: the path is argv[0], and the environment is empty.
    let mut life = with_hooks(&[]);
    let program = life.bundle.path().join("hook");
    let directory = life.bundle.path().to_str().unwrap();
    let text = format!(
        "#!/bin/sh\n/usr/bin/tr '\\0' '\\n' < /proc/$$/environ > {directory}/env\necho $0 $# > {directory}/args\n\
         ls -l /proc/self/fd > {directory}/fds\n"
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    life.bundle.config["hooks"] = json!({"createRuntime": [{"path": program}]});
    life.bundle.write_config();
    life.created(&[]);
    assert_eq!(file(&life, "args"), format!("{} 0\n", program.display()));
    assert_eq!(file(&life, "env"), "");
    assert!(life.bundle.path().join("env").exists());
    let fds = file(&life, "fds");
    let numbers: Vec<&str> = fds.lines().filter_map(|line| line.split(" -> ").next()?.split(' ').next_back()).collect();
    // 3 is the directory that ls lists.
    assert_eq!(numbers[numbers.len() - 4..], ["0", "1", "2", "3"], "{fds}");
}

/// Processes whose command line has this word.
fn alive(word: &str) -> usize {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy() != own);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

#[test]
fn a_timeout_is_enforced_on_the_hook_and_its_children() {
    if cannot_make_containers() {
        return;
    }
    for (index, kind) in KINDS.iter().enumerate() {
        // A number that no other process sleeps.
        let sleep = format!("10{}.{}{index}", std::process::id(), 7);
        let text = format!("echo partial; sleep {sleep} & sleep {sleep}");
        let mut life = with_hooks(&[(kind, &text), ("poststop", "echo poststop >> @/log")]);
        life.bundle.config["hooks"][kind][0]["timeout"] = json!(1);
        life.bundle.write_config();
        let began = Instant::now();
        let message = match *kind {
            "prestart" | "createRuntime" | "createContainer" => error(life.create(&[])),
            "startContainer" | "poststart" => {
                life.created(&[]);
                error(life.start())
            }
            _ => {
                life.created(&[]);
                let output = life.delete(&[]);
                assert_eq!(output.status, 0, "{}", output.stderr);
                output.stderr
            }
        };
        let expected = format!("config.json /hooks/{kind}/0: the hook /bin/sh: it was killed after its timeout of 1 s");
        assert!(message.contains(&expected), "{kind}: {message}");
        assert!(began.elapsed() >= Duration::from_secs(1), "{kind}");
        wait_for("the hook's children are gone", || alive(&sleep) == 0);
        life.delete(&["--force"]).ok();
        assert_eq!(file(&life, "log"), "poststop\n", "{kind}");
        life.assert_gone();
    }
    // In time is in time.
    let mut life = with_hooks(&[("prestart", "sleep 0.2; echo done > @/log")]);
    life.bundle.config["hooks"]["prestart"][0]["timeout"] = json!(30);
    life.bundle.write_config();
    life.created(&[]);
    assert_eq!(file(&life, "log"), "done\n");
    for timeout in [0, -1] {
        let mut life = with_hooks(&[("prestart", "true")]);
        life.bundle.config["hooks"]["prestart"][0]["timeout"] = json!(timeout);
        life.bundle.write_config();
        assert!(error(life.create(&[])).contains("/hooks/prestart/0/timeout"));
    }
}

/// What comes before the payload ends the container; nothing is left of it, and poststop hooks run.
#[test]
fn a_failure_before_the_start_ends_the_container() {
    if cannot_make_containers() {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for (verb, options) in [("create", [].as_slice()), ("run", &[]), ("run", &["--detach"])] {
            let life = with_hooks(&[
                (kind, "echo first >> @/log"),
                (kind, "echo to stdout; echo to stderr >&2; exit 7"),
                (kind, "echo third >> @/log"),
                ("poststart", "echo poststart >> @/log"),
                ("poststop", "cat > @/last-state; echo poststop >> @/log"),
            ]);
            let text = error(life.run(life.making(verb, options)));
            let expected =
                format!("config.json /hooks/{kind}/1: the hook /bin/sh: exit status 7: to stdout; to stderr");
            assert_eq!(text, expected, "{verb}");
            assert_eq!(file(&life, "log"), "first\npoststop\n", "{kind} {verb}");
            let state: Value = serde_json::from_str(&file(&life, "last-state"))
                .unwrap_or_else(|e| panic!("{kind} {verb} {options:?}: {e}"));
            assert_eq!((&state["status"], state.get("pid")), (&json!("stopped"), None));
            assert!(!life.bundle.rootfs().join("ran").exists());
            life.assert_gone();
        }
    }
}

#[test]
fn a_failure_at_the_start_stops_the_container() {
    if cannot_make_containers() {
        return;
    }
    for kind in ["startContainer", "poststart"] {
        for init in ["--init=supervise", "--init=exec"] {
            let hooks =
                [(kind, "echo no good; exit 9"), (kind, "echo second >> @/log"), ("poststop", "echo end >> @/log")];
            let life = with_hooks(&hooks);
            life.created(&[init]);
            let text = error(life.start());
            assert_eq!(text, format!("config.json /hooks/{kind}/0: the hook /bin/sh: exit status 9: no good"));
            assert_eq!(life.status(), "stopped", "at once");
            assert!(kind == "poststart" || !life.bundle.rootfs().join("ran").exists());
            assert_eq!(file(&life, "log") + &life.file("log"), "");
            life.delete(&[]).ok();
            assert_eq!(file(&life, "log"), "end\n");
            life.assert_gone();
            // As one command, all of it goes.
            for options in [[init].as_slice(), &[init, "--detach"]] {
                let life = with_hooks(&hooks);
                let text = error(life.run(life.making("run", options)));
                assert!(text.contains(&format!("/hooks/{kind}/0: the hook /bin/sh: exit status 9")), "{text}");
                assert_eq!(file(&life, "log"), "end\n", "{options:?}");
                life.assert_gone();
            }
        }
    }
}

#[test]
fn a_poststop_hook_has_no_say() {
    if cannot_make_containers() {
        return;
    }
    let hooks = [
        ("poststop", "echo one >> @/log; echo bad; exit 1"),
        ("poststop", "echo two >> @/log; kill -9 $$"),
        ("poststop", "echo three >> @/log"),
    ];
    let life = with_hooks(&hooks);
    life.created(&[]);
    let output = life.delete(&[]);
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    let warnings = [
        "rspawn: warning: config.json /hooks/poststop/0: the hook /bin/sh: exit status 1: bad",
        "rspawn: warning: config.json /hooks/poststop/1: the hook /bin/sh: killed by signal 9",
    ];
    assert_eq!(output.stderr.lines().collect::<Vec<_>>(), warnings);
    assert_eq!(file(&life, "log"), "one\ntwo\nthree\n");
    life.assert_gone();
    // In the foreground the payload's status stays.
    let mut life = with_hooks(&hooks);
    life.bundle.config["process"]["args"] = json!(["sh", "-c", "exit 5"]);
    life.bundle.write_config();
    assert_eq!(life.run(life.making("run", &[])).status, 5);
    assert_eq!(file(&life, "log"), "one\ntwo\nthree\n");
    life.assert_gone();
}

#[test]
fn hooks_that_cannot_be_executed() {
    if cannot_make_containers() {
        return;
    }
    for (path, reason) in [
        ("/no/such/hook", "execve: ENOENT: No such file or directory"),
        ("/etc/passwd", "execve: EACCES: Permission denied"),
        ("/", "execve: EACCES: Permission denied"),
    ] {
        for kind in ["prestart", "createContainer", "startContainer"] {
            let mut life = with_hooks(&[]);
            fs::write(life.bundle.rootfs().join("etc/passwd"), "x").unwrap();
            life.bundle.config["hooks"] = json!({kind: [{"path": path}]});
            life.bundle.write_config();
            let text = if kind == "startContainer" {
                life.created(&[]);
                error(life.start())
            } else {
                error(life.create(&[]))
            };
            assert_eq!(text, format!("config.json /hooks/{kind}/0: the hook {path}: {reason}"));
        }
    }
    for path in ["relative/path", "", "sh"] {
        let mut life = with_hooks(&[]);
        life.bundle.config["hooks"] = json!({"poststop": [{"path": path}]});
        life.bundle.write_config();
        assert!(error(life.create(&[])).contains("/hooks/poststop/0/path"));
        life.assert_gone();
    }
}

/// A hook may say more than an error can hold, and anything.
#[test]
fn what_a_hook_says_is_quoted_and_cut() {
    if cannot_make_containers() {
        return;
    }
    let life = with_hooks(&[("prestart", "yes 0123456789 | head -c 1000000; exit 1")]);
    let output = life.create(&[]);
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains("exit status 1: 0123456789") && output.stderr.len() < 2000,
        "{}",
        output.stderr.len()
    );
    let life = with_hooks(&[("prestart", "printf '\\377\\376 bytes'; exit 1")]);
    assert!(life.create(&[]).stderr.contains("\u{fffd}\u{fffd} bytes"));
    // And where all is well nobody hears of it.
    let life = with_hooks(&[("prestart", "echo chatter; echo noise >&2"), ("poststart", "echo chatter")]);
    let output = life.create(&[]);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    let output = life.start();
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
}

#[test]
fn mounts_that_hooks_make_below_the_root_are_the_containers() {
    let nsenter = Path::new("/usr/bin/nsenter").exists();
    if cannot_make_containers() || skip_unless(nsenter, "nsenter (util-linux) is missing") {
        return;
    }
    // createContainer hooks are in the container's mount namespace; others enter it by the pid that they read.
    let inside = "mkdir -p @/rootfs/one && mount -t tmpfs one @/rootfs/one && echo createContainer > @/rootfs/one/file";
    let outside = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); mkdir -p @/rootfs/two; \
        nsenter -t $pid -m sh -c 'mount -t tmpfs two @/rootfs/two && echo prestart > @/rootfs/two/file'";
    for readonly in [false, true] {
        let mut life = with_hooks(&[("createContainer", inside), ("prestart", outside)]);
        let script = "cat /one/file /two/file; grep -c -e ' /one ' -e ' /two ' /proc/self/mountinfo";
        life.bundle.config["process"]["args"] = json!(["sh", "-c", script]);
        life.bundle.config["root"]["readonly"] = json!(readonly);
        life.bundle.write_config();
        assert_eq!(life.run(life.making("run", &[])).ok(), "createContainer\nprestart\n2\n");
        // None of it is the host's.
        assert!(!life.bundle.rootfs().join("one/file").exists());
        life.assert_gone();
    }
}

#[test]
fn start_container_hooks_are_the_payloads_equals() {
    if cannot_make_containers() {
        return;
    }
    let look = "cat /proc/self/status > /tmp/status; cat /etc/hostname > /tmp/name; pwd > /tmp/cwd; mkdir /tmp/made 2> /tmp/denied; true";
    for init in ["--init=supervise", "--init=exec"] {
        let mut life = with_hooks(&[("startContainer", look)]);
        fs::write(life.bundle.rootfs().join("etc/hostname"), "the container's\n").unwrap();
        fs::set_permissions(life.bundle.rootfs().join("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
        life.bundle.config["process"]["user"] = json!({"uid": 1234, "gid": 2345, "additionalGids": [7]});
        life.bundle.config["process"]["args"] =
            json!(["sh", "-c", "cat /proc/self/status > /tmp/own; exec sleep 1000"]);
        life.bundle.write_config();
        life.created(&[init]).started();
        wait_for("the payload's own", || life.file("tmp/own").contains("Seccomp"));
        assert_eq!((life.file("tmp/name").as_str(), life.file("tmp/cwd").as_str()), ("the container's\n", "/\n"));
        let (hook, own) = (life.file("tmp/status"), life.file("tmp/own"));
        for field in [
            "Uid", "Gid", "Groups", "CapBnd", "CapInh", "CapEff", "CapPrm", "CapAmb", "SigBlk", "SigIgn", "NoNewPrivs",
            "Seccomp", "Seccomp_filters",
        ] {
            let of = |text: &str| rspawn_tests::status_field(text, field).map(str::to_string);
            assert_eq!(of(&hook), of(&own), "{field} {init}");
        }
        assert_eq!(rspawn_tests::status_field(&hook, "Uid"), Some("1234\t1234\t1234\t1234"));
    }
}

/// Without an environment of its own a startContainer hook gets the payload's, as with runc; HOME and all.
#[test]
fn a_start_container_hook_without_env_has_the_payloads() {
    if cannot_make_containers() {
        return;
    }
    for (env, wanted) in [
        (Value::Null, "PATH=/bin\nNAME=of the process\nHOME=/home/me\n"),
        (json!([]), ""),
        (json!(["OF=the hook"]), "OF=the hook\n"),
    ] {
        let mut life = with_hooks(&[]);
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "/bin/tr '\\0' '\\n' < /proc/$$/environ > /env; /bin/pwd > /cwd"]});
        if !env.is_null() {
            hook["env"] = env;
        }
        fs::write(life.bundle.rootfs().join("etc/passwd"), "me:x:0:0::/home/me:/bin/sh\n").unwrap();
        life.bundle.config["hooks"] = json!({"startContainer": [hook]});
        life.bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME=", "NAME=of the process"]);
        life.bundle.config["process"]["cwd"] = json!("/tmp");
        life.bundle.write_config();
        life.created(&[]).started();
        assert_eq!((life.file("env").as_str(), life.file("cwd").as_str()), (wanted, "/tmp\n"));
    }
}

#[test]
fn a_policy_says_which_programs_may_be_hooks() {
    if cannot_make_containers() {
        return;
    }
    let policy = |life: &Life, text: &str| {
        let file = life.bundle.path().join("policy.conf");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        format!("--policy={}", file.display())
    };
    for kind in KINDS {
        let life = with_hooks(&[(kind, "echo ran >> @/log")]);
        let refusing = policy(&life, &only("hooks.allow = /usr/libexec/oci/** /bin/shell /bin/s"));
        // Those of the container's own are no more than the payload is.
        if kind == "startContainer" {
            life.created(&[&refusing]).started();
            life.delete(&["--force"]).ok();
            continue;
        }
        let text = error(life.create(&[&refusing]));
        assert!(text.contains(&format!("hooks.allow: /hooks/{kind}/0")) && text.contains("/bin/sh"), "{text}");
        assert_eq!(file(&life, "log"), "", "before any effect");
        life.assert_gone();
        for allowing in ["hooks.allow = /bin/sh", "hooks.allow = /bin/**", "hooks.allow = any"] {
            let option = policy(&life, &only(allowing));
            life.created(&[&option]).started();
            life.delete(&["--force"]).ok();
        }
        assert_eq!(file(&life, "log"), "ran\n".repeat(3), "{kind}");
    }
}

/// The client of a hook that hangs is killed: the helper, rspawn-hooks and the hook go with it.
#[test]
fn a_hook_that_hangs_goes_with_its_client() {
    if cannot_make_containers() {
        return;
    }
    for (index, kind) in KINDS[..3].iter().enumerate() {
        let sleep = format!("20{}.{index}", std::process::id());
        let life = with_hooks(&[(kind, &format!("touch @/hangs; exec sleep {sleep}"))]);
        let (create, paths) = life.spawn(&mut life.making("create", &[]));
        wait_for("the hook hangs", || life.bundle.path().join("hangs").exists());
        kill(Pid::from_raw(create.id() as i32), Signal::SIGKILL).unwrap();
        assert_eq!(life.outcome(create, &paths).status, 137);
        wait_for("the hook is gone", || alive(&sleep) == 0);
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
    // Inside the container `delete --force` ends it, and the `start` that waits for it.
    let life = with_hooks(&[("startContainer", "touch /hangs; exec sleep 1000")]);
    life.created(&[]);
    let (start, paths) = life.spawn(&mut life.on_it("start", &[]));
    wait_for("the hook hangs", || life.bundle.rootfs().join("hangs").exists());
    life.delete(&["--force"]).ok();
    assert_ne!(life.outcome(start, &paths).status, 0);
    life.assert_gone();
}
