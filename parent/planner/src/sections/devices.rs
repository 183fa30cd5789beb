//! The devices and links that every container has (config-linux.md, "Default Devices", "Dev symbolic links"), and
//! `linux.devices`.
use crate::prelude::*;
use rspawn_proto::ids::{Id, RelPath};
use rspawn_proto::plan::*;

use super::rootless;
use crate::oci::Device;
use crate::planner::{Planner, literal};

/// Name, major, minor of the default character devices; all are 0666.
const DEFAULTS: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/core", "/proc/kcore"),
    ("dev/ptmx", "pts/ptmx"),
];

/// Largest numbers that fit the kernel's 32-bit device number: 12 and 20 bits.
const MAX_MAJOR: i64 = 0xfff;
const MAX_MINOR: i64 = 0xf_ffff;

pub fn plan(planner: &mut Planner) {
    let listed = planner.linux().map_or(&[][..], |linux| &linux.devices);
    let bound = dev_is_bound(planner);
    if !bound {
        for (name, major, minor) in DEFAULTS {
            let at = format!("dev/{name}");
            if listed.iter().any(|device| rspawn_proto::ids::normalized(&device.path) == at) {
                continue;
            }
            let at = RelPath::new(at).expect("a literal path");
            let node = Node { kind: NodeKind::Char, major, minor, mode: 0o666, uid: Id::ROOT, gid: Id::ROOT };
            emit(planner, "rule: default device", at, node);
        }
        for (at, target) in LINKS {
            let at = RelPath::new(at).expect("a literal path");
            let target = literal(target);
            let at = planner.entry(at);
            planner.rootfs("rule: default link", RootfsOp::MakeSymlink { at, target });
        }
    }
    for (index, device) in listed.iter().enumerate() {
        let origin = format!("/linux/devices/{index}");
        if bound && rspawn_proto::ids::normalized(&device.path).starts_with("dev/") {
            planner.note(origin, "left out: the /dev that is bound from the host has the devices that it has");
            continue;
        }
        listed_device(planner, &origin, device);
    }
}

/// A /dev of the host's is left as it is: nodes made there would be the host's.
pub fn dev_is_bound(planner: &Planner) -> bool {
    planner
        .spec
        .mounts
        .iter()
        .rev()
        .find(|mount| rspawn_proto::ids::normalized(&mount.destination) == "dev")
        .is_some_and(|mount| {
            mount.kind.as_deref() == Some("bind")
                || mount.options.iter().any(|option| option == "bind" || option == "rbind")
        })
}

struct Node {
    kind: NodeKind,
    major: u32,
    minor: u32,
    mode: u32,
    uid: Id,
    gid: Id,
}

fn listed_device(planner: &mut Planner, origin: &str, device: &Device) {
    // It is a link into the container's own devpts; podman --privileged lists the host's.
    if rspawn_proto::ids::normalized(&device.path) == "dev/ptmx" {
        return;
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => NodeKind::Char,
        "b" => NodeKind::Block,
        "p" => NodeKind::Fifo,
        other => {
            let message =
                format!("there is no device type {other:?}: the types are c, u (both character), b (block), p (FIFO)");
            planner.problem(format!("{origin}/type"), message);
            return;
        }
    };
    if !device.path.starts_with('/') {
        planner.problem(format!("{origin}/path"), "the path of a device must be absolute");
        return;
    }
    let Some(at) = planner.inside(&format!("{origin}/path"), &device.path) else { return };
    if at.is_root() {
        planner.problem(format!("{origin}/path"), "a device cannot take the place of the container's root");
        return;
    }
    let is_node = kind != NodeKind::Fifo;
    let major = number(planner, &format!("{origin}/major"), device.major, MAX_MAJOR, is_node);
    let minor = number(planner, &format!("{origin}/minor"), device.minor, MAX_MINOR, is_node);
    let mode = device.file_mode.unwrap_or(0o666);
    if mode & !0o177_777 != 0 {
        planner.problem(format!("{origin}/fileMode"), format!("{mode} (octal {mode:o}) is not a file mode"));
    }
    let uid = planner.id(&format!("{origin}/uid"), device.uid.unwrap_or(0));
    let gid = planner.id(&format!("{origin}/gid"), device.gid.unwrap_or(0));
    if let (Some(major), Some(minor), Some(uid), Some(gid)) = (major, minor, uid, gid) {
        // Go clients put the type bits of st_mode into it too.
        emit(planner, origin, at, Node { kind, major, minor, mode: mode & 0o7777, uid, gid });
    }
}

fn number(planner: &mut Planner, pointer: &str, value: Option<i64>, most: i64, needed: bool) -> Option<u32> {
    match value {
        _ if !needed => Some(0),
        None => {
            planner.problem(pointer, "a character or block device needs major and minor numbers");
            None
        }
        Some(value) if (0..=most).contains(&value) => Some(value as u32),
        Some(value) => {
            planner.problem(pointer, format!("{value} is not a device number: it must be from 0 to {most}"));
            None
        }
    }
}

const CAP_MKNOD: u64 = 1 << 27;

/// Whether device nodes can be made: in no user namespace but the first, and not by this caller if it lacks the right.
pub fn may_make_nodes(planner: &Planner) -> bool {
    !rootless::is_limited(planner) && planner.facts.capabilities & CAP_MKNOD != 0
}

/// A node, or, where none can be made, the host's bound in its place.
fn emit(planner: &mut Planner, origin: &str, at: RelPath, node: Node) {
    let Node { kind, major, minor, mode, uid, gid } = node;
    if kind == NodeKind::Fifo || may_make_nodes(planner) {
        let at = planner.entry(at);
        planner.rootfs(origin, RootfsOp::MakeNode { at, kind, major, minor, mode, uid, gid });
        return;
    }
    let Some(path) = planner.outside(origin, &at.absolute()) else { return };
    let out = planner.slot();
    // A device is read and written all the same; its mode, owner and times stay the host's.
    let attrs = MountAttrs { set: attr::RDONLY, propagation: Some(Propagation::Private), ..MountAttrs::default() };
    let expect = Expect::Device { kind, major, minor };
    planner.host(origin, HostOp::CloneTree { out, path, expect, recursive: false, attrs, peer: false });
    planner.attach(origin, out, at, false);
}
