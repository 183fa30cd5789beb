//! Files by descriptor. Paths of the container are resolved by openat2(2) in its root and never by name again.
use alloc::{ffi::CString, format, string::String, vec::Vec};
use core::ffi::CStr;

use crate::fixed_path;
use crate::raw::{Argument, c_string, sys};
use crate::{Errno, Fd, Result};

pub use libc::{O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_WRONLY};

/// The working directory, where a call wants a directory's descriptor. Not a constant, each use of which would be
/// dropped, and so closed.
static HERE: Fd = Fd::from_raw(libc::AT_FDCWD);

fn open_how(dir: &Fd, path: &str, flags: i32, mode: u32, resolve: u64) -> Result<Fd> {
    open_c(dir, &c_string(path)?, flags, mode, resolve)
}

fn open_c(dir: &Fd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<Fd> {
    // struct open_how of openat2(2): flags, mode, resolve.
    let how = [(flags | libc::O_CLOEXEC) as u64, mode.into(), resolve];
    // RESOLVE_IN_ROOT answers EAGAIN when a rename ran meanwhile anywhere, and asks to be tried again: so often that
    // chance will do, but not for ever, since somebody may be renaming on purpose.
    for _ in 0..1000 {
        match sys!(SYS_openat2, dir, path, how.as_ptr(), size_of_val(&how)) {
            Err(Errno::EAGAIN) => {}
            other => return other.map(Fd::returned),
        }
    }
    Err(Errno::EAGAIN)
}

/// How a path below a directory is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// The directory is the root: absolute links and `..` stay inside it.
    InRoot,
    /// As `InRoot`, and any symlink is an error.
    InRootNoLinks,
    /// Neither out of the directory, nor over a mount, nor through a link: for our own procfs.
    Beneath,
}

/// Opens a path below a directory. Magic links are never followed (CVE-2024-21626).
pub fn open_at(dir: &Fd, path: &str, flags: i32, mode: u32, resolve: Resolve) -> Result<Fd> {
    let in_root = libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_IN_ROOT;
    let resolve = match resolve {
        Resolve::InRoot => in_root,
        Resolve::InRootNoLinks => in_root | libc::RESOLVE_NO_SYMLINKS,
        Resolve::Beneath => BENEATH,
    };
    open_how(dir, if path.is_empty() { "." } else { path }, flags, mode, resolve)
}

const BENEATH: u64 =
    libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS;

/// As [`open_at`] beneath a directory, by a name of any bytes.
pub fn open_beneath(dir: &Fd, name: &CStr, flags: i32) -> Result<Fd> {
    open_c(dir, name, flags, 0, BENEATH)
}

/// The directory above one, on the same mount.
pub fn open_above(dir: &Fd) -> Result<Fd> {
    open_c(dir, c"..", O_RDONLY | O_DIRECTORY, 0, libc::RESOLVE_NO_XDEV)
}

/// Opens a program of rspawn's own for reading, in the directory that has them.
pub fn open_program(directory: &Fd, name: &str) -> Result<Fd> {
    open_how(directory, name, O_RDONLY, 0, libc::RESOLVE_NO_MAGICLINKS)
}

/// Opens an absolute host path, without magic links.
pub fn open_host(path: &str, flags: i32) -> Result<Fd> {
    open_how(&HERE, path, flags, 0, libc::RESOLVE_NO_MAGICLINKS)
}

/// Opens an absolute host path to append to it.
pub fn open_appending(path: &str) -> Result<Fd> {
    let flags = O_WRONLY | O_CREAT | libc::O_APPEND | O_NOCTTY;
    open_how(&HERE, path, flags, 0o700, libc::RESOLVE_NO_MAGICLINKS)
}

/// Opens what a path leads to, by magic links as well: a namespace, `/proc/PID/exe`. The caller judges what it is.
pub fn open_following(path: &str) -> Result<Fd> {
    open_how(&HERE, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0)
}

/// Holds what a magic link in a directory leads to, without opening it for use.
pub fn open_magic(directory: &Fd, name: &str) -> Result<Fd> {
    open_how(directory, name, O_PATH, 0, 0)
}

/// What fstat(2) says of a descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub major: u32,
    pub minor: u32,
    pub device: (u32, u32),
    pub inode: u64,
    pub links: u32,
    /// Number of the mount that it was opened on.
    pub mount: u64,
}

impl Status {
    pub fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    /// Whether it is the same file, by whichever mount.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    pub fn is_directory(&self) -> bool {
        self.is(libc::S_IFDIR)
    }

    pub fn is_null_device(&self) -> bool {
        self.is(libc::S_IFCHR) && (self.major, self.minor) == (1, 3)
    }
}

fn statx(dir: &Fd, path: usize, flags: i32) -> Result<Status> {
    let mut found = core::mem::MaybeUninit::<libc::statx>::zeroed();
    sys!(SYS_statx, dir, path, flags, libc::STATX_BASIC_STATS | libc::STATX_MNT_ID, found.as_mut_ptr())?;
    // SAFETY: a statx has integers only, so it is valid whatever the kernel left zero.
    let found = unsafe { found.assume_init() };
    Ok(Status {
        mode: found.stx_mode.into(),
        uid: found.stx_uid,
        gid: found.stx_gid,
        major: found.stx_rdev_major,
        minor: found.stx_rdev_minor,
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        links: found.stx_nlink,
        mount: found.stx_mnt_id,
    })
}

pub fn status(file: &Fd) -> Result<Status> {
    statx(file, fixed_path::empty(), libc::AT_EMPTY_PATH)
}

/// Whether two descriptors are of the same file, by whichever mounts they were opened.
pub fn is_same(one: &Fd, other: &Fd) -> Result<bool> {
    Ok(status(one)?.is_same(&status(other)?))
}

/// The status of one entry of a directory, links not followed.
pub fn status_at(dir: &Fd, name: &str) -> Result<Status> {
    let name = c_string(name)?;
    statx(dir, (&name).word(), libc::AT_SYMLINK_NOFOLLOW)
}

/// [`filesystem_magic`] of pipes without a name, `linux/magic.h`.
pub const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// The magic number of the filesystem that a descriptor is on (statfs(2)).
pub fn filesystem_magic(file: &Fd) -> Result<i64> {
    let mut found = core::mem::MaybeUninit::<libc::statfs>::zeroed();
    sys!(SYS_fstatfs, file, found.as_mut_ptr())?;
    // SAFETY: a statfs has integers only, so it is valid whatever the kernel left zero.
    Ok(unsafe { found.assume_init() }.f_type)
}

/// Makes one directory in a held one. `name` is a single component.
pub fn make_directory(dir: &Fd, name: &str, mode: u32) -> Result<()> {
    sys!(SYS_mkdirat, dir, &c_string(name)?, mode).map(drop)
}

/// Takes the lock of flock(2), which others may have for a while.
pub fn lock(file: &Fd) -> Result<()> {
    sys!(SYS_flock, file, libc::LOCK_EX).map(drop)
}

/// Takes back a lock of flock(2), whoever took it on this open file.
pub fn unlock(file: &Fd) -> Result<()> {
    sys!(SYS_flock, file, libc::LOCK_UN).map(drop)
}

/// Removes a file from a held directory.
pub fn remove(dir: &Fd, name: &CStr) -> Result<()> {
    sys!(SYS_unlinkat, dir, name, 0).map(drop)
}

/// Removes an empty directory from a held one.
pub fn remove_directory(dir: &Fd, name: &CStr) -> Result<()> {
    sys!(SYS_unlinkat, dir, name, libc::AT_REMOVEDIR).map(drop)
}

/// Gives a file of a held directory another name there, which it takes over.
pub fn rename(dir: &Fd, from: &str, to: &str) -> Result<()> {
    sys!(SYS_renameat2, dir, &c_string(from)?, dir, &c_string(to)?, 0).map(drop)
}

/// Makes one node in a held directory; `mode` has the type bits.
pub fn make_node(dir: &Fd, name: &str, mode: u32, major: u32, minor: u32) -> Result<()> {
    // new_encode_dev() of linux/kdev_t.h: what the kernel decodes from 32 bits.
    let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    sys!(SYS_mknodat, dir, &c_string(name)?, mode, device).map(drop)
}

pub fn make_symlink(target: &str, dir: &Fd, name: &str) -> Result<()> {
    sys!(SYS_symlinkat, &c_string(target)?, dir, &c_string(name)?).map(drop)
}

/// The target of a symlink held by an O_PATH descriptor.
pub fn read_link(link: &Fd) -> Result<String> {
    read_link_at(link, "")
}

fn read_link_at(dir: &Fd, path: &str) -> Result<String> {
    let mut buffer = [0u8; PATH_MAX];
    let length = sys!(SYS_readlinkat, dir, &c_string(path)?, buffer.as_mut_ptr(), buffer.len())?;
    core::str::from_utf8(&buffer[..length]).map(String::from).map_err(|_| Errno::EINVAL)
}

const PATH_MAX: usize = libc::PATH_MAX as usize;

pub fn change_owner(file: &Fd, uid: u32, gid: u32) -> Result<()> {
    sys!(SYS_fchownat, file, fixed_path::empty(), uid, gid, libc::AT_EMPTY_PATH).map(drop)
}

/// Changes the mode of an open file (not an O_PATH one).
pub fn change_mode(file: &Fd, mode: u32) -> Result<()> {
    sys!(SYS_fchmod, file, mode).map(drop)
}

/// An entry of a directory.
pub struct Entry {
    pub name: CString,
    pub is_directory: bool,
}

/// A directory's entries but `.` and `..`.
pub fn entries(dir: &Fd) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        let filled = sys!(SYS_getdents64, dir, buffer.as_mut_ptr(), buffer.len())?;
        if filled == 0 {
            return Ok(found);
        }
        let mut rest = &buffer[..filled];
        // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, then the name.
        while rest.len() > 19 {
            let length = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
            let name = CStr::from_bytes_until_nul(rest.get(19..length).ok_or(Errno::EIO)?).map_err(|_| Errno::EIO)?;
            if name != c"." && name != c".." {
                found.push(Entry { name: name.into(), is_directory: rest[18] == libc::DT_DIR });
            }
            rest = &rest[length..];
        }
    }
}

/// The path that names a descriptor to system calls which take only paths.
pub fn proc_path(file: &Fd) -> String {
    format!("/proc/self/fd/{}", file.raw())
}

/// An anonymous file in memory.
pub fn memory(name: &str) -> Result<Fd> {
    sys!(SYS_memfd_create, &c_string(name)?, libc::MFD_CLOEXEC).map(Fd::returned)
}

pub fn change_directory(dir: &Fd) -> Result<()> {
    sys!(SYS_fchdir, dir).map(drop)
}

/// Makes a directory the root of this process, without a name for it, and its working directory.
pub fn enter_root(root: &Fd) -> Result<()> {
    change_directory(root)?;
    sys!(SYS_chroot, c".").map(drop)
}

/// chdir(2) by name: for the payload's working directory, after the root has changed.
pub fn change_directory_to(path: &str) -> Result<()> {
    sys!(SYS_chdir, &c_string(path)?).map(drop)
}

/// Whether the working directory lies below the process's root. getcwd(2) begins with "(unreachable)" where not.
pub fn working_directory_is_reachable() -> Result<bool> {
    let mut buffer = [0u8; PATH_MAX];
    sys!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len())?;
    Ok(buffer[0] == b'/')
}

/// Whether this process, with its effective ids, may execute a path.
pub fn may_execute(path: &str) -> Result<Status> {
    let path = c_string(path)?;
    let found = statx(&HERE, (&path).word(), 0)?;
    sys!(SYS_faccessat2, &HERE, &path, libc::X_OK, libc::AT_EACCESS).map(|_| found)
}

pub fn set_umask(mask: u32) {
    // umask cannot fail.
    let _ = sys!(SYS_umask, mask);
}

/// Opens a file that the invoker named, relative to the working directory, for reading.
pub fn open_relative(path: &str) -> Result<Fd> {
    open_how(&HERE, path, O_RDONLY, 0, 0)
}

/// Opens a file for reading by openat(2), which every seccomp filter of a payload lets pass, and without waiting for
/// anyone at its other end.
pub fn open_plainly(path: &str) -> Result<Fd> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    sys!(SYS_openat, &HERE, &c_string(path)?, flags, 0).map(Fd::returned)
}

/// Opens for use what a descriptor stands for.
pub fn reopen(file: &Fd, flags: i32) -> Result<Fd> {
    open_how(&HERE, &proc_path(file), flags, 0, 0)
}

/// Opens a file below the host's /proc for writing. `/proc/self` is a link of procfs itself, so links are followed.
pub fn open_proc(path: &str) -> Result<Fd> {
    open_how(&HERE, path, O_WRONLY, 0, libc::RESOLVE_NO_MAGICLINKS)
}

/// Path of the place that a descriptor refers to, links resolved.
pub fn fd_path(file: &Fd) -> Result<String> {
    read_link_at(&HERE, &proc_path(file))
}
