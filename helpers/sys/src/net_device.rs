//! Moving a network device into another network namespace, by rtnetlink(7).
//!
//! The kernel drops a device's addresses when it changes namespaces; the spec wants the global, permanent ones to stay
//! (runtime-spec, config-linux.md, "Network Devices").
use alloc::{vec, vec::Vec};

use crate::file;
use crate::process;
use crate::raw::sys;
use crate::{Errno, Fd, Result};

const CLONE_NEWNET: u64 = 0x4000_0000;

/// Message types and flags, `linux/rtnetlink.h` and `linux/netlink.h`.
const RTM_SETLINK: u16 = 19;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const CREATE_EXCL: u16 = 0x400 | 0x200;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFA_F_PERMANENT: u8 = 0x80;

/// Moves a device of this network namespace into that of `target` under a new name, with its addresses, and sets
/// it up there.
pub fn move_to(name: &str, new_name: &str, target: u32) -> Result<()> {
    let home = file::open_following("/proc/self/ns/net")?;
    let away = file::open_following(&alloc::format!("/proc/{target}/ns/net"))?;
    let here = Netlink::open()?;
    let index = here.index(name)?;
    let addresses = here.addresses(index)?;
    let rename = (IFLA_IFNAME, terminated(new_name));
    here.set_link(index, 0, &[(IFLA_NET_NS_FD, away.raw().to_ne_bytes().to_vec()), rename])?;

    process::join(&away, CLONE_NEWNET)?;
    let configured = configure(new_name, &addresses);
    process::join(&home, CLONE_NEWNET)?;
    configured
}

fn configure(name: &str, addresses: &[Vec<u8>]) -> Result<()> {
    let there = Netlink::open()?;
    let index = there.index(name)?;
    for address in addresses {
        there.add_address(index, address)?;
    }
    there.set_link(index, IFF_UP, &[])
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

struct Netlink(Fd);

impl Netlink {
    fn open() -> Result<Self> {
        let socket = sys!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        socket.map(|number| Self(Fd::returned(number)))
    }

    /// Sends a request and gives the messages that answer it, each as (type, payload).
    fn request(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
        let length = 16 + payload.len() as u32;
        // struct nlmsghdr: length, type, flags, sequence, port.
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend_from_slice(payload);
        self.0.write(&message)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 32 << 10];
        loop {
            let length = self.0.read(&mut buffer)?;
            let mut rest = &buffer[..length];
            while rest.len() >= 16 {
                let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let answer = u16::from_ne_bytes([rest[4], rest[5]]);
                let payload = rest.get(16..size).ok_or(Errno::EIO)?;
                match answer {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = payload.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
                        return match code.ok_or(Errno::EIO)? {
                            0 => Ok(answers),
                            code => Err(Errno(-code)),
                        };
                    }
                    _ => answers.push((answer, payload.to_vec())),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn index(&self, name: &str) -> Result<u32> {
        let payload = [link_header(0, 0), attribute(IFLA_IFNAME, &terminated(name))].concat();
        let answers = self.request(RTM_GETLINK, REQUEST_ACK, &payload)?;
        // struct ifinfomsg: family, pad, type, then the index.
        let index = answers.first().and_then(|(_, link)| link.get(4..8)?.try_into().ok());
        index.map(u32::from_ne_bytes).ok_or(Errno::ENODEV)
    }

    /// Changes a link: `up` is IFF_UP or 0.
    fn set_link(&self, index: u32, up: u32, attributes: &[(u16, Vec<u8>)]) -> Result<()> {
        let mut payload = link_header(index, up);
        attributes.iter().for_each(|(kind, value)| payload.extend(attribute(*kind, value)));
        self.request(RTM_SETLINK, REQUEST_ACK, &payload).map(drop)
    }

    /// The global, permanent addresses of a device, as the kernel wrote them (struct ifaddrmsg and attributes).
    fn addresses(&self, index: u32) -> Result<Vec<Vec<u8>>> {
        let found = self.request(RTM_GETADDR, REQUEST_DUMP, &[0; 8])?;
        let is_ours = |address: &Vec<u8>| {
            address.len() >= 8
                && address[4..8] == index.to_ne_bytes()
                && address[3] == RT_SCOPE_UNIVERSE
                && address[2] & IFA_F_PERMANENT != 0
        };
        Ok(found.into_iter().map(|(_, address)| address).filter(is_ours).collect())
    }

    fn add_address(&self, index: u32, address: &[u8]) -> Result<()> {
        const IFA_CACHEINFO: u16 = 6;
        let mut payload = address[..8].to_vec();
        payload[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut rest = &address[8..];
        while rest.len() >= 4 {
            let size = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
            let kind = u16::from_ne_bytes([rest[2], rest[3]]);
            let value = rest.get(4..size).ok_or(Errno::EIO)?;
            // The times in it are of the old address.
            if kind != IFA_CACHEINFO {
                payload.extend(attribute(kind, value));
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        self.request(RTM_NEWADDR, REQUEST_ACK | CREATE_EXCL, &payload).map(drop)
    }
}

/// struct ifinfomsg: family, pad, type, index, flags, change.
fn link_header(index: u32, up: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), up.to_ne_bytes(), up.to_ne_bytes()].concat()
}

/// struct rtattr with its value, padded. Lengths fit: the longest value is a device name (CVE-2021-43784).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
