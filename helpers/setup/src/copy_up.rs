//! tmpcopyup: what the image has at a mount point is copied into the tmpfs that will cover it.
use rspawn_sys::file::{self, Resolve, Status};
use rspawn_sys::{Failure, Fd, Named, Outcome};

/// Directories deeper than this are an error: the copy recurses, and its stack is finite.
const MAX_DEPTH: u32 = 64;

/// Copies a directory into a mount that is not attached yet.
pub fn copy_up(source: &Fd, mount: &Fd) -> Outcome<()> {
    if !file::status(source).named("statx")?.is_directory() {
        return Err(Failure::check("tmpcopyup: the mount point is not a directory"));
    }
    copy_entries(&open_directory(source, "")?, &open_directory(mount, "")?, MAX_DEPTH)
}

/// Gives the root of a mount the mode of what it will cover.
pub fn copy_mode(source: &Fd, mount: &Fd) -> Outcome<()> {
    let mode = file::status(source).named("statx")?.mode;
    file::change_mode(&open_directory(mount, "")?, mode & 0o7777).named("fchmod")
}

fn open_directory(dir: &Fd, name: &str) -> Outcome<Fd> {
    file::open_at(dir, name, file::O_RDONLY | file::O_DIRECTORY, 0, Resolve::Beneath).named("openat2")
}

fn copy_attributes(to: &Fd, found: &Status) -> Outcome<()> {
    file::change_owner(to, found.uid, found.gid).named("fchownat")?;
    file::change_mode(to, found.mode & 0o7777).named("fchmod")
}

fn copy_entries(from: &Fd, to: &Fd, depth: u32) -> Outcome<()> {
    if depth == 0 {
        return Err(Failure::check("tmpcopyup: directories are nested too deeply"));
    }
    for entry in file::entries(from).named("getdents64")? {
        let name = entry.name.to_str().map_err(|_| Failure::check("tmpcopyup: a name is not UTF-8"))?;
        copy_entry(from, to, name, depth).map_err(|failure| failure.with(name))?;
    }
    Ok(())
}

fn copy_entry(from: &Fd, to: &Fd, name: &str, depth: u32) -> Outcome<()> {
    let found = file::status_at(from, name).named("statx")?;
    match found.mode & libc::S_IFMT {
        libc::S_IFDIR => {
            file::make_directory(to, name, 0o700).named("mkdirat")?;
            let (source, target) = (open_directory(from, name)?, open_directory(to, name)?);
            copy_attributes(&target, &found)?;
            copy_entries(&source, &target, depth - 1)
        }
        libc::S_IFREG => {
            // A neighbour may have put a pipe in its place meanwhile, whose opening would wait for ever.
            let flags = file::O_RDONLY | file::O_NOFOLLOW | file::O_NONBLOCK;
            let source = file::open_at(from, name, flags, 0, Resolve::Beneath).named("openat2")?;
            if !file::status(&source).named("statx")?.is(libc::S_IFREG) {
                return Err(Failure::check("tmpcopyup: the file changed while it was copied"));
            }
            let flags = file::O_WRONLY | file::O_CREAT | file::O_EXCL;
            let target = file::open_at(to, name, flags, 0o600, Resolve::Beneath).named("openat2")?;
            while target.copy_from(&source, 1 << 20).named("sendfile")? > 0 {}
            copy_attributes(&target, &found)
        }
        libc::S_IFLNK => {
            let flags = file::O_PATH | file::O_NOFOLLOW;
            let link = file::open_at(from, name, flags, 0, Resolve::Beneath).named("openat2")?;
            file::make_symlink(&file::read_link(&link).named("readlinkat")?, to, name).named("symlinkat")
        }
        // Sockets, pipes and devices mean something only where they were made.
        _ => Ok(()),
    }
}
