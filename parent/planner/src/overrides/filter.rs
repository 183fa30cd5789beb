//! `--system-call-filter=`: systemd's words, laid over the seccomp profile that the container has.
//!
//! As in systemd-nspawn the words change a filter that is there: they permit, or with `~` prohibit. A prohibition wins
//! over a permission, whoever said either. Where the bundle has no filter everything is permitted already, so only
//! prohibitions have an effect.
use crate::prelude::*;
use alloc::collections::BTreeSet;

use super::sourced::Sourced;
use super::syscall_sets::SETS;
use crate::oci::seccomp::{Seccomp, SyscallRule};
use crate::problem::{Problem, did_you_mean};
use crate::seccomp::arch::is_known_call;
use crate::seccomp::known_calls;

/// One list of calls, sets resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterWords {
    pub prohibit: bool,
    pub calls: BTreeSet<&'static str>,
}

/// `[~]NAME…`, between spaces; a name is a call or a set.
pub fn parse(text: &str) -> Result<FilterWords, String> {
    let (prohibit, list) = text.strip_prefix('~').map_or((false, text), |list| (true, list));
    let mut calls = BTreeSet::new();
    for word in list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
        add(word, &mut calls)?;
    }
    if calls.is_empty() { Err("it names no system call".into()) } else { Ok(FilterWords { prohibit, calls }) }
}

fn add(word: &str, calls: &mut BTreeSet<&'static str>) -> Result<(), String> {
    if word == "@known" {
        calls.extend(known_calls());
        return Ok(());
    }
    if word.starts_with('@') {
        let found = SETS.iter().find(|(name, _)| *name == word);
        let names = || SETS.iter().map(|(name, _)| *name);
        let (_, members) =
            found.ok_or_else(|| format!("there is no set of system calls {word:?}{}", did_you_mean(word, names())))?;
        return members.split(' ').try_for_each(|member| add_member(member, calls));
    }
    let known = known_calls().find(|known| *known == word);
    let message = || format!("there is no system call {word:?}{}", did_you_mean(word, known_calls()));
    calls.insert(known.ok_or_else(message)?);
    Ok(())
}

/// A member of a set: systemd's sets name calls of machines that rspawn has no table for.
fn add_member(member: &'static str, calls: &mut BTreeSet<&'static str>) -> Result<(), String> {
    if member.starts_with('@') {
        return add(member, calls);
    }
    if is_known_call(member) {
        calls.insert(member);
    }
    Ok(())
}

const EPERM: u32 = 1;

/// Changes a profile. `None` where there is no filter before and nothing to prohibit; the notes say what had no effect.
pub fn apply(profile: Option<Seccomp>, lists: &[Sourced<FilterWords>], notes: &mut Vec<Problem>) -> Option<Seccomp> {
    let of_kind = |prohibit: bool| lists.iter().filter(move |said| said.value.prohibit == prohibit);
    let calls = |prohibit: bool| -> BTreeSet<&str> {
        of_kind(prohibit).flat_map(|said| said.value.calls.iter().copied()).collect()
    };
    let prohibited = calls(true);
    let permitted: BTreeSet<&str> = calls(false).difference(&prohibited).copied().collect();
    let profile = profile.filter(|profile| !profile.is_disabled());
    if profile.is_none() {
        notes.extend(of_kind(false).map(|said| {
            Problem::new(
                said.origin.clone(),
                "has no effect: the container has no seccomp filter that would prohibit it",
            )
        }));
        if prohibited.is_empty() {
            return None;
        }
    }
    let open = || Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
    let mut profile = profile.unwrap_or_else(open);
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| !prohibited.contains(name.as_str()) && !permitted.contains(name.as_str()));
    }
    // A rule that names no call any more says nothing.
    profile.syscalls.retain(|rule| !rule.names.is_empty());
    let rule = |calls: BTreeSet<&str>, action: &str, errno_ret| SyscallRule {
        name: String::new(),
        names: calls.into_iter().map(str::to_string).collect(),
        action: action.into(),
        errno_ret,
        args: Vec::new(),
    };
    if !permitted.is_empty() {
        profile.syscalls.push(rule(permitted, "SCMP_ACT_ALLOW", None));
    }
    if !prohibited.is_empty() {
        profile.syscalls.push(rule(prohibited, "SCMP_ACT_ERRNO", Some(EPERM)));
    }
    Some(profile)
}

/// `SuppressSync=`: what asks for data to reach the disk succeeds at once (systemd.nspawn(5)).
pub fn suppress_sync(profile: Option<Seccomp>) -> Seccomp {
    const CALLS: [&str; 7] =
        ["arm_sync_file_range", "fdatasync", "fsync", "msync", "sync", "sync_file_range", "syncfs"];
    let open = || Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
    let mut profile = profile.filter(|profile| !profile.is_disabled()).unwrap_or_else(open);
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| !CALLS.contains(&name.as_str()));
    }
    profile.syscalls.retain(|rule| !rule.names.is_empty());
    profile.syscalls.push(SyscallRule {
        name: String::new(),
        names: CALLS.map(str::to_string).into(),
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(0),
        args: Vec::new(),
    });
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_sets() {
        let words = parse("@system-service").unwrap();
        assert!(words.calls.contains("read") && words.calls.contains("fsync") && !words.calls.contains("mount"));
        assert!(parse("~@mount reboot").unwrap().calls.contains("reboot"));
        assert!(parse("@known").unwrap().calls.len() > 400);
        for (bad, hint) in [("@mout", "@mount?"), ("opennat", "openat?"), ("~", ""), ("", "")] {
            assert!(parse(bad).unwrap_err().contains(hint), "{bad}");
        }
        for (name, members) in SETS {
            assert!(members.split(' ').all(|m| !m.starts_with('@') || SETS.iter().any(|(n, _)| n == &m)), "{name}");
        }
    }

    #[test]
    fn a_prohibition_wins() {
        let allow = SyscallRule {
            name: String::new(),
            names: vec!["read".into(), "mount".into()],
            action: "SCMP_ACT_ALLOW".into(),
            ..SyscallRule::default()
        };
        let profile = Seccomp { default_action: "SCMP_ACT_ERRNO".into(), syscalls: vec![allow], ..Seccomp::default() };
        let said = |text: &str| Sourced::new(parse(text).unwrap(), text);
        let changed = apply(Some(profile), &[said("~mount"), said("mount umount2")], &mut Vec::new()).unwrap();
        let rules: Vec<(String, &str)> =
            changed.syscalls.iter().map(|rule| (rule.names.join(" "), rule.action.as_str())).collect();
        let expected = [("read", "SCMP_ACT_ALLOW"), ("umount2", "SCMP_ACT_ALLOW"), ("mount", "SCMP_ACT_ERRNO")];
        assert_eq!(rules, expected.map(|(names, action)| (names.to_string(), action)));
        let mut notes = Vec::new();
        assert_eq!(apply(None, &[said("@mount")], &mut notes), None);
        assert_eq!(notes.len(), 1);
        assert_eq!(apply(None, &[said("~@mount")], &mut notes).unwrap().default_action, "SCMP_ACT_ALLOW");
    }
}
