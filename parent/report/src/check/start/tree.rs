//! The tree of files that a container will have, or the host has: mounts over directories of the host, with what the
//! plan makes in them. Paths are walked name by name as the kernel walks them, so that what the container will find can
//! be told before anything is mounted.
//!
//! What lies in a filesystem that does not exist yet is not known, but for tmpfs, which is empty, and for /proc and
//! /sys, of which the host's own show the names that every one has. Not knowing is never an error.
use std::collections::BTreeMap;

use rspawn_planner::start_facts::{Entry, FileKind, Look};
use rspawn_proto::ids::Slot;

/// What a mount shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A file or directory of the host.
    Host(String),
    /// An empty directory.
    Empty,
    /// A null device.
    Null,
    /// As the host's own directory, as far as names go that do not depend on namespaces.
    Mirror(&'static str),
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Mount {
    pub slot: Option<Slot>,
    pub content: Content,
    pub read_only: bool,
    pub no_exec: bool,
    /// What the plan makes in it.
    made: BTreeMap<String, Entry>,
}

impl Mount {
    pub fn new(slot: Option<Slot>, content: Content) -> Self {
        Self { slot, content, read_only: false, no_exec: false, made: BTreeMap::new() }
    }
}

/// A name in a mount: the mount's number, and the path below it.
pub type Place = (usize, String);

/// Where a path leads.
#[derive(Debug)]
pub enum Found {
    At(Place, Entry),
    /// Errno, and the directory that the rest of the path is missing in.
    Missing {
        directory: Place,
        rest: Vec<String>,
    },
    /// No such path can be: ENOTDIR, ELOOP.
    Never(i32),
    Unknown,
}

/// A walk's result, and the directories that had to be searched.
pub struct Walk {
    pub found: Found,
    /// How many links were followed.
    pub links: usize,
    pub searched: Vec<Entry>,
}

pub struct Tree<'a> {
    look: &'a dyn Look,
    pub mounts: Vec<Mount>,
    /// Which mount is on which place.
    covers: BTreeMap<Place, usize>,
}

/// Most links on the way, as the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

fn entry(kind: FileKind) -> Entry {
    Entry { kind, mode: 0o755, uid: 0, gid: 0, target: None }
}

impl<'a> Tree<'a> {
    pub fn new(look: &'a dyn Look, root: Mount) -> Self {
        Self { look, mounts: vec![root], covers: BTreeMap::new() }
    }

    /// The host's own.
    pub fn of_host(look: &'a dyn Look) -> Self {
        Self::new(look, Mount::new(None, Content::Host("/".into())))
    }

    /// Puts a mount on a place.
    pub fn cover(&mut self, place: Place, mount: Mount) {
        self.mounts.push(mount);
        self.covers.insert(place, self.mounts.len() - 1);
    }

    /// Makes an entry.
    pub fn make(&mut self, (mount, path): Place, kind: FileKind) {
        self.mounts[mount].made.insert(path, entry(kind));
    }

    pub fn make_link(&mut self, (mount, path): Place, target: &str) {
        let link = Entry { target: Some(target.to_string()), ..entry(FileKind::Link) };
        self.mounts[mount].made.insert(path, link);
    }

    /// The topmost mount on a place, or the place itself.
    fn top(&self, mut place: Place) -> Place {
        while let Some(mount) = self.covers.get(&place) {
            place = (*mount, String::new());
        }
        place
    }

    /// What is at a place: an entry, an errno, or nothing that is known.
    fn at(&self, (mount, path): &Place) -> Result<Result<Entry, Option<i32>>, String> {
        let mount = &self.mounts[*mount];
        if let Some(made) = mount.made.get(path) {
            return Ok(Ok(made.clone()));
        }
        let is_top = path.is_empty();
        Ok(match &mount.content {
            Content::Host(root) if is_top => self.look.leads_to(root)?.map_err(Some),
            Content::Host(root) => self.look.entry(root, path)?.map_err(|errno| match errno {
                libc::ENOENT | libc::ENOTDIR | libc::ELOOP => Some(errno),
                // Whether a start may look is another question.
                _ => None,
            }),
            Content::Empty | Content::Mirror(_) | Content::Unknown if is_top => Ok(entry(FileKind::Directory)),
            Content::Null => Ok(entry(FileKind::CharacterDevice)),
            Content::Empty => Err(Some(libc::ENOENT)),
            Content::Mirror(_) if depends_on_namespaces(path) => Err(None),
            Content::Mirror(root) => {
                self.look.entry(root, path)?.map_err(|errno| Some(errno).filter(|e| *e == libc::ENOENT))
            }
            Content::Unknown => Err(None),
        })
    }

    /// Walks a path from the root. `follow` says whether a link at its end is followed.
    pub fn walk(&self, path: &str, follow: bool) -> Result<Walk, String> {
        let mut left: Vec<String> = names(path).rev().collect();
        // The directories above, for `..`; the last is where the walk is.
        let mut above = vec![self.top((0, String::new()))];
        let mut searched = Vec::new();
        let mut links = 0;
        let found = loop {
            let here = above.last().cloned().unwrap_or_default();
            let directory = match self.at(&here)? {
                Ok(entry) => entry,
                Err(errno) => break errno.map_or(Found::Unknown, Found::Never),
            };
            let Some(name) = left.pop() else { break Found::At(here, directory) };
            if directory.kind != FileKind::Directory {
                break Found::Never(libc::ENOTDIR);
            }
            searched.push(directory);
            if name == ".." {
                above.truncate(above.len().saturating_sub(1).max(1));
                continue;
            }
            let below = if here.1.is_empty() { name.clone() } else { format!("{}/{name}", here.1) };
            let place = self.top((here.0, below));
            match self.at(&place)? {
                Err(Some(libc::ENOENT)) => {
                    left.push(name);
                    left.reverse();
                    break Found::Missing { directory: here, rest: left };
                }
                Err(errno) => break errno.map_or(Found::Unknown, Found::Never),
                Ok(Entry { kind: FileKind::Link, target: Some(target), .. }) if follow || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        break Found::Never(libc::ELOOP);
                    }
                    // A link of procfs may be a magic one, which leads elsewhere than it says.
                    if matches!(self.mounts[place.0].content, Content::Mirror(_)) {
                        break Found::Unknown;
                    }
                    if target.starts_with('/') {
                        above.truncate(1);
                    }
                    left.extend(names(&target).rev());
                }
                Ok(found) if left.is_empty() => break Found::At(place, found),
                Ok(_) => above.push(place),
            }
        };
        Ok(Walk { found, links, searched })
    }

    /// What a path of the host leads to, where that is known.
    pub fn leads_to(&self, path: &str) -> Result<Option<Entry>, String> {
        Ok(self.look.leads_to(path)?.ok())
    }

    /// A place as a path below a directory of the host, where it is one.
    pub fn on_host(&self, (mount, path): &Place) -> Option<(String, String)> {
        match &self.mounts[*mount].content {
            Content::Host(root) if !self.mounts[*mount].made.contains_key(path) => Some((root.clone(), path.clone())),
            _ => None,
        }
    }
}

fn names(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_string)
}

/// Names of procfs and sysfs that are there in one namespace and not in another.
fn depends_on_namespaces(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let of_process = first.bytes().all(|byte| byte.is_ascii_digit()) || matches!(first, "self" | "thread-self");
    of_process || path.split('/').any(|name| name == "net")
}
