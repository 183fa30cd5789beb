//! podman drives the runtime through conmon: a container's life, from `run` to `rm`.
use std::fs;
use std::process::{Command, Stdio};

use rspawn_tests::clients::{eventually, runtime};
use rspawn_tests::podman::{Errors, Podman};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{collect, finish};

/// Says what signals it gets, and ends with 3 on SIGTERM.
const SPEAKER: &str = "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo started; echo to stderr >&2; \
    while :; do sleep 0.05; done";

#[test]
fn run_in_the_foreground() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let script = "cat; echo $A:$PWD; echo to stderr >&2; exit 7";
    let command = podman.start_command("run", &["--rm", "-i", "-e", "A=b", "-w", "/srv"], &["sh", "-c", script]);
    let output = finish(command, b"from stdin\n");
    assert_eq!(output.status, 7, "the payload's status is podman's: {output:?}");
    assert_eq!(output.stdout, "from stdin\nb:/srv\n", "stdin, environment, working directory");
    assert_eq!(output.stderr, "to stderr\n", "the streams are apart");
    podman.assert_nothing_left();
}

#[test]
fn a_container_in_the_background() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    podman.detached("c", &[], &["sh", "-c", SPEAKER]);
    assert_eq!(podman.inspect("c", ".State.Status"), "running");
    assert_eq!(podman.inspect("c", ".OCIRuntime"), runtime().to_string_lossy(), "the runtime under test runs it");
    eventually(
        "the first lines",
        || podman.run(&["logs", "c"]),
        |logs| (logs.stdout.as_str(), logs.stderr.as_str()) == ("started\n", "to stderr\n"),
    );

    looked_at_from_outside(&podman);
    commands_inside(&podman);
    paused(&podman);

    podman.ok(&["kill", "--signal", "USR1", "c"]);
    eventually("a signal by name", || podman.run(&["logs", "c"]), |logs| logs.stdout.ends_with("usr1\n"));
    ended_and_started_again(&podman);
    podman.assert_nothing_left();
}

fn looked_at_from_outside(podman: &Podman) {
    let pid = podman.inspect("c", ".State.Pid");
    let root = fs::read_dir(format!("/proc/{pid}/root/home")).unwrap().flatten().next().unwrap().file_name();
    assert_eq!(root, "alice", ".State.Pid is a process of the container");
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroups.contains(&format!("/{}/libpod-", podman.name)), "it is in the cgroup asked for: {cgroups}");
    let top = podman.ok(&["top", "c", "pid", "args"]);
    assert!(top.lines().any(|line| line.trim().starts_with('1')), "top shows PID 1: {top}");
    assert!(top.contains("sh -c trap"), "top shows the payload: {top}");
    let stats = podman.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "c"]);
    let processes: u32 = stats.split(' ').next().unwrap().parse().unwrap_or(0);
    assert!(processes >= 1, "stats counts the processes of the cgroup: {stats}");
    podman.ok(&["update", "--memory", "64m", "c"]);
    let limit = fs::read_to_string(podman.cgroup_file("c", "memory", "memory.limit_in_bytes"));
    let limit = limit.or_else(|_| fs::read_to_string(podman.cgroup_file("c", "memory", "memory.max"))).unwrap();
    assert_eq!(limit.trim(), "67108864", "update reaches the cgroup");
}

fn commands_inside(podman: &Podman) {
    let exec = podman.command(&["exec", "-i", "-e", "X=y", "-w", "/tmp", "c", "sh", "-c", "cat; echo $X:$PWD; exit 5"]);
    let output = finish(exec, b"from stdin\n");
    assert_eq!(output.status, 5, "exec's status is the command's: {output:?}");
    assert_eq!(output.stdout, "from stdin\ny:/tmp\n", "exec's stdin, environment, working directory");
    let ids = podman.ok(&["exec", "--user", "alice:extra", "c", "id"]);
    assert!(ids.starts_with("uid=1000(alice) gid=2000(extra)"), "exec as another user: {ids}");
    let namespaces = |pid: &str| format!("for kind in mnt net pid ipc uts; do readlink /proc/{pid}/ns/$kind; done");
    let [first, joined] = ["1", "self"].map(|pid| podman.ok(&["exec", "c", "sh", "-c", &namespaces(pid)]));
    assert_eq!((first.lines().count(), first), (5, joined), "exec joins the container's namespaces");
    podman.ok(&["exec", "--detach", "c", "sh", "-c", "echo done >/tmp/detached"]);
    eventually(
        "a detached exec",
        || podman.run(&["exec", "c", "cat", "/tmp/detached"]),
        |read| read.stdout == "done\n",
    );
    let privileged = podman.ok(&["exec", "--privileged", "c", "grep", "CapEff", "/proc/self/status"]);
    let plain = podman.ok(&["exec", "c", "grep", "CapEff", "/proc/self/status"]);
    assert!(privileged > plain, "exec --privileged has more capabilities: {privileged}, {plain}");
}

fn paused(podman: &Podman) {
    podman.ok(&["pause", "c"]);
    assert_eq!(podman.inspect("c", ".State.Status"), "paused");
    let state = fs::read_to_string(podman.cgroup_file("c", "freezer", "freezer.state"));
    let state = state.or_else(|_| fs::read_to_string(podman.cgroup_file("c", "", "cgroup.freeze"))).unwrap();
    assert!(["FROZEN", "1"].contains(&state.trim()), "the cgroup is frozen: {state}");
    assert_ne!(podman.run(&["exec", "c", "true"]).status, 0, "no exec in a paused container");
    podman.ok(&["unpause", "c"]);
    podman.ok(&["exec", "c", "true"]);
}

fn ended_and_started_again(podman: &Podman) {
    podman.ok(&["stop", "--time", "30", "c"]);
    assert_eq!(podman.inspect("c", ".State.ExitCode"), "3", "the payload's status is kept");
    assert!(podman.ok(&["logs", "c"]).ends_with("term"), "it had time to say so");
    assert_ne!(podman.run(&["exec", "c", "true"]).status, 0, "no exec in a stopped container");

    podman.ok(&["start", "c"]);
    let first = podman.inspect("c", ".State.Pid");
    podman.ok(&["restart", "--time", "0", "c"]);
    let second = podman.inspect("c", ".State.Pid");
    assert!(second != first && second != "0", "restart starts another process: {first}, {second}");
    podman.ok(&["kill", "c"]);
    podman.ok(&["wait", "c"]);
    assert_eq!(podman.inspect("c", ".State.ExitCode"), "137", "kill is SIGKILL");
    assert_ne!(podman.run(&["kill", "c"]).status, 0, "nothing to kill any more");
    podman.ok(&["rm", "c"]);
}

#[test]
fn containers_that_are_removed_at_any_time() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    // Made by `create` of the runtime, never started.
    finish(podman.start_command("create", &["--name", "made"], &["true"]), b"").ok();
    podman.ok(&["init", "made"]);
    assert_eq!(podman.inspect("made", ".State.Status"), "initialized");
    podman.ok(&["rm", "made"]);
    // Made, then started; its end is seen although nobody waits.
    finish(podman.start_command("create", &["--name", "late"], &["sh", "-c", "exit 9"]), b"").ok();
    podman.ok(&["init", "late"]);
    podman.ok(&["start", "late"]);
    assert_eq!(podman.ok(&["wait", "late"]), "9");
    podman.ok(&["rm", "late"]);
    // Running, and deaf to SIGTERM.
    podman.detached("deaf", &[], &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    podman.ok(&["stop", "--time", "1", "deaf"]);
    assert_eq!(podman.inspect("deaf", ".State.ExitCode"), "137", "stop ends what does not listen");
    podman.ok(&["start", "deaf"]);
    podman.ok(&["rm", "--force", "--time", "0", "deaf"]);
    podman.assert_nothing_left();
}

#[test]
fn several_at_once() {
    let Some(podman) = Podman::new(Errors::JsonLog) else { return };
    let start = |number: u32| {
        let text = format!("echo {number}; exit {number}");
        let mut command = podman.start_command("run", &["--rm"], &["sh", "-c", &text]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (1..=6).map(start).collect();
    for (number, child) in (1..).zip(children) {
        let output = collect(child);
        assert_eq!((output.status, output.stdout), (number, format!("{number}\n")), "{}", output.stderr);
    }
    podman.assert_nothing_left();
}

#[test]
fn on_a_terminal() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let script = "echo first $(stty size); trap 'echo now $(stty size)' WINCH; tty; while ! read x; do :; done; echo got:$x; exit 4";
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&podman.start_command("run", &["--rm", "-it"], &["sh", "-c", script]));
    terminal.expect("/dev/pts/0");
    terminal.type_in(b"typed\n");
    terminal.expect("got:typed");
    assert_eq!(terminal.finish(child).status, 4, "run -it ends with the payload's status");

    podman.detached("c", &["-t"], &["sleep", "1000"]);
    let script = "tty; stty size; echo console $([ -c /dev/console ] && echo yes); \
        trap 'echo now $(stty size)' WINCH; echo ready; while ! read x; do :; done; echo got:$x; exit 6";
    let terminal = Terminal::new(31, 101);
    let child = terminal.start(&podman.command(&["exec", "-it", "c", "sh", "-c", script]));
    terminal.expect("ready");
    let seen = terminal.seen();
    assert!(seen.contains("/dev/pts/1"), "exec -it has a terminal of the container's: {seen}");
    assert!(seen.contains("console yes"), "a container with a terminal has a console: {seen}");
    // conmon is told the size a moment after the start.
    terminal.resize(40, 120);
    terminal.expect("now 40 120");
    terminal.type_in(b"typed\n");
    terminal.expect("got:typed");
    assert_eq!(terminal.finish(child).status, 6, "exec -it ends with the command's status");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[test]
fn descriptors_that_are_passed_on() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let note = podman.path().join("note");
    fs::write(&note, "from descriptor 3\n").unwrap();
    let with_note = |command: Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 3<\"$0\" \"$@\""]).arg(&note);
        shell.arg(command.get_program()).args(command.get_args());
        command.get_envs().for_each(|(name, value)| {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        });
        finish(shell, b"")
    };
    let script = "cat <&3; ls /proc/self/fd | tr '\\n' ' '";
    let run = podman.start_command("run", &["--rm", "--preserve-fds=1"], &["sh", "-c", script]);
    assert_eq!(with_note(run).ok(), "from descriptor 3\n0 1 2 3 4 ", "run passes descriptor 3 on, and nothing else");
    podman.detached("c", &[], &["sleep", "1000"]);
    let exec = podman.command(&["exec", "--preserve-fds=1", "c", "sh", "-c", script]);
    assert_eq!(with_note(exec).ok(), "from descriptor 3\n0 1 2 3 4 ", "exec passes descriptor 3 on, and nothing else");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[test]
fn health() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    // No systemd here whose timer would run it.
    let options = ["--health-cmd", "cat /tmp/well", "--health-interval", "disable", "--health-retries", "1"];
    podman.detached("c", &options, &["sleep", "1000"]);
    assert_eq!(podman.run(&["healthcheck", "run", "c"]).status, 1, "a check that fails");
    assert_eq!(podman.inspect("c", ".State.Health.Status"), "unhealthy");
    podman.ok(&["exec", "c", "touch", "/tmp/well"]);
    podman.ok(&["healthcheck", "run", "c"]);
    assert_eq!(podman.inspect("c", ".State.Health.Status"), "healthy");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[test]
fn a_pod() {
    let Some(podman) = Podman::new(Errors::Stderr) else { return };
    let parent = format!("/{}", podman.name);
    let share = "--share=ipc,uts,net,pid";
    podman.ok(&["pod", "create", "--name", "pod", "--network=none", "--cgroup-parent", &parent, share]);
    podman.detached("one", &["--pod=pod"], &["sh", "-c", "sleep 4321 & sleep 1234"]);
    let namespaces = "for kind in ipc uts net pid; do readlink /proc/self/ns/$kind; done";
    let other = podman.script(&["--pod=pod"], &format!("ps; hostname; {namespaces}")).ok();
    assert!(other.contains("catatonit"), "the pod's first process is seen: {other}");
    assert!(other.contains("sleep 1234"), "one container's processes are seen by the other: {other}");
    assert!(other.contains("\npod\n"), "they share the host name: {other}");
    let first = podman.ok(&["exec", "one", "sh", "-c", namespaces]);
    assert_eq!(first.lines().count(), 4, "{first}");
    assert!(other.ends_with(&format!("{first}\n")), "they share namespaces: {first}, {other}");
    podman.ok(&["pod", "pause", "pod"]);
    assert_eq!(podman.inspect("one", ".State.Status"), "paused");
    podman.ok(&["pod", "unpause", "pod"]);
    // The container's pid namespace goes on without it: each of its processes must be found to be killed.
    podman.ok(&["kill", "one"]);
    podman.ok(&["wait", "one"]);
    assert_eq!(podman.inspect("one", ".State.ExitCode"), "137");
    eventually(
        "the end of what it left running",
        || podman.script(&["--pod=pod"], "ps"),
        |processes| !processes.stdout.contains("sleep 4321"),
    );
    podman.ok(&["pod", "stop", "--time", "0", "pod"]);
    podman.ok(&["pod", "rm", "--force", "--time", "0", "pod"]);
    podman.assert_nothing_left();
}
