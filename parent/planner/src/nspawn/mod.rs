//! `--oci-bundle=`: a bundle as systemd-nspawn starts it. Where the bundle is silent it gets what nspawn gives to every
//! container (systemd-nspawn(1)); what it says counts as ever.
//!
//! [`NspawnDefaults`] is what has to be known of the invoker, gathered before privileges go. All else is pure: a configuration
//! is filled in twice. [`NspawnDefaults::begin`] gives it what the invoker's options then change; [`NspawnDefaults::complete`] adds
//! what depends on how they have changed it. Each addition has the origin [`RULE`], so that `rspawn plan` shows what the
//! bundle left out.
mod invoker;
mod mounts;
mod process;

use crate::prelude::*;

use rspawn_proto::policy::{Enforcement, Policy};
use serde_json::Value;

use crate::default_spec::{HOST_CAPABILITIES, capabilities, host_name, namespaces};
use crate::oci::{Linux, Spec};
use crate::overrides::apply::Applied;
use crate::problem::Problem;
use crate::seccomp::{Arch, default_profile};
use crate::tables::CAPABILITIES;

pub use invoker::{NspawnDefaults, RULE};
pub use process::Login;

use invoker::has_namespace;

/// Namespaces of a bundle that lists none. The network is the host's.
const NAMESPACES: [&str; 5] = ["mount", "pid", "ipc", "uts", "cgroup"];

impl NspawnDefaults {
    /// Nobody has asked for the host's os-release, so an administrator's policy that does not show it is no reason to
    /// refuse a container.
    pub fn obey(&mut self, policy: &Policy) {
        let is_shown = |place: &String| {
            policy.mode != Enforcement::Enforce
                || policy.bind_allow.iter().any(|rule| rule.covers(place))
                    && !policy.bind_deny.iter().any(|rule| rule.is_shown_by(place))
        };
        self.os_release = self.os_release.take().filter(is_shown);
    }

    /// Gives a configuration what options change: a process, capabilities, namespaces.
    pub fn begin(&self, spec: &mut Spec, document: &Document, done: &mut Applied) {
        if spec.process.is_none() {
            done.origins.replace("/process", RULE);
        }
        let process = spec.process.get_or_insert_default();
        if !document.says("/process/terminal") {
            process.terminal = self.attended;
            done.origins.replace("/process/terminal", RULE);
        }
        if !document.says("/process/cwd") {
            process.cwd = "/".into();
            done.origins.replace("/process/cwd", RULE);
        }
        if process.capabilities.is_none() {
            let mut sets = capabilities(&HOST_CAPABILITIES);
            if process.user.uid != 0 {
                // As with `--user=`: what is meant for root is not meant for everyone.
                (sets.effective, sets.permitted) = (Vec::new(), Vec::new());
            }
            process.capabilities = Some(sets);
            done.origins.replace("/process/capabilities", RULE);
        }
        let linux = spec.linux.get_or_insert_default();
        if !document.says("/linux/namespaces") {
            linux.namespaces = namespaces(&NAMESPACES);
            done.origins.replace("/linux/namespaces", RULE);
        }
    }

    /// Adds what depends on the options: `after` is the configuration as they will have changed it. `login` is asked for
    /// the user's shell where there is no command.
    pub fn complete(
        &self,
        spec: &mut Spec,
        after: &Spec,
        document: &Document,
        arch: Option<Arch>,
        login: impl FnOnce() -> Login,
        done: &mut Applied,
    ) {
        let with_shell = after.process.as_ref().is_some_and(|process| process.args.is_empty());
        if let (Some(process), Some(after)) = (&mut spec.process, &after.process) {
            process::environment(self, process, after, done);
            // An empty list is what somebody wrote, and an error.
            if with_shell && !document.says("/process/args") {
                process::log_in(process, login(), document.says("/process/cwd"), done);
            }
        }
        if spec.hostname.is_none() && has_new_namespace(after, "uts") {
            spec.hostname = Some(host_name(&self.name));
            done.origins.replace("/hostname", RULE);
        }
        mounts::add(spec, after, self.os_release.as_deref(), done);
        let linux = spec.linux.get_or_insert_default();
        ignore_mappings(linux, after, done);
        mounts::cover(linux, done);
        if linux.seccomp.is_none() {
            linux.seccomp = arch.map(|arch| default_profile(&may_have(after), arch));
            done.origins.replace("/linux/seccomp", RULE);
        }
    }
}

/// What a bundle says, and what it is silent about: `null` is silence, an empty list is not.
#[derive(Debug, Default)]
pub struct Document(Value);

impl Document {
    /// Of a text that was found to be a configuration.
    pub fn of(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map(Self).map_err(|error| format!("config.json: {error}"))
    }

    fn says(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).is_some_and(|value| !value.is_null())
    }
}

/// Whether a configuration lists a namespace of a kind that is new, and not joined.
fn has_new_namespace(spec: &Spec, kind: &str) -> bool {
    let entries = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    entries.filter(|entry| entry.kind == kind).any(|entry| entry.path.as_deref().unwrap_or_default().is_empty())
}

/// As nspawn: mappings alone make no user namespace.
fn ignore_mappings(linux: &mut Linux, after: &Spec, done: &mut Applied) {
    if has_namespace(after, "user") {
        return;
    }
    for (pointer, list) in
        [("/linux/uidMappings", &mut linux.uid_mappings), ("/linux/gidMappings", &mut linux.gid_mappings)]
    {
        if !list.is_empty() {
            done.notes.push(Problem::new(pointer, "ignored: /linux/namespaces has no user namespace"));
            list.clear();
        }
    }
}

/// The capabilities that the payload can have, by their full names: the filter is made for these.
fn may_have(spec: &Spec) -> Vec<&'static str> {
    let sets = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    let is_in = |name: &&&'static str| {
        let sets = sets.iter().flat_map(|sets| sets.bounding.iter().chain(&sets.permitted).chain(&sets.ambient));
        sets.into_iter().any(|written| {
            let upper = written.to_ascii_uppercase();
            upper == **name || upper == name["CAP_".len()..]
        })
    };
    CAPABILITIES.iter().filter(is_in).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_silence_and_an_empty_list_is_not() {
        let document = Document::of(br#"{"process":{"args":[],"cwd":null},"linux":null}"#).unwrap();
        assert!(document.says("/process/args") && document.says("/process"));
        assert!(!document.says("/process/cwd") && !document.says("/linux/namespaces") && !document.says("/linux"));
    }
}
