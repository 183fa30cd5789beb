//! Lays overrides over a configuration. Pure: what has to be known of the container's root was asked for before.
use super::filter;
use super::network::{self, put_namespace};
use super::user::{self, Database, UserChoice};
use super::{CapabilityBits, Overrides, Sourced, Volatile};
use crate::oci::{Capabilities, IdMapping, Linux, Namespace, Process, Spec, VolatileRoot};
use crate::options::InitChoice;
use crate::origins::Origins;
use crate::prelude::*;
use crate::problem::Problem;
use crate::tables::CAPABILITIES;

/// What the overrides need to know of the container's root.
#[derive(Debug, Default)]
pub struct RootfsFacts {
    /// Its user database, or why there is none.
    pub database: Option<Result<Database, String>>,
    /// The links to /usr that a root with a merged /usr has, or why it is no such root.
    pub usr_links: Option<Result<Vec<&'static str>, String>>,
    /// There is an /etc/resolv.conf, on the host too, and the root is another one than the host's.
    pub resolver: bool,
    /// Whether it has no directory where `--chdir=` is to lead.
    pub lacks_cwd: bool,
    /// A directory of the host for what is not kept.
    pub scratch: String,
}

/// What is left to do and to say after the configuration has changed.
#[derive(Debug, Default)]
pub struct Applied {
    pub origins: Origins,
    pub notes: Vec<Problem>,
    pub problems: Vec<Problem>,
    pub init: Option<InitChoice>,
    pub kill_signal: Option<u8>,
}

impl Applied {
    fn problem<T>(&mut self, said: &Sourced<T>, message: impl Into<String>) {
        self.problems.push(Problem::new(said.origin.clone(), message));
    }

    fn note<T>(&mut self, said: &Sourced<T>, message: impl Into<String>) {
        self.notes.push(Problem::new(said.origin.clone(), message));
    }
}

/// Changes a configuration; called for each source of overrides, the one that counts most last.
pub fn apply(spec: &mut Spec, overrides: &Overrides, known: &RootfsFacts, done: &mut Applied) {
    if let Some(process) = &mut spec.process {
        of_process(process, overrides, known, done);
    }
    of_root(spec, overrides, known, done);
    of_mounts(spec, overrides, done);
    if let Some(said) = overrides.cwd.as_ref().filter(|said| known.lacks_cwd && !is_mounted(spec, &said.value)) {
        done.problem(said, format!("the container has no directory {}: make it, or name another one", said.value));
    }
    if let Some(said) = &overrides.hostname {
        spec.hostname = Some(said.value.clone());
        done.origins.replace("/hostname", &said.origin);
    }
    let linux = spec.linux.get_or_insert_default();
    network::move_devices(linux, &overrides.network_interfaces, &mut done.origins);
    of_namespaces(linux, overrides, done);
    of_system_calls(linux, overrides, done);
    if let Some(said) = &overrides.personality {
        linux.personality = Some(crate::oci::Personality { domain: said.value.into(), flags: Vec::new() });
        done.origins.replace("/linux/personality", &said.origin);
    }
    for said in &overrides.inaccessible {
        done.origins.replace(format!("/linux/maskedPaths/{}", linux.masked_paths.len()), &said.origin);
        let (path, optional) = said.value.clone();
        if !optional {
            linux.needed_masks.push(linux.masked_paths.len());
        }
        linux.masked_paths.push(path);
    }
    if let Some(said) = &overrides.network {
        network::choose(spec, said, known.resolver, &mut done.origins);
    }
    done.init = overrides.init.as_ref().map(|said| said.value).or(done.init);
    done.kill_signal = overrides.kill_signal.as_ref().map(|said| said.value).or(done.kill_signal);
}

/// Whether a path is at or below a mount, whose directories nobody knows yet.
fn is_mounted(spec: &Spec, path: &str) -> bool {
    let has_volatile_root = spec.root.as_ref().is_some_and(|root| root.volatile.is_some());
    let holds = |mount: &str| path == mount || path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'));
    has_volatile_root || spec.mounts.iter().any(|mount| holds(mount.destination.trim_end_matches('/')))
}

fn of_process(process: &mut Process, overrides: &Overrides, known: &RootfsFacts, done: &mut Applied) {
    if let Some(said) = &overrides.args {
        process.args = said.value.clone();
        done.origins.replace("/process/args", &said.origin);
    }
    if let Some(said) = &overrides.user {
        of_user(process, said, overrides.untrusted, known, done);
    }
    for said in &overrides.env {
        let (name, value) = &said.value;
        set_variable(process, name, value, &said.origin, done);
    }
    if let Some(said) = &overrides.cwd {
        process.cwd = said.value.clone();
        done.origins.replace("/process/cwd", &said.origin);
    }
    match &overrides.no_new_privileges {
        Some(said) if overrides.untrusted && process.no_new_privileges && !said.value => {
            done.note(said, "ignored: the file is not trusted, and this would take a protection away");
        }
        Some(said) => {
            process.no_new_privileges = said.value;
            done.origins.replace("/process/noNewPrivileges", &said.origin);
        }
        None => {}
    }
    if let Some(said) = &overrides.oom_score {
        process.oom_score_adj = Some(said.value);
        done.origins.replace("/process/oomScoreAdj", &said.origin);
    }
    for said in &overrides.rlimits {
        let same = process.rlimits.iter().position(|limit| limit.kind == said.value.kind);
        let index = same.unwrap_or(process.rlimits.len());
        match process.rlimits.get_mut(index) {
            Some(limit) => *limit = said.value.clone(),
            None => process.rlimits.push(said.value.clone()),
        }
        done.origins.replace(format!("/process/rlimits/{index}"), &said.origin);
    }
    of_capabilities(process, overrides, done);
}

/// The planner gives the payload the last of several entries alone.
fn set_variable(process: &mut Process, name: &str, value: &str, origin: &str, done: &mut Applied) {
    done.origins.replace(format!("/process/env/{}", process.env.len()), origin);
    process.env.push(format!("{name}={value}"));
}

/// Gives a process to a user.
pub fn of_user(
    process: &mut Process,
    said: &Sourced<UserChoice>,
    untrusted: bool,
    known: &RootfsFacts,
    done: &mut Applied,
) {
    if untrusted && process.user.uid != 0 {
        done.note(said, "ignored: the file is not trusted, and the bundle's user is not root already");
        return;
    }
    let account = match (&said.value, &known.database) {
        (choice @ UserChoice::Ids { .. }, _) => user::find_chosen(choice, &Database::default()),
        (choice, Some(Ok(database))) => user::find_chosen(choice, database),
        (_, Some(Err(reason))) => Err(reason.clone()),
        (_, None) => Err("the container's user database was not read".into()),
    };
    let account = match account {
        Ok(account) => account,
        Err(reason) => return done.problem(said, reason),
    };
    process.user.uid = account.uid;
    process.user.gid = account.gid;
    process.user.additional_gids = account.groups;
    for pointer in ["/process/user/uid", "/process/user/gid", "/process/user/additionalGids"] {
        done.origins.replace(pointer, &said.origin);
    }
    if !account.name.is_empty() {
        let home = account.home.as_deref().unwrap_or("/");
        for (name, value) in [("HOME", home), ("USER", &account.name), ("LOGNAME", &account.name)] {
            set_variable(process, name, value, &said.origin, done);
        }
    } else {
        // The bundle's would be another user's; rspawn-init looks up the right one.
        process.env.retain(|entry| !entry.starts_with("HOME="));
    }
    // What the bundle meant for root is not meant for everyone; the bounding set stays, for what is set-uid.
    if let Some(sets) = process.capabilities.as_mut().filter(|_| account.uid != 0) {
        for set in [&mut sets.permitted, &mut sets.effective, &mut sets.inheritable, &mut sets.ambient] {
            set.clear();
        }
        done.origins.amend("/process/capabilities", &said.origin);
    }
}

fn of_capabilities(process: &mut Process, overrides: &Overrides, done: &mut Applied) {
    let added = overrides.capabilities.iter().map(|said| (said, false));
    let ambient = overrides.ambient_capabilities.iter().map(|said| (said, true));
    for (said, ambient) in added.chain(ambient) {
        let sets = process.capabilities.get_or_insert_default();
        for name in names(said.value) {
            let Capabilities { bounding, effective, permitted, inheritable, ambient: kept } = &mut *sets;
            let mut grant = |set: &mut Vec<String>, kind: &str| {
                if !set.iter().any(|known| is_same(known, name)) {
                    done.origins.replace(format!("/process/capabilities/{kind}/{}", set.len()), &said.origin);
                    set.push(name.to_string());
                }
            };
            grant(bounding, "bounding");
            grant(permitted, "permitted");
            grant(effective, "effective");
            if ambient {
                grant(inheritable, "inheritable");
                grant(kept, "ambient");
            }
        }
        mark_capabilities(done, said);
        if process.user.uid != 0 && !ambient {
            done.note(said, "a user other than root keeps no capability over exec unless it is an ambient one");
        }
    }
    for said in &overrides.dropped_capabilities {
        let Some(sets) = &mut process.capabilities else { continue };
        let dropped = names(said.value);
        let Capabilities { bounding, effective, permitted, inheritable, ambient } = sets;
        for set in [bounding, effective, permitted, inheritable, ambient] {
            set.retain(|known| !dropped.iter().any(|name| is_same(known, name)));
        }
        mark_capabilities(done, said);
    }
}

fn mark_capabilities(done: &mut Applied, said: &Sourced<CapabilityBits>) {
    done.origins.amend("/process/capabilities", &said.origin);
    done.origins.amend("/process/capabilities/bounding", &said.origin);
}

fn names(bits: CapabilityBits) -> Vec<&'static str> {
    CAPABILITIES.iter().enumerate().filter(|(number, _)| bits & (1 << number) != 0).map(|(_, name)| *name).collect()
}

/// As the planner takes them: in any case, with or without the prefix.
fn is_same(written: &str, name: &str) -> bool {
    let upper = written.to_ascii_uppercase();
    upper == name || upper == name["CAP_".len()..]
}

fn of_root(spec: &mut Spec, overrides: &Overrides, known: &RootfsFacts, done: &mut Applied) {
    let Some(root) = &mut spec.root else { return };
    match &overrides.read_only {
        Some(said) if overrides.untrusted && root.readonly && !said.value => {
            done.note(said, "ignored: the file is not trusted, and this would take a protection away");
        }
        Some(said) => {
            root.readonly = said.value;
            done.origins.replace("/root/readonly", &said.origin);
        }
        None => {}
    }
    let Some(said) = &overrides.volatile else { return };
    done.origins.replace("/root/volatile", &said.origin);
    root.volatile = match (said.value, &known.usr_links) {
        (Volatile::No, _) => None,
        (Volatile::Overlay, _) => Some(VolatileRoot::Overlay { scratch: known.scratch.clone() }),
        (Volatile::State, _) => {
            root.readonly = true;
            done.origins.replace("/root/readonly", &said.origin);
            Some(VolatileRoot::State)
        }
        (Volatile::Yes, Some(Ok(links))) => Some(VolatileRoot::OnlyUsr(links.clone())),
        (Volatile::Yes, Some(Err(reason))) => {
            let reason = reason.clone();
            return done.problem(said, reason);
        }
        (Volatile::Yes, None) => return done.problem(said, "the container's root was not looked at"),
    };
}

/// As systemd-nspawn: a mount point before those below it, whatever the order in which they were named.
fn of_mounts(spec: &mut Spec, overrides: &Overrides, done: &mut Applied) {
    let mut mounts: Vec<_> = overrides.mounts.iter().collect();
    mounts.sort_by_key(|said| said.value.mount.destination.split('/').filter(|part| !part.is_empty()).count());
    for said in mounts {
        done.origins.replace(format!("/mounts/{}", spec.mounts.len()), &said.origin);
        spec.mounts.push(said.value.mount.clone());
    }
}

fn of_namespaces(linux: &mut Linux, overrides: &Overrides, done: &mut Applied) {
    if let Some(said) = &overrides.private_users {
        let (first, count) = said.value;
        let index = put_namespace(linux, Namespace { kind: "user".into(), path: None });
        let map = vec![IdMapping { container_id: 0, host_id: first, size: count }];
        (linux.uid_mappings, linux.gid_mappings) = (map.clone(), map);
        done.origins.replace(format!("/linux/namespaces/{index}"), &said.origin);
        done.origins.replace("/linux/uidMappings", &said.origin);
        done.origins.replace("/linux/gidMappings", &said.origin);
    }
}

fn of_system_calls(linux: &mut Linux, overrides: &Overrides, done: &mut Applied) {
    if !overrides.system_calls.is_empty() {
        let before = linux.seccomp.take();
        linux.seccomp = filter::apply(before, &overrides.system_calls, &mut done.notes);
        overrides.system_calls.iter().for_each(|said| done.origins.amend("/linux/seccomp", &said.origin));
    }
    if let Some(said) = overrides.suppress_sync.as_ref().filter(|said| said.value) {
        linux.seccomp = Some(filter::suppress_sync(linux.seccomp.take()));
        done.origins.amend("/linux/seccomp", &said.origin);
    }
}
