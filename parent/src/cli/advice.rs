//! What to write instead, where a command line has a habit from another tool in it, or an option at another place.
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory};

use super::{Cli, Global};

/// Options of docker's, systemd-nspawn's and bubblewrap's that rspawn does not have, and what it has for them.
const HABITS: [(&str, &str); 22] = [
    ("--rm", "leave it out: `run` in the foreground removes the container when it has ended (--keep keeps it)"),
    ("-i", "leave it out: standard input is the container's"),
    (
        "-t",
        "leave it out: `run --host` and `run -D` have a terminal where you have one; of a bundle config.json says so",
    ),
    (
        "-it",
        "leave it out: `run --host` and `run -D` have a terminal where you have one; of a bundle config.json says so",
    ),
    (
        "-ti",
        "leave it out: `run --host` and `run -D` have a terminal where you have one; of a bundle config.json says so",
    ),
    ("--interactive", "leave it out: standard input is the container's"),
    (
        "--tty",
        "leave it out: `run --host` and `run -D` have a terminal where you have one; of a bundle config.json says so",
    ),
    ("--volume", "--bind=SOURCE:PATH, or --bind-ro=SOURCE:PATH"),
    ("--mount", "--bind=SOURCE:PATH, --tmpfs=PATH or --overlay=LOWER:UPPER:PATH"),
    ("--name", "the name stands by itself: rspawn run --bundle DIR NAME"),
    ("--machine", "the name stands by itself: rspawn run -D DIR NAME -- CMD"),
    ("-M", "the name stands by itself: rspawn run -D DIR NAME -- CMD"),
    ("--env", "--setenv=NAME=VALUE, or -E NAME=VALUE"),
    ("-e", "--setenv=NAME=VALUE, or -E NAME=VALUE"),
    ("--workdir", "--chdir=PATH"),
    ("-w", "--chdir=PATH"),
    ("--cap-add", "--capability=NAME"),
    ("--cap-drop", "--drop-capability=NAME"),
    ("--memory", "make the container, then `rspawn update --memory`; or /linux/resources/memory/limit of config.json"),
    ("--ephemeral", "--volatile=overlay"),
    ("-x", "--volatile=overlay"),
    ("--quiet", "leave it out: rspawn says nothing but what is wrong"),
];

/// The error of a command line that clap refuses, in the form of all others; with what was probably meant in place of
/// clap's own tips, which would have an unknown option taken for the command of the container.
pub fn text(error: &clap::Error, words: &[OsString]) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match (advice(error, words), text.lines().next()) {
        (Some(advice), Some(first)) => format!("rspawn: {first}; {advice}\n"),
        _ => format!("rspawn: {text}"),
    }
}

fn advice(error: &clap::Error, words: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = unknown.split('=').next()?;
    // A command that has none of it, but rspawn itself does: the order is what is wrong.
    if let Some(line) = moved(name, words) {
        return Some(format!("{name} is an option of rspawn itself, and stands before the command: {line}"));
    }
    // clap names the first letter of `-it` alone.
    let written = words.iter().filter_map(|word| word.to_str()).find(|word| word.starts_with(name))?;
    let habit = |name: &str| HABITS.iter().find(|(habit, _)| *habit == name);
    let (habit, instead) = habit(written.split('=').next()?).or_else(|| habit(name))?;
    Some(format!("instead of {habit}: {instead}"))
}

/// The command line with an option of rspawn's own before the command.
fn moved(name: &str, words: &[OsString]) -> Option<String> {
    let global = Global::augment_args(clap::Command::new("rspawn"));
    let option =
        global.get_arguments().find(|option| option.get_long().is_some_and(|long| name == format!("--{long}")))?;
    let at = words.iter().position(|word| word.to_str().is_some_and(|word| word.split('=').next() == Some(name)))?;
    let mut words: Vec<&str> = words.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let takes_value = option.get_action().takes_values() && !option.is_require_equals_set();
    let count = if takes_value && !words[at].contains('=') && at + 1 < words.len() { 2 } else { 1 };
    let option: Vec<&str> = words.drain(at..at + count).collect();
    let command = words.iter().position(|word| Cli::command().find_subcommand(word).is_some())?;
    words.splice(command..command, option);
    words[0] = "rspawn";
    Some(words.into_iter().map(quoted).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fast_parse::parse;
    use super::*;

    fn advice(line: &str) -> Option<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text = text(&parse(&words).expect_err(line), &words);
        assert!(text.starts_with("rspawn: unexpected argument '-"), "{text}");
        (!text.contains("tip:") && !text.contains("Usage:")).then(|| text.trim_end().to_string())
    }

    #[test]
    fn habits_have_an_answer() {
        for (line, part) in [
            ("rspawn run --rm x", "instead of --rm: leave it out"),
            ("rspawn run -it x", "instead of -it: leave it out"),
            ("rspawn run -D deb --name=web", "rspawn run --bundle DIR NAME"),
            ("rspawn run -x x", "--volatile=overlay"),
            ("rspawn run -M m", "stands by itself"),
        ] {
            assert!(advice(line).is_some_and(|text| text.contains(part)), "{line}: {:?}", advice(line));
        }
        assert_eq!(advice("rspawn run --nonsense x"), None);
    }

    #[test]
    fn options_of_rspawn_itself_are_put_at_their_place() {
        for (line, meant) in [
            ("rspawn run --root /r x", "rspawn --root /r run x"),
            ("rspawn list --root=/r", "rspawn --root=/r list"),
            ("rspawn delete --log l --force x", "rspawn --log l delete --force x"),
            ("/usr/bin/rspawn run --systemd-cgroup x", "rspawn --systemd-cgroup run x"),
        ] {
            assert!(advice(line).is_some_and(|text| text.ends_with(&format!(": {meant}"))), "{:?}", advice(line));
        }
        // Of the same name, and the command's own.
        assert!(parse(&["rspawn", "run", "--init=exec", "x"].map(OsString::from)).is_ok());
    }

    #[test]
    fn what_is_copied_is_one_word() {
        assert_eq!(["a-b", "a b", "it's", ""].map(quoted), ["a-b", "'a b'", "'it'\\''s'", "''"]);
    }
}
