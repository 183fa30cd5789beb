//! The table of parent/docs/runc-flags.md, against what rspawn says and does, and against the runc that is installed.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use rspawn::cli::Cli;
use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program, skip_unless};

/// What stands in the table for options before the command.
const GLOBAL: &str = "(before the command)";

#[derive(Debug)]
struct Row {
    command: String,
    /// The long one first.
    flags: Vec<String>,
    since: String,
    fate: String,
    remarks: String,
}

fn table() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../parent/docs/runc-flags.md");
    let text = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [command, flags, since, fate, remarks] = cells[..] else { panic!("{line}") };
        Row {
            command: command.trim_matches('`').into(),
            flags: flags.split_whitespace().map(|flag| flag.trim_matches('`').to_string()).collect(),
            since: since.into(),
            fate: fate.into(),
            remarks: remarks.into(),
        }
    };
    let text = text.split("## crun's").next().unwrap();
    let rows: Vec<Row> = text.lines().filter(|line| line.starts_with("| ")).skip(1).map(row).collect();
    assert!(rows.len() > 90, "{} rows", rows.len());
    rows
}

/// What `rspawn help COMMAND` shows as options, by name.
fn shown(command: &str) -> BTreeSet<String> {
    let mut rspawn = Command::new(program("rspawn"));
    if command == GLOBAL {
        rspawn.arg("--help");
    } else {
        rspawn.args(["help", command]);
    }
    options(&finish(rspawn, b"").ok())
}

/// Names at the beginnings of lines: `-b, --bundle <DIR>` of clap, `--bundle value, -b value` of runc.
fn options(help: &str) -> BTreeSet<String> {
    let begins = |line: &&str| line.trim_start().starts_with('-');
    let names = |line: &str| {
        let head = line.trim_start().split("  ").next().unwrap_or_default().to_string();
        head.split([' ', ',', '[', '=']).filter(|word| word.starts_with('-')).map(str::to_string).collect::<Vec<_>>()
    };
    help.lines().filter(begins).flat_map(names).filter(|name| name.len() > 1).collect()
}

/// The command with a flag, in a directory with nothing in it, on a container that is not there.
fn tried(command: &str, flag: &str, value: Option<&str>, directory: &Path) -> Output {
    let option = value.map_or(flag.to_string(), |value| format!("{flag}={value}"));
    let mut rspawn = Command::new(program("rspawn"));
    rspawn.arg("--root").arg(directory.join("root")).current_dir(directory);
    if command == GLOBAL {
        rspawn.args([&option, "state", "no-such-container"]);
    } else {
        rspawn.args([command, &option]);
        if !matches!(command, "list" | "spec" | "features") {
            rspawn.arg("no-such-container");
        }
    }
    finish(rspawn, b"")
}

/// As with a value, or without: whichever the flag takes.
fn outcome(row: &Row, flag: &str, scratch: &Scratch) -> Output {
    let known = |output: &Output| {
        let text = &output.stderr;
        ![
            "unexpected argument", "unexpected value", "a value is required", "invalid value",
            "arguments were not provided",
        ]
        .iter()
        .any(|no| text.contains(no))
    };
    let directory: PathBuf = scratch.path.join(format!("{}{flag}", row.command.replace(['(', ')', ' '], "")));
    fs::create_dir_all(&directory).unwrap();
    // A short flag takes its value in the next word; its long one says what it does with it.
    let values = ["1", "true", "/nowhere/x", "text", "5s"].map(Some);
    let tries = std::iter::once(None).chain(values);
    let outputs: Vec<Output> = tries.map(|value| tried(&row.command, flag, value, &directory)).collect();
    let texts: Vec<String> = outputs.iter().map(|output| output.stderr.clone()).collect();
    outputs.into_iter().find(known).unwrap_or_else(|| panic!("{row:?}: {texts:#?}"))
}

#[test]
fn every_row_says_what_is_so() {
    let scratch = Scratch::new();
    let model = Cli::command();
    let mut seen = BTreeSet::new();
    for row in table() {
        assert!(["1.1", "1.2", "1.3"].contains(&row.since.as_str()), "{row:?}");
        assert!(seen.insert((row.command.clone(), row.flags.clone())), "twice: {row:?}");
        let known = row.command == GLOBAL || model.find_subcommand(&row.command).is_some();
        assert!(known, "there is no such command: {row:?}");
        match row.fate.as_str() {
            "honoured" => {
                let shown = shown(&row.command);
                assert!(row.flags.iter().all(|flag| shown.contains(flag)), "{row:?} is not among {shown:?}");
            }
            "no effect" | "refused" => assert!(!row.remarks.is_empty(), "no reason: {row:?}"),
            other => panic!("{other:?} is none of the three: {row:?}"),
        }
        let Some(flag) = row.flags.first().filter(|flag| !["--help", "--version"].contains(&flag.as_str())) else {
            continue;
        };
        let output = outcome(&row, flag, &scratch);
        let refusal = output.stderr.contains("not supported");
        assert_eq!(refusal, row.fate == "refused", "{row:?}: {output:?}");
        assert!(!refusal || output.status != 0, "{row:?}: {output:?}");
    }
}

/// A flag that is refused is not refused in silence where it asks for nothing.
#[test]
fn what_asks_for_nothing_is_taken() {
    let scratch = Scratch::new();
    for (command, flag, value) in
        [(GLOBAL, "--systemd-cgroup", "false"), ("update", "--l3-cache-schema", ""), ("update", "--mem-bw-schema", "")]
    {
        let output = tried(command, flag, Some(value), &scratch.path);
        assert_eq!(output.stderr, "rspawn: container does not exist\n", "{flag}");
    }
}

/// Every command and flag that the installed runc lists is in the table.
#[test]
fn runcs_own_list_is_in_the_table() {
    let runc = |arguments: &[&str]| {
        let mut command = Command::new("runc");
        command.args(arguments);
        finish(command, b"").ok()
    };
    let installed = || Command::new("runc").arg("--version").stdout(Stdio::null()).status().is_ok();
    if skip_unless(installed(), "runc is not installed") {
        return;
    }
    let rows = table();
    let in_table = |command: &str| -> BTreeSet<String> {
        rows.iter().filter(|row| row.command == command).flat_map(|row| row.flags.clone()).collect()
    };
    let help = runc(&["--help"]);
    let flags = |text: &str| options(text.split("OPTIONS:").nth(1).unwrap_or_default());
    let missing: Vec<String> = flags(&help).difference(&in_table(GLOBAL)).cloned().collect();
    assert!(missing.is_empty(), "before the command: {missing:?}");
    let commands = help.split("COMMANDS:").nth(1).unwrap().split("GLOBAL OPTIONS").next().unwrap();
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands.into_iter().filter(|command| !command.starts_with("help")) {
        assert!(rows.iter().any(|row| row.command == command), "{command} is not in the table");
        let known = in_table(command);
        let asked = flags(&runc(&["help", command]));
        let missing: Vec<&String> = asked.iter().filter(|flag| !known.contains(*flag)).collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
    }
}

/// `rspawn` with options before `list`, which finds no container.
fn before_list(options: &[&str], scratch: &Scratch) -> Output {
    let root = scratch.path.join("root");
    fs::create_dir_all(&root).unwrap();
    let mut rspawn = Command::new(program("rspawn"));
    rspawn.current_dir(&scratch.path).arg("--root").arg(root).args(options).arg("list");
    finish(rspawn, b"")
}

/// An option that has no effect is still not given values that are none.
#[test]
fn values_before_the_command_are_checked() {
    let scratch = Scratch::new();
    for good in [
        "--rootless=true", "--rootless=0", "--rootless=Auto", "--log-level=error", "--log-level=info",
        "--log-level=debug", "--debug", "--debug=false", "--cgroup-manager=cgroupfs",
    ] {
        before_list(&[good], &scratch).ok();
    }
    for (bad, said) in [
        ("--rootless=nonsense", "--rootless: unknown value \"nonsense\": use true, false or auto"),
        ("--log-level=nonsense", "--log-level: unknown level \"nonsense\": use error, warning, info or debug"),
        (
            "--cgroup-manager=nonsense",
            "--cgroup-manager: unknown manager \"nonsense\": use cgroupfs, systemd or disabled",
        ),
    ] {
        assert_eq!(error(before_list(&[bad], &scratch)), said);
    }
    let help = finish(
        {
            let mut help = Command::new(program("rspawn"));
            help.arg("--help");
            help
        },
        b"",
    )
    .ok();
    let with_effect = ["--log-level", "--debug", "--rootless"].into_iter().filter(|option| {
        let line = help.lines().skip_while(|line| !line.trim_start().starts_with(option));
        !line.take(2).any(|line| line.contains("Accepted, no effect"))
    });
    assert_eq!(with_effect.collect::<Vec<_>>(), [""; 0], "{help}");
}

/// Which of both makes the cgroup shows in what is planned for it.
#[test]
fn of_the_options_about_the_cgroup_the_last_one_counts() {
    let bundle = Bundle::new();
    bundle.write_config();
    let no_systemd = !Path::new("/run/systemd/system").exists();
    if skip_unless(no_systemd, "systemd runs this machine") {
        return;
    }
    for (options, systemd) in [
        (["--systemd-cgroup", "--cgroup-manager=cgroupfs"], false),
        (["--cgroup-manager=systemd", "--cgroup-manager=cgroupfs"], false),
        (["--cgroup-manager=systemd", "--systemd-cgroup=false"], false),
        (["--cgroup-manager=cgroupfs", "--systemd-cgroup"], true),
        (["--systemd-cgroup=false", "--systemd-cgroup"], true),
    ] {
        let mut plan = Command::new(program("rspawn"));
        plan.args(options).arg("plan").arg(bundle.path());
        let output = finish(plan, b"");
        assert_eq!(output.stderr.contains("systemd does not run this machine"), systemd, "{options:?}: {output:?}");
    }
}

#[test]
fn the_log_is_a_file() {
    let scratch = Scratch::new();
    let written = |name: &str| fs::read_to_string(scratch.path.join(name)).unwrap_or_default();
    for (option, name) in [("--log=file:one", "one"), ("--log=two", "two"), ("--log=./journald:x", "journald:x")] {
        error(before_list(&[option, "--rootless=nonsense"], &scratch));
        assert!(written(name).contains("level=error"), "{option}");
    }
    for place in ["journald", "syslog"] {
        let said = error(before_list(&[&format!("--log={place}:id")], &scratch));
        let why = format!("rspawn does not log to {place}, but to a file: PATH or file:PATH");
        assert_eq!(said, format!("--log: {place}:id is not supported: {why}"));
        assert!(!scratch.path.join(format!("{place}:id")).exists());
    }
    assert!(!scratch.path.join("file:one").exists());
}

/// The grammar of runc's parser, on containers.
#[test]
fn options_are_written_as_runc_takes_them() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("exec sleep 1000");
    let bundle = life.bundle.path().display().to_string();
    // One dash, a switch with a value, and of two the last.
    let pid_file = format!("{bundle}/pid");
    let words = [
        "-log",
        "/nowhere/log",
        "-log",
        "/dev/null",
        "-debug",
        "run",
        "-bundle",
        "/nowhere",
        "-bundle",
        &bundle,
        "-no-subreaper",
        "-detach=false",
        "-detach=true",
        "-pid-file",
        &pid_file,
        "--keep",
        life.id(),
    ];
    assert_eq!(life.run(life.command(&words)).ok(), "");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), life.pid().to_string());
    let said =
        life.run(life.command(&["exec", "-cwd", "/tmp", "-cwd=/bin", life.id(), "sh", "-c", "pwd; echo $0", "-tty"]));
    assert_eq!(said.ok(), "/bin\n-tty\n");
    // What appends goes on appending.
    let said = life.run(life.command(&["exec", "-env", "A=1", "--env=B=2", "-e", "C=3", life.id(), "env"])).ok();
    assert!(["A=1", "B=2", "C=3"].iter().all(|variable| said.lines().any(|line| line == *variable)), "{said}");
    assert!(error(life.delete(&["--force", "--force=false"])).contains("that is not stopped"));
    life.delete(&["-force=true"]).ok();
    life.assert_gone();
    let odd = life.delete(&["--force=maybe"]);
    assert!(odd.status == 1 && odd.stderr.contains("maybe"), "{odd:?}");
}

/// What crun has beside: shown where it has an effect, taken where it has none, and an error where it is refused.
#[test]
fn the_table_of_cruns_flags_is_true() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../parent/docs/runc-flags.md");
    let text = fs::read_to_string(page).unwrap();
    let section = text.split("## crun's flags").nth(1).unwrap().split("## ").next().unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("|`") || line.starts_with("|("))
        .map(|line| line.split('|').collect())
        .collect();
    assert!(rows.len() > 8, "{section}");
    for row in rows {
        let (command, fate) = (row[1].trim_matches('`'), row[3]);
        for flag in row[2].split_whitespace().map(|flag| flag.trim_matches('`')) {
            let is_known =
                Cli::command().find_subcommand(command).unwrap_or(&Cli::command()).get_arguments().any(|arg| {
                    flag == format!("--{}", arg.get_long().unwrap_or_default())
                        || arg.get_short().is_some_and(|letter| flag == format!("-{letter}"))
                });
            assert_eq!(is_known, fate != "refused", "{command} {flag}");
        }
        if row[2].is_empty() {
            assert!(Cli::command().find_subcommand(command).is_none(), "{command}");
        }
    }
}
