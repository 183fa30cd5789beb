//! NOTIFY_SOCKET (sd_notify(3)): the payload of a service says that it is ready, and the invoker's manager hears it.
//!
//! The container gets a socket of its own, in a directory that it cannot write to. What it says there is not trusted:
//! READY=1 is passed on; a MAINPID, a descriptor to keep, or a watchdog's time never is.
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::stat::{Mode, umask};
use rspawn_sys::Fd;
use rspawn_sys::channel::{self, Interest};

use rspawn_host::inputs::cli_inputs::fd;

/// What the manager calls its socket by.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// The container's own socket.
const INSIDE: &str = "/run/notify/notify.sock";
/// Its name in the directory where it is on the host.
pub const NAME: &str = "notify.sock";
/// Milliseconds that the manager has to take note of the new main process.
const PATIENCE: u32 = 30_000;

/// Whether the invoker's manager wants to hear of the container.
pub fn is_wanted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|address| !address.is_empty())
}

/// Tells the payload of its socket, whatever config.json says.
pub fn tell(environment: &mut Vec<String>) {
    environment.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
    environment.push(format!("{VARIABLE}={INSIDE}"));
}

/// Between the container's socket and the manager's. Everything is open, so that a confined process can use it.
pub struct Relay {
    container: Fd,
    manager: Fd,
    barrier: (PipeReader, PipeWriter),
}

impl Relay {
    /// Listens in a directory of the host's, in the place of whoever did before.
    pub fn listen(directory: &File) -> Result<Self, String> {
        let manager = std::env::var_os(VARIABLE).unwrap_or_default();
        let manager = connect(&manager).map_err(|error| format!("{VARIABLE}={}: {error}", manager.display()))?;
        let say = |error: io::Error| format!("cannot listen to the container's notifications: {error}");
        // By the descriptor: a socket address has room for 107 bytes of path.
        let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
        let _ = fs::remove_file(&path);
        // Whoever the payload is may write to it.
        let mask = umask(Mode::empty());
        let container = UnixDatagram::bind(path);
        umask(mask);
        let barrier = io::pipe().map_err(say)?;
        Ok(Self { container: fd(container.map_err(say)?), manager: fd(manager), barrier })
    }

    /// Readable when the payload has said something.
    pub fn socket(&self) -> &Fd {
        &self.container
    }

    /// Takes one message; whether it says that the payload is ready. Descriptors on it are dropped by the kernel.
    pub fn hears_ready(&self) -> bool {
        let mut message = [0u8; 4096];
        let length = self.container.read(&mut message).unwrap_or(0);
        message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
    }

    /// Says so to the manager. Nobody is there to tell if it does not hear.
    pub fn pass_on(&self) {
        let _ = channel::send_packet(&self.manager, b"READY=1\n", &[]);
    }

    /// Until the payload is ready, or has ended. This process is about to end: the container's first process is what
    /// the manager has to watch from then on, which it must know before.
    pub fn wait(self, first: &Fd, pid: i32) {
        let readable = |fd| Interest { fd, read: true, write: false };
        loop {
            match channel::wait([readable(&self.container), readable(first)], None) {
                Ok([said, _]) if said.read && self.hears_ready() => break,
                Ok([said, _]) if said.read => {}
                Err(rspawn_sys::Errno(libc::EINTR)) => {}
                _ => return,
            }
        }
        let Self { manager, barrier: (reader, writer), .. } = self;
        let _ = channel::send_packet(&manager, format!("MAINPID={pid}\nREADY=1\n").as_bytes(), &[]);
        // The manager closes its copy once it has read everything before it (sd_notify_barrier(3)).
        let (reader, writer) = (fd(reader), fd(writer));
        if channel::send_packet(&manager, b"BARRIER=1", &[&writer]).is_ok() {
            drop(writer);
            let _ = channel::wait_readable(&reader, Some(PATIENCE));
        }
    }
}

/// The manager's socket: a path, or with an `@` an abstract name.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address).map(|()| socket)
}
