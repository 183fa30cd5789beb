//! The files of a state directory, whatever they are by now: a link is never followed, and nothing is waited for.
use std::fs::File;
use std::io::{self, Read};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Whether reading a file has failed for a reason that says nothing about the file. The others: it is a link, or
/// something else than a file.
pub fn is_fault(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), None | Some(libc::ELOOP | libc::ENOTDIR | libc::EISDIR | libc::ENXIO))
}

/// Opens a file of the state directory: never through a link.
pub fn open_in(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// What is in a file, up to one byte more than is taken from it.
pub fn read(directory: &File, name: &str, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_in(directory, name)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
