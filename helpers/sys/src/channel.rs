//! Control sockets between the stages: whole messages over SOCK_SEQPACKET, descriptors by SCM_RIGHTS.
use alloc::vec;
use alloc::vec::Vec;

use rspawn_proto::MAX_MESSAGE;
use rspawn_proto::codec::{self, Message};
use rspawn_proto::msg::{LAST, MORE, PACKET, packets};

use crate::fd::Fd;
use crate::raw::{Errno, Result, call, call_again};

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
    let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as usize;
    let arguments = [libc::AF_UNIX as usize, kind, 0, ends.as_mut_ptr() as usize];
    // SAFETY: the array has room for both ends.
    unsafe { call(libc::SYS_socketpair, arguments) }?;
    Ok((Fd::from_raw(ends[0]), Fd::from_raw(ends[1])))
}

/// Sends a message; the descriptors ride on its last packet.
pub fn send(socket: &Fd, message: &[u8], fds: &[&Fd]) -> Result<()> {
    for packet in packets(message) {
        let fds = if packet[0] == LAST { fds } else { &[] };
        send_packet(socket, &packet, fds)?;
    }
    Ok(())
}

fn send_packet(socket: &Fd, packet: &[u8], fds: &[&Fd]) -> Result<()> {
    if fds.len() > MOST_FDS {
        return Err(Errno::EINVAL);
    }
    let length = CONTROL_HEADER + 4 * fds.len();
    let mut control = Control { length, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fds: [-1; MOST_FDS] };
    control.fds.iter_mut().zip(fds).for_each(|(slot, fd)| *slot = fd.raw());
    let mut bytes = [packet.as_ptr() as usize, packet.len()];
    let header = MessageHeader {
        name: 0,
        name_length: 0,
        pieces: bytes.as_mut_ptr() as usize,
        piece_count: 1,
        control: if fds.is_empty() { 0 } else { &raw mut control as usize },
        control_length: if fds.is_empty() { 0 } else { length },
        flags: 0,
    };
    let flags = libc::MSG_NOSIGNAL as usize;
    // SAFETY: the header names one live slice and, with its right length, the live control block.
    unsafe { call_again(libc::SYS_sendmsg, [socket.arg(), &raw const header as usize, flags]) }.map(drop)
}

/// struct msghdr.
#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: usize,
    pieces: usize,
    piece_count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

/// Receives one message of at most `most` bytes, and its descriptors. `None` at the end of the stream.
pub fn receive(socket: &Fd, most: usize) -> Result<Option<(Vec<u8>, Vec<Fd>)>> {
    let mut message = Vec::new();
    let mut fds = Vec::new();
    let mut packet = vec![0u8; PACKET];
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
    let mut bytes = [packet.as_mut_ptr() as usize, packet.len()];
    let mut header = MessageHeader {
        name: 0,
        name_length: 0,
        pieces: bytes.as_mut_ptr() as usize,
        piece_count: 1,
        control: &raw mut control as usize,
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let flags = libc::MSG_CMSG_CLOEXEC as usize;
    // SAFETY: the header names one live mutable slice and the live control block, each with its size.
    let length = unsafe { call_again(libc::SYS_recvmsg, [socket.arg(), &raw mut header as usize, flags]) }?;
    if header.control_length >= CONTROL_HEADER && (control.level, control.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
    {
        let count = (control.length.saturating_sub(CONTROL_HEADER) / 4).min(MOST_FDS);
        fds.extend(control.fds[..count].iter().map(|number| Fd::from_raw(*number)));
    }
    if header.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    Ok(length)
}

/// A descriptor to wait for, and for what.
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

/// Waits until one of the descriptors is ready.
pub fn wait<const N: usize>(interests: [Interest; N]) -> Result<[Ready; N]> {
    let mut set = interests.map(|Interest { fd, read, write }| libc::pollfd {
        // A negative number is skipped; an unwanted descriptor would otherwise report its end for ever.
        fd: if read || write { fd.raw() } else { -1 },
        events: if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 },
        revents: 0,
    });
    // SAFETY: the array is live and of the length given; no timeout, no mask.
    unsafe { call_again(libc::SYS_ppoll, [set.as_mut_ptr() as usize, N, 0, 0, 0]) }?;
    Ok(set.map(|entry| Ready { read: entry.revents & !libc::POLLOUT != 0, write: entry.revents & libc::POLLOUT != 0 }))
}

/// Encodes and sends a value.
pub fn send_value<T: Message>(socket: &Fd, value: &T, fds: &[&Fd]) -> Result<()> {
    send(socket, &codec::encode(value).ok_or(Errno::EINVAL)?, fds)
}

/// Receives and decodes a value under [`MAX_MESSAGE`]. `None` at the end of the stream.
pub fn receive_value<T: Message>(socket: &Fd) -> Result<Option<(T, Vec<Fd>)>> {
    let Some((message, fds)) = receive(socket, MAX_MESSAGE)? else { return Ok(None) };
    codec::decode_message(&message).map(|value| Some((value, fds))).map_err(|_| Errno::EINVAL)
}
