//! Lays the verdicts of each architecture out over the whole number range.

use crate::prelude::*;
use alloc::collections::BTreeMap;

use super::arch::{Arch, X32_BIT};
use super::bpf::Section;
use super::parse::Parsed;
use super::ret;
use super::rules::{self, Rule, Verdict};
use crate::problem::Problem;

/// First number of the half no kernel uses.
const BIT_31: u32 = 0x8000_0000;

/// What programs call most, so that kernels before 5.11, which run the filter
/// on every call, do so briefly.
const FREQUENT: &[&str] = &[
    "clock_gettime", "close", "epoll_pwait", "epoll_wait", "futex", "mmap", "openat", "poll", "read", "recvfrom",
    "sendto", "write",
];

/// One section per `AUDIT_ARCH_*`, in the order of `parsed.arches`.
pub fn build(parsed: &Parsed<'_>, enosys_stub: bool) -> Result<Vec<Section>, Problem> {
    let stub = enosys_stub && !is_permissive(parsed.default);
    // A rule that repeats the default decides nothing; libseccomp refuses such
    // rules and runc drops them.
    let effective: Vec<Rule<'_>> = parsed.rules.iter().filter(|rule| rule.ret != parsed.default).cloned().collect();
    let mut sections: Vec<Section> = Vec::new();
    for arch in &parsed.arches {
        if sections.iter().any(|section| section.audit == arch.audit()) {
            continue;
        }
        let mut points = BTreeMap::new();
        for abi in parsed.arches.iter().filter(|abi| abi.audit() == arch.audit()) {
            points.extend(rules::lower(*abi, &effective)?);
        }
        sections.push(Section {
            audit: arch.audit(),
            ranges: overlay(&background(*arch, parsed, stub), points),
            frequent: FREQUENT.iter().filter_map(|name| arch.number(name)).collect(),
        });
    }
    Ok(sections)
}

/// Whether unknown calls get through, or reach a tracer that knows better.
fn is_permissive(default: u32) -> bool {
    let action = default & !ret::DATA;
    matches!(action, ret::ALLOW | ret::LOG | ret::TRACE)
}

/// The largest number the profile names on `arch`.
fn newest(arch: Arch, parsed: &Parsed<'_>) -> Option<u32> {
    let names = parsed.rules.iter().flat_map(|rule| &rule.names);
    let numbers = names.flat_map(|(name, _)| {
        let shared = arch.multiplexed(name).map(|(nr, _)| nr);
        [arch.number(name), shared]
    });
    numbers.flatten().max().filter(|nr| *nr != 0)
}

/// What numbers get that no rule names, as starts of ranges.
fn background(arch: Arch, parsed: &Parsed<'_>, stub: bool) -> Vec<(u32, u32)> {
    let limit = |arch| if stub { newest(arch, parsed) } else { None };
    // Within [from, to): the default up to the newest known call, then ENOSYS.
    let region = |arch: Arch, from: u32| {
        let mut starts = vec![(from, parsed.default)];
        if let Some(next) = limit(arch).and_then(|nr| nr.checked_add(1)) {
            starts.push((next, ret::ERRNO_ENOSYS));
        }
        starts
    };
    if arch.audit() != Arch::X32.audit() {
        return region(arch, 0);
    }
    let listed = |arch| parsed.arches.contains(&arch);
    let mut starts = Vec::new();
    if listed(Arch::X86_64) {
        starts.extend(region(Arch::X86_64, 0));
    } else {
        starts.push((0, ret::KILL_THREAD));
    }
    if listed(Arch::X32) {
        starts.extend(region(Arch::X32, X32_BIT));
    } else {
        starts.push((X32_BIT, ret::KILL_THREAD));
    }
    // runc's stub tells the two ABIs apart by bit 30, libseccomp by order, so
    // numbers with bit 31 but without bit 30 meet x86_64's limit first.
    if listed(Arch::X86_64) && limit(Arch::X86_64).is_some() {
        let above = starts.last().map_or(ret::KILL_THREAD, |(_, value)| *value);
        starts.push((BIT_31, ret::ERRNO_ENOSYS));
        starts.push((BIT_31 | X32_BIT, above));
    }
    // A tracer skips a call by making its number -1 (ptrace(2)); libseccomp
    // keeps that from counting as an x32 call.
    if listed(Arch::X86_64) && !listed(Arch::X32) {
        starts.push((u32::MAX, parsed.default));
    }
    starts
}

/// Puts single numbers over the background and merges neighbours that agree.
fn overlay(background: &[(u32, u32)], points: BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let behind = |nr: u32| {
        let last = background.iter().rfind(|(start, _)| *start <= nr);
        Verdict::Return(last.map_or(ret::KILL_THREAD, |(_, value)| *value))
    };
    let mut starts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for (start, value) in background {
        starts.insert(*start, Verdict::Return(*value));
    }
    for (nr, verdict) in points {
        if let Some(next) = nr.checked_add(1) {
            starts.entry(next).or_insert_with(|| behind(next));
        }
        starts.insert(nr, verdict);
    }
    let mut ranges: Vec<(u32, Verdict)> = starts.into_iter().collect();
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}
