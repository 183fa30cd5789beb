//! `rspawn run`: the pipeline of the parent, top to bottom.
use std::fs::OpenOptions;
use std::io::IsTerminal;

use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::ContainerId;
use rspawn_proto::msg::Trusted;

use rspawn_sys::Fd;

use super::prepare::{Prepared, Purpose};
use super::{Source, explain};
use crate::audit::Audit;
use crate::bundle::Bundle;
use crate::cli::Run;
use crate::drive::{Session, Signals};
use crate::facts::Facts;
use crate::oci::{ConsoleSize, Spec};
use crate::plan::{InitChoice, Options};
use crate::show::colours::printable;
use crate::terminal::{ConsoleMode, caller_size};
use crate::{describe, launch, policy_file, sandbox};

/// Most descriptors that can be kept for the payload.
const MAX_PRESERVED: u32 = 512;

pub fn run(arguments: Run) -> Result<i32, String> {
    if arguments.preserve_fds > MAX_PRESERVED {
        return Err(format!("--preserve-fds: at most {MAX_PRESERVED} descriptors can be kept"));
    }
    // Before a file of ours can take a free number among them.
    let preserved = Fd::open_between(3, 3 + arguments.preserve_fds as i32);
    // Everything that the invoker named is opened now, with the invoker's rights.
    let id = container_id(arguments.id.as_deref())?;
    let (stdin_tty, stdout_tty) = (std::io::stdin().is_terminal(), std::io::stdout().is_terminal());
    let asked = ConsoleMode::resolve(arguments.console, stdin_tty, stdout_tty);
    let container = &arguments.container;
    if container.image.is_some() {
        return Err("--image is not supported: mount the image, and name the mount point with --directory".into());
    }
    let on_terminal = stdin_tty && stdout_tty;
    let source = if container.host {
        let term = std::env::var("TERM").ok();
        Source::Host { args: Vec::new(), terminal: on_terminal, term }
    } else if let Some(directory) = &container.directory {
        Source::open_directory(directory, arguments.id.as_deref(), on_terminal)?
    } else {
        Source::Bundle(Bundle::open(&container.bundle)?)
    };
    let place = source.place(arguments.id.as_deref());
    let prepared = Prepared::read(&arguments.overrides, &arguments.command, &place, Purpose::Run)?;
    let policy = policy_file::load(arguments.policy.as_deref())?;
    let audit_file = arguments.audit.as_ref().map(|path| {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("cannot open the audit file {}: {error}", path.display()))
    });
    let mut audit = Audit::new(audit_file.transpose()?);
    let signals = Signals::take().map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))?;

    let setup =
        audit.step("start rspawn-setup", || launch::start(arguments.preserve_fds)).map_err(|e| e.to_string())?;
    // They are the payload's: who waits for their end must not wait for this process.
    drop(preserved);
    let trusted = Trusted {
        version: WIRE_VERSION,
        id: id.clone(),
        policy,
        foreground: true,
        audit: audit.is_on(),
        preserve_fds: arguments.preserve_fds,
    };
    let mut session = Session::new(setup, audit);
    session.send_trusted(trusted)?;
    let facts = Facts::gather();
    let mut options = Options {
        id,
        bundle: source.directory(),
        init: arguments.container.init.into(),
        terminal: asked.map(ConsoleMode::has_terminal),
        console_size: size_of_environment(),
        preserve_fds: arguments.preserve_fds,
        new_keyring: !arguments.no_new_keyring,
    };

    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;
    let mut spec = session.audit.step("parse config.json", || source.parse(&facts))?;
    let applied = session.audit.step("apply overrides", || prepared.apply(&mut spec, &options.bundle))?;
    if options.init == InitChoice::Auto {
        options.init = applied.init.unwrap_or_default();
    }
    session.kill_signal = applied.kill_signal;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let mode = asked.unwrap_or_else(|| default_mode(terminal, stdin_tty));
    fit_console(&mut spec, mode, caller_size());
    let planned = session.audit.step("plan", || applied.plan(&spec, &facts, &options)).map_err(|p| explain(&p))?;
    for note in planned.notes.iter().filter(|note| is_worth_a_warning(&note.pointer)) {
        eprintln!("rspawn: warning: {}", printable(&note.to_string()));
    }
    session.origins = planned.origins;
    session.send_plan(planned.plan)?;
    let ended = session.run(&signals, mode);
    match &ended {
        Ok(status) => session.audit.end(Some(*status), None),
        Err(message) => session.audit.end(None, Some(message)),
    }
    ended
}

fn container_id(given: Option<&str>) -> Result<ContainerId, String> {
    let id = given.map_or_else(|| format!("rspawn-{}", std::process::id()), str::to_string);
    ContainerId::new(id).map_err(|reason| reason.to_string())
}

/// As systemd-nspawn: interactive on a terminal, else only shown.
fn default_mode(terminal: bool, stdin_is_terminal: bool) -> ConsoleMode {
    match (terminal, stdin_is_terminal) {
        (false, _) => ConsoleMode::Pipe,
        (true, true) => ConsoleMode::Interactive,
        (true, false) => ConsoleMode::ReadOnly,
    }
}

/// First size of the console where nobody else gives one, as systemd-nspawn takes it.
fn size_of_environment() -> Option<(u16, u16)> {
    let variable = |name: &str| std::env::var(name).ok()?.parse::<u16>().ok();
    Some((variable("LINES")?, variable("COLUMNS")?))
}

/// The terminal that the console is shown on counts before what the bundle would like it to be.
fn fit_console(spec: &mut Spec, mode: ConsoleMode, size: Option<(u16, u16)>) {
    if let (Some(process), Some((rows, columns)), true) = (&mut spec.process, size, mode.is_shown()) {
        process.console_size = Some(ConsoleSize { height: rows.into(), width: columns.into() });
    }
}

/// What is left out of the container is said at once; the rest is `rspawn check`'s to say. The device rule of every
/// default bundle would make a warning out of every start.
fn is_worth_a_warning(pointer: &str) -> bool {
    // What does not begin with a slash are the invoker's own words, or a settings file's.
    !pointer.starts_with('/') || pointer.starts_with("/linux/resources/") && pointer != "/linux/resources/devices"
}
