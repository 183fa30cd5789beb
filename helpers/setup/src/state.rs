//! What a container leaves for later commands: its record in the state directory, and the pid file.
//!
//! Both appear complete or not at all: written under another name, then renamed. The directories were opened by the
//! invoker's own rights before anything was parsed; no plan can name them.
use alloc::{ffi::CString, format, string::String};

use rspawn_proto::codec::{self, Message};
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome};

/// The state directory of one container.
pub struct StateDir {
    pub dir: Fd,
    /// The directory that it is in, under the container's id.
    pub root: Fd,
    pub name: String,
}

impl StateDir {
    pub fn write<T: Message>(&self, name: &str, value: &T) -> Outcome<()> {
        let bytes = codec::encode(value).ok_or_else(|| Failure::check("the record cannot be encoded"))?;
        replace(&self.dir, name, &bytes, 0o600)
    }

    /// Keeps other commands from the container. False if one has removed it.
    pub fn lock(&self) -> Outcome<bool> {
        file::lock(&self.dir).named("flock")?;
        Ok(file::status(&self.dir).named("statx")?.links > 0)
    }

    /// Lets other commands at the container.
    pub fn unlock(&self) -> Outcome<()> {
        file::unlock(&self.dir).named("flock")
    }

    /// Removes the directory with all that is in it.
    pub fn remove(&self) -> Outcome<()> {
        for entry in file::entries(&self.dir).named("getdents64")? {
            // `notify`, where `start` would listen, is empty before that.
            let remove = if entry.is_directory { file::remove_directory } else { file::remove };
            remove(&self.dir, &entry.name).named("unlinkat")?;
        }
        let name = CString::new(self.name.as_str()).map_err(|_| Failure::check("the name has a NUL byte"))?;
        file::remove_directory(&self.root, &name).named("unlinkat")
    }
}

/// The pid in decimal without a newline: clients parse the whole file as a number.
pub fn write_pid_file(dir: &Fd, name: &str, pid: i32) -> Outcome<()> {
    let written = replace(dir, name, format!("{pid}").as_bytes(), 0o644);
    written.map_err(|failure| failure.with(format!("the pid file {name}")))
}

fn replace(dir: &Fd, name: &str, bytes: &[u8], mode: u32) -> Outcome<()> {
    let new = format!(".{name}.new");
    let c_new = CString::new(new.as_str()).map_err(|_| Failure::check("a file name with a NUL byte"))?;
    let flags = file::O_WRONLY | file::O_CREAT | file::O_EXCL | file::O_NOFOLLOW;
    let create = || file::open_at(dir, &new, flags, mode, Resolve::Beneath);
    let opened = match create() {
        // Left by one who died at it.
        Err(Errno::EEXIST) => file::remove(dir, &c_new).and_then(|()| create()),
        opened => opened,
    };
    let written = opened.named("openat2").and_then(|file| file.write(bytes).named("write"));
    // What is left of a failure goes with the directory, or with the next attempt.
    written.and_then(|()| file::rename(dir, &new, name).named("renameat2"))
}
