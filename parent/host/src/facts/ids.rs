//! Whose ids a container can have: all of the machine's, those of the user namespace that rspawn is in, or those that
//! an ordinary user may map.
//!
//! Who cannot mount gets a user namespace for rspawn-setup: there it may do all that it does for root, with the ids of
//! [`Ids`] alone. Which these are follows from the caller and from files of root's; nothing of the bundle has a say,
//! and the setuid programs that write the maps are run before a byte of it is read.
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use caps::{CapSet, Capability};
use nix::unistd::{getegid, geteuid};

use rspawn_planner::facts::{Ids, Ranges};
use rspawn_planner::oci::IdMapping;

/// Most ranges of a map: the kernel's UID_GID_MAP_MAX_EXTENTS.
const MAX_RANGES: usize = 340;

/// What the caller can have. Nothing is done.
pub fn of_caller() -> Result<Ids, String> {
    let initial = crate::user_namespace::is_initial()?;
    if may_mount()? {
        return if initial { Ok(Ids::default()) } else { of_process("self") };
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut ids = Ids {
        uids: vec![IdMapping { container_id: 0, host_id: uid, size: 1 }],
        gids: vec![IdMapping { container_id: 0, host_id: gid, size: 1 }],
        rootless: true,
        initial,
        setgroups: false,
        alone_because: None,
    };
    let name = user_name(uid)?;
    let subordinate = |file: &str| Ok::<_, String>(ranges(&if_there(file)?, uid, &name));
    let (uids, gids) = (subordinate("/etc/subuid")?, subordinate("/etc/subgid")?);
    if uids.is_empty() || gids.is_empty() {
        ids.alone_because = Some(format!("user {uid} needs an entry in /etc/subuid and one in /etc/subgid"));
    } else if find(PROGRAMS[0])?.is_none() || find(PROGRAMS[1])?.is_none() {
        ids.alone_because = Some("newuidmap and newgidmap are not installed".into());
    } else {
        append(&mut ids.uids, &uids);
        append(&mut ids.gids, &gids);
        ids.setgroups = true;
    }
    Ok(ids)
}

/// Those of the user namespace that a process is in.
pub fn of_process(pid: &str) -> Result<Ids, String> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    };
    let existing = |file: &str| -> Result<Ranges, String> {
        let same = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            let (first, _, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some(IdMapping { container_id: first, host_id: first, size })
        };
        let ranges: Option<Ranges> = read(file)?.lines().map(same).collect();
        ranges.ok_or_else(|| format!("cannot understand /proc/{pid}/{file}"))
    };
    let setgroups = read("setgroups")?.trim() != "deny";
    let (uids, gids) = (existing("uid_map")?, existing("gid_map")?);
    Ok(Ids { uids, gids, rootless: false, initial: false, setgroups, alone_because: None })
}

/// Writes the maps of a process in a new user namespace. Where the programs that may write ranges refuse, the
/// caller's own ids are all there is.
pub fn write_maps(ids: &mut Ids, pid: i32) -> io::Result<()> {
    let written = if ids.setgroups { write_ranges(ids, pid) } else { [None, None] };
    let files = [("uid", &mut ids.uids), ("gid", &mut ids.gids)];
    for ((kind, ranges), refusal) in files.into_iter().zip(written) {
        match refusal {
            Some(Ok(())) => continue,
            Some(Err(reason)) => ids.alone_because = Some(reason),
            None => {}
        }
        ranges.truncate(1);
        if kind == "gid" {
            // Whoever could leave a group would get at files that the group is kept from.
            write_proc(pid, "setgroups", "deny")?;
            ids.setgroups = false;
        }
        let text: String = ranges.iter().map(|r| format!("{} {} {}\n", r.container_id, r.host_id, r.size)).collect();
        write_proc(pid, &format!("{kind}_map"), &text)?;
    }
    Ok(())
}

/// By newuidmap and newgidmap, side by side.
fn write_ranges(ids: &Ids, pid: i32) -> [Option<Result<(), String>>; 2] {
    let started = [(PROGRAMS[0], &ids.uids), (PROGRAMS[1], &ids.gids)].map(|(name, ranges)| {
        let program = find(name)?.ok_or_else(|| format!("{name} is not installed"))?;
        let numbers = ranges.iter().flat_map(|r| [r.container_id, r.host_id, r.size]);
        let mut command = Command::new(program);
        command.arg(pid.to_string()).args(numbers.map(|number| number.to_string()));
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map(|child| (name, child)).map_err(|error| format!("{name}: {error}"))
    });
    started.map(|started| Some(started.and_then(|(name, child)| ended_well(name, child))))
}

fn ended_well(name: &str, child: Child) -> Result<(), String> {
    let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().next().unwrap_or("it says nothing");
    if output.status.success() { Ok(()) } else { Err(format!("{name} refuses: {words}")) }
}

fn write_proc(pid: i32, file: &str, text: &str) -> io::Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let written = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write {path}: {error}")))
}

/// Mounting takes this capability over the user namespace that the mount namespace belongs to.
fn may_mount() -> Result<bool, String> {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
        .map_err(|error| format!("cannot read the capabilities of this process: {error}"))
}

/// The text of a file that need not exist.
fn if_there(file: &str) -> Result<String, String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| format!("cannot read {file}: {error}")),
    }
}

/// Of package uidmap: setuid programs that write the ranges which /etc/subuid and /etc/subgid grant.
const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];

/// Where distributions install them. Never from PATH, which is anybody's.
fn find(program: &str) -> Result<Option<String>, String> {
    for place in ["/usr/bin", "/bin", "/run/wrappers/bin"] {
        let path = format!("{place}/{program}");
        if Path::new(&path).try_exists().map_err(|error| format!("cannot look for {path}: {error}"))? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The name of a user, by the local file alone: the C library's other sources are no part of a static program.
pub fn user_name(uid: u32) -> Result<Option<String>, String> {
    let passwd = if_there("/etc/passwd")?;
    let is_theirs = |line: &&str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid);
    Ok(passwd.lines().find(is_theirs).and_then(|line| line.split(':').next()).map(str::to_string))
}

/// How a user is shown: by the name, or, where it is not to be had, the number.
pub fn shown_user(uid: u32) -> String {
    user_name(uid).ok().flatten().unwrap_or_else(|| format!("#{uid}"))
}

/// The ranges of a user in a subuid(5) file, as first id and count.
fn ranges(text: &str, uid: u32, name: &Option<String>) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_theirs = owner == number || Some(owner) == name.as_deref();
        (is_theirs && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// Appends ranges of the caller's ids to a map, with the next free ids inside. One that has ids of another is passed
/// over: the kernel would refuse the whole map.
fn append(map: &mut Ranges, ranges: &[(u32, u32)]) {
    for (first, count) in ranges {
        let next = map.last().map_or(0, |last| last.container_id + last.size);
        let meets = |other: &IdMapping| *first < other.host_id + other.size && other.host_id < first + count;
        if map.len() < MAX_RANGES && next.checked_add(*count).is_some() && !map.iter().any(meets) {
            map.push(IdMapping { container_id: next, host_id: *first, size: *count });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_users_own() {
        let text = "alice:100000:65536\nbob:165536:65536\n1000:300000:10\n# x\nalice:4294967295:2\nalice:1:0\n";
        assert_eq!(ranges(text, 1000, &Some("alice".into())), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, 7, &None), []);
    }

    #[test]
    fn ids_are_numbered_from_the_callers_own() {
        let mut map = vec![IdMapping { container_id: 0, host_id: 1000, size: 1 }];
        append(&mut map, &[(100_000, 65_536), (100_005, 3), (900, 200), (300_000, 10)]);
        let numbers: Vec<_> = map.iter().map(|r| (r.container_id, r.host_id, r.size)).collect();
        assert_eq!(numbers, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]);
    }
}
