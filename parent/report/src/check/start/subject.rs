//! What is judged, and what several judgements ask of it.
use rspawn_planner::facts::Facts;
use rspawn_planner::origins::Origins;
use rspawn_planner::problem::Problem;
use rspawn_planner::start_facts::{Look, StartFacts};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::Plan;

/// What is judged, and by what.
pub struct Start<'a> {
    pub plan: &'a Plan,
    /// Where the parts of the configuration come from that are not the bundle's.
    pub origins: &'a Origins,
    pub facts: &'a Facts,
    pub start: &'a StartFacts,
    pub look: &'a dyn Look,
}

impl Start<'_> {
    /// A problem with a part of config.json, or with what has taken its place.
    pub fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.origins.of(pointer), message)
    }

    /// Whether rspawn-setup has a capability that counts for the machine (capabilities(7)).
    pub fn host_may(&self, capability: u32) -> bool {
        self.facts.ids.initial && !self.facts.ids.rootless && self.facts.capabilities & 1 << capability != 0
    }

    /// Whether the container's first process has, before it gives rights up, one that counts for the machine.
    pub fn first_process_may(&self, capability: u32) -> bool {
        self.host_may(capability) && !self.owns(Namespace::User)
    }

    /// Whether the container has a namespace of its own: new, or joined by path.
    pub fn owns(&self, kind: Namespace) -> bool {
        rspawn_proto::check::owned_namespaces(&self.plan.spawn).contains(kind)
    }

    /// Whether it has a new one.
    pub fn makes(&self, kind: Namespace) -> bool {
        self.plan.spawn.new.contains(kind)
    }
}

/// Whether a number is in a mask of 64 a word.
pub fn is_in(mask: &[u64], number: usize) -> bool {
    mask.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
}

/// The numbers of a mask that another lacks.
pub fn beyond(mask: &[u64], known: &[u64]) -> Vec<usize> {
    (0..mask.len() * 64).filter(|number| is_in(mask, *number) && !is_in(known, *number)).collect()
}

/// The first of some numbers, in words.
pub fn some(numbers: &[usize]) -> String {
    let first: Vec<String> = numbers.iter().take(4).map(usize::to_string).collect();
    if numbers.len() > first.len() { format!("{}, …", first.join(", ")) } else { first.join(", ") }
}
