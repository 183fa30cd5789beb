//! An interpreter for the classic BPF that seccomp(2) accepts.
//!
//! It mirrors `seccomp_check_filter()` of `kernel/seccomp.c` and
//! `bpf_check_classic()` of `net/core/filter.c` in what it refuses, but checks
//! while running: jumps only go forward, so a program of n instructions ends
//! after at most n steps, and nothing a hostile program holds can panic.

use super::bpf::Insn;

/// `BPF_MAXINSNS`.
pub const MAX_INSNS: usize = 4096;
const SCRATCH_WORDS: usize = 16;

/// `struct seccomp_data`, what the kernel shows a filter of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeccompData {
    pub nr: u32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalError {
    /// Empty, or more than [`MAX_INSNS`].
    BadLength,
    /// An instruction seccomp does not allow, at this index.
    BadInstruction(usize),
    /// A load outside `seccomp_data`, or not at a multiple of 4.
    BadLoad(usize),
    /// A jump or a fall past the last instruction.
    PastEnd(usize),
}

/// Runs `prog` and returns its verdict and how many instructions that took.
pub fn run(prog: &[Insn], data: &SeccompData) -> Result<(u32, u32), EvalError> {
    if prog.is_empty() || prog.len() > MAX_INSNS {
        return Err(EvalError::BadLength);
    }
    let (mut a, mut x) = (0u32, 0u32);
    let mut scratch = [0u32; SCRATCH_WORDS];
    let (mut pc, mut steps) = (0usize, 0u32);
    while let Some(insn) = prog.get(pc) {
        let bad = EvalError::BadInstruction(pc);
        let slot = usize::try_from(insn.k).unwrap_or(usize::MAX);
        let mut skip = 0usize;
        steps += 1;
        match insn.code {
            0x20 => a = word(data, insn.k).ok_or(EvalError::BadLoad(pc))?,
            // LD|W|LEN and LDX|W|LEN: the kernel turns both into a constant.
            0x80 => a = 64,
            0x81 => x = 64,
            0x00 => a = insn.k,
            0x01 => x = insn.k,
            0x60 => a = *scratch.get(slot).ok_or(bad)?,
            0x61 => x = *scratch.get(slot).ok_or(bad)?,
            0x02 => *scratch.get_mut(slot).ok_or(bad)? = a,
            0x03 => *scratch.get_mut(slot).ok_or(bad)? = x,
            0x07 => x = a,
            0x87 => a = x,
            0x06 => return Ok((insn.k, steps)),
            0x16 => return Ok((a, steps)),
            0x05 => skip = slot,
            code if code & 7 == 4 => match alu(code, a, x, insn.k) {
                Some(Value::Word(result)) => a = result,
                // The kernel ends a classic program that divides by X = 0
                // with the value 0, which seccomp reads as KILL_THREAD.
                Some(Value::DivisionByZero) => return Ok((0, steps)),
                None => return Err(bad),
            },
            code if code & 7 == 5 => {
                let taken = compare(code, a, x, insn.k).ok_or(bad)?;
                skip = usize::from(if taken { insn.jt } else { insn.jf });
            }
            _ => return Err(bad),
        }
        pc = pc.saturating_add(skip).saturating_add(1);
    }
    Err(EvalError::PastEnd(pc))
}

/// The 32-bit word of `seccomp_data` at `offset`, little-endian layout.
fn word(data: &SeccompData, offset: u32) -> Option<u32> {
    let half = |value: u64, high: bool| {
        let shifted = if high { value >> 32 } else { value };
        u32::try_from(shifted & 0xffff_ffff).ok()
    };
    let high = offset % 8 == 4;
    match offset {
        0 => Some(data.nr),
        4 => Some(data.arch),
        8 | 12 => half(data.instruction_pointer, high),
        16..64 if offset.is_multiple_of(4) => {
            let arg = usize::try_from((offset - 16) / 8).ok()?;
            half(*data.args.get(arg)?, high)
        }
        _ => None,
    }
}

enum Value {
    Word(u32),
    DivisionByZero,
}

/// ALU instructions, operand K or X (bit 3). Seccomp has no modulo.
fn alu(code: u16, a: u32, x: u32, k: u32) -> Option<Value> {
    let from_x = code & 0x08 != 0;
    let operand = if from_x { x } else { k };
    let result = match code & 0xfff0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        // A constant divisor of 0 is refused when loading, as is a constant
        // shift by 32 or more; a shift by X wraps as the kernel's 32-bit ALU does.
        0x30 if from_x => match a.checked_div(operand) {
            Some(quotient) => quotient,
            None => return Some(Value::DivisionByZero),
        },
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 if from_x => a.wrapping_shl(operand),
        0x60 => a.checked_shl(operand)?,
        0x70 if from_x => a.wrapping_shr(operand),
        0x70 => a.checked_shr(operand)?,
        0x80 if !from_x => a.wrapping_neg(),
        0xa0 => a ^ operand,
        _ => return None,
    };
    Some(Value::Word(result))
}

fn compare(code: u16, a: u32, x: u32, k: u32) -> Option<bool> {
    let operand = if code & 0x08 != 0 { x } else { k };
    match code & 0xfff0 {
        0x10 => Some(a == operand),
        0x20 => Some(a > operand),
        0x30 => Some(a >= operand),
        0x40 => Some(a & operand != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    #[test]
    fn reads_every_word_of_the_data() {
        let data = SeccompData {
            nr: 1,
            arch: 2,
            instruction_pointer: 0x0000_0004_0000_0003,
            args: [0x0000_0006_0000_0005, 7, 8, 9, 10, 0x0000_000c_0000_000b],
        };
        let at = |k| run(&[insn(0x20, 0, 0, k), insn(0x16, 0, 0, 0)], &data).map(|r| r.0);
        let first: Vec<_> = (0..6).map(|i| at(i * 4).expect("inside")).collect();
        assert_eq!(first, [1, 2, 3, 4, 5, 6]);
        assert_eq!(at(60), Ok(12));
        assert_eq!(at(64), Err(EvalError::BadLoad(0)));
        assert_eq!(at(2), Err(EvalError::BadLoad(0)));
    }

    #[test]
    fn hostile_programs_end_in_an_error() {
        let data = SeccompData::default();
        assert_eq!(run(&[], &data), Err(EvalError::BadLength));
        let jump = [insn(0x05, 0, 0, u32::MAX)];
        assert!(matches!(run(&jump, &data), Err(EvalError::PastEnd(_))));
        assert_eq!(run(&[insn(0x34, 0, 0, 0)], &data), Err(EvalError::BadInstruction(0)));
        assert_eq!(run(&[insn(0x60, 0, 0, 16)], &data), Err(EvalError::BadInstruction(0)));
        assert_eq!(run(&[insn(0x3c, 0, 0, 0)], &data), Ok((0, 1)));
        let long = vec![insn(0x06, 0, 0, 0); MAX_INSNS + 1];
        assert_eq!(run(&long, &data), Err(EvalError::BadLength));
        for code in 0..=u16::MAX {
            let _ = run(&[insn(code, 255, 255, 40), insn(0x06, 0, 0, 0)], &data);
        }
    }
}
