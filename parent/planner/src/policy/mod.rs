//! The administrator's policy file: `key = value` lines. Trusted input, read before privileges go.
use crate::prelude::*;
use alloc::collections::BTreeMap;

use rspawn_proto::policy::{Enforcement, Policy};

use crate::facts::Ids;
use crate::problem::did_you_mean;

mod as_written;
mod defaults;
mod words;

pub use as_written::violations;
use words::any_or;

/// Keys whose lines add up.
const LISTS: [&str; 12] = [
    "bind.allow", "bind.deny", "seccomp.must-deny", "join.allow", "devices.allow", "sysctl.allow", "filesystems.allow",
    "hooks.allow", "systemd.properties", "net-devices.allow", "cgroups.allow", "resctrl.allow",
];
/// Keys that are set once.
const SCALARS: [&str; 8] =
    ["mode", "kernel", "caps.max", "no_new_privs", "seccomp", "userns", "userns.min-host-id", "namespaces.own"];

/// Adapts a policy to who invokes rspawn.
pub fn adapt(policy: &mut Policy, ids: &Ids) {
    policy.invoker_is_confined = ids.rootless || !ids.initial;
    if ids.rootless {
        // rspawn-setup numbers ids in its own way, and the kernel has no others for it than the caller's.
        policy.min_host_id = 0;
    }
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
