//! Rules about host paths.
use alloc::string::String;

use bincode::{Decode, Encode};

/// A host path, and what lies below it when `below` is set.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct PathRule {
    pub path: String,
    pub below: bool,
    pub read_only: bool,
}

impl PathRule {
    /// Whether the rule speaks of the place that a path led to.
    pub fn covers(&self, path: &str) -> bool {
        let own = self.path.strip_suffix('/').unwrap_or(&self.path);
        path.strip_suffix('/').unwrap_or(path) == own || (self.below && is_below(path, own))
    }

    /// Whether a bind of a place shows something that the rule speaks of: a bind of a parent shows what is below it.
    pub fn is_shown_by(&self, path: &str) -> bool {
        self.covers(path) || is_below(&self.path, path)
    }
}

/// Whether `path` lies below `parent`.
pub fn is_below(path: &str, parent: &str) -> bool {
    let parent = parent.strip_suffix('/').unwrap_or(parent);
    path.strip_prefix(parent).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}
