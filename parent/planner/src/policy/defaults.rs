//! What a policy says where its file says nothing: what containers of docker's and podman's have by default, and no more.
use crate::prelude::*;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::NodeKind;
use rspawn_proto::policy::{DEFAULT_DEVICES, DeviceRule, Enforcement, Policy};

use super::words;

/// Those of docker's containers.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
];

/// Calls that reach the whole machine: its kernel, its disks by handle, its ports. Those of its clock and its power take
/// capabilities that `caps.max` does not grant, and engines' filters let some of them pass.
const MUST_DENY: [&str; 14] = [
    "acct", "bpf", "delete_module", "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load",
    "open_by_handle_at", "perf_event_open", "quotactl", "swapoff", "swapon",
];

/// Namespaces without which a container is none.
const OWN: [Namespace; 5] = [Namespace::Mount, Namespace::Pid, Namespace::Network, Namespace::Ipc, Namespace::Uts];

pub fn policy() -> Policy {
    let character =
        |(major, minor): &(u32, Option<u32>)| DeviceRule { kind: NodeKind::Char, major: *major, minor: *minor };
    Policy {
        mode: Enforcement::Warn,
        bind_allow: Vec::new(),
        bind_deny: Vec::new(),
        capabilities: words::known_capabilities(&CAPABILITIES),
        no_new_privileges: false,
        seccomp: true,
        must_deny: words::calls(&MUST_DENY),
        user_namespace: false,
        invoker_is_confined: false,
        min_host_id: 0,
        own_namespaces: OWN.into_iter().collect(),
        join_allow: Vec::new(),
        devices: Some(DEFAULT_DEVICES.iter().map(character).collect()),
        sysctls: None,
        filesystems: Some(Vec::new()),
        usual_filesystems: true,
        protect_kernel: true,
        hooks: Some(Vec::new()),
        properties: Some(Vec::new()),
        net_devices: Some(Vec::new()),
        cgroups: None,
        resctrl: Some(Vec::new()),
    }
}
