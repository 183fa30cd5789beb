//! Ids, capabilities and the other attributes of a process that say what it may do.
use alloc::vec::Vec;

use rspawn_proto::ids::Id;
use rspawn_proto::plan::Capabilities;

use crate::raw::sys;
use crate::{Errno, Result};

/// prctl(2) with up to two integers. Options that take addresses are not used here.
fn prctl(option: i32, first: usize, second: usize) -> Result<usize> {
    sys!(SYS_prctl, option, first, second, 0, 0)
}

/// Replaces the supplementary groups.
pub fn set_groups(groups: &[Id]) -> Result<()> {
    let groups: Vec<u32> = groups.iter().map(|id| id.raw()).collect();
    sys!(SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<()> {
    sys!(SYS_setresgid, gid, gid, gid).map(drop)
}

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<()> {
    sys!(SYS_setresuid, uid, uid, uid).map(drop)
}

pub fn effective_uid() -> u32 {
    // geteuid cannot fail.
    sys!(SYS_geteuid).unwrap_or(0) as u32
}

/// Keeps the permitted capabilities over the next change of the user id; cleared by exec (capabilities(7)).
pub fn keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// Removes from the bounding set every capability that is not in `keep`.
pub fn limit_bounding_set(keep: u64) -> Result<()> {
    for capability in (0..64).filter(|number| keep & (1 << number) == 0) {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // From the first number that the kernel does not know.
            Err(Errno::EINVAL) => break,
            // Without CAP_SETPCAP nothing can be dropped; what is not there need not be.
            Err(Errno::EPERM) if prctl(libc::PR_CAPBSET_READ, capability, 0) == Ok(0) => {}
            dropped => dropped.map(drop)?,
        }
    }
    Ok(())
}

/// struct __user_cap_header_struct of capset(2), version 3: version and pid, 0 being this process.
static CAP_HEADER: [u32; 2] = [0x2008_0522, 0];

/// Sets effective, permitted, inheritable and ambient capabilities to exactly these.
pub fn set_capabilities(caps: &Capabilities) -> Result<()> {
    let word = |shift: u32| [caps.effective, caps.permitted, caps.inheritable].map(|set| (set >> shift) as u32);
    let data = [word(0), word(32)];
    sys!(SYS_capset, &raw const CAP_HEADER, data.as_ptr())?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
    for capability in (0..64).filter(|number| caps.ambient & (1 << number) != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, capability)?;
    }
    Ok(())
}

/// Gives up all capabilities but some, of which it keeps those that it has.
pub fn keep_only(some: u64) -> Result<()> {
    let kept = permitted_capabilities()? & some;
    set_capabilities(&Capabilities { effective: kept, permitted: kept, ..Capabilities::default() })
}

/// Takes capabilities out of the effective set, from where they can be had back.
pub fn drop_effective(capabilities: u64) -> Result<()> {
    let mut data = [[0u32; 3]; 2];
    sys!(SYS_capget, &raw const CAP_HEADER, data.as_mut_ptr())?;
    for (word, shift) in data.iter_mut().zip([0, 32]) {
        word[0] &= !((capabilities >> shift) as u32);
    }
    sys!(SYS_capset, &raw const CAP_HEADER, data.as_ptr()).map(drop)
}

/// The permitted capabilities of this process.
pub fn permitted_capabilities() -> Result<u64> {
    let mut data = [[0u32; 3]; 2];
    sys!(SYS_capget, &raw const CAP_HEADER, data.as_mut_ptr())?;
    Ok(u64::from(data[0][1]) | u64::from(data[1][1]) << 32)
}

pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether other processes of the same user may trace this one and read its memory.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), 0).map(drop)
}

/// The signal that this process gets when its parent dies; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as usize, 0).map(drop)
}

/// Orphans among the descendants become children of this process.
pub fn become_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// struct sock_filter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Filter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// struct sock_fprog of seccomp(2).
#[repr(C)]
struct FilterProgram {
    length: u16,
    filters: *const Filter,
}

/// Installs a seccomp filter; with SECCOMP_FILTER_FLAG_NEW_LISTENER the result is the listener's number.
pub fn install_filter(program: &[Filter], flags: u32) -> Result<usize> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = FilterProgram { length, filters: program.as_ptr() };
    sys!(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
}
