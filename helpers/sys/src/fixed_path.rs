//! Texts at addresses that a seccomp filter can compare with: the two paths that calls on descriptors take, and the name of
//! the one filesystem that is made among others.
//!
//! AT_EMPTY_PATH permits an empty path; it does not demand one. A filter sees the address of a path and not the text,
//! so that only a text which can no longer change tells it that the path is empty. The page is mapped from a memory
//! file that is sealed against writing, shared and read-only: a write by `/proc/self/mem` would need a private mapping,
//! in which the kernel makes a copy. What could map over it, the filter does not allow.
use crate::raw::sys;
use crate::{Errno, Fd, Result};

#[repr(align(4096))]
struct Page([u8; 4096]);

const DOT: usize = 2;
const PROC: usize = 8;

static PAGE: Page = {
    let mut page = [0; 4096];
    page[DOT] = b'.';
    (page[PROC], page[PROC + 1], page[PROC + 2], page[PROC + 3]) = (b'p', b'r', b'o', b'c');
    Page(page)
};

/// The address of the empty path.
pub fn empty() -> usize {
    (&raw const PAGE) as usize
}

/// The address of `.`, the working directory.
pub fn dot() -> usize {
    empty() + DOT
}

/// The address of `proc`.
pub fn proc() -> usize {
    empty() + PROC
}

/// Makes the texts unchangeable for the rest of this process's life.
pub fn seal() -> Result<()> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let memory = sys!(SYS_memfd_create, c"rspawn-paths", flags).map(Fd::returned)?;
    if memory.write_some(&PAGE.0)? != PAGE.0.len() {
        return Err(Errno::EIO);
    }
    // Before Linux 6.7 what is sealed by F_SEAL_WRITE could not be mapped shared.
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE;
    sys!(SYS_fcntl, &memory, libc::F_ADD_SEALS, seals)?;
    let place = libc::MAP_SHARED | libc::MAP_FIXED;
    sys!(SYS_mmap, empty(), PAGE.0.len(), libc::PROT_READ, place, &memory, 0).map(drop)
}
