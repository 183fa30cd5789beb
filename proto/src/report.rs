//! What a stage says about a step. The words that describe the step are the parent's: it has the plan; a privileged
//! stage only says where, which call, and errno.
use alloc::string::String;

use bincode::{Decode, Encode};

use crate::codec;

/// A place in the pipeline. As one number ([`codec::encode_word`]) it is in the progress page that outlives
/// rspawn-setup; there zero is [`Place::Receive`]: nothing was noted yet.
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
    NoNewPrivileges,
    /// The filter of a payload that an agent watches over.
    Listener,
    /// Waiting for `start`.
    Gate,
    Hooks,
    Seccomp,
    Fork,
    Exec,
}

/// One number for what rspawn-init is at, for the page that it shares with whoever waits for it: the last thing that it
/// can say where the payload's filter lets no call pass. With the errno of its failure, or -1 for that of a check.
pub fn finish_word(step: FinishStep, errno: i32) -> u32 {
    (errno as u32) << 8 | step as u32
}

/// What such a word says of a process that is no longer rspawn-init: `None` if the payload's program was executed.
pub fn unfinished(word: u32) -> Option<StepError> {
    let step = codec::decode_message(&[word as u8]).unwrap_or(FinishStep::Receive);
    let (errno, call) = match step {
        FinishStep::Exec => (word as i32 >> 8, "execve"),
        FinishStep::Gate => (word as i32 >> 8, "read"),
        // Which of its calls, only its own words would say.
        _ => (0, "check"),
    };
    let detail = "the first process ended here, before the payload began".into();
    let is_done = step == FinishStep::Exec && errno == 0;
    (!is_done).then(|| StepError { place: Place::Finish(step), call: call.into(), errno: errno.max(0), detail })
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
    /// When it began, on the clock that is the same in every time namespace: microseconds since 1970.
    pub began: u64,
    pub microseconds: u32,
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_place_survives_its_word() {
        let spawn_steps = (0u8..).map_while(|number| codec::decode_message::<SpawnStep>(&[number]).ok());
        let finish_steps = (0u8..).map_while(|number| codec::decode_message::<FinishStep>(&[number]).ok());
        let mut places: Vec<Place> = spawn_steps.map(Place::Spawn).chain(finish_steps.map(Place::Finish)).collect();
        assert!(places.len() > 30, "{places:?}");
        places.extend([Place::Receive, Place::Check, Place::Supervise]);
        for index in [0, 1, 250, 251, 4095, u16::MAX] {
            places.extend([Place::Host(index), Place::Attach(index), Place::Rootfs(index)]);
        }
        for known in places {
            assert_eq!(codec::decode_word::<Place>(codec::encode_word(&known)).unwrap(), known);
        }
        assert_eq!(codec::decode_word::<Place>(0).unwrap(), Place::Receive);
        assert!([0xff, u32::MAX].into_iter().all(|word| codec::decode_word::<Place>(word).is_err()));
    }

    #[test]
    fn every_step_survives_its_word() {
        for (step, errno) in [(FinishStep::Receive, 0), (FinishStep::Hooks, 0), (FinishStep::Gate, 1)] {
            let error = unfinished(finish_word(step, errno)).unwrap();
            assert_eq!((error.place, error.errno), (Place::Finish(step), errno));
        }
        assert_eq!(unfinished(finish_word(FinishStep::Exec, 0)), None);
        assert_eq!(unfinished(finish_word(FinishStep::Exec, 2)).map(|error| error.errno), Some(2));
        assert_eq!(unfinished(finish_word(FinishStep::Exec, -1)).map(|error| error.errno), Some(0));
        // Nothing was noted, or nonsense.
        for word in [0, 0xff, u32::MAX] {
            assert_eq!(unfinished(word).map(|error| error.place), Some(Place::Finish(FinishStep::Receive)));
        }
    }
}
