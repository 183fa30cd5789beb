//! What a policy says of a plan, step by step.
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::{Enforcement, Policy, Violation};
use serde_json::{Value, json};

use super::colours::{Colours, Tone};
use crate::describe;
use rspawn_planner::policy;

pub struct Verdict {
    mode: Enforcement,
    violations: Vec<Violation>,
}

impl Verdict {
    pub fn of(policy: &Policy, plan: &Plan) -> Self {
        let mut violations =
            if policy.mode == Enforcement::Off { Vec::new() } else { policy::violations(policy, plan) };
        violations.sort_by(|a, b| (&a.origin, &a.rule).cmp(&(&b.origin, &b.rule)));
        violations.dedup();
        Self { mode: policy.mode, violations }
    }

    /// The lines about it at the head of a plan.
    pub fn head(&self, colours: Colours) -> Vec<String> {
        let (word, tone) = match (self.mode, self.violations.is_empty()) {
            (Enforcement::Off, _) => return vec!["off: anything is granted".into()],
            (_, true) => return vec![colours.paint(Tone::Reassuring, "grants all of it")],
            (Enforcement::Warn, false) => ("warns of", Tone::Notable),
            (Enforcement::Enforce, false) => ("refuses", Tone::Alarming),
        };
        let line = |violation: &Violation| {
            let Violation { origin, rule, .. } = violation;
            colours.paint(tone, &format!("{word} {origin} by {rule}: it {}", describe::violation(violation)))
        };
        self.violations.iter().map(line).collect()
    }

    /// The word beside a step that comes from a place of config.json.
    pub fn word(&self, origin: &str) -> String {
        let rules: Vec<&str> = self.rules(origin);
        match (self.mode, rules.as_slice()) {
            (Enforcement::Off, _) | (_, []) => "granted".into(),
            (Enforcement::Warn, rules) => format!("warned of ({})", rules.join(" ")),
            (Enforcement::Enforce, rules) => format!("refused ({})", rules.join(" ")),
        }
    }

    pub fn is_granted(&self, origin: &str) -> bool {
        self.rules(origin).is_empty()
    }

    fn rules(&self, origin: &str) -> Vec<&str> {
        let of_it = |violation: &&Violation| violation.origin == origin;
        let mut rules: Vec<&str> = self.violations.iter().filter(of_it).map(|found| found.rule.as_str()).collect();
        rules.dedup();
        rules
    }

    pub fn json(&self) -> Value {
        let mode = match self.mode {
            Enforcement::Off => "off",
            Enforcement::Warn => "warn",
            Enforcement::Enforce => "enforce",
        };
        let violation =
            |found: &Violation| json!({"origin": found.origin, "rule": found.rule, "what": describe::violation(found)});
        json!({"mode": mode, "violations": self.violations.iter().map(violation).collect::<Vec<_>>()})
    }
}
