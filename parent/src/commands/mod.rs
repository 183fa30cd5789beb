//! One file a verb.
mod check;
mod console_choice;
mod create_run;
mod delete;
mod events;
mod exec;
mod exec_spec;
mod features;
mod generate;
mod human;
mod kill;
mod list;
mod notes;
mod output_format;
mod override_sources;
mod pause;
mod plan;
mod policy;
mod ps;
mod source;
mod spec;
mod start;
mod state;
mod top;
mod update;
mod usage;
mod view;

use clap::CommandFactory;

use crate::cli::{Cli, Command, advice, fast_parse, help};
use crate::session::console::stdout_columns;
use crate::session::log::Log;
use rspawn_host::deputies::{ephemeral_dir, path_prober, stats_opener, tidier};
use rspawn_host::streams;

/// Exit status of a failure of rspawn's own.
pub const FAILURE: i32 = 1;

pub fn main() -> i32 {
    if let Some(status) = second_process() {
        return status;
    }
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match fast_parse::parse(&words) {
        Ok(cli) => cli,
        Err(error) => {
            // Asking for help is no failure; clap's 2 is the payload's to use.
            if !error.use_stderr() {
                let text = help::text(&words, error.render().to_string(), stdout_columns());
                return streams::print(text).map_or_else(
                    |message| {
                        streams::say(format_args!("rspawn: {message}"));
                        FAILURE
                    },
                    |()| 0,
                );
            }
            streams::say(advice::text(&error, &words));
            return FAILURE;
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
    let outcome = match advice::second_thoughts(&cli, &words) {
        Some(message) => Err(message),
        None => carry_out(cli, &mut log),
    };
    outcome.unwrap_or_else(|message| {
        log.error(&message);
        if is_exec { exec::failure_status(&message) } else { FAILURE }
    })
}

fn carry_out(cli: Cli, log: &mut Log) -> Result<i32, String> {
    // With more rights than the caller, what the caller names could not be opened on its word.
    let (uid, gid) = (nix::unistd::getresuid(), nix::unistd::getresgid());
    let say = |errno| format!("cannot read the user ids of this process: {errno}");
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
    let Some(command) = command else {
        return streams::print(help::text(&[], Cli::command().render_help().to_string(), stdout_columns())).map(|()| 0);
    };
    match command {
        Command::Create(arguments) => create_run::create(&global, log, arguments),
        Command::Run(arguments) => create_run::run(&global, log, *arguments),
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

/// The processes that rspawn starts of itself; see [`rspawn_host::deputies::path_prober`], [`rspawn_host::deputies::stats_opener`],
/// [`rspawn_host::deputies::ephemeral_dir`] and [`rspawn_host::deputies::tidier`].
fn second_process() -> Option<i32> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next()?;
    if ![path_prober::VERB, stats_opener::VERB, ephemeral_dir::VERB, tidier::VERB].contains(&verb.as_str()) {
        return None;
    }
    let Some(socket) = arguments.next().and_then(|number| number.parse().ok()).map(rspawn_sys::Fd::from_raw) else {
        return Some(FAILURE);
    };
    if verb == tidier::VERB {
        return Some(tidier::tidy(&socket, &arguments.collect::<Vec<_>>()));
    }
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
