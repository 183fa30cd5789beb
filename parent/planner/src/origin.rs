//! Where each place of a plan comes from: what errors, the audit log and `rspawn plan` name.
use crate::prelude::*;
use rspawn_proto::plan::{Plan, Step};
use rspawn_proto::report::{FinishStep, Place, SpawnStep};

/// Where a place of the plan comes from: a JSON pointer or the name of a rule.
pub fn origin(plan: &Plan, place: Place) -> String {
    fn step<T>(steps: &[Step<T>], index: u16) -> String {
        steps.get(index as usize).map_or_else(String::new, |step| step.origin.clone())
    }
    match place {
        Place::Host(index) => step(&plan.host, index),
        Place::Attach(index) => step(&plan.attach, index),
        Place::Rootfs(index) => step(&plan.rootfs, index),
        Place::Spawn(at) => spawn_origin(at).to_string(),
        Place::Finish(at) => finish_origin(at).to_string(),
        Place::Receive | Place::Check | Place::Supervise => String::new(),
    }
}

/// Where a step of the first process comes from.
pub fn spawn_origin(step: SpawnStep) -> &'static str {
    match step {
        SpawnStep::SealInit | SpawnStep::Worker | SpawnStep::Enter => "rule: stages",
        SpawnStep::Cgroups => "/linux/cgroupsPath",
        SpawnStep::Hooks => "/hooks",
        SpawnStep::Record => "rule: state",
        SpawnStep::TimeOffsets => "/linux/timeOffsets",
        SpawnStep::Join | SpawnStep::Clone => "/linux/namespaces",
        SpawnStep::IdMaps => "/linux/uidMappings",
        SpawnStep::OomScore => "/process/oomScoreAdj",
    }
}

/// Where a step of the last mile comes from.
pub fn finish_origin(step: FinishStep) -> &'static str {
    match step {
        FinishStep::Receive | FinishStep::Session | FinishStep::Fork => "rule: init",
        FinishStep::Gate => "rule: start",
        FinishStep::Hooks => "/hooks/startContainer",
        FinishStep::Affinity => "/process/execCPUAffinity",
        FinishStep::Stdio | FinishStep::Terminal => "/process/terminal",
        FinishStep::Rlimits => "/process/rlimits",
        FinishStep::Scheduler => "/process/scheduler",
        FinishStep::IoPriority => "/process/ioPriority",
        FinishStep::MemoryPolicy => "/linux/memoryPolicy",
        FinishStep::Personality => "/linux/personality",
        FinishStep::Keyring => "rule: new session keyring",
        FinishStep::AppArmorProfile => "/process/apparmorProfile",
        FinishStep::SelinuxLabel => "/process/selinuxLabel",
        FinishStep::Umask => "/process/user/umask",
        FinishStep::Groups => "/process/user/additionalGids",
        FinishStep::Gid => "/process/user/gid",
        FinishStep::Cwd => "/process/cwd",
        FinishStep::BoundingSet => "/process/capabilities/bounding",
        FinishStep::Uid => "/process/user/uid",
        FinishStep::Capabilities => "/process/capabilities",
        FinishStep::NoNewPrivileges => "/process/noNewPrivileges",
        FinishStep::Seccomp => "/linux/seccomp",
        FinishStep::Listener => "/linux/seccomp/listenerPath",
        FinishStep::Exec => "/process/args",
    }
}
