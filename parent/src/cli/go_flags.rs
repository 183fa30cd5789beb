//! The words of the command line as runc's parser (urfave/cli over Go's flag package) takes them, for clap to read.
//!
//! Clients rely on what clap has no setting for: `-bundle X` is `--bundle X` (go-runc sends `-no-subreaper`), and a
//! switch takes `=true` and `=false`.
use std::any::TypeId;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// What Go's strconv.ParseBool takes.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Rewrites a whole command line, the program's name included. What it does not understand it leaves to clap, whose
/// errors are good ones.
pub fn for_clap(model: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut rewritten = Rewritten { model, words: Vec::new() };
    rewritten.words.extend(words.next().map(|program| (None, program)));
    let mut is_command = false;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            rewritten.push(word);
            break;
        }
        let takes_next = if text.starts_with('-') && text.len() > 1 {
            rewritten.option(text)
        } else {
            rewritten.push(word.clone());
            if is_command && rewritten.model.get_positionals().any(Arg::is_trailing_var_arg_set) {
                // What follows is the command of `exec`, or an option of ps(1).
                break;
            }
            if !is_command {
                is_command = true;
                match rewritten.model.find_subcommand(text) {
                    Some(command) => rewritten.model = command,
                    None => break,
                }
            }
            false
        };
        if takes_next {
            words.next().into_iter().for_each(|value| rewritten.push(value));
        }
    }
    words.for_each(|word| rewritten.push(word));
    rewritten.words.into_iter().map(|(_, word)| word).collect()
}

struct Rewritten<'a> {
    /// The command whose options are read.
    model: &'a Command,
    /// With the name of the switch that each one is, if it is one.
    words: Vec<(Option<&'a str>, OsString)>,
}

impl<'a> Rewritten<'a> {
    fn push(&mut self, word: impl Into<OsString>) {
        self.words.push((None, word.into()));
    }

    /// A word that begins with a dash: whether the next one is its value.
    fn option(&mut self, text: &str) -> bool {
        let bare = text.strip_prefix("--").or(text.strip_prefix('-')).unwrap_or(text);
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let is_long = text.starts_with("--");
        if name == "help" {
            self.push("--help");
            return false;
        }
        if let Some(arg) = self.long(name).filter(|_| is_long || name.len() > 1) {
            return self.known(arg, &format!("--{name}"), value);
        }
        match name.chars().next() {
            Some(letter) if !is_long && name.len() == 1 && value.is_some() => match self.short(letter) {
                Some(arg) if is_switch(arg) => self.known(arg, &format!("-{letter}"), value),
                _ => {
                    self.push(text);
                    false
                }
            },
            _ if !is_long => self.letters(bare),
            _ => {
                self.push(text);
                false
            }
        }
    }

    /// Options of one letter, which may share a word; the last one may have its value in it.
    fn letters(&mut self, letters: &str) -> bool {
        for (at, letter) in letters.char_indices() {
            match self.short(letter) {
                Some(arg) if is_switch(arg) => {
                    self.known(arg, &format!("-{letter}"), None);
                }
                arg => {
                    self.push(format!("-{}", &letters[at..]));
                    return arg.is_some() && letters.len() == at + letter.len_utf8();
                }
            }
        }
        false
    }

    fn known(&mut self, arg: &'a Arg, option: &str, value: Option<&str>) -> bool {
        let id = arg.get_id().as_str();
        match (value, value.and_then(boolean)) {
            (None, _) if is_switch(arg) => self.words.push((Some(id), option.into())),
            (Some(_), Some(true)) if is_switch(arg) => self.words.push((Some(id), option.into())),
            // The last one counts.
            (Some(_), Some(false)) if is_switch(arg) => self.words.retain(|(switch, _)| *switch != Some(id)),
            (Some(_), Some(value)) if is_boolean(arg) => self.push(format!("{option}={value}")),
            (Some(value), _) => self.push(format!("{option}={value}")),
            (None, _) => {
                self.push(option);
                return !arg.is_require_equals_set();
            }
        }
        false
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let has = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        self.model.get_arguments().find(has)
    }

    fn short(&self, letter: char) -> Option<&'a Arg> {
        let has = |arg: &&Arg| {
            let aliases = arg.get_all_short_aliases();
            arg.get_short() == Some(letter) || aliases.is_some_and(|aliases| aliases.contains(&letter))
        };
        self.model.get_arguments().find(has)
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Of those that are told apart from not being given at all.
fn is_boolean(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn rewritten(line: &str) -> String {
        let model = Cli::command();
        let words = for_clap(&model, line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        for (given, expected) in [
            ("rspawn -root /r run -bundle b -detach id", "rspawn --root /r run --bundle b --detach id"),
            ("rspawn -log=/l create -pid-file=/p -b b id", "rspawn --log=/l create --pid-file=/p -b b id"),
            ("rspawn run -no-subreaper -no-pivot id", "rspawn run --no-subreaper --no-pivot id"),
            ("rspawn -version", "rspawn --version"),
            ("rspawn run -help", "rspawn run --help"),
            // A value is left as it is, whatever it looks like.
            ("rspawn --log -debug state id", "rspawn --log -debug state id"),
            ("rspawn update --cpu-quota -1 -memory -1 id", "rspawn update --cpu-quota -1 --memory -1 id"),
            ("rspawn kill id -9", "rspawn kill id -9"),
            // What is another program's is not touched.
            ("rspawn exec -tty id sh -detach -tty", "rspawn exec --tty id sh -detach -tty"),
            ("rspawn run id -- sh -detach --keep=false", "rspawn run id -- sh -detach --keep=false"),
            ("rspawn ps id -format --detach=false", "rspawn ps id -format --detach=false"),
            ("rspawn checkpoint -image-path x", "rspawn checkpoint -image-path x"),
            ("rspawn help run -bundle", "rspawn help run -bundle"),
            // What is no option is clap's to refuse.
            ("rspawn run -nonsense id", "rspawn run -nonsense id"),
            ("rspawn run --nonsense=false id", "rspawn run --nonsense=false id"),
        ] {
            assert_eq!(rewritten(given), expected, "{given}");
        }
    }

    #[test]
    fn switches_take_a_boolean_and_the_last_one_counts() {
        for (given, expected) in [
            ("rspawn delete --force=true id", "rspawn delete --force id"),
            ("rspawn delete -force=false id", "rspawn delete id"),
            ("rspawn delete -f=T id", "rspawn delete -f id"),
            ("rspawn delete -f --force=0 id", "rspawn delete id"),
            ("rspawn delete --force=false -f id", "rspawn delete -f id"),
            ("rspawn exec -td --tty=false id sh", "rspawn exec -d id sh"),
            ("rspawn exec -tu 5 id sh", "rspawn exec -t -u 5 id sh"),
            ("rspawn exec -te=A=b id sh", "rspawn exec -t -e=A=b id sh"),
            ("rspawn delete --force=maybe id", "rspawn delete --force=maybe id"),
            ("rspawn -systemd-cgroup=T list", "rspawn --systemd-cgroup=true list"),
            ("rspawn exec --no-new-privs=0 id sh", "rspawn exec --no-new-privs=false id sh"),
            ("rspawn run --no-new-privileges=1 id", "rspawn run --no-new-privileges=1 id"),
        ] {
            assert_eq!(rewritten(given), expected, "{given}");
        }
    }
}
