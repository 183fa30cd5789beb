//! The loopback device.
use crate::raw::sys;
use crate::{Fd, Result};

/// struct ifreq of netdevice(7), with the flags member of its union.
#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Sets the loopback device of this network namespace up.
pub fn loopback_up() -> Result<()> {
    let socket = sys!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).map(Fd::returned)?;
    let mut request = FlagsRequest { name: [0; 16], flags: libc::IFF_UP as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    sys!(SYS_ioctl, &socket, libc::SIOCSIFFLAGS, &raw mut request).map(drop)
}
