//! One file a verb.
mod check;
mod delete;
mod events;
mod exec;
mod features;
mod generate;
mod kill;
mod list;
mod make;
mod pause;
mod people;
mod plan;
mod policy;
mod prepare;
mod ps;
mod shape;
mod spec;
mod start;
mod state;
mod top;
mod update;
mod usage;
mod view;

use std::path::{Path, PathBuf};

use rspawn_host::inputs;
use rspawn_proto::msg::Mode;

use crate::cli::{Cli, Command, quick};
use crate::session::log::Log;
use crate::session::stream_pipes::StreamPipes;
use prepare::Place;
use rspawn_host::deputies::{ephemeral_dir, path_prober, stats_opener};
use rspawn_host::inputs::bundle::Bundle;
use rspawn_host::streams;
use rspawn_planner::facts::Facts;
use rspawn_planner::nspawn::Manners;
use rspawn_planner::oci::Spec;
use rspawn_planner::problem::Problem;

/// Exit status of a failure of rspawn's own.
pub const FAILURE: i32 = 1;

pub fn main() -> i32 {
    if let Some(status) = second_process() {
        return status;
    }
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match quick::parse(&words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Asking for help is no failure; clap's 2 is the payload's to use.
            return if error.use_stderr() { FAILURE } else { 0 };
        }
    };
    if let Err(errno) = crate::session::block_file_size_signal() {
        streams::say(format_args!("rspawn: cannot block a signal: {}", rspawn_report::describe::errno(errno.0)));
        return FAILURE;
    }
    let mut log = match Log::open(&cli.global) {
        Ok(log) => log,
        Err(message) => {
            streams::say(format_args!("rspawn: {message}"));
            return FAILURE;
        }
    };
    let is_exec = matches!(cli.command, Some(Command::Exec(_)));
    carry_out(cli, &mut log).unwrap_or_else(|message| {
        log.error(&message);
        if is_exec { exec::failure_status(&message) } else { FAILURE }
    })
}

fn carry_out(cli: Cli, log: &mut Log) -> Result<i32, String> {
    // With more rights than the caller, what the caller names could not be opened on its word.
    let (uid, gid) = (nix::unistd::getresuid(), nix::unistd::getresgid());
    let say = |errno| format!("cannot find out who runs this: {errno}");
    let (uid, gid) = (uid.map_err(say)?, gid.map_err(say)?);
    if uid.real != uid.effective || gid.real != gid.effective {
        return Err("rspawn must not be installed setuid or setgid: it needs no root to run a user's containers".into());
    }
    let Cli { global, command } = cli;
    if global.version {
        return streams::print(format!("{}\n", features::version())).map(|()| 0);
    }
    global.check()?;
    let systemd = global.systemd()?;
    match command.ok_or("there is no command: see rspawn --help")? {
        Command::Create(arguments) => make::create(&global, log, arguments),
        Command::Run(arguments) => make::run(&global, log, *arguments),
        Command::Start(arguments) => start::start(&global, arguments),
        Command::State(arguments) => state::state(&global, arguments),
        Command::Kill(arguments) => kill::kill(&global, arguments),
        Command::Pause(arguments) => pause::pause(&global, arguments),
        Command::Resume(arguments) => pause::resume(&global, arguments),
        Command::Update(arguments) => update::update(&global, *arguments),
        Command::Events(arguments) => events::events(&global, arguments),
        Command::Top(arguments) => top::top(&global, arguments),
        Command::Ps(arguments) => ps::ps(&global, arguments),
        Command::Delete(arguments) => delete::delete(&global, arguments),
        Command::Exec(arguments) => exec::exec(&global, log, arguments),
        Command::List(arguments) => list::list(&global, arguments),
        Command::Features => features::features(),
        Command::Plan(arguments) => plan::plan(systemd, global.init, arguments),
        Command::Check(arguments) => check::check(systemd, global.init, arguments),
        Command::Spec(arguments) => spec::spec(arguments),
        Command::Policy(arguments) => policy::policy(arguments),
        Command::Generate(what) => generate::generate(what),
        Command::Checkpoint(_) | Command::Restore(_) => {
            Err("checkpoint and restore are not supported: rspawn does not save the memory of processes".into())
        }
    }
}

/// The processes that rspawn starts of itself; see [`rspawn_host::deputies::path_prober`], [`rspawn_host::deputies::stats_opener`] and [`rspawn_host::deputies::ephemeral_dir`].
fn second_process() -> Option<i32> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next()?;
    if ![path_prober::VERB, stats_opener::VERB, ephemeral_dir::VERB].contains(&verb.as_str()) {
        return None;
    }
    let Some(socket) = arguments.next().and_then(|number| number.parse().ok()).map(rspawn_sys::Fd::from_raw) else {
        return Some(FAILURE);
    };
    let (path, lock) = (arguments.next(), arguments.next());
    let lock = lock.and_then(|number| number.parse().ok()).unwrap_or(-1);
    if rspawn_host::sandbox::close_leaked(&[socket.raw(), lock]).is_err() {
        return Some(FAILURE);
    }
    Some(match path {
        Some(path) if verb == ephemeral_dir::VERB => ephemeral_dir::keep(&socket, &path),
        Some(path) if verb == stats_opener::VERB => stats_opener::answer(&socket, &path),
        None if verb == path_prober::VERB => path_prober::answer(&socket),
        _ => FAILURE,
    })
}

/// Problems as the text of one error: the first in full, the others after it.
fn explain(problems: &[Problem]) -> String {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(Problem::to_string).collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more problems", problems.len() - SHOWN));
    }
    lines.join("\nrspawn: ")
}

/// What a container is made from.
enum Source {
    Bundle(Bundle),
    /// A bundle, and what nspawn does where it is silent.
    Oci(Bundle, Manners),
    Host {
        args: Vec<String>,
        terminal: bool,
        term: Option<String>,
    },
    /// A root filesystem without a configuration.
    Directory {
        path: PathBuf,
        name: String,
        terminal: bool,
        term: Option<String>,
    },
}

impl Source {
    /// The directory that the command line names: what a policy without `bind.allow` lets a container show.
    fn shown(&self) -> Option<&str> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => Some(&bundle.path),
            Source::Directory { path, .. } => path.to_str(),
            Source::Host { .. } => None,
        }
    }

    fn directory(&self) -> String {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => bundle.path.clone(),
            Source::Host { .. } | Source::Directory { .. } => "/".into(),
        }
    }

    /// The directory that `--directory=` names. `name` is the container's, if it has been given one.
    fn open_directory(directory: &Path, name: Option<&str>, terminal: bool) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| format!("cannot use the directory {}: {error}", directory.display());
        let path = directory.canonicalize().map_err(|error| say(&error))?;
        if !path.is_dir() {
            return Err(say(&"it is not a directory"));
        }
        if path.to_str().is_none() {
            return Err(say(&"its path is not UTF-8"));
        }
        let own_name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.map_or_else(own_name, str::to_string);
        Ok(Source::Directory { path, name, terminal, term: std::env::var("TERM").ok() })
    }

    /// The bundle that `--oci-bundle=` names, and its container's name: the one given, or else the directory's.
    /// `attended` says whether a console leads to somebody, `console` whether one is asked for.
    fn open_oci(
        directory: &Path,
        config: Option<&Path>,
        id: Option<&str>,
        attended: bool,
        console: Option<bool>,
    ) -> Result<(Self, String), String> {
        let bundle = Bundle::open_with(directory, config)?;
        let name = id.map_or_else(|| inputs::nspawn::name_of(directory), |id| Ok(id.to_string()))?;
        let manners = inputs::nspawn::manners(name.clone(), &bundle.path, attended, console);
        Ok((Source::Oci(bundle, manners), name))
    }

    /// Where settings for it are looked for.
    fn place<'a>(&'a self, id: Option<&'a str>) -> Place<'a> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => {
                let path = Path::new(&bundle.path);
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let beside = [Some(path), path.parent()].into_iter().flatten().map(Path::to_path_buf).collect();
                let manners = if let Source::Oci(_, manners) = self { Some(manners) } else { None };
                Place { name: id.unwrap_or(name), beside, search: false, manners }
            }
            Source::Host { .. } => {
                Place { name: id.unwrap_or("host"), beside: Vec::new(), search: false, manners: None }
            }
            Source::Directory { path, name, .. } => {
                let beside = path.parent().map(Path::to_path_buf).into_iter().collect();
                Place { name, beside, search: true, manners: None }
            }
        }
    }

    /// Reads and parses: only after privileges are gone. Gives the text too.
    fn parse(self, facts: &Facts) -> Result<(Spec, Vec<u8>), String> {
        match self {
            Source::Bundle(bundle) | Source::Oci(bundle, _) => {
                let bytes = bundle.read()?;
                Ok((rspawn_planner::oci::parse(&bytes).map_err(|problem| problem.to_string())?, bytes))
            }
            Source::Host { args, terminal, term } => {
                own(rspawn_planner::default_spec::host_spec(args, terminal, term, facts.arch()), facts)
            }
            Source::Directory { path, name, terminal, term } => {
                let path = path.to_string_lossy();
                own(rspawn_planner::default_spec::directory_spec(&path, &name, terminal, term, facts.arch()), facts)
            }
        }
    }
}

/// A configuration of rspawn's own, with its text.
fn own(mut spec: Spec, facts: &Facts) -> Result<(Spec, Vec<u8>), String> {
    if let Some(linux) = spec.linux.as_mut() {
        // All the ids there are: for the machine's root, those that it has already.
        (linux.uid_mappings, linux.gid_mappings) = facts.ids.everything();
    }
    let bytes = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    Ok((spec, bytes))
}

/// Pipes for streams that the payload may not be able to open again, where somebody stays to copy them.
fn stream_pipes(mode: Mode) -> Result<StreamPipes, String> {
    match mode {
        Mode::Foreground => StreamPipes::make().map_err(|error| format!("cannot make pipes for the streams: {error}")),
        Mode::Detached | Mode::Created => Ok(StreamPipes::default()),
    }
}
