//! Problems and notes of a plan as they are said to who starts a container.
use std::collections::HashSet;

use rspawn_host::streams;
use rspawn_planner::problem::Problem;
use rspawn_proto::msg::Mode;

use crate::session::log::Log;

/// Problems as the text of one error: the first in full, the others after it.
pub fn explain(problems: &[Problem]) -> String {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(Problem::to_string).collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more problems", problems.len() - SHOWN));
    }
    lines.join("\nrspawn: ")
}

/// Notes that are said at once, the first of very many. What is so in several places, as a capability in every set, is
/// said of the first.
pub fn warnings(notes: &[Problem]) -> Vec<Problem> {
    const MOST: usize = 50;
    let mut said = HashSet::new();
    let mut warnings = Vec::new();
    for note in notes.iter().filter(|note| is_worth_a_warning(&note.pointer)) {
        let is_new = !note.pointer.starts_with(CAPABILITIES) || said.insert(note.message.as_str());
        if is_new && warnings.len() < MOST {
            warnings.push(note.clone());
        }
    }
    warnings
}

/// On stderr, where somebody reads it: a line there is all that clients of `create` take for an error. But that a
/// capability is left out has to be said (config.md), there if not in the log; as with runc, one that nobody could have,
/// and not one that follows from the other sets, as every engine's ambient ones do.
pub fn say_warnings(warnings: &[Problem], mode: Mode, log: &Log) {
    let of_a_set =
        |pointer: &str| pointer.strip_prefix(CAPABILITIES).map(|rest| !rest.get(1..).unwrap_or_default().contains('/'));
    for warning in warnings {
        let (is_said, must_be_said) = match of_a_set(&warning.pointer) {
            Some(follows) => (!follows, !follows && !log.is_kept()),
            None => (true, false),
        };
        if must_be_said || is_said && mode == Mode::Foreground {
            streams::warn(warning);
        }
    }
}

/// A limit or a right that is left out is said at once, and a rule of seccomp's that rules nothing; the rest is `rspawn
/// check`'s to say.
fn is_worth_a_warning(pointer: &str) -> bool {
    // What does not begin with a slash are the invoker's own words, or a settings file's; or else a rule of rspawn's,
    // whose effect nobody has asked for.
    let is_said = !pointer.starts_with('/') && !pointer.starts_with("rule: ");
    let is_rule =
        pointer.starts_with("/linux/seccomp/syscalls/") && ["/names", "/name"].iter().any(|end| pointer.ends_with(end));
    is_said
        || is_rule
        || ["/linux/resources/", CAPABILITIES].iter().any(|place| pointer.starts_with(place))
        || pointer == "/linux/cgroupsPath"
}

const CAPABILITIES: &str = "/process/capabilities";
