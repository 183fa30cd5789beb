//! What to write instead, where a command line has a habit from another tool in it, or an option at another place. The
//! line that is meant is made by changing what is refused, until rspawn itself takes the line.
mod habits;

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory};
use rspawn_proto::ids::ContainerId;

use super::fast_parse::parse;
use super::{Cli, Command, Global, Run};
use habits::{COMMANDS, EXEC, Instead, RUN};

/// So many words of a line may be wrong.
const MOST: usize = 12;

/// The error of a command line that clap refuses, in the form of all others; with what was probably meant in place of
/// clap's own tips, which would have an unknown option taken for the command of the container.
pub fn text(error: &clap::Error, words: &[OsString]) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let is_unknown = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    match (text.lines().next(), Line::read(words)) {
        (Some(first), Some(line)) if is_unknown => format!("rspawn: {first}; {}", line.advice(error)),
        _ => format!("rspawn: {}", text.trim_end()),
    }
}

/// Why a line that can be read is not carried out: what it says is not what anybody means.
pub fn second_thoughts(cli: &Cli, words: &[OsString]) -> Option<String> {
    let Some(Command::Run(run)) = &cli.command else { return None };
    let id = run.id.as_deref()?;
    let mut line = Line::read(words)?;
    if let Some(option) = path_for_name(run) {
        let what = if option == "-D" { "a root filesystem" } else { "a bundle" };
        let reason =
            ContainerId::new(id).err().map_or_else(|| "there is no config.json here".into(), |e| e.to_string());
        line.replace_last(id, &[option, id]);
        return Some(format!("{reason}: the container's name stands there, and {id} is {what}: {}", line.shown()));
    }
    if !is_command_for_name(run) {
        return None;
    }
    let mut named = line.clone();
    named.words.extend(["--", "sh"].map(String::from));
    line.replace_last(id, &["--", id]);
    Some(format!(
        "{id}: a name or a command? A command stands behind `--`: {}; a container of that name: {}",
        line.shown(),
        named.shown()
    ))
}

/// `run -D deb ls` would make a container that is called ls, and start a shell in it.
fn is_command_for_name(run: &Run) -> bool {
    let container = &run.create.container;
    (container.directory.is_some() || container.host) && run.id.is_some() && run.command.is_empty()
}

/// `run /srv/deb`: the option that is to stand before the path.
fn path_for_name(run: &Run) -> Option<&'static str> {
    let container = &run.create.container;
    let id = run.id.as_deref()?;
    let has_source = container.directory.is_some() || container.host || container.oci_bundle.is_some();
    if has_source || container.config.is_some() || container.bundle != Path::new(".") {
        return None;
    }
    let path = Path::new(id);
    let meant = path.is_dir() && (id.contains('/') || !Path::new("config.json").exists());
    meant.then(|| if path.join("config.json").exists() { "--bundle" } else { "-D" })
}

/// A command line on its way to the one that is meant.
#[derive(Debug, Clone)]
struct Line {
    words: Vec<String>,
    /// The container's name, if it has been an option's value.
    name: Option<String>,
    /// What is to stand there, the user alone can say.
    is_open: bool,
}

impl Line {
    fn read(words: &[OsString]) -> Option<Self> {
        let mut words: Vec<String> = words.iter().map(|word| word.to_str().map(String::from)).collect::<Option<_>>()?;
        *words.first_mut()? = "rspawn".into();
        Some(Self { words, name: None, is_open: false })
    }

    fn parsed(&self) -> Result<Cli, clap::Error> {
        parse(&self.words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    /// As a shell takes it.
    fn shown(&self) -> String {
        self.words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// What to do about an error, and the line that does it, where there is one.
    fn advice(mut self, error: &clap::Error) -> String {
        let help = match self.verb() {
            Some(at) => format!("`rspawn {} --help` has what there is", self.words[at]),
            None => "`rspawn --help` has what there is".into(),
        };
        let mut said = match self.change(error) {
            Some(said) => vec![said],
            None => return help,
        };
        for _ in 0..MOST {
            if self.is_open {
                break;
            }
            match self.parsed() {
                Ok(cli) => {
                    let line = self.finished(cli).map(|line| format!(": {}", line.shown()));
                    return said.join("; ") + &line.unwrap_or_default();
                }
                Err(error) => match self.change(&error) {
                    Some(more) if !said.contains(&more) => said.push(more),
                    Some(_) => {}
                    None => break,
                },
            }
        }
        said.join("; ")
    }

    /// Changes what an error is about, and says how.
    fn change(&mut self, error: &clap::Error) -> Option<String> {
        let text = |kind| match error.get(kind)? {
            ContextValue::String(text) => Some(text.clone()),
            ContextValue::Strings(texts) => texts.first().cloned(),
            _ => None,
        };
        match error.kind() {
            ErrorKind::InvalidSubcommand => {
                let unknown = text(ContextKind::InvalidSubcommand)?;
                let known = COMMANDS.iter().find(|(habit, _)| *habit == unknown).map(|(_, own)| own.to_string());
                let meant = known.or_else(|| text(ContextKind::SuggestedSubcommand))?;
                let at = self.words.iter().position(|word| *word == unknown)?;
                self.words[at] = meant.clone();
                Some(format!("the command is `{meant}`"))
            }
            ErrorKind::UnknownArgument => {
                let unknown = text(ContextKind::InvalidArg)?;
                self.unknown(unknown.split([' ', '=']).next()?, text(ContextKind::SuggestedArg))
            }
            _ => None,
        }
    }

    fn unknown(&mut self, name: &str, similar: Option<String>) -> Option<String> {
        // A command that has none of it, but rspawn itself does: the order is what is wrong.
        if self.move_global(name).is_some() {
            return Some(format!("{name} is an option of rspawn itself, and stands before the command"));
        }
        let at = self.position(name)?;
        let Some(verb) = self.verb().filter(|verb| *verb < at) else {
            self.words.insert(at, "run".into());
            return Some("the command that starts something is `run`".into());
        };
        if self.separate(at) {
            return Some("a command stands behind `--`".into());
        }
        let written = self.words[at].split('=').next()?.to_string();
        let table: &[_] = match self.words[verb].as_str() {
            "run" | "create" => &RUN,
            "exec" => &EXEC,
            _ => &[],
        };
        if let Some((_, instead, said)) = habits::find(table, &written).or_else(|| habits::find(table, name)) {
            let mut changed = self.clone();
            match changed.put(at, name, *instead) {
                Some(()) => *self = changed,
                None => self.is_open = true,
            }
            return Some((*said).into());
        }
        let similar = similar.filter(|similar| name.starts_with("--") && similar.starts_with("--"))?;
        self.words[at] = self.words[at].replacen(name, &similar, 1);
        Some(format!("the option is {similar}"))
    }

    /// Puts an option of rspawn's own before the command.
    fn move_global(&mut self, name: &str) -> Option<()> {
        let global = Global::augment_args(clap::Command::new("rspawn"));
        let option =
            global.get_arguments().find(|option| option.get_long().is_some_and(|long| name == format!("--{long}")))?;
        let verb = self.verb()?;
        let behind = self.words[verb..].iter().position(|word| word.split('=').next() == Some(name))?;
        let at = verb + behind;
        let takes_value = option.get_action().takes_values() && !option.is_require_equals_set();
        let count = if takes_value && !self.words[at].contains('=') && at + 1 < self.words.len() { 2 } else { 1 };
        let option: Vec<String> = self.words.drain(at..at + count).collect();
        self.words.splice(verb..verb, option);
        Some(())
    }

    fn verb(&self) -> Option<usize> {
        self.words.iter().position(|word| Cli::command().find_subcommand(word).is_some())
    }

    /// Where a word stands that clap names: whole, with a value, or as a letter among others.
    fn position(&self, name: &str) -> Option<usize> {
        let words = || self.words.iter().skip(1).take_while(|word| *word != "--");
        let is_letter = name.len() == 2 && name.starts_with('-');
        let whole = words().position(|word| word.split('=').next() == Some(name) || word == name);
        let among = || words().position(|word| is_letter && is_letters(word) && word.contains(&name[1..]));
        whole.or_else(among).map(|at| at + 1)
    }

    /// Puts `--` before what is a command, if that is all that is wrong with the word at a place.
    fn separate(&mut self, unknown: usize) -> bool {
        if self.words.iter().any(|word| word == "--") {
            return false;
        }
        for at in (2..=unknown).rev() {
            let mut candidate = self.clone();
            candidate.words.insert(at, "--".into());
            let Ok(Cli { command: Some(Command::Run(run)), .. }) = candidate.parsed() else { continue };
            let container = &run.create.container;
            let no_bundle = container.directory.is_some() || container.host;
            // Of those, the first word is the command, and what follows is its own. Of a bundle the first is the name.
            let is_command = if no_bundle { run.id.is_none() && at < unknown } else { run.id.is_some() };
            if is_command && !self.words[at].starts_with('-') {
                *self = candidate;
                return true;
            }
        }
        false
    }

    /// Puts something else in the place of an option.
    fn put(&mut self, at: usize, name: &str, instead: Instead) -> Option<()> {
        let takes_value = matches!(instead, Instead::Option(_) | Instead::Volume | Instead::Name | Instead::Pair(_));
        let word = self.words.remove(at);
        let next = |line: &mut Self| (at < line.words.len()).then(|| line.words.remove(at));
        let value = match word.split_once('=') {
            _ if !takes_value => String::new(),
            _ if word == name => next(self)?,
            Some((before, value)) if before == name => value.into(),
            _ => word.strip_prefix(name)?.into(),
        };
        let new = match instead {
            Instead::Nothing => return Some(()),
            Instead::Said => return None,
            Instead::Words(words) => words.into(),
            Instead::Option(option) => format!("{option}{value}"),
            Instead::Pair(option) => format!("{option}{value}:{}", next(self)?),
            Instead::Volume => volume(&value),
            Instead::Name => {
                self.name = Some(value);
                return Some(());
            }
            Instead::Init => {
                let is_free = !self.words.iter().any(|word| word == "--");
                is_free.then(|| self.words.extend(["--", "/sbin/init"].map(String::from)))?;
                return Some(());
            }
        };
        self.words.insert(at, new);
        Some(())
    }

    /// The line with a name and a command at their places, if what comes of it is one to run.
    fn finished(mut self, cli: Cli) -> Option<Self> {
        let Some(Command::Run(run)) = &cli.command else { return Some(self) };
        let given = run.id.as_deref();
        match (self.name.take(), given) {
            (Some(name), Some(command)) if is_command_for_name(run) => {
                self.replace_last(command, &[&name, "--", command])
            }
            (Some(_), Some(_)) => return None,
            (Some(name), None) => {
                let end = self.words.iter().position(|word| word == "--").unwrap_or(self.words.len());
                self.words.insert(end, name);
            }
            (None, Some(command)) if is_command_for_name(run) => self.replace_last(command, &["--", command]),
            (None, Some(path)) => {
                if let Some(option) = path_for_name(run) {
                    self.replace_last(path, &[option, path]);
                }
            }
            (None, None) => {}
        }
        self.parsed().is_ok().then_some(self)
    }

    /// Puts words in the place of the last one of the line's own that reads so, and what begins a command at its end.
    fn replace_last(&mut self, word: &str, by: &[&str]) {
        let end = self.words.iter().position(|word| word == "--").unwrap_or(self.words.len());
        let Some(at) = self.words[..end].iter().rposition(|other| other == word) else { return };
        self.words.remove(at);
        let place = if by.contains(&"--") { self.words.len() } else { at };
        self.words.splice(place..place, by.iter().map(|word| word.to_string()));
    }
}

/// Options of one letter that share a word.
fn is_letters(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--")
}

/// docker's volume, as an option of rspawn's.
fn volume(value: &str) -> String {
    let mut parts: Vec<&str> = value.split(':').collect();
    let options = if parts.len() > 2 { parts.pop() } else { None };
    let read_only = options.is_some_and(|options| options.split(',').any(|option| option == "ro"));
    format!("{}{}", if read_only { "--bind-ro=" } else { "--bind=" }, parts.join(":"))
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
    use super::*;

    fn advice(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text = text(&parse(&words).expect_err(line), &words);
        assert!(text.starts_with("rspawn: un") && text.lines().count() == 1, "{text}");
        text
    }

    #[test]
    fn what_is_meant_can_be_copied() {
        for (line, said, meant) in [
            ("rspawn run --rm x", "leave it out: `run`", "rspawn run x"),
            ("rspawn run -it x", "have a terminal", "rspawn run x"),
            ("rspawn run --rm -it -D deb ls -l", "behind `--`", "rspawn run -D deb -- ls -l"),
            ("rspawn run --rm -it -D deb ls", "leave it out", "rspawn run -D deb -- ls"),
            ("rspawn run -D deb --name=web", "stands by itself", "rspawn run -D deb web"),
            ("rspawn run --name web -D deb ls", "stands by itself", "rspawn run -D deb web -- ls"),
            ("rspawn run -M m --host -- ls", "stands by itself", "rspawn run --host m -- ls"),
            ("rspawn run -x x", "--volatile=overlay", "rspawn run --volatile=overlay x"),
            ("rspawn run -v /a:/b:ro x", "--bind-ro", "rspawn run --bind-ro=/a:/b x"),
            ("rspawn run -v/a:/b -e A=b x", "--setenv", "rspawn run --bind=/a:/b --setenv=A=b x"),
            ("rspawn run --ro-bind /a /b x", "--bind-ro", "rspawn run --bind-ro=/a:/b x"),
            ("rspawn run -D deb --boot", "the init", "rspawn run -D deb -- /sbin/init"),
            ("rspawn -D deb --boot", "`run`", "rspawn run -D deb -- /sbin/init"),
            ("rspawn run --bnd=/a:/b x", "the option is --bind", "rspawn run --bind=/a:/b x"),
            ("rspawn run -b demo web ls -l", "behind `--`", "rspawn run -b demo web -- ls -l"),
            ("rspawn run --host sh -e", "behind `--`", "rspawn run --host -- sh -e"),
            ("rspawn stop x", "`kill`", "rspawn kill x"),
            ("rspawn exec -it x sh", "it is -t", "rspawn exec -t x sh"),
            ("rspawn run --root /r x", "of rspawn itself", "rspawn --root /r run x"),
            ("rspawn list --root=/r", "of rspawn itself", "rspawn --root=/r list"),
            ("rspawn delete --log l --force x", "of rspawn itself", "rspawn --log l delete --force x"),
            ("/usr/bin/rspawn run --systemd-cgroup x", "before the command", "rspawn --systemd-cgroup run x"),
        ] {
            let text = advice(line);
            assert!(text.contains(said) && text.ends_with(&format!(": {meant}")), "{line}: {text}");
        }
    }

    #[test]
    fn where_nothing_is_known_nothing_is_guessed() {
        for (line, end) in [
            ("rspawn run --nonsense x", "; `rspawn run --help` has what there is"),
            ("rspawn nonsense", "; `rspawn --help` has what there is"),
            ("rspawn run --mount type=tmpfs x", "--overlay=LOWER:UPPER:PATH"),
            ("rspawn run --name a -b demo b", "stands by itself"),
        ] {
            let text = advice(line);
            assert!(text.ends_with(end), "{line}: {text}");
        }
        // Of the same name as a global one, and the command's own.
        assert!(parse(&["rspawn", "run", "--init=exec", "x"].map(OsString::from)).is_ok());
    }

    #[test]
    fn a_name_that_is_a_command_is_asked_about() {
        let thoughts = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            second_thoughts(&parse(&words).expect(line), &words)
        };
        let both = thoughts("rspawn run -D deb ls --bind=/a").unwrap();
        assert!(both.contains(": rspawn run -D deb --bind=/a -- ls; "), "{both}");
        assert!(both.ends_with(": rspawn run -D deb ls --bind=/a -- sh"), "{both}");
        for fine in ["rspawn run -D deb", "rspawn run --host x -- ls", "rspawn run -b deb ls", "rspawn run no-such"] {
            assert_eq!(thoughts(fine), None, "{fine}");
        }
    }

    #[test]
    fn what_is_copied_is_one_word() {
        assert_eq!(["a-b", "a b", "it's", ""].map(quoted), ["a-b", "'a b'", "'it'\\''s'", "''"]);
    }
}
