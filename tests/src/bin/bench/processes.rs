//! Looking at running processes.
use std::fs;
use std::time::{Duration, Instant};

use rspawn_tests::status_field;

/// Every process and its parent.
fn pairs() -> impl Iterator<Item = (u32, u64)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, kilobytes_or_number(pid, "status", "PPid")?)))
}

/// Pids of the children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    pairs().filter(|(_, of)| *of == u64::from(parent)).map(|(pid, _)| pid).collect()
}

/// Pids of the children of a process, their children, and so on.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let all: Vec<(u32, u64)> = pairs().collect();
    let mut found = vec![ancestor];
    let mut index = 0;
    while index < found.len() {
        let parent = u64::from(found[index]);
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        index += 1;
    }
    found.split_off(1)
}

/// The first child of a process; waits for it to appear.
pub fn first_child(parent: u32) -> Option<u32> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if let Some(child) = children(parent).first() {
            return Some(*child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A number from /proc/PID/status or smaps_rollup: kilobytes where the file says kB.
pub fn kilobytes_or_number(pid: u32, file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    status_field(&text, field)?.split_whitespace().next()?.parse().ok()
}
