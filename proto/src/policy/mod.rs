//! The administrator's policy, already parsed, and its judgement of a whole plan.
//!
//! rspawn-setup judges the *decoded* plan, so that no disagreement between two readers of JSON can matter, and each host
//! path on the descriptor that it led to. What a policy file leaves unsaid, its reader has filled in: here nothing is
//! "not set".
use alloc::{string::String, string::ToString, vec::Vec};

use bincode::{Decode, Encode};

use crate::ids::normalized;
use crate::namespaces::NamespaceSet;
use crate::plan::{NodeKind, Plan};

mod kernel;
mod opened;
mod path_rule;
mod rights;
mod rules;

pub use opened::{Opened, is_lower_layer, judge_maps, judge_opened};
pub use path_rule::{PathRule, is_below};
pub use rights::{DEFAULT_DEVICES, USUAL_PROPERTIES};
pub use rules::violations;

/// What happens to a plan that asks for more than the policy grants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum Enforcement {
    #[default]
    Off,
    /// Report what would be refused, and go on.
    Warn,
    Enforce,
}

/// A device as mknod names it; `None` stands for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DeviceRule {
    pub kind: NodeKind,
    pub major: u32,
    pub minor: Option<u32>,
}

/// A call of one architecture (an AUDIT_ARCH_* value) that a filter has to deny.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeniedCall {
    pub arch: u32,
    pub number: u32,
    pub name: String,
}

/// What plans may hold. A list that is `None` allows anything of its kind.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Policy {
    pub mode: Enforcement,
    pub bind_allow: Vec<PathRule>,
    pub bind_deny: Vec<PathRule>,
    pub capabilities: u64,
    pub no_new_privileges: bool,
    pub seccomp: bool,
    /// What a filter, where there has to be one, denies whatever the arguments.
    pub must_deny: Vec<DeniedCall>,
    pub user_namespace: bool,
    /// The invoker is not the machine's root, but a user, or root of a user namespace.
    pub invoker_is_confined: bool,
    /// Lowest host id that a user namespace may map.
    pub min_host_id: u32,
    /// Kinds that a container must not share with the host.
    pub own_namespaces: NamespaceSet,
    pub join_allow: Vec<PathRule>,
    pub devices: Option<Vec<DeviceRule>>,
    /// Keys, or prefixes ending in a separator.
    pub sysctls: Option<Vec<String>>,
    /// Filesystem types. With `usual_filesystems`, beside those.
    pub filesystems: Option<Vec<String>>,
    /// Those that show nothing but the container's own are allowed.
    pub usual_filesystems: bool,
    /// What of the kernel's settings a procfs and a sysfs show is read-only, or hidden, where its root is the machine's.
    pub protect_kernel: bool,
    /// Programs that may be hooks.
    pub hooks: Option<Vec<PathRule>>,
    /// Properties that a scope may have beside [`USUAL_PROPERTIES`].
    pub properties: Option<Vec<String>>,
    /// Network devices that may be moved into a container.
    pub net_devices: Option<Vec<String>>,
    /// Where cgroups may be made, from the root of their hierarchy.
    pub cgroups: Option<Vec<PathRule>>,
    /// Classes of service of resctrl that may be joined or made.
    pub resctrl: Option<Vec<String>>,
}

/// One thing that a plan asks for and the policy does not grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Violation {
    pub origin: String,
    /// The policy key.
    pub rule: String,
    pub what: String,
    /// Capabilities that `what` ends with: who shows it has their names.
    pub capabilities: u64,
}

impl Violation {
    pub fn new(rule: &str, origin: &str, what: String) -> Self {
        Self { origin: origin.to_string(), rule: rule.to_string(), what, capabilities: 0 }
    }
}

/// A plan that has passed. Only [`judge`] makes one, and the driver of rspawn-setup takes nothing else.
#[derive(Debug)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// The outcome of [`judge`]: a plan to carry out with what a warning policy found, or what an enforcing one refused.
pub type Judgement = Result<(Approved<Plan>, Vec<Violation>), Vec<Violation>>;

/// Judges a plan that has passed [`crate::check::check`], up to what its host paths lead to.
pub fn judge(policy: &Policy, plan: Plan) -> Judgement {
    let violations = if policy.mode == Enforcement::Off { Vec::new() } else { violations(policy, &plan) };
    if policy.mode == Enforcement::Enforce && !violations.is_empty() {
        Err(violations)
    } else {
        Ok((Approved(plan), violations))
    }
}

/// The same path as one that rules can be compared with.
pub fn absolute(path: &str) -> String {
    let mut whole = "/".to_string();
    whole.push_str(&normalized(path));
    whole
}

/// Whether a list has a word, or allows any.
fn lists(allowed: &Option<Vec<String>>, word: &str) -> bool {
    allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|known| known == word))
}
