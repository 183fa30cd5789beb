//! `rspawn update`: other limits for a running container. The pipeline of the parent, top to bottom.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rspawn_host::containers::running;
use rspawn_host::inputs::bundle::read_config;
use rspawn_host::inputs::policy_file;
use rspawn_host::state::StateRoot;
use rspawn_host::{facts, sandbox, streams};
use rspawn_planner::facts::Ids;
use rspawn_planner::oci::resources::Resources;
use rspawn_planner::origins::Origins;
use rspawn_planner::problem::Problem;
use rspawn_planner::{Changes, RunningContainer, oci, units};
use rspawn_proto::WIRE_VERSION;
use rspawn_proto::msg::{InvokerRequest, Mode, Purpose};
use rspawn_proto::policy::Policy;
use rspawn_proto::record::Record;

use super::notes::explain;
use crate::cli::{Global, Limits, Update};
use crate::session::audit::{self, Audit};
use crate::session::console::ConsoleMode;
use crate::session::stream_pipes::StreamPipes;
use crate::session::{ConsoleSink, RunOutcome, Session, helper_process};

/// What runc says, and clients match on.
const NOT_RUNNING: &str = "container not running";

pub fn update(global: &Global, arguments: Update) -> Result<i32, String> {
    let audit = audit::open(arguments.audit.as_deref(), "update")?;
    audit.whole(|audit| update_limits(global, arguments, audit))
}

/// The pipeline: start rspawn-setup, open what was named, give up privileges, parse, plan, hand the plan over.
fn update_limits(global: &Global, arguments: Update, audit: Audit) -> Result<RunOutcome, String> {
    let schemata = schemata(&arguments);
    let setup = audit.step("start rspawn-setup", || helper_process::start(0, None));
    audit.set_id(&arguments.id);
    let mut session = Session::new(setup.map_err(|error| error.to_string())?, audit);

    // Held to the end: a cgroup that was removed meanwhile could be another container's by now.
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?.lock()?;
    container.process()?.ok_or(NOT_RUNNING)?;
    let config = container.config()?;
    let given = arguments.resources.as_deref().filter(|path| !path.as_os_str().is_empty()).map(open).transpose()?;
    let policy = policy_file::load(arguments.policy.as_deref(), None)?;
    hand_over(&container.record, policy, &session)?;
    session.await_receipt(None)?;
    let running = running_container(&container.record)?;
    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;

    let base = if given.is_some() { "--resources " } else { "" };
    let (mut resources, origins) = match given {
        Some(given) => (session.audit.step("parse", || parse(given))?, Origins::default()),
        None => from_flags(&arguments.limits)?,
    };
    // With runc 1.1 to 1.3, 0 is not a limit of its own: clients send it for what they do not change.
    resources.pids.limit = resources.pids.limit.filter(|limit| *limit != 0);
    // runc never changes them, and those who send all limits send these too: anew they would be closed for a moment.
    if !resources.devices.is_empty() && resources.devices == devices_of(&config)? {
        resources.devices.clear();
    }
    let changes = Changes { resources, schemata };
    let planned = session.audit.step("plan", || rspawn_planner::update(&changes, &running, base));
    let planned = planned.map_err(|mut problems| {
        origins.rename_problems(&mut problems);
        explain(&problems)
    })?;
    let planned = planned.named_after(origins);
    planned.notes.iter().for_each(streams::warn);
    session.send_plan(planned.plan, StreamPipes::default(), &Ids::default())?;
    session.run(None, &ConsoleSink::Shown(ConsoleMode::Passive), None)?;
    // Nothing of a payload's has ended.
    Ok(RunOutcome::Detached)
}

/// Lines for the resctrl group, each with the option that gave it.
fn schemata(arguments: &Update) -> Vec<(&'static str, String)> {
    let options = [("--l3-cache-schema", &arguments.l3_cache_schema), ("--mem-bw-schema", &arguments.mem_bw_schema)];
    let given = |(option, line): (_, &Option<String>)| Some((option, line.clone().filter(|line| !line.is_empty())?));
    options.into_iter().filter_map(given).collect()
}

/// The first message, before anything untrusted is read.
fn hand_over(record: &Record, policy: Policy, session: &Session) -> Result<(), String> {
    let in_scope = record.unit.is_some();
    let bus = if in_scope {
        Some(facts::systemd::connect(facts::systemd::manager(&facts::ids::of_caller()?)?)?)
    } else {
        None
    };
    let request = InvokerRequest {
        version: WIRE_VERSION,
        id: record.id.clone(),
        policy,
        mode: Mode::Foreground,
        keep: true,
        purpose: Purpose::Update { cgroups: record.cgroups.clone(), unit: record.unit.clone() },
        pid_file: None,
        audit: session.audit.is_on(),
        preserve_fds: 0,
        no_pivot: false,
        kernel_mounts: Vec::new(),
        bus: in_scope,
    };
    session.send_request(request, &bus.iter().collect::<Vec<_>>())
}

fn running_container(record: &Record) -> Result<RunningContainer, String> {
    Ok(RunningContainer {
        id: record.id.clone(),
        layout: running::layout(&record.cgroups)?,
        now: running::now(&record.cgroups)?,
        in_scope: record.unit.is_some(),
        resctrl: running::resctrl(&record.cgroups),
    })
}

/// The file of `--resources`. Read only after privileges are gone.
fn open(path: &Path) -> Result<Box<dyn Read>, String> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path).map_err(|error| format!("--resources: cannot open {}: {error}", path.display()))?;
    Ok(Box::new(file))
}

fn parse(given: Box<dyn Read>) -> Result<Resources, String> {
    let bytes = read_config(given, "the file of --resources")?;
    oci::parse_resources(&bytes).map_err(|Problem { pointer, message }| match pointer.as_str() {
        "" => format!("--resources: {message}"),
        pointer => format!("--resources {pointer}: {message}"),
    })
}

/// The limits that options name, and which option stands behind each.
fn from_flags(limits: &Limits) -> Result<(Resources, Origins), String> {
    let (mut resources, mut origins) = (Resources::default(), Origins::default());
    let mut flag = |name: &'static str, pointer: &str, value: &Option<String>| {
        let given = value.clone().filter(|value| !value.is_empty());
        if given.is_some() {
            origins.replace(pointer, name);
        }
        Flag { name, given }
    };
    let Resources { memory, cpu, pids, block_io, .. } = &mut resources;
    block_io.weight = flag("--blkio-weight", "/blockIO/weight", &limits.blkio_weight).number()?;
    cpu.period = flag("--cpu-period", "/cpu/period", &limits.cpu_period).number()?;
    cpu.quota = flag("--cpu-quota", "/cpu/quota", &limits.cpu_quota).number()?;
    cpu.burst = flag("--cpu-burst", "/cpu/burst", &limits.cpu_burst).number()?;
    cpu.shares = flag("--cpu-share", "/cpu/shares", &limits.cpu_share).number()?;
    cpu.realtime_period = flag("--cpu-rt-period", "/cpu/realtimePeriod", &limits.cpu_rt_period).number()?;
    cpu.realtime_runtime = flag("--cpu-rt-runtime", "/cpu/realtimeRuntime", &limits.cpu_rt_runtime).number()?;
    cpu.cpus = flag("--cpuset-cpus", "/cpu/cpus", &limits.cpuset_cpus).given.unwrap_or_default();
    cpu.mems = flag("--cpuset-mems", "/cpu/mems", &limits.cpuset_mems).given.unwrap_or_default();
    cpu.idle = flag("--cpu-idle", "/cpu/idle", &limits.cpu_idle).number()?;
    memory.limit = flag("--memory", "/memory/limit", &limits.memory).size()?;
    memory.reservation = flag("--memory-reservation", "/memory/reservation", &limits.memory_reservation).size()?;
    memory.swap = flag("--memory-swap", "/memory/swap", &limits.memory_swap).size()?;
    pids.limit = flag("--pids-limit", "/pids/limit", &limits.pids_limit).number()?;
    for (name, value) in
        [("--kernel-memory", &limits.kernel_memory), ("--kernel-memory-tcp", &limits.kernel_memory_tcp)]
    {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            streams::warn(format_args!("{name}: ignored, as runc does"));
        }
    }
    Ok((resources, origins))
}

/// An option and its value; an empty one is none.
struct Flag {
    name: &'static str,
    given: Option<String>,
}

impl Flag {
    fn number<T: std::str::FromStr>(self) -> Result<Option<T>, String> {
        let Self { name, given } = self;
        let parse =
            |text: String| text.parse().map_err(|_| format!("{name}: {text:?} is not a number, or out of range"));
        given.map(parse).transpose()
    }

    fn size(self) -> Result<Option<i64>, String> {
        let Self { name, given } = self;
        let parse = |text: String| {
            let size = if text == "-1" { Ok(-1) } else { units::memory_size(&text) };
            size.map_err(|reason| format!("{name}: {reason}"))
        };
        given.map(parse).transpose()
    }
}

/// The rules about devices that the container was made with.
fn devices_of(config: &File) -> Result<Vec<oci::resources::DeviceRule>, String> {
    let bytes = read_config(config, "the container's configuration")?;
    let spec = oci::parse(&bytes).map_err(|problem| problem.to_string())?;
    Ok(spec.linux.and_then(|linux| linux.resources).unwrap_or_default().devices)
}
