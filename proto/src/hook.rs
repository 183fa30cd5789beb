//! Hooks: programs that config.json names, and the state that they read.
use alloc::{format, string::String, vec::Vec};

use bincode::{Decode, Encode};

use crate::ids::{HostPath, Text};
use crate::policy::PathRule;

/// A program of the host's that config.json names (runtime-spec, config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Hook {
    /// The JSON pointer of the hook.
    pub origin: String,
    pub path: HostPath,
    pub argv: Vec<Text>,
    /// Where config.json gives none: of a startContainer hook the payload's, of any other nothing.
    pub env: Option<Vec<Text>>,
    /// Seconds; 0 for no limit.
    pub timeout: u32,
    /// Files that its standard output and standard error are appended to. Without, an error quotes them.
    pub outputs: [Option<HostPath>; 2],
}

/// Programs that config.json names, which rspawn-hooks runs at fixed moments (runtime-spec, runtime.md, "Lifecycle").
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Hooks {
    /// prestart and createRuntime, in the caller's namespaces: at [`crate::plan::RootfsOp::Hooks`].
    pub runtime: Vec<Hook>,
    /// createContainer, in the container's namespaces, the host's files in sight: right after those.
    pub container: Vec<Hook>,
    /// poststart and poststop, kept for later commands; and the state that every hook reads.
    pub deferred: DeferredHooks,
}

impl Hooks {
    /// Every hook that runs with the host's files in sight.
    pub fn of_the_host(&self) -> impl Iterator<Item = &Hook> {
        let DeferredHooks { poststart, poststop, .. } = &self.deferred;
        self.runtime.iter().chain(&self.container).chain(poststart).chain(poststop)
    }
}

/// What is left to do at later commands, as the planner found it in config.json.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct DeferredHooks {
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
    pub state: StateTemplate,
    /// Which programs may be hooks: the policy's, which is put here when the container is created.
    pub allowed: Option<Vec<PathRule>>,
}

/// What rspawn-hooks is asked to do: run hooks one after another until one fails.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct HookJob {
    pub hooks: Vec<Hook>,
    /// The container's state in JSON, for each hook's standard input.
    pub state: String,
    /// The programs that may be hooks, judged when each is executed. `None`: any.
    pub allowed: Option<Vec<PathRule>>,
}

/// The container's state as JSON (runtime-spec, runtime.md, "State"), but for what is known later: who sends it
/// writes status and pid between `head` and `tail`. So nobody with privileges has to write JSON.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct StateTemplate {
    /// From `{` up to the member `"status":`, that included.
    pub head: String,
    /// From the comma after the pid to the end.
    pub tail: String,
}

impl StateTemplate {
    /// The whole state, with a status of the specification and the pid of the container's first process, if it has
    /// one.
    pub fn fill(&self, status: &str, pid: Option<i32>) -> String {
        let pid = pid.map_or_else(String::new, |pid| format!(",\"pid\":{pid}"));
        format!("{}\"{status}\"{pid}{}", self.head, self.tail)
    }
}
