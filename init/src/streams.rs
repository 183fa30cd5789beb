//! The payload's standard streams, where they are the caller's.
use rspawn_sys::{Errno, Fd, Named, Outcome, file};

/// Pipes go to the payload's user, as with runc: images open `/dev/stdout` again by its name. Files, terminals and pipes
/// with a name are the caller's and stay so.
pub fn give_pipes(uid: u32) -> Outcome<()> {
    each(|stream| {
        let found = file::status(stream).named("statx")?;
        let is_pipe = found.is(libc::S_IFIFO) && file::filesystem_magic(stream).named("fstatfs")? == file::PIPEFS_MAGIC;
        if !is_pipe || found.uid == uid {
            return Ok(());
        }
        match file::change_owner(stream, uid, found.gid) {
            // One of an owner or for a user that the user namespace does not know.
            Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
            changed => changed.named("fchownat"),
        }
    })
}

/// Null devices, which are rspawn-setup's own, become the container's `/dev/null`, which shows as that. Where something
/// else is there, they do as well.
pub fn take_containers_null() -> Outcome<()> {
    // Before it is opened for use, which some devices answer with an effect.
    if !matches!(open_null(file::O_PATH), Ok(Some(_))) {
        return Ok(());
    }
    let Ok(Some(null)) = open_null(file::O_RDWR | file::O_NOCTTY) else { return Ok(()) };
    each(|stream| match file::status(stream).named("statx")?.is_null_device() {
        true => null.install(stream.raw()).named("dup3"),
        false => Ok(()),
    })
}

/// The container's `/dev/null`, if it is one.
fn open_null(flags: i32) -> rspawn_sys::Result<Option<Fd>> {
    let opened = file::open_host("/dev/null", flags | file::O_NOFOLLOW)?;
    Ok(file::status(&opened)?.is_null_device().then_some(opened))
}

/// Each stream that is open.
fn each(take: impl Fn(&Fd) -> Outcome<()>) -> Outcome<()> {
    for number in 0..3 {
        let stream = Fd::from_raw(number);
        let taken = match file::status(&stream) {
            Err(Errno::EBADF) => Ok(()),
            _ => take(&stream),
        };
        stream.leak();
        taken?;
    }
    Ok(())
}
