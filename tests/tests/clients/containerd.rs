//! containerd drives the runtime through its shim for runc: `ctr run`, and what can be done to a task.
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_tests::clients::{Daemon, assert_no_traces, cannot_use, client, eventually, make_docker_archive, runtime};
use rspawn_tests::clients::{parent_cgroups, remove_parent_cgroups, runtime_name, speaks_as_runc};
use rspawn_tests::clients::{shipped_policy, under_policy, with_runtime};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Output, Scratch, finish, program, skip_unless};

const IMAGE: &str = "docker.io/library/image:latest";

struct Containerd {
    /// First, so that it ends before its files go.
    daemon: Daemon,
    scratch: Scratch,
    /// Also its namespace, which is the cgroup that its containers are in.
    name: String,
}

impl Containerd {
    /// `None`, with the reason printed, where it cannot run.
    fn new() -> Option<Self> {
        if cannot_use(&["containerd", "ctr", "containerd-shim-runc-v2"]) {
            return None;
        }
        let scratch = Scratch::new();
        let name = scratch.path.file_name()?.to_string_lossy().into_owned();
        let place = |name: &str| scratch.path.join(name);
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[debug]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("c.sock"),
            place("t.sock"),
            place("d.sock"),
        );
        fs::write(place("config.toml"), text).unwrap();
        let mut command = Command::new(client("containerd"));
        // The shim's own sockets are in a directory of containerd's whatever it is told.
        command.arg("--config").arg(place("config.toml")).env_remove("XDG_RUNTIME_DIR");
        let daemon = match Daemon::start(command, &place("c.sock"), place("log")) {
            Ok(daemon) => daemon,
            Err(reason) => {
                skip_unless(false, &reason);
                return None;
            }
        };
        let archive = make_docker_archive(&scratch.path, IMAGE);
        let containerd = Self { daemon, scratch, name };
        containerd.ok(&["image", "import", "--snapshotter", "native", &archive.to_string_lossy()]);
        Some(containerd)
    }

    fn path(&self) -> &Path {
        &self.scratch.path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client("ctr"));
        command.arg("--address").arg(self.path().join("c.sock")).args(["--namespace", &self.name]).args(arguments);
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

    /// `ctr run` of the runtime under test.
    fn start_command(&self, options: &[&str], id: &str, payload: &[&str]) -> Command {
        let runtime = runtime().to_string_lossy().into_owned();
        let root = self.path().join("runtime").to_string_lossy().into_owned();
        let own = ["run", "--snapshotter", "native", "--runc-binary", &runtime, "--runc-root", &root];
        self.command(&[&own[..], options, &[IMAGE, id], payload].concat())
    }

    /// PID and status of a task, as `ctr tasks ls` has them.
    fn task(&self, id: &str) -> Option<(String, String)> {
        let text = self.ok(&["tasks", "ls"]);
        let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|line| line[0] == id)?;
        Some((line[1].to_string(), line[2].to_string()))
    }

    #[track_caller]
    fn expect_status(&self, id: &str, status: &str) {
        eventually(
            &format!("{id} is {status}"),
            || self.run(&["tasks", "ls"]),
            |listed| listed.stdout.lines().any(|line| line.starts_with(id) && line.trim_end().ends_with(status)),
        );
    }

    #[track_caller]
    fn assert_nothing_left(mut self, ids: &[&str]) {
        assert_eq!(self.ok(&["containers", "ls", "--quiet"]), "", "a container that the test did not remove");
        self.daemon.stop();
        let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
        assert_no_traces(&self.name, &self.path().join("runtime").join(&self.name), &ids);
    }
}

impl Drop for Containerd {
    /// After a test that failed: shims outlive the daemon.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let listed = self.command(&["tasks", "ls", "--quiet"]).output();
            let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            for id in listed.lines() {
                let _ = self.command(&["tasks", "delete", "--force", id]).output();
            }
            self.daemon.stop();
            remove_parent_cgroups(&self.name, &[]);
        }
    }
}

#[test]
fn a_task_in_the_foreground() {
    let Some(containerd) = Containerd::new() else { return };
    let script = "read line; echo $line; id -u; echo $A; pwd; touch /x; cat /proc/self/cgroup; exit 3";
    let options = ["--rm", "--env", "A=b", "--cwd", "/srv", "--read-only"];
    let output = finish(containerd.start_command(&options, "one", &["sh", "-c", script]), b"from stdin\n");
    assert_eq!(output.status, 3, "the status is the payload's: {output:?}");
    assert!(output.stdout.starts_with("from stdin\n0\nb\n/srv\n"), "stdin, environment, place: {output:?}");
    assert!(output.stderr.contains("Read-only file system"), "--read-only: {output:?}");
    assert!(output.stdout.contains(&format!("/{}/one\n", containerd.name)), "the cgroup asked for: {output:?}");

    let missing = finish(containerd.start_command(&["--rm"], "two", &["/no/such/path"]), b"");
    assert!(missing.status != 0 && missing.stderr.contains("/no/such/path"), "the shim has the error: {missing:?}");
    let known = missing.stderr.contains("no such file or directory") || !speaks_as_runc();
    assert!(known, "in words that clients know: {missing:?}");

    let terminal = Terminal::new(24, 80);
    let script = "tty; read x; echo got:$x; exit 4";
    let child = terminal.start(&containerd.start_command(&["--rm", "--tty"], "three", &["sh", "-c", script]));
    terminal.expect("/dev/pts/0");
    terminal.type_in(b"typed\n");
    terminal.expect("got:typed");
    assert_eq!(terminal.finish(child).status, 4, "ctr run --tty");
    containerd.assert_nothing_left(&["one", "two", "three"]);
}

#[test]
fn a_task_in_the_background() {
    let Some(containerd) = Containerd::new() else { return };
    let script = "trap 'exit 9' USR1; while :; do sleep 0.1; done";
    finish(containerd.start_command(&["--detach"], "one", &["sh", "-c", script]), b"").ok();
    containerd.expect_status("one", "RUNNING");
    let (pid, _) = containerd.task("one").expect("the task");
    assert!(Path::new(&format!("/proc/{pid}/root/etc/plain")).exists(), "its pid is a process of the container");
    let state = containerd.path().join("runtime").join(&containerd.name).join("one");
    assert!(state.is_dir(), "the runtime keeps its state below the root that it was given");

    let exec =
        |id: &str, command: &[&str]| containerd.run(&[&["tasks", "exec", "--exec-id", id, "one"], command].concat());
    let output = exec("e1", &["sh", "-c", "echo inside; exit 4"]);
    assert_eq!((output.status, output.stdout.as_str()), (4, "inside\n"), "tasks exec: {output:?}");
    let user = containerd.run(&["tasks", "exec", "--exec-id", "e0", "--user", "1000:2000", "one", "id", "-g"]);
    assert_eq!((user.status, user.stdout.as_str()), (0, "2000\n"), "tasks exec --user: {user:?}");
    let missing = exec("e2", &["/no/such/path"]);
    assert!(missing.status != 0 && missing.stderr.contains("/no/such/path"), "{missing:?}");
    let terminal = Terminal::new(24, 80);
    let on_terminal = ["tasks", "exec", "--tty", "--exec-id", "e3", "one", "sh", "-c", "tty; exit 6"];
    let child = terminal.start(&containerd.command(&on_terminal));
    terminal.expect("/dev/pts/");
    assert_eq!(terminal.finish(child).status, 6, "tasks exec --tty");

    let processes = containerd.ok(&["tasks", "ps", "one"]);
    assert!(processes.lines().any(|line| line.starts_with(&pid)), "tasks ps: {processes}");
    let metrics = containerd.ok(&["tasks", "metrics", "one"]);
    let of = |name: &str| {
        metrics.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_whitespace().nth(1))
    };
    assert!(of("pids.current").is_some_and(|count| count != "0"), "tasks metrics: {metrics}");

    containerd.ok(&["tasks", "pause", "one"]);
    containerd.expect_status("one", "PAUSED");
    containerd.ok(&["tasks", "resume", "one"]);
    containerd.expect_status("one", "RUNNING");

    containerd.ok(&["tasks", "kill", "--signal", "SIGUSR1", "one"]);
    containerd.expect_status("one", "STOPPED");
    let deleted = containerd.run(&["tasks", "delete", "one"]);
    assert!(deleted.stderr.contains("exit code 9"), "delete reports the status: {deleted:?}");
    // The same container again; this time everything in it is killed.
    containerd.ok(&["tasks", "start", "--detach", "one"]);
    containerd.ok(&["tasks", "kill", "--all", "--signal", "SIGKILL", "one"]);
    containerd.expect_status("one", "STOPPED");
    assert!(containerd.run(&["tasks", "delete", "one"]).stderr.contains("exit code 137"));
    containerd.ok(&["containers", "delete", "one"]);
    let left = parent_cgroups(&format!("{}/one", containerd.name));
    assert!(left.is_empty(), "{} leaves cgroups: {left:?}", runtime_name());
    containerd.assert_nothing_left(&["one"]);
}

/// The shipped policies of machines with containerd.
#[test]
fn under_the_shipped_policies() {
    for name in ["container-host", "kubernetes-node"] {
        let place = Scratch::new();
        let policy = shipped_policy(name, "/tmp/**").replace("cgroups.allow", "#");
        let script = under_policy(&place.path, &program("rspawn"), &policy);
        with_runtime(script, || {
            let Some(containerd) = Containerd::new() else { return };
            // ctr gives no filter unless it is asked for one.
            let run = |options: &[&str], id| {
                let options = [&["--rm", "--seccomp"], options].concat();
                finish(containerd.start_command(&options, id, &["echo", "ran"]), b"")
            };
            let plain = run(&[], "one");
            assert_eq!((plain.status, plain.stdout.as_str()), (0, "ran\n"), "{name}: {plain:?}");
            for options in
                [&["--privileged"][..], &["--net-host"], &["--mount", "type=bind,src=/etc,dst=/x,options=bind:ro"]]
            {
                let refused = run(options, "two");
                assert!(
                    refused.status != 0 && refused.stderr.contains("the policy refuses"),
                    "{options:?}: {refused:?}"
                );
            }
            containerd.assert_nothing_left(&["one", "two"]);
        });
    }
}
