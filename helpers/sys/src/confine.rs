//! Seccomp filters for rspawn's own stages: allow-lists whose default is to kill the process.
use alloc::{vec, vec::Vec};

use crate::Result;
use crate::cred::{Filter, install_filter};

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

/// What an argument of a call must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Argument {
    index: u32,
    mask: u64,
    value: u64,
}

impl Argument {
    /// Exactly this.
    pub const fn is(index: u32, value: u64) -> Self {
        Self { index, mask: u64::MAX, value }
    }

    /// This in its low half, which is all of an `int`: the kernel ignores the other.
    pub const fn int(index: u32, value: u32) -> Self {
        Self { index, mask: u32::MAX as u64, value: value as u64 }
    }

    /// Nothing but these bits in its low half, of which all of `demanded` are set.
    pub const fn flags(index: u32, demanded: u32, allowed: u32) -> Self {
        Self { index, mask: (!allowed | demanded) as u64, value: demanded as u64 }
    }
}

/// A call that a stage makes, and with which arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    call: libc::c_long,
    arguments: Vec<Argument>,
}

impl Allowed {
    pub fn with(call: libc::c_long, arguments: impl Into<Vec<Argument>>) -> Self {
        Self { call, arguments: arguments.into() }
    }
}

/// Calls with whatever arguments.
pub fn calls(list: &[libc::c_long]) -> impl Iterator<Item = Allowed> {
    list.iter().map(|call| Allowed::with(*call, []))
}

/// Confines this process to the calls given, for good; a call that is given twice may be made either way. Needs
/// no_new_privs or CAP_SYS_ADMIN.
pub fn allow_only(allowed: impl Iterator<Item = Allowed>) -> Result<()> {
    install_filter(&program(allowed), 0).map(drop)
}

fn program(allowed: impl Iterator<Item = Allowed>) -> Vec<Filter> {
    let mut program = vec![op(LOAD, 0, 0, ARCHITECTURE), op(JUMP_EQUAL, 1, 0, ARCH), op(RETURN, 0, 0, KILL_PROCESS)];
    let load_number = op(LOAD, 0, 0, NUMBER);
    program.push(load_number);
    for Allowed { call, arguments } in allowed {
        let halves: Vec<[Filter; 3]> = arguments.iter().flat_map(compare).collect();
        // What does not compare leads past this call's end, where the number is loaded anew.
        let mut rest = 3 * halves.len() as u8 + 1;
        program.push(op(JUMP_EQUAL, 0, rest, call as u32));
        for [load, and, jump] in halves {
            rest -= 3;
            program.extend([load, and, Filter { jf: rest, ..jump }]);
        }
        program.push(op(RETURN, 0, 0, ALLOW));
        if !arguments.is_empty() {
            program.push(load_number);
        }
    }
    program.push(op(RETURN, 0, 0, KILL_PROCESS));
    program
}

/// The comparison of the low half of an argument, and of the high one where that matters.
fn compare(Argument { index, mask, value }: &Argument) -> impl Iterator<Item = [Filter; 3]> + use<> {
    // Both architectures are little-endian.
    let half = |high: u32| {
        let (mask, value) = ((mask >> (32 * high)) as u32, (value >> (32 * high)) as u32);
        let load = op(LOAD, 0, 0, ARGUMENTS + 8 * index + 4 * high);
        (mask != 0).then_some([load, op(AND, 0, 0, mask), op(JUMP_EQUAL, 0, 0, value)])
    };
    [half(0), half(1)].into_iter().flatten()
}
