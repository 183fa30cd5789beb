//! `rspawn exec`: another process in a running container.
use std::fs::File;
use std::io::IsTerminal;

use rspawn_proto::WIRE_VERSION;
use rspawn_proto::msg::{InvokerRequest, Mode, Purpose};
use rspawn_proto::namespaces::Namespace;
use rspawn_sys::Fd;

use super::{explain, stream_pipes};
use crate::audit::Audit;
use crate::bundle::read_config;
use crate::cli::{Exec, Global};
use crate::drive::{ConsoleSink, Reached, Session, Signals};
use crate::facts::Facts;
use crate::ids::Ids;
use crate::invoker::{self, Preserved};
use crate::log::Log;
use crate::oci::{self, Capabilities, Process, Spec};
use crate::plan::{InitChoice, Options};
use crate::problem::Problem;
use crate::state::{StateRoot, Status};
use crate::terminal::{ConsoleMode, caller_size};
use crate::{describe, launch, plan, policy, sandbox};

/// What runc says, and clients match on.
const STOPPED: &str = "cannot exec in a stopped container";

pub fn exec(global: &Global, log: &mut Log, arguments: Exec) -> Result<i32, String> {
    let preserved = Preserved::take(arguments.preserve_fds);
    let audit = invoker::audit(arguments.audit.as_deref(), "exec")?;
    audit.whole(|audit| audited(global, log, arguments, preserved?, audit))
}

fn audited(
    global: &Global,
    log: &mut Log,
    arguments: Exec,
    preserved: Preserved,
    audit: Audit,
) -> Result<Reached, String> {
    let setup = audit.step("start rspawn-setup", || launch::start(preserved.count, None)).map_err(|e| e.to_string())?;
    audit.set_id(&arguments.id);
    let mut session = Session::new(setup, audit);
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let target = container.process()?.ok_or(STOPPED)?;
    // What cannot be read of one that ends meanwhile.
    let or_stopped = |reason: String| match container.process() {
        Ok(None) => STOPPED.to_string(),
        _ => reason,
    };
    if container.status()? == Status::Paused && !arguments.ignore_paused {
        return Err("cannot exec in a paused container (use --ignore-paused to override)".into());
    }
    // Everything that the invoker named is opened now, with the invoker's rights.
    let config = container.config()?;
    let process = arguments.process.as_ref().map(|path| {
        File::open(path).map_err(|error| format!("cannot open the process file {}: {error}", path.display()))
    });
    let process = process.transpose()?;
    let policy = policy::load(arguments.policy.as_deref(), None)?;
    let console_socket = invoker::socket("--console-socket", arguments.console_socket.as_deref())?;
    let pidfd_socket = invoker::socket("--pidfd-socket", arguments.pidfd_socket.as_deref())?;
    let pid_file = invoker::pid_file(arguments.pid_file.as_deref())?;
    let mode = if arguments.detach { Mode::Detached } else { Mode::Foreground };
    let signals = (mode == Mode::Foreground).then(Signals::take).transpose();
    let signals = signals.map_err(|errno| format!("cannot take signals: {}", describe::errno(errno.0)))?;
    let stdin_tty = std::io::stdin().is_terminal();

    let (environment, preserve_fds) = (preserved.environment(), preserved.count);
    drop(preserved);
    let record = &container.record;
    let cgroups = container.cgroups_of_exec(&arguments.cgroup).map_err(or_stopped)?;
    let trusted = InvokerRequest {
        version: WIRE_VERSION,
        id: record.id.clone(),
        policy,
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
    let fds: Vec<Fd> = [target].into_iter().chain(pid_file.map(|file| file.directory)).collect();
    session.send_trusted(trusted, &fds.iter().collect::<Vec<&Fd>>())?;
    drop(fds);
    session.await_receipt(signals.as_ref())?;
    let mut facts = Facts::with(Ids::of_process(&record.pid.to_string()).map_err(or_stopped)?)?;
    if record.namespaces.contains(Namespace::User) {
        // Over that namespace it may have every one.
        facts.capabilities = u64::MAX;
    }
    // The confined parser is left no directory.
    let record = container.into_record();
    let mut options = Options {
        id: record.id.clone(),
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
    };

    let pipes = stream_pipes(mode)?;
    session
        .audit
        .step("give up privileges", sandbox::confine)
        .map_err(|error| format!("cannot confine itself: {error}"))?;
    let spec = || session.audit.step("parse", || spec(&config, process.as_ref(), &arguments, environment));
    let spec = Signals::aside(signals.as_ref(), spec)?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let sink = match console_socket {
        Some(_) if mode == Mode::Foreground || !terminal => {
            return Err("cannot use --console-socket if the process is not detached or has no terminal".into());
        }
        Some(socket) => ConsoleSink::Socket(socket),
        None if terminal && mode == Mode::Detached => {
            return Err("cannot allocate tty if the process is detached, without --console-socket".into());
        }
        None if terminal && stdin_tty => ConsoleSink::Shown(ConsoleMode::Interactive),
        None if terminal => ConsoleSink::Shown(ConsoleMode::ReadOnly),
        None => ConsoleSink::Shown(ConsoleMode::Pipe),
    };
    options.console_size = caller_size();
    let planned = session.audit.step("plan", || plan::exec(&spec, &facts, &options)).map_err(|p| explain(&p))?;
    let warnings = super::make::warnings(&planned.notes);
    super::make::say(&warnings, mode, log);
    session.send_plan(planned.plan, pipes, &facts.ids)?;
    let reached = session.run(signals.as_ref(), &sink, pidfd_socket.as_ref())?;
    warnings.iter().for_each(|warning| log.warning(&warning.to_string()));
    Ok(reached)
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

/// The container's configuration with the process to run in the place of its own.
fn spec(config: &File, process: Option<&File>, arguments: &Exec, environment: Vec<String>) -> Result<Spec, String> {
    let text = read_config(config, "the container's configuration")?;
    let mut spec = oci::parse(&text).map_err(|problem| problem.to_string())?;
    let own = spec.process.take().unwrap_or_default();
    let mut process = match process {
        Some(file) => {
            let text = read_config(file, "the process file")?;
            let parsed = oci::parse_process(&text).map_err(|Problem { pointer, message }| {
                format!("the process file{}{pointer}: {message}", if pointer.is_empty() { "" } else { " " })
            });
            let mut process = parsed?;
            complete(&mut process, own);
            process
        }
        None => from_arguments(own, arguments)?,
    };
    process.env.extend(environment);
    spec.process = Some(process);
    Ok(spec)
}

/// What a process from a file leaves open is the container's own, as with runc. Environment, user and words are not
/// among it: without them the file says that there are none.
fn complete(process: &mut Process, own: Process) {
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
    let absent = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if absent(&process.apparmor_profile) {
        process.apparmor_profile = own.apparmor_profile;
    }
    if absent(&process.selinux_label) {
        process.selinux_label = own.selinux_label;
    }
    process.capabilities = process.capabilities.take().or(own.capabilities);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.take().or(own.scheduler);
    process.io_priority = process.io_priority.take().or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.take().or(own.exec_cpu_affinity);
}

/// The container's own process, with another command and what the options say; runc's rules.
fn from_arguments(mut process: Process, arguments: &Exec) -> Result<Process, String> {
    if arguments.command.is_empty() {
        return Err("there is no command to execute".into());
    }
    process.args = arguments.command.clone();
    process.terminal = arguments.tty;
    process.console_size = None;
    process.env.extend(arguments.env.clone());
    if let Some(cwd) = &arguments.cwd {
        process.cwd = cwd.clone();
    }
    if let Some(label) = &arguments.process_label {
        process.selinux_label = Some(label.clone());
    }
    if let Some(profile) = &arguments.apparmor {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some(no_new_privileges) = arguments.no_new_privs {
        process.no_new_privileges = no_new_privileges;
    }
    if let Some(user) = &arguments.user {
        (process.user.uid, process.user.gid) = parse_user(user, process.user.gid)?;
    }
    process.user.additional_gids.extend(&arguments.additional_gids);
    if !arguments.cap.is_empty() {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        // runc's rule: what is not inheritable cannot be ambient, and the option makes nothing inheritable.
        let ambient = (!sets.inheritable.is_empty()).then_some(&mut sets.ambient);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted].into_iter().chain(ambient) {
            set.extend(arguments.cap.clone());
        }
    }
    Ok(process)
}

/// UID[:GID] in decimal, and nothing else: a name, or a number that does not fit, must never become an id
/// (CVE-2026-30892, CVE-2024-40635).
fn parse_user(text: &str, gid: u32) -> Result<(u32, u32), String> {
    let number = |text: &str| -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| digits);
        parsed.ok_or_else(|| format!("--user: {text:?} is no id: UID[:GID] in decimal numbers is wanted"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => Ok((number(text)?, gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1", 7), Ok((1, 7)));
        assert_eq!(parse_user("0:5", 7), Ok((0, 5)));
        for bad in ["", ":", "1:", ":1", "root", "+1", "-1", " 1", "1 ", "4294967296", "0x1", "1:2:3"] {
            assert!(parse_user(bad, 0).is_err(), "{bad}");
        }
    }
}
