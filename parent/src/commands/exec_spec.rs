//! The process that `exec` starts: of a file, or of the container's own with what the command line says.
use std::ffi::OsString;
use std::fs::File;

use rspawn_host::deputies::path_prober::UserFiles;
use rspawn_host::inputs::bundle::read_config;
use rspawn_planner::oci::{self, Capabilities, Process, Spec};
use rspawn_planner::origins::Origins;
use rspawn_planner::overrides::apply::{self, Applied, RootfsFacts};
use rspawn_planner::overrides::user::{self, UserChoice};
use rspawn_planner::overrides::{Sourced, values};
use rspawn_planner::problem::Problem;

use crate::cli::Exec;

/// The container's configuration with the process to run in the place of its own; and whose words its parts are.
pub fn spec(
    config: &File,
    process: Option<&File>,
    users: Option<&UserFiles>,
    arguments: &Exec,
    environment: Vec<String>,
) -> Result<(Spec, Origins), String> {
    let text = read_config(config, "the container's configuration")?;
    let mut spec = oci::parse(&text).map_err(|problem| problem.to_string())?;
    let own = spec.process.take().unwrap_or_default();
    let mut done = Applied::default();
    let mut process = match process {
        Some(file) => {
            let text = read_config(file, "the process file")?;
            let parsed = oci::parse_process(&text).map_err(|Problem { pointer, message }| {
                format!("the process file{}{pointer}: {message}", if pointer.is_empty() { "" } else { " " })
            });
            let mut process = parsed?;
            done.origins.moved("/process", "the process file ");
            complete(&mut process, own, &mut done.origins);
            process
        }
        None => from_arguments(own, users, arguments, &mut done)?,
    };
    if let [problem, ..] = done.problems.as_slice() {
        return Err(problem.to_string());
    }
    process.env.extend(environment);
    spec.process = Some(process);
    Ok((spec, done.origins))
}

/// What a process from a file leaves open is the container's own, as with runc. Environment, user and words are not
/// among it: without them the file says that there are none.
fn complete(process: &mut Process, own: Process, origins: &mut Origins) {
    let mut from_container = |name: &str| {
        let place = format!("/process/{name}");
        origins.moved(place.clone(), place);
    };
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
        from_container("rlimits");
    }
    let absent = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if absent(&process.apparmor_profile) {
        process.apparmor_profile = own.apparmor_profile;
        from_container("apparmorProfile");
    }
    if absent(&process.selinux_label) {
        process.selinux_label = own.selinux_label;
        from_container("selinuxLabel");
    }
    let mut fill = |is_absent: bool, name: &str| is_absent.then(|| from_container(name));
    fill(process.capabilities.is_none(), "capabilities");
    fill(process.oom_score_adj.is_none(), "oomScoreAdj");
    fill(process.scheduler.is_none(), "scheduler");
    fill(process.io_priority.is_none(), "ioPriority");
    fill(process.exec_cpu_affinity.is_none(), "execCPUAffinity");
    process.capabilities = process.capabilities.take().or(own.capabilities);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.take().or(own.scheduler);
    process.io_priority = process.io_priority.take().or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.take().or(own.exec_cpu_affinity);
}

/// The container's own process, with another command and what the options say; runc's rules.
fn from_arguments(
    mut process: Process,
    users: Option<&UserFiles>,
    arguments: &Exec,
    done: &mut Applied,
) -> Result<Process, String> {
    if arguments.command.is_empty() {
        return Err("there is no command to execute".into());
    }
    process.args = arguments.command.clone();
    process.terminal = arguments.tty;
    process.console_size = None;
    if let Some(user) = &arguments.user {
        set_user(&mut process, user, users, done)?;
    }
    for entry in &arguments.env {
        let origin = format!("--env {entry:?}");
        let entry = if entry.contains('=') { Some(entry.clone()) } else { passed_on(entry, &origin)? };
        if let Some(entry) = entry {
            done.origins.replace(format!("/process/env/{}", process.env.len()), &origin);
            process.env.push(entry);
        }
    }
    if let Some(cwd) = &arguments.cwd {
        process.cwd = cwd.clone();
        done.origins.replace("/process/cwd", &format!("--cwd {cwd}"));
    }
    if let Some(label) = &arguments.process_label {
        process.selinux_label = Some(label.clone());
        done.origins.replace("/process/selinuxLabel", "--process-label");
    }
    if let Some(profile) = &arguments.apparmor {
        process.apparmor_profile = Some(profile.clone());
        done.origins.replace("/process/apparmorProfile", "--apparmor");
    }
    if let Some(no_new_privileges) = arguments.no_new_privs {
        process.no_new_privileges = no_new_privileges;
    }
    for gid in &arguments.additional_gids {
        let place = format!("/process/user/additionalGids/{}", process.user.additional_gids.len());
        done.origins.replace(place, &format!("--additional-gids {gid}"));
        process.user.additional_gids.push(*gid);
    }
    add_capabilities(&mut process, &arguments.cap, done);
    Ok(process)
}

/// A name alone is the invoker's variable, as with `run --setenv` and docker; one that is not set is left out.
fn passed_on(name: &str, origin: &str) -> Result<Option<String>, String> {
    let value = match std::env::var_os(name).map(OsString::into_string) {
        Some(Err(_)) => return Err(format!("{origin}: the value of the variable is not UTF-8")),
        Some(Ok(value)) => Some(value),
        None => None,
    };
    let assigned = values::assignment(name, |_| value.clone()).map_err(|message| format!("{origin}: {message}"))?;
    Ok(assigned.map(|(name, value)| format!("{name}={value}")))
}

fn add_capabilities(process: &mut Process, added: &[String], done: &mut Applied) {
    if added.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_with(Capabilities::default);
    // runc's rule: what is not inheritable cannot be ambient, and the option makes nothing inheritable.
    let ambient = (!sets.inheritable.is_empty()).then_some(("ambient", &mut sets.ambient));
    let all =
        [("bounding", &mut sets.bounding), ("effective", &mut sets.effective), ("permitted", &mut sets.permitted)];
    for (kind, set) in all.into_iter().chain(ambient) {
        for name in added {
            done.origins.replace(format!("/process/capabilities/{kind}/{}", set.len()), &format!("--cap {name}"));
            set.push(name.clone());
        }
    }
}

/// Numbers change these alone, as with runc; a name is a user with all that belongs to one, as with `run --user`.
fn set_user(process: &mut Process, text: &str, users: Option<&UserFiles>, done: &mut Applied) -> Result<(), String> {
    let said = Sourced::new(chosen_user(text)?, format!("--user {text}"));
    match said.value {
        UserChoice::Ids { uid, gid } => {
            process.user.uid = uid;
            if text.contains(':') {
                process.user.gid = gid;
            }
            ["uid", "gid"].iter().for_each(|id| done.origins.replace(format!("/process/user/{id}"), &said.origin));
        }
        UserChoice::Names { .. } => {
            let known = RootfsFacts { database: users.map(UserFiles::read), ..RootfsFacts::default() };
            apply::of_user(process, &said, false, &known, done);
        }
    }
    Ok(())
}

/// A name, or a number that does not fit, must never become an id (CVE-2026-30892, CVE-2024-40635).
fn chosen_user(text: &str) -> Result<UserChoice, String> {
    user::parse(text).map_err(|message| format!("--user: {message}"))
}

/// Whether the container's user database has to be asked who that is.
pub fn names_a_user(arguments: &Exec) -> Result<bool, String> {
    let choice = arguments.user.as_deref().filter(|_| arguments.process.is_none()).map(chosen_user).transpose()?;
    Ok(matches!(choice, Some(UserChoice::Names { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_no_names_and_no_names_numbers() {
        for bad in ["", ":", "1:", ":1", "+1", "-1", " 1", "1 ", "4294967296", "0x1", "1:2:3"] {
            assert!(chosen_user(bad).is_err(), "{bad}");
        }
        let mut process = Process::default();
        process.user.gid = 7;
        let mut done = Applied::default();
        set_user(&mut process, "1", None, &mut done).unwrap();
        assert_eq!((process.user.uid, process.user.gid), (1, 7), "runc's rule");
        set_user(&mut process, "0:5", None, &mut done).unwrap();
        assert_eq!((process.user.uid, process.user.gid), (0, 5));
        set_user(&mut process, "root", None, &mut done).unwrap();
        assert_eq!(done.problems.len(), 1, "nobody knows who that is");
    }
}
