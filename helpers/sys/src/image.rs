//! Programs that are executed where a container can see the process: from a source that nobody can write to.
//!
//! Through `/proc/PID/exe` whoever may look at a process has its program open, and may write to it once nobody runs it
//! (CVE-2019-5736). A read-only clone of the mount is no help: mount_setattr(2) on `/proc/PID/exe` undoes it.
use alloc::format;

use crate::file::{self, O_CREAT, O_EXCL, O_PATH, O_WRONLY, Resolve};
use crate::mount::NewFilesystem;
use crate::raw::{c_string, sys};
use crate::{Errno, Fd, Named, Outcome, Result};

/// Nobody may read it either, so that the kernel keeps others from a process that executes it from its first moment
/// on, even those with rights over the user namespace that it is in (ptrace(2)).
const MODE: u32 = 0o111;

/// A copy of a program that can be executed and never changed.
pub fn unwritable(source: &Fd, name: &str) -> Outcome<Fd> {
    match sealed_memory(source, name) {
        // vm.memfd_noexec is 2.
        Err(Errno::EACCES) => in_overlay(source, name).map_err(|failure| {
            let detail =
                format!("the sysctl vm.memfd_noexec forbids to execute memory, and no overlay can be made: {name}");
            failure.with(detail)
        }),
        copied => copied.named("memfd_create").map_err(|failure| failure.with(name)),
    }
}

/// A memory file with all seals.
fn sealed_memory(source: &Fd, name: &str) -> Result<Fd> {
    const MFD_EXEC: u32 = 0x10;
    let name = c_string(name)?;
    let make = |flags: u32| sys!(SYS_memfd_create, &name, flags).map(Fd::returned);
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let copy = match make(flags | MFD_EXEC) {
        // Before Linux 6.3, which has them executable without being asked.
        Err(Errno::EINVAL) => make(flags)?,
        made => made?,
    };
    while copy.copy_from(source, 1 << 20)? > 0 {}
    sys!(SYS_fchmod, &copy, MODE)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    sys!(SYS_fcntl, &copy, libc::F_ADD_SEALS, seals)?;
    Ok(copy)
}

/// A file of an overlay that has no upper layer, which nothing can make writable. Its layers are in a tmpfs that is
/// mounted nowhere.
fn in_overlay(source: &Fd, name: &str) -> Outcome<Fd> {
    let tmpfs = NewFilesystem::open("tmpfs").and_then(|new| new.create(0)).named("fsmount")?;
    // Without an upper layer there must be two.
    for layer in ["program", "empty"] {
        file::make_directory(&tmpfs, layer, 0o755).named("mkdirat")?;
    }
    let flags = O_WRONLY | O_CREAT | O_EXCL;
    let copy = file::open_at(&tmpfs, &format!("program/{name}"), flags, MODE, Resolve::Beneath).named("openat2")?;
    while copy.copy_from(source, 1 << 20).named("sendfile")? > 0 {}
    // Executed while it is open for writing it would be ETXTBSY.
    drop(copy);
    let place = file::proc_path(&tmpfs);
    let overlay = NewFilesystem::open("overlay").named("fsopen")?;
    overlay.set_text("lowerdir", &format!("{place}/program:{place}/empty")).named("fsconfig")?;
    let overlay = overlay.create(0).named("fsmount")?;
    file::open_at(&overlay, name, O_PATH, 0, Resolve::Beneath).named("openat2")
}
