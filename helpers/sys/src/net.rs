//! Network devices: loopback up.
use crate::fd::Fd;
use crate::raw::{Result, call};

/// struct ifreq of netdevice(7), with the flags member of its union.
#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Sets the loopback device of this network namespace up.
pub fn loopback_up() -> Result<()> {
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
    // SAFETY: no pointers.
    let socket = unsafe { call(libc::SYS_socket, [libc::AF_INET as usize, kind, 0]) }.map(Fd::returned)?;
    let mut request = FlagsRequest { name: [0; 16], flags: libc::IFF_UP as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let argument = &raw mut request as usize;
    // SAFETY: the request is a live ifreq.
    unsafe { call(libc::SYS_ioctl, [socket.arg(), libc::SIOCSIFFLAGS as usize, argument]) }.map(drop)
}
