//! `linux.maskedPaths` and `linux.readonlyPaths`.
use crate::prelude::*;
use rspawn_proto::ids::{HostPath, Id, RelPath, Slot};
use rspawn_proto::plan::*;

use super::devices;

use crate::planner::{Planner, literal};

const RULE: &str = "rule: masks";

pub fn plan(planner: &mut Planner) {
    let Some(linux) = planner.linux() else { return };
    if !linux.masked_paths.is_empty() {
        masks(planner, &linux.masked_paths);
    }
    for (index, path) in linux.readonly_paths.iter().enumerate() {
        let origin = format!("/linux/readonlyPaths/{index}");
        if let Some(at) = to_cover(planner, &origin, path) {
            let out = planner.slot();
            let at = planner.covered_by(out, at);
            planner.rootfs(origin, RootfsOp::ReadOnly { at, out });
        }
    }
}

/// One filesystem of covers for all of them: a superblock for each would cost the host dearly.
fn masks(planner: &mut Planner, paths: &[String]) {
    let Some(covers) = planner.covers else { return };
    make_covers(planner, covers);
    for (index, path) in paths.iter().enumerate() {
        let origin = format!("/linux/maskedPaths/{index}");
        if let Some(at) = to_cover(planner, &origin, path) {
            let at = planner.target(at);
            let needed = planner.linux().is_some_and(|linux| linux.needed_masks.contains(&index));
            planner.rootfs(origin, RootfsOp::Mask { at, covers, needed });
        }
    }
}

/// Makes the filesystem that masks take their covers from, if there will be any: a null device and an empty directory.
/// It will lie below the root, out of everybody's sight.
pub fn begin(planner: &mut Planner) {
    if planner.linux().is_none_or(|linux| linux.masked_paths.is_empty()) {
        return;
    }
    let out = planner.slot();
    // The directory is readable, since it is empty: what finds an error instead of no files may fail for it.
    let params = [("nr_inodes", "3"), ("mode", "555")]
        .map(|(name, value)| FsParam { key: literal(name), value: FsValue::Text(literal(value)) });
    let attrs = attr::NOSUID | attr::NOEXEC;
    planner.rootfs(RULE, RootfsOp::NewFilesystem { out, fs: VirtualFs::Tmpfs, params: params.into(), attrs });
    planner.covers = Some(out);
}

/// Puts the two into it, and makes it read-only. The host's own device would be writable in its mode and owner by
/// whoever is root in the container (`chmod 666 /proc/keys`), so the node is made here; where none can be made, the
/// host's is cloned read-only.
fn make_covers(planner: &mut Planner, covers: Slot) {
    let inner = |name: &str| Target { path: RelPath::new(name).expect("a literal path"), mount: covers, above: 0 };
    let (null, empty) = (inner(MASK_NULL), inner(MASK_EMPTY));
    if devices::may_make_nodes(planner) {
        let (kind, major, minor, uid, gid) = (NodeKind::Char, 1, 3, Id::ROOT, Id::ROOT);
        planner.rootfs(RULE, RootfsOp::MakeNode { at: null, kind, major, minor, mode: 0o666, uid, gid });
    } else {
        let mount = planner.slot();
        let path = HostPath::new("/dev/null").expect("a literal path");
        let attrs = MountAttrs { set: attr::RDONLY, propagation: Some(Propagation::Private), ..MountAttrs::default() };
        let expect = Expect::NullDevice;
        planner.host(RULE, HostOp::CloneTree { out: mount, path, expect, recursive: false, attrs, peer: false });
        planner.rootfs(RULE, RootfsOp::Attach { mount, at: null, no_symlinks: true });
    }
    planner.rootfs(RULE, RootfsOp::MakeDirectory { at: empty, mode: 0o555 });
    let attrs = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
    planner.rootfs(RULE, RootfsOp::SetAttrs { mount: covers, attrs });
}

fn to_cover(planner: &mut Planner, origin: &str, path: &str) -> Option<RelPath> {
    if !path.starts_with('/') {
        // The spec wants an absolute path; runc and crun work in the root when they cover, and take one below it.
        planner.note(origin, format!("the path {path:?} is not absolute; /{path} is taken"));
    }
    let at = planner.inside(origin, path)?;
    if at.is_root() {
        planner.problem(origin, "the container's root itself cannot be covered");
        return None;
    }
    Some(at)
}
