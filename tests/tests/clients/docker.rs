//! Docker's engine drives the runtime through containerd's shim, with a prestart hook of its own.
use std::path::PathBuf;
use std::process::Command;

use rspawn_tests::clients::{Daemon, assert_no_traces, cannot_use, client, eventually, make_image_archive};
use rspawn_tests::clients::{remove_parent_cgroups, runtime, speaks_as_runc};
use rspawn_tests::clients::{shipped_policy, under_policy, with_runtime};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Output, Scratch, finish, program, skip_unless};

struct Docker {
    /// First, so that it ends before its files go.
    daemon: Daemon,
    scratch: Scratch,
    /// Also the cgroup that its containers are in.
    name: String,
}

impl Docker {
    /// `None`, with the reason printed, where it cannot run.
    fn new() -> Option<Self> {
        if cannot_use(&["dockerd", "docker", "containerd"]) {
            return None;
        }
        let scratch = Scratch::new();
        let name = scratch.path.file_name()?.to_string_lossy().into_owned();
        let place = |name: &str| scratch.path.join(name);
        // The engine mounts its data directory on itself, and does not always take that back.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(client("dockerd"));
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(place(name));
        }
        command.arg("--host").arg(format!("unix://{}", place("d.sock").display()));
        // Nothing of the host's network is touched.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
        command.arg("--add-runtime").arg(format!("lane={}", runtime().display()));
        command.arg("--cgroup-parent").arg(format!("/{name}")).env_remove("XDG_RUNTIME_DIR");
        let daemon = match Daemon::start(command, &place("d.sock"), place("log")) {
            Ok(daemon) => daemon,
            Err(reason) => {
                skip_unless(false, &reason);
                return None;
            }
        };
        let archive = make_image_archive(&scratch.path);
        let docker = Self { daemon, scratch, name };
        eventually("dockerd's answer", || docker.run(&["version"]), |version| version.status == 0);
        docker.ok(&["import", "--change", "ENV PATH=/usr/bin:/bin", &archive.to_string_lossy(), "image"]);
        Some(docker)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client("docker"));
        command.arg("--host").arg(format!("unix://{}", self.scratch.path.join("d.sock").display()));
        // No configuration of whoever runs the tests.
        command.env("DOCKER_CONFIG", &self.scratch.path).env_remove("DOCKER_HOST").args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments), b"")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status, 0, "{arguments:?}: {output:?}\n{}", self.daemon.last_words());
        output.stdout.trim_end().to_string()
    }

    /// `docker run` of the runtime under test.
    fn start_command(&self, options: &[&str], payload: &[&str]) -> Command {
        let own = ["run", "--runtime", "lane", "--network", "none"];
        self.command(&[&own[..], options, &["image"], payload].concat())
    }

    fn to_its_end(&self, options: &[&str], payload: &[&str]) -> Output {
        finish(self.start_command(&[&["--rm"], options].concat(), payload), b"")
    }

    fn inspect(&self, field: &str) -> String {
        self.ok(&["inspect", "--format", &format!("{{{{{field}}}}}"), "con"])
    }

    /// Where this engine tells every runtime to keep its state.
    fn state_root(&self) -> PathBuf {
        self.scratch.path.join("exec/runtime-runc/moby")
    }

    #[track_caller]
    fn assert_nothing_left(mut self, ids: &[String]) {
        assert_eq!(self.ok(&["ps", "--all", "--quiet"]), "", "a container that the test did not remove");
        let state_root = self.state_root();
        let left: Vec<_> = std::fs::read_dir(&state_root).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "states: {left:?}");
        self.daemon.stop();
        assert_no_traces(&self.name, &state_root, ids);
    }
}

impl Drop for Docker {
    /// After a test that failed; the engine ends its containers when it is asked to end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.daemon.stop();
            remove_parent_cgroups(&self.name, &[]);
        }
    }
}

#[test]
fn containers_in_the_foreground() {
    let Some(docker) = Docker::new() else { return };
    let script = "cat; id -u; echo $A; pwd; hostname; cat /proc/self/cgroup; exit 5";
    let options = ["--rm", "-i", "--user", "alice", "-e", "A=b", "-w", "/srv", "--hostname", "box"];
    let output = finish(docker.start_command(&options, &["sh", "-c", script]), b"from stdin\n");
    assert_eq!(output.status, 5, "the status is the payload's: {output:?}");
    let said = "from stdin\n1000\nb\n/srv\nbox\n";
    assert!(output.stdout.starts_with(said), "stdin, user, environment, place, host name: {output:?}");
    assert!(output.stdout.contains(&format!("/{}/", docker.name)), "the cgroup asked for: {output:?}");

    let init = docker.to_its_end(&["--init"], &["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; exit 8"]);
    assert!(init.stdout.starts_with("/sbin/docker-init"), "--init: {init:?}");
    assert_eq!(init.status, 8, "the status comes through docker's init");

    let options = ["--read-only", "--tmpfs", "/scratch", "--cap-drop", "all", "--cap-add", "net_raw"];
    let options = [&options[..], &["--security-opt", "no-new-privileges", "--pids-limit", "50"]].concat();
    let script = "touch /x; touch /scratch/x && echo wrote; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status";
    let strict = docker.to_its_end(&options, &["sh", "-c", script]);
    assert_eq!(strict.stdout, "wrote\nCapEff:\t0000000000002000\nNoNewPrivs:\t1\nSeccomp:\t2\n", "{strict:?}");

    for (payload, code) in [("no-such-program", 127), ("/no/such/path", 127), ("/etc", 126), ("/etc/plain", 126)] {
        let output = docker.to_its_end(&[], &[payload]);
        let known = output.status == code && output.stderr.contains(payload);
        assert!(known || !speaks_as_runc(), "{payload}: {code}, and an error that names it: {output:?}");
    }
    let terminal = Terminal::new(24, 80);
    let child =
        terminal.start(&docker.start_command(&["--rm", "-it"], &["sh", "-c", "tty; read x; echo got:$x; exit 4"]));
    terminal.expect("/dev/pts/0");
    terminal.type_in(b"typed\n");
    terminal.expect("got:typed");
    assert_eq!(terminal.finish(child).status, 4, "docker run -it");
    docker.assert_nothing_left(&[]);
}

#[test]
fn a_container_in_the_background() {
    let Some(docker) = Docker::new() else { return };
    let script = "trap 'echo term; exit 3' TERM; echo started; while :; do sleep 0.05; done";
    let id = finish(docker.start_command(&["--detach", "--name", "con"], &["sh", "-c", script]), b"").ok();
    assert_eq!(
        (docker.inspect(".State.Status"), docker.inspect(".HostConfig.Runtime")),
        ("running".into(), "lane".into())
    );
    assert!(docker.state_root().join(id.trim()).is_dir(), "the runtime's state is where the engine wants it");
    eventually("its first line", || docker.run(&["logs", "con"]), |logs| logs.stdout == "started\n");

    let exec =
        finish(docker.command(&["exec", "-i", "-u", "alice", "con", "sh", "-c", "cat; id -un; exit 6"]), b"typed\n");
    assert_eq!((exec.status, exec.stdout.as_str()), (6, "typed\nalice\n"), "{exec:?}");
    assert_ne!(docker.run(&["exec", "con", "/no/such/path"]).status, 0);
    docker.ok(&["exec", "con", "true"]);
    let terminal = Terminal::new(31, 101);
    // The engine passes the size on a moment after the start.
    let script = "tty; until [ \"$(stty size 2>&1)\" = '31 101' ]; do sleep 0.05; done; echo sized; exit 7";
    let child = terminal.start(&docker.command(&["exec", "-it", "con", "sh", "-c", script]));
    terminal.expect("/dev/pts/");
    terminal.expect("sized");
    assert_eq!(terminal.finish(child).status, 7, "docker exec -it");

    let top = docker.ok(&["top", "con"]);
    assert!(top.contains("trap 'echo term"), "docker top: {top}");
    let stats = docker.ok(&["stats", "--no-stream", "--format", "{{.PIDs}}", "con"]);
    assert!(stats.parse::<u32>().is_ok_and(|count| count >= 1), "docker stats: {stats}");
    docker.ok(&["pause", "con"]);
    assert_eq!(docker.inspect(".State.Status"), "paused");
    docker.ok(&["unpause", "con"]);
    docker.ok(&["update", "--memory", "64m", "--memory-swap", "64m", "con"]);
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", docker.inspect(".State.Pid"))).unwrap();
    if let Some(below) = cgroups.lines().find_map(|line| line.split_once(":memory:")) {
        let file = format!("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", below.1);
        assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "67108864", "update reaches the cgroup");
    }
    docker.ok(&["stop", "--time", "30", "con"]);
    assert_eq!(docker.inspect(".State.ExitCode"), "3", "stop lets the payload end");
    docker.ok(&["start", "con"]);
    docker.ok(&["restart", "--time", "0", "con"]);
    docker.ok(&["kill", "con"]);
    eventually(
        "its end",
        || docker.run(&["inspect", "--format", "{{.State.ExitCode}}", "con"]),
        |code| code.stdout == "137\n",
    );
    docker.ok(&["rm", "con"]);
    docker.assert_nothing_left(&[id.trim().to_string()]);
}

/// The shipped policy of a container host, with docker's own hook among what it allows.
#[test]
fn under_the_policy_of_a_container_host() {
    let place = Scratch::new();
    let policy = shipped_policy("container-host", "/tmp/**");
    let script = under_policy(&place.path, &program("rspawn"), &policy);
    with_runtime(script, || {
        let Some(docker) = Docker::new() else { return };
        let plain =
            docker.to_its_end(&["--volume", "named:/v", "--memory", "64m"], &["sh", "-c", "touch /v/x; echo ran"]);
        assert_eq!((plain.status, plain.stdout.as_str()), (0, "ran\n"), "{plain:?}");
        let bridged = finish(docker.command(&["run", "--rm", "--runtime", "lane", "image", "echo", "ran"]), b"");
        assert_eq!((bridged.status, bridged.stdout.as_str()), (0, "ran\n"), "docker's own hook: {bridged:?}");
        for options in [&["--privileged"][..], &["--pid=host"], &["--volume", "/etc:/x"], &["--cap-add", "SYS_ADMIN"]] {
            let refused = docker.to_its_end(options, &["true"]);
            assert!(refused.status != 0 && refused.stderr.contains("the policy refuses"), "{options:?}: {refused:?}");
        }
        docker.ok(&["volume", "rm", "named"]);
        docker.assert_nothing_left(&[]);
    });
}
