//! Device programs of cgroup v2: loading, attaching, and asking what is attached (bpf(2)).
use alloc::{vec, vec::Vec};

use crate::raw::sys;
use crate::{Errno, Fd, Result};

/// struct bpf_insn of `linux/bpf.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination in the low half, source in the high one.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Most programs of one kind on a cgroup: the kernel's BPF_CGROUP_MAX_PROGS.
const MOST: usize = 64;

/// Makes `program` the only device program of a cgroup. Devices are never free for all meanwhile: the old ones go
/// after the new one has come.
pub fn set_device_program(cgroup: &Fd, program: &[Instruction]) -> Result<()> {
    let old = attached(cgroup)?;
    let loaded = load(program)?;
    let target = |program: &Fd| [cgroup.raw() as u32, program.raw() as u32, ATTACH_CGROUP_DEVICE, ALLOW_MULTI];
    let attach = target(&loaded);
    sys!(SYS_bpf, PROG_ATTACH, attach.as_ptr(), size_of_val(&attach))?;
    for id in &old {
        let wanted = [*id, 0, 0, 0];
        let stale = sys!(SYS_bpf, PROG_GET_FD_BY_ID, wanted.as_ptr(), size_of_val(&wanted)).map(Fd::returned)?;
        let mut detach = target(&stale);
        detach[3] = 0;
        sys!(SYS_bpf, PROG_DETACH, detach.as_ptr(), size_of_val(&detach))?;
    }
    // Read back: what was asked for must be what is there.
    match attached(cgroup)?[..] {
        [id] if !old.contains(&id) => Ok(()),
        _ => Err(Errno::EBUSY),
    }
}

fn load(program: &[Instruction]) -> Result<Fd> {
    let license = c"Apache-2.0";
    let kind_and_count = u64::from(TYPE_CGROUP_DEVICE) | (program.len() as u64) << 32;
    let attributes = [kind_and_count, program.as_ptr() as u64, license.as_ptr() as u64];
    sys!(SYS_bpf, PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes)).map(Fd::returned)
}

/// Ids of the device programs on a cgroup itself.
fn attached(cgroup: &Fd) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; MOST];
    let mut query = [
        u64::from(cgroup.raw() as u32) | u64::from(ATTACH_CGROUP_DEVICE) << 32,
        0,
        ids.as_mut_ptr() as u64,
        ids.len() as u64,
    ];
    sys!(SYS_bpf, PROG_QUERY, query.as_mut_ptr(), size_of_val(&query))?;
    ids.truncate(query[3] as u32 as usize);
    Ok(ids)
}
