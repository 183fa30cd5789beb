//! From the profile's rules to one verdict per call number, for one
//! architecture. What libseccomp decides about several rules on one call is
//! described in [`super`].

use crate::prelude::*;
use alloc::collections::BTreeMap;
use core::cmp::{Ordering, Reverse};

use super::arch::Arch;
use super::problems::too_long;
use crate::problem::Problem;
use rspawn_proto::filter::MAX_INSNS;

/// `SCMP_CMP_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// One argument comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cond {
    pub arg: u8,
    pub op: Op,
    /// All ones unless `op` is `MaskedEq`.
    pub mask: u64,
    pub value: u64,
}

impl Cond {
    pub fn with(self, op: Op) -> Self {
        Self { op, ..self }
    }

    /// What the architecture can see of it; nothing when it always holds.
    fn narrowed(self, wide: bool) -> Option<Self> {
        let visible = if wide { u64::MAX } else { 0xffff_ffff };
        let mask = self.mask & visible;
        let value = match self.op {
            Op::MaskedEq => self.value & mask,
            _ => self.value & visible,
        };
        (mask != 0).then_some(Self { mask, value, ..self })
    }

    /// libseccomp tests the higher argument first, then equality before upper
    /// before lower bounds, then the larger value (for upper bounds the
    /// smaller one).
    fn precedence(&self, other: &Self) -> Ordering {
        let class = |op| match op {
            Op::Eq | Op::Ne | Op::MaskedEq => 0,
            Op::Lt | Op::Le => 1,
            Op::Gt | Op::Ge => 2,
        };
        Reverse(self.arg)
            .cmp(&Reverse(other.arg))
            .then(class(self.op).cmp(&class(other.op)))
            .then(if class(self.op) == 1 { self.value.cmp(&other.value) } else { other.value.cmp(&self.value) })
    }
}

/// Conditions that must all hold, sorted by argument, and what then happens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub conds: Vec<Cond>,
    pub ret: u32,
}

impl Row {
    fn precedence(&self, other: &Self) -> Ordering {
        let pairs = self.conds.iter().zip(&other.conds);
        let first = pairs.map(|(a, b)| a.precedence(b)).find(|o| o.is_ne());
        first.unwrap_or_else(|| self.conds.len().cmp(&other.conds.len()))
    }
}

/// What happens to a call of one number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Return(u32),
    /// The first row that matches decides, else the default action.
    Chain {
        wide: bool,
        rows: Vec<Row>,
    },
}

/// A rule of the profile that is in order and not redundant.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    /// With the JSON pointer of each name.
    pub names: Vec<(&'a str, String)>,
    pub ret: u32,
    /// Alternatives, each a list of conditions; one empty list without `args`.
    pub alternatives: Vec<Vec<Cond>>,
}

/// Rules per architecture, counted per name and alternative. A real profile has
/// some hundred; a hostile one must not cost its square.
const MAX_ADDITIONS: usize = 4 * MAX_INSNS;

/// The verdicts of all numbers that the rules name on `arch`.
pub fn lower(arch: Arch, rules: &[Rule<'_>]) -> Result<BTreeMap<u32, Verdict>, Problem> {
    let mut verdicts = BTreeMap::new();
    let mut additions = 0;
    for rule in rules {
        for (name, pointer) in &rule.names {
            for conds in &rule.alternatives {
                for (nr, conds) in targets(arch, name, conds).into_iter().flatten() {
                    additions += 1;
                    if additions > MAX_ADDITIONS {
                        return Err(too_long());
                    }
                    let fresh = || Verdict::Chain { wide: arch.wide(), rows: Vec::new() };
                    add(verdicts.entry(nr).or_insert_with(fresh), conds, rule.ret)
                        .map_err(|Conflict| conflict(name, pointer))?;
                }
            }
        }
    }
    for verdict in verdicts.values_mut() {
        if let Verdict::Chain { rows, .. } = verdict {
            rows.sort_by(Row::precedence);
        }
    }
    Ok(verdicts)
}

type Target = Option<(u32, Vec<Cond>)>;

/// The numbers a call is made through: its own, and i386's multiplexer, which
/// passes only a pointer to the arguments, so that conditions on the first are
/// lost and the others compare what `socketcall` itself is given. Odd, but
/// exactly what libseccomp generates.
fn targets(arch: Arch, name: &str, conds: &[Cond]) -> [Target; 2] {
    let direct = arch.number(name).map(|nr| (nr, conds.to_vec()));
    let shared = arch.multiplexed(name).map(|(nr, code)| {
        let mut all = vec![Cond { arg: 0, op: Op::Eq, mask: u64::MAX, value: u64::from(code) }];
        all.extend(conds.iter().filter(|cond| cond.arg != 0));
        (nr, all)
    });
    [shared, direct]
}

struct Conflict;

fn conflict(name: &str, pointer: &str) -> Problem {
    Problem::new(
        pointer,
        format!(
            "this rule covers an earlier rule for {name} that has another action; libseccomp \
             refuses that too. Put the general rule first, or drop one of them."
        ),
    )
}

fn add(verdict: &mut Verdict, conds: Vec<Cond>, ret: u32) -> Result<(), Conflict> {
    // An unconditional rule has already decided.
    let Verdict::Chain { wide, rows } = verdict else {
        return Ok(());
    };
    let narrowed = conds.into_iter().filter_map(|cond| cond.narrowed(*wide));
    let mut conds: Vec<Cond> = narrowed.collect();
    conds.sort_by_key(|cond| cond.arg);
    if conds.is_empty() {
        *verdict = Verdict::Return(ret);
        return Ok(());
    }
    // An earlier rule whose conditions begin this one's matches whenever this
    // one does.
    if rows.iter().any(|row| conds.starts_with(&row.conds)) {
        let same = rows.iter().find(|row| row.conds == conds);
        return match same {
            Some(row) if row.ret != ret => Err(Conflict),
            _ => Ok(()),
        };
    }
    let covered = |row: &Row| row.conds.starts_with(&conds);
    if rows.iter().any(|row| covered(row) && row.ret != ret) {
        return Err(Conflict);
    }
    rows.retain(|row| !covered(row));
    rows.push(Row { conds, ret });
    Ok(())
}
