//! The administrator's policy file: `key = value` lines. Trusted input, read before privileges go.
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rspawn_proto::policy::{Enforcement, PathRule, Policy};

use crate::bundle::{open_regular, read_at_most};
use crate::ids::Ids;
use crate::problem::did_you_mean;

mod as_written;
mod defaults;
mod links;
pub mod show;
mod words;

pub use as_written::violations;
use words::any_or;

/// Read if it exists and no other file is named.
pub const DEFAULT_PATH: &str = "/etc/rspawn/policy.conf";

const MAX_SIZE: u64 = 64 << 10;

/// Keys whose lines add up.
const LISTS: [&str; 12] = [
    "bind.allow", "bind.deny", "seccomp.must-deny", "join.allow", "devices.allow", "sysctl.allow", "filesystems.allow",
    "hooks.allow", "systemd.properties", "net-devices.allow", "cgroups.allow", "resctrl.allow",
];
/// Keys that are set once.
const SCALARS: [&str; 8] =
    ["mode", "kernel", "caps.max", "no_new_privs", "seccomp", "userns", "userns.min-host-id", "namespaces.own"];

/// Loads the policy named, or the default one; without either there is no policy, and everything is allowed. Where it does
/// not say what may be bound, it is `shown` and what is below.
pub fn load(path: Option<&Path>, shown: Option<&str>) -> Result<Policy, String> {
    let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
    let Some(text) = read(path, required)? else { return Ok(Policy::default()) };
    let mut lines = parse(&text).map_err(|error| format!("policy {}: {error}", path.display()))?;
    if lines.bundle_alone {
        lines.policy.bind_allow.extend(shown.map(|path| PathRule { path: path.into(), below: true, read_only: false }));
    }
    let say = |error| format!("policy {}: {error}", path.display());
    let Policy { bind_allow, join_allow, hooks, .. } = &mut lines.policy;
    for rules in [bind_allow, join_allow].into_iter().chain(hooks) {
        links::follow(rules).map_err(say)?;
    }
    Ok(lines.policy)
}

/// Adapts a policy to who invokes rspawn.
pub fn adapt(policy: &mut Policy, ids: &Ids) {
    policy.invoker_is_confined = ids.rootless || !ids.initial;
    if ids.rootless {
        // rspawn-setup numbers ids in its own way, and the kernel has no others for it than the caller's.
        policy.min_host_id = 0;
    }
}

/// The text of a policy file; none where there is no default one.
pub fn read(path: &Path, required: bool) -> Result<Option<String>, String> {
    let say = |error: &dyn std::fmt::Display| format!("policy {}: {error}", path.display());
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(None),
        opened => opened.map_err(|error| say(&error))?,
    };
    let found = file.metadata().map_err(|error| say(&error))?;
    // What anyone but the administrator can write is not the administrator's word.
    // In a user namespace root of the machine, which has no id there, is who owns `/`.
    let root = std::fs::metadata("/").map_err(|error| say(&error))?.uid();
    let owners = [0, root, nix::unistd::geteuid().as_raw()];
    if !owners.contains(&found.uid()) || found.mode() & 0o022 != 0 {
        return Err(say(&"it must belong to root, and only root may write to it"));
    }
    let bytes = read_at_most(file, MAX_SIZE).map_err(|error| say(&error))?;
    let bytes = bytes.ok_or_else(|| say(&"it is larger than 64 KiB"))?;
    String::from_utf8(bytes).map(Some).map_err(|_| say(&"it is not UTF-8"))
}

/// A policy as a file has it.
#[derive(Debug)]
pub struct Parsed {
    pub policy: Policy,
    /// Keys that the file sets, each with the number of its first line and its words.
    pub set: BTreeMap<&'static str, (usize, Vec<String>)>,
    /// Nothing is said of what may be bound: the bundle, and what is below it.
    pub bundle_alone: bool,
}

/// Parses a policy. Unknown keys are errors: a misspelt restriction must not be no restriction.
pub fn parse(text: &str) -> Result<Parsed, String> {
    let mut set: BTreeMap<&'static str, (usize, Vec<String>)> = BTreeMap::new();
    let mut policy = defaults::policy();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let at = |error: String| format!("line {number}: {error}");
        let (key, value) = line.split_once('=').ok_or_else(|| at("there is no `=`".into()))?;
        let words: Vec<String> = value.split_whitespace().map(str::to_string).collect();
        let known = LISTS.iter().chain(&SCALARS).find(|known| **known == key.trim());
        let key = *known.ok_or_else(|| {
            let suggestion = did_you_mean(key.trim(), LISTS.into_iter().chain(SCALARS));
            at(format!("there is no key {:?}{suggestion}", key.trim()))
        })?;
        match set.get_mut(key) {
            Some((first, before)) if SCALARS.contains(&key) => {
                if *before != words {
                    return Err(at(format!(
                        "{key} is {:?} here and {:?} in line {first}",
                        words.join(" "),
                        before.join(" ")
                    )));
                }
                continue;
            }
            Some((_, before)) => before.extend(words.clone()),
            None => drop(set.insert(key, (number, words.clone()))),
        }
        // All words of a list so far: `any` and `none` stand alone.
        let all: Vec<&str> = set[key].1.iter().map(String::as_str).collect();
        assign(&mut policy, key, &all).map_err(at)?;
    }
    let bundle_alone = !set.contains_key("bind.allow");
    Ok(Parsed { policy, set, bundle_alone })
}

fn assign(policy: &mut Policy, key: &str, words: &[&str]) -> Result<(), String> {
    match key {
        "mode" => policy.mode = mode(words)?,
        "bind.allow" => policy.bind_allow = words::paths_with_rights(words)?.unwrap_or_else(words::everywhere),
        "bind.deny" => policy.bind_deny = words::paths(words)?.unwrap_or_else(words::everywhere),
        "caps.max" => policy.capabilities = words::capabilities(words)?,
        "no_new_privs" => policy.no_new_privileges = words::required(words)?,
        "seccomp" => policy.seccomp = words::required(words)?,
        "seccomp.must-deny" => policy.must_deny = words::denied_calls(words)?,
        "kernel" => policy.protect_kernel = words::protected(words)?,
        "userns" => policy.user_namespace = words::required(words)?,
        "userns.min-host-id" => policy.min_host_id = words::id(words)?,
        "namespaces.own" => policy.own_namespaces = words::namespaces(words)?,
        "join.allow" => policy.join_allow = words::paths(words)?.unwrap_or_else(words::everywhere),
        "devices.allow" => policy.devices = any_or(words, |words| words.chunks(2).map(words::device).collect())?,
        "sysctl.allow" => policy.sysctls = any_or(words, words::sysctls)?,
        "filesystems.allow" => {
            policy.usual_filesystems = false;
            policy.filesystems = any_or(words, |words| words::names(words, "a filesystem type"))?;
        }
        "hooks.allow" => policy.hooks = words::paths(words)?,
        "systemd.properties" => policy.properties = any_or(words, |words| words::names(words, "a property"))?,
        "net-devices.allow" => policy.net_devices = any_or(words, |words| words::names(words, "a network device"))?,
        "cgroups.allow" => policy.cgroups = words::paths(words)?,
        "resctrl.allow" => policy.resctrl = any_or(words, |words| words::names(words, "a class of service"))?,
        _ => return Err(format!("there is no key {key:?}")),
    }
    Ok(())
}

fn mode(words: &[&str]) -> Result<Enforcement, String> {
    match words {
        ["off"] => Ok(Enforcement::Off),
        ["warn"] => Ok(Enforcement::Warn),
        ["enforce"] => Ok(Enforcement::Enforce),
        _ => Err("the mode is off, warn or enforce".into()),
    }
}

#[cfg(test)]
mod tests;
