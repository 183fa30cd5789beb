//! Ids, capabilities and the other attributes of a process that say what it may do.
use core::mem::size_of;

use rspawn_proto::plan::Capabilities;

use crate::raw::{Errno, Result, call};

fn prctl(option: i32, arguments: [usize; 4]) -> Result<usize> {
    let [a, b, c, d] = arguments;
    // SAFETY: the options used in this module take integers only.
    unsafe { call(libc::SYS_prctl, [option as usize, a, b, c, d]) }
}

/// Replaces the supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and count are those of a live slice.
    unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize]) }.map(drop)
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<()> {
    let gid = gid as usize;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid]) }.map(drop)
}

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<()> {
    let uid = uid as usize;
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid]) }.map(drop)
}

/// Keeps the permitted capabilities over the next change of the user id; cleared by exec (capabilities(7)).
pub fn keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [keep.into(), 0, 0, 0]).map(drop)
}

/// Removes from the bounding set every capability that is not in `keep`.
pub fn limit_bounding_set(keep: u64) -> Result<()> {
    for capability in 0..64 {
        // The kernel answers EINVAL from the first number that it does not know.
        match prctl(libc::PR_CAPBSET_READ, [capability, 0, 0, 0]) {
            Err(Errno::EINVAL) => break,
            Ok(0) => {}
            _ if keep & (1 << capability) != 0 => {}
            _ => prctl(libc::PR_CAPBSET_DROP, [capability, 0, 0, 0]).map(drop)?,
        }
    }
    Ok(())
}

/// struct __user_cap_header_struct and two __user_cap_data_struct of capset(2), version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets effective, permitted, inheritable and ambient capabilities to exactly these.
pub fn set_capabilities(caps: &Capabilities) -> Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let word = |shift: u32| CapData {
        effective: (caps.effective >> shift) as u32,
        permitted: (caps.permitted >> shift) as u32,
        inheritable: (caps.inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: header and data are live and laid out as version 3 wants them.
    unsafe { call(libc::SYS_capset, [&raw const header as usize, data.as_ptr() as usize]) }?;
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0, 0, 0])?;
    for capability in (0..64).filter(|number| caps.ambient & (1 << number) != 0) {
        prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as usize, capability, 0, 0])?;
    }
    Ok(())
}

/// The permitted capabilities of this process.
pub fn permitted_capabilities() -> Result<u64> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let zero = || CapData { effective: 0, permitted: 0, inheritable: 0 };
    let mut data = [zero(), zero()];
    // SAFETY: header and data are live and laid out as version 3 wants them.
    unsafe { call(libc::SYS_capget, [&raw const header as usize, data.as_mut_ptr() as usize]) }?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Whether other processes of the same user may trace this one and read its memory.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [dumpable.into(), 0, 0, 0]).map(drop)
}

/// The signal that this process gets when its parent dies; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, [signal as usize, 0, 0, 0]).map(drop)
}

/// Orphans among the descendants become children of this process.
pub fn become_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]).map(drop)
}

/// struct sock_fprog of seccomp(2).
#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: usize,
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

/// Installs a seccomp filter; with SECCOMP_FILTER_FLAG_NEW_LISTENER the result is the listener's number.
pub fn install_filter(program: &[Filter], flags: u32) -> Result<usize> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = FilterProgram { length, instructions: program.as_ptr() as usize };
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    debug_assert!(size_of::<Filter>() == 8);
    // SAFETY: `program` names a live array of sock_filter of the length given.
    unsafe { call(libc::SYS_seccomp, [SECCOMP_SET_MODE_FILTER, flags as usize, &raw const program as usize]) }
}
