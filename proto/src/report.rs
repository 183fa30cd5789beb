//! What a stage says about a step. The words that describe the step are the parent's: it has the plan; a privileged
//! stage only says where, which call, and errno.
use alloc::string::String;

use bincode::{Decode, Encode};

/// A place in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Place {
    /// rspawn-setup, before the plan is accepted.
    Receive,
    Check,
    Host(u16),
    Spawn(SpawnStep),
    Attach(u16),
    Rootfs(u16),
    Finish(FinishStep),
    /// After the payload was started.
    Supervise,
}

/// One number for a place, for the progress page that outlives rspawn-setup. The parent, which has the plan, turns it
/// back into words.
pub fn progress_word(place: Place) -> u32 {
    match place {
        Place::Receive => 1 << 16,
        Place::Check => 2 << 16,
        Place::Host(index) => 3 << 16 | u32::from(index),
        Place::Spawn(step) => 4 << 16 | step as u32,
        Place::Attach(index) => 5 << 16 | u32::from(index),
        Place::Rootfs(index) => 6 << 16 | u32::from(index),
        Place::Finish(step) => 7 << 16 | step as u32,
        Place::Supervise => 8 << 16,
    }
}

/// The steps of [`crate::plan::Spawn`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SpawnStep {
    SealInit,
    TimeOffsets,
    Join,
    Clone,
    IdMaps,
    OomScore,
    Worker,
    Enter,
    /// What joins a running container (`exec`).
    Cgroups,
    /// Hooks of the moment when everything is mounted.
    Hooks,
    /// State directory and pid file.
    Record,
}

/// The steps of [`crate::plan::Finish`], in the order in which rspawn-init takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum FinishStep {
    Receive,
    Session,
    Terminal,
    Stdio,
    Rlimits,
    Scheduler,
    IoPriority,
    MemoryPolicy,
    Affinity,
    Personality,
    Keyring,
    AppArmorProfile,
    SelinuxLabel,
    Umask,
    Cwd,
    Groups,
    Gid,
    BoundingSet,
    Uid,
    Capabilities,
    /// Waiting for `start`.
    Gate,
    Hooks,
    NoNewPrivileges,
    Seccomp,
    /// The filter of a payload that an agent watches over.
    Listener,
    Fork,
    Exec,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct StepError {
    pub place: Place,
    /// The system call or check that refused.
    pub call: String,
    /// errno, or 0 where a check of rspawn's refused.
    pub errno: i32,
    /// What else is known: an operand, the reason of a check.
    pub detail: String,
}

/// One line of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AuditRecord {
    pub place: Place,
    pub errno: i32,
    pub microseconds: u32,
}
