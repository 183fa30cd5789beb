//! Something wrong with, or worth knowing about, a configuration.
use crate::prelude::*;
use core::fmt;

use serde::Serialize;

/// A sentence and the place in config.json that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A JSON pointer (RFC 6901); empty for the document as a whole. Where an override has changed what is there: the
    /// option, or the line of the settings file.
    pub pointer: String,
    pub message: String,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "config.json: {}", self.message),
            pointer if pointer.starts_with('/') => write!(f, "config.json {pointer}: {}", self.message),
            option => write!(f, "{option}: {}", self.message),
        }
    }
}

/// The candidate that a misspelt word was probably meant to be.
pub fn suggestion<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> Option<String> {
    let wanted = word.to_ascii_uppercase();
    // No candidate is longer than a few words; a hostile one must not cost its length squared.
    if wanted.len() > 64 {
        return None;
    }
    let near = |name: &str| name.len().max(3) / 3;
    let scored = candidates.into_iter().filter(|name| {
        // The distance is never less than this.
        name.as_ref().len().abs_diff(wanted.len()) <= near(name.as_ref())
    });
    let scored = scored.map(|name| (distance(&wanted, &name.as_ref().to_ascii_uppercase()), name.as_ref().to_string()));
    scored.filter(|(distance, name)| *distance <= near(name)).min().map(|(_, name)| name)
}

/// Levenshtein's distance, on bytes, two letters in the wrong order counting as one mistake.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut above = row.clone();
    for (i, x) in a.iter().enumerate() {
        let before = core::mem::replace(&mut above, row.clone());
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
    }
    row[b.len()]
}

/// " (did you mean X?)", or nothing.
pub fn did_you_mean<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> String {
    suggestion(word, candidates).map_or(String::new(), |name| format!(" (did you mean {name}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_suggested() {
        let names = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"];
        assert_eq!(suggestion("CAP_NETADMIN", names), Some("CAP_NET_ADMIN".into()));
        assert_eq!(suggestion("Exce", ["Exec", "Files"]), Some("Exec".into()));
        assert_eq!(suggestion("cap_sys_admn", names), Some("CAP_SYS_ADMIN".into()));
        assert_eq!(suggestion("completely-else", names), None);
    }
}
