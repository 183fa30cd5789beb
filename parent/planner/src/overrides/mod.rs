//! What a person changes about a bundle without editing it: options of the command line, and keys of a settings file
//! ([`crate::settings`]). Both fill one typed [`Overrides`], and one pure function ([`apply::apply`]) lays it over a
//! configuration: bundle first, then settings, then the command line.
//!
//! Values are judged where they are read ([`values`], [`mounts`], [`filter`]), so that an error names the option. What
//! they make of the configuration is the planner's to judge, as if the bundle had said it.
pub mod apply;
pub mod filter;
pub mod mounts;
pub mod network;
pub mod outcome;
mod sourced;
pub mod syscall_sets;
pub mod user;
pub mod values;

use crate::oci::Rlimit;
use crate::options::InitChoice;
use crate::prelude::*;
pub use mounts::ExtraMount;
pub use sourced::Sourced;
pub use values::{CapabilityBits, Volatile};

use filter::FilterWords;
use network::Network;
use user::UserChoice;

/// Everything that can be overridden. An absent value leaves the configuration as it is.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// They are a settings file's whose author may be the image's: what could give more than the bundle gives is
    /// left out.
    pub untrusted: bool,
    pub args: Option<Sourced<Vec<String>>>,
    pub env: Vec<Sourced<(String, String)>>,
    pub user: Option<Sourced<UserChoice>>,
    pub cwd: Option<Sourced<String>>,
    pub hostname: Option<Sourced<String>>,
    pub personality: Option<Sourced<&'static str>>,
    pub no_new_privileges: Option<Sourced<bool>>,
    pub oom_score: Option<Sourced<i32>>,
    pub rlimits: Vec<Sourced<Rlimit>>,
    pub capabilities: Vec<Sourced<CapabilityBits>>,
    pub ambient_capabilities: Vec<Sourced<CapabilityBits>>,
    pub dropped_capabilities: Vec<Sourced<CapabilityBits>>,
    pub system_calls: Vec<Sourced<FilterWords>>,
    pub suppress_sync: Option<Sourced<bool>>,
    pub read_only: Option<Sourced<bool>>,
    pub volatile: Option<Sourced<Volatile>>,
    pub mounts: Vec<Sourced<ExtraMount>>,
    /// Each with whether it may be missing.
    pub inaccessible: Vec<Sourced<(String, bool)>>,
    pub network: Option<Sourced<Network>>,
    /// Network devices of the host, each with its name in the container.
    pub network_interfaces: Vec<Sourced<(String, String)>>,
    /// A user namespace whose ids from 0 on are these of the host: first and count.
    pub private_users: Option<Sourced<(u32, u32)>>,
    pub init: Option<Sourced<InitChoice>>,
    pub kill_signal: Option<Sourced<u8>>,
    pub cpu_affinity: Option<Sourced<Vec<usize>>>,
}

impl Overrides {
    /// Whether these need a look at the container's own user database.
    pub fn names_a_user(&self) -> bool {
        matches!(&self.user, Some(Sourced { value: UserChoice::Names { .. }, .. }))
    }

    pub fn shares_the_network(&self) -> bool {
        matches!(&self.network, Some(Sourced { value: Network::Host, .. }))
    }

    pub fn has_volatile_root(&self) -> bool {
        matches!(&self.volatile, Some(Sourced { value: Volatile::Yes, .. }))
    }

    /// Whether these need to know what is in the container's root.
    pub fn asks_of_the_root(&self) -> bool {
        self.names_a_user() || self.has_volatile_root() || self.shares_the_network() || self.cwd.is_some()
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
