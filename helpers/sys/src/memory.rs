//! A word of memory that survives the process that wrote it, and the heap's pages.
use core::sync::atomic::{AtomicU32, Ordering};

use crate::raw::sys;
use crate::{Fd, Result};

/// A word in a file that several stages map: the step that is being carried out. Whoever outlives the others reads
/// from it how far they came, even after a SIGKILL.
#[derive(Clone, Copy)]
pub struct SharedWord(&'static AtomicU32);

impl SharedWord {
    /// Maps one of the first two words of a file of at least eight bytes.
    pub fn map(file: &Fd, second: bool) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let address = sys!(SYS_mmap, 0, 4096, protection, libc::MAP_SHARED, file, 0)? + 4 * usize::from(second);
        // SAFETY: the mapping is page-aligned, is never unmapped, and is used atomically only.
        Ok(Self(unsafe { &*(address as *const AtomicU32) }))
    }

    /// One for this process and its children, of no file. It begins as 0.
    pub fn of_family() -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let address = sys!(SYS_mmap, 0, 4096, protection, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)?;
        // SAFETY: as above.
        Ok(Self(unsafe { &*(address as *const AtomicU32) }))
    }

    pub fn store(self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn load(self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Fresh zeroed pages from the kernel; null where there are none.
pub fn pages(bytes: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let mapped = sys!(SYS_mmap, 0, bytes, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
    mapped.map_or(core::ptr::null_mut(), |address| address as *mut u8)
}

/// Takes the right to write to whole pages of this program.
pub fn make_read_only(address: usize, bytes: usize) -> Result<()> {
    sys!(SYS_mprotect, address, bytes, libc::PROT_READ).map(drop)
}
