//! What goes in and comes out: ExecSync, Exec, Attach, and the log files that the kubelet reads.
use std::fs;
use std::time::Instant;

use k8s_cri::v1::*;
use rspawn_cri_tests::pods::{container_config, idle, pod_config, script};
use rspawn_cri_tests::streaming::Stream;
use rspawn_cri_tests::{Container, Node, Pod};
use rspawn_tests::wait_for;
use tonic::Code;

#[test]
fn exec_sync_has_streams_and_exit_codes() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "exec"));
    let main = pod.start(idle("main"));
    let cases = [
        ("echo out; echo err >&2", "out\n", "err\n", 0),
        ("exit 3", "", "", 3),
        ("kill -9 $$", "", "", 137),
        ("kill -TERM $$", "", "", 143),
        ("cat", "", "", 0),
    ];
    for (script, stdout, stderr, code) in cases {
        let answer = main.try_exec(&["sh", "-c", script], 0).expect("ExecSync");
        assert_eq!((&answer.stdout[..], &answer.stderr[..]), (stdout.as_bytes(), stderr.as_bytes()), "{script}");
        assert_eq!(answer.exit_code, code, "{script}");
    }
    let much = main.try_exec(&["head", "-c", "3000000", "/dev/zero"], 0).expect("ExecSync").stdout;
    assert_eq!((much.len(), much.iter().all(|byte| *byte == 0)), (3_000_000, true));
    // In words that clients look for.
    for (command, words) in [("/no/such/program", "no such file or directory"), ("no-such-program", "not found")] {
        let status = main.try_exec(&[command], 0).expect_err("there is no such program");
        assert!(status.message().contains(words), "{command}: {status}");
    }
    node.finish();
}

#[test]
fn exec_sync_ends_at_its_timeout() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "timeouts"));
    let main = pod.start(idle("main"));
    let began = Instant::now();
    let status = main.try_exec(&["sh", "-c", "trap '' TERM; sleep 4321"], 1).expect_err("its time is up");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(began.elapsed().as_secs_f64() > 0.9, "it had its second");
    wait_for("the process is gone", || !main.sh("ps -o args").contains("trap ''"));
    // What ends in time is not touched.
    assert_eq!(main.try_exec(&["sh", "-c", "sleep 0.2; echo done"], 30).expect("ExecSync").stdout, b"done\n");
    assert_eq!(main.status().state(), ContainerState::ContainerRunning);
    node.finish();
}

/// Opens a stream of a command that is executed.
fn exec(container: &Container, command: &[&str], stdin: bool, tty: bool) -> Stream {
    let request = ExecRequest {
        container_id: container.id.clone(),
        cmd: command.iter().map(ToString::to_string).collect(),
        tty,
        stdin,
        stdout: true,
        // A terminal has one stream for both.
        stderr: !tty,
    };
    Stream::open(&container.pod.cri().exec(request).expect("Exec").url)
}

#[test]
fn exec_streams() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "exec"));
    let main = pod.start(idle("main"));
    let apart = exec(&main, &["sh", "-c", "echo out; echo err >&2; exit 3"], false, false).finish();
    assert_eq!((apart.stdout.as_str(), apart.stderr.as_str(), apart.exit_code()), ("out\n", "err\n", 3));

    let mut typed = exec(&main, &["sh", "-c", "read line; echo got:$line"], true, false);
    typed.type_in(b"from the client\n");
    let typed = typed.finish();
    assert_eq!((typed.stdout.as_str(), typed.exit_code()), ("got:from the client\n", 0));

    let mut terminal = exec(&main, &["sh", "-c", "tty; read x; stty size; exit 5"], true, true);
    terminal.expect("/dev/pts/");
    terminal.resize(101, 37);
    // The size is set by a call that nobody answers.
    wait_for("the terminal has its size", || main.sh("stty -F /dev/pts/0 size").trim() == "37 101");
    terminal.type_in(b"\r");
    let terminal = terminal.finish();
    assert!(terminal.stdout.contains("37 101"), "{}", terminal.stdout);
    assert_eq!(terminal.exit_code(), 5);
    node.finish();
}

fn attach(container: &Container, tty: bool) -> Stream {
    let request = AttachRequest { container_id: container.id.clone(), stdin: true, tty, stdout: true, stderr: !tty };
    Stream::open(&container.pod.cri().attach(request).expect("Attach").url)
}

#[test]
fn attach_reaches_the_payload() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "attach"));
    let mut config = script("plain", "while read line; do echo got:$line; echo err:$line >&2; done");
    config.stdin = true;
    let plain = pod.start(config);
    for line in ["one", "two"] {
        // Who goes leaves the payload alone, and another may come.
        let mut stream = attach(&plain, false);
        stream.type_in(format!("{line}\n").as_bytes());
        stream.expect(&format!("got:{line}\n"));
    }
    assert_eq!(plain.status().state(), ContainerState::ContainerRunning);
    assert!(plain.text("stdout").contains("got:one\ngot:two\n"), "the log has it too: {}", plain.log());

    let mut config = script("terminal", "tty; read x; echo got:$x; exit 6");
    (config.stdin, config.tty) = (true, true);
    let terminal = pod.start(config);
    let mut stream = attach(&terminal, true);
    stream.type_in(b"typed\r");
    stream.expect("got:typed");
    assert_eq!(terminal.ended().exit_code, 6);
    assert!(terminal.text("stdout").contains("/dev/pts/0"), "{}", terminal.log());
    node.finish();
}

/// Standard input that is open once ends with the first who attaches.
#[test]
fn stdin_once() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "once"));
    let mut config = script("main", "cat; echo end of input; exit 4");
    (config.stdin, config.stdin_once) = (true, true);
    let main = pod.start(config);
    let mut stream = attach(&main, false);
    stream.type_in(b"all of it\n");
    stream.expect("all of it");
    drop(stream);
    assert_eq!(main.ended().exit_code, 4);
    assert!(main.text("stdout").contains("end of input"), "{}", main.log());
    node.finish();
}

#[test]
fn logs_of_ten_thousand_lines() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "logs"));
    let lines = "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo line $i; done; echo last words >&2";
    let main = pod.start(script("main", lines));
    assert_eq!(main.ended().exit_code, 0);
    let expected: String = (1..=10_000).map(|number| format!("line {number}\n")).collect();
    wait_for("the log is whole", || main.text("stdout").len() >= expected.len());
    assert!(main.text("stdout") == expected, "lines are missing, or out of order");
    assert_eq!(main.text("stderr"), "last words\n");
    let log = main.log();
    assert!(log.lines().all(|line| line.split(' ').nth(2) == Some("F")), "short lines are whole ones");

    // A long line comes in parts, and without its end at the end.
    let long = pod.start(script("long", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo -n without an end"));
    long.ended();
    wait_for("the log is whole", || long.text("stdout").ends_with("without an end"));
    assert!(long.text("stdout").starts_with(&format!("{}\n", "x".repeat(100_000))));
    assert!(long.log().lines().any(|line| line.split(' ').nth(2) == Some("P")));
    node.finish();
}

/// As the kubelet rotates: it renames the file, and asks for a new one.
#[test]
fn logs_are_reopened() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "rotation"));
    let main = pod.start(script("main", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"));
    let old = node.path().join("old.log");
    wait_for("it logs", || main.text("stdout").lines().count() > 3);
    fs::rename(main.log_path(), &old).expect("the log");
    let request = ReopenContainerLogRequest { container_id: main.id.clone() };
    node.cri.reopen_container_log(request).expect("ReopenContainerLog");
    wait_for("it logs again", || main.text("stdout").lines().count() > 3);
    main.stop(0).expect("StopContainer");
    main.ended();
    let all = fs::read_to_string(old).expect("the old log") + &main.log();
    let numbers = all.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    assert!(numbers.eq(1..=all.lines().count()), "nothing is lost between them:\n{all}");
    node.finish();
}

/// What the image or the pod gives: environment, working directory, arguments.
#[test]
fn what_a_container_is_told() {
    let Some(node) = Node::new() else { return };
    let mut config = pod_config(&node, "told");
    config.hostname = "the-pod".into();
    // Only a pod with a network of its own has a name of its own.
    rspawn_cri_tests::pods::namespaces(&mut config).network = NamespaceMode::Pod.into();
    config.dns_config = Some(DnsConfig { servers: vec!["192.0.2.53".into()], ..Default::default() });
    let pod = Pod::run(&node, config);
    let mut config = container_config("main", &["sh"]);
    config.args = ["-c", "echo \"$KEY\"; pwd; hostname; cat /etc/resolv.conf"].map(String::from).into();
    config.envs = vec![KeyValue { key: "KEY".into(), value: "a value = with\ttwo parts".into() }];
    config.working_dir = "/srv/made/for/it".into();
    let shown = pod.output_of(config);
    assert_eq!(shown, "a value = with\ttwo parts\n/srv/made/for/it\nthe-pod\nnameserver 192.0.2.53\n");
    node.finish();
}
