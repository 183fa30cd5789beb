//! `process`: what the payload finds itself to be.
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::{Bundle, cannot_make_containers, finish, own_nice, skip_unless, status_field};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// A bundle whose `process` is changed.
fn with_process(bundle: Bundle, changes: Value) -> Bundle {
    bundle.with(|config| {
        for (name, value) in changes.as_object().expect("an object") {
            config["process"][name] = value.clone();
        }
    })
}

fn script(script: &str, changes: Value) -> Bundle {
    with_process(Bundle::script(script), changes)
}

#[test]
fn arguments_arrive_as_they_are() {
    if cannot_make_containers() {
        return;
    }
    let arguments = ["", "two words", "new\nline", "ünï", "--", "--stage=3", "-x", "$HOME \"'\\", &"x".repeat(50_000)];
    let bundle = Bundle::payload(&[&["args"], arguments.as_slice()].concat());
    let expected: String = arguments.iter().map(|argument| format!("{argument:?}\n")).collect();
    for mode in ["supervise", "exec"] {
        assert_eq!(bundle.run_with(&[&format!("--init={mode}")], b"").ok(), expected);
    }
}

#[test]
fn the_environment_is_the_configured_one_alone() {
    if cannot_make_containers() {
        return;
    }
    let env = json!(["PATH=/bin", "HOME=/h", "EMPTY=", "EQUALS=a=b", "TWICE=1", "ODD-name=ü", "TWICE=2"]);
    let output = with_process(Bundle::new().with_args(&["env"]), json!({ "env": env })).run().ok();
    // Of two entries of a name the last one counts, as with runc.
    assert_eq!(output, "PATH=/bin\nHOME=/h\nEMPTY=\nEQUALS=a=b\nODD-name=ü\nTWICE=2\n");
}

#[test]
fn home_comes_from_the_images_passwd_file() {
    if cannot_make_containers() {
        return;
    }
    let run = |env: Value, uid: u32, passwd: Option<&str>| {
        let user = json!({"uid": uid, "gid": uid});
        let bundle = script("echo $HOME", json!({"env": env, "user": user}));
        if let Some(text) = passwd {
            fs::write(bundle.rootfs().join("etc/passwd"), text).unwrap();
        }
        bundle.run().ok().trim_end().to_string()
    };
    let path = || json!(["PATH=/bin"]);
    let passwd = "root:x:0:0:root:/root:/bin/sh\n# no line\nlong:x:5:5:".to_string()
        + &"x".repeat(3000)
        + ":/wrong:\nuser:x:1000:1000:U,,:/home/user:/bin/sh\nlast:x:1001:1001::/home/last:/bin/sh";
    assert_eq!(run(path(), 0, Some(&passwd)), "/root");
    assert_eq!(run(path(), 1000, Some(&passwd)), "/home/user");
    assert_eq!(run(path(), 1001, Some(&passwd)), "/home/last");
    assert_eq!(run(path(), 1002, Some(&passwd)), "/");
    assert_eq!(run(path(), 0, None), "/");
    assert_eq!(run(json!(["PATH=/bin", "HOME="]), 1000, Some(&passwd)), "/home/user");
    assert_eq!(run(json!(["PATH=/bin", "HOME=/set"]), 1000, Some(&passwd)), "/set");
    // In the place of an empty entry, not beside it.
    let bundle = with_process(Bundle::new().with_args(&["env"]), json!({"env": ["PATH=/bin", "HOME=", "A=b"]}));
    assert_eq!(bundle.run().ok(), "PATH=/bin\nA=b\nHOME=/\n");
}

#[test]
fn home_is_looked_up_with_the_payloads_rights() {
    if cannot_make_containers() {
        return;
    }
    let user = json!({"uid": 1000, "gid": 1000});
    let bundle = script("echo $HOME", json!({"env": ["PATH=/bin"], "user": user}));
    let passwd = bundle.rootfs().join("etc/passwd");
    fs::write(&passwd, "user:x:1000:1000::/secret:/bin/sh\n").unwrap();
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bundle.run().ok(), "/\n");
    // What would make it wait, or never end, is no reason not to start.
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    assert_eq!(bundle.run().ok(), "/\n");
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    assert_eq!(bundle.run().ok(), "/\n");
}

#[test]
fn a_missing_working_directory_is_made() {
    if cannot_make_containers() {
        return;
    }
    let bundle = script("pwd; stat -c '%a %u' . ..", json!({"cwd": "/deep/er/est"}))
        .with(|config| config["root"]["readonly"] = json!(true));
    assert_eq!(bundle.run().ok(), "/deep/er/est\n755 0\n755 0\n");
    assert_eq!(script("pwd", json!({"cwd": "/tmp/../bin//./"})).run().ok(), "/bin\n");
    let refused = script("pwd", json!({"cwd": "bin"})).run().refused();
    assert!(refused.contains("/process/cwd"), "{refused}");
}

#[test]
fn a_working_directory_may_be_a_symlink() {
    if cannot_make_containers() {
        return;
    }
    let bundle = script("pwd -P; touch here", json!({"cwd": "/link"}));
    fs::create_dir(bundle.rootfs().join("var/target")).unwrap();
    // An absolute link starts at the container's root, not at the host's.
    symlink("/var/target", bundle.rootfs().join("link")).unwrap();
    assert_eq!(bundle.run().ok(), "/var/target\n");
    assert!(bundle.rootfs().join("var/target/here").exists());
    let file = script("pwd", json!({"cwd": "/bin/busybox"})).run().refused();
    assert!(file.contains("/process/cwd") && file.contains("ENOTDIR"), "{file}");
}

#[test]
fn a_working_directory_that_only_its_owner_may_enter() {
    if cannot_make_containers() {
        return;
    }
    let user = json!({"uid": 1000, "gid": 1000});
    let bundle = script("pwd", json!({"cwd": "/own", "user": user}));
    let own = bundle.rootfs().join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    nix::unistd::chown(&own, Some(1000.into()), Some(1000.into())).unwrap();
    assert_eq!(bundle.run().ok(), "/own\n");
}

#[test]
fn ids_groups_and_umask_are_numbers() {
    if cannot_make_containers() {
        return;
    }
    let user = json!({"uid": 1234, "gid": 2345, "umask": 0o027, "additionalGids": [5, 4_294_967_294u32, 77]});
    for mode in ["--init=supervise", "--init=exec"] {
        let output = script("cat /proc/self/status; umask", json!({"user": user})).run_with(&[mode], b"").ok();
        assert_eq!(status_field(&output, "Uid"), Some("1234\t1234\t1234\t1234"));
        assert_eq!(status_field(&output, "Gid"), Some("2345\t2345\t2345\t2345"));
        assert_eq!(status_field(&output, "Groups"), Some("5 77 4294967294"));
        assert_eq!(status_field(&output, "Umask"), Some("0027"));
        assert!(output.ends_with("\n0027\n"));
    }
    // Nothing of the caller's groups is left where none are asked for.
    let output = script("cat /proc/self/status", json!({})).run().ok();
    assert_eq!((status_field(&output, "Groups"), status_field(&output, "Umask")), (Some(""), Some("0022")));
}

#[test]
fn resource_limits_of_every_kind() {
    if cannot_make_containers() {
        return;
    }
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    // Words of /proc/PID/limits, and values that are low enough for a caller without CAP_SYS_RESOURCE.
    let kinds = [
        ("RLIMIT_CPU", "Max cpu time", 1000u64, 2000u64),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", "Max data size", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
        ("RLIMIT_CORE", "Max core file size", 0, 0),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_NPROC", "Max processes", 900, 1000),
        ("RLIMIT_NOFILE", "Max open files", 100, 200),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_AS", "Max address space", 1 << 32, 1 << 33),
        ("RLIMIT_LOCKS", "Max file locks", 10, 20),
        ("RLIMIT_SIGPENDING", "Max pending signals", 30, 40),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 50, 60),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 70_000, 80_000),
    ];
    let field = |limits: &str, words: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(words)).unwrap_or_else(|| panic!("{words}"));
        line.split_whitespace().take(2).map(str::to_string).collect()
    };
    let possible = |hard: u64, words: &str| {
        let most = &field(&own, words)[1];
        most == "unlimited" || most.parse::<u64>().unwrap() >= hard
    };
    let asked: Vec<_> = kinds.iter().filter(|(_, words, _, hard)| possible(*hard, words)).collect();
    assert!(asked.len() >= 10, "{asked:?} of {own}");
    let limits: Vec<Value> =
        asked.iter().map(|(kind, _, soft, hard)| json!({"type": kind, "soft": soft, "hard": hard})).collect();
    let seen = script("cat /proc/self/limits", json!({ "rlimits": limits })).run().ok();
    for (kind, words, soft, hard) in asked {
        assert_eq!(field(&seen, words), [soft.to_string(), hard.to_string()], "{kind}");
    }
}

/// Root of a user namespace may raise none; who set it up may.
#[test]
fn higher_limits_in_a_user_namespace() {
    let may_raise = caps_of_this_process() & (1 << 24) != 0;
    if cannot_make_containers() || skip_unless(may_raise, "this process lacks CAP_SYS_RESOURCE") {
        return;
    }
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000}]);
    let bundle = script("ulimit -n; ulimit -H -n", json!({ "rlimits": limits })).with(in_user_namespace);
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = bundle.command(&[]);
    let mut low = std::process::Command::new("sh");
    low.args(["-c", "ulimit -S -n 512; ulimit -H -n 512; exec \"$0\" \"$@\""]);
    low.arg(run.get_program()).args(run.get_args());
    assert_eq!(rspawn_tests::finish(low, b"").ok(), "2000\n3000\n");
}

#[test]
fn a_limit_that_cannot_be_raised_is_named() {
    let may_raise = caps_of_this_process() & (1 << 24) != 0;
    if cannot_make_containers() || skip_unless(!may_raise, "this process has CAP_SYS_RESOURCE") {
        return;
    }
    let limits = json!([
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NICE", "soft": 40, "hard": 40},
    ]);
    let refused = script("true", json!({ "rlimits": limits })).run().refused();
    assert_eq!(
        refused,
        "rspawn: config.json /process/rlimits/1: set RLIMIT_NICE to soft 40, hard 40: EPERM: Operation not permitted; \
         raising a hard limit needs CAP_SYS_RESOURCE on the host\n"
    );
    for (limits, pointer) in [
        (json!([{"type": "RLIMIT_NOFILES", "soft": 1, "hard": 1}]), "/process/rlimits/0/type"),
        (json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "/process/rlimits/0/soft"),
    ] {
        let refused = script("true", json!({ "rlimits": limits })).run().refused();
        assert!(refused.contains(pointer), "{refused}");
    }
}

fn caps_of_this_process() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    u64::from_str_radix(status_field(&status, "CapEff").unwrap(), 16).unwrap()
}

#[test]
fn no_new_privileges_is_what_was_asked() {
    if cannot_make_containers() {
        return;
    }
    for (asked, seen) in [(true, "1"), (false, "0")] {
        for mode in ["--init=supervise", "--init=exec"] {
            let output = script("cat /proc/self/status", json!({"noNewPrivileges": asked})).run_with(&[mode], b"").ok();
            assert_eq!(status_field(&output, "NoNewPrivs"), Some(seen), "{mode}");
            assert_eq!(status_field(&output, "Seccomp"), Some("0"), "{mode}");
        }
    }
}

/// Field of /proc/PID/stat by its number in proc_pid_stat(5).
fn stat_field(stat: &str, number: usize) -> i64 {
    let after_name = stat.rsplit(')').next().expect("a name");
    after_name.split_whitespace().nth(number - 3).expect("a field").parse().expect("a number")
}

#[test]
fn scheduling_policies_and_nice_values() {
    if cannot_make_containers() {
        return;
    }
    // Policy numbers of sched(7).
    for (scheduler, policy, nice) in [
        (json!({"policy": "SCHED_OTHER", "nice": 7}), 0, 7),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), 3, 3),
        (json!({"policy": "SCHED_IDLE"}), 5, i64::from(own_nice())),
        (json!({"policy": "SCHED_OTHER", "nice": -5}), 0, -5),
    ] {
        let stat = script("cat /proc/self/stat", json!({ "scheduler": scheduler })).run().ok();
        assert_eq!((stat_field(&stat, 41), stat_field(&stat, 19)), (policy, nice), "{scheduler}");
    }
    let wrong = script("true", json!({"scheduler": {"policy": "SCHED_FAST"}})).run().refused();
    assert!(wrong.contains("/process/scheduler/policy"), "{wrong}");
}

#[test]
fn real_time_policies() {
    let possible = || std::process::Command::new("chrt").args(["-f", "10", "true"]).output();
    if cannot_make_containers()
        || skip_unless(possible().is_ok_and(|o| o.status.success()), "this machine grants no real-time priority")
    {
        return;
    }
    for (name, policy) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
        let scheduler = json!({"policy": name, "priority": 12, "flags": []});
        // A cgroup of v1 begins without real-time runtime where the kernel divides it among groups.
        let divided = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
        let bundle = script("cat /proc/self/stat", json!({ "scheduler": scheduler })).with(|config| {
            if divided {
                config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 1000});
            }
        });
        let stat = bundle.run().ok();
        assert_eq!((stat_field(&stat, 41), stat_field(&stat, 40)), (policy, 12), "{name}");
    }
}

#[test]
fn io_priority() {
    let has_ionice = std::process::Command::new("ionice").arg("-V").output().is_ok();
    if cannot_make_containers() || skip_unless(has_ionice, "ionice (util-linux) is missing") {
        return;
    }
    // busybox's ionice says what it finds.
    for (class, level, seen) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6\n"),
        ("IOPRIO_CLASS_IDLE", 0, "idle\n"),
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2\n"),
    ] {
        let priority = json!({"class": class, "priority": level});
        let output = script("busybox ionice", json!({ "ioPriority": priority })).run();
        assert!(output.status == 0 && output.stdout.starts_with(seen.trim_end()), "{class}: {output:?}");
    }
    let wrong = script("true", json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}})).run().refused();
    assert!(wrong.contains("/process/ioPriority/priority"), "{wrong}");
}

#[test]
fn cpu_affinity_of_exec_does_not_bind_the_first_process() {
    if cannot_make_containers() {
        return;
    }
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let affinity = json!({"initial": "0", "final": "0"});
    let seen = script("cat /proc/self/status", json!({"execCPUAffinity": affinity})).run().ok();
    assert_eq!(status_field(&seen, "Cpus_allowed_list"), status_field(&own, "Cpus_allowed_list"));
}

#[test]
fn labels_without_their_security_module_are_refused() {
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'));
    let selinux = fs::exists("/sys/fs/selinux/enforce").unwrap_or(false);
    if cannot_make_containers() || skip_unless(!apparmor && !selinux, "this machine has AppArmor or SELinux") {
        return;
    }
    for name in ["apparmorProfile", "selinuxLabel"] {
        let refused = script("true", json!({name: "something"})).run().refused();
        assert!(refused.contains(&format!("/process/{name}")), "{refused}");
        // Engines write the key with nothing in it.
        script("true", json!({name: ""})).run().ok();
    }
}

#[test]
fn the_session_keyring_is_new_unless_told_otherwise() {
    let keys = fs::read_to_string("/proc/keys").is_ok();
    if cannot_make_containers() || skip_unless(keys, "this kernel shows no /proc/keys") {
        return;
    }
    let bundle = script("cat /proc/keys", json!({})).with(|config| config["linux"]["maskedPaths"] = json!([]));
    let own = format!("_ses.{}", bundle.id);
    let with = bundle.run();
    let found = with.stdout.contains(&own);
    // A sandbox may refuse keyctl(2) to everyone.
    if skip_unless(found || !with.stdout.is_empty(), "no keyring shows in /proc/keys here") {
        return;
    }
    assert!(found, "{with:?}");
    let bundle = script("cat /proc/keys", json!({})).with(|config| config["linux"]["maskedPaths"] = json!([]));
    let without = bundle.run_with(&["--no-new-keyring"], b"").ok();
    assert!(!without.contains(&format!("_ses.{}", bundle.id)), "{without}");
}

/// A container's processes find each other's keys: tickets of Kerberos, say.
#[test]
fn exec_joins_the_containers_session_keyring() {
    let keys = fs::read_to_string("/proc/keys").is_ok();
    if cannot_make_containers() || skip_unless(keys, "this kernel shows no /proc/keys") {
        return;
    }
    for user in [false, true] {
        let bundle = script("cat /proc/keys >/keys; echo >/done; sleep 1000", json!({})).with(|config| {
            config["linux"]["maskedPaths"] = json!([]);
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
            if user {
                in_user_namespace(config);
            }
        });
        for directory in [bundle.path(), &bundle.rootfs()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let life = rspawn_tests::life::Life::new(bundle);
        life.created(&[]).started();
        rspawn_tests::wait_for("the payload", || !life.file("done").is_empty());
        let number = |keys: &str| {
            let of_name = keys.lines().find(|line| line.contains(&format!("_ses.{}", life.id())));
            of_name.and_then(|line| line.split(' ').next()).map(str::to_string)
        };
        let own = number(&life.file("keys"));
        if skip_unless(own.is_some(), "no keyring shows in /proc/keys here") {
            return;
        }
        assert_eq!(number(&life.exec(&[], &["cat", "/proc/keys"]).ok()), own);
        life.delete(&["--force"]).ok();
    }
}

/// A test's own files, open in the program that it starts under the numbers wanted.
fn run_with_descriptors(bundle: &Bundle, numbers: &[u32], options: &[&str]) -> String {
    let command = bundle.command(options);
    let redirects: String = numbers.iter().map(|number| format!(" {number}</etc/hostname")).collect();
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(format!("exec \"$@\"{redirects}")).arg("bash");
    shell.arg(command.get_program()).args(command.get_args());
    let output = finish(shell, b"").ok();
    bundle.assert_nothing_left();
    output
}

/// Numbers of the descriptors that the payload has, and what each is.
fn descriptors(output: &str) -> Vec<(u32, String)> {
    let parse = |line: &str| {
        let (number, target) = line.split_once(' ').expect("number and target");
        (number.parse().expect("a number"), target.to_string())
    };
    output.lines().map(parse).collect()
}

#[test]
fn no_descriptor_of_the_callers_gets_in() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::payload(&["fds"]);
    let leaked: Vec<u32> = (3..53).collect();
    for mode in ["--init=supervise", "--init=exec"] {
        let seen = descriptors(&run_with_descriptors(&bundle, &leaked, &[mode]));
        assert_eq!(seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2], "{seen:?}");
    }
}

#[test]
fn preserved_descriptors_are_those_and_no_others() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::payload(&["fds"]);
    for mode in ["--init=supervise", "--init=exec"] {
        // Open: 3, 5, 8 and one beyond; holes at 4, 6 and 7, which no descriptor of rspawn's may fill.
        let seen = descriptors(&run_with_descriptors(&bundle, &[3, 5, 8, 9], &["--preserve-fds=6", mode]));
        assert_eq!(seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 5, 8], "{seen:?}");
        assert!(seen[3..].iter().all(|(_, target)| target == "/etc/hostname"), "{seen:?}");
    }
}

#[test]
fn the_init_does_not_hold_preserved_descriptors_open() {
    if cannot_make_containers() {
        return;
    }
    // The payload closes its end of the pipe and lives on: whoever reads it must see that.
    let bundle = Bundle::script("exec 3>&-; sleep 60");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    fcntl(&reader, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    fcntl(&writer, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let command = bundle.command(&["--preserve-fds=1", "--init=supervise"]);
    let mut shell = std::process::Command::new("bash");
    // The parent of the pipeline keeps no end of it, and neither does the shell.
    let redirect = format!("exec \"$@\" 3>/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    shell.arg("-c").arg(redirect).arg("bash").arg(command.get_program()).args(command.get_args());
    let mut child = shell.spawn().unwrap();
    // The shell has opened it by the time that the container runs.
    rspawn_tests::wait_for("the container", || !rspawn_tests::container_processes(&bundle).is_empty());
    drop(writer);
    let mut byte = [0u8; 1];
    let ended = std::thread::spawn(move || nix::unistd::read(&reader, &mut byte));
    rspawn_tests::wait_for("the end of the pipe", || ended.is_finished());
    assert_eq!(ended.join().unwrap(), Ok(0));
    child.kill().unwrap();
    child.wait().unwrap();
    bundle.assert_nothing_left();
}

#[test]
fn signals_are_neither_blocked_nor_ignored() {
    if cannot_make_containers() {
        return;
    }
    for mode in ["--init=supervise", "--init=exec"] {
        // The caller ignores some, as conmon and `nohup` do.
        let bundle = Bundle::new().with_args(&["cat", "/proc/self/status"]);
        let command = bundle.command(&[mode]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "trap '' PIPE HUP INT USR1; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        let status = finish(shell, b"").ok();
        for field in ["SigBlk", "SigIgn", "SigCgt", "ShdPnd", "SigPnd"] {
            assert_eq!(status_field(&status, field), Some("0000000000000000"), "{field} {mode}");
        }
    }
    // A writer to a closed pipe dies of it, and does not write on for ever.
    let output = Bundle::script("seq 1 100000000 | head -n 1").run();
    assert_eq!((output.status, output.stdout.as_str()), (0, "1\n"), "{}", output.stderr);
}
