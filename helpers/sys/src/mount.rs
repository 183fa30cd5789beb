//! The descriptor-based mount interface of Linux 5.2 to 5.12: fsopen, open_tree, mount_setattr, move_mount.
use alloc::string::String;

use rspawn_proto::plan::{MountAttrs, Propagation, attr};

use crate::fixed_path;
use crate::raw::{Argument, c_string, sys};
use crate::{Fd, Result};

const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_BOTH_EMPTY_PATHS: u32 = 0x4 | 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;

/// enum fsconfig_command, `linux/mount.h`.
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CMD_CREATE: u32 = 6;

/// AT_EMPTY_PATH, with AT_RECURSIVE if asked.
fn at_flags(recursive: bool) -> i32 {
    libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 }
}

/// A detached copy of the mount at a descriptor.
pub fn clone_tree(at: &Fd, recursive: bool) -> Result<Fd> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | at_flags(recursive);
    sys!(SYS_open_tree, at, fixed_path::empty(), flags).map(Fd::returned)
}

/// Attaches a detached mount on a descriptor's place.
pub fn attach(mount: &Fd, on: &Fd) -> Result<()> {
    sys!(SYS_move_mount, mount, fixed_path::empty(), on, fixed_path::empty(), MOVE_MOUNT_BOTH_EMPTY_PATHS).map(drop)
}

/// One mount_setattr(2) on the mount that a descriptor is the root of; `idmap` is the user namespace to map ids by.
pub fn set_attributes(on: &Fd, attrs: &MountAttrs, idmap: Option<&Fd>) -> Result<()> {
    let propagation = match attrs.propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Shared) => libc::MS_SHARED,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
    };
    let (bit, userns) = idmap.map_or((0, 0), |userns| (attr::IDMAP, userns.raw() as u64));
    // struct mount_attr, `linux/mount.h`: set, clear, propagation, user namespace.
    let attributes = [attrs.set | bit, attrs.clear, propagation, userns];
    let flags = at_flags(attrs.recursive);
    sys!(SYS_mount_setattr, on, fixed_path::empty(), flags, attributes.as_ptr(), size_of_val(&attributes)).map(drop)
}

/// Takes the mount at a host path away, with all that lies on it, from this namespace.
pub fn detach(path: &str) -> Result<()> {
    sys!(SYS_umount2, &c_string(path)?, libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW).map(drop)
}

/// A filesystem that is being set up: fsopen(2) to fsmount(2).
pub struct NewFilesystem(Fd);

impl NewFilesystem {
    pub fn open(name: &str) -> Result<Self> {
        let text = c_string(name)?;
        let address = if name == "proc" { fixed_path::proc() } else { (&text).word() };
        sys!(SYS_fsopen, address, FSOPEN_CLOEXEC).map(|number| Self(Fd::returned(number)))
    }

    pub fn set_flag(&self, key: &str) -> Result<()> {
        sys!(SYS_fsconfig, &self.0, SET_FLAG, &c_string(key)?, 0, 0).map(drop)
    }

    pub fn set_text(&self, key: &str, value: &str) -> Result<()> {
        sys!(SYS_fsconfig, &self.0, SET_STRING, &c_string(key)?, &c_string(value)?, 0).map(drop)
    }

    /// Makes the superblock, and a detached mount of it with the MOUNT_ATTR_* given.
    pub fn create(&self, attributes: u64) -> Result<Fd> {
        sys!(SYS_fsconfig, &self.0, CMD_CREATE, 0, 0, 0)?;
        sys!(SYS_fsmount, &self.0, FSMOUNT_CLOEXEC, attributes).map(Fd::returned)
    }

    /// What the filesystem said about its last refusal; empty if nothing.
    pub fn complaint(&self) -> String {
        let mut buffer = [0u8; 256];
        let length = self.0.read(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).trim().into()
    }
}

/// Makes the working directory the root of the mount namespace, without a name for either. pivot_root(2), NOTES:
/// `pivot_root(".", ".")` stacks the old root on the new one, where [`drop_old_root`] can unmount it.
pub fn pivot_to_working_directory() -> Result<()> {
    sys!(SYS_pivot_root, fixed_path::dot(), fixed_path::dot()).map(drop)
}

/// Unmounts the root that [`pivot_to_working_directory`] left over the working directory.
pub fn drop_old_root() -> Result<()> {
    sys!(SYS_umount2, fixed_path::dot(), libc::MNT_DETACH).map(drop)
}
