//! Paths inside the container's root: found or created without ever leaving it.
//!
//! Safe for a hostile image because: each lookup is one openat2(2) below the root's descriptor, with links confined
//! to it; each creation is a single component in a held directory, which fails on anything that is already there.
use alloc::string::String;

use rspawn_proto::ids::RelPath;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd};

use crate::failure::{Failure, Named, Outcome};

/// What to create at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    Directory { mode: u32 },
    File,
}

/// Opens a path with O_PATH; `None` if it does not exist.
pub fn find(root: &Fd, path: &RelPath, resolve: Resolve) -> Outcome<Option<Fd>> {
    match file::open_at(root, path.as_str(), file::O_PATH, 0, resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno).named("openat2"),
    }
}

/// Opens a path with O_PATH, creating what is missing of it.
pub fn find_or_create(root: &Fd, path: &RelPath, resolve: Resolve, leaf: Leaf) -> Outcome<Fd> {
    match file::open_at(root, path.as_str(), file::O_PATH, 0, resolve) {
        Err(Errno::ENOENT) => {}
        found => return found.named("openat2"),
    }
    let (parent, name) = open_parent(root, path, resolve)?;
    match leaf {
        Leaf::Directory { mode } => exists_is_fine(file::make_directory(&parent, name, mode)).named("mkdirat")?,
        Leaf::File => {
            let flags = file::O_WRONLY | file::O_CREAT | file::O_EXCL | file::O_NOFOLLOW;
            exists_is_fine(file::open_at(&parent, name, flags, 0o644, Resolve::Beneath).map(drop)).named("openat2")?;
        }
    }
    // Not with `name` in `parent`: what is there now may be a link that another container put there meanwhile.
    file::open_at(root, path.as_str(), file::O_PATH, 0, resolve).named("openat2")
}

/// The directory that a path's last component is in, created if need be, and that component.
pub fn open_parent<'a>(root: &Fd, path: &'a RelPath, resolve: Resolve) -> Outcome<(Fd, &'a str)> {
    let path = path.as_str();
    if path.is_empty() {
        return Err(Failure::check("the container's root itself cannot be created"));
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let flags = file::O_PATH | file::O_DIRECTORY;
    match file::open_at(root, directory, flags, 0, resolve) {
        Ok(parent) => return Ok((parent, name)),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).named("openat2").map_err(|failure| failure.with(directory)),
    }
    let mut walked = String::new();
    let mut parent = file::open_at(root, "", flags, 0, resolve).named("openat2")?;
    for component in directory.split('/') {
        if !walked.is_empty() {
            walked.push('/');
        }
        walked.push_str(component);
        parent = match file::open_at(root, &walked, flags, 0, resolve) {
            Err(Errno::ENOENT) => {
                exists_is_fine(file::make_directory(&parent, component, 0o755)).named("mkdirat")?;
                file::open_at(root, &walked, flags, 0, resolve)
            }
            found => found,
        }
        .named("openat2")
        .map_err(|failure| failure.with(walked.as_str()))?;
    }
    Ok((parent, name))
}

fn exists_is_fine(made: rspawn_sys::Result<()>) -> rspawn_sys::Result<()> {
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}
