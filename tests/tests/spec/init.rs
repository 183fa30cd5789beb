//! rspawn-init: PID 1 beside the payload, in its place, and by itself.
use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::{
    Bundle, Lines, Output, Scratch, cannot_make_containers, collect, container_processes, finish, program,
    status_field, wait_for,
};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

const MODES: [&str; 2] = ["--init=supervise", "--init=exec"];

/// Starts a bundle whose payload prints lines, and gives those.
fn start(bundle: &Bundle, options: &[&str]) -> (Child, Lines) {
    let mut command = bundle.command(options);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(&mut child);
    (child, lines)
}

/// Sends a signal of any number: nix knows no real-time ones.
fn send(child: &Child, number: i32) {
    let status = Command::new("bash").args(["-c", &format!("kill -{number} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

fn plan(bundle: &Bundle, options: &[&str]) -> String {
    bundle.write_config();
    finish(
        {
            let mut command = Command::new(program("rspawn"));
            command.arg("plan").args(options).arg(bundle.path());
            command
        },
        b"",
    )
    .ok()
}

#[test]
fn the_mode_is_chosen_by_what_the_payload_is() {
    if cannot_make_containers() {
        return;
    }
    // PID 1's own name tells who it is: the payload's in exec mode.
    let first = |bundle: &Bundle, options: &[&str]| bundle.run_with(options, b"").ok().trim_end().to_string();
    let named = |name: &str| {
        let bundle = Bundle::new().with_args(&[&format!("/bin/{name}"), "-c", "cat /proc/1/comm; exit 0"]);
        fs::copy(bundle.rootfs().join("bin/busybox"), bundle.rootfs().join("bin").join("real-sh")).unwrap();
        // A script, so that the name is the program's whatever busybox makes of it.
        fs::write(bundle.rootfs().join("bin").join(name), "#!/bin/sh\ncat /proc/1/comm\n").unwrap_or(());
        let path = bundle.rootfs().join("bin").join(name);
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bundle
    };
    for name in ["tini", "dumb-init", "catatonit", "s6-svscan", "systemd", "init"] {
        let bundle = named(name);
        assert_eq!(first(&bundle, &[]), name);
        assert_eq!(first(&bundle, &["--init=supervise"]), "rspawn-init");
        let text = plan(&bundle, &[]);
        assert!(text.contains(&format!("{name} is an init itself")), "{text}");
    }
    let ordinary = named("server");
    assert_eq!(first(&ordinary, &[]), "rspawn-init");
    assert_eq!(first(&ordinary, &["--init=exec"]), "server");
    assert!(plan(&ordinary, &[]).contains("the default of a foreground run in a new pid namespace"));
    assert!(plan(&ordinary, &["--init=exec"]).contains("--init=exec"));
    let annotated = |value: &str| {
        let value = value.to_string();
        named("server").with(move |config| config["annotations"] = json!({"org.rspawn.init": value}))
    };
    assert_eq!(first(&annotated("exec"), &[]), "server");
    assert_eq!(first(&annotated("supervise"), &[]), "rspawn-init");
    assert_eq!(first(&annotated("exec"), &["--init=supervise"]), "rspawn-init");
    assert!(plan(&annotated("exec"), &[]).contains("/annotations/org.rspawn.init"));
    let refused = annotated("maybe").run().refused();
    assert!(refused.contains("/annotations/org.rspawn.init") && refused.contains("maybe"), "{refused}");
}

#[test]
fn without_a_pid_namespace_there_is_no_init() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("exit 9").without_namespaces(&["pid"]);
    assert!(plan(&bundle, &[]).contains("there is no new pid namespace"));
    assert_eq!(bundle.run().status, 9);
}

#[test]
fn it_runs_from_sealed_memory() {
    if cannot_make_containers() {
        return;
    }
    let script = "readlink /proc/1/exe; cat /proc/1/comm; ( : >>/proc/1/exe ) 2>/dev/null && echo written; sleep 1000";
    let bundle = Bundle::script(script).with(|config| {
        // As strong as a payload can be: it is the seals that protect, and not a missing right.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let own = u64::from_str_radix(status_field(&status, "CapEff").unwrap(), 16).unwrap();
        let all: Vec<String> =
            (0..41).filter(|n| own & (1 << n) != 0).map(rspawn_planner::tables::capability_name).collect();
        config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    });
    let (mut child, mut lines) = start(&bundle, &["--init=supervise"]);
    let text = lines.next().unwrap();
    assert!(text.contains("memfd:rspawn-init"), "{text}");
    assert_eq!(lines.next().unwrap(), "rspawn-init");
    wait_for("the payload", || container_processes(&bundle).len() >= 2);
    let init = container_processes(&bundle)[0];
    let image = fs::File::open(format!("/proc/{init}/exe")).unwrap();
    let seals = nix::fcntl::fcntl(&image, nix::fcntl::FcntlArg::F_GET_SEALS).unwrap();
    let wanted = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    assert_eq!(seals & wanted, wanted);
    // What nobody may read is not dumpable, and so not traceable, from its exec on (ptrace(2)).
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&image.metadata().unwrap()) & 0o7777, 0o111);
    child.kill().unwrap();
    assert!(lines.next().is_none(), "the payload could write to the init");
    child.wait().unwrap();
    bundle.assert_nothing_left();
}

#[test]
fn pid_1_holds_no_more_than_the_payload() {
    if cannot_make_containers() {
        return;
    }
    for (uid, kill) in [(0, true), (1000, true), (0, false)] {
        let names = if kill { json!(["CAP_KILL", "CAP_CHOWN"]) } else { json!(["CAP_CHOWN"]) };
        let bundle = Bundle::script("cat /proc/1/status; echo; cat /proc/self/status").with(|config| {
            config["process"]["user"] = json!({"uid": uid, "gid": 500, "additionalGids": [501]});
            config["process"]["capabilities"] =
                json!({"bounding": names, "permitted": names, "effective": names, "inheritable": names});
        });
        let output = bundle.run_with(&["--init=supervise"], b"").ok();
        let (init, payload) = output.split_once("\n\n").unwrap();
        for field in ["Uid", "Gid", "Groups", "CapBnd"] {
            assert_eq!(status_field(init, field), status_field(payload, field), "{field}");
        }
        let mask = |text, field| u64::from_str_radix(status_field(text, field).unwrap(), 16).unwrap();
        let expected = if kill && uid == 0 { 0x20 } else { 0 };
        for field in ["CapPrm", "CapEff"] {
            assert_eq!(mask(init, field), expected, "{field} of uid {uid}");
            assert_eq!(mask(init, field) & !mask(payload, field), 0, "{field} of uid {uid}");
        }
        assert_eq!((mask(init, "CapInh"), mask(init, "CapAmb")), (0, 0));
        assert_eq!((status_field(init, "Seccomp"), status_field(init, "NoNewPrivs")), (Some("2"), Some("1")));
    }
}

#[test]
fn the_payload_can_look_at_pid_1() {
    if cannot_make_containers() {
        return;
    }
    for uid in [0, 1000] {
        let script = "tr '\\0' '\\n' </proc/1/environ; tr '\\0' ' ' </proc/1/cmdline; echo; ls -1 /proc/1/fd; \
                      echo via-fd >/proc/1/fd/1";
        let bundle = Bundle::script(script).with(|config| {
            config["process"]["user"] = json!({"uid": uid, "gid": uid});
            config["process"]["env"] = json!(["PATH=/bin", "HOME=/", "MARK=here"]);
        });
        let mut command = bundle.command(&["--init=supervise"]);
        command.stdin(Stdio::null());
        let output = finish(command, b"");
        // Whether a pipe of the caller's can be opened anew is its owner's matter; the rest must work.
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines.contains(&"MARK=here"), "{output:?}");
        assert!(lines.iter().any(|line| line.starts_with("rspawn-init ") && line.contains("-- sh -c")), "{output:?}");
        for number in ["0", "1", "2"] {
            assert!(lines.contains(&number), "{output:?}");
        }
        // No other descriptor: the socket to rspawn-setup is closed.
        assert!(!lines.iter().any(|line| line.parse::<i32>().is_ok_and(|number| number > 2)), "{output:?}");
        assert!(uid != 0 || lines.contains(&"via-fd"), "{output:?}");
    }
}

#[test]
fn nothing_of_rspawns_own_confinement_reaches_the_payload() {
    if cannot_make_containers() {
        return;
    }
    let names = json!(["CAP_SYS_ADMIN", "CAP_CHOWN"]);
    for mode in MODES {
        // A mount, and files and signals that Landlock would deny.
        let bundle = Bundle::script(
            "cat /proc/self/status; mkdir /tmp/m; mount -t tmpfs none /tmp/m && touch /tmp/m/f && echo mounted; \
             sleep 100 & kill $! && echo killed",
        )
        .with(|config| {
            config["process"]["capabilities"] = json!({"bounding": names, "permitted": names, "effective": names});
            config["process"]["noNewPrivileges"] = json!(false);
            // A user's container has one anyway, and can have no other ids.
            if rspawn_tests::lanes::user::is_here() {
                return;
            }
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        let output = bundle.run_with(&[mode], b"").ok();
        assert_eq!((status_field(&output, "Seccomp"), status_field(&output, "NoNewPrivs")), (Some("0"), Some("0")));
        assert!(output.contains("mounted") && output.contains("killed"), "{mode}: {output}");
    }
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::payload(&["orphans", "10000"]);
    assert_eq!(bundle.run_with(&["--init=supervise"], b"").ok(), "zombies 0\n");
}

#[test]
fn every_signal_that_can_be_forwarded_is() {
    if cannot_make_containers() {
        return;
    }
    for mode in MODES {
        let bundle = Bundle::payload(&["signals"]);
        let (child, mut lines) = start(&bundle, &[mode]);
        assert_eq!(lines.next().unwrap(), "ready");
        let not_forwarded = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGPIPE, libc::SIGTERM];
        // 32 and 33 are the C library's; bash sends them all the same.
        for number in (1..=64).filter(|number| !not_forwarded.contains(number)) {
            send(&child, number);
            assert_eq!(lines.next().unwrap(), number.to_string(), "{mode}");
        }
        send(&child, libc::SIGTERM);
        assert_eq!(lines.next().unwrap(), "15");
        assert_eq!(collect(child).status, 0);
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_payload_can_be_stopped_and_continued() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo ready; while :; do sleep 0.05; done");
    let (mut child, mut lines) = start(&bundle, &["--init=supervise"]);
    assert_eq!(lines.next().unwrap(), "ready");
    let payload = container_processes(&bundle)[1];
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{payload}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    };
    send(&child, libc::SIGTSTP);
    wait_for("the stop", || state() == 'T');
    send(&child, libc::SIGCONT);
    wait_for("the continuation", || state() != 'T');
    child.kill().unwrap();
    child.wait().unwrap();
    bundle.assert_nothing_left();
}

#[test]
fn a_flood_of_signals() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::payload(&["signals"]);
    let (child, mut lines) = start(&bundle, &["--init=supervise"]);
    assert_eq!(lines.next().unwrap(), "ready");
    // A number that queues (34, the first real-time one) and one that does not.
    let flood = format!("for ((i = 0; i < 5000; i++)); do kill -34 {0}; kill -10 {0}; done", child.id());
    assert!(Command::new("bash").args(["-c", &flood]).status().unwrap().success());
    send(&child, libc::SIGTERM);
    let rest: Vec<String> = lines.collect();
    assert_eq!(collect(child).status, 0);
    for number in ["34", "10", "15"] {
        assert!(rest.iter().any(|line| line == number), "{rest:?}");
    }
    let count: u32 = rest.last().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count > 0 && count <= 5000, "{rest:?}");
    bundle.assert_nothing_left();
}

#[test]
fn a_killed_payload_is_137() {
    if cannot_make_containers() {
        return;
    }
    for mode in MODES {
        let bundle = Bundle::script("echo ready; sleep 1000 & wait");
        let (child, mut lines) = start(&bundle, &[mode]);
        assert_eq!(lines.next().unwrap(), "ready");
        let processes = container_processes(&bundle);
        let payload = processes[usize::from(mode == "--init=supervise")];
        kill(Pid::from_raw(payload), Signal::SIGKILL).unwrap();
        assert_eq!(collect(child).status, 137);
        bundle.assert_nothing_left();
    }
}

#[test]
fn death_of_the_init_or_of_rspawn_ends_everything() {
    if cannot_make_containers() {
        return;
    }
    let started = || {
        let bundle = Bundle::script("setsid sleep 1000 & sleep 1000 & echo ready; wait");
        let (child, mut lines) = start(&bundle, &["--init=supervise"]);
        assert_eq!(lines.next().unwrap(), "ready");
        (bundle, child)
    };
    let (bundle, child) = started();
    kill(Pid::from_raw(container_processes(&bundle)[0]), Signal::SIGKILL).unwrap();
    assert_eq!(collect(child).status, 137);
    bundle.assert_nothing_left();
    let (bundle, mut child) = started();
    child.kill().unwrap();
    child.wait().unwrap();
    bundle.assert_nothing_left();
    // rspawn-setup, rspawn's only child.
    let (bundle, child) = started();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    let output = collect(child);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("rspawn-setup died"), "{}", output.stderr);
    bundle.assert_nothing_left();
}

#[test]
fn exit_statuses_are_exact() {
    if cannot_make_containers() {
        return;
    }
    // All of them pass through the same code; every one of 256 through one mode, some through the other.
    let run = |mode: &str, status: i32| {
        let bundle = Bundle::payload(&["exit", &status.to_string()]);
        assert_eq!(bundle.run_with(&[mode], b"").status, status, "{mode}");
    };
    let one = Bundle::payload(&["exit", "0"]);
    for status in 0..=255 {
        let mut again = Bundle {
            scratch: rspawn_tests::Scratch::new(),
            config: one.config.clone(),
            id: one.id.clone(),
            user: None,
        };
        again.config["root"]["path"] = json!(one.rootfs());
        again.config["process"]["args"] = json!(["/payload", "exit", status.to_string()]);
        let output = finish(again.command(&["--init=supervise"]), b"");
        assert_eq!(output.status, status, "{output:?}");
    }
    for status in [0, 1, 2, 126, 127, 128, 137, 254, 255] {
        run("--init=exec", status);
    }
}

#[test]
fn the_payloads_children_end_with_it() {
    if cannot_make_containers() {
        return;
    }
    for mode in MODES {
        let bundle = Bundle::script("sleep 1000 & setsid sleep 1000 & exit 3");
        // The streams are inherited by those children: had they lived on, this would hang.
        assert_eq!(bundle.run_with(&[mode], b"").status, 3);
    }
}

fn alone(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("rspawn-init"));
    command.args(arguments);
    finish(command, b"")
}

#[test]
fn standalone_it_is_an_init_for_anyone() {
    assert_eq!(alone(&["--", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(alone(&["sh", "-c", "echo out; kill -9 $$"]).status, 137);
    assert_eq!(alone(&["--", "echo", "--stage=3", "--"]).stdout, "--stage=3 --\n");
    for (arguments, status, word) in [
        (&["--", "/no/such"][..], 127, "no such file"),
        (&["--", "nothing-of-that-name"], 127, "not found"),
        (&["--", "/etc/passwd"], 126, "permission denied"),
        (&["--", "/etc"], 126, "is a directory"),
        (&[], 2, "usage"),
        (&["--"], 2, "usage"),
        (&["--unknown"], 2, "usage"),
    ] {
        let output = alone(arguments);
        assert_eq!(output.status, status, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(word) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// The default profiles of engines have ENOSYS for clone3(2), so that programs take clone(2), which a filter can judge.
#[test]
fn as_an_entry_point_it_needs_no_clone3() {
    if cannot_make_containers() {
        return;
    }
    let payload = ["/rspawn-init", "--", "sh", "-c", "echo $PPID; exit 7"];
    let bundle = Bundle::new().with_args(&payload).with(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
    });
    fs::copy(program("rspawn-init"), bundle.rootfs().join("rspawn-init")).unwrap();
    let output = finish(bundle.command(&["--init=exec"]), b"");
    assert_eq!((output.status, output.stdout.as_str()), (7, "1\n"), "{output:?}");
}

#[test]
fn standalone_it_adopts_orphans_and_forwards_signals() {
    // The orphan's parent becomes rspawn-init, which is the payload's own, and not the machine's init. It is an orphan
    // once its parent is another than the shell that made it ($$), and the payload waits for what it says then.
    let scratch = Scratch::new();
    let place = scratch.path.display();
    let orphan = "parent=$$; while [ $parent = $$ ]; do sleep 0.01; read -r a b c parent rest </proc/$BASHPID/stat; done; \
        echo $parent >said.part; mv said.part said";
    let script =
        format!("cd {place}; echo $PPID; bash -c '({orphan}) &'; until [ -e said ]; do sleep 0.01; done; cat said");
    let output = alone(&["--", "bash", "-c", &script]).ok();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{output}");
    let mut command = Command::new(program("rspawn-init"));
    command.args(["--", "bash", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::of(&mut child);
    assert_eq!(lines.next().unwrap(), "ready");
    send(&child, libc::SIGUSR1);
    assert_eq!(collect(child).status, 5);
}

#[test]
fn as_an_images_entry_point() {
    if cannot_make_containers() {
        return;
    }
    let bundle = |arguments: &[&str]| {
        let bundle = Bundle::new().with_args(&[&["/rspawn-init"], arguments].concat());
        fs::copy(program("rspawn-init"), bundle.rootfs().join("rspawn-init")).unwrap();
        bundle
    };
    let ran = bundle(&["--", "sh", "-c", "readlink /proc/1/exe; (sleep 0.1 &) ; exit 6"]).run();
    assert_eq!((ran.status, ran.stdout.as_str()), (6, "/rspawn-init\n"), "{}", ran.stderr);
    assert_eq!(bundle(&["--", "/no/such"]).run().status, 127);
    assert_eq!(bundle(&["--", "/etc"]).run().status, 126);
}
