//! `--oci-bundle=`: a bundle as systemd-nspawn starts it. Where the bundle is silent it gets what nspawn gives to every
//! container (systemd-nspawn(1)); what it says counts as ever.
//!
//! [`Manners`] is what has to be known of the invoker, gathered before privileges go. All else is pure: a configuration
//! is filled in twice. [`Manners::begin`] gives it what the invoker's options then change; [`Manners::complete`] adds
//! what depends on how they have changed it. Each addition has the origin [`RULE`], so that `rspawn plan` shows what the
//! bundle left out.
mod mounts;
mod process;

use std::fs;
use std::path::Path;

use rspawn_proto::policy::{Enforcement, Policy};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::default_spec::{HOST_CAPABILITIES, capabilities, host_name, namespaces};
use crate::oci::{Linux, Spec};
use crate::overrides::apply::Applied;
use crate::plan::CAPABILITIES;
use crate::plan::seccomp::{Arch, default_profile};
use crate::problem::Problem;

pub use process::Login;

/// The origin of everything that is added.
pub const RULE: &str = "rule: nspawn";

/// Namespaces of a bundle that lists none. The network is the host's.
const NAMESPACES: [&str; 5] = ["mount", "pid", "ipc", "uts", "cgroup"];

/// Variables of the invoker's that concern the terminal.
const OF_TERMINALS: [&str; 2] = ["COLORTERM", "NO_COLOR"];

/// What is known of the invoker and of the machine.
#[derive(Debug, Clone)]
pub struct Manners {
    /// The container's name.
    pub name: String,
    /// Whether a console leads somewhere: to who stays in the foreground, or to a socket for it.
    attended: bool,
    /// Whether `--console=` gives the container a terminal, where it is said.
    console: Option<bool>,
    term: String,
    /// Those of [`OF_TERMINALS`] that are set, as entries of an environment.
    of_terminals: Vec<String>,
    uuid: String,
    /// The host's os-release(5), links resolved.
    os_release: Option<String>,
}

impl Manners {
    /// Asks the environment and the machine. `directory` is the bundle's, links resolved.
    pub fn of_invoker(name: String, directory: &str, attended: bool, console: Option<bool>) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let entry = |name: &&str| variable(name).map(|value| format!("{name}={value}"));
        let of_terminals = OF_TERMINALS.iter().filter_map(entry).collect();
        let os_release = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| {
            let place = fs::canonicalize(path).ok().filter(|place| place.is_file())?;
            place.into_os_string().into_string().ok()
        });
        let term = variable("TERM").unwrap_or_else(|| "xterm".into());
        Self { uuid: uuid(&name, directory), name, attended, console, term, of_terminals, os_release }
    }

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
            self.environment(process, after, done);
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

/// A container's name where none is given: the bundle's directory's, as far as an id takes it.
pub fn name_of(directory: &Path) -> Result<String, String> {
    let say = |error: &dyn std::fmt::Display| format!("cannot open the bundle {}: {error}", directory.display());
    let path = directory.canonicalize().map_err(|error| say(&error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_+-.".contains(c) { c } else { '-' };
    let usable: String = name.chars().take(200).map(fits).collect();
    Ok(if usable.trim_matches(['-', '.']).is_empty() { "bundle".into() } else { usable })
}

/// An id for the machine that the container is to its programs, the same each time: of the container's name, its bundle
/// and this machine's id, which it does not give away (machine-id(5)).
fn uuid(name: &str, directory: &str) -> String {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [b"rspawn container_uuid", machine.as_slice(), directory.as_bytes(), name.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut bytes: [u8; 16] = std::array::from_fn(|_| 0);
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    // RFC 9562: version 8 is for ids of one's own making.
    (bytes[6], bytes[8]) = (bytes[6] & 0x0f | 0x80, bytes[8] & 0x3f | 0x80);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Whether a configuration lists a namespace of a kind that is new, and not joined.
fn has_new_namespace(spec: &Spec, kind: &str) -> bool {
    let entries = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    entries.filter(|entry| entry.kind == kind).any(|entry| entry.path.as_deref().unwrap_or_default().is_empty())
}

/// Whether it lists one of a kind at all.
fn has_namespace(spec: &Spec, kind: &str) -> bool {
    spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|entry| entry.kind == kind)
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
    fn names_of_directories_are_ids() {
        assert_eq!(name_of(Path::new("/usr/../usr")), Ok("usr".into()));
        assert_eq!(name_of(Path::new("/")), Ok("bundle".into()));
        assert!(name_of(Path::new("/no/such")).unwrap_err().contains("/no/such"));
    }

    #[test]
    fn an_id_is_of_its_container() {
        let (one, other) = (uuid("a", "/b"), uuid("b", "/b"));
        assert_eq!(one, uuid("a", "/b"));
        assert_ne!(one, other);
        assert!(one.len() == 36 && &one[14..15] == "8" && one.split('-').count() == 5, "{one}");
    }

    #[test]
    fn null_is_silence_and_an_empty_list_is_not() {
        let document = Document::of(br#"{"process":{"args":[],"cwd":null},"linux":null}"#).unwrap();
        assert!(document.says("/process/args") && document.says("/process"));
        assert!(!document.says("/process/cwd") && !document.says("/linux/namespaces") && !document.says("/linux"));
    }
}
