//! What `list`, `state`, `ps` and `top` show to people, on a terminal and by `--format=people`; and that pipes still
//! get what runc prints.
use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rspawn_tests::life::{Life, error};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Bundle, cannot_make_containers, wait_for};

/// What a command that ends by itself shows on a terminal.
#[track_caller]
fn on_terminal(command: &Command) -> String {
    let terminal = Terminal::new(40, 200);
    let child = terminal.start(command);
    terminal.finish(child).ok().replace("\r\n", "\n")
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The words of the line that begins with a name.
#[track_caller]
fn line_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().map(words).find(|words| words.first() == Some(&name));
    line.unwrap_or_else(|| panic!("{name:?} is in no line of {text:?}"))
}

#[test]
fn a_terminal_gets_what_people_read_and_a_pipe_what_runc_prints() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let root = life.root.display().to_string();
    std::fs::create_dir(&life.root).unwrap();
    assert_eq!(on_terminal(&life.command(&["list"])), format!("no containers in {root}\n"));
    life.created(&[]).started();
    let (pid, bundle) = (life.pid().to_string(), life.bundle.path().display().to_string());

    let list = on_terminal(&life.command(&["list"]));
    assert_eq!(words(list.lines().next().unwrap()), ["ID", "STATUS", "PID", "CREATED", "OWNER", "BUNDLE"]);
    let row = line_of(&list, life.id());
    assert_eq!((row[1], row[2], row[4], row[5]), ("running", pid.as_str(), "s", "ago"), "{list}");
    assert_eq!((row[6], row[7]), ("root", bundle.as_str()), "{list}");
    // Asked for, it goes into a pipe too; and runc's table, and names alone, to a terminal.
    assert_eq!(words(&life.run(life.command(&["list", "--format=people"])).ok())[..6], words(&list)[..6]);
    let piped = life.run(life.command(&["list"])).ok();
    assert!(piped.starts_with("ID ") && piped.contains("   running   "), "{piped}");
    assert_eq!(words(&piped)[..6], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(on_terminal(&life.command(&["list", "--format=table"])), piped);
    assert_eq!(on_terminal(&life.command(&["list", "--quiet"])), format!("{}\n", life.id()));

    let state = on_terminal(&life.on_it("state", &[]));
    assert_eq!(state.lines().next(), Some(life.id()));
    assert_eq!(line_of(&state, "status"), ["status", "running"]);
    assert_eq!(line_of(&state, "pid"), ["pid", &pid]);
    assert_eq!(line_of(&state, "bundle"), ["bundle", &bundle]);
    assert_eq!(line_of(&state, "root"), ["root", &format!("{bundle}/rootfs")]);
    let created = life.state().unwrap()["created"].as_str().unwrap().to_string();
    assert!(line_of(&state, "created").contains(&format!("({created})").as_str()), "{state}");
    assert_eq!(on_terminal(&life.on_it("state", &["--format=json"])), life.run(life.on_it("state", &[])).ok());
    let refused = life.run(life.on_it("state", &["--format=table"]));
    assert_eq!(error(refused), "invalid format option: it is one of json, people, not \"table\"");
}

#[test]
fn processes_are_shown_with_what_the_payload_calls_them_made_safe() {
    if cannot_make_containers() {
        return;
    }
    // Its second word clears a terminal.
    let life = Life::script("sh -c 'while :; do sleep 1000; done' \"$(printf 'a\\033[2Jb')\" & exec sleep 1234");
    life.created(&["--init=supervise"]).started();
    let ps = |options: &[&str]| {
        let mut command = life.command(&["ps", life.id()]);
        command.args(options);
        command
    };
    wait_for("the payload runs", || life.run(ps(&[])).ok().contains("sleep 1234"));
    wait_for("its child runs", || life.run(ps(&[])).ok().contains("sleep 1000"));
    let shown = on_terminal(&ps(&[]));
    let heads = ["PID", "PARENT", "USER", "STATE", "AGE", "CPU", "MEM", "COMMAND"];
    assert_eq!(words(shown.lines().next().unwrap()), heads);
    let first = line_of(&shown, &life.pid().to_string());
    assert_eq!((first[2], first[3]), ("root", "sleeping"), "{shown}");
    assert!(!shown.contains('\x1b') && shown.contains("a\\u{1b}[2Jb"), "{shown:?}");
    let payload = shown.lines().find(|line| line.ends_with("  sleep 1234")).expect("the payload");
    assert_eq!(words(payload)[1], life.pid().to_string(), "the child of PID 1: {shown}");
    // Every process that runc's list has, and no other.
    let mut in_json = life.on_it("ps", &["--format=json"]);
    in_json.stdin(std::process::Stdio::null());
    let pids: Vec<i32> = serde_json::from_str(&life.run(in_json).ok()).unwrap();
    let seen: Vec<i32> = shown.lines().skip(1).map(|line| words(line)[0].parse().unwrap()).collect();
    assert_eq!(seen, pids);
    // Options of ps(1) have its table, on a terminal as well, and there alone.
    for format in ["people", "json"] {
        let mut odd = life.on_it("ps", &[&format!("--format={format}")]);
        odd.args(["-o", "pid"]);
        let said = error(life.run(odd));
        assert_eq!(said, format!("ps --format={format}: options of ps(1) are for its table, and there are some"));
    }
    let table = on_terminal(&ps(&["-o", "pid,comm"]));
    assert_eq!(words(table.lines().next().unwrap()), ["PID", "COMMAND"], "{table}");
}

/// This program is the container's parent, as conmon is, and may wait for it or not.
#[test]
fn how_a_container_ended_is_told_while_it_can_be_known() {
    if cannot_make_containers() {
        return;
    }
    set_child_subreaper(true).unwrap();
    for (script, init, ended) in [
        ("exit 3", "--init=supervise", "stopped (exit status 3)"),
        ("exit 0", "--init=exec", "stopped (exit status 0)"),
        // rspawn-init ends as `run` does.
        ("kill -TERM $$; sleep 9", "--init=supervise", "stopped (exit status 143)"),
        ("sleep 1000", "--init=exec", "stopped (SIGKILL)"),
    ] {
        let life = Life::script(script);
        life.created(&[init]).started();
        let pid = life.record().pid;
        if ended.contains("KILL") {
            life.kill("KILL").ok();
        }
        life.wait_for_status("stopped");
        let (list, state, top) = (
            life.run(life.command(&["list", "--format=people"])).ok(),
            life.run(life.on_it("state", &["--format=people"])).ok(),
            life.run(life.on_it("top", &["--once"])).ok(),
        );
        assert!(list.contains(&format!("{}  {ended}  ", life.id())), "{list}");
        assert!(state.contains(&format!("  status      {ended}\n")), "{state}");
        assert!(top.contains(&format!("{}  {ended} ", life.id())), "{top}");
        // Programs get what they know.
        assert_eq!(life.status(), "stopped");
        waitpid(Pid::from_raw(pid), None).unwrap();
        // It has been told, and nobody else can know any more.
        let state = life.run(life.on_it("state", &["--format=people"])).ok();
        assert!(state.contains("  status      stopped\n") && !state.contains("pid "), "{state}");
    }
}

/// The number before a column's unit, such as 12.5 of `12.5M/64M`.
fn number(cell: &str) -> f64 {
    let end = cell.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(cell.len());
    cell[..end].parse().unwrap_or_else(|_| panic!("{cell:?} is not a number"))
}

#[test]
fn top_shows_what_the_cgroups_count() {
    if cannot_make_containers() {
        return;
    }
    // One that works as much as it may, half of a CPU; one that does nothing.
    let busy = Bundle::script("while :; do :; done").with(|config| {
        config["linux"]["resources"] = serde_json::json!({
            "memory": {"limit": 64 << 20}, "pids": {"limit": 40}, "cpu": {"quota": 5000, "period": 10_000}});
    });
    let busy = Life::new(busy);
    busy.created(&["--init=exec"]).started();
    let mut idle = Life::idle();
    idle.root = busy.root.clone();
    idle.created(&[]).started();
    std::thread::sleep(Duration::from_millis(300));
    let text = busy.run(busy.command(&["top", "--once"])).ok();
    let head = ["ID", "STATUS", "CPU%", "MEM", "PIDS", "CPU-P", "MEM-P", "IO-P"];
    assert_eq!(words(text.lines().next().unwrap()), head);
    assert_eq!(words(text.lines().nth(1).unwrap())[0], busy.id(), "the busiest is first: {text}");
    let row = line_of(&text, busy.id());
    let is_counted = |cell: &str| cell != "-";
    // Where no controller is there for it, nothing can be asked of the number.
    if is_counted(row[2]) {
        let cpu = number(row[2]);
        assert!(cpu > 2.0 && cpu < 90.0, "half of a CPU at most, and some: {text}");
        assert!(number(line_of(&text, idle.id())[2]) < cpu, "{text}");
    }
    if is_counted(row[3]) {
        assert!(row[3].ends_with("/64M") && number(row[3]) > 0.0, "{text}");
    }
    if is_counted(row[4]) {
        assert_eq!(row[4], "1/40", "{text}");
        assert!(!line_of(&text, idle.id())[4].contains('/'), "{text}");
    }
    // Paused, it does nothing.
    busy.run(busy.on_it("pause", &[])).ok();
    let text = busy.run(busy.on_it("top", &["--once"])).ok();
    assert_eq!(line_of(&text, busy.id())[1..3], ["paused", if is_counted(row[2]) { "0.0" } else { "-" }], "{text}");
    assert!(!text.contains(idle.id()), "only the one that is named: {text}");
    busy.run(busy.on_it("resume", &[])).ok();
    let unknown = busy.run(busy.command(&["top", busy.id(), "no-such"]));
    assert_eq!(error(unknown), "no-such: container does not exist");
    assert_eq!(error(busy.run(busy.command(&["top", "--interval=0s"]))), "--interval: it must be longer than 0");
}

#[test]
fn top_lives_on_a_terminal_until_a_key_ends_it() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    for key in [b"q", b"\x03"] {
        let terminal = Terminal::new(24, 100);
        let before = terminal.settings();
        let child = terminal.start(&life.command(&["top", "--interval=100ms"]));
        terminal.expect("rspawn top, every 100ms: q ends");
        wait_for("it is drawn again", || terminal.seen().matches("\x1b[H").count() >= 3);
        // Another key ends nothing, and is not shown.
        terminal.type_in(b"x");
        let drawn = terminal.seen().matches("\x1b[H").count();
        wait_for("it goes on", || terminal.seen().matches("\x1b[H").count() >= drawn + 2);
        // One that is made meanwhile comes into the table.
        let mut other = Life::idle();
        other.root = life.root.clone();
        other.created(&[]);
        terminal.expect(&format!("{}  created", other.id()));
        other.delete(&["--force"]).ok();
        terminal.type_in(key);
        wait_for("the terminal is as it was", || terminal.settings() == before);
        let output = terminal.finish(child);
        assert_eq!(output.status, 0, "{output:?}");
        assert!(output.stdout.contains(&format!("{}  running", life.id())), "{output:?}");
    }
}

/// Ended from outside, it leaves the terminal as it was, and the status that a shell gives for the signal.
#[test]
fn top_that_is_told_to_end_puts_the_terminal_back() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let terminal = Terminal::new(24, 100);
        let before = terminal.settings();
        let child = terminal.start(&life.command(&["top", "--interval=100ms"]));
        terminal.expect(&format!("{}  created", life.id()));
        assert_ne!(terminal.settings(), before);
        // setsid(1), which leads no group, has become rspawn.
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        wait_for("the terminal is as it was", || terminal.settings() == before);
        assert_eq!(terminal.finish(child).status, 128 + signal as i32);
    }
}

/// The process has nothing left that what a payload has a hand in could use; the one that opens files has its filter.
#[test]
fn top_ends_with_what_it_watches_and_has_no_rights() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let (child, paths) = life.spawn(&mut life.on_it("top", &["--interval=100ms"]));
    let printed = || fs::read_to_string(&paths[0]).unwrap();
    wait_for("two tables", || printed().matches("CPU%").count() >= 2);
    let field = |pid: i32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        rspawn_tests::status_field(&status, name).unwrap().to_string()
    };
    let first = child.id() as i32;
    assert_eq!((field(first, "CapEff").as_str(), field(first, "Seccomp").as_str()), ("0000000000000000", "2"));
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    let opener: i32 = children.trim().parse().unwrap_or_else(|_| panic!("one child: {children:?}"));
    assert_eq!((field(opener, "Seccomp").as_str(), field(opener, "NoNewPrivs").as_str()), ("2", "1"));
    life.stop();
    life.delete(&[]).ok();
    let output = life.outcome(child, &paths).ok();
    assert!(!output.contains('\x1b') && output.contains("\n\nID"), "{output:?}");
    wait_for("the second process is gone", || !fs::exists(format!("/proc/{opener}")).unwrap());
}

/// `rspawn top | head` ends.
#[test]
fn top_ends_when_nobody_reads_it() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let mut shell = Command::new("sh");
    let rspawn = rspawn_tests::program("rspawn");
    let line = format!("'{}' --root '{}' top --interval=50ms | head -n 1", rspawn.display(), life.root.display());
    shell.arg("-c").arg(line);
    let text = life.run(shell).ok();
    assert_eq!(words(&text)[..2], ["ID", "STATUS"]);
}

/// What a command shows on a terminal of so many columns.
#[track_caller]
fn at_width(columns: u16, words: &[&str]) -> String {
    let terminal = Terminal::new(24, columns);
    let mut command = Command::new(rspawn_tests::program("rspawn"));
    command.args(words);
    let child = terminal.start(&command);
    terminal.finish(child).ok().replace("\r\n", "\n")
}

fn widest(text: &str) -> usize {
    // A path or an address has no place to be broken at.
    let lines = text.lines().filter(|line| line.trim_start().contains(' '));
    lines.map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn help_fits_the_terminal() {
    for words in [&["help", "run"][..], &["plan", "--help"], &["--help"], &[], &["update", "-h"]] {
        let (narrow, wide) = (at_width(80, words), at_width(200, words));
        assert!(widest(&narrow) <= 80, "{words:?}: {narrow}");
        assert!(widest(&wide) > 80 && widest(&wide) <= 200, "{words:?}: {wide}");
        // Nothing is lost but the breaks, and a pipe has none.
        let piped = rspawn_tests::finish(
            {
                let mut command = Command::new(rspawn_tests::program("rspawn"));
                command.args(words);
                command
            },
            b"",
        )
        .ok();
        assert_eq!(self::words(&narrow), self::words(&piped), "{words:?}");
    }
    let explained = at_width(80, &["--help"]);
    let after = explained.lines().skip_while(|line| !line.contains("  run  ")).nth(1).expect("the line after `run`");
    assert!(after.starts_with("              "), "it goes on below the explanation: {after:?}");
}

#[test]
fn the_short_help_of_run_is_a_screen() {
    for line in [&["run", "-h"][..], &["--root", "/x", "run", "-D", "deb", "-h"]] {
        let screen = at_width(80, line);
        assert!(screen.lines().count() < 24 && widest(&screen) <= 80, "{screen}");
        assert!(screen.contains("rspawn run --help has every option"), "{screen}");
        for option in ["--bundle", "--directory", "--host", "--detach", "--user", "--setenv", "--bind", "--tmpfs"] {
            assert!(screen.contains(option), "{option}: {screen}");
        }
    }
    // That one says where the output of a container goes which is left alone, and how to keep it.
    let whole = at_width(200, &["run", "--help"]);
    let whole = words(&whole).join(" ");
    for part in
        ["--detach Leave the container running. ", ">FILE 2>&1 </dev/null", "systemd-run --unit=NAME rspawn run"]
    {
        assert!(whole.contains(part), "{part}: {whole}");
    }
}

#[test]
fn a_detached_containers_output_is_where_help_says() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("echo for the file; echo and this >&2; exec sleep 1000");
    let mut shell = Command::new("sh");
    let rspawn = rspawn_tests::program("rspawn");
    let file = life.bundle.path().join("log");
    let (root, bundle) = (life.root.display(), life.bundle.path().display());
    let words = format!("--root '{root}' run --detach --bundle '{bundle}' {}", life.id());
    shell.arg("-c").arg(format!("'{}' {words} >'{}' 2>&1 </dev/null", rspawn.display(), file.display()));
    assert_eq!(life.run(shell).ok(), "");
    wait_for("it is in the file", || fs::read_to_string(&file).is_ok_and(|text| text == "for the file\nand this\n"));
}

#[test]
fn ids_of_engines_are_short_for_people_alone() {
    if cannot_make_containers() {
        return;
    }
    let mut life = Life::idle();
    life.bundle.id = format!("{:08x}{}", std::process::id(), "e".repeat(56));
    life.created(&[]).started();
    let (id, short) = (life.id().to_string(), life.id()[..12].to_string());
    let first = |text: String, line: usize| words(text.lines().nth(line).unwrap()).first().unwrap().to_string();
    assert_eq!(first(on_terminal(&life.command(&["list"])), 1), short);
    assert_eq!(first(on_terminal(&life.command(&["list", "--no-trunc"])), 1), id);
    assert_eq!(first(on_terminal(&life.command(&["top", "--once"])), 1), short);
    assert_eq!(first(on_terminal(&life.command(&["top", "--once", "--no-trunc"])), 1), id);
    // What programs read, and what a person hands on to one.
    assert_eq!(on_terminal(&life.command(&["list", "--quiet"])), format!("{id}\n"));
    assert_eq!(first(on_terminal(&life.command(&["list", "--format=table"])), 1), id);
    assert_eq!(first(life.run(life.command(&["list"])).ok(), 1), id);
    assert_eq!(first(life.run(life.command(&["top", "--once"])).ok(), 1), id);
    let all: serde_json::Value =
        serde_json::from_str(&life.run(life.command(&["list", "--format=json"])).ok()).unwrap();
    assert_eq!(all[0]["id"], id);
    assert_eq!(on_terminal(&life.on_it("state", &[])).lines().next(), Some(id.as_str()));
}

#[test]
fn binary_forms_are_not_for_a_terminal() {
    let bundle = Bundle::new();
    bundle.write_config();
    let policy = bundle.path().join("policy");
    fs::write(&policy, "mode = enforce\n").unwrap();
    let (bundle, policy) = (bundle.path().to_str().unwrap(), policy.to_str().unwrap());
    for words in [&["plan", "--format=bin", bundle][..], &["policy", "show", "--format=bin", policy]] {
        let mut command = Command::new(rspawn_tests::program("rspawn"));
        command.args(words);
        let terminal = Terminal::new(24, 80);
        let child = terminal.start(&command);
        let output = terminal.finish(child);
        let verb = words[..words.len() - 2].join(" ");
        let expected = format!("rspawn: {verb} --format=bin: binary output is for a file or a pipe\r\n");
        assert_eq!((output.status, output.stdout), (1, expected));
        let piped = command.output().unwrap();
        assert!(piped.status.success() && !piped.stdout.is_empty(), "{words:?}");
    }
}
