//! Sentences about what changes.
use std::collections::BTreeSet;

/// Whether a container can do more by a change, less, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    More,
    Less,
    Other,
}

pub type Sentence = (Change, String);

/// Sentences about what only the second set has, which is more, and what only the first has, which is less.
pub fn both_ways<T: Ord>(
    out: &mut Vec<Sentence>,
    before: &BTreeSet<T>,
    after: &BTreeSet<T>,
    gained: impl Fn(&T) -> String,
    lost: impl Fn(&T) -> String,
) {
    out.extend(after.difference(before).map(|item| (Change::More, gained(item))));
    out.extend(before.difference(after).map(|item| (Change::Less, lost(item))));
}
