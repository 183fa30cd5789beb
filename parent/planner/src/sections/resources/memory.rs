//! `memory`. v1 limits memory and memory with swap; v2 limits memory and swap.
use super::settings::{ControllerLocation, CurrentLimits, Settings};
use crate::oci::resources::Memory;
use crate::prelude::*;

pub fn plan(settings: &mut Settings, memory: &Memory) {
    if memory.kernel.is_some_and(|limit| limit != 0) {
        // Deprecated by the kernel in 5.4, and without effect since 5.16.
        settings.note("memory/kernel", "ignored, as runc does: the kernel has no limit of kernel memory any more");
    }
    if memory.use_hierarchy == Some(false) {
        settings.note("memory/useHierarchy", "ignored: the kernel always accounts for the cgroups below");
    }
    let fields = [
        ("memory/limit", memory.limit.is_some_and(|limit| limit != 0)),
        ("memory/reservation", memory.reservation.is_some_and(|limit| limit != 0)),
        ("memory/swap", memory.swap.is_some_and(|limit| limit != 0)),
        ("memory/kernelTCP", memory.kernel_tcp.is_some_and(|limit| limit != 0)),
        ("memory/swappiness", memory.swappiness.is_some()),
        ("memory/disableOOMKiller", memory.disable_oom_killer),
    ];
    let Some((first, _)) = fields.into_iter().find(|(_, given)| *given) else { return };
    for (field, limit) in [("limit", memory.limit), ("reservation", memory.reservation), ("swap", memory.swap)] {
        if let Some(limit) = limit.filter(|limit| *limit < -1) {
            settings
                .problem(&format!("memory/{field}"), format!("{limit} is not a limit; -1 means that there is none"));
        }
    }
    let used = settings.now.usage.filter(|_| memory.check_before_update);
    if let (Some(limit @ 1..), Some(used)) = (memory.limit, used)
        && used >= limit
    {
        let message = format!("{limit} is not above the {used} bytes in use, as /memory/checkBeforeUpdate wants it");
        settings.problem("memory/limit", message);
    }
    match settings.home(first, "memory", "memory") {
        Some(home @ ControllerLocation::V1(_)) => v1(settings, home, memory),
        Some(home @ ControllerLocation::V2(_)) => v2(settings, home, memory),
        None => {}
    }
}

/// A limit that is set: 0 counts as absent, as to runc.
fn given(limit: Option<i64>) -> Option<i64> {
    limit.filter(|limit| *limit != 0)
}

fn v1(settings: &mut Settings, home: ControllerLocation, memory: &Memory) {
    let limit = given(memory.limit);
    // Who lifts the limit of memory alone means swap too.
    let swap = given(memory.swap).or(limit.filter(|limit| *limit == -1));
    let mut both =
        [("memory/limit", "memory.limit_in_bytes", limit), ("memory/swap", "memory.memsw.limit_in_bytes", swap)];
    // The kernel wants the second never below the first, at no moment.
    if swap.is_some_and(|swap| settings.now.memory.is_some_and(|now| swap == -1 || swap >= now)) {
        both.reverse();
    }
    if let (Some(limit), None, Some(now)) = (limit, swap, settings.now.memory_and_swap)
        && limit > now
    {
        settings.problem("memory/limit", above(limit, now));
    }
    for (field, file, value) in both.into_iter().chain([
        ("memory/reservation", "memory.soft_limit_in_bytes", given(memory.reservation)),
        ("memory/kernelTCP", "memory.kmem.tcp.limit_in_bytes", given(memory.kernel_tcp)),
    ]) {
        match value {
            // Without accounting for swap there is no limit of it to lift.
            Some(-1) if field == "memory/swap" => settings.set_if_there(home, field, file, -1),
            Some(value) => settings.set(home, field, file, value),
            None => {}
        }
    }
    if memory.disable_oom_killer {
        settings.set(home, "memory/disableOOMKiller", "memory.oom_control", 1);
    }
    match memory.swappiness {
        Some(swappiness @ 0..=100) => settings.set(home, "memory/swappiness", "memory.swappiness", swappiness),
        Some(other) => settings.problem("memory/swappiness", format!("{other} is not from 0 to 100")),
        None => {}
    }
}

fn v2(settings: &mut Settings, home: ControllerLocation, memory: &Memory) {
    const GONE: &str = "ignored, as runc does: cgroup v2 has no such setting";
    if given(memory.kernel_tcp).is_some() {
        settings.note("memory/kernelTCP", GONE);
    }
    if memory.swappiness.is_some() {
        settings.note("memory/swappiness", GONE);
    }
    if memory.disable_oom_killer {
        settings.problem("memory/disableOOMKiller", "cgroup v2 cannot turn the OOM killer off");
    }
    let (limit, both) = (given(memory.limit), given(memory.swap));
    let field = if both.is_some() { "memory/swap" } else { "memory/limit" };
    match swap_alone(limit, both, settings.now) {
        // Where swap is not accounted for there is none: runc takes that for either of the two as well.
        Ok(Some(swap @ (-1 | 0))) => settings.set_if_there(home, field, "memory.swap.max", amount(swap)),
        Ok(Some(swap)) => settings.set(home, field, "memory.swap.max", swap),
        Ok(None) => {}
        Err(message) => settings.problem(field, message),
    }
    if let Some(limit) = given(memory.limit) {
        settings.set(home, "memory/limit", "memory.max", amount(limit));
    }
    if let Some(reservation) = given(memory.reservation) {
        settings.set(home, "memory/reservation", "memory.low", amount(reservation));
    }
}

/// The limit of swap alone, where limits of memory, of memory and swap together, or both are given. runc's rules.
fn swap_alone(limit: Option<i64>, both: Option<i64>, now: CurrentLimits) -> Result<Option<i64>, String> {
    let finite = |limit: Option<i64>| limit.filter(|limit| *limit != i64::MAX);
    match (limit, both) {
        (_, Some(-1)) | (Some(-1), None) => Ok(Some(-1)),
        // Beside memory without a limit there is no sum: it is taken for the limit of swap.
        (Some(-1), Some(swap)) => Ok(Some(swap)),
        // Of two that belong together, the one that is not given stays: here the limit of memory,
        (limit, Some(both)) => match limit.or(finite(now.memory)) {
            None => Err("cgroup v2 needs a limit of memory beside that of memory and swap together".into()),
            Some(limit) if both < limit => {
                Err("it limits memory and swap together, and is below the limit of memory".into())
            }
            Some(limit) => Ok(Some(both.saturating_sub(limit))),
        },
        // and here that of both together.
        (Some(limit), None) => match finite(now.memory).zip(finite(now.swap)) {
            None => Ok(None),
            Some((memory, swap)) => match memory.saturating_add(swap) {
                both if limit > both => Err(above(limit, both)),
                both => Ok(Some(both - limit)),
            },
        },
        (None, None) => Ok(None),
    }
}

fn above(limit: i64, both: i64) -> String {
    format!("{limit} is above the limit of memory and swap together, {both}: it takes one of both")
}

fn amount(limit: i64) -> String {
    if limit == -1 { "max".into() } else { limit.to_string() }
}
