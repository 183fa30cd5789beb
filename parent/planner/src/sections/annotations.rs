//! Annotations that crun acts on and rspawn does not: what they ask for is said to be missing.
use crate::planner::Planner;
use crate::prelude::*;

/// A filter that no other part of the configuration has: without it there would be less of one, or none.
const FILTER: &str = "run.oci.seccomp_bpf_data";

/// What each is for, or what does it here.
const WITHOUT_EFFECT: [(&str, &str); 8] = [
    ("run.oci.handler", "/process/args is executed as a program of this machine"),
    ("run.oci.pidfd_receiver", "--pidfd-socket names a socket for the pidfd"),
    ("run.oci.seccomp.receiver", "/linux/seccomp/listenerPath names the agent's socket"),
    ("run.oci.seccomp.plugins", "/linux/seccomp/listenerPath names an agent's socket"),
    ("run.oci.mount_context_type", "/linux/mountLabel becomes the option context"),
    ("run.oci.systemd.subgroup", "the payload is in the scope's own cgroup"),
    ("run.oci.systemd.force_cgroup_v1", "/sys/fs/cgroup is of the host's layout"),
    ("run.oci.delegate-cgroup", "the payload is in the scope's own cgroup"),
];

pub fn plan(planner: &mut Planner) {
    let pointer = |name: &str| format!("/annotations/{name}");
    let annotations = &planner.spec.annotations;
    if annotations.contains_key("") {
        planner.problem(pointer(""), "an annotation needs a name: the key is empty");
    }
    if annotations.contains_key(FILTER) {
        let message =
            "crun's ready-made filter is not taken, and the container would do without: /linux/seccomp has rules";
        planner.problem(pointer(FILTER), message);
    }
    for (name, instead) in WITHOUT_EFFECT.into_iter().filter(|(name, _)| annotations.contains_key(*name)) {
        planner.note(pointer(name), format!("crun's annotation has no effect: {instead}"));
    }
}
