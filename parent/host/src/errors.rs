//! Errors of the system in words, and as the standard library has them.
use std::io;

use rspawn_sys::Errno;

/// `EPERM: Operation not permitted`.
pub fn describe(number: i32) -> String {
    let errno = nix::errno::Errno::from_raw(number);
    format!("{errno:?}: {}", errno.desc())
}

/// As an error of the standard library's.
pub fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}
