//! Sysctl keys: the namespace that owns one, and its file.
use alloc::string::{String, ToString};

use crate::namespaces::Namespace;

/// The namespace that owns a sysctl, written with dots or slashes; `None` if the key is global to the machine.
/// The keys are those of namespaces(7), ipc_namespaces(7) and sysctl(2)'s per-namespace tables.
pub fn sysctl_owner(key: &str) -> Option<Namespace> {
    /// Keys of the IPC namespace, beside the subtree `fs/mqueue`.
    const IPC: [&str; 11] = [
        "kernel/auto_msgmni", "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
        "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced", "kernel/msg_next_id", "kernel/shm_next_id",
    ];
    let is = |name: &str| key.len() == name.len() && starts_with_key(key, name);
    if IPC.into_iter().any(is) || starts_with_key(key, "fs/mqueue/") {
        Some(Namespace::Ipc)
    } else if starts_with_key(key, "net/") {
        Some(Namespace::Network)
    } else if starts_with_key(key, "user/") {
        Some(Namespace::User)
    } else if is("kernel/hostname") || is("kernel/domainname") {
        Some(Namespace::Uts)
    } else {
        None
    }
}

/// The file of a sysctl, below /proc/sys. As sysctl(8): if the first separator is a slash, dots are part of names
/// (`net/ipv4/conf/eth0.1/forwarding`).
pub fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'.' => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            key.chars().map(swap).collect()
        }
        _ => key.to_string(),
    }
}

/// Whether a sysctl key begins with `prefix`; the two separators of sysctl(8) count as the same.
fn starts_with_key(key: &str, prefix: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'.' && b == b'/');
    key.len() >= prefix.len() && key.bytes().zip(prefix.bytes()).all(same)
}
