//! Where the plan mounts and makes things: its steps inside the container, one by one, on the tree of files.
use std::collections::BTreeMap;

use rspawn_planner::origin::finish_origin;
use rspawn_planner::problem::Problem;
use rspawn_planner::start_facts::{Entry, FileKind};
use rspawn_proto::ids::{Slot, Target};
use rspawn_proto::plan::*;
use rspawn_proto::report::FinishStep;
use rspawn_proto::virtual_fs::VirtualFs;

use super::subject::Start;
use super::tree::{Content, Found, Mount, Place, Tree};
use crate::describe;

/// Judges each place, and gives the tree that the payload will find; `None` where its root is not known.
pub fn judge<'a>(start: &Start<'a>, problems: &mut Vec<Problem>) -> Result<Option<Tree<'a>>, String> {
    let plan = start.plan;
    let root = plan.rootfs.iter().find_map(|step| match &step.op {
        RootfsOp::AttachRoot { mount, .. } => Some(*mount),
        _ => None,
    });
    let mut mounts = from_host(plan);
    let Some(root) = root.and_then(|slot| mounts.remove(&slot)) else { return Ok(None) };
    let mut replay = Replay { tree: Tree::new(start.look, root), mounts };
    for step in &plan.rootfs {
        let wrong = replay.step(&step.op)?;
        problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
    }
    let cwd = plan.finish.cwd.as_str();
    let wrong = match replay.tree.walk(cwd, true)?.found {
        Found::At(_, entry) if entry.kind != FileKind::Directory => Some(libc::ENOTDIR),
        _ => None,
    };
    problems.extend(wrong.map(|number| {
        let message = format!("the working directory {cwd} cannot be entered: {}", describe::errno(number));
        start.problem(finish_origin(FinishStep::Cwd), message)
    }));
    Ok(Some(replay.tree))
}

/// Mounts that come from the host phase, by their slots.
fn from_host(plan: &Plan) -> BTreeMap<Slot, Mount> {
    let mut mounts = BTreeMap::new();
    for step in &plan.host {
        let (slot, content, attrs) = match &step.op {
            HostOp::CloneTree { out, path, attrs, .. } => (*out, Content::Host(path.to_string()), attrs),
            HostOp::NewFilesystem { out, attrs, .. } => (*out, Content::Unknown, attrs),
            _ => continue,
        };
        let mut mount = Mount::new(Some(slot), content);
        set(&mut mount, attrs);
        mounts.insert(slot, mount);
    }
    mounts
}

fn set(mount: &mut Mount, attrs: &MountAttrs) {
    mount.read_only = (mount.read_only || attrs.set & attr::RDONLY != 0) && attrs.clear & attr::RDONLY == 0;
    mount.no_exec = (mount.no_exec || attrs.set & attr::NOEXEC != 0) && attrs.clear & attr::NOEXEC == 0;
}

struct Replay<'a> {
    tree: Tree<'a>,
    /// What is not attached yet.
    mounts: BTreeMap<Slot, Mount>,
}

impl Replay<'_> {
    /// What is wrong with a step.
    fn step(&mut self, op: &RootfsOp) -> Result<Option<String>, String> {
        match op {
            RootfsOp::NewFilesystem { out, fs, attrs, .. } => {
                let mut mount = Mount::new(Some(*out), shows(*fs));
                set(&mut mount, &MountAttrs { set: *attrs, ..MountAttrs::default() });
                self.mounts.insert(*out, mount);
            }
            RootfsOp::CloneTree { out, from, .. } => {
                let content = self.content_of(from)?;
                self.mounts.insert(*out, Mount::new(Some(*out), content));
            }
            RootfsOp::CopyUp { mount, from } => {
                let content = self.content_of(from)?;
                self.mounts.entry(*mount).and_modify(|mount| mount.content = content);
            }
            RootfsOp::SetAttrs { mount, attrs } => {
                let waiting = self.mounts.values_mut();
                let all = self.tree.mounts.iter_mut().chain(waiting);
                all.filter(|other| other.slot == Some(*mount)).for_each(|mount| set(mount, attrs));
            }
            RootfsOp::Attach { mount, at, no_symlinks } => return self.attach(*mount, at, *no_symlinks),
            RootfsOp::AttachLink { mount, at, .. } => {
                // What becomes of links there is not followed here.
                self.mounts.remove(mount);
                if let Found::At(place, _) = self.tree.walk(&at.absolute(), false)?.found {
                    self.tree.cover(place, Mount::new(None, Content::Unknown));
                }
            }
            RootfsOp::MakeDirectory { at, .. } => {
                return self.make(at, FileKind::Directory, true).map(|made| made.err());
            }
            RootfsOp::MakeSymlink { at, target } => {
                if let Ok(Some(place)) = self.make(at, FileKind::Link, false)? {
                    self.tree.make_link(place, target.as_str());
                }
            }
            RootfsOp::MakeNode { at, kind, .. } => return self.make_node(at, *kind),
            RootfsOp::Mask { at, .. } => {
                if let Found::At(place, entry) = self.tree.walk(&at.absolute(), true)?.found {
                    let is_directory = entry.kind == FileKind::Directory;
                    let content = if is_directory { Content::Empty } else { Content::Null };
                    self.tree.cover(place, Mount::new(None, content));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// What a clone of a part of the tree shows.
    fn content_of(&self, from: &Target) -> Result<Content, String> {
        let Found::At(place, _) = self.tree.walk(&from.absolute(), true)?.found else { return Ok(Content::Unknown) };
        Ok(match self.tree.on_host(&place) {
            Some((root, path)) => Content::Host(join(&root, &path)),
            None => Content::Unknown,
        })
    }

    fn attach(&mut self, slot: Slot, at: &Target, no_symlinks: bool) -> Result<Option<String>, String> {
        let mount = self.mounts.remove(&slot).unwrap_or_else(|| Mount::new(Some(slot), Content::Unknown));
        let path = at.absolute();
        if no_symlinks && self.tree.walk(&path, true)?.links > 0 {
            return Ok(Some(format!(
                "there is a symlink on the way to {path}, where none may be: {}",
                describe::errno(libc::ELOOP)
            )));
        }
        let Some(is_directory) = self.is_directory(&mount.content)? else {
            // Where it may be a file or not, nothing is known of what is there then.
            if let Found::At(place, _) = self.tree.walk(&path, true)?.found {
                self.tree.cover(place, mount);
            }
            return Ok(None);
        };
        let kind = if is_directory { FileKind::Directory } else { FileKind::File };
        let place = match self.make(at, kind, true)? {
            Ok(place) => place,
            Err(wrong) => return Ok(Some(wrong)),
        };
        let Some(place) = place else { return Ok(None) };
        if let Found::At(_, entry) = self.tree.walk(&path, true)?.found
            && (entry.kind == FileKind::Directory) != is_directory
        {
            let (one, other) = if is_directory { ("a directory", "is none") } else { ("no directory", "is one") };
            return Ok(Some(format!(
                "what is mounted is {one}, and its place {path} {other}: {}",
                describe::errno(libc::ENOTDIR)
            )));
        }
        self.tree.cover(place, mount);
        Ok(None)
    }

    /// Whether what a mount shows is a directory; `None` if that is not known.
    fn is_directory(&self, content: &Content) -> Result<Option<bool>, String> {
        Ok(match content {
            Content::Host(path) => {
                let there = self.tree.leads_to(path)?;
                there.map(|entry| entry.kind == FileKind::Directory)
            }
            Content::Null => Some(false),
            _ => Some(true),
        })
    }

    /// The place of a path, which is made with the directories above it where it is missing. `None` if it is not known;
    /// the error is why it cannot be made.
    fn make(&mut self, at: &Target, kind: FileKind, follow: bool) -> Result<Result<Option<Place>, String>, String> {
        let path = at.absolute();
        Ok(match self.tree.walk(&path, follow)?.found {
            Found::At(place, _) => Ok(Some(place)),
            Found::Unknown => Ok(None),
            Found::Never(number) => Err(format!("{path} cannot be reached: {}", describe::errno(number))),
            Found::Missing { directory: (mount, mut below), rest } => {
                let inside = &self.tree.mounts[mount];
                let refused = match inside.content {
                    Content::Mirror(filesystem) => Some(format!("{filesystem} takes no new entries")),
                    _ if inside.read_only => Some(describe::errno(libc::EROFS)),
                    _ => None,
                };
                if let Some(refused) = refused {
                    return Ok(Err(format!("{path} does not exist and cannot be made: {refused}")));
                }
                for (index, name) in rest.iter().enumerate() {
                    below = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
                    let is_last = index + 1 == rest.len();
                    self.tree.make((mount, below.clone()), if is_last { kind } else { FileKind::Directory });
                }
                Ok(Some((mount, below)))
            }
        })
    }

    fn make_node(&mut self, at: &Target, kind: NodeKind) -> Result<Option<String>, String> {
        let path = at.absolute();
        if let Found::At(_, Entry { kind: FileKind::Directory | FileKind::File, .. }) =
            self.tree.walk(&path, false)?.found
        {
            return Ok(Some(format!("there is something else than this device at {path}")));
        }
        let kind = match kind {
            NodeKind::Char => FileKind::CharacterDevice,
            NodeKind::Block => FileKind::BlockDevice,
            NodeKind::Fifo => FileKind::Other,
        };
        Ok(self.make(at, kind, false)?.err())
    }
}

/// What a new filesystem shows.
fn shows(fs: VirtualFs) -> Content {
    match fs {
        VirtualFs::Tmpfs => Content::Empty,
        VirtualFs::Proc => Content::Mirror("/proc"),
        VirtualFs::Sysfs => Content::Mirror("/sys"),
        _ => Content::Unknown,
    }
}

pub fn join(root: &str, path: &str) -> String {
    if path.is_empty() { root.into() } else { format!("{}/{path}", root.trim_end_matches('/')) }
}
