//! Mounts of type `cgroup` and `cgroup2`: what the host's layout offers, below one directory.
//!
//! On the unified layout both mean cgroup2. Elsewhere `cgroup` is a tmpfs with a directory for each hierarchy and the
//! usual links to co-mounted controllers, as runc and crun make it.
//!
//! Without a cgroup namespace the host's whole hierarchy would show: never writable (CVE-2023-25809). What podman,
//! buildah and docker ask for then gets the container's own cgroups, by bind mounts.
use crate::prelude::*;
use rspawn_proto::ids::{HostPath, RelPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::filesystems;
use super::mount_options::MountOptions;
use super::rootless;
use crate::facts::Hierarchy;
use crate::oci::Mount;
use crate::planner::{Planner, literal};

pub fn plan(planner: &mut Planner, origin: &str, mount: &Mount, at: RelPath, options: &MountOptions) {
    let set = options.set | options.set_recursive;
    let source = filesystems::source_name(planner, origin, mount);
    if let Some(place) = rootless::bound_instead(planner, VirtualFs::Cgroup) {
        if set & attr::RDONLY == 0 {
            planner.note(format!("{origin}/options"), "read-only: it shows cgroups that are not the container's");
        }
        return filesystems::bind_instead(planner, origin, place, at, set | attr::RDONLY);
    }
    let read_only = set & attr::RDONLY != 0;
    let (own_namespace, any) = (planner.owns(Namespace::Cgroup), own_cgroups(planner).next().is_some());
    if !own_namespace && !read_only && !any {
        let message = "a writable cgroup mount needs a cgroup namespace in /linux/namespaces";
        planner.problem(format!("{origin}/options"), message);
        return;
    }
    if planner.facts.cgroup.unified || mount.kind.as_deref() == Some("cgroup2") {
        if !own_namespace {
            return if read_only {
                let v2 = planner.facts.cgroup.v2();
                bind_host(planner, origin, v2, set, at)
            } else {
                bind_own(planner, origin, "", set, at)
            };
        }
        let params =
            filesystems::parameters(planner, origin, options, &[]).into_iter().flatten().chain(source).collect();
        attach_new(planner, origin, VirtualFs::Cgroup2, params, set, at);
        return;
    }
    let directory = FsParam { key: literal("mode"), value: FsValue::Text(literal("755")) };
    // The tmpfs is read-only as asked, but only once the hierarchies have their places in it.
    let params = [directory].into_iter().chain(source.clone()).collect();
    let base = attach_new(planner, origin, VirtualFs::Tmpfs, params, set & !attr::RDONLY, at.clone());
    for found in planner.facts.cgroup.v1() {
        let hierarchy = found.controllers.as_str();
        let name = hierarchy.strip_prefix("name=").unwrap_or(hierarchy).to_string();
        let Some(below) = planner.inside(origin, &format!("{at}/{name}")) else { continue };
        if own_namespace {
            let params = parameters(hierarchy).into_iter().chain(source.clone()).collect();
            attach_new(planner, origin, VirtualFs::Cgroup, params, set, below);
        } else if any {
            bind_own(planner, origin, hierarchy, set, below);
        } else {
            bind_host(planner, origin, Some(found), set, below);
        }
        for controller in name.split(',').filter(|controller| *controller != name) {
            let (Some(link), Some(target)) =
                (planner.inside(origin, &format!("{at}/{controller}")), planner.text(origin, &name))
            else {
                continue;
            };
            planner.rootfs(origin, RootfsOp::MakeSymlink { at: planner.target(link), target });
        }
    }
    if read_only {
        let attrs = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        planner.late.push(Step::new(origin, RootfsOp::SetAttrs { mount: base, attrs }));
    }
}

/// The container's cgroups: hierarchy, and the directory on the host.
fn own_cgroups<'a>(planner: &'a Planner) -> impl Iterator<Item = (&'a str, String)> {
    planner.host.iter().filter_map(|step| match &step.op {
        HostOp::OpenCgroup { hierarchy, mount, path, .. } => Some((hierarchy.as_str(), format!("{mount}/{path}"))),
        _ => None,
    })
}

/// Shows the container's own cgroup of a hierarchy; nothing of a hierarchy that it has none in.
fn bind_own(planner: &mut Planner, origin: &str, hierarchy: &str, set: u64, at: RelPath) {
    let directory = own_cgroups(planner).find(|(name, _)| *name == hierarchy).map(|(_, directory)| directory);
    bind(planner, origin, directory, set, at);
}

/// Shows a hierarchy of the host's, whole, as it is mounted there: a new mount of it would set its options anew, for the
/// machine.
fn bind_host(planner: &mut Planner, origin: &str, hierarchy: Option<&Hierarchy>, set: u64, at: RelPath) {
    let mount = hierarchy.and_then(|hierarchy| hierarchy.mount.clone());
    if mount.is_none() {
        let message = "without a cgroup namespace the host's cgroups are shown, and they are not mounted here";
        return planner.problem(origin, message);
    }
    bind(planner, origin, mount, set, at);
}

fn bind(planner: &mut Planner, origin: &str, directory: Option<String>, set: u64, at: RelPath) {
    let Some(Ok(path)) = directory.map(HostPath::new) else { return };
    let clear = if set & attr::ATIME != 0 { attr::ATIME } else { 0 };
    let attrs = MountAttrs { set, clear, propagation: Some(Propagation::Private), ..MountAttrs::default() };
    let out = planner.slot();
    planner
        .host(origin, HostOp::CloneTree { out, path, expect: Expect::Directory, recursive: false, attrs, peer: false });
    planner.attach(origin, out, at, true);
}

/// The options that name a v1 hierarchy: `name=systemd`, or a flag for each controller.
fn parameters(hierarchy: &str) -> Vec<FsParam> {
    let parameter = |word: &str| match word.split_once('=') {
        Some((name, value)) => FsParam { key: literal(name), value: FsValue::Text(literal(value)) },
        None => FsParam { key: literal(word), value: FsValue::Flag },
    };
    let named = hierarchy.starts_with("name=");
    let mut params: Vec<FsParam> = hierarchy.split(',').map(parameter).collect();
    if named {
        params.push(FsParam { key: literal("none"), value: FsValue::Flag });
    }
    params
}

fn attach_new(
    planner: &mut Planner,
    origin: &str,
    fs: VirtualFs,
    params: Vec<FsParam>,
    attrs: u64,
    at: RelPath,
) -> Slot {
    let out = planner.slot();
    planner.rootfs(origin, RootfsOp::NewFilesystem { out, fs, params, attrs });
    planner.attach(origin, out, at, true);
    out
}
