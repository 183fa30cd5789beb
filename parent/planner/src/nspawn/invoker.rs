//! What is known of the invoker and of the machine, and what the additions have in common.
use crate::oci::Spec;
use crate::prelude::*;

/// The origin of everything that is added.
pub const RULE: &str = "rule: nspawn";

/// What is known of the invoker and of the machine.
#[derive(Debug, Clone)]
pub struct NspawnDefaults {
    /// The container's name.
    pub name: String,
    /// Whether a console leads somewhere: to who stays in the foreground, or to a socket for it.
    pub attended: bool,
    /// Whether `--console=` gives the container a terminal, where it is said.
    pub console: Option<bool>,
    pub term: String,
    /// Variables of the invoker's that concern the terminal, as entries of an environment.
    pub of_terminals: Vec<String>,
    pub uuid: String,
    /// The host's os-release(5), links resolved.
    pub os_release: Option<String>,
}

/// Whether it lists one of a kind at all.
pub fn has_namespace(spec: &Spec, kind: &str) -> bool {
    spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|entry| entry.kind == kind)
}
