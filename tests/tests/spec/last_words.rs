//! What is said of a start that fails, or waits, under the payload's seccomp filter; and what its agent hears when.
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, cannot_make_containers, program};
use serde_json::{Value, json};

/// A bundle whose program lacks its interpreter: that shows at execve alone. The calls are denied in one way.
fn without_interpreter(calls: &[&str], action: &str, no_new_privileges: bool) -> Bundle {
    let bundle = Bundle::new().with_args(&["/script"]);
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.with(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": calls, "action": action}]});
    })
}

#[test]
fn a_failed_exec_is_explained_under_any_filter() {
    if cannot_make_containers() {
        return;
    }
    // What reading the program and finding its name would take.
    let looks = ["openat", "openat2", "open", "read", "statx", "faccessat2", "mmap", "close", "sendmsg"];
    let with_write: Vec<&str> = looks.iter().copied().chain(["write", "exit_group"]).collect();
    for no_new_privileges in [false, true] {
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
            for init in ["--init=supervise", "--init=exec"] {
                let text = without_interpreter(&looks, action, no_new_privileges).run_with(&[init], b"").refused();
                assert!(text.contains("its interpreter /no/such/interpreter was not found"), "{text}");
                // Its words are not let pass, nor its end; the step is known all the same, and nothing spins.
                let mute = without_interpreter(&with_write, action, no_new_privileges);
                let text = mute.run_with(&[init], b"").refused();
                assert!(
                    text.contains("config.json /process/args: execute") && text.contains("execve: ENOENT"),
                    "{text}"
                );
            }
            let life = Life::new(without_interpreter(&looks, action, no_new_privileges));
            life.created(&[]);
            let text = error(life.start());
            assert!(text.contains("its interpreter /no/such/interpreter was not found"), "{text}");
            let life = Life::new(without_interpreter(&with_write, action, no_new_privileges));
            life.created(&[]);
            let text = error(life.start());
            assert!(text.contains("execve: ENOENT"), "{text}");
            life.wait_for_status("stopped");
        }
    }
}

#[test]
fn a_failed_exec_of_one_more_process_is_named() {
    if cannot_make_containers() {
        return;
    }
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let bundle = without_interpreter(&["statfs"], action, true);
        let life = Life::new(bundle.with_args(&["sleep", "1000"]));
        life.created(&[]).started();
        let process = json!({"cwd": "/", "args": ["/script"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true});
        let file = life.bundle.path().join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        let text = life.exec(&["--process", file.to_str().unwrap()], &[]).stderr;
        assert!(text.contains("its interpreter /no/such/interpreter was not found"), "{text}");
    }
}

/// What a filter around rspawn-init refuses of a look-up says nothing of the file.
#[test]
fn a_look_up_that_is_refused_is_no_answer() {
    if cannot_make_containers() {
        return;
    }
    for call in ["faccessat2", "statx"] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            for name in ["echo", "/bin/echo"] {
                let bundle = Bundle::new().with_args(&["/rspawn-init", "--", name, "it runs"]).with(|config| {
                    // One directory of PATH has no such program.
                    config["process"]["env"] = json!(["PATH=/sbin:/nothing:/bin"]);
                    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]});
                });
                fs::copy(program("rspawn-init"), bundle.rootfs().join("rspawn-init")).unwrap();
                assert_eq!(bundle.run().ok(), "it runs\n", "{call} {errno} {name}");
            }
        }
    }
    let missing = Bundle::new().with_args(&["/rspawn-init", "--", "nothing"]).with(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["statx"], "action": "SCMP_ACT_ERRNO"}]});
    });
    fs::copy(program("rspawn-init"), missing.rootfs().join("rspawn-init")).unwrap();
    let output = missing.run();
    assert!(output.status == 127 && output.stderr.contains("nothing: no such file"), "{output:?}");
}

fn with_listener(args: &[&str], no_new_privileges: bool, rules: Value) -> (Life, UnixListener) {
    let bundle = Bundle::new().with_args(args);
    let path = bundle.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let life = Life::new(bundle.with(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path.to_str().unwrap(), "syscalls": rules});
    }));
    (life, listener)
}

#[test]
fn the_agent_is_told_before_create_returns() {
    if cannot_make_containers() {
        return;
    }
    let rules = || json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    for no_new_privileges in [false, true] {
        for init in ["--init=exec", "--init=supervise"] {
            let (life, listener) = with_listener(&["sleep", "1000"], no_new_privileges, rules());
            life.created(&[init]);
            // Nothing is waited for: it is all there.
            let (mut stream, _) = listener.accept().expect("a connection that was made before");
            stream.set_nonblocking(true).unwrap();
            let mut message = String::new();
            stream.read_to_string(&mut message).expect("a message that ends, the connection closed");
            let state: Value = serde_json::from_str(&message).unwrap();
            assert_eq!((&state["state"]["status"], &state["fds"]), (&json!("creating"), &json!(["seccompFd"])));
            // Who waits for the start wears the filter, and hears those who ask it to end.
            let process = state["pid"].as_i64().unwrap();
            assert!(fs::read_to_string(format!("/proc/{process}/status")).unwrap().contains("Seccomp:\t2"));
            life.kill("TERM").ok();
            life.wait_for_status("stopped");
            assert!(listener.accept().is_err(), "a second connection");
        }
    }
}

#[test]
fn without_a_rule_that_asks_it_the_agent_hears_nothing() {
    if cannot_make_containers() {
        return;
    }
    let rules = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
    let (life, listener) = with_listener(&["sleep", "1000"], true, rules);
    assert_eq!(life.create(&[]).status, 0);
    assert_eq!(life.start().status, 0);
    assert_eq!(life.status(), "running");
    assert!(listener.accept().is_err(), "fd {}: a connection", listener.as_raw_fd());
}

/// A filter that refuses the wait at the gate: the start fails, and says why.
#[test]
fn a_gate_that_cannot_be_waited_at_is_named() {
    if cannot_make_containers() {
        return;
    }
    let rules =
        json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, {"names": ["read"], "action": "SCMP_ACT_ERRNO"}]);
    let (life, _listener) = with_listener(&["sleep", "1000"], true, rules);
    let (create, start) = (life.create(&[]), life.start());
    assert!(start.status == 1 || create.status == 1, "{create:?} {start:?}");
    let said = create.stderr + &start.stderr;
    assert!(said.contains("stopped") || said.contains("read: EPERM"), "{said}");
}
