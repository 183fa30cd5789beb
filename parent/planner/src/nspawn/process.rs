//! The payload's surroundings: its environment, and the shell that it is where there is no command.
use super::invoker::{NspawnDefaults, RULE};
use crate::default_spec::PATH;
use crate::oci::{Process, Spec};
use crate::overrides::apply::Applied;
use crate::overrides::user::{self, Database};
use crate::prelude::*;

/// What a user gets who logs in.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub shell: String,
    pub home: String,
}

impl Login {
    /// Of the container's user database, which may name a shell that is not there. `is_there` and `is_directory` are
    /// asked about absolute paths in the container's root.
    pub fn of(
        spec: &Spec,
        database: &Database,
        is_there: impl Fn(&str) -> bool,
        is_directory: impl Fn(&str) -> bool,
    ) -> Self {
        let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
        let (home, shell) = user::login(uid, database);
        let is_mounted = |path: &str| {
            let is_it = |mount: &crate::oci::Mount| mount.destination.trim_end_matches('/') == path;
            spec.mounts.iter().any(is_it)
        };
        let shells = shell.as_deref().into_iter().chain(["/bin/bash"]);
        let shell = shells.into_iter().find(|path| is_there(path)).unwrap_or("/bin/sh").to_string();
        let home = home.or_else(|| (uid == 0).then(|| "/root".into()));
        let home = home.filter(|home| is_directory(home) || is_mounted(home));
        Self { shell, home: home.unwrap_or_else(|| "/".into()) }
    }
}

/// A login shell in the home directory.
pub fn log_in(process: &mut Process, login: Login, has_cwd: bool, done: &mut Applied) {
    process.args = vec![login.shell, "-l".into()];
    done.origins.replace("/process/args", RULE);
    if !has_cwd {
        process.cwd = login.home;
        done.origins.replace("/process/cwd", RULE);
    }
}

/// Adds the variables that every container of nspawn's has, but for those that the bundle sets. `after` is the
/// process as the invoker's options will have changed it.
pub fn environment(invoker: &NspawnDefaults, process: &mut Process, after: &Process, done: &mut Applied) {
    let mut entries = vec![
        PATH.to_string(),
        "LANG=C.UTF-8".into(),
        "container=systemd-nspawn".into(),
        format!("container_uuid={}", invoker.uuid),
    ];
    if invoker.console.unwrap_or(after.terminal) {
        entries.push(format!("TERM={}", invoker.term));
        entries.extend(invoker.of_terminals.iter().cloned());
    } else {
        // Streams that go anywhere understand no terminal's commands.
        entries.push("TERM=dumb".into());
    }
    if after.user.uid == 0 {
        entries.extend(["HOME=/root", "USER=root", "LOGNAME=root"].map(str::to_string));
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_string();
    let said: Vec<String> = process.env.iter().map(|entry| name(entry)).collect();
    for entry in entries.into_iter().filter(|entry| !said.contains(&name(entry))) {
        done.origins.replace(format!("/process/env/{}", process.env.len()), RULE);
        process.env.push(entry);
    }
}
