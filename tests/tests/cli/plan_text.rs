//! `rspawn plan` for people: the text, its colours, and the difference of two plans in words; help, completions, pages.
use std::fs;
use std::process::{Command, Stdio};

use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program};
use serde_json::json;

#[track_caller]
fn rspawn(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("rspawn"));
    command.args(arguments);
    finish(command, b"")
}

fn path(bundle: &Bundle) -> &str {
    bundle.write_config();
    bundle.path().to_str().unwrap()
}

#[test]
fn steps_are_grouped_and_aligned() {
    let text = rspawn(&["plan", path(&Bundle::new())]).ok();
    let headings = ["host: ", "spawn: ", "rootfs: ", "finish: "].map(|name| text.find(&format!("\n{name}")));
    assert!(headings.iter().all(Option::is_some) && headings.is_sorted(), "{text}");
    // Every step's text begins in the same column.
    let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    let column = |line: &&str| {
        line.trim_start().find("  ").map(|at| {
            let rest = &line.trim_start()[at..];
            2 + at + rest.len() - rest.trim_start().len()
        })
    };
    let columns: std::collections::BTreeSet<_> = steps.iter().map(column).collect();
    assert!(steps.len() > 40 && columns.len() == 1, "{columns:?}\n{text}");
    for line in ["runs          sh\n", "host paths    ", "confined by   no seccomp filter, no new privileges by exec\n"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn an_override_is_named_where_it_has_an_effect() {
    let bundle = Bundle::new();
    let settings = bundle.path().join("x.nspawn");
    fs::write(&settings, "[Files]\nInaccessible=/etc/shadow\n").unwrap();
    let named = format!("--settings={}", settings.display());
    let options =
        ["plan", path(&bundle), &named, "--bind-ro=/etc:/host", "--chdir=/var", "--capability=CAP_CHOWN", "--user=5"];
    let text = rspawn(&options).ok();
    for (origin, action) in [
        ("--bind-ro=/etc:/host", "clone tree at host path /etc, rro"),
        ("--bind-ro=/etc:/host", "mount /etc on /host"),
        ("--chdir=/var", "working directory /var"),
        ("--user=5", "uid 5"),
        ("x.nspawn:2 Inaccessible=", "mask /etc/shadow"),
    ] {
        let found = text.lines().any(|line| line.trim_start().starts_with(origin) && line.contains(action));
        assert!(found, "{origin} {action}: {text}");
    }
    assert!(text.contains("--capability=CAP_CHOWN") && !text.contains("/mounts/7"), "{text}");
}

#[test]
fn differences_in_words() {
    let bundle = Bundle::new();
    let directory = path(&bundle).to_string();
    let difference = |options: &[&str]| rspawn(&[&["plan", "--diff", &directory], options].concat());
    let is_said = |options: &[&str], sentences: &[&str]| {
        let text = difference(options).ok();
        for sentence in sentences {
            assert!(text.lines().any(|line| line == *sentence), "{options:?}: {sentence}: {text}");
        }
    };
    is_said(
        &["--capability=CAP_SYS_ADMIN", "--bind=/etc:/x", "--bind-ro=/var"],
        &[
            "gains CAP_SYS_ADMIN",
            "host path /etc becomes visible, writable",
            "host path /var becomes visible, read-only",
        ],
    );
    is_said(
        &["--drop-capability=CAP_KILL", "--read-only"],
        &["loses CAP_KILL", "its root filesystem becomes read-only"],
    );
    is_said(
        &["--user=1000:5"],
        &["runs as uid 1000 instead of root (uid 0)", "is in group 5", "is no longer in group 0"],
    );
    is_said(&["--no-new-privileges=no"], &["may gain privileges by exec"]);
    is_said(
        &["--system-call-filter=~kexec_load bpf"],
        &["is now under a seccomp filter", "may no longer call kexec_load bpf"],
    );
    is_said(&["--inaccessible=/etc/shadow"], &["/etc/shadow is masked"]);
    is_said(&["--setenv=SECRET=x", "--", "ls", "a b"], &["has the variable SECRET", "runs ls 'a b' instead of sh"]);
    assert!(!difference(&["--setenv=SECRET=hidden"]).ok().contains("hidden"));
    // What is gained comes before what is lost.
    let text = difference(&["--drop-capability=CAP_KILL", "--bind=/etc"]).ok();
    assert!(text.find("becomes visible") < text.find("loses CAP_KILL"), "{text}");
    let other = Bundle::new().with(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != "pid");
    });
    let text = rspawn(&["plan", "--diff", &directory, path(&other)]).ok();
    assert!(
        text.contains("/proc/kcore is no longer masked\n") && text.contains("shares the host's pid namespace\n"),
        "{text}"
    );
    let json = rspawn(&["plan", "--diff", "--format=json", &directory, path(&other)]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["more"].as_array().unwrap().contains(&json!("shares the host's pid namespace")));
    assert!(difference(&[]).refused().contains("two bundles, or one and options"));
    assert!(rspawn(&["plan", &directory, &directory]).refused().contains("with --diff, two"));
}

#[test]
fn colours_are_for_terminals() {
    let bundle = Bundle::new();
    let directory = path(&bundle).to_string();
    let shown = |environment: &[(&str, &str)]| {
        let mut command = Command::new(program("rspawn"));
        command.args(["plan", &directory, "--capability=CAP_SYS_ADMIN"]).env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(environment.iter().copied());
        let terminal = Terminal::new(50, 200);
        let child = terminal.start(&command);
        terminal.finish(child).ok()
    };
    let text = shown(&[]);
    assert!(text.contains("\x1b[1mhost:\x1b[0m") && text.contains("\x1b[1;31mSYS_ADMIN\x1b[0m"), "{text:?}");
    assert!(!shown(&[("NO_COLOR", "1")]).contains('\x1b') && !shown(&[("TERM", "dumb")]).contains('\x1b'));
    assert!(!rspawn(&["plan", &directory]).ok().contains('\x1b'));
}

#[test]
fn help_has_examples() {
    for verb in ["run", "plan", "check", "spec", "policy"] {
        let long = rspawn(&["help", verb]).ok();
        assert!(long.contains("Examples:\n  ") && long.contains(&format!("rspawn {verb}")), "{verb}: {long}");
        assert_eq!(long, rspawn(&[verb, "--help"]).ok(), "{verb}");
        let short = rspawn(&[verb, "-h"]).ok();
        assert!(short.len() < long.len(), "{verb}");
    }
}

/// Every example of `rspawn plan` and `check` is a command line that is understood.
#[test]
fn examples_are_command_lines() {
    use clap::CommandFactory;
    let texts = [rspawn::cli::examples::RUN, rspawn::cli::examples::PLAN, rspawn::cli::examples::CHECK];
    let mut count = 0;
    for line in texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("  rspawn ")) {
        let command = line.split("   ").find(|part| !part.is_empty()).unwrap().split(" >").next().unwrap();
        let words = rspawn_planner::overrides::values::words(command).unwrap();
        let parsed = rspawn::cli::Cli::command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{command}: {:?}", parsed.err().map(|error| error.to_string()));
        count += 1;
    }
    assert!(count > 12);
}

#[test]
fn completions_and_pages_know_every_option() {
    for (shell, check) in [("bash", Some("bash")), ("zsh", None), ("fish", None)] {
        let text = rspawn(&["generate", "completions", shell]).ok();
        for word in ["inaccessible", "system-call-filter", "volatile", "plan", "check"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
        if let Some(program) = check {
            let mut command = Command::new(program);
            command.arg("-n").stdin(Stdio::piped());
            let output = finish(command, text.as_bytes());
            assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{shell}");
        }
    }
    let pages = Scratch::new();
    rspawn(&["generate", "man", pages.path.to_str().unwrap()]).ok();
    let page = |name: &str| fs::read_to_string(pages.path.join(name)).unwrap_or_default();
    assert!(page("rspawn.1").contains(".TH rspawn 1"));
    let run = page("rspawn-run.1");
    assert!(run.contains("inaccessible") && run.contains("Examples:"), "{run}");
    assert!(!pages.path.join("rspawn-generate.1").exists() && !pages.path.join("rspawn-help.1").exists());
}

/// The programs that containers are made with still run where nothing can be looked at.
#[test]
fn a_plan_of_a_directory() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let text = rspawn(&["plan", "-D", bundle.rootfs().to_str().unwrap(), "--volatile=state"]).ok();
    assert!(text.contains("--volatile=state") && text.contains("mount tmpfs on /var"), "{text}");
}

#[test]
fn a_difference_is_not_given_in_bytes() {
    let bundle = Bundle::new();
    bundle.write_config();
    let mut command = Command::new(program("rspawn"));
    command.args(["plan", "--diff", "--format=bin", "--hostname=x"]).arg(bundle.path());
    let said = finish(command, b"").refused();
    assert_eq!(said, "rspawn: plan --diff --format=bin: a difference has no binary form: use text or json\n");
}
