//! The cgroups of a container that exists, by its record.
use std::fs;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::errors;
use rspawn_proto::ids::HostPath;
use rspawn_proto::record::{CgroupDir, RESCTRL};
use rspawn_sys::cgroup::{self, is_v2};
use rspawn_sys::{Errno, Fd, file, process};

/// How often a tree of cgroups is walked again that changes under the walk.
const ATTEMPTS: u32 = 10;

/// Kills every process of the container's cgroups. What is frozen, there or in cgroups that the payload made below,
/// dies of it as well: on v1 only once it is thawed.
pub fn kill_all(cgroups: &[CgroupDir]) -> Result<(), String> {
    signal_all(cgroups, libc::SIGKILL)?;
    thaw_all(cgroups)
}

/// Sends a signal to every process of the container's cgroups.
pub fn signal_all(cgroups: &[CgroupDir], signal: i32) -> Result<(), String> {
    if signal == libc::SIGKILL {
        for cgroup in cgroups.iter().filter(|cgroup| cgroup.hierarchy.as_str().is_empty()) {
            match fs::write(format!("{}/cgroup.kill", cgroup.path), "1") {
                Ok(()) => return Ok(()),
                // It is gone, or threaded: its processes are in the domain above.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(format!("cannot kill the processes of {}: {error}", cgroup.path)),
            }
        }
    }
    for pid in processes(cgroups)? {
        let say = |errno: Errno| format!("cannot signal process {pid}: {}", errors::describe(errno.0));
        // By a descriptor, so that a number that is given to another meanwhile is not hit.
        let process = match process::open_pidfd(pid) {
            Err(Errno::ESRCH) => continue,
            opened => opened.map_err(say)?,
        };
        if processes(cgroups)?.contains(&pid) {
            match process::signal(&process, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(say(errno)),
            }
        }
    }
    Ok(())
}

/// Every process in the container's cgroups, in this process's pid namespace.
pub fn processes(cgroups: &[CgroupDir]) -> Result<Vec<i32>, String> {
    let first = cgroups.iter().find(|cgroup| !is_resctrl(cgroup));
    let Some(CgroupDir { path, .. }) = first else { return Ok(Vec::new()) };
    let mut pids = walk(path.as_str(), cgroup::processes)?.unwrap_or_default();
    pids.sort_unstable();
    Ok(pids)
}

/// Does something with a cgroup and those below it, by descriptors: the payload decides how deep they are, and no path
/// is longer than PATH_MAX. `None` if the cgroup is gone.
fn walk<T>(path: &str, mut visit: impl FnMut(&Fd) -> rspawn_sys::Result<T>) -> Result<Option<T>, String> {
    let mut last = Errno::ENOENT;
    for _ in 0..ATTEMPTS {
        let top = match file::open_host(path, file::O_RDONLY | file::O_DIRECTORY) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened,
        };
        match top.and_then(|top| visit(&top)) {
            Ok(done) => return Ok(Some(done)),
            // One of them was removed meanwhile.
            Err(errno @ (Errno::ENOENT | Errno::ENODEV)) => last = errno,
            Err(errno) => {
                last = errno;
                break;
            }
        }
    }
    Err(format!("cannot look into the cgroup {path}: {}", errors::describe(last.0)))
}

/// What cgroups answer whose directory has been removed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// What a file of a cgroup says; nothing if it is gone.
fn read(cgroup: &CgroupDir, name: &str) -> Result<Option<String>, String> {
    let path = format!("{}/{name}", cgroup.path);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(format!("cannot read {path}: {error}")),
    }
}

/// Whether one of the cgroups is frozen, by whoever, or on its way there; on v2 also by one above it.
pub fn are_frozen(cgroups: &[CgroupDir]) -> Result<bool, String> {
    let says = |cgroup: &CgroupDir, name: &str, frozen: &str| {
        let text = read(cgroup, name)?;
        Ok::<bool, String>(text.is_some_and(|text| text.lines().any(|line| line.trim() == frozen)))
    };
    for cgroup in cgroups {
        let frozen = match cgroup.hierarchy.as_str() {
            "" => says(cgroup, "cgroup.freeze", "1")? || says(cgroup, "cgroup.events", "frozen 1")?,
            "freezer" => says(cgroup, "freezer.state", "FROZEN")?,
            _ => false,
        };
        if frozen {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Goes where a process is, in a cgroup of v2 that takes none since it gives controllers to those below it: as systemd
/// divides its own in a container.
pub fn follow_if_divided(cgroup: &mut CgroupDir, pid: i32) -> Result<(), String> {
    if !cgroup.hierarchy.as_str().is_empty() {
        return Ok(());
    }
    let given = read(cgroup, "cgroup.subtree_control")?;
    if given.is_none_or(|given| given.trim().is_empty()) {
        return Ok(());
    }
    let file = format!("/proc/{pid}/cgroup");
    let cgroups = fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let now = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    // Where it is not below, or gone, joining fails, and says so.
    if let Some(path) = now.and_then(|now| below(cgroup.path.as_str(), now)) {
        cgroup.path = HostPath::new(path)?;
    }
    Ok(())
}

/// The path of a directory's descendant, which is known by a path from some directory above both.
fn below(directory: &str, descendant: &str) -> Option<String> {
    let tails = directory.match_indices('/').map(|(start, _)| &directory[start..]);
    let rest = tails.filter_map(|tail| descendant.strip_prefix(tail)).find(|rest| rest.starts_with('/'))?;
    (!rest.contains("/..")).then(|| format!("{directory}{rest}"))
}

/// Stops every process of the container's cgroups, and waits until all have stopped.
pub fn freeze(cgroups: &[CgroupDir]) -> Result<(), String> {
    let with = |name: &str| cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str() == name);
    // Where v1 has a freezer, one is enough.
    let stopped = match (with("freezer"), with("")) {
        (Some(v1), _) => stop_all(v1, ["freezer.state", "FROZEN", "freezer.state", "FROZEN"]),
        (None, Some(v2)) => stop_all(v2, ["cgroup.freeze", "1", "cgroup.events", "frozen 1"]),
        (None, None) => return Err("cannot pause the container: there is no freezer among its cgroups".into()),
    };
    stopped.map_err(|reason| match thaw(cgroups) {
        Ok(()) => format!("cannot pause the container: {reason}"),
        Err(stays) => format!("cannot pause the container: {reason}; nor let it go on: {stays}"),
    })
}

fn stop_all(cgroup: &CgroupDir, [file, value, state, frozen]: [&str; 4]) -> Result<(), String> {
    for _ in 0..500 {
        // Asked again, a freezer of v1 takes those in that were just being made.
        fs::write(format!("{}/{file}", cgroup.path), value)
            .map_err(|error| format!("cannot freeze the cgroup {}: {error}", cgroup.path))?;
        if read(cgroup, state)?.is_some_and(|now| now.lines().any(|line| line.trim() == frozen)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("the processes of {} did not stop in time", cgroup.path))
}

/// Lets frozen processes go on.
pub fn thaw(cgroups: &[CgroupDir]) -> Result<(), String> {
    for cgroup in cgroups {
        let (file, value) = match cgroup.hierarchy.as_str() {
            "" => ("cgroup.freeze", "0"),
            "freezer" => ("freezer.state", "THAWED"),
            _ => continue,
        };
        match fs::write(format!("{}/{file}", cgroup.path), value) {
            Err(error) if !is_gone(&error) => {
                return Err(format!("cannot thaw the cgroup {}: {error}", cgroup.path));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The same, and what the payload has frozen below them: before a container is cleared away. On v2 even what is
/// frozen dies when it is killed.
pub fn thaw_all(cgroups: &[CgroupDir]) -> Result<(), String> {
    thaw(cgroups)?;
    for CgroupDir { path, .. } in cgroups.iter().filter(|cgroup| cgroup.hierarchy.as_str() == "freezer") {
        walk(path.as_str(), cgroup::thaw)?;
    }
    Ok(())
}

/// Whether it is no cgroup but a resctrl group. They come last in a record.
pub fn is_resctrl(cgroup: &CgroupDir) -> bool {
    cgroup.hierarchy.as_str() == RESCTRL
}

/// Those that nobody else uses.
fn own(cgroups: &[CgroupDir]) -> impl Iterator<Item = &CgroupDir> {
    cgroups.iter().filter(|cgroup| !cgroup.shared)
}

/// Removes the directories that are empty, or become so at once: the processes of a container that was never finished
/// die with rspawn-setup.
pub fn remove_empty(cgroups: &[CgroupDir]) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(2);
    for cgroup @ CgroupDir { path, .. } in own(cgroups) {
        let say = |errno: Errno| format!("cannot look at the cgroup {path}: {}", errors::describe(errno.0));
        let directory = match file::open_host(path.as_str(), file::O_RDONLY | file::O_DIRECTORY) {
            Err(Errno::ENOENT) => continue,
            opened => opened.map_err(say)?,
        };
        match is_v2(&directory) {
            // It was noted, and is no cgroup: nothing of rspawn's.
            Err(Errno::ENODEV) => continue,
            found => found.map_err(say)?,
        };
        // A group that was noted and not made may be another's. The kernel would remove it with processes in it.
        if is_resctrl(cgroup) && read(cgroup, "tasks")?.is_some_and(|tasks| !tasks.is_empty()) {
            continue;
        }
        loop {
            match fs::remove_dir(path.as_str()) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // Another container's, as it seems: it may have been noted before it was found to be taken.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => break,
                Err(error) => return Err(format!("cannot remove the cgroup {path}: {error}")),
            }
        }
    }
    Ok(())
}

/// Removes the directories, those that the payload made below them first. Processes that are on their way out keep a
/// directory for a moment. systemd is left to remove the cgroup of a scope.
pub fn remove(cgroups: &[CgroupDir], is_scope: bool) -> Result<(), String> {
    let mut done = Ok(());
    for cgroup @ CgroupDir { path, .. } in own(cgroups) {
        // Its patience is for all of them together.
        let waits = done.is_ok();
        if let Err(errno) = cgroup::remove_path(path.as_str(), is_scope && !is_resctrl(cgroup), waits) {
            done = Err(format!("cannot remove the cgroup {path}: {}", errors::describe(errno.0)));
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn a_descendant_is_found_from_any_mount() {
        let own = "/sys/fs/cgroup/a.slice/id";
        for (now, expected) in [
            ("/a.slice/id/init", Some("/init")),
            ("/id/x/y", Some("/x/y")),
            // The whole, where cgroups are mounted at the root of nothing.
            ("/sys/fs/cgroup/a.slice/id/z", Some("/z")),
            ("/a.slice/id", None),
            ("/a.slice/id2/init", None),
            ("/b.slice/id/init", None),
            ("/a.slice/id/../other", None),
            ("/", None),
        ] {
            assert_eq!(below(own, now), expected.map(|rest| format!("{own}{rest}")), "{now}");
        }
    }
}
