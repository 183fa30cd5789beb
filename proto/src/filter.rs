//! An interpreter for the classic BPF that seccomp(2) accepts, over words that are known or may be anything.
//!
//! It mirrors `seccomp_check_filter()` of `kernel/seccomp.c` and `bpf_check_classic()` of `net/core/filter.c` in what it
//! refuses, but checks while running: jumps only go forward, so a program of n instructions ends after at most n steps on
//! each way through it, and nothing a hostile program holds can panic. Where a jump depends on what is not known, both
//! ways are taken; a way that was taken before is not taken again.
use alloc::{collections::BTreeSet, vec};

use crate::plan::Instruction;

/// `BPF_MAXINSNS`.
pub const MAX_INSNS: usize = 4096;
const SCRATCH_WORDS: usize = 16;
/// Most steps over all ways.
const MAX_STEPS: u32 = 1 << 15;

/// What a word of 32 bits is; `None`: anything.
pub type Word = Option<u32>;

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
    /// More ways through it than can be followed.
    TooManyWays,
}

/// Runs `program` and returns its verdict and how many instructions that took.
pub fn run(program: &[Instruction], data: &SeccompData) -> Result<(u32, u32), EvalError> {
    let half = |value: u64, high: usize| Some((value >> (32 * high)) as u32);
    let word = |at: usize| match at {
        0 => Some(data.nr),
        1 => Some(data.arch),
        2 | 3 => half(data.instruction_pointer, at % 2),
        _ => half(data.args[at / 2 - 2], at % 2),
    };
    let mut verdict = None;
    let steps = follow(program, &core::array::from_fn(word), &mut |found| verdict = found)?;
    // All of the call is known, and so is what becomes of it.
    verdict.map(|verdict| (verdict, steps)).ok_or(EvalError::BadLength)
}

/// Whether a call of which only number and architecture are known may be let through by the filter, on any way: to run, to
/// be logged, or to be decided by a tracer or an agent. `None` stands for any number, any architecture.
pub fn may_allow(program: &[Instruction], nr: Word, arch: Word) -> Result<bool, EvalError> {
    verdicts(program, nr, arch, |action| ALLOWING.contains(&action))
}

/// Whether such a call may be denied, on any way.
pub fn may_deny(program: &[Instruction], nr: Word, arch: Word) -> Result<bool, EvalError> {
    verdicts(program, nr, arch, |action| !ALLOWING.contains(&action))
}

/// SECCOMP_RET_ALLOW, _LOG, _TRACE, _USER_NOTIF of `linux/seccomp.h`.
const ALLOWING: [u32; 4] = [0x7fff_0000, 0x7ffc_0000, 0x7ff0_0000, 0x7fc0_0000];

fn verdicts(program: &[Instruction], nr: Word, arch: Word, is: impl Fn(u32) -> bool) -> Result<bool, EvalError> {
    const ACTION: u32 = 0xffff_0000;
    let mut data = [None; 16];
    (data[0], data[1]) = (nr, arch);
    let mut found = false;
    follow(program, &data, &mut |verdict| found |= verdict.is_none_or(|verdict| is(verdict & ACTION)))?;
    Ok(found)
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    pc: usize,
    a: Word,
    x: Word,
    scratch: [Word; SCRATCH_WORDS],
}

/// Follows every way through a program and gives each verdict. The number of steps is that of all ways.
fn follow(program: &[Instruction], data: &[Word; 16], each: &mut dyn FnMut(Word)) -> Result<u32, EvalError> {
    if program.is_empty() || program.len() > MAX_INSNS {
        return Err(EvalError::BadLength);
    }
    let zero = Some(0);
    let mut ways = vec![State { pc: 0, a: zero, x: zero, scratch: [zero; SCRATCH_WORDS] }];
    let mut taken = BTreeSet::new();
    let mut steps = 0;
    while let Some(mut state) = ways.pop() {
        loop {
            let insn = program.get(state.pc).ok_or(EvalError::PastEnd(state.pc))?;
            steps += 1;
            if steps > MAX_STEPS {
                return Err(EvalError::TooManyWays);
            }
            match state.step(insn, data)? {
                Next::Jump(skip) => state.pc = state.pc.saturating_add(skip).saturating_add(1),
                Next::Either => {
                    let way = |skip: u8| State { pc: state.pc + usize::from(skip) + 1, ..state.clone() };
                    ways.extend([way(insn.jt), way(insn.jf)].into_iter().filter(|way| taken.insert(way.clone())));
                    break;
                }
                Next::Return(verdict) => {
                    each(verdict);
                    break;
                }
            }
        }
    }
    Ok(steps)
}

enum Next {
    Jump(usize),
    Either,
    Return(Word),
}

impl State {
    fn step(&mut self, insn: &Instruction, data: &[Word; 16]) -> Result<Next, EvalError> {
        let bad = EvalError::BadInstruction(self.pc);
        let slot = insn.k as usize;
        match insn.code {
            0x20 if slot.is_multiple_of(4) && slot < 64 => self.a = data[slot / 4],
            0x20 => return Err(EvalError::BadLoad(self.pc)),
            // LD|W|LEN and LDX|W|LEN: the kernel turns both into a constant.
            0x80 => self.a = Some(64),
            0x81 => self.x = Some(64),
            0x00 => self.a = Some(insn.k),
            0x01 => self.x = Some(insn.k),
            0x60 => self.a = *self.scratch.get(slot).ok_or(bad)?,
            0x61 => self.x = *self.scratch.get(slot).ok_or(bad)?,
            0x02 => *self.scratch.get_mut(slot).ok_or(bad)? = self.a,
            0x03 => *self.scratch.get_mut(slot).ok_or(bad)? = self.x,
            0x07 => self.x = self.a,
            0x87 => self.a = self.x,
            0x06 => return Ok(Next::Return(Some(insn.k))),
            0x16 => return Ok(Next::Return(self.a)),
            0x05 => return Ok(Next::Jump(slot)),
            code if code & 7 == 4 => {
                let operand = if code & 0x08 != 0 { self.x } else { Some(insn.k) };
                let (Some(a), Some(operand)) = (self.a, operand) else {
                    // What a known operand of 0 or 1 stands for says whether it is an instruction at all.
                    alu(code, 1, operand.unwrap_or(1)).ok_or(bad)?;
                    // A division by what may be 0 may end the program with 0, which denies.
                    self.a = None;
                    return Ok(Next::Jump(0));
                };
                match alu(code, a, operand).ok_or(bad)? {
                    Value::Word(result) => self.a = Some(result),
                    // The kernel ends a classic program that divides by X = 0 with the value 0: KILL_THREAD.
                    Value::DivisionByZero => return Ok(Next::Return(Some(0))),
                }
            }
            code if code & 7 == 5 => {
                let operand = if code & 0x08 != 0 { self.x } else { Some(insn.k) };
                let (Some(a), Some(operand)) = (self.a, operand) else {
                    return compare(code, 0, 0).map(|_| Next::Either).ok_or(bad);
                };
                let is_so = compare(code, a, operand).ok_or(bad)?;
                return Ok(Next::Jump(usize::from(if is_so { insn.jt } else { insn.jf })));
            }
            _ => return Err(bad),
        }
        Ok(Next::Jump(0))
    }
}

enum Value {
    Word(u32),
    DivisionByZero,
}

/// ALU instructions, operand K or X (bit 3). Seccomp has no modulo.
fn alu(code: u16, a: u32, operand: u32) -> Option<Value> {
    let from_x = code & 0x08 != 0;
    let result = match code & 0xfff0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        // A constant divisor of 0 is refused when loading, as is a constant shift by 32 or more; a shift by X wraps as the
        // kernel's 32-bit ALU does.
        0x30 => match a.checked_div(operand) {
            None if from_x => return Some(Value::DivisionByZero),
            quotient => quotient?,
        },
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

fn compare(code: u16, a: u32, operand: u32) -> Option<bool> {
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

    const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
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
        for (index, word) in [1, 2, 3, 4, 5, 6].into_iter().enumerate() {
            assert_eq!(at(index as u32 * 4), Ok(word));
        }
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
            let program = [insn(code, 255, 255, 40), insn(0x06, 0, 0, 0)];
            assert_eq!(may_allow(&program, None, None).is_err(), run(&program, &data).is_err(), "{code:#x}");
        }
    }

    const ALLOW: Instruction = insn(0x06, 0, 0, 0x7fff_0000);
    const DENY: Instruction = insn(0x06, 0, 0, 0x0005_0001);

    #[test]
    fn a_call_is_denied_only_if_it_is_on_every_way() {
        let if_number = |next: Instruction| {
            [insn(0x20, 0, 0, 0), insn(0x15, 1, 0, 321), ALLOW, next, insn(0x15, 0, 1, 0), DENY, ALLOW]
        };
        // bpf is denied where its first argument is 0, and else not.
        let partly = if_number(insn(0x20, 0, 0, 16));
        assert_eq!(may_allow(&partly, Some(321), Some(1)), Ok(true));
        let wholly = if_number(DENY);
        assert_eq!(may_allow(&wholly, Some(321), Some(1)), Ok(false));
        assert_eq!(may_allow(&wholly, Some(322), Some(1)), Ok(true));
        // A filter for one architecture says nothing of another.
        let one = [insn(0x20, 0, 0, 4), insn(0x15, 0, 1, 7), DENY, ALLOW];
        assert_eq!((may_allow(&one, Some(1), Some(7)), may_allow(&one, Some(1), Some(8))), (Ok(false), Ok(true)));
        for decided_elsewhere in [0x7ffc_0000, 0x7ff0_0001, 0x7fc0_0000] {
            assert_eq!(may_allow(&[insn(0x06, 0, 0, decided_elsewhere)], Some(1), Some(1)), Ok(true));
        }
        let deny = |program: &[Instruction]| may_deny(program, None, None);
        assert_eq!((deny(&[ALLOW]), deny(&one), deny(&[DENY])), (Ok(false), Ok(true), Ok(true)));
        // A verdict from an argument may be any.
        assert_eq!(may_allow(&[insn(0x20, 0, 0, 16), insn(0x16, 0, 0, 0)], Some(1), Some(1)), Ok(true));
    }

    #[test]
    fn ways_that_meet_again_are_followed_once() {
        // A thousand questions about arguments, each with both answers leading to the next.
        let mut program = vec![];
        for _ in 0..1000 {
            program.extend([insn(0x20, 0, 0, 16), insn(0x15, 0, 0, 1)]);
        }
        program.push(ALLOW);
        assert_eq!(may_allow(&program, Some(1), Some(1)), Ok(true));
        // And as many whose answers are all remembered: given up, and no answer.
        let mut program = vec![];
        for slot in 0..16 {
            program.extend([insn(0x20, 0, 0, 16), insn(0x15, 0, 2, 1), insn(0x00, 0, 0, 1), insn(0x05, 0, 0, 1)]);
            program.extend([insn(0x00, 0, 0, 0), insn(0x02, 0, 0, slot)]);
        }
        for _ in 0..200 {
            program.extend([insn(0x20, 0, 0, 16), insn(0x15, 0, 0, 1)]);
        }
        program.push(ALLOW);
        assert_eq!(may_allow(&program, Some(1), Some(1)), Err(EvalError::TooManyWays));
    }
}
