//! `memory`. v1 limits memory and memory with swap; v2 limits memory and swap.
use super::{Home, Settings};
use crate::oci::resources::Memory;

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
            settings.problem(&format!("memory/{field}"), format!("{limit} is no limit; -1 means that there is none"));
        }
    }
    match settings.home(first, "memory", "memory") {
        Some(home @ Home::V1(_)) => v1(settings, home, memory),
        Some(home @ Home::V2(_)) => v2(settings, home, memory),
        None => {}
    }
}

/// A limit that is set: 0 counts as absent, as to runc.
fn given(limit: Option<i64>) -> Option<i64> {
    limit.filter(|limit| *limit != 0)
}

fn v1(settings: &mut Settings, home: Home, memory: &Memory) {
    let limit = given(memory.limit);
    // Who lifts the limit of memory alone means swap too.
    let swap = given(memory.swap).or(limit.filter(|limit| *limit == -1));
    for (field, file, value) in [
        // The kernel wants the second never below the first.
        ("memory/limit", "memory.limit_in_bytes", limit),
        ("memory/swap", "memory.memsw.limit_in_bytes", swap),
        ("memory/reservation", "memory.soft_limit_in_bytes", given(memory.reservation)),
        ("memory/kernelTCP", "memory.kmem.tcp.limit_in_bytes", given(memory.kernel_tcp)),
    ] {
        if let Some(value) = value {
            settings.set(home, field, file, value);
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

fn v2(settings: &mut Settings, home: Home, memory: &Memory) {
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
    match swap_alone(given(memory.limit), given(memory.swap)) {
        Ok(Some(swap)) => settings.set(home, "memory/swap", "memory.swap.max", amount(swap)),
        Ok(None) => {}
        Err(message) => settings.problem("memory/swap", message),
    }
    if let Some(limit) = given(memory.limit) {
        settings.set(home, "memory/limit", "memory.max", amount(limit));
    }
    if let Some(reservation) = given(memory.reservation) {
        settings.set(home, "memory/reservation", "memory.low", amount(reservation));
    }
}

/// The limit of swap where one of memory and swap together is given.
fn swap_alone(memory: Option<i64>, both: Option<i64>) -> Result<Option<i64>, &'static str> {
    match (memory, both) {
        (Some(-1), None) | (_, Some(-1)) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (None | Some(-1), Some(_)) => Err("cgroup v2 needs a limit of memory beside that of memory and swap together"),
        (Some(memory), Some(both)) if both < memory => {
            Err("it is of memory and swap together, and below that of memory")
        }
        (Some(memory), Some(both)) => Ok(Some(both - memory)),
    }
}

fn amount(limit: i64) -> String {
    if limit == -1 { "max".into() } else { limit.to_string() }
}
