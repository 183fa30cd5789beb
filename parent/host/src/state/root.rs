//! The state root: where it is, and who may use it.
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use rspawn_proto::ids::ContainerId;

use super::container::Container;
use super::files::is_fault;
use super::unreadable::Unreadable;

/// The directory that holds the state directories.
pub struct StateRoot {
    pub path: PathBuf,
    directory: OwnedFd,
}

impl StateRoot {
    /// Opens the root named, or the default one; makes it where it is missing.
    pub fn open(named: Option<&Path>) -> Result<Self, String> {
        let path = path_of(named)?;
        if named.is_some() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| cannot_use(&path, error))?;
            return Self::open_named(path);
        }
        Self::checked(open_default(&path, true)?, path)
    }

    /// The same for a command that looks only: `None` where the default root is missing, since nobody has made a
    /// container yet. One that was named and is missing is an error, as with runc.
    pub fn open_existing(named: Option<&Path>) -> Result<Option<Self>, String> {
        let path = path_of(named)?;
        if named.is_some() {
            return Self::open_named(path).map(Some);
        }
        match open_default(&path, false)? {
            Err(Errno::ENOENT) => Ok(None),
            opened => Self::checked(opened, path).map(Some),
        }
    }

    fn open_named(path: PathBuf) -> Result<Self, String> {
        // Who names it may name it by a link.
        Self::checked(open(&path, DIRECTORY.difference(OFlag::O_NOFOLLOW), Mode::empty()), path)
    }

    fn checked(opened: nix::Result<OwnedFd>, path: PathBuf) -> Result<Self, String> {
        let directory = opened.map_err(|errno| cannot_use(&path, errno.into()))?;
        check_owner(&directory).map_err(|reason| format!("the state directory {} {reason}", path.display()))?;
        Ok(Self { path, directory })
    }

    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub fn into_directory(self) -> OwnedFd {
        self.directory
    }

    /// The container of an id.
    pub fn container(&self, id: &str) -> Result<Container, String> {
        let id = ContainerId::new(id).map_err(|reason| reason.to_string())?;
        self.find(&id).map_err(String::from)
    }

    /// The same, with the kind of what keeps it from being had.
    pub fn find(&self, id: &ContainerId) -> Result<Container, Unreadable> {
        match self.open_state(id.as_str()) {
            Ok(directory) => Container::open(id, &directory, &self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unreadable::Absent),
            Err(error) => {
                let reason = format!("cannot open the state of container {id}: {error}");
                Err(if is_fault(&error) { Unreadable::Fault(reason) } else { Unreadable::Damaged(reason) })
            }
        }
    }

    /// The state directory of an id: never through a link.
    pub fn open_state(&self, id: &str) -> io::Result<fs::File> {
        let directory = openat(&self.directory, id, DIRECTORY, Mode::empty())?;
        check_owner(&directory).map_err(|error| match error.raw_os_error() {
            Some(_) => error,
            None => io::Error::other(format!("its directory {error}")),
        })?;
        Ok(directory.into())
    }

    /// Every container, and why others cannot be read; half-made ones and files of others are passed over. An error if
    /// the root cannot be read: what is not listed would be taken for what is not there.
    pub fn containers(&self) -> Result<Vec<Result<Container, Unreadable>>, String> {
        let say = |error: io::Error| format!("cannot list the state directory {}: {error}", self.path.display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(say)? {
            let entry = entry.map_err(say)?;
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'));
            let id = name.and_then(|name| ContainerId::new(name).ok());
            if let Some(id) = id
                && entry.file_type().map_err(say)?.is_dir()
            {
                ids.push(id);
            }
        }
        ids.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        let containers = ids.iter().map(|id| self.find(id));
        Ok(containers.filter(|found| !matches!(found, Err(Unreadable::Absent))).collect())
    }
}

/// The path of the root named, or of the default one.
fn path_of(named: Option<&Path>) -> Result<PathBuf, String> {
    let path = match named {
        Some(path) => std::path::absolute(path).map_err(|error| format!("--root {}: {error}", path.display()))?,
        None => default_path()?,
    };
    if path == Path::new("/") {
        return Err("--root /: the root of the file system cannot be the state directory".into());
    }
    Ok(path)
}

/// A directory, and no link to one.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The directory around a default root, and the root's name there. It is named by a variable: it must be the caller's
/// alone, so that what is made in it stays, and is no link of somebody else's to another place.
fn open_around(path: &Path) -> Result<(OwnedFd, &OsStr), String> {
    let (parent, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
    let around = open(parent, DIRECTORY, Mode::empty()).map_err(|errno| {
        let error = io::Error::from(errno);
        format!("cannot use the runtime directory {}: {error}; set XDG_RUNTIME_DIR, or give --root", parent.display())
    })?;
    check_owner(&around).map_err(|reason| format!("the runtime directory {} {reason}", parent.display()))?;
    Ok((around, name))
}

/// Opens a default root, or makes it.
fn open_default(path: &Path, make: bool) -> Result<nix::Result<OwnedFd>, String> {
    let (around, name) = open_around(path)?;
    // The sticky bit keeps it from those who tidy up runtime directories (XDG Base Directory Specification).
    let made = if make { mkdirat(&around, name, Mode::from_bits_truncate(0o1700)) } else { Ok(()) };
    Ok(match made {
        Ok(()) | Err(Errno::EEXIST) => openat(&around, name, DIRECTORY, Mode::empty()),
        Err(errno) => Err(errno),
    })
}

fn cannot_use(path: &Path, error: io::Error) -> String {
    format!("cannot use the state directory {}: {error}", path.display())
}

/// What others can write to is not ours to believe (a hostile XDG_RUNTIME_DIR, another user's container).
fn check_owner(directory: &OwnedFd) -> io::Result<()> {
    let found = fstat(directory)?;
    if found.st_uid != nix::unistd::geteuid().as_raw() {
        Err(io::Error::other("belongs to another user"))
    } else if found.st_mode & 0o022 != 0 {
        Err(io::Error::other("can be written to by others"))
    } else {
        Ok(())
    }
}

/// `/run/rspawn` for the machine's root; below XDG_RUNTIME_DIR for everyone else, the root of a user namespace
/// included, who is what podman runs as without root.
fn default_path() -> Result<PathBuf, String> {
    if nix::unistd::geteuid().is_root() && crate::user_namespace::is_initial()? {
        return Ok("/run/rspawn".into());
    }
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(directory).join("rspawn"));
    }
    let user = nix::unistd::geteuid();
    let directory = PathBuf::from(format!("/run/user/{user}"));
    if directory.try_exists().map_err(|error| format!("cannot look at {}: {error}", directory.display()))? {
        return Ok(directory.join("rspawn"));
    }
    // No login made one. Whoever takes the name first keeps the user from containers, and gets nothing else.
    let directory = PathBuf::from(format!("/tmp/rspawn-run-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("cannot make {}: {error}; set XDG_RUNTIME_DIR, or give --root", directory.display()))
        }
        _ => Ok(directory.join("rspawn")),
    }
}
