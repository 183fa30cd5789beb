//! `rspawn policy show`: the policy in force, every default spelt out, in the form of a policy file.
use std::fmt::Write;

use rspawn_proto::plan::NodeKind;
use rspawn_proto::policy::{DeviceRule, Enforcement, PathRule, Policy};

use crate::describe;
use rspawn_planner::policy::Parsed;

/// The whole policy. What the file does not set is marked.
pub fn text(parsed: &Parsed) -> String {
    let Parsed { policy, set, .. } = parsed;
    let mut out = String::new();
    for (key, value) in values(policy) {
        let unset = if key == "bind.allow" { "the bundle, and what is below it" } else { value.as_str() };
        match set.contains_key(key) {
            true => writeln!(out, "{key} = {value}"),
            // As a comment where no words of the file say it.
            false if key == "bind.allow" || key == "filesystems.allow" => writeln!(out, "# {key} = {unset} (default)"),
            false => writeln!(out, "{key} = {value}  # default"),
        }
        .expect("a string takes all text");
    }
    out
}

fn values(policy: &Policy) -> Vec<(&'static str, String)> {
    let required = |is: bool| if is { "required" } else { "allowed" }.to_string();
    let mode = match policy.mode {
        Enforcement::Off => "off",
        Enforcement::Warn => "warn",
        Enforcement::Enforce => "enforce",
    };
    let filesystems = if policy.usual_filesystems {
        "proc tmpfs devpts overlay ramfs; sysfs and mqueue of namespaces of its own; cgroups of its own namespace, or \
         read-only"
            .to_string()
    } else {
        list(&policy.filesystems)
    };
    vec![
        ("mode", mode.into()),
        ("bind.allow", paths(Some(&policy.bind_allow))),
        ("bind.deny", paths(Some(&policy.bind_deny))),
        ("caps.max", capabilities(policy.capabilities)),
        ("no_new_privs", required(policy.no_new_privileges)),
        ("seccomp", required(policy.seccomp)),
        ("seccomp.must-deny", calls(policy)),
        ("userns", required(policy.user_namespace)),
        ("userns.min-host-id", policy.min_host_id.to_string()),
        ("namespaces.own", words(policy.own_namespaces.iter().map(|kind| kind.name().into()))),
        ("join.allow", paths(Some(&policy.join_allow))),
        ("devices.allow", policy.devices.as_ref().map_or("any".into(), |rules| words(rules.iter().map(device)))),
        ("sysctl.allow", policy.sysctls.as_ref().map_or("any".into(), |keys| words(keys.iter().map(sysctl)))),
        ("filesystems.allow", filesystems),
        ("kernel", if policy.protect_kernel { "protected" } else { "writable" }.into()),
        ("hooks.allow", paths(policy.hooks.as_ref())),
        ("systemd.properties", list(&policy.properties)),
        ("net-devices.allow", list(&policy.net_devices)),
        ("cgroups.allow", paths(policy.cgroups.as_ref())),
        ("resctrl.allow", list(&policy.resctrl)),
    ]
}

fn words(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".into() } else { words.join(" ") }
}

fn list(names: &Option<Vec<String>>) -> String {
    names.as_ref().map_or("any".into(), |names| words(names.iter().cloned()))
}

fn paths(rules: Option<&Vec<PathRule>>) -> String {
    let one = |rule: &PathRule| {
        format!("{}{}{}", rule.path, if rule.below { "/**" } else { "" }, if rule.read_only { ":ro" } else { "" })
    };
    rules.map_or("any".into(), |rules| words(rules.iter().map(one)))
}

fn capabilities(bits: u64) -> String {
    if bits == u64::MAX { "all".into() } else { words(describe::capabilities(bits).into_iter()) }
}

fn calls(policy: &Policy) -> String {
    let mut names: Vec<String> = policy.must_deny.iter().map(|call| call.name.clone()).collect();
    names.dedup();
    words(names.into_iter())
}

fn device(rule: &DeviceRule) -> String {
    let kind = if rule.kind == NodeKind::Char { 'c' } else { 'b' };
    let minor = rule.minor.map_or("*".into(), |minor| minor.to_string());
    format!("{kind} {}:{minor}", rule.major)
}

fn sysctl(key: &String) -> String {
    if key.ends_with(['.', '/']) { format!("{key}*") } else { key.clone() }
}

#[cfg(test)]
mod tests {
    use super::text;
    use rspawn_planner::policy::parse;

    #[test]
    fn what_is_shown_reads_as_the_same_policy() {
        for file in ["", "mode = enforce\nbind.allow = any\nhooks.allow = any\ncaps.max = all\nsysctl.allow = net.*\n"]
        {
            let parsed = parse(file).unwrap();
            let shown = text(&parsed);
            let mut again = parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}")).policy;
            // Said in a comment, which has no words of its own.
            again.usual_filesystems = parsed.policy.usual_filesystems;
            assert_eq!(again, parsed.policy, "{shown}");
        }
    }
}
