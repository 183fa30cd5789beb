//! `rspawn exec`: another process in a running container. The pipeline of the parent, top to bottom.
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rspawn_host::deputies::path_prober::UserFiles;
use rspawn_host::errors;
use rspawn_host::inputs::cli_inputs::{self, PidFile, Preserved, fd};
use rspawn_host::inputs::policy_file;
use rspawn_host::state::{Container, StateRoot, Status};
use rspawn_host::{facts, sandbox};
use rspawn_planner::facts::Facts;
use rspawn_planner::{InitChoice, Options};
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::msg::{InvokerRequest, Mode, Purpose};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::policy::Policy;
use rspawn_proto::record::Record;
use rspawn_sys::Fd;

use super::exec_spec::{names_a_user, spec};
use super::notes::{self, explain};
use crate::cli::{Exec, Global};
use crate::session::audit::{self, Audit};
use crate::session::console::{ConsoleMode, caller_size};
use crate::session::log::Log;
use crate::session::{ConsoleSink, RunOutcome, Session, Signals, helper_process, stream_pipes};

/// What runc says, and clients match on.
const STOPPED: &str = "cannot exec in a stopped container";

pub fn exec(global: &Global, log: &mut Log, arguments: Exec) -> Result<i32, String> {
    let preserved = Preserved::take(arguments.preserve_fds);
    let audit = audit::open(arguments.audit.as_deref(), "exec")?;
    audit.whole(|audit| exec_process(global, log, arguments, preserved?, audit))
}

/// The pipeline: start rspawn-setup, open what was named, give up privileges, parse, plan, hand the plan over, and stay
/// for as long as somebody has to.
fn exec_process(
    global: &Global,
    log: &mut Log,
    arguments: Exec,
    preserved: Preserved,
    audit: Audit,
) -> Result<RunOutcome, String> {
    let setup = audit.step("start rspawn-setup", || helper_process::start(preserved.count, None));
    audit.set_id(&arguments.id);
    let mut session = Session::new(setup.map_err(|error| error.to_string())?, audit);

    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let mut inputs = Inputs::open(&container, &arguments)?;
    let mode = if arguments.detach { Mode::Detached } else { Mode::Foreground };
    session.quiet = mode != Mode::Foreground && log.is_kept();
    let signals = if mode == Mode::Foreground { Some(Signals::take()?) } else { None };
    let stdin_is_terminal = std::io::stdin().is_terminal();

    let (environment, preserve_fds) = (preserved.environment(), preserved.count);
    drop(preserved);
    hand_over(&container, &arguments, &mut inputs, mode, preserve_fds, &session)?;
    session.await_receipt(signals.as_ref())?;
    let facts = facts_inside(&container)?;
    // The confined parser is left no directory.
    let mut options = options(container.into_record(), preserve_fds);
    let pipes = stream_pipes::for_mode(mode)?;
    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;

    let read = || spec(&inputs.config, inputs.process.as_ref(), inputs.users.as_ref(), &arguments, environment);
    let (spec, origins) = Signals::aside(signals.as_ref(), || session.audit.step("parse", read))?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let sink = sink(inputs.console_socket, mode, terminal, stdin_is_terminal)?;
    options.console_size = caller_size();
    let plan = || {
        rspawn_planner::exec(&spec, &facts, &options).map_err(|mut problems| {
            origins.rename_problems(&mut problems);
            explain(&problems)
        })
    };
    // Its notes keep their pointers: which of them are said goes by those.
    let planned = session.audit.step("plan", plan)?;
    let warnings = notes::warnings(&planned.notes);
    notes::say_warnings(&warnings, mode, log);
    session.origins = origins;
    session.send_plan(planned.plan, pipes, &facts.ids)?;
    let outcome = session.run(signals.as_ref(), &sink, inputs.pidfd_socket.as_ref());
    let outcome = outcome.inspect_err(|_| session.say_warnings())?;
    warnings.iter().for_each(|warning| log.warning(&warning.to_string()));
    session.warnings.iter().for_each(|warning| log.warning(warning));
    Ok(outcome)
}

/// Everything that the invoker named, opened with the invoker's rights; and the container's first process.
struct Inputs {
    target: Option<Fd>,
    config: File,
    process: Option<File>,
    users: Option<UserFiles>,
    policy: Policy,
    console_socket: Option<Fd>,
    pidfd_socket: Option<Fd>,
    pid_file: Option<PidFile>,
}

impl Inputs {
    fn open(container: &Container, arguments: &Exec) -> Result<Self, String> {
        let target = container.process()?.ok_or(STOPPED)?;
        if container.status()? == Status::Paused && !arguments.ignore_paused {
            return Err("cannot exec in a paused container (use --ignore-paused to override)".into());
        }
        let config = container.config()?;
        let open = |path: &PathBuf| {
            File::open(path).map_err(|error| format!("cannot open the process file {}: {error}", path.display()))
        };
        Ok(Self {
            target: Some(target),
            config,
            process: arguments.process.as_ref().map(open).transpose()?,
            users: if names_a_user(arguments)? { Some(users(container)?) } else { None },
            policy: policy_file::load(arguments.policy.as_deref(), None)?,
            console_socket: cli_inputs::socket("--console-socket", arguments.console_socket.as_deref())?,
            pidfd_socket: cli_inputs::socket("--pidfd-socket", arguments.pidfd_socket.as_deref())?,
            pid_file: cli_inputs::pid_file(arguments.pid_file.as_deref())?,
        })
    }
}

/// The user database of the root that the container's first process has, which is the container's to change: it is
/// opened below that root, and read when this process has no rights.
fn users(container: &Container) -> Result<UserFiles, String> {
    let path = format!("/proc/{}/root", container.record.pid);
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = OpenOptions::new().read(true).custom_flags(flags).open(&path);
    let opened = root.and_then(|root| UserFiles::open(&fd(root)).map_err(errors::io_error));
    // The number may be another process's by now: it was the container's if that lives still.
    let opened =
        opened.map_err(|error| format!("--user: cannot open the container's user database below {path}: {error}"));
    match container.process()? {
        Some(_) => opened,
        None => Err(STOPPED.into()),
    }
}

/// The reason why something of a container cannot be read; or that it has ended meanwhile.
fn or_stopped(container: &Container, reason: String) -> String {
    match container.process() {
        Ok(None) => STOPPED.to_string(),
        _ => reason,
    }
}

/// The first message, before anything untrusted is read.
fn hand_over(
    container: &Container,
    arguments: &Exec,
    inputs: &mut Inputs,
    mode: Mode,
    preserve_fds: u32,
    session: &Session,
) -> Result<(), String> {
    let record = &container.record;
    let cgroups = container.cgroups_of_exec(&arguments.cgroup).map_err(|reason| or_stopped(container, reason))?;
    let pid_file = inputs.pid_file.take();
    let request = InvokerRequest {
        version: WIRE_VERSION,
        id: record.id.clone(),
        policy: std::mem::take(&mut inputs.policy),
        mode,
        keep: true,
        purpose: Purpose::Exec { namespaces: record.namespaces, cgroups },
        pid_file: pid_file.as_ref().map(|file| file.name.clone()),
        audit: session.audit.is_on(),
        preserve_fds,
        no_pivot: false,
        kernel_mounts: Vec::new(),
        bus: false,
    };
    let fds: Vec<Fd> = inputs.target.take().into_iter().chain(pid_file.map(|file| file.directory)).collect();
    session.send_request(request, &fds.iter().collect::<Vec<&Fd>>())
}

/// What may be known of the host, as it is for the container.
fn facts_inside(container: &Container) -> Result<Facts, String> {
    let record = &container.record;
    let ids = facts::ids::of_process(&record.pid.to_string()).map_err(|reason| or_stopped(container, reason))?;
    let mut facts = facts::gather_for(ids)?;
    if record.namespaces.contains(Namespace::User) {
        // Over that namespace it may have every one.
        facts.capabilities = u64::MAX;
    }
    Ok(facts)
}

fn options(record: Record, preserve_fds: u32) -> Options {
    Options {
        id: record.id,
        bundle: record.bundle.to_string(),
        init: InitChoice::Exec,
        detached: false,
        cpus: Vec::new(),
        terminal: None,
        console_size: None,
        preserve_fds,
        listening: false,
        notify: None,
        new_keyring: record.new_keyring,
        no_pivot: false,
        first: Some(record.pid),
        systemd: false,
        no_cgroups: false,
    }
}

/// Where the process's console goes; runc's rules.
fn sink(socket: Option<Fd>, mode: Mode, terminal: bool, stdin_is_terminal: bool) -> Result<ConsoleSink, String> {
    Ok(match socket {
        Some(_) if mode == Mode::Foreground || !terminal => {
            return Err("cannot use --console-socket if the process is not detached or has no terminal".into());
        }
        Some(socket) => ConsoleSink::Socket(socket),
        None if terminal && mode == Mode::Detached => {
            return Err("cannot allocate tty if the process is detached, without --console-socket".into());
        }
        None if terminal && stdin_is_terminal => ConsoleSink::Shown(ConsoleMode::Interactive),
        None if terminal => ConsoleSink::Shown(ConsoleMode::ReadOnly),
        None => ConsoleSink::Shown(ConsoleMode::Pipe),
    })
}

/// Exit status of an exec that did not come to its command: a shell's where that cannot be executed, since kubectl
/// shows it as the command's own; else 255, as with runc, which few commands end with.
pub fn failure_status(message: &str) -> i32 {
    let executing = message.starts_with("exec: ") || message.contains(": execute the payload: ");
    let missing = ["executable file not found", "no such file or directory"].iter().any(|text| message.contains(text));
    match (executing, missing) {
        (true, true) => 127,
        (true, false) => 126,
        (false, _) => 255,
    }
}
