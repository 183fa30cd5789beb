//! The programs that a start executes: hooks on the host, hooks in the container, the payload.
use rspawn_planner::origin::finish_origin;
use rspawn_planner::problem::Problem;
use rspawn_planner::seccomp::Arch;
use rspawn_planner::start_facts::{Entry, FileKind, Format, Program};
use rspawn_proto::plan::*;
use rspawn_proto::report::FinishStep;

use super::places::join;
use super::subject::Start;
use super::tree::{Found, Tree};
use crate::describe;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// Interpreters of interpreters that are followed, as execve(2) does.
const MOST_INTERPRETERS: usize = 4;

pub fn judge(start: &Start, tree: Option<&Tree>, problems: &mut Vec<Problem>) -> Result<(), String> {
    let plan = start.plan;
    let host = Tree::of_host(start.look);
    let hooks = [&plan.hooks.runtime, &plan.hooks.container, &plan.hooks.deferred.poststart];
    let on_host = Search { start, tree: &host, user: None };
    for hook in hooks.into_iter().flatten() {
        let wrong = on_host.executes(hook.path.as_str())?;
        problems.extend(wrong.err().map(|reason| hook_problem(start, &hook.origin, hook.path.as_str(), &reason)));
        problems.extend(missing_outputs(start, &hook.outputs)?);
    }
    let Some(tree) = tree else { return Ok(()) };
    let inside = Search { start, tree, user: Some(User::of(plan)) };
    for hook in &plan.finish.hooks {
        let wrong = inside.executes(hook.path.as_str())?;
        problems.extend(wrong.err().map(|reason| hook_problem(start, &hook.origin, hook.path.as_str(), &reason)));
    }
    let pointer = finish_origin(FinishStep::Exec);
    problems.extend(inside.payload()?.map(|message| start.problem(pointer, message)));
    Ok(())
}

fn hook_problem(start: &Start, origin: &str, path: &str, reason: &str) -> Problem {
    start.problem(origin, format!("the hook {path} cannot be executed: {reason}"))
}

/// Files that what hooks say is appended to are made; the directories that they are in are not.
fn missing_outputs(start: &Start, outputs: &[Option<rspawn_proto::ids::HostPath>; 2]) -> Result<Vec<Problem>, String> {
    let mut problems = Vec::new();
    for path in outputs.iter().flatten() {
        let directory =
            path.as_str().rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above });
        if let Err(number @ (libc::ENOENT | libc::ENOTDIR)) = start.look.leads_to(directory)? {
            let message = format!("what hooks say cannot be appended to {path}: {}", describe::errno(number));
            problems.push(Problem::new("/hooks", message));
        }
    }
    Ok(problems)
}

/// Who searches and executes. Of access control lists and security modules nothing is known.
struct User {
    uid: Option<u32>,
    gids: Vec<u32>,
    capabilities: u64,
}

impl User {
    /// The payload's, as the host calls it.
    fn of(plan: &Plan) -> Self {
        let finish = &plan.finish;
        let gids = finish.groups.iter().flatten().chain([&finish.gid]);
        Self {
            uid: outside(&plan.spawn.uid_map, finish.uid.raw()),
            gids: gids.filter_map(|gid| outside(&plan.spawn.gid_map, gid.raw())).collect(),
            capabilities: finish.capabilities.effective,
        }
    }

    /// Whether it surely may not: a list may give to others what the group has, and takes nothing from the owner.
    fn is_denied(&self, entry: &Entry, overriding: u64) -> bool {
        if entry.kind != FileKind::Directory && entry.mode & 0o111 == 0 {
            return true;
        }
        if self.capabilities & overriding != 0 {
            return false;
        }
        match self.uid {
            Some(uid) if uid == entry.uid => entry.mode & 0o100 == 0,
            Some(_) if self.gids.contains(&entry.gid) => entry.mode & 0o010 == 0,
            Some(_) => entry.mode & 0o011 == 0,
            None => false,
        }
    }
}

/// An id of the container's as one of the host's. Without a map they are the same.
fn outside(map: &[IdMap], id: u32) -> Option<u32> {
    if map.is_empty() {
        return Some(id);
    }
    let range = map.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
    Some(range.outside + (id - range.inside))
}

/// What comes of looking for a program.
enum Lookup {
    Usable(String, String),
    /// In words, and whether it is that it may not be executed.
    Refused(String, bool),
    Unknown,
}

struct Search<'a> {
    start: &'a Start<'a>,
    tree: &'a Tree<'a>,
    /// `None` is the invoker, whose rights the host's files were asked with.
    user: Option<User>,
}

impl Search<'_> {
    fn look_up(&self, path: &str) -> Result<Lookup, String> {
        let walk = self.tree.walk(path, true)?;
        let (place, entry) = match walk.found {
            Found::At(place, entry) => (place, entry),
            Found::Missing { .. } => return Ok(Lookup::Refused("no such file or directory".into(), false)),
            Found::Never(libc::ENOTDIR) => return Ok(Lookup::Refused("not a directory".into(), false)),
            Found::Never(libc::ELOOP) => return Ok(Lookup::Refused("too many levels of symbolic links".into(), false)),
            Found::Never(_) | Found::Unknown => return Ok(Lookup::Unknown),
        };
        let overriding = CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH;
        let searched = |user: &User| walk.searched.iter().any(|directory| user.is_denied(directory, overriding));
        let denied = || Lookup::Refused("permission denied".into(), true);
        if self.user.as_ref().is_some_and(searched) {
            return Ok(denied());
        }
        if entry.kind == FileKind::Directory {
            return Ok(Lookup::Refused("it is a directory".into(), false));
        }
        let may_not = match &self.user {
            Some(user) => user.is_denied(&entry, CAP_DAC_OVERRIDE),
            None => entry.mode & 0o111 == 0,
        };
        if entry.kind != FileKind::File || may_not || self.tree.mounts[place.0].no_exec {
            return Ok(denied());
        }
        Ok(self.tree.on_host(&place).map_or(Lookup::Unknown, |(root, path)| Lookup::Usable(root, path)))
    }

    /// Whether a path can be executed; the error says why it cannot.
    fn executes(&self, path: &str) -> Result<Result<(), String>, String> {
        match self.look_up(path)? {
            Lookup::Unknown => Ok(Ok(())),
            Lookup::Refused(reason, _) => Ok(Err(reason)),
            Lookup::Usable(root, file) => self.runs(&root, &file),
        }
    }

    /// Whether the kernel can run a file that it may execute: that of its format, and what interprets it.
    fn runs(&self, root: &str, file: &str) -> Result<Result<(), String>, String> {
        let mut held = (root.to_string(), file.to_string());
        for _ in 0..MOST_INTERPRETERS {
            let Ok(program) = self.start.look.program(&held.0, &held.1)? else { return Ok(Ok(())) };
            if let Some(reason) = self.cannot_run(&program) {
                return Ok(Err(reason));
            }
            let Some(interpreter) = program.interpreter.filter(|path| path.starts_with('/')) else { return Ok(Ok(())) };
            let name = shown(&interpreter);
            held = match self.look_up(&interpreter)? {
                Lookup::Usable(root, file) => (root, file),
                Lookup::Unknown => return Ok(Ok(())),
                Lookup::Refused(reason, _) => return Ok(Err(format!("its interpreter {name}: {reason}"))),
            };
            if program.format != Format::Script {
                // A loader is not executed itself.
                return Ok(Ok(()));
            }
        }
        Ok(Ok(()))
    }

    fn cannot_run(&self, program: &Program) -> Option<String> {
        if self.start.start.other_formats {
            return None;
        }
        match program.format {
            Format::Other => Some("exec format error: it is not a program and has no #! line".into()),
            Format::Elf(machine) if is_foreign(self.start.facts.arch(), machine) => {
                Some("exec format error: it is a program for another machine".into())
            }
            _ => None,
        }
    }

    /// Why the payload cannot be executed, in the words of a start. A name without a slash is looked up in its own PATH.
    fn payload(&self) -> Result<Option<String>, String> {
        let finish = &self.start.plan.finish;
        let Some(name) = finish.argv.first().map(|word| word.as_str()) else { return Ok(None) };
        let cwd = finish.cwd.as_str();
        let from_cwd = |path: &str| if path.starts_with('/') { path.to_string() } else { join(cwd, path) };
        let says = |reason: &str| Some(format!("exec: {name:?}: {reason}"));
        if name.contains('/') {
            return Ok(self.executes(&from_cwd(name))?.err().and_then(|reason| says(&reason)));
        }
        let path = finish.env.iter().find_map(|entry| entry.as_str().strip_prefix("PATH="));
        let mut reason = "executable file not found in $PATH";
        for directory in path.unwrap_or_default().split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            match self.look_up(&from_cwd(&join(directory, name)))? {
                Lookup::Unknown => return Ok(None),
                Lookup::Usable(root, file) => {
                    return Ok(self.runs(&root, &file)?.err().and_then(|reason| says(&reason)));
                }
                Lookup::Refused(_, true) => reason = "permission denied",
                Lookup::Refused(_, false) => {}
            }
        }
        Ok(says(reason))
    }
}

/// A path of a file's head, with what a terminal would obey written out.
fn shown(path: &str) -> String {
    if path.chars().any(char::is_control) { format!("{path:?}") } else { path.to_string() }
}

/// Whether a machine runs no programs of an EM_* number.
fn is_foreign(arch: Option<Arch>, machine: u16) -> bool {
    let known: &[u16] = match arch {
        Some(Arch::X86_64) => &[62, 3],
        Some(Arch::X86) => &[3],
        Some(Arch::Aarch64) => &[183, 40],
        Some(Arch::Arm) => &[40],
        Some(Arch::Riscv64) => &[243],
        _ => return false,
    };
    !known.contains(&machine)
}
