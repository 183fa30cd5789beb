//! Targets inside the container's root: found or created without ever leaving it.
//!
//! Safe for a hostile image because: each lookup is one openat2(2) below a held descriptor, with links confined to the
//! container's root; each creation is a single component in a held directory, which fails on anything that is already
//! there. What lies on a mount is looked up from that mount, so that a neighbour who renames directories of the root
//! filesystem meanwhile changes nothing. Only a path that leads over a link of the image is looked up from the root;
//! where it has led is verified before the pivot.
use alloc::string::String;
use core::cell::Cell;

use rspawn_proto::plan::Target;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome};

use crate::slots::Slots;

/// What to create at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    Directory { mode: u32 },
    File,
}

/// Links to nothing that one path may lead over: as many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// The container's tree.
pub struct Tree<'a> {
    pub root: &'a Fd,
    pub slots: &'a Slots,
    /// Links of the image are followed, inside its root.
    pub links: bool,
    /// One has been.
    pub linked: Cell<bool>,
}

impl Tree<'_> {
    /// Opens a target with O_PATH; `None` if its filesystem does not have it.
    pub fn find(&self, at: &Target) -> Outcome<Option<Fd>> {
        if self.slots.filled(at.mount).is_none() {
            // Below a read-only path that is not there.
            return Ok(None);
        }
        let found = self.look_up(at, |dir, path, resolve| {
            if path.is_empty() {
                // The mount itself, which may be of a file.
                return dir.duplicate(3).named("fcntl");
            }
            file::open_at(dir, path, file::O_PATH, 0, resolve).named("openat2")
        });
        match found {
            Err(failure) if [Errno::ENOENT.0, Errno::ENOTDIR.0].contains(&failure.errno) => Ok(None),
            found => found.map(Some),
        }
    }

    pub fn find_existing(&self, at: &Target) -> Outcome<Fd> {
        self.find(at)?.ok_or_else(|| Failure::of("openat2", Errno::ENOENT).with(at.absolute()))
    }

    /// Opens a target with O_PATH, creating what is missing of it.
    pub fn find_or_create(&self, at: &Target, leaf: Leaf) -> Outcome<Fd> {
        self.look_up(at, |dir, path, resolve| match path {
            // The mount itself, which may be of a file.
            "" => dir.duplicate(3).named("fcntl"),
            path => open_or_create(dir, path, resolve, leaf),
        })
    }

    /// The directory that a target's last component is in, created if need be, and that component.
    pub fn open_parent<'a>(&self, at: &'a Target) -> Outcome<(Fd, &'a str)> {
        let (_, name) = split(at.path.as_str());
        let make = Leaf::Directory { mode: 0o755 };
        let parent = self.look_up(at, |dir, path, resolve| open_or_create(dir, split(path).0, resolve, make))?;
        Ok((parent, name))
    }

    fn look_up<T>(&self, at: &Target, open: impl Fn(&Fd, &str, Resolve) -> Outcome<T>) -> Outcome<T> {
        let beneath = at.beneath().ok_or_else(|| Failure::check("the path does not lead over its mount"))?;
        match open(self.slots.get(at.mount)?, beneath, Resolve::InRootNoLinks) {
            Err(failure) if self.links && failure.errno == Errno::ELOOP.0 => {
                self.linked.set(true);
                open(self.root, at.path.as_str(), Resolve::InRoot)
            }
            opened => opened,
        }
    }
}

/// The directory of a path, and the last component.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
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
