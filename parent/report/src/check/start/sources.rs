//! What the host phase opens: paths, namespaces, disks, cgroups.
use rspawn_planner::problem::Problem;
use rspawn_planner::start_facts::{Entry, FileKind};
use rspawn_proto::check::needs_own;
use rspawn_proto::ids::{HostPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::subject::Start;
use crate::describe;

pub fn judge(start: &Start, problems: &mut Vec<Problem>) -> Result<(), String> {
    for step in &start.plan.host {
        let wrong = match &step.op {
            HostOp::OpenPath { path, expect, out } => {
                let is_agent = start.plan.finish.listener().is_some_and(|listener| listener.socket == *out);
                path_problem(start, path, *expect, is_agent)?
            }
            HostOp::CloneTree { path, expect, recursive, .. } => match path_problem(start, path, *expect, false)? {
                None if !recursive => locked_mount(start, path)?,
                wrong => wrong,
            },
            HostOp::OpenNamespace { path, kind, .. } => namespace_problem(start, path, *kind)?,
            HostOp::OpenCgroup { mount, path, .. } => {
                let cgroup = format!("{mount}/{path}");
                let is_taken = start.look.is_populated(&cgroup)? == Ok(true);
                is_taken.then(|| {
                    format!("processes are in the cgroup {cgroup}: another container's, or of one that is not deleted")
                })
            }
            HostOp::NewFilesystem { fs, params, .. } => disk_problem(start, fs.as_str(), params)?,
            _ => None,
        };
        problems.extend(wrong.map(|message| Problem::new(step.origin.clone(), message)));
    }
    Ok(())
}

/// Whether a path lies in a cgroup that the start makes first.
fn is_made_first(plan: &Plan, path: &str) -> bool {
    plan.host.iter().any(|step| match &step.op {
        HostOp::OpenCgroup { mount, path: cgroup, .. } => {
            let made = format!("{mount}/{cgroup}");
            path.strip_prefix(made.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        _ => false,
    })
}

/// A path that is not there, or is not what it has to be.
fn path_problem(start: &Start, path: &HostPath, expect: Expect, is_agent: bool) -> Result<Option<String>, String> {
    if is_made_first(start.plan, path.as_str()) {
        return Ok(None);
    }
    let seen = match expect {
        Expect::Unfollowed => start.look.entry("/", path.as_str())?,
        _ => start.look.leads_to(path.as_str())?,
    };
    Ok(match (seen.map(|entry| entry.kind), expect) {
        // The root of a user namespace may open what its owner may not.
        (Err(libc::EACCES), _) if start.facts.ids.rootless => None,
        (Err(number), _) => Some(format!("{path} cannot be opened: {}", describe::errno(number))),
        (Ok(kind), Expect::Directory) if kind != FileKind::Directory => Some(format!("{path} is not a directory")),
        (Ok(kind), Expect::Device { .. }) if !matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice) => {
            Some(format!("{path} is not the device that config.json describes"))
        }
        (Ok(kind), Expect::NullDevice) if kind != FileKind::CharacterDevice => Some(format!("{path} is not a device")),
        (Ok(kind), _) if is_agent && kind != FileKind::Socket => {
            Some(format!("{path} is no socket: the agent that decides about system calls cannot be connected to"))
        }
        _ => None,
    })
}

/// Without root, what the host mounts below a directory may cover something, and cannot be left out.
fn locked_mount(start: &Start, path: &HostPath) -> Result<Option<String>, String> {
    if !start.facts.ids.rootless {
        return Ok(None);
    }
    let Ok(Entry { target: Some(place), .. }) = start.look.leads_to(path.as_str())? else { return Ok(None) };
    let is_below = |mount: &&String| {
        let rest = mount.strip_prefix(place.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
    };
    Ok(start
        .start
        .mounts
        .iter()
        .find(is_below)
        .map(|mount| format!("{path} has {mount} mounted below it, which without root cannot be left out: use rbind")))
}

fn namespace_problem(start: &Start, path: &HostPath, kind: Namespace) -> Result<Option<String>, String> {
    let wanted = kind.name();
    Ok(match start.look.namespace(path.as_str())? {
        // What the invoker may not open, the root of its user namespace may not either.
        Err(number) => Some(format!("the {wanted} namespace {path} cannot be opened: {}", describe::errno(number))),
        Ok(None) => Some(format!("{path} is not a namespace")),
        Ok(Some(found)) if found.flag != kind.clone_flag() => {
            let of_flag = Namespace::ALL.into_iter().find(|kind| kind.clone_flag() == found.flag);
            let name = of_flag.map_or("unknown", Namespace::name);
            Some(format!("{path} is a namespace of kind {name}, and not of kind {wanted}"))
        }
        Ok(Some(found)) if found.own => match kind {
            Namespace::Mount => {
                Some(format!("{path} is your own mount namespace: the container would replace its root"))
            }
            Namespace::User => Some(format!("{path} is your own user namespace, which nobody can join again")),
            _ if needs_own(start.plan, kind) => Some(format!(
                "{path} is the host's own {wanted} namespace, and the container needs one of its own for what it sets \
                 there"
            )),
            _ => None,
        },
        Ok(Some(_)) => None,
    })
}

/// A filesystem on a disk that is none. erofs takes files as well.
fn disk_problem(start: &Start, fs: &str, params: &[FsParam]) -> Result<Option<String>, String> {
    if fs == "erofs" || !start.start.disk_filesystems.iter().any(|known| known == fs) {
        return Ok(None);
    }
    let source = params.iter().find(|param| param.key.as_str() == "source").map(|param| &param.value);
    let Some(FsValue::Paths(slots)) = source else {
        return Ok(Some(format!("{fs} lies on a block device, and the source is no path of one")));
    };
    let Some(path) = slots.first().and_then(|slot| path_of(start.plan, *slot)) else { return Ok(None) };
    Ok(match start.look.leads_to(path.as_str())? {
        Ok(entry) if entry.kind != FileKind::BlockDevice => {
            Some(format!("{fs} lies on a block device, and {path} is none: {}", describe::errno(libc::ENOTBLK)))
        }
        _ => None,
    })
}

fn path_of(plan: &Plan, slot: Slot) -> Option<&HostPath> {
    plan.host.iter().find_map(|step| match &step.op {
        HostOp::OpenPath { out, path, .. } if *out == slot => Some(path),
        _ => None,
    })
}
