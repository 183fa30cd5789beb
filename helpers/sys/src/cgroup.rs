//! Cgroups by descriptor: what rspawn-setup does with those it makes, and `rspawn delete` with those it finds.
use alloc::{ffi::CString, format, vec, vec::Vec};
use core::ffi::CStr;

use crate::file::{self, O_DIRECTORY, O_RDONLY, O_WRONLY, Resolve};
use crate::process;
use crate::{Errno, Fd, Result};

/// How long processes may take to die before a cgroup is left to the next command, in milliseconds.
const PATIENCE: u64 = 10_000;

/// How long systemd may take to remove a cgroup of its own that is empty, in milliseconds.
const SYSTEMDS_PATIENCE: u64 = 3_000;

/// RDTGROUP_SUPER_MAGIC of linux/magic.h.
const RESCTRL_MAGIC: i64 = 0x0765_5821;

pub fn is_resctrl(file: &Fd) -> Result<bool> {
    Ok(file::filesystem_magic(file)? == RESCTRL_MAGIC)
}

/// Whether a file is on cgroup v2, or on v1 or resctrl, which take processes alike; anything else is no cgroup at all.
pub fn is_v2(file: &Fd) -> Result<bool> {
    match file::filesystem_magic(file)? {
        libc::CGROUP2_SUPER_MAGIC => Ok(true),
        libc::CGROUP_SUPER_MAGIC | RESCTRL_MAGIC => Ok(false),
        _ => Err(Errno::ENODEV),
    }
}

/// Opens a cgroup below another.
pub fn open(above: &Fd, name: &CStr) -> Result<Fd> {
    file::open_beneath(above, name, O_RDONLY | O_DIRECTORY)
}

/// Opens a file of a cgroup for writing.
pub fn open_file(cgroup: &Fd, name: &str) -> Result<Fd> {
    file::open_at(cgroup, name, O_WRONLY, 0, Resolve::Beneath)
}

/// Writes a value to a file of a cgroup, whole: the kernel takes each write for a value.
pub fn write(cgroup: &Fd, name: &str, value: &str) -> Result<()> {
    open_file(cgroup, name)?.write(value.as_bytes())
}

/// What a file of a cgroup says.
pub fn read(cgroup: &Fd, name: &str) -> Result<Vec<u8>> {
    file::open_at(cgroup, name, O_RDONLY, 0, Resolve::Beneath)?.read_all(usize::MAX)
}

/// The list of a cgroup's own processes. Those of one that is threaded are in the domain above it.
fn list(cgroup: &Fd) -> Result<Vec<u8>> {
    match read(cgroup, "cgroup.procs") {
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        read => read,
    }
}

fn pids(cgroup: &Fd) -> Result<Vec<i32>> {
    let list = list(cgroup)?;
    let lines = core::str::from_utf8(&list).map_err(|_| Errno::EIO)?.lines();
    // 0 stands for a process outside of this pid namespace, and to kill(2) for this process's own group.
    lines.map(|line| line.parse().map_err(|_| Errno::EIO)).filter(|pid| !matches!(pid, Ok(..=0))).collect()
}

/// The processes in a cgroup, and in those below it.
pub fn processes(cgroup: &Fd) -> Result<Vec<i32>> {
    let mut found = pids(cgroup)?;
    each_below(cgroup, |_, _, inside| {
        found.extend(pids(inside)?);
        Ok(())
    })?;
    Ok(found)
}

/// Lets what is frozen in a cgroup of v1's freezer, or below it, go on, where it can be killed. Others have no such file.
pub fn thaw(cgroup: &Fd) -> Result<()> {
    let thaw = |cgroup: &Fd| write(cgroup, "freezer.state", "THAWED");
    match thaw(cgroup) {
        Err(Errno::ENOENT) => Ok(()),
        done => done.and_then(|()| each_below(cgroup, |_, _, inside| thaw(inside))),
    }
}

/// Whether nothing that comes into a cgroup would run: it is frozen, or one above it is.
pub fn is_frozen(cgroup: &Fd) -> Result<bool> {
    if is_v2(cgroup)? {
        return Ok(read(cgroup, "cgroup.events")?.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1"));
    }
    match read(cgroup, "freezer.state") {
        Err(Errno::ENOENT) => Ok(false),
        state => Ok(state?.trim_ascii() != b"THAWED"),
    }
}

/// Whether a process is in a cgroup, or anywhere below it.
pub fn is_populated(cgroup: &Fd) -> Result<bool> {
    let check = |inside: &Fd| if list(inside)?.is_empty() { Ok(()) } else { Err(Errno::EBUSY) };
    match check(cgroup).and_then(|()| each_below(cgroup, |_, _, inside| check(inside))) {
        Err(Errno::EBUSY) => Ok(true),
        other => other.map(|()| false),
    }
}

/// Whether a process is in a cgroup, and no other is in it or could be below it.
pub fn holds_only(cgroup: &Fd, pid: i32) -> Result<bool> {
    let alone = read(cgroup, "cgroup.procs")? == format!("{pid}\n").as_bytes();
    Ok(alone && !file::entries(cgroup)?.iter().any(|entry| entry.is_directory))
}

/// Removes a cgroup and those below it, killing what is still in them. That of a scope is first left to systemd, which
/// removes it once it is empty, and forgets the scope by that. `waits`: for processes to die.
pub fn remove(above: &Fd, name: &CStr, is_scope: bool, waits: bool) -> Result<()> {
    let (mut waited, mut pause) = (if waits { 0 } else { PATIENCE }, 1);
    let systemds = if is_scope { SYSTEMDS_PATIENCE } else { 0 };
    loop {
        let removed = if waited < systemds {
            open(above, name).and(Err(Errno::EBUSY))
        } else {
            file::remove_directory(above, name)
        };
        match removed {
            Err(Errno::EBUSY) => {}
            Err(Errno::ENOENT) => return Ok(()),
            other => return other,
        }
        // What is gone meanwhile, or cannot go yet, shows at the next attempt.
        let emptied = open(above, name).and_then(|cgroup| empty(&cgroup));
        if waited >= PATIENCE {
            return emptied.and(Err(Errno::EBUSY));
        }
        process::sleep(pause)?;
        waited += pause;
        pause = (2 * pause).min(50);
    }
}

/// Kills the processes of a cgroup and of those below it, which are removed.
fn empty(cgroup: &Fd) -> Result<()> {
    kill(cgroup)?;
    each_below(cgroup, |above, name, inside| {
        kill(inside)?;
        file::remove_directory(above, name)
    })
}

/// Sends SIGKILL to every process of a cgroup; on v2 also to those below it.
pub fn kill(cgroup: &Fd) -> Result<()> {
    if is_v2(cgroup)? {
        return match write(cgroup, "cgroup.kill", "1") {
            // A threaded cgroup: its processes are in the domain above, which is killed first.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        };
    }
    for pid in pids(cgroup)? {
        match process::kill(pid, 9) {
            Ok(()) | Err(Errno::ESRCH) => {}
            failed => return failed,
        }
    }
    // Frozen processes of v1 die only once they thaw. Other hierarchies have no such file.
    match write(cgroup, "freezer.state", "THAWED") {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// Visits the cgroups below one, each after those below it, as (the one above, its name, itself). The payload decides
/// how many and how deep they are: no recursion, and no more than three descriptors.
fn each_below(top: &Fd, mut visit: impl FnMut(&Fd, &CStr, &Fd) -> Result<()>) -> Result<()> {
    let children = |cgroup: &Fd| -> Result<Vec<CString>> {
        let all = file::entries(cgroup)?.into_iter();
        Ok(all.filter(|entry| entry.is_directory).map(|entry| entry.name).collect())
    };
    let mut pending = vec![children(top)?];
    let mut names: Vec<CString> = Vec::new();
    let mut here = top.duplicate(0)?;
    while let Some(siblings) = pending.last_mut() {
        if let Some(name) = siblings.pop() {
            here = open(&here, &name)?;
            pending.push(children(&here)?);
            names.push(name);
        } else {
            pending.pop();
            let Some(name) = names.pop() else { break };
            let above = file::open_above(&here)?;
            visit(&above, &name, &here)?;
            here = above;
        }
    }
    Ok(())
}

/// Removes the cgroup at an absolute path, if it is there.
pub fn remove_path(path: &str, is_scope: bool, waits: bool) -> Result<()> {
    let (above, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
    let above = match file::open_host(above, O_RDONLY | O_DIRECTORY) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened?,
    };
    is_v2(&above)?;
    remove(&above, &CString::new(name).map_err(|_| Errno::EINVAL)?, is_scope, waits)
}
