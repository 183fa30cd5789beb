//! A static program for containers of the tests: what busybox's applets cannot say or do.
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::{Duration, Instant};

use rspawn_sys::process::{self, Side};
use rspawn_sys::{file, signal};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| arguments.get(index).and_then(|word| word.parse().ok()).unwrap_or(0);
    match arguments.get(1).map(String::as_str) {
        Some("orphans") => orphans(number(2)),
        Some("signals") => signals(),
        Some("args") => arguments[2..].iter().for_each(|argument| println!("{argument:?}")),
        Some("fds") => fds(),
        Some("exit") => std::process::exit(number(2)),
        Some("shout") => shout(number(2)),
        Some("escape") => escape(),
        other => panic!("unknown request {other:?}"),
    }
}

/// Makes that many orphans, and says how many zombies are left when the last has ended.
fn orphans(count: i32) {
    for _ in 0..count {
        let Ok(Side::Parent { pid, .. }) = process::fork(0).map(|side| match side {
            // The child leaves a child of its own behind.
            Side::Child => {
                let _ = process::fork(0);
                process::exit(0)
            }
            parent => parent,
        }) else {
            panic!("cannot fork");
        };
        while !matches!(process::wait(pid, true), Ok(Some(_))) {}
    }
    // They end at once; PID 1 may need a moment.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut left = zombies();
    while left > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        left = zombies();
    }
    println!("zombies {left}");
}

fn zombies() -> usize {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))).count()
}

/// Names every signal that arrives, until SIGTERM; then how many there were of each.
fn signals() {
    let _ = signal::set_blocked(u64::MAX);
    println!("ready");
    let mut seen = [0u32; 65];
    while seen[15] == 0 {
        if let Ok(number) = signal::wait(u64::MAX) {
            seen[number as usize] += 1;
            if seen[number as usize] == 1 {
                println!("{number}");
                let _ = std::io::stdout().flush();
            }
        }
    }
    println!("first real-time signal: {}", seen[34]);
}

/// Lists the open descriptors, but the one that lists them.
fn fds() {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten();
    let mut open: Vec<(i32, String)> = entries
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((entry.file_name().to_string_lossy().parse().ok()?, target))
        })
        .filter(|(_, target)| !target.ends_with("/fd"))
        .collect();
    open.sort();
    open.iter().for_each(|(number, target)| println!("{number} {target}"));
}

/// Prints that many numbered lines and ends at once.
fn shout(lines: i32) {
    let text: String = (0..lines).map(|line| format!("line {line}\n")).collect();
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// The old way out of a chroot(2): a working directory that is not below the root any more, and then up. Lists where
/// that leads to.
fn escape() {
    let outside = file::open_host("/", file::O_RDONLY | file::O_DIRECTORY).expect("the root");
    let _ = std::fs::create_dir("/below");
    file::change_directory_to("/below").expect("a directory");
    file::change_root_to_working_directory().expect("chroot");
    file::change_directory(&outside).expect("fchdir");
    for _ in 0..64 {
        file::change_directory_to("..").expect("the directory above");
    }
    let mut names: Vec<String> = std::fs::read_dir(".")
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    println!("{}", names.join(" "));
}
