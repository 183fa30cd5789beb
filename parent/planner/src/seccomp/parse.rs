//! Judges the names and numbers of a profile; every fault is collected.

use super::arch::{self, Arch};
use super::problems::BASE;
use super::ret;
use super::rules::{Cond, Op, Rule};
use crate::oci::seccomp::{ArgRule, Seccomp, SyscallRule};
use crate::prelude::*;
use crate::problem::{Problem, did_you_mean};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Answer ENOSYS to calls newer than the profile, as runc does.
    pub enosys_stub: bool,
    /// `SECCOMP_FILTER_FLAG_*` bits the kernel has; `None` takes them for granted.
    pub supported_flags: Option<u32>,
    /// A call that no table has is a problem, and not left out.
    pub unknown_calls_fail: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { enosys_stub: true, supported_flags: None, unknown_calls_fail: false }
    }
}

/// `SECCOMP_FILTER_FLAG_*` of `include/uapi/linux/seccomp.h`.
pub const FLAG_TSYNC: u32 = 1;
pub const FLAG_LOG: u32 = 1 << 1;
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The flag names of the spec, also what `rspawn features` lists.
pub const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
];

pub const OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

const EPERM: u32 = 1;
/// Larger values become this one in the kernel (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
const MAX_ARGS: u32 = 6;

/// The profile with every name resolved.
pub struct Parsed<'a> {
    pub default: u32,
    pub arches: Vec<Arch>,
    pub rules: Vec<Rule<'a>>,
    pub flags: u32,
    pub notify: bool,
}

/// Collects faults and warnings on the way.
#[derive(Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Findings {
    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(pointer, message));
    }

    fn warn(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem::new(pointer, message));
    }
}

/// Reads all of `s`. The result means something only without problems.
pub fn parse<'a>(s: &'a Seccomp, native: Arch, options: &Options, found: &mut Findings) -> Parsed<'a> {
    let default = action(
        &Named {
            name: &s.default_action,
            pointer: format!("{BASE}/defaultAction"),
            errno: s.default_errno_ret,
            errno_pointer: format!("{BASE}/defaultErrnoRet"),
        },
        found,
    );
    if default == Some(ret::USER_NOTIF) {
        found.problem(
            format!("{BASE}/defaultAction"),
            "SCMP_ACT_NOTIFY cannot be the default: the container could not even hand over its \
             listener. Name the calls to be notified in syscalls.",
        );
    }
    let default = default.unwrap_or(ret::KILL_THREAD);
    let arches = arches(s, native, found);
    let (mut rules, mut notify) = (Vec::new(), false);
    for (i, rule) in s.syscalls.iter().enumerate() {
        notify |= rule.action == "SCMP_ACT_NOTIFY";
        if let Some(parsed) = syscall(rule, i, options.unknown_calls_fail, found) {
            rules.push(parsed);
        }
    }
    listener(s, notify, found);
    let flags = flags(s, notify, options, found);
    Parsed { default, arches, rules, flags, notify }
}

struct Named<'a> {
    name: &'a str,
    pointer: String,
    errno: Option<u32>,
    errno_pointer: String,
}

/// The filter's return value (seccomp(2), "Return action values").
fn action(given: &Named<'_>, found: &mut Findings) -> Option<u32> {
    let (value, default_data) = match given.name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (ret::KILL_THREAD, None),
        "SCMP_ACT_KILL_PROCESS" => (ret::KILL_PROCESS, None),
        "SCMP_ACT_TRAP" => (ret::TRAP, None),
        "SCMP_ACT_ERRNO" => (ret::ERRNO, Some(EPERM)),
        "SCMP_ACT_TRACE" => (ret::TRACE, Some(EPERM)),
        "SCMP_ACT_ALLOW" => (ret::ALLOW, None),
        "SCMP_ACT_LOG" => (ret::LOG, None),
        "SCMP_ACT_NOTIFY" => (ret::USER_NOTIF, None),
        "" => {
            found.problem(&given.pointer, "an action is required, for example SCMP_ACT_ERRNO.");
            return None;
        }
        other => {
            let hint = did_you_mean(other, ACTIONS);
            let list = ACTIONS.join(", ");
            found.problem(&given.pointer, format!("{other:?} is not a seccomp action{hint}; known: {list}."));
            return None;
        }
    };
    match (default_data, given.errno) {
        (None, None) => Some(value),
        (Some(data), None) => Some(value | data),
        (None, Some(_)) => {
            // config-linux.md: "If the specified action doesn't support
            // errnoRet, the runtime MUST generate an error".
            found.problem(
                &given.errno_pointer,
                format!("{} returns no number; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take one.", given.name),
            );
            None
        }
        (Some(_), Some(data)) if data > ret::DATA => {
            found.problem(
                &given.errno_pointer,
                format!("{data} does not fit: a filter returns 16 bits, at most 65535."),
            );
            None
        }
        (Some(_), Some(data)) => {
            if value == ret::ERRNO && data > MAX_ERRNO {
                found.warn(
                    &given.errno_pointer,
                    format!("the kernel returns {MAX_ERRNO} instead of {data}, its largest errno."),
                );
            }
            Some(value | data)
        }
    }
}

/// The architectures to generate for, the native one first.
fn arches(s: &Seccomp, native: Arch, found: &mut Findings) -> Vec<Arch> {
    let mut arches = vec![native];
    for (i, name) in s.architectures.iter().enumerate() {
        let pointer = format!("{BASE}/architectures/{i}");
        match Arch::from_oci_name(name) {
            Some(arch) if arches.contains(&arch) => {}
            Some(arch) => arches.push(arch),
            None if arch::is_foreign_arch(name) => {
                found.warn(pointer, format!("{name} is ignored: this machine cannot run its programs."))
            }
            None => {
                let hint = did_you_mean(name, arch::oci_names());
                found.problem(pointer, format!("{name:?} is not an architecture{hint}"));
            }
        }
    }
    arches
}

fn syscall<'a>(rule: &'a SyscallRule, i: usize, strict: bool, found: &mut Findings) -> Option<Rule<'a>> {
    let base = format!("{BASE}/syscalls/{i}");
    if !rule.name.is_empty() {
        let name = &rule.name;
        found.warn(
            format!("{base}/name"),
            format!("docker's old form of \"names\": [{name:?}], for which it is taken."),
        );
    } else if rule.names.is_empty() {
        // A protection that was meant would be none.
        found.problem(format!("{base}/names"), "the rule names no system call: the list needs at least one.");
    }
    let ret = action(
        &Named {
            name: &rule.action,
            pointer: format!("{base}/action"),
            errno: rule.errno_ret,
            errno_pointer: format!("{base}/errnoRet"),
        },
        found,
    );
    let mut names = Vec::new();
    let old = (!rule.name.is_empty()).then(|| (format!("{base}/name"), &rule.name));
    let listed = rule.names.iter().enumerate().map(|(j, name)| (format!("{base}/names/{j}"), name));
    for (pointer, name) in listed.chain(old) {
        if name.is_empty() {
            found.problem(pointer, "the name of a call cannot be empty.");
        } else if ret == Some(ret::USER_NOTIF) && name == "write" {
            // As runc: the listener's number travels to the parent by write(2)
            // after the filter is in place.
            found.problem(pointer, "SCMP_ACT_NOTIFY cannot be used for write.");
        } else if arch::is_known_call(name) {
            names.push((name.as_str(), pointer));
        } else {
            match strict {
                true => {
                    let hint =
                        if found.problems.len() < 20 { did_you_mean(name, arch::known_calls()) } else { String::new() };
                    found.problem(pointer, format!("{name:?} is not a known system call{hint}"));
                }
                false => found.warn(pointer, format!("{name:?} is not a known system call; it is skipped.")),
            }
        }
    }
    let conds: Option<Vec<Cond>> = rule
        .args
        .iter()
        .enumerate()
        .map(|(j, arg)| condition(arg, &format!("{base}/args/{j}"), found))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    Some(Rule { names, ret: ret?, alternatives: alternatives(conds?) })
}

/// All conditions together, unless two are about one argument: then each is a
/// rule of its own (runc's libcontainer has always done so).
fn alternatives(conds: Vec<Cond>) -> Vec<Vec<Cond>> {
    let mut indices: Vec<u8> = conds.iter().map(|cond| cond.arg).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() == conds.len() { vec![conds] } else { conds.into_iter().map(|cond| vec![cond]).collect() }
}

fn condition(arg: &ArgRule, base: &str, found: &mut Findings) -> Option<Cond> {
    let index = u8::try_from(arg.index).ok().filter(|_| arg.index < MAX_ARGS);
    if index.is_none() {
        found.problem(
            format!("{base}/index"),
            format!("there is no argument {}; the first is 0, the last 5.", arg.index),
        );
    }
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
        other => {
            let hint = did_you_mean(other, OPERATORS);
            let list = OPERATORS.join(", ");
            found.problem(format!("{base}/op"), format!("{other:?} is not an operator{hint}; known: {list}."));
            return None;
        }
    };
    let (mask, value) = match op {
        Op::MaskedEq => (arg.value, arg.value_two),
        _ => (u64::MAX, arg.value),
    };
    Some(Cond { arg: index?, op, mask, value })
}

fn listener(s: &Seccomp, notify: bool, found: &mut Findings) {
    let pointer = format!("{BASE}/listenerPath");
    if notify && s.listener_path.is_empty() {
        found.problem(pointer, "SCMP_ACT_NOTIFY needs listenerPath, the socket of the agent that answers.");
    } else if !notify && !s.listener_path.is_empty() {
        // runc ignores it as well.
        found.warn(pointer, "no rule uses SCMP_ACT_NOTIFY, so the listener is not contacted.");
    }
    if s.listener_path.is_empty() && !s.listener_metadata.is_empty() {
        found.problem(format!("{BASE}/listenerMetadata"), "listenerMetadata must not be set without listenerPath.");
    }
}

fn flags(s: &Seccomp, notify: bool, options: &Options, found: &mut Findings) -> u32 {
    let supported = options.supported_flags.unwrap_or(u32::MAX);
    let listener = if notify { FLAG_NEW_LISTENER } else { 0 };
    let Some(names) = &s.flags else {
        return listener | (FLAG_SPEC_ALLOW & supported);
    };
    let mut flags = listener;
    for (i, name) in names.iter().enumerate() {
        let pointer = format!("{BASE}/flags/{i}");
        match FLAGS.iter().find(|(known, _)| known == name) {
            // The filter is installed by a process with one thread, and TSYNC
            // excludes NEW_LISTENER (seccomp(2)).
            Some((_, FLAG_TSYNC)) => {}
            Some((_, bit)) if bit & supported == 0 => {
                found.problem(pointer, format!("this kernel does not support {name}."));
            }
            // The kernel answers EINVAL to it without a listener.
            Some((_, FLAG_WAIT_KILLABLE_RECV)) if !notify => {
                found.warn(pointer, format!("{name} means nothing without SCMP_ACT_NOTIFY."));
            }
            Some((_, bit)) => flags |= bit,
            None => {
                let known: Vec<&str> = FLAGS.iter().map(|(known, _)| *known).collect();
                let hint = did_you_mean(name, &known);
                found.problem(pointer, format!("{name:?} is not a seccomp flag{hint}"));
            }
        }
    }
    flags
}
