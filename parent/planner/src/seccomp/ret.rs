//! Return values of a filter (`SECCOMP_RET_*`, `include/uapi/linux/seccomp.h`).
pub const KILL_PROCESS: u32 = 0x8000_0000;
pub const KILL_THREAD: u32 = 0;
pub const TRAP: u32 = 0x0003_0000;
pub const ERRNO: u32 = 0x0005_0000;
pub const USER_NOTIF: u32 = 0x7fc0_0000;
pub const TRACE: u32 = 0x7ff0_0000;
pub const LOG: u32 = 0x7ffc_0000;
pub const ALLOW: u32 = 0x7fff_0000;
/// The part that carries an errno or a message.
pub const DATA: u32 = 0xffff;
/// `ERRNO` with ENOSYS.
pub const ERRNO_ENOSYS: u32 = ERRNO | 38;
