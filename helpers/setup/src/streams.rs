//! The caller's standard streams, made fit for the payload before there is any process that a container can see.
//!
//! A null device of the caller's would let the payload change the mode, owner and times of the host's `/dev/null`
//! (`chmod 666 /proc/self/fd/0`), and may have been opened for reading alone. A container with a terminal has no use
//! for the caller's streams at all.
use rspawn_proto::ids::Id;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{Expect, IdMap, MountAttrs, NodeKind, Plan, Propagation, attr};
use rspawn_sys::file::{self, Resolve, Status};
use rspawn_sys::{Errno, Fd, Named, Outcome, mount};

use crate::objects::{node_type, verify};

/// Changes this process's streams, which are to be the payload's.
pub fn prepare(plan: &Plan) -> Outcome<()> {
    let mut null = None;
    for number in 0..3 {
        let stream = Fd::from_raw(number);
        let found = match file::status(&stream) {
            // Closed.
            Err(Errno::EBADF) => Ok(()),
            found => found.named("statx").and_then(|found| {
                if plan.finish.terminal || found.is_null_device() {
                    if null.is_none() {
                        null = make()?;
                    }
                    return null.as_ref().map_or(Ok(()), |null| null.install(number)).named("dup3");
                }
                give_pipe(&stream, &found, plan)
            }),
        };
        stream.leak();
        found?;
    }
    Ok(())
}

/// A pipe without a name goes to the payload's user, who opens `/dev/stdout` again by its name. In a new user namespace
/// only this process can do it; everywhere else rspawn-init does.
fn give_pipe(stream: &Fd, found: &Status, plan: &Plan) -> Outcome<()> {
    let outside = |id: Id, map: &[IdMap]| {
        let range = map.iter().find(|range| range.inside <= id.raw() && id.raw() - range.inside < range.count)?;
        Some(range.outside + (id.raw() - range.inside))
    };
    let is_pipe =
        found.is(node_type(NodeKind::Fifo)) && file::filesystem_magic(stream).named("fstatfs")? == file::PIPEFS_MAGIC;
    let owner = outside(plan.finish.uid, &plan.spawn.uid_map);
    match owner.filter(|_| is_pipe && plan.spawn.new.contains(Namespace::User)) {
        // Of somebody else's pipe a user can give nothing away.
        Some(uid) if uid != found.uid => match file::change_owner(stream, uid, found.gid) {
            Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
            changed => changed.named("fchownat"),
        },
        _ => Ok(()),
    }
}

/// A node on a filesystem of its own; or, where none can be made, the host's by a clone that is read-only. None where
/// this process may not mount either, as that of a user who enters a container: root's device is none of its
/// payload's.
fn make() -> Outcome<Option<Fd>> {
    let read_only = MountAttrs { set: attr::RDONLY, propagation: Some(Propagation::Private), ..MountAttrs::default() };
    let tmpfs = match mount::NewFilesystem::open("tmpfs") {
        Err(Errno::EPERM) => return Ok(None),
        opened => opened.and_then(|new| new.create(attr::NOSUID | attr::NOEXEC)).named("fsmount")?,
    };
    match file::make_node(&tmpfs, "null", node_type(NodeKind::Char) | 0o666, 1, 3) {
        Err(Errno::EPERM) => {}
        made => {
            made.named("mknodat")?;
            mount::set_attributes(&tmpfs, &read_only, None).named("mount_setattr")?;
            return file::open_at(&tmpfs, "null", file::O_RDWR, 0, Resolve::Beneath).map(Some).named("openat2");
        }
    }
    let host = file::open_host("/dev/null", file::O_PATH).named("openat2")?;
    verify(&host, Expect::NullDevice)?;
    let clone = mount::clone_tree(&host, false).named("open_tree")?;
    mount::set_attributes(&clone, &read_only, None).named("mount_setattr")?;
    file::reopen(&clone, file::O_RDWR).map(Some).named("openat2")
}
