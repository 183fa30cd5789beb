//! `root` and `linux.rootfsPropagation`: the container's root, first and last.
use crate::prelude::*;
use rspawn_proto::ids::{HostPath, Slot};
use rspawn_proto::plan::*;

use super::propagation::{PROPAGATIONS, propagation};
use super::{hooks, masked_paths};
use crate::oci::VolatileRoot;
use crate::planner::{Planner, VOLATILE, literal};
use crate::problem::did_you_mean;

/// Clones the root and cuts the container's mounts off from the host's.
pub fn begin(planner: &mut Planner) {
    planner.root = planner.slot();
    let Some(root) = &planner.spec.root else {
        planner.problem("/root", "there is no root filesystem: `root.path` is missing");
        return;
    };
    if root.path.is_empty() {
        planner.problem("/root/path", "the path of the root filesystem is empty");
        return;
    }
    let Some(path) = planner.outside("/root/path", &root.path) else { return };
    if root_escapes(planner, &root.path) {
        return;
    }
    let over = (hooks::look_for_the_root(planner) || planner.options.no_pivot).then(|| planner.slot());
    if let Some(out) = over {
        planner.host("/root/path", HostOp::OpenPath { out, path: path.clone(), expect: Expect::Directory });
    }
    if let Some(VolatileRoot::OnlyUsr(links)) = &root.volatile {
        return only_usr(planner, &path, links, over);
    }
    // What is mounted below it later is the container's own, and stays as it is asked for.
    // What the host mounts there later would come with its own flags.
    let (set, propagation) = match root.readonly_recursive {
        true => (attr::RDONLY, Propagation::Private),
        false => (0, Propagation::Slave),
    };
    let attrs = MountAttrs { set, propagation: Some(propagation), recursive: true, ..MountAttrs::default() };
    let out = planner.root;
    match &root.volatile {
        Some(VolatileRoot::Overlay { scratch }) => overlay(planner, path, scratch),
        _ => planner.host(
            "/root/path",
            HostOp::CloneTree { out, path, expect: Expect::Directory, recursive: true, attrs, peer: false },
        ),
    }
    isolate(planner);
    planner.rootfs("/root/path", RootfsOp::AttachRoot { mount: out, over, below: planner.covers });
    if root.volatile == Some(VolatileRoot::State) {
        temporary(planner, "var");
    }
}

/// Cuts the mounts off from the host's, and makes what covers are cloned from.
fn isolate(planner: &mut Planner) {
    planner.rootfs("rule: isolation", RootfsOp::Propagate { propagation: Propagation::Slave, recursive: true });
    masked_paths::begin(planner);
}

/// An empty root in memory, with the image's /usr and the links to it.
fn only_usr(planner: &mut Planner, root: &HostPath, links: &[&str], over: Option<Slot>) {
    let usr = format!("{}/usr", root.as_str().trim_end_matches('/'));
    let (Some(path), Some(at)) = (planner.outside("/root/path", &usr), planner.inside(VOLATILE, "usr")) else { return };
    let out = planner.slot();
    let attrs = MountAttrs {
        set: attr::RDONLY,
        propagation: Some(Propagation::Slave),
        recursive: true,
        ..MountAttrs::default()
    };
    planner.host(
        VOLATILE,
        HostOp::CloneTree { out, path, expect: Expect::Directory, recursive: true, attrs, peer: false },
    );
    isolate(planner);
    let root = planner.root;
    planner.rootfs(VOLATILE, tmpfs(root));
    planner.rootfs(VOLATILE, RootfsOp::AttachRoot { mount: root, over, below: planner.covers });
    planner.attach(VOLATILE, out, at, true);
    for name in links {
        let Some(at) = planner.inside(VOLATILE, name) else { continue };
        let at = planner.target(at);
        planner.rootfs(VOLATILE, RootfsOp::MakeSymlink { at, target: literal(&format!("usr/{name}")) });
    }
}

/// The image below, what is written above it in a directory that is removed afterwards.
fn overlay(planner: &mut Planner, root: HostPath, scratch: &str) {
    let (upper, work) = crate::facts::layers(scratch);
    let mut params = Vec::new();
    let layers = [
        ("lowerdir", Some(root)),
        ("upperdir", planner.outside(VOLATILE, &upper)),
        ("workdir", planner.outside(VOLATILE, &work)),
    ];
    for (name, path) in layers {
        let Some(path) = path else { return };
        let out = planner.slot();
        planner.host(VOLATILE, HostOp::OpenPath { out, path, expect: Expect::Directory });
        params.push(FsParam { key: literal(name), value: FsValue::Paths(vec![out]) });
    }
    let attrs = MountAttrs { propagation: Some(Propagation::Slave), ..MountAttrs::default() };
    let out = planner.root;
    planner.host(VOLATILE, HostOp::NewFilesystem { out, fs: literal("overlay"), params, attrs });
}

/// An empty filesystem in memory at a directory of the root, before the configuration's own mounts.
fn temporary(planner: &mut Planner, path: &str) {
    let Some(at) = planner.inside(VOLATILE, path) else { return };
    let mount = planner.slot();
    planner.rootfs(VOLATILE, tmpfs(mount));
    planner.attach(VOLATILE, mount, at, false);
}

fn tmpfs(out: Slot) -> RootfsOp {
    let params = vec![FsParam { key: literal("mode"), value: FsValue::Text(literal("755")) }];
    RootfsOp::NewFilesystem { out, fs: VirtualFs::Tmpfs, params, attrs: 0 }
}

/// A relative root belongs to the bundle. One that climbs out of it is more likely a trick than a wish, and an
/// absolute path says the same plainly.
fn root_escapes(planner: &mut Planner, written: &str) -> bool {
    let mut depth = 0i32;
    let climbs = !written.starts_with('/')
        && written.split('/').any(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth < 0
        });
    if climbs {
        let message = format!("the relative path {written:?} leaves the bundle; use an absolute path if that is meant");
        planner.problem("/root/path", message);
    }
    climbs
}

/// Read-only, the pivot, and what can only be said of the root afterwards.
pub fn finish(planner: &mut Planner) {
    let late = core::mem::take(&mut planner.late);
    planner.rootfs.extend(late);
    let mount = planner.root;
    if planner.spec.root.as_ref().is_some_and(|root| root.readonly) {
        let attrs = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        planner.rootfs("/root/readonly", RootfsOp::SetAttrs { mount, attrs });
    }
    planner.rootfs("rule: pivot", RootfsOp::Pivot);
    let Some(name) = planner.linux().and_then(|linux| linux.rootfs_propagation.as_deref()).filter(|n| !n.is_empty())
    else {
        return;
    };
    let pointer = "/linux/rootfsPropagation";
    match propagation(name) {
        // What the clone has already.
        Some((Propagation::Slave, _)) => {}
        Some((propagation, recursive)) => {
            let attrs = MountAttrs { propagation: Some(propagation), recursive, ..MountAttrs::default() };
            planner.rootfs(pointer, RootfsOp::SetAttrs { mount, attrs });
        }
        None => {
            let names = PROPAGATIONS.iter().flat_map(|(name, _)| [name.to_string(), format!("r{name}")]);
            planner.problem(pointer, format!("{name:?} is no propagation{}", did_you_mean(name, names)));
        }
    }
}
