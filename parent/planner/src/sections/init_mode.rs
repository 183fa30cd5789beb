//! Whether PID 1 is rspawn-init or the payload.
use crate::prelude::*;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::InitMode;

use super::resources::allowed_processes;
use crate::options::InitChoice;
use crate::planner::Planner;

const ANNOTATION: &str = "org.rspawn.init";

/// Programs that are an init themselves, by base name.
const INITS: [&str; 12] = [
    "init", "systemd", "s6-svscan", "tini", "tini-static", "dumb-init", "catatonit", "docker-init", "runit",
    "runit-init", "rspawn-init", "podman-init",
];

/// The mode, and the reason in words.
pub fn choose(planner: &mut Planner) -> (InitMode, String) {
    if planner.options.listening {
        return (InitMode::Exec, "LISTEN_FDS: the sockets are for the process that LISTEN_PID names, 1".into());
    }
    match planner.options.init {
        InitChoice::Supervise => return (InitMode::Supervise, "--init=supervise".into()),
        InitChoice::Exec => return (InitMode::Exec, "--init=exec".into()),
        InitChoice::Auto => {}
    }
    let pointer = format!("/annotations/{ANNOTATION}");
    match planner.spec.annotations.get(ANNOTATION).map(String::as_str) {
        Some("supervise") => return (InitMode::Supervise, pointer),
        Some("exec") => return (InitMode::Exec, pointer),
        Some(other) => planner.problem(pointer, format!("{other:?} is neither \"supervise\" nor \"exec\"")),
        None => {}
    }
    if !planner.spawn.new.contains(Namespace::Pid) {
        return (InitMode::Exec, "there is no new pid namespace".into());
    }
    if planner.options.detached {
        // Engines count its processes, signal it and read /proc/1; for what else PID 1 does, they have an `--init`.
        return (InitMode::Exec, "the default where the container outlives the command that starts it".into());
    }
    if most_processes(planner) == Some(1) {
        return (InitMode::Exec, "there may be one process only".into());
    }
    if is_labelled(planner) {
        return (InitMode::Exec, "its label keeps it from a process 1 with another".into());
    }
    let program = planner.spec.process.as_ref().and_then(|process| process.args.first());
    let name = program.map_or("", |program| program.rsplit('/').next().unwrap_or_default());
    if INITS.contains(&name) {
        (InitMode::Exec, format!("{name} is an init itself"))
    } else {
        (InitMode::Supervise, "the default of a foreground run in a new pid namespace".into())
    }
}

/// How many processes `linux.resources.pids` allows; `None` for any number.
fn most_processes(planner: &Planner) -> Option<i64> {
    let pids = planner.linux().and_then(|linux| linux.resources.as_ref()).map(|resources| &resources.pids);
    pids.and_then(allowed_processes)
}

/// The written limit is config.json's: who has it in mind should know who counts.
pub fn note_limit(planner: &mut Planner, mode: InitMode) {
    if let (InitMode::Supervise, Some(limit)) = (mode, most_processes(planner)) {
        let message = format!("of the {limit} processes that /linux/resources/pids/limit allows, one is rspawn-init");
        planner.note("rule: PID 1", message);
    }
}

/// Whether a profile of AppArmor's or a label of SELinux's is the payload's, and not process 1's, which neither may be
/// signalled nor looked at then: images do `kill -HUP 1`, and write to /proc/1/fd/1.
fn is_labelled(planner: &Planner) -> bool {
    let Some(process) = &planner.spec.process else { return false };
    let given = |label: &Option<String>| label.as_deref().is_some_and(|label| !matches!(label, "" | "unconfined"));
    given(&process.apparmor_profile) || given(&process.selinux_label)
}
