//! Removing a container whose record is missing or cannot be read.
use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use rspawn_proto::ids::ContainerId;
use rspawn_proto::record::CgroupDir;
use rspawn_proto::{MAX_MESSAGE, codec};

use super::files::{is_fault, read};
use super::head::{Head, kill_and_wait};
use crate::containers::cgroups;

/// Kills the first process of a container whose record cannot be read, if the record's head proves it. Not under the
/// lock: a `start` that waits for a hook inside has that, and ends with the container.
pub fn end_first(directory: &File, id: &ContainerId) -> Result<(), String> {
    let noted = noted_cgroups(directory)?;
    match Head::find(directory, id)? {
        Some(head) if head.is_of_this_boot()? => kill_first(&head, id, &noted),
        _ => Ok(()),
    }
}

fn kill_first(head: &Head, id: &ContainerId, noted: &[CgroupDir]) -> Result<(), String> {
    head.process()?.map_or(Ok(()), |first| kill_and_wait(&first, id, noted))
}

/// Ends a container whose record cannot be read, and removes its cgroups. Its first process is what the record's head
/// says, which every version has in common; the others are known by the cgroups that rspawn-setup noted.
pub fn end_unread(directory: &File, id: &ContainerId) -> Result<(), String> {
    let noted = noted_cgroups(directory)?;
    match Head::find(directory, id)? {
        Some(head) if !head.is_of_this_boot()? => return cgroups::remove_empty(&noted),
        Some(head) => kill_first(&head, id, &noted)?,
        // Whatever lives may be anybody's, and is left alone; that is not to be kept quiet about.
        None if noted.iter().all(cgroups::is_resctrl) => crate::streams::warn(format!(
            "the record of container {id} does not tell its process, and no cgroup does: if it lives, it lives on"
        )),
        None => {}
    }
    clear(directory, &noted)
}

/// What rspawn-setup noted of the container's cgroups before it made them.
fn noted_cgroups(directory: &File) -> Result<Vec<CgroupDir>, String> {
    match read(directory, "cgroups", MAX_MESSAGE) {
        Ok(bytes) => Ok(codec::decode_message(&bytes).unwrap_or_else(|reason| {
            crate::streams::warn(format!("which cgroups the container has cannot be understood: {reason}"));
            Vec::new()
        })),
        // It had none yet; or what is there was never written by rspawn.
        Err(error) if error.kind() == io::ErrorKind::NotFound || !is_fault(&error) => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read which cgroups the container has: {error}")),
    }
}

/// Removes the cgroups of a container that has no record, or none that can be read: rspawn-setup notes them before
/// it makes them. What is in them is killed if there is a record, which tells that they have become the container's:
/// one that was killed before may have noted another's.
pub fn clear_cgroups(directory: &File) -> Result<(), String> {
    clear(directory, &noted_cgroups(directory)?)
}

fn clear(directory: &File, noted: &[CgroupDir]) -> Result<(), String> {
    match fstatat(directory, "record", AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => {
            cgroups::kill_all(noted)?;
            cgroups::remove(noted, false)
        }
        Err(Errno::ENOENT) => cgroups::remove_empty(noted),
        Err(errno) => Err(format!("cannot read which cgroups the container has: {}", io::Error::from(errno))),
    }
}
