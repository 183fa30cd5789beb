//! What the invoker names on the command line, opened with the invoker's own rights before anything is parsed.
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rspawn_proto::ids::Text;
use rspawn_sys::Fd;

/// Seconds that who listens on a socket has to answer.
const PATIENCE: i64 = 10;

/// Most descriptors that can be kept for the payload.
const MAX_PRESERVED: u32 = 512;

/// A descriptor of the standard library's as one of ours.
pub fn fd(owned: impl Into<OwnedFd>) -> Fd {
    Fd::from_raw(owned.into().into_raw_fd())
}

/// Descriptors from 3 on that the payload is to inherit. Taken before a file of ours can take a free number among
/// them, and dropped once rspawn-setup has them: who waits for their end must not wait for this process.
pub struct Preserved {
    pub count: u32,
    /// How many of them are sockets by the protocol of sd_listen_fds(3); the first ones.
    pub listening: u32,
    _held: Vec<Fd>,
}

impl Preserved {
    pub fn take(asked: u32) -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let for_us = variable("LISTEN_PID") == Some(std::process::id());
        let listening = variable("LISTEN_FDS").filter(|_| for_us).unwrap_or(0);
        let count = asked.saturating_add(listening);
        if count > MAX_PRESERVED {
            return Err(format!("--preserve-fds: at most {MAX_PRESERVED} descriptors can be kept"));
        }
        Ok(Self { count, listening, _held: Fd::open_between(3, 3 + count as i32) })
    }

    /// What the payload is told of them.
    pub fn environment(&self) -> Vec<String> {
        let sockets = (self.listening > 0).then(|| format!("LISTEN_FDS={}", self.listening));
        sockets.into_iter().collect()
    }
}

/// A pid file to be: its directory, and its name there.
pub struct PidFile {
    pub directory: Fd,
    pub name: Text,
}

pub fn pid_file(path: Option<&Path>) -> Result<Option<PidFile>, String> {
    let Some(path) = path else { return Ok(None) };
    let say = |reason: &dyn std::fmt::Display| format!("--pid-file {}: {reason}", path.display());
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| say(&"it names no file"))?;
    let name = Text::new(name).map_err(|reason| say(&reason))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory);
    Ok(Some(PidFile { directory: fd(opened.map_err(|error| say(&error))?), name }))
}

/// Connects to a socket that a descriptor is to be sent to.
pub fn socket(option: &str, path: Option<&Path>) -> Result<Option<Fd>, String> {
    let Some(path) = path else { return Ok(None) };
    connect(path).map(Some).map_err(|error| format!("{option} {}: {error}", path.display()))
}

/// Connects to a socket. A path that begins with `@` stands for a name without a file (unix(7), "abstract").
pub fn connect(path: &Path) -> io::Result<Fd> {
    let name = path.to_str().and_then(|path| path.strip_prefix('@'));
    // By its descriptor: a socket address has room for 107 bytes of path.
    let open = || OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    let held = if name.is_none() { Some(open()?) } else { None };
    let address = match (name, &held) {
        (Some(name), _) => UnixAddr::new_abstract(name.as_bytes())?,
        (None, Some(held)) => UnixAddr::new(format!("/proc/self/fd/{}", held.as_raw_fd()).as_str())?,
        (None, None) => return Err(Errno::EINVAL.into()),
    };
    let stream = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Of a listener whose queue is full: connect(2) waits as long as sendmsg(2) would.
    let limit = TimeVal::seconds(PATIENCE);
    let connected = socket::setsockopt(&stream, sockopt::SendTimeout, &limit)
        .and_then(|()| socket::connect(stream.as_raw_fd(), &address));
    match connected {
        Ok(()) => Ok(fd(stream)),
        Err(Errno::EAGAIN) => Err(io::Error::other("nobody accepts connections")),
        Err(errno) => Err(errno.into()),
    }
}
