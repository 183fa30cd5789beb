//! `linux.maskedPaths` and `linux.readonlyPaths`.
use rspawn_proto::ids::HostPath;
use rspawn_proto::plan::*;

use super::Planner;
use super::mounts::key;

pub fn plan(planner: &mut Planner) {
    let Some(linux) = planner.linux() else { return };
    if !linux.masked_paths.is_empty() {
        masks(planner, &linux.masked_paths);
    }
    for (index, path) in linux.readonly_paths.iter().enumerate() {
        let origin = format!("/linux/readonlyPaths/{index}");
        if let Some(at) = absolute(planner, &origin, path) {
            planner.rootfs(origin, RootfsOp::ReadOnly { at });
        }
    }
}

/// One null device and one empty directory cover them all: a superblock for each would cost the host dearly.
fn masks(planner: &mut Planner, paths: &[String]) {
    let rule = "rule: masks";
    let (null, empty) = (planner.slot(), planner.slot());
    let path = HostPath::new("/dev/null").expect("a literal path");
    let attrs = MountAttrs { propagation: Some(Propagation::Private), ..MountAttrs::default() };
    planner.host(rule, HostOp::CloneTree { out: null, path, expect: Expect::NullDevice, recursive: false, attrs });
    // Readable, since it is empty: what finds an error instead of no files may fail for it.
    let params = [("size", "0"), ("nr_inodes", "1"), ("mode", "555")]
        .map(|(name, value)| FsParam { key: key(name), value: FsValue::Text(key(value)) });
    let attrs = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    planner.rootfs(rule, RootfsOp::NewFilesystem { out: empty, fs: VirtualFs::Tmpfs, params: params.into(), attrs });
    for (index, path) in paths.iter().enumerate() {
        let origin = format!("/linux/maskedPaths/{index}");
        if let Some(at) = absolute(planner, &origin, path) {
            planner.rootfs(origin, RootfsOp::Mask { at, null, empty });
        }
    }
}

fn absolute(planner: &mut Planner, origin: &str, path: &str) -> Option<rspawn_proto::ids::RelPath> {
    if !path.starts_with('/') {
        planner.problem(origin, format!("the path {path:?} is not absolute"));
        return None;
    }
    let at = planner.inside(origin, path)?;
    if at.is_root() {
        planner.problem(origin, "the container's root itself cannot be covered");
        return None;
    }
    Some(at)
}
