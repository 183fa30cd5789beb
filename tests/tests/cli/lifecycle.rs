//! The life cycle of the specification (runtime.md): its states and errors, and what each command leaves and says.
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::life::{ConsoleSocket, FullQueue, Life, error};
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, collect, program, wait_for};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// podman's `--cgroups=disabled`.
#[test]
fn a_container_in_its_callers_cgroups() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("cat /proc/self/cgroup >/cgroups; exec sleep 1000");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut create = life.command(&["--cgroup-manager=disabled", "create", "--bundle"]);
    create.arg(life.bundle.path()).arg(life.id());
    assert_eq!(life.run(create).ok(), "");
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", life.pid())).unwrap(), own);
    assert_eq!(life.record().cgroups, []);
    life.started().stop();
    life.delete(&[]).ok();
    life.assert_gone();
}

#[test]
fn the_state_machine_and_its_errors() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::script("touch /ran; exec sleep 1000");
        let id = life.id();
        life.created(&[init]);
        assert_eq!(life.status(), "created");
        let pid = life.pid();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(name, "rspawn-init\n", "the payload waits");
        assert_eq!(error(life.create(&[init])), "container with given ID already exists");
        assert_eq!((life.status(), life.pid()), ("created".into(), pid), "the first one is untouched");
        assert!(!life.bundle.rootfs().join("ran").exists());

        life.started();
        wait_for("the payload runs", || life.bundle.rootfs().join("ran").exists());
        assert_eq!((life.status(), life.pid()), ("running".into(), pid));
        assert_eq!(error(life.start()), "cannot start an already running container");
        assert_eq!(error(life.delete(&[])), format!("cannot delete container {id} that is not stopped: running"));
        assert_eq!(error(life.create(&[])), "container with given ID already exists");
        assert_eq!(life.status(), "running");

        life.kill("KILL").ok();
        life.wait_for_status("stopped");
        assert_eq!(life.pid(), 0, "a number that may be another's by now is not shown");
        assert_eq!(error(life.start()), "cannot start a container that has stopped");
        for signal in ["TERM", "KILL", "0"] {
            assert_eq!(error(life.kill(signal)), "container not running");
        }
        life.run(life.on_it("kill", &["--all"])).ok();
        assert_eq!(error(life.exec(&[], &["true"])), "cannot exec in a stopped container");
        assert_eq!(error(life.create(&[])), "container with given ID already exists");

        assert_eq!(life.delete(&[]).ok(), "");
        life.assert_gone();
        for words in [["state"].as_slice(), &["start"], &["kill"], &["delete"]] {
            assert_eq!(error(life.run(life.on_it(words[0], &words[1..]))), "container does not exist", "{words:?}");
        }
        assert_eq!(error(life.exec(&[], &["true"])), "container does not exist");
        let output = life.delete(&["--force"]);
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
        // The id is free again.
        life.created(&[]).started();
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
}

#[test]
fn state_has_what_clients_read() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("exec sleep 1000").with(|config| {
        config["annotations"] = json!({"org.example.key": "a \"value\"\n", "empty": ""});
    });
    let life = Life::new(bundle);
    // The bundle by a relative path; the state has the absolute one.
    let mut create = life.command(&["create", "--bundle", ".", life.id()]);
    create.current_dir(life.bundle.path());
    life.run(create).ok();
    let state = life.state().unwrap();
    let bundle = life.bundle.path().to_str().unwrap();
    let mut members: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let all = ["annotations", "bundle", "created", "id", "ociVersion", "owner", "pid", "rootfs", "status"];
    assert_eq!(members, all);
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], life.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle);
    assert_eq!(state["rootfs"], format!("{bundle}/rootfs"));
    assert_eq!(state["owner"], "");
    assert_eq!(state["annotations"], json!({"org.example.key": "a \"value\"\n", "empty": ""}));
    assert!(fs::exists(format!("/proc/{}", state["pid"])).unwrap());
    let created = state["created"].as_str().unwrap();
    let date = Command::new("date").args(["-u", "-d", created, "+%s"]).output().unwrap();
    let created: u64 = String::from_utf8(date.stdout).unwrap().trim().parse().expect("RFC 3339");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(created <= now && now - created < 60, "{created} {now}");
    // Neither the bundle's change nor its end matters any more.
    fs::write(life.bundle.path().join("config.json"), "{}").unwrap();
    assert_eq!(life.state().unwrap()["annotations"], state["annotations"]);
    // Without annotations there is no member of that name.
    let plain = Life::idle();
    plain.created(&[]);
    assert!(plain.state().unwrap().get("annotations").is_none());
}

#[test]
fn list_in_its_three_forms() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let list = |options: &[&str]| {
        let mut command = life.command(&["list"]);
        command.args(options);
        life.run(command)
    };
    let head = "ID   PID   STATUS   BUNDLE   CREATED   OWNER\n";
    // As with runc: a root that was named and is not there is an error, and is not made. So is one that cannot be read.
    assert!(error(list(&[])).contains("No such file or directory"));
    assert!(!life.root.exists());
    fs::write(&life.root, "").unwrap();
    assert!(error(list(&[])).contains("Not a directory"));
    fs::remove_file(&life.root).unwrap();
    fs::create_dir(&life.root).unwrap();
    assert_eq!((list(&[]).ok().as_str(), list(&["-q"]).ok().as_str()), (head, ""));
    assert_eq!(list(&["--format", "json"]).ok(), "null\n");
    life.created(&[]);
    // What is no container is passed over: of other programs, half-made, of no id.
    fs::create_dir(life.root.join(".hidden")).unwrap();
    fs::create_dir(life.root.join("half-made")).unwrap();
    fs::create_dir(life.root.join("not an id")).unwrap();
    fs::write(life.root.join("file"), "").unwrap();
    let table = list(&[]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let state = life.state().unwrap();
    let pid = life.pid().to_string();
    let bundle = life.bundle.path().to_str().unwrap();
    let owner = life.bundle.user.as_ref().map_or("root".into(), |user| user.name());
    assert_eq!(rows[1], [life.id(), &pid, "created", bundle, state["created"].as_str().unwrap(), &owner]);
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(list(&["--quiet"]).ok(), format!("{}\n", life.id()));
    let listed: Value = serde_json::from_str(&list(&["-f", "json"]).ok()).unwrap();
    let mut expected = state.clone();
    expected["owner"] = json!(owner);
    assert_eq!(listed, json!([expected]));
    // A damaged one is told of, and keeps none of the others away.
    fs::create_dir(life.root.join("damaged")).unwrap();
    fs::write(life.root.join("damaged/record"), "garbage").unwrap();
    let output = list(&["-q"]);
    assert_eq!((output.status, output.stdout), (0, format!("{}\n", life.id())));
    assert!(output.stderr.contains("the record of container damaged is damaged"), "{}", output.stderr);
    assert!(error(list(&["--format", "yaml"])).contains("invalid format option"));
}

#[test]
fn the_pid_file_has_digits_and_appears_on_success_alone() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let file = life.bundle.path().join("pid");
    let option = format!("--pid-file={}", file.display());
    let read = || fs::read_to_string(&file).unwrap();
    life.created(&[&option]);
    assert_eq!(read(), life.pid().to_string());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    life.delete(&[]).ok();
    // Replaced by another file, never written to: a reader sees the old number or the new one.
    let kept = fs::File::open(&file).unwrap();
    life.run(life.making("run", &["--detach", &option])).ok();
    assert_eq!(read(), life.pid().to_string());
    assert_eq!(kept.metadata().unwrap().nlink(), 0);
    life.delete(&["--force"]).ok();
    // So is a link; what it leads to stays as it is.
    let victim = life.bundle.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&victim, &file).unwrap();
    life.created(&[&option]);
    assert_eq!((read(), fs::read_to_string(&victim).unwrap()), (life.pid().to_string(), "precious".into()));
    life.delete(&[]).ok();
    // Relative to where the command was started.
    let mut create = life.making("create", &["--pid-file", "relative"]);
    create.current_dir(life.bundle.path());
    life.run(create).ok();
    assert!(life.bundle.path().join("relative").exists());
    life.delete(&[]).ok();

    fs::remove_file(&file).unwrap();
    let failing = Life::new(Bundle::new().with_args(&["/no/such/program"]));
    let option = format!("--pid-file={}", failing.bundle.path().join("pid").display());
    for verb in ["create", "run"] {
        let text = error(failing.run(failing.making(verb, &[&option])));
        assert_eq!(text, "exec: \"/no/such/program\": stat /no/such/program: no such file or directory");
        let names: Vec<String> = fs::read_dir(failing.bundle.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("pid"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
    failing.assert_gone();
}

/// Clients stop containers that they never started; PID 1 has no default actions.
#[test]
fn a_signal_that_asks_to_end_ends_a_created_container() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        for signal in ["TERM", "INT", "HUP", "QUIT", "KILL"] {
            let life = Life::script("touch /ran");
            life.created(&[init]);
            life.kill(signal).ok();
            life.wait_for_status("stopped");
            assert!(!life.bundle.rootfs().join("ran").exists());
            assert_eq!(error(life.start()), "cannot start a container that has stopped");
            life.delete(&[]).ok();
            life.assert_gone();
        }
    }
}

#[test]
fn signals_by_name_and_number() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::payload(&["signals"]));
    let (child, paths) = life.spawn(&mut life.making("create", &[]));
    life.outcome(child, &paths).ok();
    life.started();
    let seen = || fs::read_to_string(&paths[0]).unwrap();
    wait_for("the payload is ready", || seen() == "ready\n");
    let mut expected = String::from("ready\n");
    for (signal, number) in [
        ("HUP", 1),
        ("SIGUSR1", 10),
        ("usr2", 12),
        ("sigwinch", 28),
        ("2", 2),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("64", 64),
    ] {
        life.kill(signal).ok();
        expected.push_str(&format!("{number}\n"));
        wait_for(signal, || seen() == expected);
    }
    // A probe: nothing is sent.
    assert_eq!(life.kill("0").ok(), "");
    for unknown in ["FOO", "SIG", "65", "-1", "RTMIN+31", ""] {
        let text = error(life.kill(unknown));
        assert!(text.starts_with(&format!("unknown signal {unknown:?}")), "{text}");
    }
    assert_eq!(life.status(), "running");
    // Without a word it is SIGTERM, which ends this payload.
    life.run(life.on_it("kill", &[])).ok();
    life.wait_for_status("stopped");
    assert!(seen().contains("\n15\n"), "{}", seen());
}

/// Processes of a shared pid namespace outlive the first one, and SIGKILL is for them too.
#[test]
fn what_is_left_of_a_container_can_be_killed() {
    if cannot_make_containers() {
        return;
    }
    let script = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/left";
    let life = Life::new(Bundle::script(script).without_namespaces(&["pid"]));
    life.created(&[]).started();
    life.wait_for_status("stopped");
    let left = Pid::from_raw(life.file("left").trim().parse().unwrap());
    assert_eq!(error(life.kill("TERM")), "container not running");
    assert_eq!(kill(left, None), Ok(()), "it lives on");
    if life.record().cgroups.is_empty() {
        // Of a user who has no cgroup, nobody knows what is left.
        assert_eq!(error(life.kill("KILL")), "container not running");
        kill(left, Signal::SIGKILL).unwrap();
    } else {
        assert_eq!(life.kill("KILL").ok(), "");
    }
    let state = || fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
    wait_for("what was left is dead", || state().is_empty() || state().contains(") Z "));
    life.delete(&[]).ok();
    life.assert_gone();
}

/// SIGSTOP stops whoever gets it, so an init cannot pass it on.
#[test]
fn the_payload_beside_an_init_stops_and_goes_on() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::script("(exec sleep 999) & exec sleep 1000");
        life.created(&[init]).started();
        let first = life.pid();
        let children = || fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let payload = || match init {
            "--init=exec" => Some(first),
            _ => children().split_whitespace().next()?.parse().ok(),
        };
        let words = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        wait_for("the payload runs", || payload().is_some_and(|pid| words(pid) == b"sleep\x001000\0"));
        let state = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        };
        let payload = payload().unwrap();
        life.kill("STOP").ok();
        for pid in [payload, first] {
            wait_for("it has stopped", || state(pid) == 'T');
        }
        life.kill("CONT").ok();
        for pid in [payload, first] {
            wait_for("it goes on", || state(pid) != 'T');
        }
        life.kill("SIGSTOP").ok();
        wait_for("it has stopped again", || state(payload) == 'T');
        life.stop();
    }
}

#[test]
fn created_containers_can_be_deleted_and_running_ones_by_force() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let pid = life.pid();
    life.delete(&[]).ok();
    life.assert_gone();
    assert!(!fs::exists(format!("/proc/{pid}/root/bin")).unwrap(), "the process is gone when the command is");
    life.created(&[]).started();
    life.delete(&["-f"]).ok();
    life.assert_gone();
}

#[test]
fn run_keeps_and_detaches() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("echo out; exit 3");
    let output = life.run(life.making("run", &[]));
    assert_eq!((output.status, output.stdout.as_str()), (3, "out\n"), "{}", output.stderr);
    life.assert_gone();
    let output = life.run(life.making("run", &["--keep"]));
    assert_eq!((output.status, life.status().as_str()), (3, "stopped"));
    assert_eq!(error(life.run(life.making("run", &[]))), "container with given ID already exists");
    life.delete(&[]).ok();
    life.assert_gone();

    let life = Life::script("echo out; exec sleep 1000");
    let mut run = life.making("run", &["--detach"]);
    let (child, paths) = life.spawn(&mut run);
    life.outcome(child, &paths).ok();
    assert_eq!(life.status(), "running");
    wait_for("the payload's output", || fs::read_to_string(&paths[0]).unwrap() == "out\n");
    assert_eq!(error(life.run(life.making("run", &["-d"]))), "container with given ID already exists");
    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
    // In the foreground others can look at it, kill it and join it.
    let (child, paths) = life.spawn(&mut life.making("run", &[]));
    life.wait_for_status("running");
    assert_eq!(life.exec(&[], &["echo", "joined"]).ok(), "joined\n");
    life.kill("KILL").ok();
    assert_eq!(life.outcome(child, &paths).status, 137);
    life.assert_gone();
    // And delete it by force, under the eyes of who runs it.
    let (child, paths) = life.spawn(&mut life.making("run", &[]));
    life.wait_for_status("running");
    assert!(error(life.delete(&[])).contains("that is not stopped: running"));
    life.delete(&["--force"]).ok();
    assert_eq!(life.outcome(child, &paths).status, 137);
    life.assert_gone();
}

fn on_terminal(script: &str) -> Life {
    Life::new(Bundle::script(script).with(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 11, "width": 22});
    }))
}

#[test]
fn the_console_goes_over_its_socket_in_one_message() {
    if cannot_make_containers() {
        return;
    }
    let life = on_terminal("stty size; read line; echo got $line; tty; exec sleep 1000");
    // The second path is longer than a socket address.
    let deep = life.bundle.path().join("x".repeat(150));
    fs::create_dir(&deep).unwrap();
    for path in [life.bundle.path().join("console.sock"), deep.join("console.sock")] {
        for verb in ["create", "run"] {
            let socket = ConsoleSocket::new(path.clone());
            let option = format!("--console-socket={}", path.display());
            let options = if verb == "run" { vec!["--detach", &option] } else { vec![option.as_str()] };
            let console = thread::scope(|scope| {
                let receiver = scope.spawn(|| socket.receive());
                life.run(life.making(verb, &options)).ok();
                receiver.join().unwrap()
            });
            assert!((1..4096).contains(&console.message.len()), "{:?}", console.message);
            if verb == "create" {
                life.started();
            }
            console.expect("11 22\r\n");
            console.master.write(b"a line\n").unwrap();
            console.expect("got a line\r\n/dev/pts/0\r\n");
            life.delete(&["--force"]).ok();
            life.assert_gone();
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_terminal_and_its_socket_go_together() {
    if cannot_make_containers() {
        return;
    }
    let life = on_terminal("true");
    let path = life.bundle.path().join("console.sock");
    let option = format!("--console-socket={}", path.display());
    let without = "cannot allocate tty if the container is detached, without --console-socket";
    assert_eq!(error(life.create(&[])), without);
    assert_eq!(error(life.run(life.making("run", &["--detach"]))), without);
    assert!(error(life.create(&[&option])).contains("--console-socket"), "no such socket");
    let socket = ConsoleSocket::new(path.clone());
    let useless = "cannot use --console-socket if the container is not detached or has no terminal";
    assert_eq!(error(life.run(life.making("run", &[&option]))), useless);
    let plain = Life::script("true");
    assert_eq!(error(plain.create(&[&option])), useless);
    // Somebody was there, and is no more: the file of the socket is left.
    drop(socket);
    let text = error(life.create(&[&option]));
    assert!(text.contains("Connection refused"), "{text}");
    life.assert_gone();
    plain.assert_gone();
}

/// Who listens hangs up before the master comes: strace holds rspawn up once it has connected.
#[test]
fn a_console_socket_that_closes_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    if rspawn_tests::skip_unless(Path::new("/usr/bin/strace").exists(), "strace is not installed") {
        return;
    }
    // The second time rspawn-setup has made the container long before rspawn hears of it.
    for slow in [&[][..], &["-e", "inject=recvmsg:delay_enter=500000"]] {
        for socket_of in ["console", "pidfd"] {
            let life = on_terminal("exec sleep 1000");
            let path = life.bundle.path().join("closing.sock");
            let other = ConsoleSocket::new(life.bundle.path().join("other.sock"));
            let socket = ConsoleSocket::new(path.clone());
            let option = |name: &str| {
                let path = if name == socket_of { "closing.sock" } else { "other.sock" };
                format!("--{name}-socket={}", life.bundle.path().join(path).display())
            };
            let inner = life.making("create", &[&option("console"), &option("pidfd")]);
            let mut command = Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", "trace=connect,recvmsg"]);
            command.args(["-e", "inject=connect:delay_exit=1000000"]).args(slow);
            command.arg(inner.get_program()).args(inner.get_args());
            let (child, paths) = life.spawn(&mut command);
            drop(socket.accept());
            drop(socket);
            let text = error(life.outcome(child, &paths));
            assert!(text.contains(&format!("cannot send to the {socket_of} socket: EPIPE")), "{text}");
            life.assert_gone();
            drop(other);
        }
    }
}

#[test]
fn a_console_socket_that_never_answers_keeps_nobody_waiting_for_ever() {
    if cannot_make_containers() {
        return;
    }
    let life = on_terminal("exec sleep 1000");
    let path = life.bundle.path().join("console.sock");
    let option = format!("--console-socket={}", path.display());
    // It need not be accepted before `create` ends: the message waits in the socket.
    let socket = ConsoleSocket::new(path.clone());
    life.created(&[&option]);
    socket.receive();
    life.delete(&["--force"]).ok();
    drop(socket);
    // A queue that is full is another matter.
    fs::remove_file(&path).unwrap();
    let _full = FullQueue::new(&path);
    let text = error(life.create(&[&option]));
    assert!(text.contains("nobody accepts connections"), "{text}");
    life.assert_gone();
}

#[test]
fn the_pidfd_goes_over_its_socket() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let path = life.bundle.path().join("pidfd.sock");
    let socket = ConsoleSocket::new(path.clone());
    let console = thread::scope(|scope| {
        let receiver = scope.spawn(|| socket.receive());
        life.created(&[&format!("--pidfd-socket={}", path.display())]);
        receiver.join().unwrap()
    });
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", console.master.raw())).unwrap();
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd").trim();
    assert_eq!(pid, life.pid().to_string());
}

/// Nothing of rspawn's but the container's own first process is there between the commands.
#[test]
fn state_needs_no_process() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let own = life.root.to_str().unwrap();
    let alive: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(own))
        .collect();
    assert!(alive.is_empty(), "{alive:?}");
    life.started();
    assert_eq!(life.status(), "running");
}

/// `start` is killed while a startContainer hook keeps it: the container is what it is, not what `start` has noted.
#[test]
fn state_survives_a_start_that_is_killed() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("touch /ran; exec sleep 1000").with(|config| {
        let script = "touch /hook; while [ ! -e /go ]; do sleep 0.02; done";
        config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let life = Life::new(bundle);
    life.created(&[]);
    let (start, paths) = life.spawn(&mut life.on_it("start", &[]));
    let root = life.bundle.rootfs();
    wait_for("the hook runs", || root.join("hook").exists());
    assert_eq!(life.status(), "created", "the payload does not run yet");
    kill(Pid::from_raw(start.id() as i32), Signal::SIGKILL).unwrap();
    assert_eq!(life.outcome(start, &paths).status, 137);
    assert_eq!(life.status(), "created");
    fs::write(root.join("go"), "").unwrap();
    wait_for("the payload runs", || root.join("ran").exists());
    life.wait_for_status("running");
    assert_eq!(error(life.start()), "cannot start an already running container");
    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
}

/// A pid that is another's by now, or of another run of the machine, is not the container's.
#[test]
fn a_stale_record_is_recognised() {
    if cannot_make_containers() {
        return;
    }
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    // Times of processes count in hundredths of a second: who begins in the same one is told apart by nothing else.
    std::thread::sleep(Duration::from_millis(50));
    let stale = |change: &dyn Fn(&mut rspawn_proto::record::Record)| {
        let life = Life::idle();
        life.created(&[]).started();
        let honest = life.record();
        life.change_record(change);
        assert_eq!((life.status().as_str(), life.pid()), ("stopped", 0));
        assert_eq!(error(life.kill("KILL")), "container not running");
        assert_eq!(error(life.exec(&[], &["true"])), "cannot exec in a stopped container");
        assert_eq!(error(life.start()), "cannot start a container that has stopped");
        life.delete(&[]).ok();
        assert!(!life.state_directory().exists());
        // The container itself was hidden from all of them; its cgroup was not, with which it may be gone already.
        let _ = kill(Pid::from_raw(honest.pid), Signal::SIGKILL);
    };
    let other = bystander.id() as i32;
    stale(&|record| record.pid = other);
    stale(&|record| record.start_time += 1);
    stale(&|record| record.boot = rspawn_proto::ids::Text::new("00000000-0000-4000-8000-000000000000").unwrap());
    assert_eq!(bystander.try_wait().unwrap(), None, "the bystander was hit");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Runs a command in many processes at once.
fn race(life: &Life, count: usize, command: impl Fn() -> Command + Sync) -> Vec<Output> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let (child, paths) = life.spawn(&mut command());
                    life.outcome(child, &paths)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// That one of the commands has won, and what all the others said.
#[track_caller]
fn one_winner(outputs: Vec<Output>, losers_say: &[&str]) {
    let (winners, losers): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|output| output.status == 0);
    assert_eq!(winners.len(), 1, "{winners:?} {losers:?}");
    for loser in losers {
        let text = error(loser);
        assert!(losers_say.contains(&text.as_str()), "{text}");
    }
}

#[test]
fn of_many_commands_at_once_one_wins() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    for _ in 0..3 {
        one_winner(race(&life, 6, || life.making("create", &[])), &["container with given ID already exists"]);
        assert_eq!(life.status(), "created");
        one_winner(race(&life, 6, || life.on_it("start", &[])), &["cannot start an already running container"]);
        assert_eq!(life.status(), "running");
        life.stop();
        one_winner(race(&life, 6, || life.on_it("delete", &[])), &["container does not exist"]);
        life.assert_gone();
        // By force all of them are content.
        life.created(&[]).started();
        assert!(race(&life, 6, || life.on_it("delete", &["--force"])).iter().all(|output| output.status == 0));
        life.assert_gone();
    }
}

/// What commands that race with all the others may say.
const OF_LOSERS: [&str; 15] = [
    "container with given ID already exists",
    "container does not exist",
    "container not running",
    "cannot start an already running container",
    "cannot start a container that has stopped",
    "cannot exec in a stopped container",
    "that is not stopped: running",
    // Killed by another while it was being made, or joined.
    "before the payload began",
    "the container has ended",
    // A user may not join a process that is between its exec of rspawn-init and the end of its last mile.
    "setns: EPERM",
    "died",
    "ESRCH",
    "ENOMEM",
    "ENOENT",
    "config.json /process/args",
];

/// What `start` alone may say: another has killed the process that it had let go.
const OF_START: &str = "the container's process was killed before it executed the payload";

/// One command of a race.
fn racer(life: &Life, verb: &str) -> Command {
    match verb {
        "create" => life.making("create", &[]),
        "run" => life.making("run", &["--detach"]),
        "kill" => {
            let mut command = life.on_it("kill", &[]);
            command.arg("KILL");
            command
        }
        "exec" => life.exec_command(&[], &["true"]),
        "force" => life.on_it("delete", &["--force"]),
        verb => life.on_it(verb, &[]),
    }
}

/// Runs one command again and again; gives the answers that it cannot give.
fn wrong_answers(life: &Life, verb: &str, deadline: Instant) -> Vec<String> {
    let mut wrong = Vec::new();
    while Instant::now() < deadline {
        let (child, paths) = life.spawn(&mut racer(life, verb));
        let output = life.outcome(child, &paths);
        paths.iter().for_each(|path| drop(fs::remove_file(path)));
        // 137: the process that was joined to the container died with it.
        let fine = match output.status {
            0 => output.stderr.is_empty(),
            137 => verb == "exec",
            1 if verb == "start" && output.stderr.contains(OF_START) => true,
            1 | 126 | 127 | 255 => OF_LOSERS.iter().any(|text| output.stderr.contains(text)),
            _ => false,
        };
        if !fine || output.stderr.contains("panicked") {
            wrong.push(format!("{verb}: {output:?}"));
        }
    }
    wrong
}

/// Everything at once: each answer is one of those that the command can give, and nothing is left in the end.
#[test]
fn commands_that_race_never_corrupt_a_container() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let deadline = Instant::now() + Duration::from_secs(8);
    let wrong: Vec<String> = thread::scope(|scope| {
        let verbs = ["create", "run", "start", "state", "kill", "exec", "delete", "force"];
        let life = &life;
        let all = verbs.map(|verb| scope.spawn(move || wrong_answers(life, verb, deadline)));
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    life.delete(&["--force"]).ok();
    life.assert_gone();
    life.created(&[]).started();
    assert_eq!(life.status(), "running");
}

/// What `run` was to remove and could not, since it was killed, is in nobody's way.
#[test]
fn the_state_of_a_killed_run_is_in_nobodys_way() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("touch /started; exec sleep 1000");
    let started = life.bundle.rootfs().join("started");
    let (run, _) = life.spawn(&mut life.making("run", &[]));
    wait_for("the payload runs", || started.exists());
    // rspawn and its helper at once, so that nobody cleans up.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.id())).unwrap();
    for pid in children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([run.id() as i32]) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    collect(run);
    life.wait_for_status("stopped");
    let output = life.run(life.making("run", &["--detach"]));
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(life.status(), "running");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

#[test]
fn ids_are_names_and_nothing_else() {
    let scratch = Scratch::new();
    let long = "x".repeat(2000);
    for id in ["", ".", "..", "a/b", "/", "../x", "a b", "a\n", "ä", &long] {
        for verb in ["create", "run", "start", "state", "kill", "delete", "exec"] {
            let mut command = Command::new(program("rspawn"));
            command.arg("--root").arg(scratch.path.join("state")).arg(verb).arg("--").arg(id);
            if verb == "exec" {
                command.arg("true");
            }
            command.current_dir(&scratch.path);
            let text = rspawn_tests::finish(command, b"").refused();
            assert!(text.len() < 4000 && text.lines().count() == 1, "{verb} {id:?}: {text}");
        }
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(scratch.path.join("state")).args(["delete", "--force", "--", id]);
        rspawn_tests::finish(command, b"").refused();
    }
    let left: Vec<PathBuf> =
        fs::read_dir(scratch.path.join("state")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What only the exec itself can tell, after the filter: `start` says it, and the container has stopped.
#[test]
fn a_payload_that_cannot_be_executed_fails_the_start() {
    if cannot_make_containers() {
        return;
    }
    for no_new_privileges in [true, false] {
        for init in ["--init=supervise", "--init=exec"] {
            let bundle = Bundle::new().with_args(&["/script"]).with(|config| {
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            });
            let script = bundle.rootfs().join("script");
            fs::write(&script, "#!/no/such/interpreter\n").unwrap();
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let life = Life::new(bundle);
            life.created(&[init]);
            let text = error(life.start());
            assert!(text.contains("its interpreter /no/such/interpreter was not found"), "{init}: {text}");
            assert_eq!(life.status(), "stopped");
            life.delete(&[]).ok();
            life.assert_gone();
        }
    }
    // And one that ends at once has begun.
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::script("touch /ran");
        life.created(&[init]).started();
        life.wait_for_status("stopped");
        assert!(life.bundle.rootfs().join("ran").exists());
    }
}
