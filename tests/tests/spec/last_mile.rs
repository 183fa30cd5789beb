//! What a seccomp profile must allow beside what the payload itself calls: `execve`, and with an agent a few calls more.
//!
//! The programs here are a few instructions long, so that no call is a C library's. rspawn runs them in every case, so
//! wherever runc does. runc 1.1.5 was run beside it, without agents: of 120 cases of `run` it fails in 17, all those of
//! `write`, those of `faccessat2` that kill without no_new_privs, and those of `fcntl` that kill but with no_new_privs and
//! no hook, since it makes these calls itself after the filter.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rspawn_tests::life::{ConsoleSocket, Life};
use rspawn_tests::sources::workspace;
use rspawn_tests::{Bundle, cannot_make_containers, skip_unless, status_field, wait_for};
use serde_json::{Value, json};

const DENIED: [&str; 10] =
    ["clone3", "faccessat2", "statx", "openat2", "ppoll", "signalfd4", "write", "exit_group", "readlinkat", "fcntl"];

/// Ways to deny: action and errno.
const WAYS: [(&str, Option<i32>); 3] =
    [("SCMP_ACT_ERRNO", Some(libc::EPERM)), ("SCMP_ACT_ERRNO", Some(libc::ENOSYS)), ("SCMP_ACT_KILL_PROCESS", None)];

fn cannot_run_these() -> bool {
    cannot_make_containers() || skip_unless(cfg!(target_arch = "x86_64"), "the programs are of x86_64's instructions")
}

/// A static program of these instructions: one ELF header, one segment.
fn program(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let length = 64 + 56 + code.len() as u64;
    [BASE + 120, 64, 0].iter().for_each(|word: &u64| elf.extend(word.to_le_bytes()));
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    [0, BASE, BASE, length, length, 0x1000].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend(code);
    elf
}

fn call(number: libc::c_long) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend((number as u32).to_le_bytes());
    code.extend([0x0f, 0x05]);
    code
}

/// edi = a number; the other arguments of a call are 0.
fn first_argument(number: i32) -> Vec<u8> {
    let mut code = vec![0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x4d, 0x31, 0xc0, 0xbf];
    code.extend(number.to_le_bytes());
    code
}

/// A program that asks for getppid, and ends with `offset` + 4 if it has no_new_privs + 2 if it wears a filter.
fn reports_its_clothes(offset: i32) -> Vec<u8> {
    let mut code = call(libc::SYS_getppid);
    code.extend(first_argument(libc::PR_GET_NO_NEW_PRIVS));
    code.extend(call(libc::SYS_prctl));
    // mov ebx, eax
    code.extend([0x89, 0xc3]);
    code.extend(first_argument(libc::PR_GET_SECCOMP));
    code.extend(call(libc::SYS_prctl));
    // lea edi, [rax + rbx * 4 + offset]
    code.extend([0x8d, 0xbc, 0x98]);
    code.extend(offset.to_le_bytes());
    // Not exit_group, which is denied here and there.
    code.extend(call(libc::SYS_exit));
    program(&code)
}

/// A program that asks for getppid, and waits for ever.
fn waits() -> Vec<u8> {
    let mut code = call(libc::SYS_getppid);
    code.extend(call(libc::SYS_pause));
    code.extend([0xeb, 0xf7]);
    program(&code)
}

/// A program that does nothing but end.
fn ends() -> Vec<u8> {
    let mut code = first_argument(0);
    code.extend(call(libc::SYS_exit));
    program(&code)
}

fn add_program(bundle: &Bundle, name: &str, content: &[u8]) {
    let path = bundle.rootfs().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// One case of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    call: &'static str,
    way: (&'static str, Option<i32>),
    no_new_privileges: bool,
    hook: bool,
    agent: bool,
}

impl Case {
    fn all(with_hooks: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for call in DENIED {
            for way in WAYS {
                for bits in 0..8 {
                    let [no_new_privileges, agent, hook] = [1, 2, 4].map(|bit| bits & bit != 0);
                    all.push(Self { call, way, no_new_privileges, hook, agent });
                }
            }
        }
        all.retain(|case| with_hooks || !case.hook);
        all
    }

    /// What the clothes of a process are by `reports_its_clothes`, and how /proc says it.
    fn clothes(&self) -> i32 {
        2 + 4 * i32::from(self.no_new_privileges)
    }

    fn bundle(&self, payload: &str) -> Bundle {
        let bundle = Bundle::new().with_args(&[payload]);
        add_program(&bundle, "report", &reports_its_clothes(40));
        add_program(&bundle, "wait", &waits());
        add_program(&bundle, "hook", &reports_its_clothes(-self.clothes()));
        let socket = bundle.path().join("agent").display().to_string();
        bundle.with(|config| {
            config["process"]["noNewPrivileges"] = json!(self.no_new_privileges);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            let mut rule = json!({"names": [self.call], "action": self.way.0});
            rule["errnoRet"] = self.way.1.map_or(Value::Null, |errno| json!(errno));
            let mut rules = vec![rule];
            if self.agent {
                rules.push(json!({"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}));
                config["linux"]["seccomp"]["listenerPath"] = json!(socket);
            }
            config["linux"]["seccomp"]["syscalls"] = json!(rules);
            if self.hook {
                config["hooks"] = json!({"startContainer": [{"path": "/hook"}]});
            }
        })
    }

    fn agent(&self, bundle: &Bundle) -> Option<Agent> {
        self.agent.then(|| Agent::new(&bundle.path().join("agent")))
    }

    /// The calls of one process and, of a new container, its hook.
    fn asked(&self) -> usize {
        1 + usize::from(self.hook)
    }
}

/// Takes one listener, and has the kernel do every call that it is asked about.
struct Agent {
    asked: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Agent {
    fn new(path: &Path) -> Self {
        let socket = ConsoleSocket::new(path.to_path_buf());
        let asked: Arc<AtomicUsize> = Arc::default();
        let counted = asked.clone();
        let thread = std::thread::spawn(move || {
            let listener = socket.receive().master;
            while let Ok(request) = ScmpNotifReq::receive(listener.raw()) {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty());
                // Whoever asked may have been killed meanwhile.
                let _ = answer.respond(listener.raw());
            }
        });
        Self { asked, thread }
    }

    /// How often it was asked by processes that have all ended.
    fn finish(self) -> usize {
        self.thread.join().expect("the agent");
        self.asked.load(Ordering::Relaxed)
    }
}

/// What /proc says that a process wears.
fn clothes_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |name| status_field(&status, name).unwrap().parse::<i32>().unwrap();
    number("Seccomp") + 4 * number("NoNewPrivs")
}

#[test]
fn run_needs_no_call_of_its_own() {
    if cannot_run_these() {
        return;
    }
    for case in Case::all(true) {
        let bundle = case.bundle("/report");
        let agent = case.agent(&bundle);
        let output = bundle.run();
        assert_eq!((output.status, output.stderr.as_str()), (40 + case.clothes(), ""), "{case:?}");
        assert_eq!(agent.map_or(case.asked(), Agent::finish), case.asked(), "{case:?}");
    }
}

#[test]
fn create_and_start_need_no_call_of_their_own() {
    if cannot_run_these() {
        return;
    }
    for case in Case::all(true) {
        let life = Life::new(case.bundle("/wait"));
        let agent = case.agent(&life.bundle);
        // Its first process is the payload; that of `run` above is rspawn-init.
        let said = (life.create(&["--init=exec"]), life.start());
        assert!(said.0.status == 0 && said.1.status == 0, "{case:?}: {said:?}");
        let pid = life.pid();
        assert_eq!((life.status().as_str(), clothes_of(pid)), ("running", case.clothes()), "{case:?}");
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "wait\n", "{case:?}");
        if let Some(agent) = agent {
            wait_for("the agent is asked", || agent.asked.load(Ordering::Relaxed) == case.asked());
            life.delete(&["--force"]).ok();
            agent.finish();
        }
    }
}

#[test]
fn exec_needs_no_call_of_its_own() {
    if cannot_run_these() {
        return;
    }
    for case in Case::all(false) {
        let life = Life::new(case.bundle("/wait"));
        let first = case.agent(&life.bundle);
        life.created(&[]).started();
        if case.agent {
            fs::remove_file(life.bundle.path().join("agent")).unwrap();
        }
        let second = case.agent(&life.bundle);
        let output = life.exec(&[], &["/report"]);
        assert_eq!((output.status, output.stderr.as_str()), (40 + case.clothes(), ""), "{case:?}");
        assert_eq!(second.map_or(1, Agent::finish), 1, "{case:?}");
        life.delete(&["--force"]).ok();
        assert_eq!(first.map_or(1, Agent::finish), 1, "{case:?}");
    }
}

/// A profile that kills for whatever is not in a list.
fn allowing(names: &[&str], no_new_privileges: bool) -> Bundle {
    let bundle = Bundle::new().with_args(&["/end"]);
    add_program(&bundle, "end", &ends());
    bundle.with(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    })
}

/// The smallest list with which a static program starts: `exit` is its own.
const SMALLEST: [&str; 2] = ["execve", "exit"];

#[test]
fn the_smallest_list_is_the_one_in_the_docs() {
    let text = fs::read_to_string(workspace().join("parent/docs/seccomp.md")).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = text.split_once("smallest list with which a static program starts is ").expect("a sentence").1;
    let said = said.split_once(':').expect("a colon").0;
    assert_eq!(said, SMALLEST.map(|name| format!("`{name}`")).join(" and "));
    if cannot_run_these() {
        return;
    }
    for no_new_privileges in [false, true] {
        for init in ["--init=supervise", "--init=exec"] {
            assert_eq!(allowing(&SMALLEST, no_new_privileges).run_with(&[init], b"").ok(), "");
            for name in SMALLEST {
                let output = allowing(&[name], no_new_privileges).run_with(&[init], b"");
                // Of `exit` with ENOSYS, as a call newer than the profile, the program runs on into nothing.
                assert!([libc::SIGSYS, libc::SIGSEGV].contains(&(output.status - 128)), "{name} alone: {output:?}");
            }
        }
        let life = Life::new(allowing(&SMALLEST, no_new_privileges));
        life.created(&[]).started();
        life.wait_for_status("stopped");
        let life = Life::new(allowing(&["execve", "exit", "pause", "getppid"], no_new_privileges));
        add_program(&life.bundle, "end", &waits());
        add_program(&life.bundle, "ends", &ends());
        life.created(&[]).started();
        assert_eq!(life.exec(&[], &["/ends"]).ok(), "");
    }
}

/// What a profile that asks an agent must allow beside, as parent/docs/seccomp.md says.
#[test]
fn with_an_agent_a_few_calls_more_are_enough() {
    const WAIT: &str = "`read`, by which the container waits for `start`";
    const HOOKS: &str = "`clone`, `dup3` and `wait4` (`nanosleep` and `setpgid` where one has a timeout";
    let text = fs::read_to_string(workspace().join("parent/docs/seccomp.md")).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(WAIT) && text.contains(HOOKS));
    if cannot_run_these() {
        return;
    }
    let case = Case { call: "clone3", way: WAYS[2], no_new_privileges: true, hook: true, agent: true };
    for (no_new_privileges, timeout) in [(false, false), (true, true)] {
        let case = Case { no_new_privileges, ..case };
        let mut names = vec!["execve", "read", "clone", "dup3", "wait4"];
        // The programs' own.
        names.extend(["exit", "pause", "prctl"]);
        if timeout {
            names.extend(["nanosleep", "setpgid"]);
        }
        let bundle = case.bundle("/wait").with(|config| {
            config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_KILL_PROCESS");
            config["linux"]["seccomp"]["syscalls"][0] = json!({"names": names, "action": "SCMP_ACT_ALLOW"});
            if timeout {
                config["hooks"]["startContainer"][0]["timeout"] = json!(30);
            }
        });
        let life = Life::new(bundle);
        let agent = case.agent(&life.bundle).unwrap();
        life.created(&["--init=exec"]).started();
        wait_for("the agent is asked", || agent.asked.load(Ordering::Relaxed) == case.asked());
        assert_eq!((life.status().as_str(), clothes_of(life.pid())), ("running", case.clothes()));
        life.delete(&["--force"]).ok();
        agent.finish();
    }
}

/// Who took the listener to the agent is no child of the payload's.
#[test]
fn no_process_of_rspawns_is_left_to_the_payload() {
    if cannot_run_these() {
        return;
    }
    let case = Case { call: "clone3", way: WAYS[0], no_new_privileges: true, hook: false, agent: true };
    let life = Life::new(case.bundle("/wait"));
    let agent = case.agent(&life.bundle).unwrap();
    life.created(&["--init=exec"]).started();
    let pid = life.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(), "");
    life.delete(&["--force"]).ok();
    agent.finish();
}
