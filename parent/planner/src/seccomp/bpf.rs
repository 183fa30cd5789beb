//! Code generation: sections of verdicts in, classic BPF out.
//!
//! The program is built from its last instruction to its first. BPF only jumps
//! forward, so every target exists by the time a jump to it is written and one
//! pass suffices. Conditional jumps reach 255 instructions; where a target is
//! further away, a `JA` (32-bit reach) or a copy of the `RET` goes in between.
//!
//! Only instructions that `seccomp_is_const_allow()` of the kernel (5.11 and
//! newer) can follow come before an argument is loaded, so calls that are
//! always allowed land in its per-task bitmap and never run the program at all.

use crate::prelude::*;
use alloc::collections::BTreeMap;

use rspawn_proto::filter::MAX_INSNS;
pub use rspawn_proto::plan::Instruction as Insn;

use super::rules::{Cond, Op, Row, Verdict};

const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Farthest a conditional jump reaches.
const REACH: usize = 255;

/// How much nearer to the root of the search a frequent call is put: as if it
/// were this many ranges.
const FREQUENT_WEIGHT: usize = 8;

/// What one `AUDIT_ARCH_*` value gets: verdicts for ranges of numbers. The
/// first range starts at 0, each ends where the next one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub audit: u32,
    pub ranges: Vec<(u32, Verdict)>,
    /// Numbers to be decided quickly.
    pub frequent: Vec<u32>,
}

/// The program would exceed `BPF_MAXINSNS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Assembles the whole filter. `sections` are tested in the order given;
/// a call through any other architecture gets `bad_arch`.
pub fn assemble(sections: &[Section], default: u32, bad_arch: u32) -> Result<Vec<Insn>, TooLong> {
    let mut asm = Assembler::default();
    let mut entry = asm.ret(bad_arch)?.at;
    let mut pending = Vec::new();
    // The first section is written last, next to the head of the program, so
    // that the common architecture needs no long jump.
    for section in sections.iter().rev() {
        for (audit, at) in pending.drain(..) {
            entry = asm.branch(JMP_JEQ_K, audit, at, entry)?;
        }
        let tree = Tree { default, frequent: &section.frequent };
        let mut chains = BTreeMap::new();
        let root = tree.emit(&mut asm, &section.ranges, u32::MAX, &mut chains)?;
        asm.settle(root)?;
        pending.push((section.audit, asm.load(OFFSET_NR)?.at));
    }
    for (audit, at) in pending {
        asm.branch(JMP_JEQ_K, audit, at, entry)?;
    }
    asm.load(OFFSET_ARCH)?;
    Ok(asm.finish())
}

/// A place to jump to.
#[derive(Debug, Clone, Copy)]
struct Label {
    at: usize,
    /// What it loads first: code that already holds that word in the
    /// accumulator enters one instruction later.
    loads: Option<u32>,
    /// What it compares first: code that knows the outcome enters at the
    /// comparison of the low word.
    equal: Option<HighWord>,
}

/// "Where the word at offset `word` equals `value`, go on at `at`", which loads
/// the word just before it.
#[derive(Debug, Clone, Copy)]
struct HighWord {
    word: u32,
    value: u32,
    at: usize,
    loads: Option<u32>,
}

impl Label {
    fn plain(at: usize) -> Self {
        Self { at, loads: None, equal: None }
    }

    /// The same place for code that knows a high word to be `value`.
    fn knowing(self, word: u32, value: u32) -> Self {
        match self.equal {
            Some(equal) if equal.word == word && equal.value == value => {
                Self { at: equal.at, loads: equal.loads, equal: None }
            }
            _ => self,
        }
    }

    fn holding(self, word: u32) -> usize {
        if self.loads == Some(word) { self.at.saturating_sub(1) } else { self.at }
    }
}

/// Instructions in reverse: index 0 is the last of the program.
#[derive(Default)]
struct Assembler {
    reversed: Vec<Insn>,
    returns: BTreeMap<u32, usize>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Result<usize, TooLong> {
        if self.reversed.len() >= MAX_INSNS {
            return Err(TooLong);
        }
        self.reversed.push(Insn { code, jt, jf, k });
        Ok(self.reversed.len() - 1)
    }

    /// How many instructions the next one skips to get to `target`.
    fn distance(&self, target: usize) -> usize {
        self.reversed.len().saturating_sub(target + 1)
    }

    fn load(&mut self, word: u32) -> Result<Label, TooLong> {
        let at = self.push(LD_W_ABS, 0, 0, word)?;
        Ok(Label { at, loads: Some(word), equal: None })
    }

    /// A `RET` of `value`, a new one unless the last is still well in reach.
    fn ret(&mut self, value: u32) -> Result<Label, TooLong> {
        if let Some(at) = self.returns.get(&value)
            && self.distance(*at) < REACH / 2
        {
            return Ok(Label::plain(*at));
        }
        let at = self.push(RET_K, 0, 0, value)?;
        self.returns.insert(value, at);
        Ok(Label::plain(at))
    }

    /// `target` itself, or a stand-in for it within reach. `room` is how many
    /// instructions may still come before the jump is written.
    fn near(&mut self, target: usize, room: usize) -> Result<usize, TooLong> {
        if self.distance(target) + room <= REACH {
            return Ok(target);
        }
        match self.reversed.get(target) {
            Some(insn) if insn.code == RET_K => Ok(self.ret(insn.k)?.at),
            _ => {
                let skip = u32::try_from(self.distance(target)).map_err(|_| TooLong)?;
                self.push(JMP_JA, 0, 0, skip)
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: usize, no: usize) -> Result<usize, TooLong> {
        if yes == no {
            return Ok(yes);
        }
        let yes = self.near(yes, 2)?;
        let no = self.near(no, 1)?;
        let jt = u8::try_from(self.distance(yes)).map_err(|_| TooLong)?;
        let jf = u8::try_from(self.distance(no)).map_err(|_| TooLong)?;
        self.push(code, jt, jf, k)
    }

    /// Loads `word` and compares it.
    fn test(&mut self, word: u32, code: u16, k: u32, to: Targets) -> Result<Label, TooLong> {
        let at = self.branch(code, k, to.yes.holding(word), to.no.holding(word))?;
        self.settle(at)?;
        self.load(word)
    }

    /// Makes the instruction written next fall into the one at `at`.
    fn settle(&mut self, at: usize) -> Result<(), TooLong> {
        if at + 1 == self.reversed.len() {
            return Ok(());
        }
        let skip = u32::try_from(self.distance(at)).map_err(|_| TooLong)?;
        self.push(JMP_JA, 0, 0, skip).map(|_| ())
    }

    fn finish(mut self) -> Vec<Insn> {
        self.reversed.reverse();
        self.reversed
    }
}

#[derive(Clone, Copy)]
struct Targets {
    yes: Label,
    no: Label,
}

impl Targets {
    fn swapped(self) -> Self {
        Self { yes: self.no, no: self.yes }
    }
}

/// Binary search over the ranges of one section; the number is in A.
struct Tree<'s> {
    default: u32,
    frequent: &'s [u32],
}

impl Tree<'_> {
    /// Where to split, so that frequent numbers end up near the root. `end` is
    /// where the last range ends.
    fn middle(&self, ranges: &[(u32, Verdict)], end: u32) -> usize {
        let ends = ranges.iter().skip(1).map(|(next, _)| *next).chain([end]);
        let weights = ranges.iter().zip(ends).map(|((start, _), end)| {
            let hits = self.frequent.iter().filter(|nr| (*start..end).contains(*nr));
            1 + FREQUENT_WEIGHT * hits.count()
        });
        let weights: Vec<usize> = weights.collect();
        let total: usize = weights.iter().sum();
        let mut before = 0;
        let mut best = (usize::MAX, 1);
        for (i, weight) in weights.iter().enumerate().take(ranges.len().saturating_sub(1)) {
            before += weight;
            best = best.min((total.abs_diff(2 * before), i + 1));
        }
        best.1
    }

    fn emit<'a>(
        &self,
        asm: &mut Assembler,
        ranges: &'a [(u32, Verdict)],
        end: u32,
        chains: &mut BTreeMap<&'a Verdict, Label>,
    ) -> Result<usize, TooLong> {
        match ranges {
            [] => Ok(asm.ret(self.default)?.at),
            [(_, verdict)] => self.leaf(asm, verdict, chains),
            // One number that differs from both neighbours: one comparison.
            [(_, before), (nr, verdict), (after_nr, after)] if before == after && after_nr - nr == 1 => {
                let no = self.leaf(asm, before, chains)?;
                let yes = self.leaf(asm, verdict, chains)?;
                asm.branch(JMP_JEQ_K, *nr, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(self.middle(ranges, end));
                let start = high.first().map_or(end, |(start, _)| *start);
                let yes = self.emit(asm, high, end, chains)?;
                let no = self.emit(asm, low, start, chains)?;
                asm.branch(JMP_JGE_K, start, yes, no)
            }
        }
    }

    fn leaf<'a>(
        &self,
        asm: &mut Assembler,
        verdict: &'a Verdict,
        chains: &mut BTreeMap<&'a Verdict, Label>,
    ) -> Result<usize, TooLong> {
        let (wide, rows) = match verdict {
            Verdict::Return(value) => return Ok(asm.ret(*value)?.at),
            Verdict::Chain { wide, rows } => (*wide, rows),
        };
        if let Some(label) = chains.get(verdict) {
            return Ok(label.at);
        }
        let label = chain(asm, rows, self.default, wide)?;
        chains.insert(verdict, label);
        Ok(label.at)
    }
}

/// Rows in order, the first that matches decides, else `default`.
fn chain(asm: &mut Assembler, rows: &[Row], default: u32, wide: bool) -> Result<Label, TooLong> {
    let mut next = asm.ret(default)?;
    for row in rows.iter().rev() {
        let mut yes = asm.ret(row.ret)?;
        for cond in row.conds.iter().rev() {
            yes = condition(asm, cond, wide, Targets { yes, no: next })?;
        }
        next = yes;
    }
    Ok(next)
}

/// One comparison. 64-bit values take two words, the high one first: A holds
/// 32 bits.
fn condition(asm: &mut Assembler, cond: &Cond, wide: bool, to: Targets) -> Result<Label, TooLong> {
    let low = OFFSET_ARGS + 8 * u32::from(cond.arg);
    let high = low + 4;
    let value = halves(cond.value);
    let mask = halves(cond.mask);
    match cond.op {
        Op::Ne => condition(asm, &cond.with(Op::Eq), wide, to.swapped()),
        Op::Lt => condition(asm, &cond.with(Op::Ge), wide, to.swapped()),
        Op::Le => condition(asm, &cond.with(Op::Gt), wide, to.swapped()),
        Op::Eq => {
            if !wide {
                return asm.test(low, JMP_JEQ_K, value.low, to);
            }
            let no = to.no.knowing(high, value.high);
            let yes = asm.test(low, JMP_JEQ_K, value.low, Targets { yes: to.yes, no })?;
            let whole = asm.test(high, JMP_JEQ_K, value.high, Targets { yes, no: to.no })?;
            let equal = HighWord { word: high, value: value.high, at: yes.at, loads: yes.loads };
            Ok(Label { equal: Some(equal), ..whole })
        }
        Op::Gt | Op::Ge => {
            let code = if cond.op == Op::Gt { JMP_JGT_K } else { JMP_JGE_K };
            let equal = asm.test(low, code, value.low, to)?;
            if !wide {
                return Ok(equal);
            }
            let no = to.no.holding(high);
            let same = asm.branch(JMP_JEQ_K, value.high, equal.holding(high), no)?;
            let yes = to.yes.holding(high);
            let at = asm.branch(JMP_JGT_K, value.high, yes, same)?;
            asm.settle(at)?;
            asm.load(high)
        }
        Op::MaskedEq => {
            let mut yes = to.yes;
            if mask.low != 0 {
                yes = masked(asm, low, mask.low, value.low, Targets { yes, no: to.no })?;
            }
            if wide && mask.high != 0 {
                yes = masked(asm, high, mask.high, value.high, Targets { yes, no: to.no })?;
            }
            Ok(yes)
        }
    }
}

fn masked(asm: &mut Assembler, word: u32, mask: u32, value: u32, to: Targets) -> Result<Label, TooLong> {
    if mask == u32::MAX {
        return asm.test(word, JMP_JEQ_K, value, to);
    }
    let at = asm.branch(JMP_JEQ_K, value, to.yes.at, to.no.at)?;
    asm.settle(at)?;
    asm.push(ALU_AND_K, 0, 0, mask)?;
    asm.load(word)
}

struct Halves {
    high: u32,
    low: u32,
}

fn halves(value: u64) -> Halves {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    Halves { high: u32::from_be_bytes([a, b, c, d]), low: u32::from_be_bytes([e, f, g, h]) }
}
