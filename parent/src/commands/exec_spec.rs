//! The process that `exec` starts: of a file, or of the container's own with what the command line says.
use std::fs::File;

use rspawn_host::inputs::bundle::read_config;
use rspawn_planner::oci::{self, Capabilities, Process, Spec};
use rspawn_planner::problem::Problem;

use crate::cli::Exec;

/// The container's configuration with the process to run in the place of its own.
pub fn spec(config: &File, process: Option<&File>, arguments: &Exec, environment: Vec<String>) -> Result<Spec, String> {
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

/// `UID[:GID]` in decimal, and nothing else: a name, or a number that does not fit, must never become an id
/// (CVE-2026-30892, CVE-2024-40635).
fn parse_user(text: &str, gid: u32) -> Result<(u32, u32), String> {
    let number = |text: &str| -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| digits);
        parsed.ok_or_else(|| format!("--user: {text:?} is not an id: UID[:GID] in decimal numbers is wanted"))
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
