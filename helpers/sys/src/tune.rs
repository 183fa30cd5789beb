//! Limits and scheduling of the calling process, and names of its namespaces.
use rspawn_proto::plan::{MemoryPolicy, Rlimit, Scheduler};

use crate::Result;
use crate::raw::{c_string, sys};

/// Sets a resource limit of a process, 0 for this one.
pub fn set_limit(pid: i32, limit: &Rlimit) -> Result<()> {
    let new = [limit.soft, limit.hard];
    sys!(SYS_prlimit64, pid, u32::from(limit.resource), new.as_ptr(), 0).map(drop)
}

/// A resource limit by its number.
pub fn limit(resource: u8) -> Result<Rlimit> {
    let mut now = [0u64; 2];
    sys!(SYS_prlimit64, 0, u32::from(resource), 0, now.as_mut_ptr())?;
    Ok(Rlimit { resource, soft: now[0], hard: now[1] })
}

/// struct sched_attr of sched_setattr(2), first version: size and policy, flags, nice and priority, then the times.
pub fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *scheduler;
    let pair = |low: u32, high: u32| u64::from_ne_bytes(bytes_of(low, high));
    let mut attributes = [0, flags, pair(nice as u32, priority), runtime, deadline, period];
    attributes[0] = pair(size_of_val(&attributes) as u32, policy);
    sys!(SYS_sched_setattr, 0, attributes.as_ptr(), 0).map(drop)
}

/// Two 32-bit members of a struct, as they lie in memory.
fn bytes_of(first: u32, second: u32) -> [u8; 8] {
    let [[a, b, c, d], [e, f, g, h]] = [first.to_ne_bytes(), second.to_ne_bytes()];
    [a, b, c, d, e, f, g, h]
}

pub fn set_io_priority(priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    sys!(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, u32::from(priority)).map(drop)
}

/// Sets the CPUs that a process may run on, 64 a word.
pub fn set_affinity(pid: i32, mask: &[u64]) -> Result<()> {
    sys!(SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()).map(drop)
}

pub fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let nodes = &policy.nodes;
    // The kernel reads one bit less than it is told (set_mempolicy(2), BUGS), and no mask at all where there is none.
    let (mask, bits) = if nodes.is_empty() { (core::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    sys!(SYS_set_mempolicy, policy.mode, mask, bits).map(drop)
}

pub fn set_personality(persona: u32) -> Result<()> {
    sys!(SYS_personality, persona).map(drop)
}

/// Starts a session keyring of this name, so that the caller's keys are out of reach; or joins one that this user has
/// started so (keyctl(2)).
pub fn join_session_keyring(name: &str) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    const KEYCTL_SETPERM: i32 = 5;
    // What it has from its making, and for its user to find it by its name: the container's next process.
    const PERMISSIONS: u32 = 0x3f13_0000 | 0x0008_0000;
    let keyring = sys!(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, &c_string(name)?)?;
    sys!(SYS_keyctl, KEYCTL_SETPERM, keyring, PERMISSIONS).map(drop)
}

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    sys!(SYS_sethostname, name.as_ptr(), name.len()).map(drop)
}

/// Sets the NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    sys!(SYS_setdomainname, name.as_ptr(), name.len()).map(drop)
}

/// Microseconds since 1970, for the audit log: time namespaces shift every other clock (time_namespaces(7)).
pub fn microseconds() -> u64 {
    let mut now = [0i64; 2];
    let _ = sys!(SYS_clock_gettime, libc::CLOCK_REALTIME, now.as_mut_ptr());
    now[0] as u64 * 1_000_000 + now[1] as u64 / 1000
}
