//! How a failure is said where nobody but the caller hears it: an exit status, and words on standard error.
use rspawn_sys::Fd;

/// Exit statuses of a program that could not be executed, as shells and env(1) use them.
pub const NOT_EXECUTABLE: i32 = 126;
pub const NOT_FOUND: i32 = 127;

/// Writes to stderr; there is nothing to do if that fails.
pub fn complain(text: &str) {
    let stderr = Fd::from_raw(2);
    let _ = stderr.write(text.as_bytes());
    stderr.leak();
}
