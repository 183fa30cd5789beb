//! Files of the host's procfs.
use rspawn_sys::{Failure, Named, Outcome, file};

/// Writes one, after making sure that it is on a procfs.
pub fn write(path: &str, text: &[u8]) -> Outcome<()> {
    let opened = file::open_proc(path).named("openat2").map_err(|failure| failure.with(path))?;
    if file::filesystem_magic(&opened).named("fstatfs")? != libc::PROC_SUPER_MAGIC {
        return Err(Failure::check("/proc is not a procfs"));
    }
    opened.write(text).named("write").map_err(|failure| failure.with(path))
}
