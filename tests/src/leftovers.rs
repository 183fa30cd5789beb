//! What containers have left on this machine.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Mounts, processes and cgroups of this machine that carry a name. What is on its way out gets time to go.
pub fn leftovers(name: &str) -> Vec<String> {
    leftovers_besides(name, |_| false)
}

/// The same without what a test expects to be left.
pub fn leftovers_besides(name: &str, is_expected: impl Fn(&str) -> bool) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = leftovers_now(name);
        left.retain(|what| !is_expected(what));
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn leftovers_now(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    left.extend(cgroups_named(Path::new("/sys/fs/cgroup"), name).iter().map(|path| {
        let processes = fs::read_to_string(path.join("cgroup.procs"));
        format!("cgroup {}, with {processes:?}", path.display())
    }));
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // What is dead keeps its cgroup's name until its parent, here the machine's init, takes note; and PID 1 of a
        // namespace cannot end before that has been done for the last of its processes.
        if fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| is_dead(&stat)) {
            continue;
        }
        let of_process = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let carries = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(name);
        if of_process("cmdline").starts_with(b"strace\0") {
            // It stays until the machine's init has seen the end of the last one that it traced.
            continue;
        }
        let root = fs::read_link(process.path().join("root")).unwrap_or_default();
        if carries(of_process("cmdline")) || carries(of_process("cgroup")) || root.to_string_lossy().contains(name) {
            left.push(format!("process {pid}: {}", String::from_utf8_lossy(&of_process("cmdline")).replace('\0', " ")));
        }
    }
    left
}

/// What /proc/PID/stat says of a process that has ended or is ending (proc_pid_stat(5): PF_EXITING of its flags).
fn is_dead(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.next() == Some("Z") || fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(0u64) & PF_EXITING != 0
}

/// Directories below another whose name has a certain part.
pub fn cgroups_named(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(part) {
                found.push(entry.path());
            }
            found.extend(cgroups_named(&entry.path(), part));
        }
    }
    found
}
