//! Looking at running processes.
use std::fs;
use std::time::{Duration, Instant};

use rspawn_tests::status_field;

/// Pids of the children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| kilobytes_or_number(*pid, "status", "PPid") == Some(u64::from(parent))).collect()
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
