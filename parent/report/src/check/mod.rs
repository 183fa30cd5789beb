//! What `rspawn check` finds: everything in one go, most important first.
pub mod document;
pub mod schema;
pub mod start;

use serde::Serialize;
use serde_json::Value;

use rspawn_planner::problem::Problem;

/// How bad something is; sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The bundle cannot be started.
    Error,
    /// It starts, and something that protects or limits it is not there.
    Warning,
    /// It starts, and something is not as it is written.
    Note,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A JSON pointer into config.json; an option or a line of a settings file; or a word for the machine.
    pub pointer: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Finding {
    /// What is said of a place in a document, with what the specification expects there and what stands there.
    pub fn new(severity: Severity, problem: Problem, document: Option<&Value>) -> Self {
        let Problem { pointer, message } = problem;
        let in_document = pointer.starts_with('/');
        let expected = schema::expected(&pointer).filter(|_| in_document).map(str::to_string);
        let found = document.filter(|_| in_document).map(|document| shown(document.pointer(&pointer)));
        let suggestion = suggestion(&message).map(str::to_string);
        Self { severity, pointer, message, expected, found, suggestion }
    }

    /// The sort key: severity, then what keeps most others from mattering.
    pub fn rank(&self) -> (Severity, usize) {
        const FIRST: [&str; 10] = [
            "machine", "", "/ociVersion", "/root", "/process/args", "/process", "/linux/namespaces", "/linux/seccomp",
            "/mounts", "/hooks",
        ];
        let is_at = |place: &&str| {
            self.pointer == **place || !place.is_empty() && self.pointer.starts_with(&format!("{place}/"))
        };
        (self.severity, FIRST.iter().position(is_at).unwrap_or(FIRST.len()))
    }
}

/// A value of the document, short.
fn shown(value: Option<&Value>) -> String {
    const MOST: usize = 60;
    match value {
        None => "nothing".into(),
        Some(Value::Array(list)) if list.is_empty() => "an empty list".into(),
        Some(Value::Array(list)) => format!("a list of {}", list.len()),
        Some(Value::Object(object)) => {
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            cut(&format!("an object with {}", if names.is_empty() { "nothing".into() } else { names.join(", ") }), MOST)
        }
        Some(other) => cut(&other.to_string(), MOST),
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.into() } else { text.chars().take(most).chain(['…']).collect() }
}

/// The word of a "did you mean".
fn suggestion(message: &str) -> Option<&str> {
    message.split_once("(did you mean ")?.1.split_once("?)").map(|(word, _)| word)
}

/// Whether a note of the planner speaks of protection or limits that are not there.
pub fn is_warning(pointer: &str) -> bool {
    const PLACES: [&str; 8] = [
        "/linux/resources/", "/linux/seccomp", "/process/capabilities", "/process/apparmorProfile",
        "/process/selinuxLabel", "/linux/mountLabel", "/linux/maskedPaths", "/linux/readonlyPaths",
    ];
    PLACES.iter().any(|place| pointer.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_was_expected_and_found() {
        let document = serde_json::json!({"mounts": [{"type": 7}], "process": {"args": []}});
        let of = |pointer: &str, message: &str| {
            Finding::new(Severity::Error, Problem::new(pointer, message), Some(&document))
        };
        let finding = of("/mounts/0/type", "x (did you mean tmpfs?)");
        assert_eq!(finding.expected.as_deref(), Some("a type of filesystem, or `bind`"));
        assert_eq!((finding.found.as_deref(), finding.suggestion.as_deref()), (Some("7"), Some("tmpfs")));
        assert_eq!(of("/process/args", "").found.as_deref(), Some("an empty list"));
        assert_eq!(of("/root", "").found.as_deref(), Some("nothing"));
        assert_eq!(of("--bind=/x", "").found, None);
        assert!(of("machine", "").rank() < of("/root/path", "").rank());
        assert!(of("/root/path", "").rank() < of("/hostname", "").rank());
    }
}
