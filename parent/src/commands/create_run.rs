//! `rspawn create` and `rspawn run`: the pipeline of the parent, top to bottom.
use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rspawn_host::facts::{self, mount_points};
use rspawn_host::inputs::bundle::Bundle;
use rspawn_host::inputs::cli_inputs::{self, PidFile, Preserved, fd};
use rspawn_host::inputs::{self, policy_file};
use rspawn_host::sandbox;
use rspawn_host::state::{Gate, NewContainer, StateRoot, boot_id};
use rspawn_planner::facts::{Facts, Ids};
use rspawn_planner::oci::Spec;
use rspawn_planner::overrides::apply::Applied;
use rspawn_planner::{InitChoice, NotifyMount, Options, policy};
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::ids::{ContainerId, HostPath, Text};
use rspawn_proto::msg::{InvokerRequest, Mode, Purpose};
use rspawn_proto::policy::Policy;
use rspawn_sys::Fd;

use super::console_choice::ConsoleChoice;
use super::notes::{self, explain};
use super::override_sources::{About, Intent, OverrideSources};
use super::source::Source;
use crate::cli::overrides::OverrideOptions;
use crate::cli::{Create, CreateArgs, Global, Run};
use crate::session::audit::{self, Audit};
use crate::session::console::ConsoleMode;
use crate::session::log::Log;
use crate::session::notify::Relay;
use crate::session::{RunOutcome, Session, Signals, helper_process, hooks, notify, stream_pipes};

pub fn create(global: &Global, log: &mut Log, arguments: Create) -> Result<i32, String> {
    let Create { create, id } = arguments;
    let (mode, overrides) = (Mode::Created, OverrideOptions::default());
    execute(log, Request { global, create, mode, keep: false, id: Some(id), console: None, command: vec![], overrides })
}

pub fn run(global: &Global, log: &mut Log, arguments: Run) -> Result<i32, String> {
    let Run { create, detach, keep, console, id, command, overrides } = arguments;
    let mode = if detach { Mode::Detached } else { Mode::Foreground };
    execute(log, Request { global, create, mode, keep, id, console, command, overrides })
}

/// What `create` and `run` ask for alike.
struct Request<'a> {
    global: &'a Global,
    create: CreateArgs,
    mode: Mode,
    keep: bool,
    id: Option<String>,
    console: Option<ConsoleMode>,
    command: Vec<String>,
    overrides: OverrideOptions,
}

fn execute(log: &mut Log, request: Request) -> Result<i32, String> {
    // Before a file of ours can take a free number among them.
    let preserved = Preserved::take(request.create.preserve_fds);
    let verb = if request.mode == Mode::Created { "create" } else { "run" };
    let audit = audit::open(request.create.audit.as_deref(), verb)?;
    audit.whole(|audit| create_container(&request, log, preserved?, audit))
}

/// The pipeline: start rspawn-setup, open what was named, make the state directory, give up privileges, parse, plan,
/// hand the plan over, and stay for as long as somebody has to.
fn create_container(
    request: &Request,
    log: &mut Log,
    preserved: Preserved,
    audit: Audit,
) -> Result<RunOutcome, String> {
    // First of all, since its own start takes as long as all that follows here.
    let mut ids = facts::ids::of_caller()?;
    let setup = audit.step("start rspawn-setup", || helper_process::start(preserved.count, Some(&mut ids)));
    let mut session = Session::new(setup.map_err(|error| error.to_string())?, audit);
    session.quiet = request.mode != Mode::Foreground && log.is_kept();

    let target = Target::choose(request)?;
    session.audit.set_id(target.id.as_str());
    let mut inputs = Inputs::open(request, &target, &ids, &session)?;
    let root = StateRoot::open(request.global.root.as_deref())?;
    // Not before: a file system that does not answer keeps nobody who can be interrupted.
    let signals = if request.mode == Mode::Foreground { Some(Signals::take()?) } else { None };
    let mut state = NewState::make(request, &root, &target.id)?;
    session.relay = state.relay.take();

    let kept = Kept::of(preserved);
    let mut config_copy = hand_over(request, &target, &mut inputs, &mut state, root, &kept, &session)?;
    let facts = facts::gather_for(ids)?;
    // Until here, this process removes what it has made.
    session.await_receipt(signals.as_ref())?;
    state.new.hand_over();

    let mut options = options(request, &target, &inputs, &kept, state.notify);
    let pipes = stream_pipes::for_mode(request.mode)?;
    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;

    let mut config = parse(target.source, &inputs.overrides, &facts, &mut options, &mut session, signals.as_ref())?;
    let sink = target.console.sink(&mut config.spec, inputs.console_socket.take(), request.mode)?;
    complete_environment(&mut config.spec, &kept, options.notify.is_some());
    let Config { spec, text, applied } = config;
    let planned = session.audit.step("plan", || applied.plan(&spec, &facts, &options)).map_err(|p| explain(&p))?;
    let warnings = notes::warnings(&planned.notes);
    notes::say_warnings(&warnings, request.mode, log);
    session.origins = planned.origins;
    session.send_plan(planned.plan, pipes, &facts.ids)?;
    // rspawn-setup is at work meanwhile.
    config_copy.write_all(&text).map_err(|error| format!("cannot keep a copy of config.json: {error}"))?;
    let outcome = session.run(signals.as_ref(), &sink, inputs.pidfd_socket.as_ref());
    let outcome = outcome.inspect_err(|_| session.say_warnings())?;
    inputs.overrides.started();
    // A line on stderr is all that clients of `create` take for an error, and so is any in the log of one that fails.
    warnings.iter().for_each(|warning| log.warning(&warning.to_string()));
    session.warnings.iter().for_each(|warning| log.warning(warning));
    Ok(outcome)
}

/// The container that is to be, as far as the command line alone tells.
struct Target {
    id: ContainerId,
    /// The name that was given, or that its bundle gives it.
    name: Option<String>,
    source: Source,
    console: ConsoleChoice,
}

impl Target {
    fn choose(request: &Request) -> Result<Self, String> {
        let container = &request.create.container;
        if container.image.is_some() {
            return Err("--image is not supported: mount the image, and name the mount point with --directory".into());
        }
        let name = match (&request.id, &container.oci_bundle) {
            (None, Some(directory)) => Some(inputs::nspawn::name_of(directory)?),
            (id, _) => id.clone(),
        };
        let id = ContainerId::new(name.clone().unwrap_or_else(|| format!("rspawn-{}", std::process::id())))?;
        let console = ConsoleChoice::of(request.console);
        let on_terminal = console.is_terminal() && request.mode == Mode::Foreground;
        let config = container.config.as_deref();
        let source = if container.host {
            Source::Host { args: Vec::new(), terminal: on_terminal, term: std::env::var("TERM").ok() }
        } else if let Some(directory) = &container.directory {
            Source::open_directory(directory, name.as_deref(), on_terminal)?
        } else if let Some(directory) = &container.oci_bundle {
            let attended = request.mode == Mode::Foreground || request.create.console_socket.is_some();
            Source::open_oci(directory, config, name.as_deref(), attended, console.has_terminal())?.0
        } else {
            Source::Bundle(Bundle::open_with(&container.bundle, config)?)
        };
        Ok(Self { id, name, source, console })
    }
}

/// Everything else that the invoker named: opened with the invoker's rights.
struct Inputs {
    overrides: OverrideSources,
    policy: Policy,
    systemd: bool,
    bus: Option<Fd>,
    console_socket: Option<Fd>,
    pidfd_socket: Option<Fd>,
    pid_file: Option<PidFile>,
}

impl Inputs {
    fn open(request: &Request, target: &Target, ids: &Ids, session: &Session) -> Result<Self, String> {
        let create = &request.create;
        let intent = if request.mode == Mode::Foreground { Intent::Foreground } else { Intent::Detached };
        let location = target.source.settings_location(target.name.as_deref());
        let mut overrides = OverrideSources::read(&request.overrides, &request.command, &location, intent)?;
        if let Some(cpus) = overrides.cpus() {
            session.run_on(cpus)?;
        }
        let mut policy = policy_file::load(create.policy.as_deref(), target.source.shown())?;
        policy::adapt(&mut policy, ids);
        overrides.obey(&policy);
        let systemd = request.global.systemd()?;
        let bus = if systemd { Some(facts::systemd::connect(facts::systemd::manager(ids)?)?) } else { None };
        Ok(Self {
            overrides,
            policy,
            systemd,
            bus,
            console_socket: cli_inputs::socket("--console-socket", create.console_socket.as_deref())?,
            pidfd_socket: cli_inputs::socket("--pidfd-socket", create.pidfd_socket.as_deref())?,
            pid_file: cli_inputs::pid_file(create.pid_file.as_deref())?,
        })
    }
}

/// The state directory in the making, and what is in it for this container alone.
struct NewState {
    new: NewContainer,
    gate: Option<Gate>,
    notify: Option<NotifyMount>,
    relay: Option<Relay>,
}

impl NewState {
    fn make(request: &Request, root: &StateRoot, id: &ContainerId) -> Result<Self, String> {
        let new = NewContainer::make(root, id, &hooks::run)?;
        let gate = (request.mode == Mode::Created).then(|| new.make_gate()).transpose();
        let gate = gate.map_err(|error| format!("cannot make the gate of container {id}: {error}"))?;
        let notify = notify::is_wanted().then(|| new.make_notify(request.mode != Mode::Created)).transpose()?;
        let (notify, directory) = notify.unzip();
        let relay = if let Some(Some(directory)) = directory { Some(Relay::listen(directory)?) } else { None };
        Ok(Self { new, gate, notify, relay })
    }
}

/// What the payload inherits, and is told of it.
struct Kept {
    environment: Vec<String>,
    listening: bool,
    count: u32,
}

impl Kept {
    /// Closes this process's own: who waits for their end must not wait for it.
    fn of(preserved: Preserved) -> Self {
        Self { environment: preserved.environment(), listening: preserved.listening > 0, count: preserved.count }
    }
}

/// The first message, before anything untrusted is read. Gives the file for a copy of the configuration.
fn hand_over(
    request: &Request,
    target: &Target,
    inputs: &mut Inputs,
    state: &mut NewState,
    root: StateRoot,
    kept: &Kept,
    session: &Session,
) -> Result<File, String> {
    let no_pivot = request.create.no_pivot;
    let request = InvokerRequest {
        version: WIRE_VERSION,
        id: target.id.clone(),
        policy: std::mem::take(&mut inputs.policy),
        mode: request.mode,
        keep: request.keep,
        purpose: purpose(target.source.directory())?,
        pid_file: inputs.pid_file.as_ref().map(|file| file.name.clone()),
        audit: session.audit.is_on(),
        preserve_fds: kept.count,
        no_pivot,
        kernel_mounts: if no_pivot { kernel_mounts()? } else { Vec::new() },
        bus: inputs.bus.is_some(),
    };
    let opened = state.new.open();
    let (directory, config) =
        opened.map_err(|error| format!("cannot hold the state of container {}: {error}", target.id))?;
    let mut fds = vec![fd(directory), fd(root.into_directory())];
    fds.extend(state.gate.take().into_iter().flat_map(|gate| [gate.gate, gate.report, gate.page].map(fd)));
    fds.extend(inputs.pid_file.take().map(|file| file.directory));
    fds.extend(inputs.bus.take());
    session.send_request(request, &fds.iter().collect::<Vec<&Fd>>())?;
    Ok(config)
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

fn options(request: &Request, target: &Target, inputs: &Inputs, kept: &Kept, notify: Option<NotifyMount>) -> Options {
    let create = &request.create;
    Options {
        id: target.id.clone(),
        bundle: target.source.directory(),
        init: create.container.init.or(request.global.init),
        detached: request.mode != Mode::Foreground,
        cpus: inputs.overrides.cpu_mask(),
        terminal: target.console.has_terminal(),
        console_size: size_of_environment(),
        preserve_fds: kept.count,
        listening: kept.listening,
        notify,
        new_keyring: !create.no_new_keyring,
        no_pivot: create.no_pivot,
        first: None,
        systemd: inputs.systemd,
        no_cgroups: request.global.no_cgroups(),
    }
}

/// First size of the console where nobody else gives one, as systemd-nspawn takes it.
fn size_of_environment() -> Option<(u16, u16)> {
    let variable = |name: &str| std::env::var(name).ok()?.parse::<u16>().ok();
    Some((variable("LINES")?, variable("COLUMNS")?))
}

/// The configuration as it will be planned.
struct Config {
    spec: Spec,
    /// The same as text, for what runs later in the container.
    text: Vec<u8>,
    applied: Applied,
}

/// Reads the configuration and lays the overrides over it: the first untrusted byte is read here, without privileges.
fn parse(
    source: Source,
    overrides: &OverrideSources,
    facts: &Facts,
    options: &mut Options,
    session: &mut Session,
    signals: Option<&Signals>,
) -> Result<Config, String> {
    let parse = || session.audit.step("parse config.json", || source.parse(facts));
    let (mut spec, mut text) = Signals::aside(signals, parse)?;
    session.audit.set_config(&text);
    let about = About { text: &text, bundle: &options.bundle, arch: facts.arch() };
    let applied = overrides.apply(&mut spec, &about)?;
    if options.init == InitChoice::Auto {
        options.init = applied.init.unwrap_or_default();
    }
    session.kill_signal = applied.kill_signal;
    if !applied.origins.is_empty() {
        // What runs later in the container goes by what it is, not by what the bundle says.
        text = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    }
    Ok(Config { spec, text, applied })
}

/// Tells the payload of descriptors and sockets, whatever config.json says.
fn complete_environment(spec: &mut Spec, kept: &Kept, notify: bool) {
    let Some(process) = &mut spec.process else { return };
    process.env.extend(kept.environment.iter().cloned());
    if kept.listening {
        process.env.push("LISTEN_PID=1".into());
    }
    if notify {
        notify::tell(&mut process.env);
    }
}
