//! Id maps: written for a process in a new user namespace, made for mounts, or read of a namespace that is there.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::IdMap;
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, file, process};

use crate::helper_process::HelperProcess;
use crate::proc_file;

/// A user namespace that only serves as an id map: the process that held it open is gone when this returns.
pub fn make(uid_map: &[IdMap], gid_map: &[IdMap]) -> Outcome<Fd> {
    held(None, |pid| {
        write_id_maps(pid, uid_map, gid_map)?;
        file::open_following(&format!("/proc/{pid}/ns/user")).named("openat2")
    })
}

/// The ids that a user namespace stands for, as this process has them: user ids, then group ids.
pub fn maps_of(namespace: &Fd) -> Outcome<Vec<IdMap>> {
    held(Some(namespace), |pid| {
        let mut maps = Vec::new();
        for name in ["uid_map", "gid_map"] {
            let text = file::open_plainly(&format!("/proc/{pid}/{name}")).and_then(|file| file.read_all(1 << 16));
            let text = text.named("read").map_err(|failure| failure.with(name))?;
            let numbers = core::str::from_utf8(&text).map(|text| text.split_ascii_whitespace().map(str::parse));
            let numbers: Vec<u32> = numbers.map_or(Ok(Vec::new()), Iterator::collect).map_err(|_| odd())?;
            let range = |range: &[u32]| IdMap { inside: range[0], outside: range[1], count: range[2] };
            maps.extend(numbers.chunks_exact(3).map(range));
        }
        Ok(maps)
    })
}

fn odd() -> Failure {
    Failure::check("its id map cannot be read")
}

/// Looks at a process in a user namespace: a new one, or one that is joined.
fn held<T>(joined: Option<&Fd>, look: impl FnOnce(i32) -> Outcome<T>) -> Outcome<T> {
    let new = if joined.is_none() { Namespace::User.clone_flag() } else { 0 };
    let hold = |socket: Fd| {
        let entered = joined.map_or(Ok(()), |namespace| process::join(namespace, Namespace::User.clone_flag()));
        // Until it is killed; or, if this program itself is, until the other end is gone: nobody else would be left to
        // do it.
        entered
            .and_then(|()| channel::send(&socket, &[], &[]))
            .and_then(|()| channel::receive(&socket, 0))
            .is_err()
            .into()
    };
    let holder = HelperProcess::start(|| process::fork(new).named("clone3"), hold)?;
    let entered = channel::receive(&holder.socket, 0).named("recvmsg")?;
    entered.ok_or_else(|| Failure::check("the user namespace cannot be entered"))?;
    look(holder.pid)
}

/// Writes the id maps of a process in a new user namespace.
pub fn write_id_maps(pid: i32, uid_map: &[IdMap], gid_map: &[IdMap]) -> Outcome<()> {
    let lines = |map: &[IdMap]| -> String {
        map.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
    };
    proc_file::write(&format!("/proc/{pid}/uid_map"), lines(uid_map).as_bytes())?;
    proc_file::write(&format!("/proc/{pid}/gid_map"), lines(gid_map).as_bytes())
}
