//! A directory of the host for what a container writes and nobody keeps (`--volatile=overlay`, `Ephemeral=`).
//!
//! It is made before privileges go, and must be removed when there is no right left to. So a second process that does
//! nothing else holds the end of a socket, and removes the directory when the other end is closed, by whatever ended
//! this process. Should that one be killed, the next to make such a directory finds that nobody holds its lock.
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::errors::io_error;
use nix::fcntl::{Flock, FlockArg};
use rspawn_planner::facts::layers;
use rspawn_sys::{Fd, channel};

/// The hidden verb that the second process is started with.
pub const VERB: &str = "remove-afterwards";

/// In memory on most machines; another user cannot look into it.
const BASE: &str = "/run/rspawn-scratch";

/// Where a directory would be, for plans that are only looked at.
pub fn would_be() -> String {
    format!("{BASE}/{}", std::process::id())
}

/// The directory; it is gone when this is dropped.
pub struct EphemeralDir {
    pub path: String,
    socket: Option<Fd>,
    keeper: Child,
}

impl EphemeralDir {
    pub fn make() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root: what a container writes with ids of its own, nobody else could remove".into());
        }
        make().map_err(|error| format!("cannot make a directory below {BASE}: {error}"))
    }
}

fn make() -> io::Result<EphemeralDir> {
    match DirBuilder::new().mode(0o700).create(BASE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Whoever sweeps meanwhile must not take a new directory for an old one.
    let base = lock(Path::new(BASE), FlockArg::LockExclusive)?;
    sweep();
    let path = would_be();
    DirBuilder::new().mode(0o700).create(&path)?;
    let own = lock(Path::new(&path), FlockArg::LockExclusive)?;
    drop(base);
    let (upper, work) = layers(&path);
    // The container's root has the mode of the upper layer.
    [upper, work].iter().try_for_each(|layer| DirBuilder::new().mode(0o755).create(layer))?;
    start_keeper(path, own)
}

fn start_keeper(path: String, own: Flock<File>) -> io::Result<EphemeralDir> {
    let (mine, theirs) = channel::pair().map_err(io_error)?;
    theirs.keep_on_exec().map_err(io_error)?;
    // The lock lives as long as the open file, of which the keeper has a descriptor.
    let held = own.try_clone()?;
    let held = Fd::from_raw(std::os::fd::IntoRawFd::into_raw_fd(held));
    held.keep_on_exec().map_err(io_error)?;
    let keeper = Command::new(std::env::current_exe()?)
        .args([VERB, &theirs.raw().to_string(), &path, &held.raw().to_string()])
        .env_clear()
        .process_group(0)
        .spawn()?;
    // Not unlocked: that would end the keeper's lock as well.
    std::mem::forget(own);
    Ok(EphemeralDir { path, socket: Some(mine), keeper })
}

fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(File::open(path)?, how).map_err(|(_, error)| error.into())
}

/// Removes what a keeper that was killed has left.
fn sweep() {
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if lock(&path, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

impl Drop for EphemeralDir {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.keeper.wait();
    }
}

/// The second process: waits for the first one's end, then removes.
pub fn keep(socket: &Fd, path: &str) -> i32 {
    let _ = channel::receive(socket, 0);
    let path = PathBuf::from(path);
    // Only what this module makes.
    if path.parent() != Some(Path::new(BASE)) {
        return 1;
    }
    i32::from(fs::remove_dir_all(path).is_err())
}
