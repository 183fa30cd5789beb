//! What the stages have given up: asked of /proc, of the kernel's answer to every system call, and of strace.
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, cannot_make_containers, collect, is_root, program, skip_unless, status_field, wait_for};

const CONFINED: &str = env!("CARGO_BIN_EXE_confined");

/// Calls that the parent may make with any arguments; see `CALLS` of parent/src/sandbox.rs, each with its reason.
const ALLOWED: [i64; 27] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_exit_group,
];

/// Allowed for some arguments: here they are made with others where that must kill.
const BY_ARGUMENT: [i64; 5] = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_ioctl, libc::SYS_fcntl, libc::SYS_tgkill];

/// True if the call killed the process, by SIGSYS.
fn kills(arguments: &[i64]) -> bool {
    let words: Vec<String> = arguments.iter().map(i64::to_string).collect();
    let output = Command::new(CONFINED).args(words).stdin(Stdio::null()).output().expect("confined");
    match (output.status.signal(), output.stdout.starts_with(b"survived")) {
        (Some(libc::SIGSYS), false) => true,
        (None, true) => false,
        other => panic!("call {arguments:?}: {other:?} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn exactly_the_allowed_calls_survive() {
    // uretprobe(2) and uprobe(2), 335 and 336, are trampolines of the kernel's own, which no filter is asked about.
    // These end the process, block, or unwind a signal frame that is not there.
    let silent =
        [libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_poll, libc::SYS_ppoll, libc::SYS_restart_syscall];
    let numbers = Mutex::new(
        (0..=470i64)
            .filter(|number| ![335, 336].contains(number))
            .chain([1000, 0x4000_0000, 0x4000_003b])
            .collect::<Vec<_>>(),
    );
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let next = || numbers.lock().unwrap().pop();
                while let Some(number) = next() {
                    if silent.contains(&number) || BY_ARGUMENT.contains(&number) {
                        continue;
                    }
                    // Impossible descriptors and null pointers.
                    if kills(&[number, -1, 0, 0, 0, -1, 0]) == ALLOWED.contains(&number) {
                        wrong.lock().unwrap().push(number);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "calls that are allowed and should not be, or the other way round: {wrong:?}");
}

#[test]
fn arguments_decide_where_a_call_has_two_faces() {
    let exec = i64::from(libc::PROT_EXEC | libc::PROT_READ);
    let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    assert!(kills(&[libc::SYS_mmap, 0, 4096, exec, anonymous, -1, 0]));
    assert!(!kills(&[libc::SYS_mmap, 0, 4096, i64::from(libc::PROT_READ), anonymous, -1, 0]));
    assert!(kills(&[libc::SYS_mprotect, 0, 4096, exec]));
    assert!(!kills(&[libc::SYS_mprotect, 0, 0, i64::from(libc::PROT_READ)]));
    for request in [libc::TIOCSTI, libc::TIOCSCTTY, libc::TIOCSPGRP, libc::TIOCCONS, libc::TIOCLINUX, libc::FIONREAD] {
        assert!(kills(&[libc::SYS_ioctl, 0, request as i64, 0]), "ioctl {request:#x}");
    }
    // Bits that the kernel ignores are no way around: the request is compared whole.
    assert!(kills(&[libc::SYS_ioctl, 0, libc::TIOCSTI as i64 | 1 << 40, 0]));
    assert!(!kills(&[libc::SYS_ioctl, -1, libc::TIOCGWINSZ as i64, 0]));
    // AT_EMPTY_PATH permits an empty path, and does not demand one: it would be any.
    assert!(kills(&[libc::SYS_statx, -1, 0, i64::from(libc::AT_EMPTY_PATH), 0, 0]));
    for command in [libc::F_DUPFD, libc::F_SETFD, libc::F_SETOWN, libc::F_ADD_SEALS] {
        assert!(kills(&[libc::SYS_fcntl, 0, i64::from(command), 0]), "fcntl {command}");
    }
    assert!(!kills(&[libc::SYS_fcntl, -1, i64::from(libc::F_GETFL), 0]));
    let other = i64::from(std::process::id());
    assert!(kills(&[libc::SYS_tgkill, other, other, 0]));
}

/// The worker's filter: each rule that looks at arguments, as it is meant, and every way around it.
#[test]
fn the_worker_names_mounts_by_descriptor_alone() {
    if cannot_make_containers() {
        return;
    }
    let call = |number: i64, arguments: &[&str]| {
        let words =
            ["worker".to_string(), number.to_string()].into_iter().chain(arguments.iter().map(|w| w.to_string()));
        let output = Command::new(CONFINED).args(words).stdin(Stdio::null()).output().expect("confined");
        match (output.status.signal(), output.stdout.starts_with(b"survived")) {
            (Some(libc::SIGSYS), false) => false,
            (None, true) => true,
            other => panic!("{number} {arguments:?}: {other:?} {}", String::from_utf8_lossy(&output.stderr)),
        }
    };
    let clone = (libc::OPEN_TREE_CLONE as i64 | i64::from(libc::O_CLOEXEC) | 0x1000).to_string();
    let recursive = (libc::OPEN_TREE_CLONE as i64 | i64::from(libc::O_CLOEXEC) | 0x9000).to_string();
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).to_string();
    let fixed = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED).to_string();
    let (open_tree, move_mount, set) = (libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr);
    let allowed: [(i64, &[&str]); 11] = [
        (open_tree, &["-1", "empty", &clone]),
        (open_tree, &["-1", "empty", &recursive]),
        (set, &["-1", "empty", "4096", "0", "0"]),
        (set, &["-1", "empty", "36864", "0", "0"]),
        (move_mount, &["-1", "empty", "-1", "empty", "68"]),
        (libc::SYS_statx, &["-1", "empty", "4096", "0", "0"]),
        (libc::SYS_fchownat, &["-1", "empty", "0", "0", "4096"]),
        (libc::SYS_fcntl, &["-1", "1030", "3"]),
        (libc::SYS_mmap, &["0", "4096", "3", &private, "-1", "0"]),
        // The kernel refuses it for want of a directory that is a mount.
        (libc::SYS_pivot_root, &["dot", "dot"]),
        (libc::SYS_openat2, &["-1", "0", "0", "0"]),
    ];
    for (number, arguments) in allowed {
        assert!(call(number, arguments), "{number} {arguments:?} must pass");
    }
    let refused: [(i64, &[&str]); 30] = [
        // A path of the caller's own, however it is flagged; and none at all.
        (open_tree, &["-1", "dot", &clone]),
        (open_tree, &["-1", "4096", &clone]),
        (open_tree, &["-1", "0", &clone]),
        (open_tree, &["-1", "empty", "1"]),
        (open_tree, &["-1", "empty", "4096"]),
        (open_tree, &["-1", "empty", "4097"]),
        (set, &["-1", "dot", "4096", "0", "0"]),
        (set, &["-1", "4096", "4096", "0", "0"]),
        (set, &["-1", "empty", "0", "0", "0"]),
        (set, &["-1", "empty", "4352", "0", "0"]),
        (move_mount, &["-1", "4096", "-1", "empty", "68"]),
        (move_mount, &["-1", "empty", "-1", "4096", "68"]),
        (move_mount, &["-1", "empty", "-1", "empty", "4"]),
        (move_mount, &["-1", "empty", "-1", "empty", "64"]),
        (move_mount, &["-1", "empty", "-1", "empty", "0"]),
        (move_mount, &["-1", "empty", "-1", "empty", "580"]),
        (libc::SYS_statx, &["-1", "4096", "4096", "0", "0"]),
        (libc::SYS_statx, &["-1", "empty", "0", "0", "0"]),
        (libc::SYS_fchownat, &["-1", "4096", "0", "0", "4096"]),
        (libc::SYS_fchownat, &["-1", "empty", "0", "0", "0"]),
        (libc::SYS_umount2, &["empty", "2"]),
        (libc::SYS_umount2, &["dot", "0"]),
        (libc::SYS_umount2, &["4096", "2"]),
        (libc::SYS_pivot_root, &["dot", "empty"]),
        (libc::SYS_fcntl, &["-1", "2", "0"]),
        // Nothing may come to lie over the two paths, nor be executed.
        (libc::SYS_mmap, &["empty", "4096", "3", &fixed, "-1", "0"]),
        (libc::SYS_mmap, &["0", "4096", "7", &private, "-1", "0"]),
        (libc::SYS_munmap, &["empty", "4096"]),
        (libc::SYS_mremap, &["empty", "4096", "4096", "0", "0"]),
        (libc::SYS_mprotect, &["empty", "4096", "3"]),
    ];
    for (number, arguments) in refused {
        assert!(!call(number, arguments), "{number} {arguments:?} must kill");
    }
    for number in [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_mount,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_connect,
        libc::SYS_socket,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_chmod,
        libc::SYS_fchmod,
        libc::SYS_shmat,
        libc::SYS_process_vm_writev,
        libc::SYS_ioctl,
    ] {
        assert!(!call(number, &["-1", "0", "0"]), "{number} must kill");
    }
}

/// What the filter compares addresses with cannot be changed, not even where the kernel lets a debugger write.
#[test]
fn the_paths_that_the_worker_is_bound_to_are_sealed() {
    rspawn_sys::fixed_path::seal().expect("a sealed page");
    let mut memory = fs::OpenOptions::new().write(true).open("/proc/self/mem").expect("own memory");
    for address in [rspawn_sys::fixed_path::empty(), rspawn_sys::fixed_path::dot()] {
        std::io::Seek::seek(&mut memory, std::io::SeekFrom::Start(address as u64)).expect("a place");
        let error = memory.write(b"/").expect_err("a sealed page takes no write");
        assert!([libc::EIO, libc::EFAULT].contains(&error.raw_os_error().unwrap_or(0)), "{error}");
    }
    let page = format!("{:x}-{:x}", rspawn_sys::fixed_path::empty(), rspawn_sys::fixed_path::empty() + 4096);
    let file = fs::OpenOptions::new().write(true).open(format!("/proc/self/map_files/{page}"));
    assert!(file.and_then(|mut file| file.write(b"/")).is_err(), "its file takes no write");
}

#[track_caller]
fn assert_powerless(status: &str) {
    let field = |name: &str| status_field(status, name).unwrap_or_else(|| panic!("no {name}"));
    if is_root() {
        for name in ["Uid", "Gid"] {
            let ids: Vec<&str> = field(name).split_whitespace().collect();
            assert_eq!(ids, ["65534"; 4], "{name}");
        }
        assert_eq!(field("Groups"), "");
        assert_eq!(field("CapBnd"), "0000000000000000");
    }
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(name), "0000000000000000", "{name}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1", "2"));
}

/// The process file is a pipe: the parent is caught between its drop and its parser.
#[test]
fn the_parent_is_powerless_before_it_reads_a_byte() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let mut process = life.bundle.config["process"].clone();
    process["args"] = serde_json::json!(["echo", "ran"]);
    let file = life.bundle.path().join("process.json");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let mut command = life.command(&["exec", "--process"]);
    command.arg(&file).arg(life.id());
    let copy = life.state_directory().join("config.json");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let proc = Path::new("/proc").join(child.id().to_string());
    let status = || fs::read_to_string(proc.join("status")).unwrap_or_default();
    wait_for("the parent confines itself", || status_field(&status(), "Seccomp") == Some("2"));
    assert_powerless(&status());
    // Of descriptors it has its streams, its sockets and signals, the progress page, and config.json: no directory.
    for entry in fs::read_dir(proc.join("fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap();
        let known = ["socket:", "anon_inode:", "/memfd:rspawn-progress", "pipe:"].iter().any(|k| target.starts_with(k));
        // The second copy is for later commands, whose confined parents read it.
        let config = target == file.to_string_lossy() || target == copy.to_string_lossy();
        assert!(number < 3 || known || config, "descriptor {number} is {target}");
    }
    pipe.write_all(process.to_string().as_bytes()).unwrap();
    drop(pipe);
    assert_eq!(collect(child).ok(), "ran\n");
}

#[test]
fn rspawn_setup_keeps_one_right_while_it_supervises() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("touch /started; read x");
    let mut child =
        bundle.command(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the payload starts", || bundle.rootfs().join("started").exists());
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let setup =
        || fs::read_to_string(&children).unwrap_or_default().split_whitespace().next().unwrap_or("").to_string();
    let status = || fs::read_to_string(format!("/proc/{}/status", setup())).unwrap_or_default();
    wait_for("rspawn-setup confines itself", || status_field(&status(), "Seccomp") == Some("2"));
    let status = status();
    assert_eq!(status_field(&status, "Name"), Some("rspawn-setup"));
    for name in ["CapPrm", "CapEff"] {
        assert_eq!(status_field(&status, name), Some("0000000000000020"), "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(status_field(&status, name), Some("0000000000000000"), "{name}");
    }
    assert_eq!(status_field(&status, "NoNewPrivs"), Some("1"));
    // The payload wears none of it.
    drop(child.stdin.take());
    collect(child);
    bundle.assert_nothing_left();
    let seen = Bundle::new()
        .with(|config| config["process"]["noNewPrivileges"] = false.into())
        .with_args(&["grep", "-E", "^(Seccomp|NoNewPrivs|Seccomp_filters):", "/proc/self/status"])
        .run()
        .ok();
    let values: Vec<&str> = seen.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(!values.is_empty() && values.iter().all(|value| *value == "0"), "{seen}");
}

/// strace's view of a whole run: one file a process.
fn traced(bundle: &Bundle) -> Option<Vec<String>> {
    if skip_unless(Path::new("/usr/bin/strace").exists(), "strace is not installed") {
        return None;
    }
    bundle.write_config();
    let prefix = bundle.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-ff", "-qq", "-v", "-s", "300", "-o"]).arg(&prefix).arg(program("rspawn"));
    command.arg("--root").arg(bundle.state_root()).args(["run", "--bundle"]).arg(bundle.path()).arg(&bundle.id);
    rspawn_tests::finish(command, b"").ok();
    let files = fs::read_dir(bundle.path()).unwrap().flatten();
    let traces = files.filter(|file| file.file_name().to_string_lossy().starts_with("trace."));
    Some(traces.map(|file| String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned()).collect())
}

#[test]
fn strace_sees_no_stage_do_what_it_must_not() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("exit 0")
        .with_mount("/a/b/c", "none", "/etc", &["rbind", "ro"])
        .with(|config| config["linux"]["sysctl"] = serde_json::json!({"net.ipv4.ip_forward": "1"}));
    let Some(traces) = traced(&bundle) else { return };
    let name = |line: &str| line.split('(').next().unwrap_or_default().to_string();
    // The parent, from its filter on.
    let parent =
        traces.iter().find(|trace| trace.starts_with("execve(") && trace.contains("landlock")).expect("the parent");
    let after: Vec<&str> = parent.lines().skip_while(|line| !line.starts_with("seccomp(")).skip(1).collect();
    assert!(after.len() > 10, "the parent does nothing after its filter:\n{parent}");
    let calls: BTreeSet<String> = after.iter().map(|line| name(line)).collect();
    for forbidden in ["open", "openat", "openat2", "socket", "connect", "execve", "clone", "clone3", "fork", "kill"] {
        assert!(!calls.contains(forbidden), "the parent calls {forbidden} after its filter");
    }
    // The worker: the one that pivots. Every path is a single component below a descriptor, "." or "/", or is
    // resolved by openat2 below a descriptor with a RESOLVE flag.
    let worker = traces.iter().find(|trace| trace.contains("pivot_root(")).expect("the worker");
    let filtered: Vec<&str> = worker.lines().skip_while(|line| !line.starts_with("seccomp(")).skip(1).collect();
    assert!(filtered.len() > 50);
    for line in filtered {
        let call = name(line);
        let first = line.split('"').nth(1).unwrap_or_default();
        let rest = line.split_once('(').map(|(_, rest)| rest).unwrap_or_default();
        match call.as_str() {
            "openat2" if rest.starts_with("AT_FDCWD") => assert!(first == "/", "{line}"),
            "openat2" => {
                assert!(!first.starts_with('/') && line.contains("RESOLVE_NO_MAGICLINKS"), "{line}");
                assert!(line.contains("RESOLVE_IN_ROOT") || line.contains("RESOLVE_BENEATH"), "{line}");
            }
            "mkdirat" | "mknodat" | "statx" | "fchownat" | "open_tree" | "mount_setattr" | "newfstatat" => {
                assert!(!first.contains('/'), "{line}");
                assert!(!rest.starts_with("AT_FDCWD"), "{line}");
            }
            "symlinkat" => {
                let link = line.split('"').nth(3).unwrap_or_default();
                assert!(!link.contains('/') && !line.contains("AT_FDCWD"), "{line}");
            }
            "move_mount" => {
                assert!(line.contains("\"\"") && !line.contains('/') && !line.contains("AT_FDCWD"), "{line}")
            }
            "pivot_root" | "umount2" => assert!(first == ".", "{line}"),
            "open" | "openat" | "mount" | "chmod" | "chown" | "mkdir" | "mknod" | "rename" | "link" | "execve"
            | "execveat" | "ptrace" | "connect" | "unlink" | "symlink" | "chdir" | "chroot" => {
                panic!("the worker: {line}")
            }
            _ => {}
        }
    }
    // Nobody opens a terminal or a stream by its name.
    for trace in &traces {
        for line in trace.lines().filter(|line| name(line).starts_with("open")) {
            let path = line.split('"').nth(1).unwrap_or_default();
            assert!(!path.starts_with("/dev/pts/"), "{line}");
            assert!(!["/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"].contains(&path), "{line}");
        }
    }
}
