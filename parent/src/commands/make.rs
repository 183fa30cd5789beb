//! `rspawn create` and `rspawn run`: the pipeline of the parent, top to bottom.
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{ContainerId, HostPath, Text};
use rspawn_proto::msg::{InvokerRequest, Mode, Purpose};
use rspawn_sys::Fd;

use super::prepare::{About, Intent, Prepared};
use super::{Source, explain, stream_pipes};
use crate::audit::Audit;
use crate::bundle::Bundle;
use crate::cli::overrides::OverrideOptions;
use crate::cli::{Create, Global, Making, Run};
use crate::drive::{ConsoleSink, Reached, Session, Signals};
use crate::facts::{Facts, mount_points};
use crate::ids::Ids;
use crate::invoker::{self, Preserved, fd};
use crate::log::Log;
use crate::oci::{ConsoleSize, Spec};
use crate::plan::{InitChoice, Options};
use crate::problem::Problem;
use crate::state::{NewContainer, StateRoot, boot_id};
use crate::streams;
use crate::terminal::{ConsoleMode, caller_size};
use crate::{describe, launch, notify, nspawn, policy, sandbox, systemd};

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
    let audit = invoker::audit(making.audit.as_deref(), verb)?;
    audit.whole(|audit| audited(global, log, making, request, preserved?, audit))
}

fn audited(
    global: &Global,
    log: &mut Log,
    making: Making,
    request: Request,
    preserved: Preserved,
    audit: Audit,
) -> Result<Reached, String> {
    let Request { mode, keep, id, console, command, overrides } = request;
    // First of all, since its own start takes as long as all that follows here.
    let mut ids = Ids::of_caller()?;
    let setup = audit.step("start rspawn-setup", || launch::start(preserved.count, Some(&mut ids)));
    let setup = setup.map_err(|error| error.to_string())?;
    let mut session = Session::new(setup, audit);
    // Everything that the invoker named is opened now, with the invoker's rights.
    let container = &making.container;
    if container.image.is_some() {
        return Err("--image is not supported: mount the image, and name the mount point with --directory".into());
    }
    let given = match (id, &container.oci_bundle) {
        (None, Some(directory)) => Some(nspawn::name_of(directory)?),
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
    let mut prepared = Prepared::read(&overrides, &command, &source.place(given.as_deref()), intent)?;
    if let Some(cpus) = prepared.cpus() {
        session.run_on(cpus)?;
    }
    let mut policy = policy::load(making.policy.as_deref(), source.shown())?;
    policy::adapt(&mut policy, &ids);
    prepared.obey(&policy);
    let systemd = global.systemd()?;
    let bus = if systemd { Some(systemd::connect(systemd::manager(&ids)?)?) } else { None };
    let console_socket = invoker::socket("--console-socket", making.console_socket.as_deref())?;
    let pidfd_socket = invoker::socket("--pidfd-socket", making.pidfd_socket.as_deref())?;
    let pid_file = invoker::pid_file(making.pid_file.as_deref())?;
    let root = StateRoot::open(global.root.as_deref())?;
    // Not before: a file system that does not answer keeps nobody who can be interrupted.
    let signals = (mode == Mode::Foreground).then(Signals::take).transpose();
    let signals = signals.map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))?;
    let mut new = NewContainer::make(&root, &id)?;
    let gate = (mode == Mode::Created).then(|| new.make_gate()).transpose();
    let gate = gate.map_err(|error| format!("cannot make the gate of container {id}: {error}"))?;
    let notify = notify::is_wanted().then(|| new.make_notify(mode != Mode::Created)).transpose()?;
    let (notify, relay) = notify.unzip();

    let (environment, listening, preserve_fds) = (preserved.environment(), preserved.listening > 0, preserved.count);
    drop(preserved);
    let trusted = InvokerRequest {
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
    session.relay = relay.flatten();
    let opened = new.open();
    let (state, mut config) = opened.map_err(|error| format!("cannot hold the state of container {id}: {error}"))?;
    let mut fds = vec![fd(state), fd(root.into_directory())];
    fds.extend(gate.into_iter().flat_map(|gate| [gate.gate, gate.report, gate.page].map(fd)));
    fds.extend(pid_file.map(|file| file.directory));
    fds.extend(bus);
    session.send_trusted(trusted, &fds.iter().collect::<Vec<&Fd>>())?;
    drop(fds);
    let facts = Facts::with(ids)?;
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

    let pipes = stream_pipes(mode)?;
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
        // What runs later in the container goes by what it is, not by what the bundle says.
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
    let warnings = warnings(&planned.notes);
    say(&warnings, mode, log);
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

const CAPABILITIES: &str = "/process/capabilities";

/// Notes that are said at once, the first of very many. What is so in several places, as a capability in every set, is
/// said of the first.
pub fn warnings(notes: &[Problem]) -> Vec<Problem> {
    const MOST: usize = 50;
    let mut said = HashSet::new();
    let mut warnings = Vec::new();
    for note in notes.iter().filter(|note| is_worth_a_warning(&note.pointer)) {
        let is_new = !note.pointer.starts_with(CAPABILITIES) || said.insert(note.message.as_str());
        if is_new && warnings.len() < MOST {
            warnings.push(note.clone());
        }
    }
    warnings
}

/// On stderr, where somebody reads it: a line there is all that clients of `create` take for an error. But that a
/// capability is left out has to be said (config.md), there if not in the log; as with runc, one that nobody could have,
/// and not one that follows from the other sets, as every engine's ambient ones do.
pub fn say(warnings: &[Problem], mode: Mode, log: &Log) {
    let of_a_set =
        |pointer: &str| pointer.strip_prefix(CAPABILITIES).map(|rest| !rest.get(1..).unwrap_or_default().contains('/'));
    for warning in warnings {
        let (is_said, must_be_said) = match of_a_set(&warning.pointer) {
            Some(follows) => (!follows, !follows && !log.is_kept()),
            None => (true, false),
        };
        if must_be_said || is_said && mode == Mode::Foreground {
            streams::warn(warning);
        }
    }
}

/// A limit or a right that is left out is said at once, and a rule of seccomp's that rules nothing; the rest is `rspawn
/// check`'s to say.
fn is_worth_a_warning(pointer: &str) -> bool {
    // What does not begin with a slash are the invoker's own words, or a settings file's; or else a rule of rspawn's,
    // whose effect nobody has asked for.
    let is_said = !pointer.starts_with('/') && !pointer.starts_with("rule: ");
    let is_rule =
        pointer.starts_with("/linux/seccomp/syscalls/") && ["/names", "/name"].iter().any(|end| pointer.ends_with(end));
    is_said
        || is_rule
        || ["/linux/resources/", CAPABILITIES].iter().any(|place| pointer.starts_with(place))
        || pointer == "/linux/cgroupsPath"
}
