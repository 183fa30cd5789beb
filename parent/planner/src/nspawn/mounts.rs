//! The file systems that every container of nspawn's has, and what it covers in them.
use crate::prelude::*;
use rspawn_proto::ids::normalized;

use super::invoker::{RULE, has_namespace};
use crate::default_spec::{mount, system_mounts};
use crate::oci::{Linux, Mount, Spec};
use crate::overrides::apply::Applied;
use crate::problem::Problem;

/// Covered: they tell of the kernel's inside, or of the host.
const MASKED: [&str; 5] = ["/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"];

/// Read-only: they are the machine's, and some can be written to.
const READ_ONLY: [&str; 8] =
    ["/proc/acpi", "/proc/apm", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", SYSCTLS];

const SYSCTLS: &str = "/proc/sys";
/// Those of the container's own network, in that.
const OF_NETWORK: &str = "proc/sys/net";

/// Where nspawn gives nothing that a bundle mounts.
const ITS_OWN: [&str; 9] = ["proc", "dev", "dev/pts", "dev/shm", "dev/mqueue", "sys", "sys/fs/cgroup", "run", "tmp"];

/// The file systems, each before what is mounted in it.
fn file_systems(after: &Spec, os_release: Option<&str>) -> Vec<Mount> {
    let shared = |size: &str, mode: &str| [size, mode].map(str::to_string);
    let memory = |path: &str, size: &str, mode: &str| {
        let mut made = mount(path, "tmpfs", "tmpfs", &["nosuid", "nodev", "strictatime"]);
        made.options.extend(shared(size, mode));
        made
    };
    let mut mounts = system_mounts();
    for made in &mut mounts {
        if made.destination == "/dev/shm" {
            *made = memory("/dev/shm", "size=10%", "mode=1777");
        }
    }
    // The host's would be shown otherwise, and it need not be mounted there.
    mounts.retain(|made| made.destination != "/dev/mqueue" || has_namespace(after, "ipc"));
    mounts.push(memory("/tmp", "size=10%", "mode=1777"));
    mounts.push(memory("/run", "size=20%", "mode=755"));
    let options = ["nosuid", "nodev", "noexec", "ro", "size=4k", "mode=755"];
    mounts.push(mount("/run/host", "tmpfs", "tmpfs", &options));
    if let Some(path) = os_release {
        mounts.push(mount("/run/host/os-release", "bind", path, &["bind", "ro", "nosuid", "nodev", "noexec"]));
    }
    mounts
}

/// Puts them before the bundle's mounts. An entry of the bundle's for one of these places takes its place; where it is of
/// another kind, as a directory of the host's, nothing is mounted in it that the bundle does not ask for.
pub fn add(spec: &mut Spec, after: &Spec, os_release: Option<&str>, done: &mut Applied) {
    let mut theirs: Vec<Option<Mount>> = core::mem::take(&mut spec.mounts).into_iter().map(Some).collect();
    let mut mounts: Vec<(Mount, Option<usize>)> = Vec::with_capacity(theirs.len() + 16);
    let mut others: Vec<String> = Vec::new();
    for ours in file_systems(after, os_release) {
        let place = normalized(&ours.destination);
        let is_for_it = |mount: &Option<Mount>| {
            mount.as_ref().is_some_and(|mount| normalized(&mount.destination) == place && !is_remount(mount))
        };
        if let Some(index) = theirs.iter().position(is_for_it)
            && let Some(mount) = theirs[index].take()
        {
            if kind(&mount) != kind(&ours) {
                others.push(format!("{place}/"));
            }
            note(&mount, index, &place, done);
            mounts.push((mount, Some(index)));
        } else if !others.iter().any(|other| place.starts_with(other)) {
            mounts.push((ours, None));
        }
    }
    let has_proc = mounts.iter().any(|(mount, _)| normalized(&mount.destination) == "proc" && kind(mount) == "proc");
    mounts.extend(network(spec, after).filter(|_| has_proc).map(|mount| (mount, None)));
    for (index, mount) in theirs.into_iter().enumerate() {
        mounts.extend(mount.map(|mount| (mount, Some(index))));
    }
    for (index, (mount, bundles)) in mounts.into_iter().enumerate() {
        let pointer = format!("/mounts/{index}");
        match bundles {
            Some(before) => done.origins.moved(pointer, format!("/mounts/{before}")),
            None => done.origins.replace(pointer, RULE),
        }
        spec.mounts.push(mount);
    }
}

fn is_remount(mount: &Mount) -> bool {
    mount.options.iter().any(|option| option == "remount")
}

/// What a mount is of; both words for cgroups mean the same.
fn kind(mount: &Mount) -> &str {
    let is_bind = mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    match mount.kind.as_deref().unwrap_or_default() {
        _ if is_bind => "bind",
        "cgroup2" => "cgroup",
        kind => kind,
    }
}

fn note(mount: &Mount, index: usize, place: &str, done: &mut Applied) {
    if ITS_OWN.contains(&place) {
        let message = format!(
            "systemd-nspawn would ignore this entry, and mount a file system of its own at {}; it is mounted",
            mount.destination
        );
        done.notes.push(Problem::new(format!("/mounts/{index}"), message));
    }
}

/// The sysctls of a network namespace of the container's own stay writable, by a mount that the read-only /proc/sys leaves
/// as it is: of what the container has there, which is named by its path on the host.
fn network(spec: &Spec, after: &Spec) -> Option<Mount> {
    let root = spec.root.as_ref()?;
    let is_named =
        !normalized(&root.path).is_empty() && after.root.as_ref().is_some_and(|root| root.volatile.is_none());
    let linux = spec.linux.as_ref()?;
    // What the bundle itself protects stays protected.
    let said = linux.readonly_paths.iter().chain(&linux.masked_paths).map(|path| normalized(path));
    let is_free = !said.into_iter().any(|path| OF_NETWORK == path || OF_NETWORK.starts_with(&format!("{path}/")));
    (is_named && is_free && has_namespace(after, "network")).then(|| {
        let source = format!("{}/{OF_NETWORK}", root.path.trim_end_matches('/'));
        mount(&format!("/{OF_NETWORK}"), "bind", &source, &["bind", "nosuid", "nodev", "noexec"])
    })
}

/// The union of the bundle's masks and read-only paths with nspawn's.
pub fn cover(linux: &mut Linux, done: &mut Applied) {
    let is_said = |linux: &Linux, path: &str| {
        let mut said = linux.masked_paths.iter().chain(&linux.readonly_paths);
        said.any(|said| normalized(said) == normalized(path))
    };
    for path in MASKED {
        if !linux.masked_paths.iter().any(|said| normalized(said) == normalized(path)) {
            done.origins.replace(format!("/linux/maskedPaths/{}", linux.masked_paths.len()), RULE);
            linux.masked_paths.push(path.into());
        }
    }
    for path in READ_ONLY {
        if !is_said(linux, path) {
            done.origins.replace(format!("/linux/readonlyPaths/{}", linux.readonly_paths.len()), RULE);
            linux.readonly_paths.push(path.into());
        }
    }
}
