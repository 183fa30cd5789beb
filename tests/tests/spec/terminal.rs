//! `process.terminal` and `--console`: a real terminal outside, one of the container's own inside.
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::terminal::{Terminal, wait_for_foreground};
use rspawn_tests::{Bundle, Output, cannot_make_containers, finish, wait_for};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

/// A bundle with `process.terminal`, whose payload is a shell script.
fn on_terminal(script: &str) -> Bundle {
    Bundle::script(script).with(|config| config["process"]["terminal"] = json!(true))
}

/// Runs it on a terminal to its end, without input.
#[track_caller]
fn shown(bundle: &Bundle, options: &[&str]) -> Output {
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(options));
    let output = terminal.finish(child);
    bundle.assert_nothing_left();
    output
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

#[test]
fn the_payload_has_a_terminal_of_its_own() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal(
        "tty; for n in 0 1 2; do readlink /proc/self/fd/$n; done; ls -1 /dev/pts; \
        stat -c '%t:%T' /dev/pts/0 /dev/console; stat -c '%u %g %a' /dev/pts/0; echo bound >/dev/console; \
        echo controlling >/dev/tty",
    );
    for mode in ["--init=supervise", "--init=exec"] {
        let output = shown(&bundle, &[mode]);
        let lines: Vec<&str> = output.stdout.lines().map(|line| line.trim_end_matches('\r')).collect();
        assert_eq!(output.status, 0, "{output:?}");
        assert_eq!(lines[..4], ["/dev/pts/0"; 4], "{lines:?}");
        assert_eq!(lines[4..6], ["0", "ptmx"]);
        assert_eq!(lines[6], lines[7], "/dev/console is the terminal");
        assert_eq!(lines[8..], ["0 5 620", "bound", "controlling"]);
    }
}

/// As clients ask for with `--volume /dev:/dev`: they leave out all that is usually mounted there.
#[test]
fn a_terminal_of_the_hosts_devpts() {
    if cannot_make_containers() {
        return;
    }
    let bundle =
        on_terminal("tty; [ \"$(tty)\" -ef /dev/console ] || echo bound; ls /dev/pts | grep -c ptmx").with(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            mounts.push(json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}));
        });
    let output = shown(&bundle, &[]);
    assert_eq!(output.status, 0, "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().map(|line| line.trim_end_matches('\r')).collect();
    let number = lines[0].strip_prefix("/dev/pts/").unwrap_or_else(|| panic!("{output:?}"));
    assert!(number.parse::<u32>().is_ok(), "{output:?}");
    // Without anything there, it is an error.
    let none = on_terminal("true").with(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    });
    let refused = shown(&none, &[]);
    assert!(refused.stdout.contains("/process/terminal") && refused.stdout.contains("devpts"), "{refused:?}");
}

#[test]
fn the_terminal_belongs_to_the_payloads_user() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("stat -c %u /dev/pts/0; echo mine >/dev/pts/0")
        .with(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    assert_eq!(shown(&bundle, &[]).stdout, "1000\r\nmine\r\n");
}

#[test]
fn the_foreground_belongs_to_the_payload() {
    if cannot_make_containers() {
        return;
    }
    // Fields 1, 5, 6 and 8 of /proc/PID/stat: process, its group, its session, foreground group of the terminal.
    let bundle = on_terminal("set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $8 ] && echo $6");
    assert_eq!(shown(&bundle, &["--init=supervise"]).stdout, "1\r\n");
    assert_eq!(shown(&bundle, &["--init=exec"]).stdout, "1\r\n");
}

#[test]
fn interrupt_and_stop_keys_reach_the_foreground_job_alone() {
    if cannot_make_containers() {
        return;
    }
    for mode in ["--init=supervise", "--init=exec"] {
        let bundle = on_terminal("").with_args(&["sh", "-i"]).with(|config| {
            config["process"]["env"].as_array_mut().unwrap().push(json!("PS1=prompt> "));
        });
        let terminal = Terminal::new(24, 80);
        let child = terminal.start(&bundle.command(&[mode]));
        terminal.expect("prompt>");
        // The inner terminal echoes what is typed; `$((..))` tells the output from its echo.
        terminal.type_in(b"sleep 1000; echo rc $((1000+$?))\r");
        wait_for_foreground(&bundle, "sleep 1000");
        terminal.type_in(b"\x03");
        // The shell abandons the line; it lives on.
        terminal.type_in(b"\recho alive $((40+2))\r");
        terminal.expect("alive 42");
        terminal.type_in(b"sleep 1001\r");
        wait_for_foreground(&bundle, "sleep 1001");
        terminal.type_in(b"\x1a");
        terminal.expect("Stopped");
        terminal.type_in(b"fg\r");
        wait_for_foreground(&bundle, "sleep 1001");
        terminal.type_in(b"\x03");
        terminal.type_in(b"\recho jobs $(jobs | wc -l) $((6*7))\r");
        terminal.expect("jobs 0 42");
        terminal.type_in(b"exit 5\r");
        let output = terminal.finish(child);
        assert_eq!(output.status, 5, "{output:?}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn an_interrupt_ends_a_payload_that_is_no_shell() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("").with_args(&["sleep", "1000"]);
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(&["--init=supervise"]));
    wait_for("raw mode", || terminal.is_raw());
    wait_for_foreground(&bundle, "sleep 1000");
    terminal.type_in(b"\x03");
    assert_eq!(terminal.finish(child).status, 130);
    bundle.assert_nothing_left();
}

/// ^Z stops what is no shell, and nothing there would have it go on.
#[test]
fn three_escapes_end_what_hears_nothing_else() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("trap '' INT QUIT TERM HUP; echo ready; sleep 1000; sleep 1000");
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(&[]));
    terminal.expect("ready");
    // Two are the payload's.
    terminal.type_in(b"\x1a\x1d\x1d");
    std::thread::sleep(Duration::from_millis(1100));
    assert!(rspawn_tests::container_processes(&bundle).len() > 1);
    terminal.type_in(b"\x1d\x1d\x1d");
    assert_eq!(terminal.finish(child).status, 137);
    bundle.assert_nothing_left();
}

#[test]
fn the_callers_terminal_is_raw_meanwhile_and_put_back() {
    if cannot_make_containers() {
        return;
    }
    // Ends: of its own accord; by an error after the console was there; by a signal.
    for (script, signal, status) in [("read line; exit 3", None, 3), ("sleep 1000", Some(Signal::SIGTERM), 143)] {
        let bundle = on_terminal(&format!("echo ready; exec sh -c '{script}'"));
        let terminal = Terminal::new(24, 80);
        let before = terminal.settings();
        let mut child = terminal.start(&bundle.command(&["--init=supervise"]));
        terminal.expect("ready");
        assert!(terminal.is_raw());
        match signal {
            Some(signal) => kill(pid(&child), signal).unwrap(),
            None => terminal.type_in(b"x\r"),
        }
        wait_for("its end", || matches!(child.try_wait(), Ok(Some(_))));
        assert_eq!(terminal.settings(), before, "{script}");
        assert_eq!(terminal.finish(child).status, status);
        bundle.assert_nothing_left();
    }
    let bundle = on_terminal("").with_args(&["/no/such"]);
    let terminal = Terminal::new(24, 80);
    let before = terminal.settings();
    let mut child = terminal.start(&bundle.command(&[]));
    wait_for("its end", || matches!(child.try_wait(), Ok(Some(_))));
    assert_eq!(terminal.settings(), before);
    let output = terminal.finish(child);
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (1, "rspawn: exec: \"/no/such\": stat /no/such: no such file or directory\r\n")
    );
}

#[test]
fn the_size_is_kept_in_step() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal(
        "trap 'echo now $(stty size)' WINCH; echo first $(stty size); \
        while :; do sleep 0.05; done",
    )
    .with(|config| {
        // The terminal in front of the user counts more than what the bundle would like.
        config["process"]["consoleSize"] = json!({"height": 3, "width": 4});
    });
    let terminal = Terminal::new(31, 101);
    let mut child = terminal.start(&bundle.command(&[]));
    terminal.expect("first 31 101");
    terminal.resize(40, 120);
    terminal.expect("now 40 120");
    terminal.resize(10, 20);
    terminal.expect("now 10 20");
    child.kill().unwrap();
    terminal.finish(child);
    bundle.assert_nothing_left();
}

#[test]
fn the_first_size_without_a_terminal_outside() {
    if cannot_make_containers() {
        return;
    }
    let sized = |size: serde_json::Value, variables: bool| {
        let bundle = on_terminal("stty size").with(|config| config["process"]["consoleSize"] = size);
        let mut command = bundle.command(&[]);
        command.env_remove("LINES").env_remove("COLUMNS");
        if variables {
            command.env("LINES", "55").env("COLUMNS", "66");
        }
        finish(command, b"").ok()
    };
    let size = json!({"height": 33, "width": 44});
    assert_eq!(sized(size.clone(), false), "33 44\n");
    assert_eq!(sized(size, true), "33 44\n");
    assert_eq!(sized(json!(null), true), "55 66\n");
    let wide =
        on_terminal("true").with(|config| config["process"]["consoleSize"] = json!({"height": 1, "width": 70000}));
    let refused = wide.run().refused();
    assert!(refused.contains("/process/consoleSize/width"), "{refused}");
}

#[test]
fn a_large_paste_goes_through_both_ways() {
    if cannot_make_containers() {
        return;
    }
    // Raw, or lines would have to end within 4096 bytes. The count tells when everything has come back.
    let bundle = on_terminal("stty raw -echo; echo ready; head -c 1000000 | tee /tmp/copy; echo; echo done");
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&bundle.command(&[]));
    terminal.expect("ready");
    let paste: Vec<u8> = (0..1_000_000u32).map(|i| b'a' + (i % 26) as u8).collect();
    terminal.type_in(&paste);
    let output = terminal.finish(child);
    assert_eq!(output.status, 0);
    let text = String::from_utf8(paste).unwrap();
    assert!(output.stdout.contains(&text), "{} bytes came back", output.stdout.len());
    assert!(output.stdout.ends_with("done\n"));
}

#[test]
fn what_is_written_just_before_the_end_is_not_lost() {
    if cannot_make_containers() {
        return;
    }
    for mode in ["--init=supervise", "--init=exec"] {
        for _ in 0..5 {
            let bundle = Bundle::payload(&["shout", "3000"]).with(|config| config["process"]["terminal"] = json!(true));
            let output = shown(&bundle, &[mode]);
            assert_eq!((output.status, output.stdout.lines().count()), (0, 3000), "{mode}");
            assert!(output.stdout.ends_with("line 2999\r\n"));
        }
    }
    // Through a pipe as well.
    let bundle = Bundle::payload(&["shout", "3000"]).with(|config| config["process"]["terminal"] = json!(true));
    assert!(bundle.run().ok().ends_with("line 2999\n"));
}

#[test]
fn a_console_outlives_streams_that_were_closed() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("exec 0<&- 1>&- 2>&-; sleep 0.3; echo later >/dev/console");
    assert_eq!(shown(&bundle, &["--init=exec"]).stdout, "later\r\n");
}

const REPORT: &str = "if [ -t 0 ]; then echo in tty; fi; if [ -t 1 ]; then echo out tty; fi; \
    read line; echo got:$line; exit 4";

#[test]
fn console_modes_on_a_terminal() {
    if cannot_make_containers() {
        return;
    }
    // Payload's stdin is a terminal, what is typed arrives, output shows; with process.terminal true and false.
    for configured in [true, false] {
        for (mode, is_tty, arrives, shows) in [
            ("interactive", true, true, true),
            ("read-only", true, false, true),
            ("passive", true, false, false),
            ("pipe", true, true, true),
            ("autopipe", true, true, true),
        ] {
            let bundle = Bundle::script(REPORT).with(|config| config["process"]["terminal"] = json!(configured));
            let terminal = Terminal::new(24, 80);
            let mut child = terminal.start(&bundle.command(&[&format!("--console={mode}")]));
            if shows {
                terminal.expect("out tty");
            } else {
                wait_for("the payload", || !rspawn_tests::container_processes(&bundle).is_empty());
                std::thread::sleep(Duration::from_millis(300));
            }
            assert_eq!(terminal.is_raw(), matches!(mode, "interactive" | "autopipe"), "{mode}");
            assert_eq!(terminal.seen().contains("in tty"), is_tty && shows, "{mode}");
            terminal.type_in(b"typed\n");
            if arrives {
                terminal.expect("got:typed");
                assert_eq!(terminal.finish(child).status, 4, "{mode}");
            } else {
                std::thread::sleep(Duration::from_millis(200));
                assert!(matches!(child.try_wait(), Ok(None)), "{mode}: it read what was typed");
                kill(pid(&child), Signal::SIGKILL).unwrap();
                assert!(!terminal.finish(child).stdout.contains("got:"), "{mode}");
            }
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn console_modes_on_pipes() {
    if cannot_make_containers() {
        return;
    }
    let run = |mode: &str, terminal: bool| {
        let bundle = Bundle::script(REPORT).with(|config| config["process"]["terminal"] = json!(terminal));
        let option = format!("--console={mode}");
        let options: &[&str] = if mode.is_empty() { &[] } else { &[&option] };
        let output = bundle.run_with(options, b"piped\n");
        (output.status, output.stdout)
    };
    let echoed = "in tty\nout tty\n";
    for terminal in [true, false] {
        assert_eq!(run("pipe", terminal), (4, "got:piped\n".into()));
        assert_eq!(run("autopipe", terminal), (4, "got:piped\n".into()));
        let (status, text) = run("interactive", terminal);
        // The order of the inner terminal's echo and of the payload's first lines is open.
        assert!(status == 4 && text.contains("in tty") && text.contains("got:piped\n"), "{text:?}");
    }
    assert_eq!(run("", false), (4, "got:piped\n".into()));
    // Without a terminal outside the default is to show only; nothing can be read.
    let bundle = on_terminal("[ -t 0 ] && echo in tty; [ -t 1 ] && echo out tty");
    assert_eq!(bundle.run_with(&[], b"never read").ok(), echoed);
    assert_eq!(bundle.run_with(&["--console=read-only"], b"never read").ok(), echoed);
    assert_eq!(bundle.run_with(&["--console=passive"], b"never read").ok(), "");
}

#[test]
fn a_passive_console_does_not_stop_a_payload_that_prints_much() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::payload(&["shout", "100000"]);
    assert_eq!(bundle.run_with(&["--console=passive"], b"").ok(), "");
}

#[test]
fn the_end_of_stdin_is_the_end_of_the_consoles_input() {
    if cannot_make_containers() {
        return;
    }
    for (input, lines) in [(&b"one\ntwo\n"[..], 2), (b"one\nunfinished", 1), (b"", 0)] {
        let bundle = Bundle::script("stty -echo; cat >/tmp/in; echo $(wc -l </tmp/in) $(wc -c </tmp/in)");
        let output = bundle.run_with(&["--console=interactive"], input).ok();
        assert!(output.ends_with(&format!("{lines} {}\n", input.len())), "{output:?}");
    }
}

#[test]
fn a_hangup_of_the_terminal_ends_the_container() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("echo ready; sleep 1000");
    let terminal = Terminal::new(24, 80);
    let mut child = terminal.start(&bundle.command(&[]));
    terminal.expect("ready");
    kill(pid(&child), Signal::SIGHUP).unwrap();
    wait_for("its end", || matches!(child.try_wait(), Ok(Some(_))));
    assert_eq!(terminal.finish(child).status, 129);
    bundle.assert_nothing_left();
}

#[test]
fn a_terminal_needs_a_devpts() {
    if cannot_make_containers() {
        return;
    }
    let bundle = on_terminal("true").with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "devpts");
    });
    let refused = bundle.run().refused();
    assert!(refused.contains("/process/terminal") && refused.contains("devpts"), "{refused}");
}

/// The tests' own terminal works as one: what is typed is what a program reads.
#[test]
fn the_harness_is_a_terminal() {
    let terminal = Terminal::new(24, 80);
    let mut command = Command::new("sh");
    command.args(["-c", "tty >/dev/null && read x && echo read:$x"]);
    let child = terminal.start(&command);
    terminal.type_in(b"y\n");
    let output = terminal.finish(child);
    assert_eq!((output.status, output.stdout.as_str()), (0, "read:y\r\n"));
}
