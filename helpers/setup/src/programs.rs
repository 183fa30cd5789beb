//! rspawn's other programs, which this one executes.
use alloc::vec::Vec;

use rspawn_proto::plan::Rlimit;
use rspawn_sys::{Fd, Named, Outcome, file, image};

/// What the new process executes.
pub struct InitImage {
    pub sealed: Fd,
    pub preserve_fds: u32,
    /// The invoker's limit of open files, where it was raised for this program's own sake.
    pub file_limit: Option<Rlimit>,
    /// What was open when this program began.
    pub inherited: Vec<Fd>,
}

/// Copies another of rspawn's programs to where nobody can change it, to be executed where the container can see it.
pub fn seal(programs: &Fd, name: &str) -> Outcome<Fd> {
    image::unwritable(&open(programs, name)?, name)
}

/// Opens another of rspawn's programs.
pub fn open(programs: &Fd, name: &str) -> Outcome<Fd> {
    file::open_program(programs, name).named("openat2").map_err(|failure| failure.with(name))
}
