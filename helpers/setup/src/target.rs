//! Paths inside the container's root: found or created without ever leaving it.
//!
//! Safe for a hostile image because: each lookup is one openat2(2) below the root's descriptor, with links confined
//! to it; each creation is a single component in a held directory, which fails on anything that is already there.
use alloc::string::String;

use rspawn_proto::ids::RelPath;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd};

use rspawn_sys::failure::{Failure, Named, Outcome};

/// What to create at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    Directory { mode: u32 },
    File,
}

/// Links to nothing that one path may lead over: as many links as the kernel follows.
const MAX_LINKS: usize = 40;

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
    open_or_create(root, path.as_str(), resolve, leaf)
}

/// The directory that a path's last component is in, created if need be, and that component.
pub fn open_parent<'a>(root: &Fd, path: &'a RelPath, resolve: Resolve) -> Outcome<(Fd, &'a str)> {
    if path.is_root() {
        return Err(Failure::check("the container's root itself cannot be created"));
    }
    let (directory, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    open_or_create(root, directory, resolve, Leaf::Directory { mode: 0o755 }).map(|parent| (parent, name))
}

fn open_or_create(root: &Fd, path: &str, resolve: Resolve, leaf: Leaf) -> Outcome<Fd> {
    let mut path = String::from(path);
    for _ in 0..MAX_LINKS {
        // Opened by its whole name each time, not in the directory where it was made: what is there now may be a link
        // that another container put there meanwhile.
        match file::open_at(root, &path, file::O_PATH, 0, resolve) {
            Err(Errno::ENOENT) => {}
            found => return found.named("openat2").map_err(|failure| failure.with(path)),
        }
        if let Some(target) = create(root, &path, resolve, leaf).map_err(|failure| failure.with(path.as_str()))? {
            path = target;
        }
    }
    Err(Errno::ELOOP).named("openat2").map_err(|failure| failure.with(path))
}

/// Makes what is missing of a path. Where a link to nothing is in the way (/var/run of an image without /run), gives
/// the path that the link makes of this one, still to be resolved in the root.
fn create(root: &Fd, path: &str, resolve: Resolve, leaf: Leaf) -> Outcome<Option<String>> {
    let flags = file::O_PATH | file::O_DIRECTORY;
    let mut parent = file::open_at(root, "", flags, 0, resolve).named("openat2")?;
    let mut start = 0;
    for name in path.split('/') {
        let end = start + name.len();
        let (above, walked, rest) = (&path[..start], &path[..end], &path[end..]);
        start = end + 1;
        match file::open_at(root, walked, flags, 0, resolve) {
            Err(Errno::ENOENT) => {}
            found => {
                parent = found.named("openat2")?;
                continue;
            }
        }
        let (call, made) = match leaf {
            Leaf::File if rest.is_empty() => {
                let flags = file::O_WRONLY | file::O_CREAT | file::O_EXCL | file::O_NOFOLLOW;
                ("openat2", file::open_at(&parent, name, flags, 0o644, Resolve::Beneath).map(drop))
            }
            Leaf::Directory { mode } if rest.is_empty() => ("mkdirat", file::make_directory(&parent, name, mode)),
            _ => ("mkdirat", file::make_directory(&parent, name, 0o755)),
        };
        if made == Err(Errno::EEXIST) {
            let flags = file::O_PATH | file::O_NOFOLLOW;
            let there = file::open_at(&parent, name, flags, 0, Resolve::Beneath).named("openat2")?;
            return match file::read_link(&there) {
                Ok(target) if target.starts_with('/') => Ok(Some([target.trim_start_matches('/'), rest].concat())),
                Ok(target) => Ok(Some([above, &target, rest].concat())),
                // No link: another container on the same root has just made it.
                Err(Errno::EINVAL | Errno::ENOENT) => Ok(None),
                Err(errno) => Err(errno).named("readlinkat"),
            };
        }
        made.named(call)?;
        if !rest.is_empty() {
            parent = file::open_at(root, walked, flags, 0, resolve).named("openat2")?;
        }
    }
    Ok(None)
}
