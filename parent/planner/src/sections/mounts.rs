//! `mounts`: every entry becomes a detached mount, complete with its attributes, and one attach.
use crate::prelude::*;
use rspawn_proto::ids::{RelPath, Slot};
use rspawn_proto::plan::*;

use super::mount_options::{self, MountOptions};
use super::{binds, cgroup_mount, filesystems, overlay, rootless};
use crate::oci::Mount;
use crate::planner::{Planner, literal};

/// Most mounts of one container: each may hold a descriptor and half a dozen steps.
const MAX_MOUNTS: usize = 4096;
pub fn plan(planner: &mut Planner) {
    let count = planner.spec.mounts.len();
    if count > MAX_MOUNTS {
        let message = format!("there are {count} mounts; rspawn takes at most {MAX_MOUNTS}");
        planner.problem(format!("/mounts/{MAX_MOUNTS}"), message);
        return;
    }
    for (index, mount) in planner.spec.mounts.iter().enumerate() {
        let origin = format!("/mounts/{index}");
        plan_one(planner, &origin, mount);
    }
}

fn plan_one(planner: &mut Planner, origin: &str, mount: &Mount) {
    let Some(at) = destination(planner, origin, &mount.destination) else { return };
    let options = mount_options::sort(&mount.options);
    let kind = mount.kind.as_deref().unwrap_or_default();
    match kind {
        _ if options.remount => remount(planner, origin, &at, &options),
        _ if options.bind.is_some() || kind == "bind" => binds::plan(planner, origin, mount, at, options),
        "" | "none" => {
            let message = "the mount has no type, and no `bind` or `rbind` among its options";
            planner.problem(format!("{origin}/type"), message);
        }
        "cgroup" | "cgroup2" => cgroup_mount::plan(planner, origin, mount, at, &options),
        _ => filesystem(planner, origin, mount, kind, at, options),
    }
}

fn destination(planner: &mut Planner, origin: &str, written: &str) -> Option<RelPath> {
    let pointer = format!("{origin}/destination");
    if !written.starts_with('/') {
        // The spec wants an absolute path; runc takes it for one below the root.
        planner.note(pointer.clone(), format!("the path {written:?} is not absolute; /{written} is taken"));
    }
    if let Some(beneath) = binds::beneath_the_root(planner, written) {
        let (said, meant) = (planner.inside(&pointer, written)?.absolute(), beneath.absolute());
        planner.note(pointer.clone(), format!("{said} in the container is meant, and not {meant}, as by runc"));
    }
    let at = planner.inside(&pointer, written)?;
    if at.is_root() {
        planner.problem(pointer, "nothing can be mounted over the container's root itself");
        return None;
    }
    Some(at)
}

/// Changes what an earlier entry mounted, once everything below it exists.
fn remount(planner: &mut Planner, origin: &str, at: &RelPath, options: &MountOptions) {
    let Some(mount) = planner.mounted.iter().rev().find(|(place, _)| place == at).map(|(_, mount)| *mount) else {
        let message = format!("option \"remount\": no earlier entry mounts anything at {}", at.absolute());
        planner.problem(format!("{origin}/options"), message);
        return;
    };
    let attributes = [
        MountAttrs { set: options.set, clear: options.clear, ..MountAttrs::default() },
        MountAttrs {
            set: options.set_recursive,
            clear: options.clear_recursive,
            recursive: true,
            ..MountAttrs::default()
        },
    ];
    for attrs in attributes.into_iter().filter(|attrs| attrs.set | attrs.clear != 0) {
        planner.late.push(Step::new(origin, RootfsOp::SetAttrs { mount, attrs }));
    }
}

fn filesystem(planner: &mut Planner, origin: &str, mount: &Mount, kind: &str, at: RelPath, options: MountOptions) {
    if options.copy_up && kind != "tmpfs" {
        planner.problem(format!("{origin}/options"), "tmpcopyup is for tmpfs mounts");
        return;
    }
    if options.idmap.is_some() || options.own_idmap.is_some() || !mount.uid_mappings.is_empty() {
        planner.problem(format!("{origin}/options"), "only bind mounts can be id-mapped");
        return;
    }
    if let Some(option) = &options.link {
        planner.problem(format!("{origin}/options"), format!("option {option:?} is for bind mounts"));
        return;
    }
    if !mount_options::are_likely(planner, origin, kind, &options) {
        return;
    }
    let set = options.set | options.set_recursive;
    match VirtualFs::from_name(kind) {
        Some(fs) => {
            if let Some(place) = rootless::bound_instead(planner, fs) {
                return filesystems::bind_instead(planner, origin, place, at, set);
            }
            if fs == VirtualFs::Proc && planner.facts.covered_proc && rootless::is_limited(planner) {
                let message = "parts of the host's /proc are covered: the kernel will hardly make a new one for this \
                               container (\"mount too revealing\")";
                planner.note(origin, message);
            }
            let Some(mut params) = filesystems::parameters(planner, origin, &options, &[]) else { return };
            if fs == VirtualFs::Devpts {
                params.retain(|param| terminal_group_exists(planner, origin, param));
            }
            params.extend(label(planner, fs));
            params.extend(filesystems::source_name(planner, origin, mount));
            virtual_filesystem(planner, origin, fs, params, set, at, options.copy_up);
        }
        None => {
            let Some(out) = host_filesystem(planner, origin, mount, kind, &options, set) else { return };
            planner.attach(origin, out, at, false);
        }
    }
    if let Some((propagation, recursive)) = options.propagation.last() {
        let mount = Slot(planner.slots - 1);
        let attrs = MountAttrs { propagation: Some(*propagation), recursive: *recursive, ..MountAttrs::default() };
        planner.rootfs(origin, RootfsOp::SetAttrs { mount, attrs });
    }
}

/// False for the `gid` of a devpts if there is no such group: the kernel would refuse the mount. Every engine asks for
/// group 5, tty, which a user's container with one id alone does not have.
fn terminal_group_exists(planner: &mut Planner, origin: &str, param: &FsParam) -> bool {
    let FsValue::Text(value) = &param.value else { return true };
    let Some(gid) = value.as_str().parse().ok().filter(|_| param.key.as_str() == "gid") else { return true };
    let exists = rootless::is_mapped(planner, gid, &planner.spawn.gid_map, &planner.facts.ids.gids);
    if !exists {
        planner.note(format!("{origin}/options"), format!("gid={gid} is left out: the container has no such group"));
    }
    exists
}

fn virtual_filesystem(
    planner: &mut Planner,
    origin: &str,
    fs: VirtualFs,
    params: Vec<FsParam>,
    set: u64,
    at: RelPath,
    copy_up: bool,
) {
    let out = planner.slot();
    let has_mode = params.iter().any(|param| param.key.as_str() == "mode");
    // Mount points, nodes and copied files have yet to be made in it.
    let read_only_later = fs == VirtualFs::Tmpfs && set & attr::RDONLY != 0;
    let attrs = if read_only_later { set & !attr::RDONLY } else { set };
    planner.rootfs(origin, RootfsOp::NewFilesystem { out, fs, params, attrs });
    if copy_up {
        planner.rootfs(origin, RootfsOp::CopyUp { mount: out, from: planner.target(at.clone()) });
    }
    if fs == VirtualFs::Tmpfs && !has_mode {
        // As runc and crun: who mounts one on /root does not want it open to all.
        planner.rootfs(origin, RootfsOp::CopyMode { mount: out, from: planner.target(at.clone()) });
    }
    if read_only_later {
        let attrs = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        planner.late.push(Step::new(origin, RootfsOp::SetAttrs { mount: out, attrs }));
    }
    if fs == VirtualFs::Devpts && at.as_str() == "dev/pts" {
        planner.devpts = true;
    }
    planner.attach(origin, out, at, fs.refuses_symlinks());
}

/// A filesystem on something of the host's: a block device, layers of directories, a network.
fn host_filesystem(
    planner: &mut Planner,
    origin: &str,
    mount: &Mount,
    kind: &str,
    options: &MountOptions,
    set: u64,
) -> Option<Slot> {
    let fs = planner.text(&format!("{origin}/type"), kind)?;
    let mut params = if kind == "overlay" {
        let layers = overlay::layers(planner, origin, options)?;
        let rest = filesystems::parameters(planner, origin, options, &overlay::LAYER_KEYS)?;
        // podman names the place of the mount there; a text with a slash would count as a host path.
        let name = filesystems::source_name(planner, origin, mount)
            .filter(|_| !mount.source.iter().any(|name| name.contains('/')));
        layers.into_iter().chain(rest).chain(name).collect()
    } else {
        let mut params = filesystems::parameters(planner, origin, options, &[])?;
        if let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) {
            let value = if source.starts_with('/') {
                let path = planner.outside(&format!("{origin}/source"), source)?;
                let out = planner.slot();
                planner.host(origin, HostOp::OpenPath { out, path, expect: Expect::Any });
                FsValue::Paths(vec![out])
            } else {
                FsValue::Text(planner.text(&format!("{origin}/source"), source)?)
            };
            params.push(FsParam { key: literal("source"), value });
        }
        params
    };
    if set & attr::RDONLY != 0 && kind != "overlay" {
        // A read-only mount of a writable superblock would still replay journals and update the device.
        params.push(FsParam { key: literal("ro"), value: FsValue::Flag });
    }
    let out = planner.slot();
    let attrs = MountAttrs { set, ..MountAttrs::default() };
    planner.host(origin, HostOp::NewFilesystem { out, fs, params, attrs });
    Some(out)
}

/// `linux.mountLabel`, for the filesystems whose files take the label of their mount.
fn label(planner: &mut Planner, fs: VirtualFs) -> Option<FsParam> {
    let label = planner.linux()?.mount_label.as_deref().filter(|label| !label.is_empty())?;
    if !planner.facts.selinux {
        if planner.notes.iter().all(|note| note.pointer != "/linux/mountLabel") {
            planner.note("/linux/mountLabel", "ignored: this kernel does not have SELinux enabled");
        }
        return None;
    }
    let value = FsValue::Text(planner.text("/linux/mountLabel", label)?);
    // Not mqueue, whose superblock is as old as the IPC namespace: the kernel would refuse the mount.
    matches!(fs, VirtualFs::Tmpfs | VirtualFs::Devpts).then(|| FsParam { key: literal("context"), value })
}
