//! Files and detached mounts, as both the host phase and the rootfs phase verify and make them.
use alloc::{string::String, string::ToString, vec::Vec};

use rspawn_proto::ids::Slot;
use rspawn_proto::plan::*;
use rspawn_sys::file::{self, Status};
use rspawn_sys::{Failure, Fd, Named, Outcome, mount};

use crate::slots::Slots;

/// Compares an opened file with what the plan says it is.
pub fn verify(file: &Fd, expect: Expect) -> Outcome<()> {
    let found = file::status(file).named("statx")?;
    let is_device = |found: &Status, kind: NodeKind, major, minor| {
        found.is(node_type(kind)) && (kind == NodeKind::Fifo || (found.major, found.minor) == (major, minor))
    };
    let (fits, wanted) = match expect {
        Expect::Any | Expect::Unfollowed => (true, ""),
        Expect::Directory => (found.is_directory(), "it is not a directory"),
        Expect::NullDevice => (found.is_null_device(), "it is not the null device"),
        Expect::Device { kind, major, minor } => {
            (is_device(&found, kind, major, minor), "it is not the device that config.json describes")
        }
    };
    if fits { Ok(()) } else { Err(Failure::check(wanted)) }
}

/// The type bits of a node's mode.
pub fn node_type(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::Char => 0o020_000,
        NodeKind::Block => 0o060_000,
        NodeKind::Fifo => 0o010_000,
    }
}

pub fn set_attributes(on: &Fd, attrs: &MountAttrs, slots: &Slots) -> Outcome<()> {
    if attrs.set | attrs.clear == 0 && attrs.propagation.is_none() && attrs.idmap.is_none() {
        return Ok(());
    }
    let idmap = attrs.idmap.map(|slot| slots.get(slot)).transpose()?;
    mount::set_attributes(on, attrs, idmap).named("mount_setattr")
}

/// Makes a detached mount of a new filesystem. On refusal the filesystem's own words are the detail.
pub fn new_filesystem(fs: &str, params: &[FsParam], attributes: u64, slots: &Slots) -> Outcome<Fd> {
    let new = mount::NewFilesystem::open(fs).named("fsopen").map_err(|failure| failure.with(fs))?;
    let complain = |failure: Failure, what: &str| {
        let complaint = new.complaint();
        failure.with(if complaint.is_empty() { what.to_string() } else { complaint })
    };
    for param in params {
        let key = param.key.as_str();
        let set = match &param.value {
            FsValue::Flag => new.set_flag(key),
            FsValue::Text(value) => new.set_text(key, value.as_str()),
            FsValue::Paths(opened) => {
                let path = |slot: &Slot| Ok(file::proc_path(slots.get(*slot)?));
                new.set_text(key, &opened.iter().map(path).collect::<Outcome<Vec<String>>>()?.join(":"))
            }
        };
        set.named("fsconfig").map_err(|failure| complain(failure, key))?;
    }
    new.create(attributes).named("fsmount").map_err(|failure| complain(failure, ""))
}
