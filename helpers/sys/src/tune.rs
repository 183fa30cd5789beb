//! Limits and scheduling of the calling process.
use rspawn_proto::plan::{MemoryPolicy, Rlimit, Scheduler};

use crate::raw::{Result, c_string, call};

/// Sets a resource limit.
pub fn set_limit(limit: &Rlimit) -> Result<()> {
    let new = [limit.soft, limit.hard];
    // SAFETY: `new` is a live struct rlimit64; the old limit is not asked for.
    unsafe { call(libc::SYS_prlimit64, [0, limit.resource as usize, new.as_ptr() as usize, 0]) }.map(drop)
}

/// A resource limit by its number.
pub fn limit(resource: u8) -> Result<Rlimit> {
    let mut now = [0u64; 2];
    // SAFETY: `now` is a live struct rlimit64; no new limit is given.
    unsafe { call(libc::SYS_prlimit64, [0, resource as usize, 0, now.as_mut_ptr() as usize]) }?;
    Ok(Rlimit { resource, soft: now[0], hard: now[1] })
}

/// struct sched_attr of sched_setattr(2), first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

pub fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *scheduler;
    let size = size_of::<SchedAttr>() as u32;
    let attributes = SchedAttr { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the struct is live and says its own size.
    unsafe { call(libc::SYS_sched_setattr, [0, &raw const attributes as usize, 0]) }.map(drop)
}

pub fn set_io_priority(priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, priority as usize]) }.map(drop)
}

pub fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    // The kernel reads one bit less than it is told (set_mempolicy(2), BUGS).
    let bits = policy.nodes.len() * 64 + 1;
    let arguments = [policy.mode as usize, policy.nodes.as_ptr() as usize, bits];
    let arguments = if policy.nodes.is_empty() { [policy.mode as usize, 0, 0] } else { arguments };
    // SAFETY: the mask is a live slice; the bit beyond it is never read.
    unsafe { call(libc::SYS_set_mempolicy, arguments) }.map(drop)
}

pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_personality, [persona as usize]) }.map(drop)
}

/// Starts a new session keyring, so that the caller's keys are out of reach.
pub fn join_session_keyring(name: &str) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated.
    unsafe { call(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize]) }.map(drop)
}

/// Microseconds of the monotonic clock, for the audit log.
pub fn microseconds() -> u64 {
    let mut now = [0i64; 2];
    // SAFETY: the array is a live struct timespec.
    let _ = unsafe { call(libc::SYS_clock_gettime, [libc::CLOCK_MONOTONIC as usize, now.as_mut_ptr() as usize]) };
    now[0] as u64 * 1_000_000 + now[1] as u64 / 1000
}

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    // SAFETY: the pointer and length are those of a live slice.
    unsafe { call(libc::SYS_sethostname, [name.as_ptr() as usize, name.len()]) }.map(drop)
}

/// Sets the NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: the pointer and length are those of a live slice.
    unsafe { call(libc::SYS_setdomainname, [name.as_ptr() as usize, name.len()]) }.map(drop)
}
