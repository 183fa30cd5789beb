//! The parts of config.json that rspawn reads (OCI runtime-spec 1.3). Unknown properties are ignored, as config.md
//! ("Extensibility") requires; an explicit null counts as absent, since Go clients write it.
mod linux;
mod mounts;
mod nullable;
mod process;
pub mod resources;
pub mod seccomp;

use crate::prelude::*;
use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use linux::*;
pub use mounts::*;
pub use process::*;

use crate::problem::Problem;
use nullable::nullable;

/// The version of the specification that the state of a container complies with.
pub const STATE_VERSION: &str = "1.3.0";

/// Bytes of a config.json that are read at most.
pub const MAX_CONFIG: usize = 32 << 20;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub oci_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Root {
    pub path: String,
    #[serde(default, deserialize_with = "nullable")]
    pub readonly: bool,
    /// Every mount below the root as well, before anything else is mounted there. Of `run --host`; no bundle has it.
    #[serde(skip)]
    pub readonly_recursive: bool,
    /// Of `--volatile=`; no bundle has it.
    #[serde(skip)]
    pub volatile: Option<VolatileRoot>,
}

/// A root that keeps nothing, or not everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolatileRoot {
    /// All but /var is read-only, and /var is a tmpfs.
    State,
    /// A tmpfs with the image's /usr, and the links to it that are named.
    OnlyUsr(Vec<&'static str>),
    /// An overlay of a directory that nobody keeps over the image.
    Overlay { scratch: String },
}

/// Hooks are kept as they are: a later stage runs them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The lists by their names in config.json.
    pub fn lists(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hook {
    pub path: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// An empty list is not the same as none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// Parses config.json. The problem's pointer is where the JSON stops being a configuration.
pub fn parse(config: &[u8]) -> Result<Spec, Problem> {
    parse_as(config)
}

/// Parses a process on its own, as `exec --process` takes it.
pub fn parse_process(text: &[u8]) -> Result<Process, Problem> {
    parse_as(text)
}

/// Parses `linux.resources` on its own, as `update --resources` takes them.
pub fn parse_resources(text: &[u8]) -> Result<resources::Resources, Problem> {
    parse_as(text)
}

fn parse_as<T: for<'de> Deserialize<'de>>(config: &[u8]) -> Result<T, Problem> {
    if config.starts_with(b"\xef\xbb\xbf") {
        // RFC 8259, section 8.1: a parser may ignore one; runc and crun refuse it, too.
        return Err(Problem::new(
            "",
            "it begins with a byte order mark, which JSON does not allow: save it as UTF-8 without BOM",
        ));
    }
    if let Some(found) = no_object(config) {
        return Err(Problem::new("", format!("it is {found}, where an object is expected: {{ … }}")));
    }
    let mut json = serde_json::Deserializer::from_slice(config);
    let spec: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        Problem::new(pointer, error.into_inner().to_string())
    })?;
    json.end().map_err(|error| Problem::new("", error.to_string()))?;
    Ok(spec)
}

/// What a text is that begins as no object does, if it is known: said before the names of types are.
fn no_object(text: &[u8]) -> Option<&'static str> {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => Some("an array"),
        Some(b'"') => Some("a string"),
        Some(b'n') => Some("null"),
        Some(b't' | b'f') => Some("a boolean"),
        Some(b'-' | b'0'..=b'9') => Some("a number"),
        _ => None,
    }
}

/// As [`parse`], of a document that is taken apart already.
pub fn parse_value(document: &serde_json::Value) -> Result<Spec, Problem> {
    serde_path_to_error::deserialize(document)
        .map_err(|error| Problem::new(pointer(error.path()), error.into_inner().to_string()))
}

/// RFC 6901: `~` and `/` in keys are escaped.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// A key as a JSON pointer writes it.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_said_without_names_of_types() {
        for (text, is) in [(" \n[]", "an array"), ("\"x\"", "a string"), ("null", "null"), ("-7", "a number")] {
            let said = parse(text.as_bytes()).unwrap_err().message;
            assert_eq!(said, format!("it is {is}, where an object is expected: {{ … }}"));
        }
        // What is cut off may be one.
        for text in ["", "{"] {
            assert!(parse(text.as_bytes()).unwrap_err().message.contains("EOF"));
        }
    }

    #[test]
    fn errors_point_into_the_document() {
        let problem =
            parse(br#"{"ociVersion":"1.0.2","mounts":[{"destination":"/a"},{"destination":7}]}"#).unwrap_err();
        assert_eq!(problem.pointer, "/mounts/1/destination");
        let problem = parse(br#"{"ociVersion":"1.0.2","linux":{"sysctl":{"a/b":7}}}"#).unwrap_err();
        assert_eq!(problem.pointer, "/linux/sysctl/a~1b");
        assert!(parse(br#"{"ociVersion":"1.0.2"} x"#).is_err());
    }

    #[test]
    fn null_is_absent() {
        let config = br#"{"ociVersion":"1.0.2","mounts":null,"hooks":null,"linux":{"resources":null,"devices":null},
            "process":{"args":null,"cwd":"/","user":null}}"#;
        let spec = parse(config).unwrap();
        assert!(spec.mounts.is_empty() && spec.hooks.is_none());
    }
}
