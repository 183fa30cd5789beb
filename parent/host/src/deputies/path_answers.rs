//! What the second process of [`super::path_prober`] says of files for `rspawn check`: what they are and who may use
//! them, never what is in them. Of a program it tells the interpreter that execve(2) would look for, of a sysctl
//! whether it is a number.
use bincode::{Decode, Encode};
use rspawn_planner::start_facts::{self, FileKind, Format, NamespaceSeen, Program, Sysctl};
use rspawn_proto::namespaces::Namespace;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd, Result, cgroup, process};

#[derive(Debug, Clone, Encode, Decode)]
pub struct Entry {
    pub kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    Directory,
    File,
    Link,
    CharacterDevice,
    BlockDevice,
    Socket,
    Other,
}

/// [`Program`] on the wire: its machine where it is ELF, whether it is a script, its interpreter.
pub type ProgramAnswer = (Option<u16>, bool, Option<String>);
/// [`NamespaceSeen`] on the wire, in its order.
pub type NamespaceAnswer = (u64, bool);
/// [`Sysctl`] on the wire, in its order.
pub type SysctlAnswer = (bool, bool, bool);

impl From<Entry> for start_facts::Entry {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            Kind::Directory => FileKind::Directory,
            Kind::File => FileKind::File,
            Kind::Link => FileKind::Link,
            Kind::CharacterDevice => FileKind::CharacterDevice,
            Kind::BlockDevice => FileKind::BlockDevice,
            Kind::Socket => FileKind::Socket,
            Kind::Other => FileKind::Other,
        };
        Self { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, target: entry.target }
    }
}

pub fn program_of((machine, script, interpreter): ProgramAnswer) -> Program {
    let other = if script { Format::Script } else { Format::Other };
    Program { format: machine.map_or(other, Format::Elf), interpreter }
}

pub fn namespace_of((flag, own): NamespaceAnswer) -> NamespaceSeen {
    NamespaceSeen { flag, own }
}

pub fn sysctl_of((is_directory, writable, numeric): SysctlAnswer) -> Sysctl {
    Sysctl { is_directory, writable, numeric }
}

/// What was opened.
pub fn entry(held: &Fd) -> Result<Entry> {
    let found = file::status(held)?;
    let kind = match found.mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFREG => Kind::File,
        libc::S_IFLNK => Kind::Link,
        libc::S_IFCHR => Kind::CharacterDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::Other,
    };
    let target = if kind == Kind::Link { Some(file::read_link(held)?) } else { None };
    Ok(Entry { kind, mode: found.mode & 0o7777, uid: found.uid, gid: found.gid, target })
}

/// What was opened by following links, and where it is.
pub fn led_to(held: &Fd) -> Result<Entry> {
    Ok(Entry { target: Some(file::fd_path(held)?), ..entry(held)? })
}

/// The head of a regular file, as far as execve(2) goes by it.
pub fn program(held: &Fd) -> Result<ProgramAnswer> {
    if !file::status(held)?.is(libc::S_IFREG) {
        return Err(Errno::EACCES);
    }
    let mut head = [0u8; 4096];
    let length = file::open_plainly(&file::proc_path(held))?.read(&mut head)?;
    let head = &head[..length];
    let machine = head.starts_with(b"\x7fELF").then(|| number(head, 18, 2).unwrap_or(0) as u16);
    Ok((machine, head.starts_with(b"#!"), interpreter(head).map(str::to_string)))
}

/// A number of a head, the least byte first.
fn number(head: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = head.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

/// The program that executes a file: of its `#!` line, or the dynamic loader that a 64-bit ELF header names. As
/// rspawn-init finds it to explain a failed execve.
fn interpreter(head: &[u8]) -> Option<&str> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = std::str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
        // Only what the kernel skips: a carriage return is a part of the name.
        return line.split([' ', '\t']).find(|word| !word.is_empty());
    }
    const PT_INTERP: usize = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?);
    let header = (0..count)
        .map_while(|index| table.checked_add(index.checked_mul(size)?))
        .find(|at| number(head, *at, 4) == Some(PT_INTERP))?;
    let text = head.get(number(head, header.checked_add(8)?, 8)?..)?;
    std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok()
}

/// The kind of the namespace at a path, opened as rspawn-setup opens it: the directory by ordinary links, the last name
/// by links that are read here, and by magic links as `/proc/PID/ns/KIND` alone.
pub fn namespace(path: &str) -> Result<Option<NamespaceAnswer>> {
    let Some(held) = hold_namespace(path)? else { return Ok(None) };
    if file::filesystem_magic(&held)? != libc::NSFS_MAGIC {
        return Ok(None);
    }
    let opened = file::open_following(&file::proc_path(&held))?;
    let flag = process::namespace_kind(&opened)?;
    let own = match Namespace::ALL.into_iter().find(|kind| kind.clone_flag() == flag) {
        Some(Namespace::Network) => "net",
        Some(Namespace::Mount) => "mnt",
        Some(other) => other.name(),
        None => return Ok(Some((flag, false))),
    };
    let own = file::open_following(&format!("/proc/self/ns/{own}"))?;
    Ok(Some((flag, file::is_same(&opened, &own)?)))
}

fn hold_namespace(path: &str) -> Result<Option<Fd>> {
    const MOST_LINKS: usize = 8;
    let mut path = path.to_string();
    for _ in 0..MOST_LINKS {
        let (above, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", ""));
        let directory = file::open_host(if above.is_empty() { "/" } else { above }, file::O_PATH | file::O_DIRECTORY)?;
        let above = file::fd_path(&directory)?;
        let of_procfs = file::filesystem_magic(&directory)? == libc::PROC_SUPER_MAGIC;
        if of_procfs && above.ends_with("/ns") {
            return file::open_magic(&directory, name).map(Some);
        }
        let held = file::open_at(&directory, name, file::O_PATH | file::O_NOFOLLOW, 0, Resolve::InRoot)?;
        if !file::status(&held)?.is(libc::S_IFLNK) {
            return Ok(Some(held));
        }
        if of_procfs {
            return Ok(None);
        }
        let target = file::read_link(&held)?;
        path = if target.starts_with('/') { target } else { format!("{above}/{target}") };
    }
    Err(Errno::ELOOP)
}

/// Whether processes are in a cgroup or below it, as rspawn-setup looks.
pub fn is_populated(path: &str) -> Result<bool> {
    let directory = file::open_host(path, libc::O_RDONLY | file::O_DIRECTORY)?;
    if !matches!(file::filesystem_magic(&directory)?, libc::CGROUP_SUPER_MAGIC | libc::CGROUP2_SUPER_MAGIC) {
        return Err(Errno::EINVAL);
    }
    cgroup::is_populated(&directory)
}

/// A file below /proc/sys.
pub fn sysctl(path: &str) -> Result<SysctlAnswer> {
    let top = file::open_host("/proc/sys", file::O_PATH | file::O_DIRECTORY)?;
    let held = file::open_at(&top, path, file::O_PATH, 0, Resolve::InRootNoLinks)?;
    let found = file::status(&held)?;
    let (is_directory, writable) = (found.is_directory(), found.mode & 0o222 != 0);
    if is_directory || found.mode & 0o444 == 0 {
        return Ok((is_directory, writable, false));
    }
    let mut text = [0u8; 256];
    let length = file::open_plainly(&file::proc_path(&held))?.read(&mut text)?;
    let mut words = std::str::from_utf8(&text[..length]).unwrap_or_default().split_whitespace().peekable();
    let numeric = words.peek().is_some() && words.all(|word| word.parse::<i128>().is_ok());
    Ok((is_directory, writable, numeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_in_scripts_and_programs() {
        assert_eq!(interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh"));
        assert_eq!(interpreter(b"#!/bin/sh\r\nexit"), Some("/bin/sh\r"));
        assert_eq!(interpreter(b"#!"), None);
        let mut elf = [0u8; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        (elf[64], elf[72]) = (3, 128);
        elf[128..138].copy_from_slice(b"/lib/ld.so");
        assert_eq!(interpreter(&elf), Some("/lib/ld.so"));
        elf[72..80].fill(0xff);
        assert_eq!(interpreter(&elf), None);
    }
}
