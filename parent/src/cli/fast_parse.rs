//! Parsing without what is not asked for: to make the models of all commands takes longer than to plan a container.
use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches};

use super::go_flags::for_clap;
use super::*;

/// Parses a whole command line, the program's name included.
pub fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    // What it does not know, such as a command's name that is an option's value, the whole model does, and has good
    // errors for.
    let quick = words.iter().skip(1).find_map(|word| one(word.to_str()?)).map(|model| parse_with(model, words));
    match quick {
        Some(Ok(cli)) => Ok(cli),
        _ => parse_with(Cli::command(), words),
    }
}

fn parse_with(mut model: clap::Command, words: &[OsString]) -> Result<Cli, clap::Error> {
    let words = for_clap(&model, words.iter().cloned());
    model.try_get_matches_from_mut(words).and_then(|mut found| Cli::from_arg_matches_mut(&mut found))
}

type Model = fn(clap::Command) -> clap::Command;

/// The commands that clients call for every container.
const FREQUENT: [(&str, Model); 7] = [
    ("create", Create::augment_args),
    ("start", Start::augment_args),
    ("run", Run::augment_args),
    ("state", State::augment_args),
    ("kill", Kill::augment_args),
    ("delete", Delete::augment_args),
    ("exec", Exec::augment_args),
];

/// The model with one command.
fn one(name: &str) -> Option<clap::Command> {
    let (name, model) = FREQUENT.into_iter().find(|(known, _)| *known == name)?;
    let all = clap::Command::new("rspawn").disable_version_flag(true).args_override_self(true);
    Some(Global::augment_args(all).subcommand(model(clap::Command::new(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is said, both ways understand the same, or neither.
    #[test]
    fn both_models_agree() {
        for line in [
            "rspawn run id",
            "rspawn run -b dir --detach --pid-file p id",
            "rspawn run --host -- ls -l",
            "rspawn run --oci-bundle=dir id --private-network -- ls -l",
            "rspawn run -oci-bundle dir",
            "rspawn run --oci-bundle dir --bundle other",
            "rspawn run",
            "rspawn --root /r --log l --log-format json create --bundle b --console-socket s id",
            "rspawn --root run state id",
            "rspawn --init exec create --init supervise id",
            "rspawn -init=supervise kill id",
            "rspawn --root create list",
            "rspawn -root=/x delete -force id",
            "rspawn kill id 9",
            "rspawn kill --all id KILL",
            "rspawn kill",
            "rspawn start id",
            "rspawn start id extra",
            "rspawn exec -t -u 5:6 -e A=b id sh -c run",
            "rspawn exec --process p --detach id",
            "rspawn exec id",
            "rspawn exec --cap A --cap B --tty --tty=false id sh",
            "rspawn state --format table id",
            "rspawn --version",
            "rspawn help run",
            "rspawn run --help",
            "rspawn run --nonsense id",
            "rspawn nonsense run",
            "rspawn",
            "rspawn --systemd-cgroup run --no-pivot --preserve-fds 2 id",
            "rspawn run --bind=a:b --bind c:d id",
            "rspawn list",
            "rspawn update --memory 1G run",
            "rspawn checkpoint run",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let shown = |parsed: Result<Cli, clap::Error>| match parsed {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown(parse(&words)), shown(parse_with(Cli::command(), &words)), "{line}");
        }
    }
}
