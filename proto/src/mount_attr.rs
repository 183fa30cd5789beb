//! MOUNT_ATTR_* of mount_setattr(2), `linux/mount.h`.
pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
/// The three access-time modes share these bits; clearing a mode clears all of them.
pub const ATIME: u64 = 0x70;
pub const RELATIME: u64 = 0x0;
pub const NOATIME: u64 = 0x10;
pub const STRICTATIME: u64 = 0x20;
pub const NODIRATIME: u64 = 0x80;
pub const IDMAP: u64 = 0x0010_0000;
pub const NOSYMFOLLOW: u64 = 0x0020_0000;
/// Every bit that a plan may name. IDMAP is not one: it follows from [`crate::plan::MountAttrs::idmap`].
pub const ALL: u64 = RDONLY | NOSUID | NODEV | NOEXEC | ATIME | NODIRATIME | NOSYMFOLLOW;
