//! `SCMP_ACT_NOTIFY`: an agent on the host gets the filter's listener, and answers for the kernel.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rspawn_tests::hostile::only;
use rspawn_tests::life::{ConsoleSocket, FullQueue, Life};
use rspawn_tests::{Bundle, cannot_make_containers};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// A bundle whose calls of mkdir an agent decides about.
fn bundle(script: &str, no_new_privileges: bool, socket: &str) -> Bundle {
    let mut bundle = Bundle::script(script).with(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["annotations"] = json!({"a": "\"quoted\""});
    });
    let path =
        if socket.starts_with('/') { socket.to_string() } else { bundle.path().join(socket).display().to_string() };
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for \"me\"",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]});
    bundle
}

/// Takes one listener, and answers every call: the first by an error that no kernel gives here, all others by having
/// the kernel do them. Gives what it was told.
fn agent(directory: &Path, asked: &Arc<AtomicUsize>) -> JoinHandle<Value> {
    let socket = ConsoleSocket::new(directory.join("agent"));
    let asked = asked.clone();
    std::thread::spawn(move || {
        let told = socket.receive();
        let listener = told.master;
        // It ends with the last process under the filter.
        while let Ok(request) = ScmpNotifReq::receive(listener.raw()) {
            let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            let answer = if is_first {
                ScmpNotifResp::new_error(request.id, -libc::ENOMEDIUM, ScmpNotifRespFlags::empty())
            } else {
                ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty())
            };
            answer.respond(listener.raw()).expect("an answer");
        }
        serde_json::from_slice(&told.message).expect("JSON")
    })
}

/// What runs beside it is shown once it is the same twice: who passed the listener on may be about to end.
const SCRIPT: &str = "mkdir /tmp/one; mkdir /tmp/two && rmdir /tmp/two && echo two; \
    until ps -o comm >/tmp/a; sleep 0.1; ps -o comm >/tmp/b; cmp -s /tmp/a /tmp/b; do :; done; cat /tmp/a";

#[test]
fn the_agent_answers_for_the_kernel() {
    if cannot_make_containers() {
        return;
    }
    for no_new_privileges in [false, true] {
        for init in ["--init=supervise", "--init=exec"] {
            let bundle = bundle(SCRIPT, no_new_privileges, "agent");
            let asked = Arc::default();
            let agent = agent(bundle.path(), &asked);
            let output = bundle.run_with(&[init], b"");
            let state = agent.join().expect("the agent");
            assert_eq!(asked.load(Ordering::Relaxed), 2, "{output:?}");
            assert!(output.stderr.contains("No medium found"), "{output:?}");
            // No process of rspawn's is left beside the payload but its own PID 1.
            let processes = if init == "--init=exec" { "sh\nps\n" } else { "rspawn-init\nsh\nps\n" };
            assert_eq!(output.ok(), format!("two\nCOMMAND\n{processes}"));
            assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("for \"me\"")));
            let container = &state["state"];
            assert_eq!((&container["id"], &container["status"]), (&json!(bundle.id), &json!("creating")));
            assert_eq!(container["bundle"], json!(bundle.path()));
            assert_eq!(container["annotations"]["a"], json!("\"quoted\""));
            assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1) && state["pid"] == container["pid"], "{state}");
            assert_eq!(state["ociVersion"], container["ociVersion"]);
        }
    }
}

#[test]
fn a_container_that_waits_for_its_start_and_one_more_process() {
    if cannot_make_containers() {
        return;
    }
    for no_new_privileges in [false, true] {
        let life = Life::new(bundle("mkdir /tmp/one; exec sleep 1000", no_new_privileges, "agent"));
        let asked = Arc::default();
        let first = agent(life.bundle.path(), &asked);
        life.created(&[]).started();
        rspawn_tests::wait_for("the agent is asked", || asked.load(Ordering::Relaxed) == 1);
        std::fs::remove_file(life.bundle.path().join("agent")).unwrap();
        let of_exec = agent(life.bundle.path(), &asked);
        assert_eq!(life.exec(&[], &["sh", "-c", "mkdir /tmp/three && echo made"]).ok(), "made\n");
        let state = of_exec.join().expect("the agent");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!((&state["state"]["status"], &state["state"]["pid"]), (&json!("running"), &json!(life.pid())));
        assert_ne!(state["pid"], state["state"]["pid"], "the process's own");
        life.delete(&["--force"]).ok();
        assert_eq!(first.join().expect("the agent")["state"]["status"], "creating");
    }
}

#[test]
fn without_its_agent_nothing_runs() {
    if cannot_make_containers() {
        return;
    }
    let error = bundle("echo ran", false, "nobody").run().refused();
    assert!(error.contains("config.json /linux/seccomp/listenerPath: open host path"), "{error}");
    let error = bundle("echo ran", false, "config.json").run().refused();
    assert!(error.contains("config.json /linux/seccomp/listenerPath") && error.contains("ECONNREFUSED"), "{error}");
    // One that takes nobody: nor is it waited for.
    let full = bundle("echo ran", false, "agent");
    let _full = FullQueue::new(&full.path().join("agent"));
    let error = full.run().refused();
    assert!(error.contains("config.json /linux/seccomp/listenerPath") && error.contains("EAGAIN"), "{error}");
    for (init, no_new_privileges) in [("--init=supervise", true), ("--init=exec", true), ("--init=exec", false)] {
        // One that hangs up before it has the listener.
        let gone = bundle("sleep 1; echo ran", no_new_privileges, "agent");
        let socket = ConsoleSocket::new(gone.path().join("agent"));
        let agent = std::thread::spawn(move || drop(socket.accept()));
        let output = gone.run_with(&[init], b"");
        agent.join().unwrap();
        assert!(output.stderr.contains("config.json /linux/seccomp/listenerPath"), "{output:?}");
        assert!(output.stderr.contains("EPIPE") && !output.stdout.contains("ran"), "{output:?}");
        assert_eq!(output.status, 1);
    }
}

#[test]
fn the_policy_judges_the_agents_socket() {
    if cannot_make_containers() {
        return;
    }
    let bundle = bundle("echo ran", false, "agent");
    let _socket = ConsoleSocket::new(bundle.path().join("agent"));
    let policy = bundle.path().join("policy");
    std::fs::write(&policy, only(&format!("bind.deny = {}/agent", bundle.path().display()))).unwrap();
    let error = bundle.run_with(&[&format!("--policy={}", policy.display())], b"").refused();
    assert!(error.contains("/linux/seccomp/listenerPath") && error.contains("bind.deny"), "{error}");
}
