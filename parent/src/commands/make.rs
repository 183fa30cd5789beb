//! `rspawn create` and `rspawn run`: the pipeline of the parent, top to bottom.
use super::notes;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::session::{audit, hooks};
use rspawn_host::inputs;
use rspawn_host::inputs::policy_file;
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{ContainerId, HostPath, Text};
use rspawn_proto::msg::{Mode, Purpose, Trusted};
use rspawn_sys::Fd;

use super::notes::explain;
use super::override_sources::{About, Intent, OverrideSources};
use super::source::Source;
use crate::cli::overrides::OverrideOptions;
use crate::cli::{Create, Global, Making, Run};
use crate::session::audit::Audit;
use crate::session::console::{ConsoleMode, caller_size};
use crate::session::log::Log;
use crate::session::stream_pipes;
use crate::session::{ConsoleSink, RunOutcome, Session, Signals, helper_process, notify};
use rspawn_host::facts::{self, mount_points};
use rspawn_host::inputs::bundle::Bundle;
use rspawn_host::inputs::cli_inputs::{self, Preserved, fd};
use rspawn_host::state::{NewContainer, StateRoot, boot_id};
use rspawn_host::{sandbox, streams};
use rspawn_planner::oci::{ConsoleSize, Spec};
use rspawn_planner::{InitChoice, Options, policy};
use rspawn_report::describe;

pub fn create(global: &Global, log: &mut Log, arguments: Create) -> Result<i32, String> {
    let request = Request {
        mode: Mode::Created,
        keep: false,
        id: Some(arguments.id),
        console: None,
        command: vec![],
        overrides: OverrideOptions::default(),
    };
    make(global, log, arguments.making, request)
}

pub fn run(global: &Global, log: &mut Log, arguments: Run) -> Result<i32, String> {
    let Run { making, detach, keep, console, id, command, overrides } = arguments;
    let mode = if detach { Mode::Detached } else { Mode::Foreground };
    make(global, log, making, Request { mode, keep, id, console, command, overrides })
}

/// In what `create` and `run` differ.
struct Request {
    mode: Mode,
    keep: bool,
    id: Option<String>,
    console: Option<ConsoleMode>,
    command: Vec<String>,
    overrides: OverrideOptions,
}

fn make(global: &Global, log: &mut Log, making: Making, request: Request) -> Result<i32, String> {
    let preserved = Preserved::take(making.preserve_fds);
    let verb = if request.mode == Mode::Created { "create" } else { "run" };
    let audit = audit::open(making.audit.as_deref(), verb)?;
    audit.whole(|audit| audited(global, log, making, request, preserved?, audit))
}

fn audited(
    global: &Global,
    log: &mut Log,
    making: Making,
    request: Request,
    preserved: Preserved,
    audit: Audit,
) -> Result<RunOutcome, String> {
    let Request { mode, keep, id, console, command, overrides } = request;
    // First of all, since its own start takes as long as all that follows here.
    let mut ids = facts::ids::of_caller()?;
    let setup = audit.step("start rspawn-setup", || helper_process::start(preserved.count, Some(&mut ids)));
    let setup = setup.map_err(|error| error.to_string())?;
    let mut session = Session::new(setup, audit);
    // Everything that the invoker named is opened now, with the invoker's rights.
    let container = &making.container;
    if container.image.is_some() {
        return Err("--image is not supported: mount the image, and name the mount point with --directory".into());
    }
    let given = match (id, &container.oci_bundle) {
        (None, Some(directory)) => Some(inputs::nspawn::name_of(directory)?),
        (id, _) => id,
    };
    let id = ContainerId::new(given.clone().unwrap_or_else(|| format!("rspawn-{}", std::process::id())))?;
    session.audit.set_id(id.as_str());
    let (stdin_tty, stdout_tty) = (std::io::stdin().is_terminal(), std::io::stdout().is_terminal());
    let asked = ConsoleMode::resolve(console, stdin_tty, stdout_tty);
    let on_terminal = stdin_tty && stdout_tty && mode == Mode::Foreground;
    let source = if container.host {
        let term = std::env::var("TERM").ok();
        Source::Host { args: Vec::new(), terminal: on_terminal, term }
    } else if let Some(directory) = &container.directory {
        Source::open_directory(directory, given.as_deref(), on_terminal)?
    } else if let Some(directory) = &container.oci_bundle {
        let attended = mode == Mode::Foreground || making.console_socket.is_some();
        let console = asked.map(ConsoleMode::has_terminal);
        Source::open_oci(directory, container.config.as_deref(), given.as_deref(), attended, console)?.0
    } else {
        Source::Bundle(Bundle::open_with(&container.bundle, container.config.as_deref())?)
    };
    let intent = if mode == Mode::Foreground { Intent::Foreground } else { Intent::Detached };
    let mut prepared =
        OverrideSources::read(&overrides, &command, &source.settings_location(given.as_deref()), intent)?;
    if let Some(cpus) = prepared.cpus() {
        session.run_on(cpus)?;
    }
    let mut policy = policy_file::load(making.policy.as_deref(), source.shown())?;
    policy::adapt(&mut policy, &ids);
    prepared.obey(&policy);
    let systemd = global.systemd()?;
    let bus = if systemd { Some(facts::systemd::connect(facts::systemd::manager(&ids)?)?) } else { None };
    let console_socket = cli_inputs::socket("--console-socket", making.console_socket.as_deref())?;
    let pidfd_socket = cli_inputs::socket("--pidfd-socket", making.pidfd_socket.as_deref())?;
    let pid_file = cli_inputs::pid_file(making.pid_file.as_deref())?;
    let root = StateRoot::open(global.root.as_deref())?;
    // Not before: a file system that does not answer keeps nobody who can be interrupted.
    let signals = (mode == Mode::Foreground).then(Signals::take).transpose();
    let signals = signals.map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))?;
    let mut new = NewContainer::make(&root, &id, &hooks::run)?;
    let gate = (mode == Mode::Created).then(|| new.make_gate()).transpose();
    let gate = gate.map_err(|error| format!("cannot make the gate of container {id}: {error}"))?;
    let notify = notify::is_wanted().then(|| new.make_notify(mode != Mode::Created)).transpose()?;
    let (notify, listen) = notify.unzip();
    let relay = listen.flatten().map(notify::Relay::listen).transpose()?;

    let (environment, listening, preserve_fds) = (preserved.environment(), preserved.listening > 0, preserved.count);
    drop(preserved);
    let trusted = Trusted {
        version: WIRE_VERSION,
        id: id.clone(),
        policy,
        mode,
        keep,
        purpose: purpose(source.directory())?,
        pid_file: pid_file.as_ref().map(|file| file.name.clone()),
        audit: session.audit.is_on(),
        preserve_fds,
        no_pivot: making.no_pivot,
        kernel_mounts: if making.no_pivot { kernel_mounts()? } else { Vec::new() },
        bus: bus.is_some(),
    };
    session.relay = relay;
    let opened = new.open();
    let (state, mut config) = opened.map_err(|error| format!("cannot hold the state of container {id}: {error}"))?;
    let mut fds = vec![fd(state), fd(root.into_directory())];
    fds.extend(gate.into_iter().flat_map(|gate| [gate.gate, gate.report, gate.page].map(fd)));
    fds.extend(pid_file.map(|file| file.directory));
    fds.extend(bus);
    session.send_trusted(trusted, &fds.iter().collect::<Vec<&Fd>>())?;
    drop(fds);
    let facts = facts::gather_for(ids)?;
    // Until here, this process removes what it has made.
    session.await_receipt(signals.as_ref())?;
    new.hand_over();
    let mut options = Options {
        id,
        bundle: source.directory(),
        init: making.container.init.or(global.init),
        detached: mode != Mode::Foreground,
        cpus: prepared.cpu_mask(),
        terminal: asked.map(ConsoleMode::has_terminal),
        console_size: size_of_environment(),
        preserve_fds,
        listening,
        notify,
        new_keyring: !making.no_new_keyring,
        no_pivot: making.no_pivot,
        first: None,
        systemd,
        no_cgroups: global.no_cgroups(),
    };

    let pipes = stream_pipes::for_mode(mode)?;
    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;
    let parse = || session.audit.step("parse config.json", || source.parse(&facts));
    let (mut spec, mut bytes) = Signals::aside(signals.as_ref(), parse)?;
    session.audit.set_config(&bytes);
    let about = About { text: &bytes, bundle: &options.bundle, arch: facts.arch() };
    let applied = prepared.apply(&mut spec, &about)?;
    if options.init == InitChoice::Auto {
        options.init = applied.init.unwrap_or_default();
    }
    session.kill_signal = applied.kill_signal;
    if !applied.origins.is_empty() {
        // StatFile runs later in the container goes by what it is, not by what the bundle says.
        bytes = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    }
    let terminal =
        asked.map_or(spec.process.as_ref().is_some_and(|process| process.terminal), ConsoleMode::has_terminal);
    let sink = match console_socket {
        Some(socket) => {
            check_socket(mode, terminal)?;
            ConsoleSink::Socket(socket)
        }
        None if terminal && mode != Mode::Foreground => {
            return Err("cannot allocate tty if the container is detached, without --console-socket".into());
        }
        None => {
            let mode = asked.unwrap_or_else(|| default_mode(terminal, stdin_tty));
            if asked.is_none() && mode == ConsoleMode::ReadOnly {
                streams::warn(ONLY_SHOWN);
            }
            fit_console(&mut spec, mode, caller_size());
            ConsoleSink::Shown(mode)
        }
    };
    if let Some(process) = &mut spec.process {
        process.env.extend(environment);
        if listening {
            process.env.push("LISTEN_PID=1".into());
        }
        if options.notify.is_some() {
            notify::tell(&mut process.env);
        }
    }
    let planned = session.audit.step("plan", || applied.plan(&spec, &facts, &options)).map_err(|p| explain(&p))?;
    let warnings = notes::warnings(&planned.notes);
    notes::say_warnings(&warnings, mode, log);
    session.origins = planned.origins;
    session.send_plan(planned.plan, pipes, &facts.ids)?;
    // rspawn-setup is at work meanwhile.
    config.write_all(&bytes).map_err(|error| format!("cannot keep a copy of config.json: {error}"))?;
    let reached = session.run(signals.as_ref(), &sink, pidfd_socket.as_ref())?;
    // A line on stderr is all that clients of `create` take for an error, and so is any in the log of one that fails.
    warnings.iter().for_each(|warning| log.warning(&warning.to_string()));
    Ok(reached)
}

fn purpose(bundle: String) -> Result<Purpose, String> {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    Ok(Purpose::Container {
        bundle: HostPath::new(bundle)?,
        created,
        owner: nix::unistd::getuid().as_raw(),
        boot: Text::new(boot_id()?)?,
    })
}

/// Where procfs and sysfs are mounted, the last first.
fn kernel_mounts() -> Result<Vec<HostPath>, String> {
    const FILE: &str = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("cannot read {FILE}: {error}"))?;
    let mut found: Vec<HostPath> =
        mount_points(&text, &["proc", "sysfs"]).map(HostPath::new).collect::<Result<_, _>>()?;
    found.reverse();
    Ok(found)
}

/// runc's rule: a console socket is for a terminal that outlives this command.
fn check_socket(mode: Mode, terminal: bool) -> Result<(), String> {
    if mode == Mode::Foreground || !terminal {
        return Err("cannot use --console-socket if the container is not detached or has no terminal".into());
    }
    Ok(())
}

/// A shell that waits for input which never comes looks as if rspawn hung.
const ONLY_SHOWN: &str = "stdin is no terminal, so the container's console is only shown: --console=interactive passes \
                          stdin on to it, --console=pipe does without a console, --console=read-only is content";

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
