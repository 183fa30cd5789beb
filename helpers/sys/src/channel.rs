//! Control sockets between the stages: whole messages over SOCK_SEQPACKET, descriptors by SCM_RIGHTS.
use alloc::vec::Vec;

use rspawn_proto::MAX_MESSAGE;
use rspawn_proto::codec::{self, Message};
use rspawn_proto::msg::{LAST, MORE, PACKET, packets};

use crate::file;
use crate::raw::sys;
use crate::{Errno, Fd, Result};

/// Most descriptors that one packet brings.
const MOST_FDS: usize = 8;

/// struct cmsghdr with room for [`MOST_FDS`] descriptors.
#[repr(C, align(8))]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    fds: [i32; MOST_FDS],
}

const CONTROL_HEADER: usize = 16;

/// A connected pair of sockets.
pub fn pair() -> Result<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    sys!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr())?;
    Ok((Fd::from_raw(ends[0]), Fd::from_raw(ends[1])))
}

/// A stream connected to whoever listens on a socket of the host's, which is held by a descriptor. EAGAIN where that one
/// has not taken those who came before: it would be waited for without end.
pub fn connect(to: &Fd) -> Result<Fd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let socket = sys!(SYS_socket, libc::AF_UNIX, kind, 0).map(Fd::returned)?;
    // struct sockaddr_un: the family, and a path.
    let mut address = [0u8; 64];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    let path = file::proc_path(to);
    address[2..2 + path.len()].copy_from_slice(path.as_bytes());
    sys!(SYS_connect, &socket, address.as_ptr(), address.len())?;
    sys!(SYS_fcntl, &socket, libc::F_SETFL, 0).map(|_| socket)
}

/// struct msghdr, struct iovec and the control message of one sendmsg(2) or recvmsg(2). The header holds addresses of
/// the other two, so it is made where it is used.
macro_rules! message_header {
    ($piece:ident, $control:ident, $control_length:expr) => {
        [
            0,
            0,
            &raw mut $piece as usize,
            1,
            if $control_length == 0 { 0 } else { &raw mut $control as usize },
            $control_length,
            0,
        ]
    };
}

/// Index of the control length and of the flags in a header.
const CONTROL_LENGTH: usize = 5;
const FLAGS: usize = 6;

/// Sends a message; the descriptors ride on its last packet.
pub fn send(socket: &Fd, message: &[u8], fds: &[&Fd]) -> Result<()> {
    for packet in packets(message) {
        let fds = if packet[0] == LAST { fds } else { &[] };
        send_packet(socket, &packet, fds)?;
    }
    Ok(())
}

/// Sends bytes as they are, and descriptors with them.
pub fn send_packet(socket: &Fd, packet: &[u8], fds: &[&Fd]) -> Result<()> {
    let length = if fds.is_empty() { 0 } else { CONTROL_HEADER + 4 * fds.len() };
    let mut control = Control { length, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fds: [-1; MOST_FDS] };
    control.fds[..fds.len()].iter_mut().zip(fds).for_each(|(slot, fd)| *slot = fd.raw());
    let mut piece = [packet.as_ptr() as usize, packet.len()];
    let header = message_header!(piece, control, length);
    sys!(SYS_sendmsg, socket, header.as_ptr(), libc::MSG_NOSIGNAL).map(drop)
}

/// Receives one message of at most `most` bytes, and its descriptors. `None` at the end of the stream.
pub fn receive(socket: &Fd, most: usize) -> Result<Option<(Vec<u8>, Vec<Fd>)>> {
    let mut message = Vec::new();
    let mut fds = Vec::new();
    // On the stack: the heap only grows, and a supervisor may get any number of messages.
    let mut packet = [0u8; PACKET];
    loop {
        let length = receive_packet(socket, &mut packet, &mut fds)?;
        match packet[..length] {
            [] if message.is_empty() => return Ok(None),
            [LAST | MORE, ref piece @ ..] if message.len() + piece.len() <= most => message.extend_from_slice(piece),
            [] => return Err(Errno::EIO),
            _ => return Err(Errno::EMSGSIZE),
        }
        if packet[0] == LAST {
            return Ok(Some((message, fds)));
        }
    }
}

fn receive_packet(socket: &Fd, packet: &mut [u8], fds: &mut Vec<Fd>) -> Result<usize> {
    let mut control = Control { length: 0, level: 0, kind: 0, fds: [-1; MOST_FDS] };
    let mut piece = [packet.as_mut_ptr() as usize, packet.len()];
    let mut header = message_header!(piece, control, size_of::<Control>());
    let mut take = || sys!(SYS_recvmsg, socket, header.as_mut_ptr(), libc::MSG_CMSG_CLOEXEC);
    // A peer that ends with something unread is told of once, ahead of what it said itself (unix_release_sock of
    // net/unix/af_unix.c): a worker that fails before it reads its word.
    let length = take().or_else(|errno| if errno == Errno::ECONNRESET { take() } else { Err(errno) })?;
    let is_rights = (control.level, control.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    if header[CONTROL_LENGTH] >= CONTROL_HEADER && is_rights {
        let count = (control.length.saturating_sub(CONTROL_HEADER) / 4).min(MOST_FDS);
        fds.extend(control.fds[..count].iter().map(|number| Fd::from_raw(*number)));
    }
    if header[FLAGS] as i32 & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    Ok(length)
}

/// A descriptor to wait for, and for what.
#[derive(Clone, Copy)]
pub struct Interest<'a> {
    pub fd: &'a Fd,
    pub read: bool,
    pub write: bool,
}

/// What a descriptor is ready for. The end of a stream, and an error, count as readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub read: bool,
    pub write: bool,
}

/// Waits until one of the descriptors is ready, for a number of milliseconds or for ever. None is when the time is over.
pub fn wait<const N: usize>(interests: [Interest; N], milliseconds: Option<u32>) -> Result<[Ready; N]> {
    let mut set = interests.map(|Interest { fd, read, write }| libc::pollfd {
        // A negative number is skipped; an unwanted descriptor would otherwise report its end for ever.
        fd: if read || write { fd.raw() } else { -1 },
        events: if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 },
        revents: 0,
    });
    let time = milliseconds.map(|time| [i64::from(time / 1000), i64::from(time % 1000) * 1_000_000]);
    let time = time.as_ref().map_or(core::ptr::null(), |time| time.as_ptr());
    sys!(SYS_ppoll, set.as_mut_ptr(), N, time, 0, 0)?;
    Ok(set.map(|entry| Ready { read: entry.revents & !libc::POLLOUT != 0, write: entry.revents & libc::POLLOUT != 0 }))
}

/// The same for one descriptor that is readable or at its end. False when the time is over.
pub fn wait_readable(fd: &Fd, milliseconds: Option<u32>) -> Result<bool> {
    wait([Interest { fd, read: true, write: false }], milliseconds).map(|[ready]| ready.read)
}

/// Encodes and sends a value.
pub fn send_value<T: Message>(socket: &Fd, value: &T, fds: &[&Fd]) -> Result<()> {
    send(socket, &codec::encode(value).ok_or(Errno::EINVAL)?, fds)
}

/// Encodes a value and writes it as one packet, by write(2): to a socket whose process wears a filter that may refuse
/// to send, or to a pipe. What does not fit into a packet is an error.
pub fn write_value<T: Message>(to: &Fd, value: &T) -> Result<()> {
    let message = codec::encode(value).ok_or(Errno::EINVAL)?;
    match packets(&message).next() {
        Some(packet) if packet[0] == LAST => to.write(&packet),
        _ => Err(Errno::EMSGSIZE),
    }
}

/// Decodes what [`write_value`] wrote.
pub fn read_value<T: Message>(from: &Fd) -> Result<Option<T>> {
    let mut packet = [0u8; PACKET];
    let length = from.read(&mut packet)?;
    match packet[..length] {
        [] => Ok(None),
        [LAST, ref message @ ..] => codec::decode_message(message).map(Some).map_err(|_| Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

/// Receives and decodes a value under [`MAX_MESSAGE`]. `None` at the end of the stream.
pub fn receive_value<T: Message>(socket: &Fd) -> Result<Option<(T, Vec<Fd>)>> {
    let Some((message, fds)) = receive(socket, MAX_MESSAGE)? else { return Ok(None) };
    codec::decode_message(&message).map(|value| Some((value, fds))).map_err(|_| Errno::EINVAL)
}
