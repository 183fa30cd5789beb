//! Control messages between the stages, and how a message is cut into packets.
//!
//! The sockets are SOCK_SEQPACKET pairs. A packet's first byte says whether more of the same message follows, so that
//! a plan may be larger than a socket buffer; the receiver stops at its limit.
use alloc::{string::String, vec::Vec};

use bincode::{Decode, Encode};

use crate::ids::{ContainerId, HostPath, Text};
use crate::namespaces::NamespaceSet;
use crate::plan::{Finish, Plan};
use crate::policy::{Policy, Violation};
use crate::record::CgroupDir;
use crate::report::{AuditRecord, StepError};

/// Bytes of a packet, its first byte included.
pub const PACKET: usize = 8 << 10;
/// First byte of a packet that ends its message.
pub const LAST: u8 = 0;
/// First byte of a packet with more to follow.
pub const MORE: u8 = 1;

/// Cuts an encoded message into packets.
pub fn packets(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let pieces = message.len().div_ceil(PACKET - 1).max(1);
    (0..pieces).map(move |index| {
        let start = index * (PACKET - 1);
        let end = message.len().min(start + PACKET - 1);
        let mut packet = Vec::with_capacity(end - start + 1);
        packet.push(if index + 1 == pieces { LAST } else { MORE });
        packet.extend_from_slice(&message[start..end]);
        packet
    })
}

/// What the parent says before it reads a byte of the bundle, so before anything could have taken it over.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct InvokerRequest {
    pub version: u32,
    pub id: ContainerId,
    pub policy: Policy,
    pub mode: Mode,
    /// In the foreground: what the container leaves is kept for `delete`.
    pub keep: bool,
    pub purpose: Purpose,
    /// Name of the pid file. The descriptor of its directory rides on the message, after those of the purpose.
    pub pid_file: Option<Text>,
    /// The invoker wants a record of every step.
    pub audit: bool,
    pub preserve_fds: u32,
    /// The container's root is moved over the host's and entered by chroot(2): pivot_root(2) cannot leave the initial
    /// ramfs. The host's tree stays below it.
    pub no_pivot: bool,
    /// Without a pivot: where the host's procfs and sysfs are mounted, the last first. Whole and in the container's mount
    /// namespace they would let its processes mount new ones (mount_too_revealing of fs/namespace.c), and write there
    /// what the machine's root may.
    pub kernel_mounts: Vec<HostPath>,
    /// A connection to the bus that systemd listens on rides on the message, behind all else.
    pub bus: bool,
}

/// How long rspawn-setup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Mode {
    /// Until the payload ends, which does not outlive the parent (`run`, `exec`).
    Foreground,
    /// Until the payload runs (`run --detach`, `exec --detach`).
    Detached,
    /// Until the container's first process waits at its gate (`create`).
    Created,
}

/// What the plan is for.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Purpose {
    /// A new container. The descriptor of its state directory rides on the message, behind it that of the directory
    /// around it, and, where the container is only created, its gate and its report (two pipes with names), and the page for
    /// the last words of its first process.
    Container { bundle: HostPath, created: u64, owner: u32, boot: Text },
    /// Another process in a container that runs. A pidfd of its first process rides on the message.
    Exec { namespaces: NamespaceSet, cgroups: Vec<CgroupDir> },
    /// Other limits for a container that lives, in these cgroups of its own, and in its scope if systemd made one.
    Update { cgroups: Vec<CgroupDir>, unit: Option<Text> },
}

/// Parent to rspawn-setup.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[allow(clippy::large_enum_variant)]
pub enum ToSetup {
    /// The first message, sent once.
    Request(InvokerRequest),
    /// The second, sent once. Descriptors ride on it that take the place of these standard streams.
    Plan { plan: Plan, streams: Vec<u8> },
    /// Any number of times while the payload runs.
    Signal(u8),
    /// Whoever asked for what runs in the background has all that was asked for, such as the console: it may stay.
    Keep,
}

/// rspawn-setup to the parent.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromSetup {
    /// What runs in the background stays, whatever becomes of rspawn-setup: the answer to [`ToSetup::Keep`].
    Kept,
    /// The invoker's message has arrived: what is in the state directory is rspawn-setup's to remove from here on.
    Taken,
    /// What came after the payload's end, or after another error, and changes neither: a hook that failed, or what could
    /// not be removed.
    Left(StepError),
    Audit(AuditRecord),
    /// A policy in warn mode would have refused this.
    Warning(Violation),
    /// A policy in enforce mode refused the plan.
    Refused(Vec<Violation>),
    /// The master of the container's console; the descriptor rides on the packet.
    Console,
    /// The container's first process waits at its gate. rspawn-setup ends. A pidfd rides on the message.
    Created {
        pid: u32,
    },
    /// The payload runs, or rspawn-init has become it. The pid is in the caller's namespace. A pidfd rides on it.
    Started {
        pid: u32,
    },
    Failed(StepError),
    /// wait status of the container's first process.
    Exited {
        status: i32,
    },
}

/// rspawn-setup to rspawn-init.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[allow(clippy::large_enum_variant)]
pub enum ToInit {
    /// Everything but argv and env, which are rspawn-init's own since its exec. The page for its last words rides on it,
    /// then the root to enter by chroot(2), then the
    /// console's slave, then gate and report, then the socket of the seccomp agent, who gets the notice, each but the
    /// first if there is one.
    Finish { finish: Finish, audit: bool, mode: Mode, chroot: bool, notice: String },
    /// The host's tree is out of reach and the worker is gone: from here on paths may be looked up. The root to enter
    /// rides on it, where the process has had an empty one.
    Go,
}

/// rspawn-init, or the worker, to rspawn-setup. The end of rspawn-init's stream means that the payload's program was
/// executed, since the descriptor closes on exec, or that the process ended: [`crate::report::unfinished`] tells which.
/// Through the gate's report, rspawn-init says the same to `rspawn start`.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromStage {
    Audit(AuditRecord),
    Failed(StepError),
    /// From the worker: master and slave ride on the packet.
    Console,
    /// From the worker, where there is no pivot: the container's root, which rides on the packet.
    Root,
    /// From the worker: everything is mounted. It waits until the hooks of that moment have run.
    Mounted,
    /// From rspawn-init: it has forked, if it was to. A fork that pivot_root(2) overtook would keep the host's root.
    Ready,
    /// From the worker: all steps done. From rspawn-init: it waits at its gate, with nothing left to go wrong but what its
    /// start does.
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_carry_every_byte_once() {
        for length in [0, 1, PACKET - 2, PACKET - 1, PACKET, 3 * PACKET] {
            let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let parts: Vec<_> = packets(&message).collect();
            let (last, first) = parts.split_last().unwrap();
            assert!(first.iter().all(|p| p[0] == MORE && p.len() == PACKET) && last[0] == LAST);
            let joined: Vec<u8> = parts.iter().flat_map(|p| p[1..].to_vec()).collect();
            assert_eq!(joined, message);
        }
    }
}
