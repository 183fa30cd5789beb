//! Error numbers, and the result of a system call.

/// A positive errno value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}
errnos! {
    EPERM ENOENT EINTR EXDEV EIO EBADF EAGAIN EACCES EEXIST ENODEV ENOTDIR EINVAL ENOEXEC ELOOP ENOSYS EMSGSIZE EISDIR EBUSY
    EOPNOTSUPP ECONNRESET EPIPE ESRCH ENOTEMPTY
}

pub type Result<T> = core::result::Result<T, Errno>;
