//! The descriptor-based mount interface of Linux 5.2 to 5.12: fsopen, open_tree, mount_setattr, move_mount.
use alloc::string::String;

use rspawn_proto::plan::{Propagation, attr};

use crate::fd::Fd;
use crate::raw::{Result, c_string, call};

const OPEN_TREE_CLONE: usize = 1;
const MOVE_MOUNT_F_EMPTY_PATH: usize = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
const FSOPEN_CLOEXEC: usize = 1;
const FSMOUNT_CLOEXEC: usize = 1;
const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
const RECURSIVE: usize = libc::AT_RECURSIVE as usize;

/// enum fsconfig_command, `linux/mount.h`.
const SET_FLAG: usize = 0;
const SET_STRING: usize = 1;
const CMD_CREATE: usize = 6;

/// struct mount_attr, `linux/mount.h`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached copy of the mount at a descriptor.
pub fn clone_tree(at: &Fd, recursive: bool) -> Result<Fd> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as usize | EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated empty string.
    unsafe { call(libc::SYS_open_tree, [at.arg(), c"".as_ptr() as usize, flags]) }.map(Fd::returned)
}

/// Attaches a detached mount on a descriptor's place.
pub fn attach(mount: &Fd, on: &Fd) -> Result<()> {
    let empty = c"".as_ptr() as usize;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are NUL-terminated empty strings.
    unsafe { call(libc::SYS_move_mount, [mount.arg(), empty, on.arg(), empty, flags]) }.map(drop)
}

/// One mount_setattr(2) on the mount that a descriptor is the root of.
pub fn set_attributes(
    mount: &Fd,
    set: u64,
    clear: u64,
    propagation: Option<Propagation>,
    recursive: bool,
    idmap: Option<&Fd>,
) -> Result<()> {
    let propagation = match propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Shared) => libc::MS_SHARED,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
    };
    let idmap_bit = if idmap.is_some() { attr::IDMAP } else { 0 };
    let attributes = Attributes {
        set: set | idmap_bit,
        clear,
        propagation,
        userns_fd: idmap.map_or(0, |userns| userns.raw() as u64),
    };
    let flags = EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    let size = size_of::<Attributes>();
    let arguments = [mount.arg(), c"".as_ptr() as usize, flags, &raw const attributes as usize, size];
    // SAFETY: the path is a NUL-terminated empty string, `attributes` a live mount_attr of the size given.
    unsafe { call(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// A filesystem that is being set up: fsopen(2) to fsmount(2).
pub struct NewFilesystem(Fd);

impl NewFilesystem {
    pub fn open(name: &str) -> Result<Self> {
        let name = c_string(name)?;
        // SAFETY: the name is NUL-terminated.
        unsafe { call(libc::SYS_fsopen, [name.as_ptr() as usize, FSOPEN_CLOEXEC]) }.map(|fd| Self(Fd::returned(fd)))
    }

    fn configure(&self, command: usize, key: usize, value: usize) -> Result<()> {
        // SAFETY: the callers below pass null or pointers to NUL-terminated strings that outlive the call.
        unsafe { call(libc::SYS_fsconfig, [self.0.arg(), command, key, value, 0]) }.map(drop)
    }

    pub fn set_flag(&self, key: &str) -> Result<()> {
        let key = c_string(key)?;
        self.configure(SET_FLAG, key.as_ptr() as usize, 0)
    }

    pub fn set_text(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        self.configure(SET_STRING, key.as_ptr() as usize, value.as_ptr() as usize)
    }

    /// Makes the superblock, and a detached mount of it with the MOUNT_ATTR_* given.
    pub fn create(&self, attributes: u64) -> Result<Fd> {
        self.configure(CMD_CREATE, 0, 0)?;
        // SAFETY: no pointers.
        unsafe { call(libc::SYS_fsmount, [self.0.arg(), FSMOUNT_CLOEXEC, attributes as usize]) }.map(Fd::returned)
    }

    /// What the filesystem said about its last refusal; empty if nothing.
    pub fn complaint(&self) -> String {
        let mut buffer = [0u8; 256];
        let length = self.0.read(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).trim().into()
    }
}

/// Makes the working directory the root of the mount namespace and drops the old one, without a name for either.
/// pivot_root(2), NOTES: `pivot_root(".", ".")` stacks the old root on the new one, where it can be unmounted.
pub fn pivot_to_working_directory() -> Result<()> {
    let here = c".".as_ptr() as usize;
    // SAFETY: both paths are NUL-terminated.
    unsafe { call(libc::SYS_pivot_root, [here, here]) }?;
    // SAFETY: the path is NUL-terminated.
    unsafe { call(libc::SYS_umount2, [here, libc::MNT_DETACH as usize]) }.map(drop)
}
