//! Which words of the invoker or of a settings file stand behind a part of the configuration.
//!
//! The planner knows JSON pointers. Where an override has changed what is at one, its steps and problems are renamed
//! afterwards, so that `rspawn plan` and every error say "--bind=/srv" rather than name a line of a file that has no
//! such line.
use crate::prelude::*;
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use rspawn_proto::plan::Step;

use crate::problem::Problem;

/// Pointers into config.json, and where what they point at came from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// These pointers and all below them.
    trees: BTreeMap<String, String>,
    /// These pointers alone: a part was changed, the rest is the bundle's.
    points: BTreeMap<String, String>,
    /// Pointers to what stands elsewhere in the bundle: in a list, rspawn has put something before it.
    moved: BTreeMap<String, String>,
}

impl Origins {
    /// Everything at a pointer and below comes from `origin`; the last word counts.
    pub fn replace(&mut self, pointer: impl Into<String>, origin: &str) {
        self.trees.insert(pointer.into(), origin.to_string());
    }

    /// A part of what is at a pointer comes from `origin`.
    pub fn amend(&mut self, pointer: &str, origin: &str) {
        let joined = match self.points.get(pointer) {
            Some(before) if before.split(", ").any(|known| known == origin) => return,
            Some(before) => format!("{before}, {origin}"),
            None => origin.to_string(),
        };
        self.points.insert(pointer.to_string(), joined);
    }

    /// What is at a pointer is at another one in the bundle.
    pub fn moved(&mut self, pointer: impl Into<String>, bundles: impl Into<String>) {
        self.moved.insert(pointer.into(), bundles.into());
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty() && self.points.is_empty() && self.moved.is_empty()
    }

    /// The origin to show for a pointer, which may be the pointer itself.
    pub fn of<'a>(&'a self, pointer: &'a str) -> Cow<'a, str> {
        if let Some(origin) = self.points.get(pointer) {
            return origin.into();
        }
        let mut place = pointer;
        loop {
            if let Some(origin) = self.trees.get(place) {
                return origin.into();
            }
            if let Some(bundles) = self.moved.get(place) {
                return format!("{bundles}{}", &pointer[place.len()..]).into();
            }
            match place.rfind('/') {
                Some(end) => place = &place[..end],
                None => return pointer.into(),
            }
        }
    }

    /// Leaves out what names lists whose elements have moved: every step has the bundle's pointer now, which must not
    /// be taken for another one.
    pub fn settle_moves(&mut self) {
        let is_moved = |pointer: &str| self.moved.keys().any(|moved| list_of(moved) == list_of(pointer));
        let trees = self.trees.iter().filter(|(pointer, _)| !is_moved(pointer));
        self.trees = trees.map(|(pointer, origin)| (pointer.clone(), origin.clone())).collect();
        self.moved.clear();
    }

    pub fn rename_steps<T>(&self, steps: &mut [Step<T>]) {
        for step in steps {
            step.origin = self.of(&step.origin).to_string();
        }
    }

    pub fn rename_problems(&self, problems: &mut [Problem]) {
        for problem in problems {
            problem.pointer = self.of(&problem.pointer).to_string();
        }
    }
}

/// The pointer of the list that an element's pointer is in, with its slash.
fn list_of(pointer: &str) -> &str {
    pointer.rfind('/').map_or("", |end| &pointer[..=end])
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[test]
    fn the_nearest_ancestor_names_it() {
        let mut origins = Origins::default();
        origins.replace("/mounts/7", "--bind=/srv");
        origins.amend("/linux/seccomp", "settings [Exec] SystemCallFilter=");
        origins.amend("/linux/seccomp", "--system-call-filter=@mount");
        origins.amend("/linux/seccomp", "--system-call-filter=@mount");
        assert_eq!(origins.of("/mounts/7/source"), "--bind=/srv");
        assert_eq!(origins.of("/mounts/70"), "/mounts/70");
        assert_eq!(origins.of("rule: masks"), "rule: masks");
        assert_eq!(origins.of("/linux/seccomp"), "settings [Exec] SystemCallFilter=, --system-call-filter=@mount");
        assert_eq!(origins.of("/linux/seccomp/syscalls/0"), "/linux/seccomp/syscalls/0");
        origins.moved("/mounts/9", "/mounts/0");
        assert_eq!(origins.of("/mounts/9/options"), "/mounts/0/options");
    }
}
