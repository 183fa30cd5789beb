//! What usually makes a step fail.
use rspawn_proto::plan::*;
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError};

/// What an errno of a certain step usually means.
pub fn hint(plan: Option<&Plan>, error: &StepError) -> Option<&'static str> {
    if let Some(hint) = plan.and_then(|plan| mount_hint(plan, error)) {
        return Some(hint);
    }
    match (error.place, error.call.as_str(), error.errno) {
        (Place::Spawn(SpawnStep::Clone), _, libc::EPERM) => {
            Some("new namespaces need root, or a user namespace among them")
        }
        (Place::Spawn(SpawnStep::Clone), _, libc::ENOSPC) => {
            Some("a limit of /proc/sys/user/max_*_namespaces is reached")
        }
        (Place::Spawn(SpawnStep::Clone), _, libc::EBUSY | libc::EOPNOTSUPP) => {
            Some("a cgroup with controllers for those below it, or a threaded one, takes no process of its own")
        }
        (Place::Spawn(SpawnStep::Clone) | Place::Finish(FinishStep::Fork), _, libc::EAGAIN) => Some(
            "a limit of processes is reached, such as /linux/resources/pids/limit, which rspawn-init counts for too",
        ),
        (Place::Spawn(_), "clone3", libc::ENOMEM) => {
            Some("the container is ending, and its pid namespace takes no new process; or there is no memory")
        }
        (Place::Host(_), "write", libc::EBUSY) => Some("that much is in use, and the kernel could not free it"),
        (Place::Rootfs(_), "openat2", libc::ELOOP) => {
            Some("there is a symlink where none is allowed, or a loop of them")
        }
        (Place::Rootfs(_), "mkdirat", libc::EROFS) => {
            Some("the mount point does not exist, and its filesystem is read-only")
        }
        (Place::Rootfs(_), "openat2", libc::EROFS) => {
            Some("the mount point does not exist, and its filesystem is read-only")
        }
        _ => None,
    }
}

/// What the kernel means by refusing a mount.
fn mount_hint(plan: &Plan, error: &StepError) -> Option<&'static str> {
    let call = error.call.as_str();
    match error.place {
        Place::Rootfs(index) => match (&plan.rootfs.get(index as usize)?.op, call, error.errno) {
            (RootfsOp::NewFilesystem { fs: VirtualFs::Proc | VirtualFs::Sysfs, .. }, "fsmount", libc::EPERM) => Some(
                "in a user namespace the kernel makes no new one where parts of the host's are covered (\"mount too \
                 revealing\"), nor for a pid or network namespace that is not the container's: bind the host's instead",
            ),
            _ => None,
        },
        Place::Host(index) => match (&plan.host.get(index as usize)?.op, call, error.errno) {
            (HostOp::CloneTree { .. }, "check", 0) if error.detail.starts_with("a link led into") => {
                Some("an earlier mount covers that: name it by its own path, in the root")
            }
            (HostOp::CloneTree { recursive: false, .. }, "open_tree", libc::EINVAL) => Some(
                "without root, mounts below the source cannot be left out, since they may cover something: use rbind",
            ),
            (HostOp::CloneTree { attrs, .. } | HostOp::SetAttrs { attrs, .. }, "mount_setattr", number) => {
                match (number, attrs.idmap.is_some()) {
                    (libc::EINVAL, true) => Some("this filesystem cannot be id-mapped, or is so already"),
                    (libc::EPERM, true) => {
                        Some("ids are mapped only by the root of the namespace that owns the filesystem")
                    }
                    (libc::EPERM, false) if attrs.clear != 0 => {
                        Some("without root, what the host's mount forbids stays forbidden")
                    }
                    _ => None,
                }
            }
            (HostOp::DeviceRules { .. }, "bpf", libc::E2BIG) => Some(
                "the kernel takes no longer to verify device rules than some 800 take that allow or deny a part of rwm; \
                 with all of rwm there can be more",
            ),
            (HostOp::NewFilesystem { .. }, "fsopen" | "fsmount", libc::EPERM) => {
                Some("without root, only filesystems that the kernel trusts with any content can be mounted")
            }
            _ => None,
        },
        _ => None,
    }
}
