//! `cpu`: time, and the processors and memory nodes that it is spent on.
use super::settings::{ControllerLocation, CurrentLimits, Settings};
use crate::oci::resources::Cpu;
use crate::prelude::*;

/// The kernel's bounds of cpu.shares; it takes what is beyond for the bound, without a word.
const SHARES: core::ops::RangeInclusive<u64> = 2..=262_144;
/// Microseconds, where a quota is given and no period.
const DEFAULT_PERIOD: u64 = 100_000;

pub fn plan(settings: &mut Settings, cpu: &Cpu) {
    let fields = [
        ("cpu/shares", set(cpu.shares).is_some()),
        ("cpu/quota", set(cpu.quota).is_some()),
        ("cpu/period", set(cpu.period).is_some()),
        ("cpu/burst", cpu.burst.is_some()),
        ("cpu/realtimeRuntime", set(cpu.realtime_runtime).is_some()),
        ("cpu/realtimePeriod", set(cpu.realtime_period).is_some()),
        ("cpu/idle", cpu.idle.is_some()),
    ];
    let Some((first, _)) = fields.into_iter().find(|(_, given)| *given) else { return };
    if let Some(idle) = cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
        settings.problem("cpu/idle", format!("{idle} is neither 0 nor 1"));
    }
    match settings.home(first, "cpu", "cpu") {
        Some(home @ ControllerLocation::V1(_)) => v1(settings, home, cpu),
        Some(home @ ControllerLocation::V2(_)) => v2(settings, home, cpu),
        None => {}
    }
}

/// A value that is set: 0 counts as absent, as to runc.
fn set<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn v1(settings: &mut Settings, home: ControllerLocation, cpu: &Cpu) {
    let now = settings.now;
    let shares = set(cpu.shares).filter(|_| cpu.idle.or(now.idle) != Some(1));
    if let Some(shares) = shares.filter(|shares| !SHARES.contains(shares)) {
        settings.problem("cpu/shares", format!("{shares} is not from {} to {}", SHARES.start(), SHARES.end()));
        return;
    }
    let text = |value: Option<u64>| value.map(|value| value.to_string());
    let signed = |value: Option<i64>| value.map(|value| value.to_string());
    let mut bandwidth = [
        ("cpu/period", "cpu.cfs_period_us", text(set(cpu.period))),
        ("cpu/quota", "cpu.cfs_quota_us", signed(set(cpu.quota))),
    ];
    let mut real_time = [
        ("cpu/realtimePeriod", "cpu.rt_period_us", text(set(cpu.realtime_period))),
        ("cpu/realtimeRuntime", "cpu.rt_runtime_us", signed(set(cpu.realtime_runtime))),
    ];
    // The share of time that the two make is never to be above both the old and the new one: a cgroup above may not
    // have as much to give.
    let shorter =
        |given: Option<u64>, now: Option<u64>| set(given).is_some_and(|given| now.is_some_and(|now| given < now));
    if shorter(cpu.period, now.period) {
        bandwidth.reverse();
    }
    if shorter(cpu.realtime_period, now.realtime_period) {
        real_time.reverse();
    }
    // A burst is at most the quota, at every moment.
    let burst = [("cpu/burst", "cpu.cfs_burst_us", text(cpu.burst))];
    let early = is_early(now, cpu.burst);
    let rest = [("cpu/idle", "cpu.idle", signed(cpu.idle)), ("cpu/shares", "cpu.shares", text(shares))];
    let (first, last): (Vec<_>, Vec<_>) = burst.into_iter().partition(|_| early);
    for (field, file, value) in real_time.into_iter().chain(rest).chain(first).chain(bandwidth).chain(last) {
        if let Some(value) = value {
            settings.set(home, field, file, value);
        }
    }
}

/// Whether a burst fits the quota that holds, so that it may be set before a lower one comes.
fn is_early(now: CurrentLimits, burst: Option<u64>) -> bool {
    let fits = |burst: u64| now.quota.is_some_and(|quota| u64::try_from(quota).is_ok_and(|quota| burst <= quota));
    burst.is_some_and(fits)
}

fn v2(settings: &mut Settings, home: ControllerLocation, cpu: &Cpu) {
    let now = settings.now;
    for (field, given) in [
        ("cpu/realtimeRuntime", set(cpu.realtime_runtime).is_some()),
        ("cpu/realtimePeriod", set(cpu.realtime_period).is_some()),
    ] {
        if given {
            settings.problem(field, "cgroup v2 cannot give out real time");
        }
    }
    if let Some(idle) = cpu.idle {
        settings.set(home, "cpu/idle", "cpu.idle", idle);
    }
    // The kernel refuses a weight for a cgroup that runs only when nobody else does.
    if let Some(shares) = set(cpu.shares).filter(|_| cpu.idle.or(now.idle) != Some(1)) {
        settings.set(home, "cpu/shares", "cpu.weight", weight(shares));
    }
    let early = is_early(now, cpu.burst);
    if let Some(burst) = cpu.burst.filter(|_| early) {
        settings.set(home, "cpu/burst", "cpu.max.burst", burst);
    }
    let (quota, period) = (set(cpu.quota), set(cpu.period));
    if quota.is_some() || period.is_some() {
        let field = if quota.is_some() { "cpu/quota" } else { "cpu/period" };
        let quota = quota.or(now.quota).filter(|quota| *quota > 0);
        let quota = quota.map_or("max".to_string(), |quota| quota.to_string());
        let period = period.or(now.period).unwrap_or(DEFAULT_PERIOD);
        settings.set(home, field, "cpu.max", format!("{quota} {period}"));
    }
    if let Some(burst) = cpu.burst.filter(|_| !early) {
        settings.set(home, "cpu/burst", "cpu.max.burst", burst);
    }
}

/// Shares of v1 (2 to 262144, usually 1024) as a weight of v2 (1 to 10000, usually 100): the curve through these three
/// points on which runc 1.4 and crun 1.23 agree.
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = libm::log2(shares as f64);
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            libm::ceil(libm::pow(10.0, exponent)) as u64
        }
    }
}

pub fn cpuset(settings: &mut Settings, cpu: &Cpu) {
    for (field, file, list) in [("cpu/cpus", "cpuset.cpus", &cpu.cpus), ("cpu/mems", "cpuset.mems", &cpu.mems)] {
        if list.is_empty() {
            continue;
        }
        if !list.bytes().all(|b| b.is_ascii_digit() || b"-,:/ ".contains(&b)) {
            settings.problem(field, format!("{list:?} is not a list of numbers such as \"0-3,7\""));
        } else if let Some(home) = settings.home(field, "cpuset", "cpuset") {
            settings.set(home, field, file, list);
        }
    }
}
