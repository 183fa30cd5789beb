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
        Some("confinement") => confinement(arguments.get(2)),
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
    nix::unistd::chroot(".").expect("chroot");
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

/// Says how this process is confined, by what the kernel says of it and by trying. To a file, if one is named.
fn confinement(file: Option<&String>) {
    use std::fmt::Write as _;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}\n"));
    let mut text = String::new();
    let wanted = [
        "Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
        "NoNewPrivs", "Seccomp", "Seccomp_filters",
    ];
    let status = read("/proc/self/status");
    let is_wanted = |line: &&str| line.split_once(':').is_some_and(|(name, _)| wanted.contains(&name));
    status.lines().filter(is_wanted).for_each(|line| text.extend([line, "\n"]));
    read("/proc/self/limits").lines().for_each(|line| text.extend(["limit ", line, "\n"]));
    read("/proc/self/cgroup").lines().for_each(|line| text.extend(["cgroup ", line, "\n"]));
    text.extend(["oom ", &read("/proc/self/oom_score_adj")]);
    text.extend(["hostname ", &read("/proc/sys/kernel/hostname")]);
    for line in read("/proc/self/mountinfo").lines() {
        // Numbers of mounts and devices are others each time.
        let mut fields = line.split(' ').skip(3);
        let place: Vec<&str> = fields.by_ref().take(3).collect();
        let kind = fields.skip_while(|field| *field != "-").nth(1).unwrap_or_default();
        let _ = writeln!(text, "mount {} {kind}", place.join(" "));
    }
    let error = |done: std::io::Result<()>| done.map_or_else(|error| error.to_string(), |()| "done".into());
    let nodes = [("c", 1, 3), ("c", 1, 1), ("c", 1, 11), ("c", 10, 229), ("b", 7, 0), ("b", 1, 0)];
    for (index, (kind, major, minor)) in nodes.into_iter().enumerate() {
        let name = format!("/tmp/node{index}");
        // Of one that was killed at it.
        let _ = std::fs::remove_file(&name);
        let words = [name.as_str(), kind, &major.to_string(), &minor.to_string()].map(str::to_string);
        let made = std::process::Command::new("/bin/mknod").args(words).status().is_ok_and(|status| status.success());
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(&name).map(drop);
        let _ = std::fs::remove_file(&name);
        let _ = writeln!(text, "device {kind} {major}:{minor} made {made}, opened {}", error(opened));
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"] {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(path).map(|found| (found.mode(), found.rdev(), found.len()));
        let _ = writeln!(text, "masked {path} {:?}", found.map_err(|error| error.to_string()));
    }
    for path in ["/proc/sys/kernel/panic", "/proc/sysrq-trigger", "/proc/irq/0/smp_affinity", "/data/new", "/sys/new"] {
        let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).map(drop);
        let _ = writeln!(text, "read-only {path} {}", error(opened));
    }
    match file {
        Some(file) => std::fs::write(file, text).expect("a file"),
        None => print!("{text}"),
    }
}
