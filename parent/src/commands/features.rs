//! `rspawn features`: the specification's features document (features.md), and the version.
use rspawn_proto::namespaces::Namespace;
use serde_json::json;

use rspawn_host::{facts, streams};
use rspawn_planner::mount_options;
use rspawn_planner::oci::STATE_VERSION;
use rspawn_planner::seccomp::Arch;
use rspawn_planner::seccomp::parse::{ACTIONS, FLAGS, OPERATORS};
use rspawn_planner::tables::{CAPABILITIES, MEMORY_FLAGS, MEMORY_MODES};

pub fn features() -> Result<i32, String> {
    let apparmor = facts::has_apparmor()?;
    let selinux = facts::has_selinux()?;
    let flags: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": STATE_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": Namespace::ALL.map(Namespace::name),
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": Arch::ALL.map(Arch::oci_name),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": apparmor},
            "selinux": {"enabled": selinux},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": MEMORY_MODES.map(|(name, _)| name),
                "flags": MEMORY_FLAGS.map(|(name, _)| name),
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.rspawn.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": [
            "org.rspawn.init", "org.systemd.property.", "run.oci.hooks.stderr", "run.oci.hooks.stdout",
            "run.oci.keep_original_groups",
        ],
    });
    streams::print(format!("{document:#}\n")).map(|()| 0)
}

/// runc's form: clients take any line with the word `version` for one, so it occurs once. The commit is what build.rs
/// found; a build outside a git checkout has no such line.
pub fn version() -> String {
    let commit = option_env!("RSPAWN_COMMIT").map(|commit| format!("commit: {commit}\n")).unwrap_or_default();
    format!("rspawn version {}\n{commit}spec: {STATE_VERSION}", env!("CARGO_PKG_VERSION"))
}
