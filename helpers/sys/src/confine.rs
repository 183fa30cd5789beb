//! Seccomp filters for rspawn's own stages: allow-lists whose default is to kill the process.
use alloc::vec;
use alloc::vec::Vec;

use crate::cred::{Filter, install_filter};
use crate::raw::Result;

/// AUDIT_ARCH_* of this build: ELF machine, 64-bit, little-endian (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 183 | 0xc000_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Filter {
    Filter { code, jt, jf, k }
}

/// A call that a stage makes.
pub enum Allowed {
    Call(libc::c_long),
    /// Only with all of some bits set in the low half of an argument: call, index of the argument, bits.
    With(libc::c_long, u32, u32),
}

/// Confines this process to the calls given, for good. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn allow_only(calls: &[Allowed]) -> Result<()> {
    install_filter(&program(calls), 0).map(drop)
}

fn program(calls: &[Allowed]) -> Vec<Filter> {
    let mut program = vec![
        op(LOAD, 0, 0, ARCHITECTURE),
        op(JUMP_EQUAL, 1, 0, ARCH),
        op(RETURN, 0, 0, KILL_PROCESS),
        op(LOAD, 0, 0, NUMBER),
    ];
    for allowed in calls {
        match *allowed {
            Allowed::Call(call) => {
                program.extend([op(JUMP_EQUAL, 0, 1, call as u32), op(RETURN, 0, 0, ALLOW)]);
            }
            Allowed::With(call, argument, bits) => program.extend([
                op(JUMP_EQUAL, 0, 5, call as u32),
                op(LOAD, 0, 0, ARGUMENTS + 8 * argument),
                op(AND, 0, 0, bits),
                op(JUMP_EQUAL, 0, 1, bits),
                op(RETURN, 0, 0, ALLOW),
                op(RETURN, 0, 0, KILL_PROCESS),
            ]),
        }
    }
    program.push(op(RETURN, 0, 0, KILL_PROCESS));
    program
}
