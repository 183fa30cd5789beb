//! What a person changes about a bundle without editing it: options of the command line, and keys of a settings file
//! ([`crate::settings`]). Both fill one typed [`Overrides`], and one pure function ([`apply::apply`]) lays it over a
//! configuration: bundle first, then settings, then the command line.
//!
//! Values are judged where they are read ([`values`], [`mounts`], [`filter`]), so that an error names the option. What
//! they make of the configuration is the planner's to judge, as if the bundle had said it.
pub mod apply;
pub mod filter;
pub mod mounts;
pub mod outcome;
mod sourced;
pub mod syscall_sets;
pub mod user;
pub mod values;

use crate::oci::Rlimit;
use crate::options::InitChoice;
use crate::prelude::*;
pub use mounts::ExtraMount;
pub use sourced::Said;
pub use values::{CapabilityBits, Volatile};

use filter::FilterWords;
use user::UserChoice;

/// Everything that can be overridden. An absent value leaves the configuration as it is.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// They are a settings file's whose author may be the image's: what could give more than the bundle gives is
    /// left out.
    pub untrusted: bool,
    pub args: Option<Said<Vec<String>>>,
    pub env: Vec<Said<(String, String)>>,
    pub user: Option<Said<UserChoice>>,
    pub cwd: Option<Said<String>>,
    pub hostname: Option<Said<String>>,
    pub personality: Option<Said<&'static str>>,
    pub no_new_privileges: Option<Said<bool>>,
    pub oom_score: Option<Said<i32>>,
    pub rlimits: Vec<Said<Rlimit>>,
    pub capabilities: Vec<Said<CapabilityBits>>,
    pub ambient_capabilities: Vec<Said<CapabilityBits>>,
    pub dropped_capabilities: Vec<Said<CapabilityBits>>,
    pub system_calls: Vec<Said<FilterWords>>,
    pub suppress_sync: Option<Said<bool>>,
    pub read_only: Option<Said<bool>>,
    pub volatile: Option<Said<Volatile>>,
    pub mounts: Vec<Said<ExtraMount>>,
    /// Each with whether it may be missing.
    pub inaccessible: Vec<Said<(String, bool)>>,
    pub private_network: Option<Said<bool>>,
    /// Network devices of the host, each with its name in the container.
    pub network_interfaces: Vec<Said<(String, String)>>,
    pub network_namespace: Option<Said<String>>,
    /// A user namespace whose ids from 0 on are these of the host: first and count.
    pub private_users: Option<Said<(u32, u32)>>,
    pub init: Option<Said<InitChoice>>,
    pub kill_signal: Option<Said<u8>>,
    pub cpu_affinity: Option<Said<Vec<usize>>>,
}

impl Overrides {
    /// Whether these need a look at the container's own user database.
    pub fn names_a_user(&self) -> bool {
        matches!(&self.user, Some(Said { value: UserChoice::Name(_), .. }))
    }

    pub fn has_volatile_root(&self) -> bool {
        matches!(&self.volatile, Some(Said { value: Volatile::Yes, .. }))
    }

    /// Leaves optional mounts out whose source does not exist; says which.
    pub fn drop_missing(&mut self, exists: impl Fn(&str) -> bool) -> Vec<crate::problem::Problem> {
        let mut notes = Vec::new();
        self.mounts.retain(|said| {
            let source = said.value.mount.source.as_deref().unwrap_or_default();
            let missing = said.value.optional && !exists(source);
            if missing {
                let message = format!("left out: {source:?} does not exist");
                notes.push(crate::problem::Problem::new(said.origin.clone(), message));
            }
            !missing
        });
        notes
    }
}
