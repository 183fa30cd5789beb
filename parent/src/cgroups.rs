//! The cgroups of a container that exists, by its record.
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rspawn_proto::ids::HostPath;
use rspawn_proto::record::{CgroupDir, RESCTRL};
use rspawn_sys::cgroup::is_v2;
use rspawn_sys::{file, process};

/// Sends a signal to every process of the container's cgroups.
pub fn signal_all(cgroups: &[CgroupDir], signal: i32) {
    if signal == libc::SIGKILL && cgroups.iter().any(|cgroup| write(cgroup, "cgroup.kill", "1")) {
        return;
    }
    for pid in processes(cgroups) {
        // By a descriptor, so that a number that is given to another meanwhile is not hit.
        if let Ok(process) = process::open_pidfd(pid)
            && processes(cgroups).contains(&pid)
        {
            let _ = process::signal(&process, signal);
        }
    }
}

/// Every process in the container's cgroups, in this process's pid namespace.
pub fn processes(cgroups: &[CgroupDir]) -> Vec<i32> {
    let mut pids = Vec::new();
    if let Some(cgroup) = cgroups.first() {
        collect(cgroup.path.as_str().as_ref(), &mut pids);
    }
    pids.sort_unstable();
    pids
}

fn collect(directory: &std::path::Path, pids: &mut Vec<i32>) {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

/// Goes where a process is, in a cgroup of v2 that takes none since it gives controllers to those below it: as systemd
/// divides its own in a container.
pub fn follow_if_divided(cgroup: &mut CgroupDir, pid: i32) {
    let divided = fs::read(format!("{}/cgroup.subtree_control", cgroup.path)).is_ok_and(|given| given.len() > 1);
    if !cgroup.hierarchy.as_str().is_empty() || !divided {
        return;
    }
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let now = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    // Where it is not below, or gone, joining fails, and says so.
    if let Some(path) = now.and_then(|now| below(cgroup.path.as_str(), now)).and_then(|path| HostPath::new(path).ok()) {
        cgroup.path = path;
    }
}

/// The path of a directory's descendant, which is known by a path from some directory above both.
fn below(directory: &str, descendant: &str) -> Option<String> {
    let tails = directory.match_indices('/').map(|(start, _)| &directory[start..]);
    let rest = tails.filter_map(|tail| descendant.strip_prefix(tail)).find(|rest| rest.starts_with('/'))?;
    (!rest.contains("/..")).then(|| format!("{directory}{rest}"))
}

/// Stops every process of the container's cgroups, and waits until all have stopped.
pub fn freeze(cgroups: &[CgroupDir]) -> Result<(), String> {
    let (mut asked, mut says) = (false, "there is no freezer among its cgroups".to_string());
    for cgroup in cgroups {
        let (file, value, state, frozen) = match cgroup.hierarchy.as_str() {
            "freezer" => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            // Where v1 has a freezer, one is enough.
            "" if cgroups.iter().all(|other| other.hierarchy.as_str() != "freezer") => {
                ("cgroup.freeze", "1", "cgroup.events", "frozen 1")
            }
            _ => continue,
        };
        asked = true;
        let path = |file: &str| format!("{}/{file}", cgroup.path);
        fs::write(path(file), value).map_err(|error| format!("cannot freeze the cgroup {}: {error}", cgroup.path))?;
        says = format!("the processes of {} did not stop in time", cgroup.path);
        for _ in 0..500 {
            let now = fs::read_to_string(path(state)).unwrap_or_default();
            if now.lines().any(|line| line.trim() == frozen) {
                return Ok(());
            }
            // Asked again, a freezer of v1 takes those in that were just being made.
            let _ = fs::write(path(file), value);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    if asked {
        thaw(cgroups);
    }
    Err(format!("cannot pause the container: {says}"))
}

/// Lets frozen processes go on.
pub fn thaw(cgroups: &[CgroupDir]) {
    for cgroup in cgroups {
        match cgroup.hierarchy.as_str() {
            "" => write(cgroup, "cgroup.freeze", "0"),
            "freezer" => write(cgroup, "freezer.state", "THAWED"),
            _ => false,
        };
    }
}

fn write(cgroup: &CgroupDir, file: &str, value: &str) -> bool {
    let is_its = (cgroup.hierarchy.as_str().is_empty()) == file.starts_with("cgroup.");
    is_its && fs::write(format!("{}/{file}", cgroup.path), value).is_ok()
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
pub fn remove_empty(cgroups: &[CgroupDir]) {
    let deadline = Instant::now() + Duration::from_secs(2);
    // A group that was noted and not made may be another's. The kernel would remove it with processes in it.
    let has_tasks = |cgroup: &&CgroupDir| {
        let tasks = format!("{}/tasks", cgroup.path);
        is_resctrl(cgroup) && fs::read(tasks).is_ok_and(|tasks| !tasks.is_empty())
    };
    for CgroupDir { path, .. } in own(cgroups).filter(|cgroup| !has_tasks(cgroup)) {
        let is_cgroup = file::open_host(path.as_str(), file::O_PATH | file::O_DIRECTORY)
            .is_ok_and(|directory| is_v2(&directory).is_ok());
        while is_cgroup
            && fs::remove_dir(path.as_str()).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes the directories, those that the payload made below them first. Processes that are on their way out keep a
/// directory for a moment. systemd is left to remove the cgroup of a scope.
pub fn remove(cgroups: &[CgroupDir], is_scope: bool) -> Result<(), String> {
    let mut done = Ok(());
    for cgroup @ CgroupDir { path, .. } in own(cgroups) {
        if let Err(errno) = rspawn_sys::cgroup::remove_path(path.as_str(), is_scope && !is_resctrl(cgroup)) {
            done = Err(format!("cannot remove the cgroup {path}: {}", crate::describe::errno(errno.0)));
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
