//! A null device of rspawn's own, for standard streams that are the host's.
//!
//! The caller's would let the payload change the mode, owner and times of the host's `/dev/null`
//! (`chmod 666 /proc/self/fd/0`), and may have been opened for reading alone.
use rspawn_proto::plan::{Expect, Finish, MountAttrs, NodeKind, Propagation, attr};
use rspawn_sys::failure::{Named, Outcome};
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd, mount};

use crate::host::{node_type, verify};

/// One that is open for both, if any of this process's streams, which are to be the payload's, is a null device.
pub fn for_streams(finish: &Finish) -> Outcome<Option<Fd>> {
    if finish.terminal {
        return Ok(None);
    }
    for number in 0..3 {
        let stream = Fd::from_raw(number);
        let found = file::status(&stream);
        stream.leak();
        match found {
            // Closed.
            Err(Errno::EBADF) => {}
            found if found.named("statx")?.is_null_device() => return make().map(Some),
            _ => {}
        }
    }
    Ok(None)
}

/// A node on a filesystem of its own; or, where none can be made, the host's by a clone that is read-only.
fn make() -> Outcome<Fd> {
    let read_only = MountAttrs { set: attr::RDONLY, propagation: Some(Propagation::Private), ..MountAttrs::default() };
    let tmpfs = mount::NewFilesystem::open("tmpfs").and_then(|new| new.create(attr::NOSUID | attr::NOEXEC));
    let tmpfs = tmpfs.named("fsmount")?;
    match file::make_node(&tmpfs, "null", node_type(NodeKind::Char) | 0o666, 1, 3) {
        Err(Errno::EPERM) => {}
        made => {
            made.named("mknodat")?;
            mount::set_attributes(&tmpfs, &read_only, None).named("mount_setattr")?;
            return file::open_at(&tmpfs, "null", file::O_RDWR, 0, Resolve::Beneath).named("openat2");
        }
    }
    let host = file::open_host("/dev/null", file::O_PATH).named("openat2")?;
    verify(&host, Expect::NullDevice)?;
    let clone = mount::clone_tree(&host, false).named("open_tree")?;
    mount::set_attributes(&clone, &read_only, None).named("mount_setattr")?;
    file::reopen(&clone, file::O_RDWR).named("openat2")
}
