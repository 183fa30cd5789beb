//! Owned file descriptors.
use alloc::vec::Vec;

use crate::raw::{Argument, sys};
use crate::{Errno, Result};

/// A descriptor that is closed when dropped. All of them are close-on-exec.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor number that this process was given: by its starter, or by the kernel.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    pub fn raw(&self) -> i32 {
        self.0
    }

    /// The descriptors with numbers from `first` to below `end` that are open: at the start of a program, those that
    /// it was given.
    pub fn open_between(first: i32, end: i32) -> Vec<Fd> {
        (first..end).filter(|number| sys!(SYS_fcntl, *number, libc::F_GETFD).is_ok()).map(Fd).collect()
    }

    pub(crate) fn returned(number: usize) -> Self {
        Self(number as i32)
    }

    /// Gives the descriptor up without closing it.
    pub fn leak(self) -> i32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    /// A second descriptor of the same open file, numbered `lowest` or above.
    pub fn duplicate(&self, lowest: i32) -> Result<Fd> {
        sys!(SYS_fcntl, self, libc::F_DUPFD_CLOEXEC, lowest).map(Fd::returned)
    }

    /// Makes `number` another name of the open file; it survives exec.
    pub fn install(&self, number: i32) -> Result<()> {
        if self.0 == number { self.keep_on_exec() } else { sys!(SYS_dup3, self, number, 0).map(drop) }
    }

    /// Whether the descriptor survives exec.
    pub fn is_kept_on_exec(&self) -> Result<bool> {
        sys!(SYS_fcntl, self, libc::F_GETFD).map(|flags| flags & libc::FD_CLOEXEC as usize == 0)
    }

    /// Lets the descriptor survive exec.
    pub fn keep_on_exec(&self) -> Result<()> {
        sys!(SYS_fcntl, self, libc::F_SETFD, 0).map(drop)
    }

    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        sys!(SYS_read, self, buffer.as_mut_ptr(), buffer.len())
    }

    /// Reads up to the end; `EMSGSIZE` where that is further than `most` bytes.
    pub fn read_all(&self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(bytes),
                _ if bytes.len() > most => return Err(Errno::EMSGSIZE),
                length => bytes.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// Writes all of the bytes in one call: procfs and sysfs take a value whole or not at all.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.write_some(bytes).map(drop)
    }

    /// Writes as much as goes in one call.
    pub fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        sys!(SYS_write, self, bytes.as_ptr(), bytes.len())
    }

    /// Moves the position of a file back to its start.
    pub fn rewind(&self) -> Result<()> {
        sys!(SYS_lseek, self, 0, libc::SEEK_SET).map(drop)
    }

    /// Reads and writes give EAGAIN instead of waiting.
    pub fn set_nonblocking(&self) -> Result<()> {
        sys!(SYS_fcntl, self, libc::F_SETFL, libc::O_NONBLOCK).map(drop)
    }

    /// Copies up to `count` bytes from another file at its position.
    pub fn copy_from(&self, source: &Fd, count: usize) -> Result<usize> {
        sys!(SYS_sendfile, self, source, 0, count)
    }
}

impl Argument for &Fd {
    fn word(self) -> usize {
        self.raw() as usize
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let _ = sys!(SYS_close, self.0);
    }
}

/// Closes every descriptor from `first` on. Who holds an `Fd` of them must forget it.
pub fn close_from(first: u32) -> Result<()> {
    sys!(SYS_close_range, first, u32::MAX, 0).map(drop)
}

/// Closes every descriptor but those with the numbers given. Who holds an `Fd` of them must forget it.
pub fn close_all_but(kept: &mut [i32]) -> Result<()> {
    kept.sort_unstable();
    let mut first = 0;
    for number in kept.iter().map(|number| *number as u32) {
        if number > first {
            sys!(SYS_close_range, first, number - 1, 0)?;
        }
        first = number + 1;
    }
    close_from(first)
}

/// Marks every descriptor from `first` on as close-on-exec.
pub fn close_from_on_exec(first: u32) -> Result<()> {
    sys!(SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).map(drop)
}
