//! Limits on their way to files of cgroups.
use crate::facts::CgroupFacts;
use crate::prelude::*;
use crate::problem::Problem;

/// Values for one file of the container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The JSON pointer of the limit.
    pub pointer: String,
    /// Index into [`CgroupFacts::hierarchies`].
    pub hierarchy: usize,
    /// The first whose file exists is meant.
    pub choices: Vec<Choice>,
    /// That there is no such file is an error.
    pub needed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub file: String,
    pub values: Vec<String>,
}

/// Where a controller is, by the index of its hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerLocation {
    V1(usize),
    V2(usize),
}

impl ControllerLocation {
    pub fn hierarchy(self) -> usize {
        match self {
            ControllerLocation::V1(index) | ControllerLocation::V2(index) => index,
        }
    }
}

/// What holds in a container that is to be changed, where that decides what is written, and in which order. Of a new
/// container, nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CurrentLimits {
    /// Bytes; `i64::MAX` for no limit.
    pub memory: Option<i64>,
    /// Of cgroup v1.
    pub memory_and_swap: Option<i64>,
    /// Of cgroup v2, which limits swap by itself.
    pub swap: Option<i64>,
    /// Bytes in use.
    pub usage: Option<i64>,
    /// Microseconds; -1 for no quota.
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub realtime_period: Option<u64>,
    pub idle: Option<i64>,
}

/// Limits on their way to files.
pub struct Settings<'a> {
    pub facts: &'a CgroupFacts,
    pub now: CurrentLimits,
    /// JSON pointer of the resources.
    pub base: &'a str,
    pub writes: Vec<Write>,
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
}

impl Settings<'_> {
    pub fn pointer(&self, field: &str) -> String {
        format!("{}/{field}", self.base)
    }

    pub fn problem(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(self.pointer(field), message));
    }

    pub fn note(&mut self, field: &str, message: impl Into<String>) {
        self.notes.push(Problem::new(self.pointer(field), message));
    }

    /// Where a controller is; some have another name in v2. Nowhere is a problem of the field that needs it.
    pub fn home(&mut self, field: &str, v1: &str, v2: &str) -> Option<ControllerLocation> {
        let found = find(self.facts, v1, v2);
        if found.is_none() {
            let name = if self.facts.unified { v2 } else { v1 };
            self.problem(field, format!("there is no cgroup controller {name:?} here"));
        }
        found
    }

    pub fn set(&mut self, home: ControllerLocation, field: &str, file: &str, value: impl ToString) {
        self.choose(home, field, [(file.to_string(), value.to_string())]);
    }

    /// A value that says what holds anyway where there is no such file.
    pub fn set_if_there(&mut self, home: ControllerLocation, field: &str, file: &str, value: impl ToString) {
        self.set(home, field, file, value);
        self.writes.iter_mut().last().into_iter().for_each(|write| write.needed = false);
    }

    /// One value under several names; the first file that exists takes it.
    pub fn choose(
        &mut self,
        home: ControllerLocation,
        field: &str,
        choices: impl IntoIterator<Item = (String, String)>,
    ) {
        let choices = choices.into_iter().map(|(file, value)| Choice { file, values: vec![value] }).collect();
        self.writes.push(Write { pointer: self.pointer(field), hierarchy: home.hierarchy(), choices, needed: true });
    }
}

/// Where a controller is mounted, by its names in v1 and v2.
pub fn find(facts: &CgroupFacts, v1: &str, v2: &str) -> Option<ControllerLocation> {
    let mounted = || facts.hierarchies.iter().enumerate().filter(|(_, hierarchy)| hierarchy.mount.is_some());
    let has = |names: &str| names.split(',').any(|name| name == v1);
    let old =
        mounted().find(|(_, hierarchy)| has(&hierarchy.controllers)).map(|(index, _)| ControllerLocation::V1(index));
    let new = || mounted().find(|(_, hierarchy)| hierarchy.controllers.is_empty());
    let in_v2 = facts.controllers.iter().any(|name| name == v2);
    old.or_else(|| in_v2.then(new).flatten().map(|(index, _)| ControllerLocation::V2(index)))
}
