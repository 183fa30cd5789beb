//! `linux.resources.devices`: who may use which device. What no rule speaks of is denied; of those that do, the last
//! decides, for each way of use by itself.
use crate::prelude::*;
use rspawn_proto::check::MAX_DEVICE_RULES;
use rspawn_proto::plan::{DeviceAccess, NodeKind, access};
use rspawn_proto::policy::DEFAULT_DEVICES;

use crate::oci::resources::DeviceRule;
use crate::problem::Problem;

/// A rule and the JSON pointer that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub pointer: String,
    pub access: DeviceAccess,
}

/// The rules of a configuration, then those of runc's that every container has: it may make any node, and use the
/// devices that are no part of the machine.
pub fn rules(devices: &[DeviceRule], base: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (index, device) in devices.iter().enumerate() {
        let pointer = format!("{base}/devices/{index}");
        match rule(device) {
            Ok(access) => rules.push(Rule { pointer, access }),
            Err((field, message)) => problems.push(Problem::new(format!("{pointer}/{field}"), message)),
        }
    }
    let default = |access| Rule { pointer: "rule: default device".into(), access };
    let make = |kind| DeviceAccess { allow: true, kind: Some(kind), major: None, minor: None, access: access::MKNOD };
    let usable = |(major, minor)| DeviceAccess {
        allow: true,
        kind: Some(NodeKind::Char),
        major: Some(major),
        minor,
        access: access::ALL,
    };
    rules.extend([NodeKind::Char, NodeKind::Block].map(make).map(default));
    rules.extend(DEFAULT_DEVICES.map(usable).map(default));
    let rules = after_last_for_all(rules);
    if rules.len() > MAX_DEVICE_RULES {
        let message = format!(
            "there are {} rules, with those that every container has; rspawn takes at most {MAX_DEVICE_RULES}",
            rules.len()
        );
        problems.push(Problem::new(format!("{base}/devices"), message));
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

/// One rule, or the field that is wrong with it and why.
fn rule(device: &DeviceRule) -> Result<DeviceAccess, (&'static str, String)> {
    let kind = match device.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("c" | "u") => Some(NodeKind::Char),
        Some("b") => Some(NodeKind::Block),
        Some(other) => return Err(("type", format!("there is no type {other:?}: the types are a (all), c, b"))),
    };
    let number = |field: &'static str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err((field, format!("{number} is not a device number; -1 means all"))),
        },
    };
    let mut ways = 0;
    for letter in device.access.chars() {
        ways |= match letter {
            'r' => access::READ,
            'w' => access::WRITE,
            'm' => access::MKNOD,
            _ => return Err(("access", format!("{:?} has a letter other than r, w and m", device.access))),
        };
    }
    if ways == 0 {
        return Err(("access", "it must be some of the letters r, w and m".to_string()));
    }
    let (major, minor) = (number("major", device.major)?, number("minor", device.minor)?);
    Ok(DeviceAccess { allow: device.allow, kind, major, minor, access: ways })
}

fn is_for_all(rule: &DeviceAccess) -> bool {
    (rule.kind, rule.major, rule.minor, rule.access) == (None, None, None, access::ALL)
}

/// Leaves out what the last rule for everything overrides, and that rule itself where it only says the default.
fn after_last_for_all(mut rules: Vec<Rule>) -> Vec<Rule> {
    if let Some(last) = rules.iter().rposition(|rule| is_for_all(&rule.access)) {
        rules.drain(..last + usize::from(!rules[last].access.allow));
    }
    rules
}

/// The same rules for cgroup v1. It keeps a default and a set of exceptions, of which one alone must speak of all that
/// is asked for; to take back a part of an exception is what it cannot do.
pub fn for_v1(rules: Vec<Rule>) -> Result<Vec<DeviceAccess>, Vec<Problem>> {
    let (mut exceptions, mut problems): (Vec<DeviceAccess>, _) = (Vec::new(), Vec::new());
    let default = rules.first().is_some_and(|rule| is_for_all(&rule.access) && rule.access.allow);
    for Rule { pointer, access: rule } in rules.iter().skip(usize::from(default)) {
        let kinds = rule.kind.map_or(vec![NodeKind::Char, NodeKind::Block], |kind| vec![kind]);
        for rule in kinds.into_iter().map(|kind| DeviceAccess { kind: Some(kind), ..*rule }) {
            if rule.allow == default {
                if !take_back(&mut exceptions, &rule) {
                    let message = "cgroup v1 cannot take back a part of what an earlier rule says";
                    problems.push(Problem::new(pointer.clone(), message));
                }
            } else if let Some(same) = exceptions.iter_mut().find(|other| covers(other, &rule) && covers(&rule, other))
            {
                same.access |= rule.access;
            } else {
                exceptions.push(rule);
            }
        }
    }
    let everything = DeviceAccess { allow: true, kind: None, major: None, minor: None, access: access::ALL };
    let rules = default.then_some(everything).into_iter().chain(exceptions).collect();
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

/// Takes a rule out of the exceptions; whether that could be done.
fn take_back(exceptions: &mut Vec<DeviceAccess>, rule: &DeviceAccess) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    let concerns = |other: &DeviceAccess| {
        other.access & rule.access != 0
            && other.kind == rule.kind
            && meet(other.major, rule.major)
            && meet(other.minor, rule.minor)
    };
    if exceptions.iter().any(|other| concerns(other) && !covers(rule, other)) {
        return false;
    }
    exceptions.iter_mut().filter(|other| covers(rule, other)).for_each(|other| other.access &= !rule.access);
    exceptions.retain(|other| other.access != 0);
    true
}

/// Whether a rule speaks of every device that another speaks of.
fn covers(rule: &DeviceAccess, other: &DeviceAccess) -> bool {
    rule.kind == other.kind
        && (rule.major.is_none() || rule.major == other.major)
        && (rule.minor.is_none() || rule.minor == other.minor)
}
