//! What a person changes about a bundle on the command line, looked at from inside the container.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rspawn_tests::mountinfo::mount_at;
use rspawn_tests::{
    Bundle, Output, Scratch, cannot_make_containers, finish, leftovers, program, status_field, wait_for,
};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

/// A bundle with users in its root.
fn with_users(script: &str) -> Bundle {
    let bundle = Bundle::script(script);
    let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n1001:x:0:0::/:/bin/sh\n";
    fs::write(bundle.rootfs().join("etc/passwd"), passwd).unwrap();
    fs::write(bundle.rootfs().join("etc/group"), "users:x:100:\naudio:x:29:bob,alice\n").unwrap();
    bundle
}

#[track_caller]
fn run(bundle: &Bundle, options: &[&str]) -> String {
    bundle.run_with(options, b"").ok()
}

#[track_caller]
fn refusal(bundle: &Bundle, options: &[&str]) -> String {
    bundle.run_with(options, b"").refused()
}

#[test]
fn the_payload_and_its_surroundings() {
    if cannot_make_containers() {
        return;
    }
    let script = "pwd; hostname; echo $A $B; touch /x; test $$ = 1 || echo beside; grep -E 'NoNewPrivs' /proc/self/status; \
        cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; uname -m";
    let options = [
        "--chdir=/tmp", "--hostname=other", "--setenv=A=a b", "--setenv=B", "--read-only", "--as-pid2",
        "--no-new-privileges=no", "--oom-score-adjust=500", "--rlimit=NOFILE=100:200", "--personality=x86",
    ];
    let bundle = Bundle::script(script);
    let mut command = bundle.command(&options);
    command.env("B", "inherited");
    let output = finish(command, b"");
    let expected = "/tmp\nother\na b inherited\nbeside\nNoNewPrivs:\t0\n500\n100\n200\n";
    assert!(output.stdout.starts_with(expected), "{output:?}");
    assert!(["i686", "armv8l"].contains(&output.stdout.lines().last().unwrap()), "{output:?}");
    assert!(output.stderr.contains("touch: /x: Read-only file system"), "{output:?}");
    // A name alone that is not set stays unset, and without options everything is the bundle's.
    let bundle = Bundle::script("echo [$B] $(pwd)");
    let mut command = bundle.command(&["--setenv=B"]);
    command.env_remove("B");
    assert_eq!(finish(command, b"").ok(), "[] /\n");
}

#[test]
fn a_command_takes_the_place_of_the_bundles() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo the bundle's");
    let mut command = bundle.command(&[]);
    command.args(["--", "echo", "ours"]);
    assert_eq!(finish(command, b"").ok(), "ours\n");
}

#[test]
fn users_by_name_and_number() {
    if cannot_make_containers() {
        return;
    }
    let who = "id -u; id -g; id -G; echo $HOME $USER; grep -E 'CapEff|CapPrm' /proc/self/status";
    let none = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n";
    let bundle = with_users(who);
    assert_eq!(run(&bundle, &["--user=alice"]), format!("1000\n100\n100 29\n/home/alice alice\n{none}"));
    // A word of digits is a number, whatever the image calls its users (CVE-2016-3697).
    assert!(run(&bundle, &["--user=1001"]).starts_with("1001\n1001\n1001\n"));
    assert!(run(&bundle, &["--user=7:8"]).starts_with("7\n8\n8\n"));
    // A group beside the user is the only one, as with docker.
    assert!(run(&bundle, &["--user=alice:audio"]).starts_with("1000\n29\n29\n/home/alice alice\n"));
    assert!(run(&bundle, &["--user=7:users"]).starts_with("7\n100\n100\n"));
    let reason = "--user=alice:wheel: the container's /etc/group has no group \"wheel\"";
    assert!(refusal(&bundle, &["--user=alice:wheel"]).contains(reason));
    assert!(refusal(&bundle, &["--user=bob"]).contains("--user=bob: the container's /etc/passwd has no user \"bob\""));
    for bad in ["4294967295", "-1", "1x", "", "7:", "alice:"] {
        assert!(refusal(&bundle, &[&format!("--user={bad}")]).contains("--user="), "{bad}");
    }
}

/// The image decides who its users are, and nothing else: not what is opened, nor how long that takes.
#[test]
fn the_user_database_is_the_images_alone() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_users("id -u");
    let passwd = bundle.rootfs().join("etc/passwd");
    let outside = Scratch::new();
    fs::write(outside.path.join("passwd"), "eve:x:0:0::/:/bin/sh\n").unwrap();
    fs::remove_file(&passwd).unwrap();
    // A link leads to where it leads inside.
    symlink(outside.path.join("passwd"), &passwd).unwrap();
    assert!(refusal(&bundle, &["--user=eve"]).contains("no file /etc/passwd"));
    fs::remove_file(&passwd).unwrap();
    symlink("../data/users", &passwd).unwrap();
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    fs::write(bundle.rootfs().join("data/users"), "alice:x:5:5::/:/bin/sh\n").unwrap();
    assert_eq!(run(&bundle, &["--user=alice"]), "5\n");
    // A FIFO keeps nobody waiting; devices are not opened; what is no passwd file has no users.
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    assert!(refusal(&bundle, &["--user=alice"]).contains("no file /etc/passwd"));
    fs::remove_file(&passwd).unwrap();
    fs::write(&passwd, [b"alice\xff:::\nalice:x:4294967296:0::/:\n".as_slice(), &[0; 4096]].concat()).unwrap();
    assert!(refusal(&bundle, &["--user=alice"]).contains("no valid ids"));
    fs::write(&passwd, vec![b'x'; 5 << 20]).unwrap();
    assert!(refusal(&bundle, &["--user=alice"]).contains("larger than 4 MiB"));
    fs::remove_dir_all(bundle.rootfs().join("etc")).unwrap();
    assert!(refusal(&bundle, &["--user=alice"]).contains("no file /etc/passwd"));
}

#[test]
fn binds() {
    if cannot_make_containers() {
        return;
    }
    let data = Scratch::new();
    let path = data.path.to_str().unwrap();
    fs::write(data.path.join("file"), "content\n").unwrap();
    fs::create_dir(data.path.join("a:b")).unwrap();
    let script = "cat /data/file /one; touch /data/new; touch /ro/new; ls -d /c:d; cat /proc/self/mountinfo";
    let bundle = Bundle::script(script);
    let options = [
        format!("--bind={path}:/data"),
        format!("--bind-ro={path}:/ro"),
        format!("--bind={path}/file:/one"),
        format!("--bind=-{path}/missing:/missing"),
        format!("--bind={path}/a\\:b:/c\\:d:noexec,norbind"),
    ];
    let output = bundle.run_with(&options.each_ref().map(String::as_str), b"");
    assert!(output.stdout.starts_with("content\ncontent\n/c:d\n"), "{output:?}");
    assert!(output.stderr.contains("touch: /ro/new: Read-only file system"), "{output:?}");
    assert!(output.stderr.contains(&format!("warning: --bind=-{path}/missing:/missing: left out")), "{output:?}");
    assert!(data.path.join("new").exists() && !bundle.rootfs().join("missing").exists());
    assert!(mount_at(&output.stdout, "/c:d").has("noexec") && mount_at(&output.stdout, "/ro").has("ro"));
    // Relative to where rspawn is started; an error names the option.
    let relative = Bundle::script("cat /one");
    let mut command = relative.command(&["--bind-ro=file:/one"]);
    command.current_dir(&data.path);
    assert_eq!(finish(command, b"").ok(), "content\n");
    let error = refusal(&bundle, &[&format!("--bind={path}/missing")]);
    assert!(error.starts_with(&format!("rspawn: --bind={path}/missing: ")) && error.contains("ENOENT"), "{error}");
    assert!(refusal(&bundle, &["--bind=+/etc:/x"]).contains("below the image's root is not supported"));
}

#[test]
fn mounts_of_other_kinds() {
    if cannot_make_containers() {
        return;
    }
    let layers = Scratch::new();
    let path = layers.path.to_str().unwrap();
    for (name, text) in [("low", "low"), ("mid", "mid"), ("up", "up")] {
        fs::create_dir(layers.path.join(name)).unwrap();
        fs::write(layers.path.join(name).join(name), text).unwrap();
        fs::write(layers.path.join(name).join("top"), text).unwrap();
    }
    let script = "cat /o/low /o/mid /o/up /o/top; echo x >/o/new; echo; cat /r/top; touch /r/new; echo; \
        stat -c %a /t /t2; touch /t/x; cat /proc/self/mountinfo";
    let bundle = Bundle::script(script);
    let options = [
        format!("--overlay={path}/low:{path}/mid:{path}/up:/o"),
        format!("--overlay-ro={path}/low:{path}/mid:/r"),
        "--tmpfs=/t2/below".into(),
        "--tmpfs=/t".into(),
        "--tmpfs=/t2:mode=1777,size=1M,noexec".into(),
    ];
    let output = bundle.run_with(&options.each_ref().map(|text| text.as_str()), b"");
    assert!(output.stdout.starts_with("lowmidupup\nmid\n755\n1777\n"), "{output:?}");
    assert!(output.stderr.contains("touch: /r/new: Read-only file system"), "{output:?}");
    assert_eq!(fs::read_to_string(layers.path.join("up/new")).unwrap(), "x\n");
    assert!(mount_at(&output.stdout, "/t2").has("noexec"));
    // A mount point comes before those below it, in whatever order they are named.
    assert_eq!(mount_at(&output.stdout, "/t2/below").fs, "tmpfs");
}

#[test]
fn inaccessible_paths() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /etc/secret; ls -A /data; echo x >/etc/secret; stat -c %F /etc/secret");
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    fs::write(bundle.rootfs().join("data/secret"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("etc/secret"), "secret\n").unwrap();
    assert_eq!(run(&bundle, &["--inaccessible=/etc/secret", "--inaccessible=/data"]), "character special file\n");
    assert!(refusal(&bundle, &["--inaccessible=etc"]).contains("--inaccessible=etc: \"etc\" is not an absolute path"));
}

#[test]
fn capabilities_are_added_and_dropped() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_users("cat /proc/self/status");
    let mask = |options: &[&str], set: &str| {
        let status = run(&bundle, options);
        u64::from_str_radix(status_field(&status, set).unwrap(), 16).unwrap()
    };
    const BUNDLE: u64 = 1 << 5 | 1 << 10 | 1 << 29;
    assert_eq!(mask(&[], "CapBnd"), BUNDLE);
    let options = ["--capability=CAP_CHOWN,net_raw", "--drop-capability=CAP_KILL"];
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(mask(&options, set), BUNDLE & !(1 << 5) | 1 | 1 << 13, "{set}");
    }
    assert_eq!(mask(&["--drop-capability=all"], "CapBnd"), 0);
    assert_eq!(mask(&["--user=alice", "--ambient-capability=CAP_KILL"], "CapEff"), 1 << 5);
    assert!(refusal(&bundle, &["--capability=CAP_CHWON"]).contains("did you mean CAP_CHOWN?"));
}

#[test]
fn system_calls_are_permitted_and_prohibited() {
    if cannot_make_containers() {
        return;
    }
    let script = "mkdir /tmp/d && echo made; chmod 700 /tmp && echo changed; exit 0";
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]});
    let plain = Bundle::script(script);
    let filtered = Bundle::script(script).with(|config| config["linux"]["seccomp"] = filter);
    assert_eq!(run(&plain, &[]), "made\nchanged\n");
    let _ = fs::remove_dir(plain.rootfs().join("tmp/d"));
    assert_eq!(run(&plain, &["--system-call-filter=~mkdir mkdirat"]), "changed\n");
    assert_eq!(run(&filtered, &[]), "made\n");
    let _ = fs::remove_dir(filtered.rootfs().join("tmp/d"));
    assert_eq!(run(&filtered, &["--system-call-filter=@file-system"]), "made\nchanged\n");
    // A prohibition wins over a permission, in whatever order they come.
    let options = ["--system-call-filter=~@file-system", "--system-call-filter=mkdir"];
    assert_eq!(run(&filtered, &options), "");
    assert!(refusal(&plain, &["--system-call-filter=@mout"]).contains("did you mean @mount?"));
}

/// What systemd's own tool says of its sets.
#[test]
fn the_sets_are_systemds() {
    use rspawn_planner::overrides::filter::parse;
    use rspawn_planner::seccomp::arch::is_known_call;
    let listed = Command::new("systemd-analyze").arg("syscall-filter").output();
    let Ok(listed) = listed else {
        rspawn_tests::skip_unless(false, "systemd-analyze is not installed");
        return;
    };
    let text = String::from_utf8(listed.stdout).unwrap();
    let mut sets: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.starts_with('@'), sets.last_mut()) {
            (true, _) => sets.push((line.trim().to_string(), Vec::new())),
            (false, Some((_, members))) if line.starts_with("    ") && !line.contains('#') => {
                members.push(line.trim().to_string());
            }
            _ => {}
        }
    }
    assert!(sets.len() > 20);
    for (name, members) in sets.iter().filter(|(name, _)| name != "@known") {
        let ours = parse(name).unwrap_or_else(|error| panic!("{name}: {error}")).calls;
        let known = members.iter().filter(|member| !member.starts_with('@') && is_known_call(member));
        for member in known {
            assert!(ours.contains(member.as_str()), "{name} has {member}");
        }
    }
}

#[test]
fn networks() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("readlink /proc/self/ns/net; ls /sys/class/net").without_namespaces(&["network"]);
    let host = fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().into_owned();
    assert!(run(&bundle, &[]).starts_with(&host));
    for option in ["--private-network", "--network-none"] {
        let output = run(&bundle, &[option]);
        assert!(!output.starts_with(&host) && output.ends_with("lo\n"), "{output}");
    }
    // One that another process has made.
    let mut other = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
    let file = format!("/proc/{}/ns/net", other.id());
    let link = || fs::read_link(&file).unwrap_or_default().to_string_lossy().into_owned();
    wait_for("the other namespace", || !["", host.as_str()].contains(&link().as_str()));
    let joined = run(&Bundle::script("readlink /proc/self/ns/net"), &[&format!("--network-namespace-path={file}")]);
    assert_eq!(joined.trim(), link());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_user_namespace() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /proc/self/uid_map");
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let map: Vec<String> =
        run(&bundle, &["--private-users=100000:1000"]).split_whitespace().map(str::to_string).collect();
    assert_eq!(map, ["0", "100000", "1000"]);
}

#[test]
fn volatile_roots() {
    if cannot_make_containers() {
        return;
    }
    let script = "touch /new && echo root; touch /var/new && echo var; touch /etc/new && echo etc; ls -d /usr/bin /home; \
        cat /proc/self/mountinfo";
    let bundle = Bundle::script(script);
    let root = bundle.rootfs();
    // A root with a merged /usr, as distributions have it.
    fs::rename(root.join("bin"), root.join("usr/bin")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::create_dir(root.join("home")).unwrap();
    let before: Vec<_> = walk(&root);
    let state = bundle.run_with(&["--volatile=state"], b"").stdout;
    assert!(state.starts_with("var\n/home\n/usr/bin\n"), "{state}");
    for option in ["--volatile", "--volatile=yes"] {
        let output = bundle.run_with(&[option], b"").stdout;
        // There is no /var and no /etc: they were not made, so neither file was.
        assert!(output.starts_with("root\n/usr/bin\n"), "{output}");
        assert!(!output.contains("/home\n") && mount_at(&output, "/").fs == "tmpfs");
        assert!(mount_at(&output, "/usr").has("ro"));
    }
    // The image is as it was, and what was written is gone.
    assert_eq!(walk(&root), before);
    // A root that keeps programs outside of /usr would be missing them.
    assert!(refusal(&Bundle::script("true"), &["--volatile"]).contains("/bin of"), "no merged /usr");
    let linked = Bundle::script("true");
    fs::remove_dir(linked.rootfs().join("usr")).unwrap();
    symlink("/etc", linked.rootfs().join("usr")).unwrap();
    assert!(refusal(&linked, &["--volatile"]).contains("has no directory /usr"), "a link leads to the host's");
}

#[test]
fn a_volatile_overlay() {
    if cannot_make_containers() {
        return;
    }
    let bundle =
        Bundle::script("touch /new && echo root; touch /etc/new && echo etc; ls -d /bin; cat /proc/self/mountinfo");
    let before: Vec<_> = walk(&bundle.rootfs());
    let overlay = bundle.run_with(&["--volatile=overlay"], b"").stdout;
    assert!(overlay.starts_with("root\netc\n/bin\n"), "{overlay}");
    assert_eq!(mount_at(&overlay, "/").fs, "overlay");
    // The image is as it was, and what was written is gone.
    assert_eq!(walk(&bundle.rootfs()), before);
    let scratch = fs::read_dir("/run/rspawn-scratch").into_iter().flatten().flatten();
    let mine = scratch.filter(|entry| entry.path().join("upper/new").exists());
    assert_eq!(mine.count(), 0);
}

/// Files of a root by name; devices and mount points of earlier runs among them.
fn walk(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            found.push(entry.path().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
        }
    }
    // What is mounted on is made where it is missing.
    found.retain(|path| !["/dev/", "/run", "/sys/"].iter().any(|made| path.contains(made)));
    found.sort();
    found
}

/// Should everything be killed, the next to need such a directory removes the last one's.
#[test]
fn a_scratch_directory_survives_nobody() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("touch /started-here /tmp/x; touch /bound/started; sleep 60");
    let bound = Scratch::new();
    let bind = format!("--bind={}:/bound", bound.path.display());
    let mut command = bundle.command(&["--volatile=overlay", &bind]);
    let mut child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the payload starts", || bound.path.join("started").exists());
    let scratch = std::path::PathBuf::from(format!("/run/rspawn-scratch/{}", child.id()));
    assert!(scratch.join("upper/started-here").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the keeper removes it", || !scratch.exists());
    wait_for("the container ends", || leftovers(&bundle.id).is_empty());
}

#[test]
fn cpus() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(run(&bundle, &["--cpu-affinity=0"]), "Cpus_allowed_list:\t0\n");
    assert!(refusal(&bundle, &["--cpu-affinity=8000"]).contains("--cpu-affinity=8000: "));
}

#[test]
fn the_signal_for_sigterm() {
    if cannot_make_containers() {
        return;
    }
    let script =
        "trap 'echo user; exit 5' USR1; trap 'echo term; exit 6' TERM; touch /ready; while :; do sleep 0.05; done";
    for (options, expected) in [(&["--kill-signal=SIGUSR1"][..], ("user\n", 5)), (&[][..], ("term\n", 6))] {
        let bundle = Bundle::script(script);
        let mut command = bundle.command(options);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_for("the payload is ready", || bundle.rootfs().join("ready").exists());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)
            .unwrap();
        let output = rspawn_tests::collect(child);
        assert_eq!((output.stdout.as_str(), output.status), expected, "{output:?}");
        bundle.assert_nothing_left();
    }
}

#[track_caller]
fn directory(bundle: &Bundle, root: &std::path::Path, options: &[&str], script: &str) -> Output {
    let mut command = Command::new(program("rspawn"));
    command.arg("run").arg(format!("--directory={}", root.display())).args(options).arg("--console=pipe");
    command.args(["--", "sh", "-c", script]);
    finish(bundle.by_its_user(command), b"")
}

#[test]
fn a_plain_root_directory() {
    if cannot_make_containers() {
        return;
    }
    let bundle = with_users("");
    let script = "id -u; hostname; touch /etc/made && echo writable; ls /dev/null; grep -E '^Seccomp:' /proc/self/status; \
        cat /proc/self/uid_map";
    let output = directory(&bundle, &bundle.rootfs(), &[], script);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(lines[..4], ["0", "rootfs", "writable", "/dev/null"], "{output:?}");
    assert!(lines[4].ends_with('2'), "{output:?}");
    // No user namespace but a user's own.
    assert!(rspawn_tests::lanes::user::is_here() || lines[5].contains("4294967295"), "{output:?}");
    assert!(bundle.rootfs().join("etc/made").exists());
    assert_eq!(directory(&bundle, &bundle.rootfs(), &["--user=alice"], "id -un").ok(), "alice\n");
    let error = directory(&bundle, std::path::Path::new("/nonexistent"), &[], "true").refused();
    assert!(error.contains("cannot use the directory /nonexistent"), "{error}");
    assert!(directory(&bundle, std::path::Path::new("/etc/passwd"), &[], "true").refused().contains("not a directory"));
    let mut command = Command::new(program("rspawn"));
    command.args(["run", "--image=/x.raw"]);
    assert!(finish(command, b"").refused().contains("--image is not supported"));
}

/// What a start has made on the host goes with it where it fails, and the work directory of an overlay with the run.
#[test]
fn a_failed_start_leaves_a_root_as_it_was() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let names = |name: &str| {
        let entries = fs::read_dir(bundle.path().join(name)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for name in ["empty", "kept", "low", "up"] {
        fs::create_dir(bundle.path().join(name)).unwrap();
    }
    fs::create_dir(bundle.path().join("kept/run")).unwrap();
    let run = |options: &[&str], words: &[&str]| {
        let mut command = std::process::Command::new(program("rspawn"));
        command.arg("--root").arg(bundle.state_root()).arg("run").args(options).arg(&bundle.id).arg("--").args(words);
        command.current_dir(bundle.path());
        finish(bundle.by_its_user(command), b"")
    };
    let missing = |output: Output| assert!(output.refused().contains("not found in $PATH"));
    missing(run(&["-D", "empty"], &["sh"]));
    assert_eq!(names("empty"), [""; 0]);
    // What was there is nobody's to remove.
    missing(run(&["-D", "kept"], &["sh"]));
    assert_eq!(names("kept"), ["run"]);
    // Of one that was started the mount points stay.
    let before = names("rootfs");
    assert!(!before.contains(&"run".to_string()));
    run(&["-D", "rootfs"], &["true"]).ok();
    assert_eq!(names("rootfs").len(), before.len() + 1);

    let path = bundle.path().display();
    let overlay = format!("--overlay={path}/low:{path}/up:/tmp");
    let work = bundle.path().join(".up.rspawn-work");
    assert_eq!(run(&["-D", "rootfs", &overlay], &["sh", "-c", "echo more >/tmp/file; cat /tmp/file"]).ok(), "more\n");
    assert_eq!(names("up"), ["file"]);
    assert!(!work.exists(), "the kernel's part of the overlay is left");
    missing(run(&["-D", "rootfs", &overlay], &["no-such"]));
    missing(run(&["--detach", "-D", "rootfs", &overlay], &["no-such"]));
    assert!(!work.exists());
    // It may be another container's.
    fs::create_dir(&work).unwrap();
    missing(run(&["-D", "rootfs", &overlay], &["no-such"]));
    assert!(work.exists());
}

#[test]
fn a_working_directory_is_there_or_an_error() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("pwd");
    fs::create_dir(bundle.path().join("data")).unwrap();
    let bind = format!("--bind={}:/data", bundle.path().join("data").display());
    for missing in ["/no/such", "/bin/busybox/x"] {
        let said = refusal(&bundle, &[&format!("--chdir={missing}")]);
        let expected = format!("--chdir={missing}: the container has no directory {missing}");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(!bundle.rootfs().join("no").exists());
    assert_eq!(run(&bundle, &["--chdir=/usr/../etc"]), "/etc\n");
    // What a mount brings is there when it is mounted.
    assert_eq!(run(&bundle, &["--chdir=/data", &bind]), "/data\n");
    // As with runc, config.json's own is made.
    let made = Bundle::script("pwd").with(|config| config["process"]["cwd"] = "/no/such".into());
    assert_eq!(made.run().ok(), "/no/such\n");
}
