//! What `-h` and `--help` print beside what clap makes: a screen about `run`, and lines that fit the terminal.
use std::ffi::OsString;

/// `rspawn run -h`: what people use, on a screen of 24 lines with the prompt.
const RUN: &str = "\
Run a command in a container and end with its status; or leave it running.

Usage: rspawn run [OPTIONS] [NAME] [-- CMD ARGS...]

What to run:
  -b, --bundle DIR          an OCI bundle; `.` if nothing else is named
  -D, --directory DIR       a root filesystem, writable, without a bundle
      --host                this machine's own root, read-only
      -- CMD ARGS           this command instead of the bundle's

How:
  -d, --detach              leave it running; --help says where its output goes
  -u, --user USER[:GROUP]   as this user of the container, by name or number
  -E, --setenv NAME[=VALUE] set a variable, or pass it on
      --bind SOURCE[:PATH]  show a file or directory of the host in it
      --tmpfs PATH          an empty directory in memory
      --read-only           its root cannot be written
      --private-network     no network but a loopback device

  rspawn run -D /srv/debian --bind=/srv/data:/data web -- sh
More: rspawn run --help has every option, with examples.
";

/// Whether a command line that asks for help asks for the screen about `run`.
pub fn is_short_of_run(words: &[OsString]) -> bool {
    let mut own = words.iter().skip(1).take_while(|word| *word != "--");
    own.any(|word| word == "run") && own.any(|word| word == "-h")
}

/// The text to print, at most so wide if that is known.
pub fn text(words: &[OsString], of_clap: String, columns: Option<usize>) -> String {
    let text = if is_short_of_run(words) { RUN.to_string() } else { of_clap };
    match columns {
        Some(columns) => fitted(&text, columns),
        None => text,
    }
}

/// Breaks long lines between words, and begins what follows where the line's explanation begins.
pub fn fitted(text: &str, columns: usize) -> String {
    /// What is narrower cannot be read either way.
    const LEAST: usize = 40;
    let columns = columns.max(LEAST);
    text.split_inclusive('\n').map(|line| line_fitted(line.trim_end(), columns) + "\n").collect()
}

fn line_fitted(line: &str, columns: usize) -> String {
    let mut rest = line;
    let indent = " ".repeat(explanation(line).min(columns / 2));
    let mut fitted = String::new();
    loop {
        let room = if fitted.is_empty() { columns } else { columns - indent.len() };
        let end = rest.char_indices().nth(room).map(|(end, _)| end);
        // A word that is too long for a line goes over it.
        let start = if fitted.is_empty() { explanation(line) } else { 0 };
        let space = end.and_then(|end| {
            rest[..=end].rfind(' ').filter(|at| *at > start).or_else(|| rest[end..].find(' ').map(|at| end + at))
        });
        let Some(space) = space else { return fitted + rest };
        fitted = fitted + rest[..space].trim_end() + "\n" + &indent;
        rest = rest[space..].trim_start();
    }
}

/// Where a line's explanation begins: behind a wide gap, or else with its first word.
fn explanation(line: &str) -> usize {
    let first = line.len() - line.trim_start().len();
    let gap = line[first..].find("  ").map(|gap| first + gap);
    gap.map_or(first, |gap| line.len() - line[gap..].trim_start().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn lines_are_broken_where_they_can_be() {
        assert_eq!(fitted("short\n\n  also\n", 40), "short\n\n  also\n");
        let line = "  --bind SOURCE   bind a file or directory of the host, however long";
        let expected = "  --bind SOURCE   bind a file or\n                  directory of the host,\n                  however long\n";
        assert_eq!(fitted(line, 40), expected);
        let word = "x".repeat(50);
        assert_eq!(
            fitted(&format!("          {word} and more"), 40),
            format!("          {word}\n          and more\n")
        );
        assert_eq!(
            fitted("zwölf größere Übungen für Bäcker und Köche", 40),
            "zwölf größere Übungen für Bäcker und\nKöche\n"
        );
    }

    #[test]
    fn every_help_fits() {
        let mut whole = Cli::command();
        whole.build();
        for command in whole.get_subcommands_mut() {
            let text = command.render_long_help().to_string();
            for columns in [80, 200] {
                for line in fitted(&text, columns).lines() {
                    let is_one_word = line.trim_start().split(' ').count() < 3;
                    assert!(line.chars().count() <= columns || is_one_word, "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn the_screen_about_run_is_true_and_one_screen() {
        assert!(RUN.lines().count() < 24 && RUN.lines().all(|line| line.chars().count() <= 80));
        let run = Cli::command().find_subcommand("run").cloned().expect("run");
        let options: Vec<&str> = RUN.lines().filter_map(|line| line.split("--").nth(1)).collect();
        let names: Vec<&str> =
            options.iter().filter_map(|rest| rest.split(' ').next()).filter(|name| !name.is_empty()).collect();
        assert!(names.len() >= 10, "{names:?}");
        for name in names {
            let name = name.split('=').next().unwrap_or_default();
            assert!(name == "help" || run.get_arguments().any(|arg| arg.get_long() == Some(name)), "{name}");
        }
    }

    #[test]
    fn only_the_short_help_of_run_is_the_screen() {
        let is_short = |line: &str| is_short_of_run(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(is_short("rspawn run -h") && is_short("rspawn --root x run -b y -h"));
        for other in ["rspawn run --help", "rspawn -h", "rspawn list -h", "rspawn run -- x -h", "rspawn help run"] {
            assert!(!is_short(other), "{other}");
        }
    }
}
