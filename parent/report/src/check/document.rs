//! Everything that is wrong with a document's form: not the first error alone, which is where a parser stops.
use serde_json::Value;

use super::schema;
use rspawn_planner::oci::{Spec, escape};
use rspawn_planner::problem::{Problem, did_you_mean};

/// Errors of form that are looked for; a document with more is not one.
const MOST: usize = 200;

/// A document, and what is wrong with it.
#[derive(Default)]
pub struct Document {
    /// As it is written; `None` if it is no JSON.
    pub value: Option<Value>,
    /// A configuration, with something harmless in the place of what is wrong. `None` if nothing can be made of it.
    pub spec: Option<Spec>,
    pub errors: Vec<Problem>,
    /// Properties that the specification does not know.
    pub unknown: Vec<Problem>,
}

impl Document {
    pub fn read(bytes: &[u8]) -> Self {
        let first = match rspawn_planner::oci::parse(bytes) {
            Ok(spec) => {
                let value: Option<Value> = serde_json::from_slice(bytes).ok();
                let unknown = value.as_ref().map(unknown).unwrap_or_default();
                return Self { value, spec: Some(spec), unknown, ..Self::default() };
            }
            Err(problem) => problem,
        };
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Self { errors: vec![first], ..Self::default() };
        };
        if !value.is_object() {
            return Self { errors: vec![first], ..Self::default() };
        }
        let (spec, errors) = replace_and_go_on(value.clone(), first);
        Self { unknown: unknown(&value), value: Some(value), spec, errors }
    }

    /// Whether a problem at a pointer only follows from an error of form: what stands there is not what was written.
    pub fn is_consequence(&self, pointer: &str) -> bool {
        self.errors.iter().any(|error| {
            let (shorter, longer) = if error.pointer.len() < pointer.len() {
                (error.pointer.as_str(), pointer)
            } else {
                (pointer, error.pointer.as_str())
            };
            longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Puts something of the right type in the place of each error, until the rest is a configuration.
fn replace_and_go_on(mut value: Value, first: Problem) -> (Option<Spec>, Vec<Problem>) {
    let mut errors = vec![first];
    loop {
        let Some(error) = errors.last() else { return (None, errors) };
        if errors.len() >= MOST || !put_placeholder(&mut value, error) {
            return (None, errors);
        }
        // Of a value, and not of text: line and column would be those of no file.
        match rspawn_planner::oci::parse_value(&value) {
            Ok(spec) => return (Some(spec), errors),
            // The placeholder was not what is wanted either.
            Err(next) if next.pointer == error.pointer && next.message == error.message => return (None, errors),
            Err(next) if errors.iter().any(|known| known.pointer == next.pointer && !is_missing(&next)) => {
                return (None, errors);
            }
            Err(next) => errors.push(next),
        }
    }
}

/// Replaces what an error is about; false if that cannot be done.
fn put_placeholder(value: &mut Value, error: &Problem) -> bool {
    if let Some(name) = missing(error) {
        // A number is taken where a string is wanted next time, and the other way round, by the errors that follow.
        return match value.pointer_mut(&error.pointer) {
            Some(Value::Object(object)) => object.insert(name.to_string(), Value::from("")).is_none(),
            _ => false,
        };
    }
    let wanted = error.message.rsplit_once("expected ").map_or("", |(_, wanted)| wanted);
    let placeholder = match wanted {
        wanted if wanted.starts_with("a string") => Value::from(""),
        wanted if wanted.starts_with("a boolean") => Value::Bool(false),
        wanted if wanted.starts_with("a sequence") => Value::Array(Vec::new()),
        wanted if wanted.starts_with("a map") || wanted.starts_with("struct") => Value::Object(serde_json::Map::new()),
        wanted if wanted.starts_with(['u', 'i', 'f']) => Value::from(0),
        _ => Value::Null,
    };
    match value.pointer_mut(&error.pointer) {
        Some(place) if *place != placeholder => {
            *place = placeholder;
            true
        }
        _ => false,
    }
}

/// The name in serde's words for a missing property.
fn missing(error: &Problem) -> Option<&str> {
    error.message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next())
}

fn is_missing(error: &Problem) -> bool {
    missing(error).is_some()
}

/// Properties that the specification does not know, anywhere in a document.
fn unknown(value: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut places: Vec<(String, &Value)> = vec![(String::new(), value)];
    while let Some((pointer, value)) = places.pop() {
        match value {
            Value::Object(object) => {
                let known = schema::properties(&pointer);
                for (name, below) in object {
                    let place = format!("{pointer}/{}", escape(name));
                    match &known {
                        Some(names) if !names.contains(&name.as_str()) => {
                            if found.len() < MOST {
                                let hint = did_you_mean(name, names);
                                found
                                    .push(Problem::new(place, format!("ignored: there is no property {name:?}{hint}")));
                            }
                        }
                        _ => places.push((place, below)),
                    }
                }
            }
            Value::Array(list) => {
                places.extend(list.iter().enumerate().map(|(index, below)| (format!("{pointer}/{index}"), below)));
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        Document::read(text.as_bytes()).errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn every_error_of_form_is_found() {
        let text = r#"{"ociVersion":7,"root":{"path":[]},"mounts":[{"destination":1},{"destination":"/a","options":7}],
            "process":{"cwd":"/","args":"sh","user":{"uid":-1}},"linux":{"namespaces":[{"type":"pid"},{"kind":"x"}]}}"#;
        let mut found = errors(text);
        found.sort();
        let expected = [
            "/linux/namespaces/1", "/mounts/0/destination", "/mounts/1/options", "/ociVersion", "/process/args",
            "/process/user/uid", "/root/path",
        ];
        assert_eq!(found, expected);
        let document = Document::read(text.as_bytes());
        assert!(document.spec.is_some());
        assert!(document.is_consequence("/root/path") && document.is_consequence("/linux/namespaces/1/type"));
        assert!(!document.is_consequence("/mounts/10") && !document.is_consequence("/hostname"));
        assert_eq!(document.unknown.len(), 1);
    }

    #[test]
    fn what_is_no_document_has_one_error() {
        for text in ["", "{", "[]", "null", "{}x", "7"] {
            assert_eq!(errors(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn unknown_properties_are_found_with_what_was_meant() {
        let text = r#"{"ociVersion":"1.0.0","Root":{},"process":{"cwd":"/","noNewPriviledges":true},"windows":{"x":1},
            "annotations":{"free":"x"},"linux":{"sysctl":{"a":"b"},"resources":{"memory":{"x":1},"swap":1}}}"#;
        let found: Vec<Problem> = Document::read(text.as_bytes()).unknown;
        let pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/Root", "/linux/resources/memory/x", "/linux/resources/swap", "/process/noNewPriviledges"]
        );
        assert!(found[3].message.contains("noNewPrivileges?"));
    }
}
