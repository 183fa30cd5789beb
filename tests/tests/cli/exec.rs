//! `exec`: another process in a container, with everything that a process can have.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::life::{ConsoleSocket, Life, error};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Bundle, cannot_make_containers, collect, finish, own_nice, skip_unless, status_field, wait_for};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// A running container that does nothing.
fn running() -> Life {
    running_with(|_| ())
}

fn running_with(change: impl FnOnce(&mut Value)) -> Life {
    let life = Life::new(Bundle::new().with_payload().with_args(&["sleep", "1000"]).with(change));
    life.created(&[]).started();
    life
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

/// Writes a process for `--process`; gives the option.
fn process_file(life: &Life, process: Value) -> String {
    let path = life.bundle.path().join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    format!("--process={}", path.display())
}

#[test]
fn streams_and_exit_status_come_through() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let output = finish(life.exec_command(&[], &sh("cat; echo to stderr >&2; exit 7")), b"from stdin\n");
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "from stdin\n", "to stderr\n"));
    assert_eq!(life.exec(&[], &sh("kill -9 $$")).status, 137);
    assert_eq!(life.exec(&[], &sh("kill -TERM $$")).status, 143);
    for status in [0, 1, 125, 126, 127, 255] {
        assert_eq!(life.exec(&[], &sh(&format!("exit {status}"))).status, status);
    }
    // Options stop at the first word of the command.
    assert_eq!(life.exec(&[], &["echo", "-n", "--user", "--", "-t"]).ok(), "--user -- -t");
    assert_eq!(life.status(), "running");
}

#[test]
fn signals_are_passed_on() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGWINCH] {
        let name = signal.as_str().trim_start_matches("SIG");
        let ready = life.bundle.rootfs().join("ready");
        let _ = fs::remove_file(&ready);
        let script = format!("trap 'echo got {name}; exit 4' {name}; touch /ready; while :; do sleep 0.05; done");
        let (child, paths) = life.spawn(&mut life.exec_command(&[], &sh(&script)));
        wait_for("the process is ready", || ready.exists());
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = life.outcome(child, &paths);
        assert_eq!((output.status, output.stdout), (4, format!("got {name}\n")), "{}", output.stderr);
    }
    // A foreground exec does not outlive its client.
    let (child, paths) = life.spawn(&mut life.exec_command(&[], &["sleep", "7654"]));
    let sleeps = || life.exec(&[], &["ps"]).ok().contains("sleep 7654");
    wait_for("the process runs", sleeps);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    life.outcome(child, &paths);
    wait_for("the process is gone", || !sleeps());
}

#[test]
fn it_is_in_all_of_the_containers_namespaces() {
    if cannot_make_containers() {
        return;
    }
    for with_user in [false, true] {
        let bundle = Bundle::new().with_args(&["sleep", "1000"]);
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let life = Life::new(bundle.with(|config| {
            if with_user {
                in_user_namespace(config)
            }
        }));
        life.created(&[]).started();
        let kinds = ["mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time"];
        let pid = life.pid();
        let of_container: BTreeMap<&str, String> = kinds
            .map(|kind| (kind, fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()))
            .into();
        let look = "for kind in mnt pid net uts ipc cgroup user time; do readlink /proc/self/ns/$kind; done; \
            cat /proc/self/uid_map; readlink /proc/self/root; ls -d /bin/busybox; id -u";
        let output = life.exec(&[], &sh(look)).ok();
        let lines: Vec<&str> = output.lines().collect();
        for (kind, seen) in kinds.iter().zip(&lines) {
            assert_eq!(of_container[kind], *seen, "{kind}");
        }
        let map = if with_user { "0 100000 65536" } else { "0 0 4294967295" };
        // What a user's container sees outside are the ids of rspawn-setup's namespace.
        if life.bundle.user.is_none() {
            assert!(lines[8].split_whitespace().eq(map.split(' ')), "{}", lines[8]);
        }
        assert!(lines.ends_with(&["/", "/bin/busybox", "0"]), "{output}");
        assert_ne!(of_container["mnt"], fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string());
        // The container's end is its end.
        let (child, paths) = life.spawn(&mut life.exec_command(&[], &["sleep", "1001"]));
        // rspawn-init, which becomes it, has its words behind its own.
        let is_it = |line: &str| line.ends_with(" sleep 1001") && !line.contains("rspawn-init");
        wait_for("it runs", || life.exec(&[], &["ps"]).ok().lines().any(is_it));
        life.kill("KILL").ok();
        assert_eq!(life.outcome(child, &paths).status, 137);
    }
}

#[test]
fn environment_directory_and_home() {
    if cannot_make_containers() {
        return;
    }
    let life = running_with(|config| {
        config["process"]["env"] = json!(["PATH=/bin", "A=container", "B=kept"]);
        config["process"]["cwd"] = json!("/tmp");
    });
    fs::write(life.bundle.rootfs().join("etc/passwd"), "root:x:0:0::/root:\nuser:x:1000:1000::/home/user:\n").unwrap();
    // Added to the container's own; of two the last one counts.
    let output = life.exec(&["--env", "A=exec", "-e", "C=c=d", "-e", "EMPTY="], &["env"]).ok();
    assert_eq!(output, "PATH=/bin\nB=kept\nA=exec\nC=c=d\nEMPTY=\nHOME=/root\n");
    assert_eq!(life.exec(&[], &["pwd"]).ok(), "/tmp\n");
    assert_eq!(life.exec(&["--cwd", "/usr/../etc"], &["pwd"]).ok(), "/etc\n");
    assert_eq!(life.exec(&["--user", "1000"], &sh("echo $HOME")).ok(), "/home/user\n");
    assert_eq!(life.exec(&["--user", "1001"], &sh("echo $HOME")).ok(), "/\n");
    assert_eq!(life.exec(&["-u", "1000", "-e", "HOME=/set"], &sh("echo $HOME")).ok(), "/set\n");
    // A missing directory is not made in a container that runs.
    let text = error(life.exec(&["--cwd", "/no/such"], &["pwd"]));
    assert!(text.starts_with("--cwd /no/such: ") && text.contains("No such file or directory"), "{text}");
    assert!(!life.bundle.rootfs().join("no").exists());
    assert!(error(life.exec(&["--cwd", "relative"], &["pwd"])).starts_with("--cwd relative: "));
    // A name alone is the caller's variable. What is wrong is the option's, which config.json says nothing of.
    let mut passed = life.exec_command(&["--env", "PASSED", "--env", "NOT_SET"], &["env"]);
    passed.env("PASSED", "on").env_remove("NOT_SET");
    let output = life.run(passed).ok();
    assert!(output.contains("\nPASSED=on\n") && !output.contains("NOT_SET"), "{output}");
    for bad in ["", "=value", "A B"] {
        let text = error(life.exec(&["--env", bad], &["true"]));
        assert!(text.starts_with(&format!("--env {bad:?}: ")), "{text}");
    }
}

#[test]
fn users_and_groups() {
    if cannot_make_containers() {
        return;
    }
    let life = running_with(|config| {
        config["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o027});
    });
    let ids = |options: &[&str]| {
        let status = life.exec(options, &["cat", "/proc/self/status"]).ok();
        let first =
            |name| status_field(&status, name).unwrap().split_whitespace().next().unwrap_or_default().to_string();
        (first("Uid"), first("Gid"), status_field(&status, "Groups").unwrap().to_string(), first("Umask"))
    };
    let expect = |uid: &str, gid: &str, groups: &str| (uid.into(), gid.into(), groups.into(), "0027".into());
    assert_eq!(ids(&[]), expect("5", "6", "7"));
    assert_eq!(ids(&["--user", "1000"]), expect("1000", "6", "7"));
    assert_eq!(ids(&["-u", "0:9"]), expect("0", "9", "7"));
    assert_eq!(ids(&["-u", "1:2", "-g", "30", "--additional-gids", "31"]), expect("1", "2", "7 30 31"));
    for bad in ["-1", "1:", ":1", "4294967295", "4294967296", "1:2:3"] {
        assert!(error(life.exec(&[&format!("--user={bad}")], &["id"])).starts_with("--user"), "{bad}");
    }
}

/// As `run --user` has it: a name is a user with groups and a home, and none of root's rights.
#[test]
fn users_by_name() {
    if cannot_make_containers() {
        return;
    }
    let life = running_with(|_| {});
    let write = |name: &str, text: &str| fs::write(life.bundle.rootfs().join("etc").join(name), text).unwrap();
    assert_eq!(error(life.exec(&["--user", "alice"], &["id"])), "--user alice: the container has no file /etc/passwd");
    write("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n");
    write("group", "users:x:100:\naudio:x:29:bob,alice\n");
    let script = "id -u; id -g; id -G; echo $HOME $USER; grep CapEff /proc/self/status";
    let seen = |user: &str| life.exec(&["--user", user], &sh(script)).ok();
    let none = "CapEff:\t0000000000000000\n";
    assert_eq!(seen("alice"), format!("1000\n100\n100 29\n/home/alice alice\n{none}"));
    assert_eq!(seen("alice:audio"), format!("1000\n29\n29\n/home/alice alice\n{none}"));
    assert!(seen("alice:7").starts_with("1000\n7\n7\n"));
    assert!(seen("8:audio").starts_with("8\n29\n29\n"));
    assert!(seen("root").starts_with("0\n0\n"));
    for (user, reason) in [
        ("bob", "the container's /etc/passwd has no user \"bob\""),
        ("alice:wheel", "the container's /etc/group has no group \"wheel\""),
    ] {
        assert_eq!(error(life.exec(&["--user", user], &["id"])), format!("--user {user}: {reason}"));
    }
    // A link leads nowhere but into the container, and a FIFO keeps nobody waiting.
    let passwd = life.bundle.rootfs().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    std::os::unix::fs::symlink("/../../etc/passwd", &passwd).unwrap();
    assert!(error(life.exec(&["--user", "root"], &["id"])).contains("no file /etc/passwd"));
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(error(life.exec(&["--user", "root"], &["id"])).contains("no file /etc/passwd"));
}

#[test]
fn capabilities_and_no_new_privileges() {
    if cannot_make_containers() {
        return;
    }
    let sets = |life: &Life, options: &[&str]| -> BTreeMap<&str, u64> {
        let status = life.exec(options, &["cat", "/proc/self/status"]).ok();
        let bits = |name| u64::from_str_radix(status_field(&status, name).unwrap(), 16).unwrap();
        ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs"].map(|name| (name, bits(name))).into()
    };
    const KILL: u64 = 1 << 5;
    const CHOWN: u64 = 1;
    let life = running_with(|config| {
        let kill = json!(["CAP_KILL"]);
        config["process"]["capabilities"] = json!({"bounding": kill, "permitted": kill, "effective": kill});
        config["process"]["noNewPrivileges"] = json!(false);
    });
    let own = sets(&life, &[]);
    assert_eq!(
        own,
        [("CapBnd", KILL), ("CapPrm", KILL), ("CapEff", KILL), ("CapInh", 0), ("CapAmb", 0), ("NoNewPrivs", 0)].into()
    );
    let more = sets(&life, &["--cap", "CAP_CHOWN"]);
    let both = KILL | CHOWN;
    assert_eq!(
        more,
        [("CapBnd", both), ("CapPrm", both), ("CapEff", both), ("CapInh", 0), ("CapAmb", 0), ("NoNewPrivs", 0)].into()
    );
    assert_eq!(sets(&life, &["--no-new-privs"])["NoNewPrivs"], 1);
    // Where something is inheritable the new one is ambient if it is inheritable too, which the option does not make it.
    let life = running_with(|config| {
        let kill = json!(["CAP_KILL"]);
        config["process"]["capabilities"] =
            json!({"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill});
    });
    let more = sets(&life, &["-c", "CAP_CHOWN", "--user", "1000"]);
    assert_eq!((more["CapBnd"], more["CapInh"], more["CapAmb"], more["CapEff"]), (both, KILL, KILL, KILL));
    assert_eq!(more["NoNewPrivs"], 1, "as the container's");
    assert_eq!(sets(&life, &["--no-new-privs=false"])["NoNewPrivs"], 0);
}

#[test]
fn labels_without_their_security_module_are_refused() {
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'));
    let selinux = fs::exists("/sys/fs/selinux/enforce").unwrap_or(false);
    if cannot_make_containers() || skip_unless(!apparmor && !selinux, "this machine has AppArmor or SELinux") {
        return;
    }
    let life = running();
    assert!(error(life.exec(&["--apparmor", "profile"], &["true"])).starts_with("--apparmor: "));
    assert!(error(life.exec(&["--process-label", "label"], &["true"])).starts_with("--process-label: "));
}

#[test]
fn seccomp_is_the_containers() {
    if cannot_make_containers() {
        return;
    }
    for no_new_privileges in [false, true] {
        let life = running_with(|config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
        });
        let output = life.exec(&[], &sh("grep Seccomp: /proc/self/status; mkdir /tmp/x"));
        assert_eq!(output.stdout, "Seccomp:\t2\n");
        assert!(output.status != 0 && output.stderr.contains("not supported"), "{output:?}");
        let process = json!({"args": ["mkdir", "/tmp/x"], "env": ["PATH=/bin"], "cwd": "/",
            "noNewPrivileges": no_new_privileges});
        let option = process_file(&life, process);
        let output = life.run(life.on_it("exec", &[&option]));
        assert!(output.status != 0 && output.stderr.contains("not supported"), "{output:?}");
    }
    assert_eq!(running().exec(&[], &["grep", "Seccomp:", "/proc/self/status"]).ok(), "Seccomp:\t0\n");
}

/// A nice value above this process's own: nobody but root may set a lower one, and CI may run niced.
fn nicer(by: i32) -> i32 {
    (own_nice() + by).min(19)
}

/// What the process of `exec --process` finds itself to be is what the same process of `create` does.
#[test]
fn a_process_from_a_file_has_everything() {
    if cannot_make_containers() {
        return;
    }
    let look = "cat /proc/self/status /proc/self/limits /proc/self/oom_score_adj; env; pwd; umask; \
        cut -d' ' -f18,19,40,41 /proc/self/stat; busybox ionice";
    let kill = json!(["CAP_KILL", "CAP_SETUID"]);
    let process = json!({
        "args": ["sh", "-c", look], "env": ["PATH=/bin", "X=y", "HOME=/h"], "cwd": "/usr",
        "user": {"uid": 12, "gid": 13, "umask": 0o077, "additionalGids": [14, 15]},
        "capabilities": {"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "noNewPrivileges": true, "oomScoreAdj": 123,
        "scheduler": {"policy": "SCHED_BATCH", "nice": nicer(1)},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        "unknown": "ignored", "terminal": null,
    });
    let life = running();
    let option = process_file(&life, process.clone());
    let joined = life.run(life.on_it("exec", &[&option])).ok();
    // The file may be gone when it is read: it is open by then, and read whole.
    let created = Bundle::new().with(|config| config["process"] = process).run().ok();
    let lines = |text: &str| -> Vec<String> {
        let varies = [
            "Pid:", "PPid:", "NSpid:", "NStgid:", "NSpgid:", "NSsid:", "Tgid:", "Ngid", "Vm", "Rss", "Hugetlb",
            "voluntary", "nonvoluntary", "Cpus", "Mems", "Speculation", "SigQ",
        ];
        text.lines().filter(|line| !varies.iter().any(|name| line.starts_with(name))).map(str::to_string).collect()
    };
    assert_eq!(lines(&joined), lines(&created));
    assert_eq!(status_field(&joined, "Uid"), Some("12\t12\t12\t12"));
    assert!(joined.contains("\n123\n") && joined.contains("\nX=y\n") && joined.contains("\n/usr\n0077\n"), "{joined}");
    assert!(joined.contains("best-effort: prio 6"), "{joined}");
    // Nothing of the container's own process is left in it.
    let bare = process_file(&life, json!({"args": ["env"], "cwd": "/"}));
    let text = error(life.run(life.on_it("exec", &[&bare])));
    assert_eq!(text, "exec: \"env\": executable file not found in $PATH");
    let bare = process_file(&life, json!({"args": ["/bin/env"], "cwd": "/"}));
    assert_eq!(life.run(life.on_it("exec", &[&bare])).ok(), "HOME=/\n");
}

/// What the file of `exec --process` leaves open is the container's, as with runc.
#[test]
fn what_a_process_file_leaves_open_is_the_containers() {
    if cannot_make_containers() {
        return;
    }
    let kill = json!(["CAP_KILL"]);
    let life = running_with(|config| {
        let process = &mut config["process"];
        process["capabilities"] = json!({"bounding": kill, "permitted": kill, "effective": kill});
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}]);
        process["oomScoreAdj"] = json!(77);
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": nicer(1)});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        process["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let look = "ulimit -n; ulimit -Hn; grep -E 'Cap(Prm|Bnd|Eff)|Cpus_allowed_list' /proc/self/status; \
        cat /proc/self/oom_score_adj; cut -d' ' -f19,41 /proc/self/stat; busybox ionice";
    let process = |more: Value| {
        let mut process = json!({"args": ["sh", "-c", look], "env": ["PATH=/bin"], "cwd": "/"});
        process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        life.run(life.on_it("exec", &[&process_file(&life, process)])).ok()
    };
    let bits = |number: u32| format!("{number:016x}");
    let expected = |files: [u32; 2], capabilities: u32, score: i32, scheduling: &str, priority: u32| {
        let sets = ["CapPrm", "CapEff", "CapBnd"].map(|set| format!("{set}:\t{}\n", bits(capabilities))).concat();
        let [soft, hard] = files;
        format!("{soft}\n{hard}\n{sets}Cpus_allowed_list:\t0\n{score}\n{scheduling}\nbest-effort: prio {priority}\n")
    };
    let batch = format!("{} 3", nicer(1));
    assert_eq!(process(json!({})), expected([111, 222], 1 << 5, 77, &batch, 6));
    let empty = json!({"rlimits": [], "apparmorProfile": "", "selinuxLabel": "", "capabilities": null});
    assert_eq!(process(empty), expected([111, 222], 1 << 5, 77, &batch, 6));
    let chown = json!(["CAP_CHOWN"]);
    let all = json!({
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 11, "hard": 22}], "oomScoreAdj": 88,
        "capabilities": {"bounding": chown, "permitted": chown, "effective": chown},
        "scheduler": {"policy": "SCHED_OTHER", "nice": nicer(2)}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
    });
    assert_eq!(process(all), expected([11, 22], 1, 88, &format!("{} 0", nicer(2)), 7));
}

/// As with runc, `exec` is to keyrings what `create` was told.
#[test]
fn a_session_keyring_is_new_unless_the_containers_is_not() {
    if cannot_make_containers() {
        return;
    }
    for (options, is_new) in [(&[][..], true), (&["--no-new-keyring"], false)] {
        let life = Life::idle();
        life.created(options).started();
        assert_eq!(life.record().new_keyring, is_new);
        let audit = life.bundle.path().join("audit");
        life.exec(&["--audit", audit.to_str().unwrap()], &["true"]).ok();
        let steps = fs::read_to_string(audit).unwrap();
        assert_eq!(steps.contains("join a new session keyring"), is_new, "{steps}");
    }
}

/// A file that is cut short would be another one.
#[test]
fn a_process_file_that_is_too_long_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let path = life.bundle.path().join("process.json");
    let mut text = json!({"args": ["true"], "env": ["PATH=/bin"], "cwd": "/"}).to_string().into_bytes();
    text.resize((32 << 20) + 1, b' ');
    fs::write(&path, &text).unwrap();
    let option = format!("--process={}", path.display());
    assert_eq!(error(life.run(life.on_it("exec", &[&option]))), "the process file is larger than 32 MiB");
    text.pop();
    fs::write(&path, &text).unwrap();
    assert_eq!(life.run(life.on_it("exec", &[&option])).ok(), "");
    let path = life.bundle.path().join("resources.json");
    text.resize((32 << 20) + 1, b' ');
    fs::write(&path, &text).unwrap();
    let option = format!("--resources={}", path.display());
    let said = error(life.run(life.on_it("update", &[&option])));
    assert_eq!(said, "the file of --resources is larger than 32 MiB");
}

#[test]
fn processes_that_are_none() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    for (process, reason) in [
        (json!({"args": ["sh"]}), "the process file /cwd: "),
        (json!({"cwd": "/"}), "the process file /args: "),
        (json!({"args": [], "cwd": "/"}), "the process file /args: "),
        (json!({"args": ["a\0b"], "cwd": "/"}), "the process file /args/0: "),
        (json!({"args": "sh", "cwd": "/"}), "args"),
        (
            json!({"args": ["sh"], "cwd": "/", "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}),
            "the process file /rlimits/0",
        ),
        (json!([1]), "process file"),
    ] {
        let option = process_file(&life, process.clone());
        let text = error(life.run(life.on_it("exec", &[&option])));
        assert!(text.contains(reason), "{process}: {text}");
    }
    let path = life.bundle.path().join("broken");
    fs::write(&path, "{\"args\":").unwrap();
    assert!(error(life.run(life.on_it("exec", &[&format!("--process={}", path.display())]))).contains("process file"));
    assert!(error(life.run(life.on_it("exec", &["--process=/no/such"]))).contains("/no/such"));
    assert!(error(life.run(life.on_it("exec", &[]))).contains("no command"));
    for (words, text) in [
        (["nothing"].as_slice(), "exec: \"nothing\": executable file not found in $PATH"),
        (&["/no/such"], "exec: \"/no/such\": stat /no/such: no such file or directory"),
        (&["/bin"], "exec: \"/bin\": is a directory: permission denied"),
        (&["/etc"], "exec: \"/etc\": is a directory: permission denied"),
    ] {
        assert_eq!(error(life.exec(&[], words)), text);
    }
    assert_eq!(life.status(), "running");
}

#[test]
fn a_terminal_of_the_containers_own() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let terminal = Terminal::new(33, 44);
    let script = "tty; stty size; readlink /proc/self/fd/0; [ -t 1 ] && echo out; echo controlling > /dev/tty; \
        read line; echo got $line; exit 6";
    let child = terminal.start(&life.exec_command(&["--tty"], &sh(script)));
    terminal.expect("controlling");
    terminal.type_in(b"keys\n");
    let output = terminal.finish(child);
    assert_eq!(output.status, 6);
    let lines: Vec<&str> = output.stdout.lines().map(|line| line.trim_end_matches('\r')).collect();
    let device = lines[0];
    assert!(device.starts_with("/dev/pts/"), "{lines:?}");
    assert_eq!(lines, [device, "33 44", device, "out", "controlling", "keys", "got keys"]);
    // By a process file, for another user, who owns it.
    let process = json!({"args": ["sh", "-c", "stat -c '%u %a' $(tty)"], "env": ["PATH=/bin"], "cwd": "/",
        "terminal": true, "user": {"uid": 1000, "gid": 1000}, "consoleSize": {"height": 5, "width": 6}});
    let terminal = Terminal::new(24, 80);
    let option = process_file(&life, process);
    let child = terminal.start(&life.on_it("exec", &[&option]));
    let output = terminal.finish(child);
    assert_eq!((output.status, output.stdout.as_str()), (0, "1000 620\r\n"));
}

#[test]
fn a_terminal_over_a_console_socket() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let path = life.bundle.path().join("console.sock");
    let socket = ConsoleSocket::new(path.clone());
    let option = format!("--console-socket={}", path.display());
    let pid_file = life.bundle.path().join("exec.pid");
    let pid_option = format!("--pid-file={}", pid_file.display());
    let process = json!({"args": ["sh", "-c", "stty size; read line; echo got $line; sleep 1000"],
        "env": ["PATH=/bin"], "cwd": "/", "terminal": true, "consoleSize": {"height": 12, "width": 34}});
    let process = process_file(&life, process);
    let console = thread::scope(|scope| {
        let receiver = scope.spawn(|| socket.receive());
        life.run(life.on_it("exec", &["--detach", &option, &pid_option, &process])).ok();
        receiver.join().unwrap()
    });
    console.expect("12 34\r\n");
    console.master.write(b"this\n").unwrap();
    console.expect("got this\r\n");
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().expect("digits alone");
    // Whoever hangs up ends the session.
    drop(console);
    wait_for("SIGHUP", || !is_alive(pid));
    let useless = "cannot use --console-socket if the process is not detached or has no terminal";
    assert_eq!(error(life.exec(&[&option, "--tty"], &["true"])), useless);
    assert_eq!(error(life.exec(&[&option, "--detach"], &["true"])), useless);
    let without = "cannot allocate tty if the process is detached, without --console-socket";
    assert_eq!(error(life.exec(&["--tty", "--detach"], &["true"])), without);
    drop(socket);
    assert!(error(life.exec(&[&option, "--tty", "--detach"], &["true"])).contains("Connection refused"));
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn detached_processes_live_on_and_have_a_pid_file() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let file = life.bundle.path().join("exec.pid");
    let option = format!("--pid-file={}", file.display());
    let (child, paths) = life.spawn(&mut life.exec_command(&["--detach", &option], &sh("echo out; exec sleep 7000")));
    assert_eq!(life.outcome(child, &paths).status, 0);
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().expect("digits alone");
    wait_for("the output", || fs::read_to_string(&paths[0]).unwrap() == "out\n");
    wait_for("the payload", || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sleep"));
    assert!(life.exec(&[], &["ps"]).ok().contains("sleep 7000"));
    // Its parent is nobody of rspawn's.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status_field(&status, "PPid").unwrap();
    let parent = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap();
    assert!(!parent.starts_with("rspawn"), "{parent}");
    // In the foreground there is one too, while it runs.
    fs::remove_file(&file).unwrap();
    life.exec(&[&option], &["true"]).ok();
    assert!(fs::read_to_string(&file).unwrap().parse::<i32>().is_ok());
    // A failure leaves none.
    fs::remove_file(&file).unwrap();
    for options in [[option.as_str()].as_slice(), &["--detach", &option]] {
        error(life.exec(options, &["/no/such"]));
        assert!(!file.exists());
    }
    life.kill("KILL").ok();
    wait_for("all of them end with the container", || !is_alive(pid));
}

#[test]
fn descriptors_are_those_preserved_and_no_others() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let run = |numbers: &[u32], options: &[&str]| -> Vec<(u32, String)> {
        let command = life.exec_command(options, &["/payload", "fds"]);
        let redirects: String = numbers.iter().map(|number| format!(" {number}</etc/hostname")).collect();
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("exec \"$@\"{redirects}")).arg("bash");
        shell.arg(command.get_program()).args(command.get_args());
        let output = finish(shell, b"").ok();
        output.lines().map(|line| line.split_once(' ').unwrap()).map(|(n, t)| (n.parse().unwrap(), t.into())).collect()
    };
    let numbers = |seen: &[(u32, String)]| seen.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    let leaked: Vec<u32> = (3..40).collect();
    assert_eq!(numbers(&run(&leaked, &[])), [0, 1, 2]);
    let seen = run(&[3, 5, 8, 9], &["--preserve-fds=6"]);
    assert_eq!(numbers(&seen), [0, 1, 2, 3, 5, 8]);
    assert!(seen[3..].iter().all(|(_, target)| target == "/etc/hostname"), "{seen:?}");
    assert!(error(life.exec(&["--preserve-fds=100000"], &["true"])).contains("--preserve-fds"));
}

/// Sockets by the protocol of sd_listen_fds(3), for exec as for the payload.
#[test]
fn listening_sockets_are_passed_on() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let command =
        life.exec_command(&[], &sh("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | head -n 5 | tr '\\n' ' '"));
    let mut shell = Command::new("bash");
    shell.args([
        "-c",
        "LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\" 3</etc/hostname 4</etc/hostname 5</etc/hostname",
        "bash",
    ]);
    shell.arg(command.get_program()).args(command.get_args());
    let output = finish(shell, b"").ok();
    // No LISTEN_PID: nobody knows here which pid the process will see itself as.
    assert!(output.starts_with("2\n0 1 2 3 4 "), "{output}");
}

#[test]
fn into_a_created_container() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::script("touch /ran; exec sleep 1000");
        life.created(&[init]);
        assert_eq!(
            life.exec(&[], &sh("hostname; ls /ran 2>/dev/null; echo $$ >/tmp/pid; echo there")).ok(),
            "rspawn\nthere\n"
        );
        assert_eq!(life.status(), "created", "it waits as before");
        life.started();
        wait_for("the payload runs", || life.bundle.rootfs().join("ran").exists());
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
}

/// The container's configuration is that of its creation, not what the bundle has by now.
#[test]
fn it_goes_by_the_configuration_of_the_creation() {
    if cannot_make_containers() {
        return;
    }
    let life = running_with(|config| config["process"]["env"] = json!(["PATH=/bin", "FROM=creation"]));
    fs::remove_file(life.bundle.path().join("config.json")).unwrap();
    assert_eq!(life.exec(&[], &sh("echo $FROM")).ok(), "creation\n");
}

/// A first process that looks for a joiner among its neighbours finds nothing to hold on to.
#[test]
fn nobody_in_the_container_can_trace_the_joining_process() {
    if cannot_make_containers() {
        return;
    }
    // It has more rights than they until it gives them up, and is not dumpable from then until its exec.
    let watch = "while :; do for p in /proc/[0-9]*; do [ $(cat $p/comm 2>/dev/null)x = rspawn-initx ] \
        && [ ${p#/proc/} != 1 ] && echo seen >> /tmp/seen && readlink $p/exe $p/cwd $p/root >> /tmp/reached; \
        done 2>/dev/null; done";
    let life = Life::new(Bundle::script(watch).with(|config| {
        config["process"]["capabilities"] = json!({});
    }));
    life.created(&[]).started();
    // Several times, or for some time: a watch that sees nobody watches nothing.
    let began = std::time::Instant::now();
    wait_for("a joining process is seen", || {
        life.exec(&[], &["true"]).ok();
        let times = life.file("tmp/seen").lines().count();
        times >= 8 || (times > 0 && began.elapsed() > std::time::Duration::from_secs(20))
    });
    assert_eq!(life.file("tmp/reached"), "", "seen {} times", life.file("tmp/seen").lines().count());
}

#[test]
fn affinity_of_the_process() {
    let cpus = thread::available_parallelism().map_or(1, |n| n.get());
    if cannot_make_containers() || skip_unless(cpus > 1, "there is one processor only") {
        return;
    }
    let life = running();
    let mut process = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"],
        "cwd": "/", "execCPUAffinity": {"initial": "0", "final": "1"}});
    let option = process_file(&life, process.clone());
    assert_eq!(life.run(life.on_it("exec", &[&option])).ok(), "Cpus_allowed_list:\t1\n");
    process["execCPUAffinity"] = json!({"initial": "0-1"});
    let option = process_file(&life, process);
    assert_eq!(life.run(life.on_it("exec", &[&option])).ok(), "Cpus_allowed_list:\t0-1\n");
}

/// Many at once, in one container.
#[test]
fn many_at_once() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    thread::scope(|scope| {
        let all: Vec<_> = (0..12)
            .map(|n| {
                let life = &life;
                scope.spawn(move || {
                    let (child, paths) = life.spawn(&mut life.exec_command(&[], &["echo", &n.to_string()]));
                    assert_eq!(life.outcome(child, &paths).ok(), format!("{n}\n"));
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
    let left = life.exec(&[], &["ps"]).ok();
    assert_eq!(left.matches("echo").count(), 0, "{left}");
}

/// Errors of `exec --log`, as clients read them.
#[test]
fn a_failure_is_one_line_of_json() {
    if cannot_make_containers() {
        return;
    }
    let life = running();
    let log: PathBuf = life.bundle.path().join("log.json");
    let mut command = life.command(&["--log"]);
    command.arg(&log).args(["--log-format", "json", "exec", life.id(), "nothing"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = collect(child);
    assert_eq!(ended.status, 127, "a shell's status for what it cannot find");
    let stderr = ended.stderr;
    let entry: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).expect("one object");
    assert_eq!(entry["level"], "error");
    assert_eq!(format!("rspawn: {}\n", entry["msg"].as_str().unwrap()), stderr);
}
