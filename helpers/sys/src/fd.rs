//! Owned file descriptors.
use alloc::vec::Vec;

use crate::raw::{Result, call, call_again};

/// A descriptor that is closed when dropped. All of them are close-on-exec.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor number that this process was given: by its starter, or by the kernel.
    pub fn from_raw(number: i32) -> Self {
        Self(number)
    }

    pub fn raw(&self) -> i32 {
        self.0
    }

    pub(crate) fn arg(&self) -> usize {
        self.0 as usize
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
        // SAFETY: no pointers.
        unsafe { call(libc::SYS_fcntl, [self.arg(), libc::F_DUPFD_CLOEXEC as usize, lowest as usize]) }
            .map(Fd::returned)
    }

    /// Makes `number` another name of the open file; it survives exec.
    pub fn install(&self, number: i32) -> Result<()> {
        if self.0 == number {
            return self.keep_on_exec();
        }
        // SAFETY: no pointers.
        unsafe { call_again(libc::SYS_dup3, [self.arg(), number as usize, 0]) }.map(drop)
    }

    /// The descriptors with numbers from `first` to below `end` that are open: at the start of a program, those that
    /// it was given.
    pub fn open_between(first: i32, end: i32) -> Vec<Fd> {
        let is_open = |number: &i32| {
            // SAFETY: no pointers.
            unsafe { call(libc::SYS_fcntl, [*number as usize, libc::F_GETFD as usize]) }.is_ok()
        };
        (first..end).filter(is_open).map(Fd).collect()
    }

    /// Lets the descriptor survive exec.
    pub fn keep_on_exec(&self) -> Result<()> {
        // SAFETY: no pointers.
        unsafe { call(libc::SYS_fcntl, [self.arg(), libc::F_SETFD as usize, 0]) }.map(drop)
    }

    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the pointer and length are those of a live mutable slice.
        unsafe { call_again(libc::SYS_read, [self.arg(), buffer.as_mut_ptr() as usize, buffer.len()]) }
    }

    /// Writes all of the bytes in one call: procfs and sysfs take a value whole or not at all.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: the pointer and length are those of a live slice.
        unsafe { call_again(libc::SYS_write, [self.arg(), bytes.as_ptr() as usize, bytes.len()]) }.map(drop)
    }

    /// Writes as much as goes in one call.
    pub fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: the pointer and length are those of a live slice.
        unsafe { call_again(libc::SYS_write, [self.arg(), bytes.as_ptr() as usize, bytes.len()]) }
    }

    /// Reads and writes give EAGAIN instead of waiting.
    pub fn set_nonblocking(&self) -> Result<()> {
        let flags = libc::O_NONBLOCK as usize;
        // SAFETY: no pointers.
        unsafe { call(libc::SYS_fcntl, [self.arg(), libc::F_SETFL as usize, flags]) }.map(drop)
    }

    /// Copies up to `count` bytes from another file at its position.
    pub fn copy_from(&self, source: &Fd, count: usize) -> Result<usize> {
        // SAFETY: the offset pointer is null: the kernel uses the file's own position.
        unsafe { call_again(libc::SYS_sendfile, [self.arg(), source.arg(), 0, count]) }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: no pointers; the number is ours and is not used again.
        let _ = unsafe { call(libc::SYS_close, [self.arg()]) };
    }
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> Result<()> {
    // SAFETY: no pointers; whoever holds an `Fd` in that range is about to exec or exit.
    unsafe { call(libc::SYS_close_range, [first as usize, u32::MAX as usize, 0]) }.map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec.
pub fn close_from_on_exec(first: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_close_range, [first as usize, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize]) }
        .map(drop)
}
