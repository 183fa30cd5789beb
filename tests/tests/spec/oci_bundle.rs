//! `--oci-bundle`: bundles as systemd-nspawn starts them, looked at from inside. What the man page says of every container
//! is here row by row, for bundles that say little or nothing.
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use rspawn_tests::lanes::user as lane;
use rspawn_tests::mountinfo::{Mount, mount_at};
use rspawn_tests::silent::{command, look, run, silent};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::{Bundle, cannot_make_containers, finish, status_field};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

fn script(text: &str) -> [&str; 4] {
    ["--", "sh", "-c", text]
}

#[track_caller]
fn inside(bundle: &Bundle, options: &[&str], text: &str) -> String {
    run(bundle, &[options, &["--console=pipe"], &script(text)].concat()).ok()
}

#[test]
fn the_smallest_bundle() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let output = inside(
        &bundle,
        &[],
        "id -u; pwd; [ $$ != 1 ] && echo beside; ls -d /proc/1 /dev/null /sys/kernel; cat /proc/self/mountinfo",
    );
    assert!(output.starts_with("0\n/\nbeside\n/dev/null\n/proc/1\n/sys/kernel\n"), "{output}");
    assert_eq!(mount_at(&output, "/root").fs, "tmpfs");
    // The same without a word about mounts, and with a command of the bundle's.
    let bundle = bundle.with(|config| {
        config["mounts"] = Value::Null;
        config["process"] = json!({"args": ["sh", "-c", "echo its own"], "terminal": false});
    });
    assert_eq!(run(&bundle, &[]).ok(), "its own\n");
}

#[test]
fn its_file_systems_are_there() {
    if cannot_make_containers() {
        return;
    }
    let output = inside(
        &silent(),
        &[],
        "cat /proc/self/mountinfo; stat -c '%a %n' /tmp /run /dev/shm; ls /dev; cat /run/host/os-release; \
         touch /run/x /tmp/x /dev/shm/x && echo writable; touch /run/host/x 2>/dev/null || echo host read-only; \
         ls -l /dev/fd /dev/ptmx; ls /sys/fs/cgroup | head -n 1; cat /proc/1/cgroup | head -n 1",
    );
    for (place, kind, options) in [
        ("/proc", "proc", &["nosuid", "nodev", "noexec"][..]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["nosuid"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["nosuid", "nodev"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
        ("/run", "tmpfs", &["nosuid", "nodev"]),
        ("/run/host", "tmpfs", &["ro"]),
        ("/tmp", "tmpfs", &["nosuid", "nodev"]),
    ] {
        let mount: Mount = mount_at(&output, place);
        assert_eq!(mount.fs, kind, "{place}: {output}");
        assert!(options.iter().all(|option| mount.has(option)), "{place}: {mount:?}");
    }
    assert!(mount_at(&output, "/sys/fs/cgroup").has("ro"));
    for text in ["1777 /tmp", "755 /run", "1777 /dev/shm", "writable", "host read-only", "/proc/self/fd", "pts/ptmx"] {
        assert!(output.contains(text), "{text}: {output}");
    }
    for node in ["full", "mqueue", "null", "pts", "random", "shm", "stderr", "tty", "urandom", "zero"] {
        assert!(output.lines().any(|line| line == node), "{node}: {output}");
    }
    let release = fs::read_to_string("/etc/os-release").unwrap();
    assert!(output.contains(&release), "{output}");
}

#[test]
fn parts_of_proc_are_covered() {
    if cannot_make_containers() {
        return;
    }
    let look = "wc -c </proc/kallsyms; wc -c </proc/timer_list; cat /proc/self/mountinfo";
    let bundle = silent().with(|config| {
        config["linux"] = json!({"maskedPaths": ["/proc/uptime"], "readonlyPaths": ["/var"]});
    });
    let output = inside(&bundle, &[], &format!("wc -c </proc/uptime; {look}; touch /var/x 2>&1 || true"));
    assert!(output.starts_with("0\n0\n0\n") && output.contains("/var/x: Read-only"), "{output}");
    for place in ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/var"] {
        assert!(mount_at(&output, place).has("ro"), "{place}: {output}");
    }
    assert!(!output.contains(" /proc/sys/net "), "the network is the host's: {output}");
}

/// Of the container's own network the sysctls are the container's, unless the bundle says otherwise.
#[test]
fn sysctls_of_an_own_network_are_writable() {
    if cannot_make_containers() {
        return;
    }
    let look = "cat /proc/self/mountinfo; ls /sys/class/net";
    let output = inside(&silent(), &["--private-network"], look);
    assert!(mount_at(&output, "/proc/sys/net").has("rw") && mount_at(&output, "/proc/sys").has("ro"), "{output}");
    assert!(output.ends_with("lo\n"), "{output}");
    let capable = silent().with(|config| {
        let all = json!(["CAP_NET_ADMIN"]);
        config["process"] = json!({"capabilities": {"bounding": all, "permitted": all, "effective": all}});
    });
    let write = "echo 1 >/proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward; \
                 echo 1 >/proc/sys/kernel/shmmni || echo refused";
    assert_eq!(inside(&capable, &["--private-network"], write), "1\nrefused\n");
    let protected = silent().with(|config| config["linux"] = json!({"readonlyPaths": ["/proc/sys"]}));
    let output = inside(&protected, &["--private-network"], look);
    assert!(mount_at(&output, "/proc/sys").has("ro") && !output.contains(" /proc/sys/net "), "{output}");
}

#[test]
fn a_user_namespace_has_them_too() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    if !lane::is_here() {
        let owned = Command::new("chown").arg("-R").arg("100000:100000").arg(bundle.rootfs()).status();
        assert!(owned.unwrap().success());
    }
    let (option, own) =
        if lane::is_here() { ("--private-users=identity", 0) } else { ("--private-users=100000:65536", 100_000) };
    let look = "cat /proc/self/mountinfo; cat /proc/self/uid_map; : >/dev/null && echo null; : >/dev/pts/ptmx && echo ptmx; \
                ls /sys/kernel | head -n 1; touch /made";
    let options: &[&str] = if lane::is_here() { &[] } else { &[option] };
    let output = inside(&bundle, options, look);
    for (place, kind) in
        [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/run", "tmpfs")]
    {
        assert_eq!(mount_at(&output, place).fs, kind, "{output}");
    }
    assert!(mount_at(&output, "/sys").has("ro") && output.contains("null\nptmx\n"), "{output}");
    if own != 0 {
        assert!(output.contains("     100000      65536\n"), "{output}");
        assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), own);
        assert_eq!(fs::metadata(bundle.rootfs().join("bin")).unwrap().uid(), own, "no owner is changed");
    }
}

/// Kinds of namespaces that are the container's own.
#[track_caller]
fn own_namespaces(bundle: &Bundle, options: &[&str]) -> Vec<String> {
    let output = inside(bundle, options, "for kind in /proc/self/ns/*; do readlink $kind; done");
    let host: Vec<String> = fs::read_dir("/proc/self/ns")
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    let mut own: Vec<String> = output
        .lines()
        .filter(|line| !host.iter().any(|known| known == line))
        .map(|line| line.split(':').next().unwrap().to_string())
        .collect();
    own.dedup();
    own.retain(|kind| kind != "user" || !lane::is_here());
    own
}

#[test]
fn namespaces_are_nspawns_or_those_that_are_listed() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(own_namespaces(&silent(), &[]), ["cgroup", "ipc", "mnt", "pid", "uts"]);
    assert_eq!(own_namespaces(&silent(), &["--private-network"]), ["cgroup", "ipc", "mnt", "net", "pid", "uts"]);
    let listed = |list: Value| silent().with(|config| config["linux"] = json!({"namespaces": list}));
    let two = listed(json!([{"type": "mount"}, {"type": "pid"}]));
    let cgroup_too = listed(json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]));
    assert_eq!(own_namespaces(&cgroup_too, &[]), ["cgroup", "mnt", "pid"]);
    assert_eq!(own_namespaces(&two, &[]), ["mnt", "pid"]);
    for list in [json!([]), json!([{"type": "pid"}])] {
        let error = run(&listed(list), &script("true")).refused();
        assert!(error.contains("/linux/namespaces: there is no mount namespace"), "{error}");
    }
}

#[test]
fn mappings_alone_make_no_user_namespace() {
    if cannot_make_containers() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = silent().with(|config| config["linux"] = json!({"uidMappings": map, "gidMappings": map}));
    assert!(!own_namespaces(&bundle, &[]).contains(&"user".to_string()));
    let found = look(&bundle, "check", &["--", "sh"]).ok();
    for list in ["/linux/uidMappings", "/linux/gidMappings"] {
        assert!(found.contains(&format!("note: {list}: ignored: /linux/namespaces has no user namespace")), "{found}");
    }
}

#[test]
fn namespaces_of_every_kind_are_joined() {
    if cannot_make_containers() {
        return;
    }
    let mut holder = Command::new("unshare");
    holder.args(["--net", "--ipc", "--uts", "--cgroup", "--time", "sleep", "100"]);
    let mut holder = holder.spawn().unwrap();
    let of_holder = |kind: &str| format!("/proc/{}/ns/{kind}", holder.id());
    let host = fs::read_link("/proc/self/ns/uts").unwrap();
    rspawn_tests::wait_for("its namespaces", || {
        fs::read_link(of_holder("uts")).is_ok_and(|link| link != host)
            && fs::read_to_string(format!("/proc/{}/comm", holder.id())).is_ok_and(|name| name == "sleep\n")
    });
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];
    let mut list: Vec<Value> =
        kinds.iter().map(|(kind, file)| json!({"type": kind, "path": of_holder(file)})).collect();
    list.extend([json!({"type": "mount"}), json!({"type": "pid"})]);
    let bundle = silent().with(|config| config["linux"] = json!({"namespaces": list}));
    let output =
        inside(&bundle, &[], "for kind in net ipc uts cgroup; do readlink /proc/self/ns/$kind; done; hostname");
    let links: Vec<String> =
        kinds.iter().map(|(_, file)| fs::read_link(of_holder(file)).unwrap().to_string_lossy().into_owned()).collect();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    // The name is another's, so it stays.
    assert_eq!(output, format!("{}\n{name}", links.join("\n")));
}

#[test]
fn without_a_command_it_is_the_users_shell() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let ask = b"echo [$0] $(pwd) $HOME $(id -u)\ncase $- in *i*) ;; *) echo no terminal;; esac\nexit 3\n";
    // Without a database the shell is /bin/sh; /root is a mount of the bundle's.
    let output = finish(command(&bundle, &["--console=pipe"]), ask);
    assert_eq!((output.status, output.stdout.as_str()), (3, "[/bin/sh] /root /root 0\nno terminal\n"), "{output:?}");
    let users = "root:x:0:0::/root:/bin/ash\nalice:x:1000:100::/home/alice:/bin/ash\nbob:x:7:7::/no:/bin/zsh\n";
    fs::write(bundle.rootfs().join("etc/passwd"), users).unwrap();
    fs::create_dir_all(bundle.rootfs().join("home/alice")).unwrap();
    symlink("busybox", bundle.rootfs().join("bin/ash")).unwrap();
    fs::write(bundle.rootfs().join("etc/profile"), "echo it is a login\n").unwrap();
    let output = finish(command(&bundle, &["--console=pipe"]), ask);
    assert!(output.stdout.starts_with("it is a login\n[/bin/ash] /root /root 0\n"), "{output:?}");
    if !lane::is_here() || rspawn_tests::user::RANGE.1 > 1000 {
        let output = finish(command(&bundle, &["--console=pipe", "--user=alice"]), ask);
        assert!(output.stdout.contains("[/bin/ash] /home/alice /home/alice 1000\n"), "{output:?}");
        // A shell or a home that is not there is none.
        let output = finish(command(&bundle, &["--console=pipe", "--user=bob"]), ask);
        assert!(output.stdout.contains("[/bin/sh] / /no 7\n"), "{output:?}");
    }
    // The bundle's own directory, and the invoker's.
    let bundle = bundle.with(|config| config["process"] = json!({"cwd": "/etc"}));
    let output = finish(command(&bundle, &["--console=pipe"]), ask);
    assert!(output.stdout.contains("[/bin/ash] /etc /root 0\n"), "{output:?}");
    let output = finish(command(&bundle, &["--console=pipe", "--chdir=/var"]), ask);
    assert!(output.stdout.contains("[/bin/ash] /var /root 0\n"), "{output:?}");
}

#[test]
fn an_empty_command_is_an_error_unless_there_is_another() {
    if cannot_make_containers() {
        return;
    }
    for (args, pointer) in [(json!([]), "/process/args: "), (json!([""]), "/process/args/0: ")] {
        let bundle = silent().with(|config| config["process"] = json!({"args": args}));
        let error = run(&bundle, &[]).refused();
        assert!(error.contains(pointer), "{error}");
        assert_eq!(inside(&bundle, &[], "echo ours"), "ours\n");
    }
    let bundle = silent().with(|config| config["process"] = json!({"args": ["false"]}));
    assert_eq!(inside(&bundle, &[], "echo ours"), "ours\n");
    assert_eq!(run(&bundle, &["--console=pipe"]).status, 1);
}

/// With `--bundle` too.
#[test]
fn a_command_is_enough_where_there_is_no_process() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new().with(|config| drop(config.as_object_mut().unwrap().remove("process")));
    let mut with_command = bundle.command(&[]);
    with_command.args(["--", "sh", "-c", "echo $PATH; pwd; grep NoNewPrivs /proc/self/status"]);
    let output = finish(with_command, b"").ok();
    assert_eq!(output, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/\nNoNewPrivs:\t1\n");
    let error = bundle.run().refused();
    assert!(error.contains("config.json /process: there is no process to run"), "{error}");
    // What is said of a process by an option or in a settings file is about this one.
    let settings = bundle.path().join("x.nspawn");
    fs::write(&settings, "[Exec]\nWorkingDirectory=/tmp\n").unwrap();
    let mut changed = bundle.command(&["--setenv=A=b", &format!("--settings={}", settings.display())]);
    changed.args(["--", "sh", "-c", "echo $A; pwd"]);
    assert_eq!(finish(changed, b"").ok(), "b\n/tmp\n");
    for (verb, place) in [("plan", true), ("check", true)] {
        let mut plan = Command::new(rspawn_tests::program("rspawn"));
        plan.arg(verb).arg(bundle.path()).args(["--", "true"]);
        assert!(place && finish(plan, b"").status == 0, "{verb}");
    }
}

fn variables(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn the_environment_is_nspawns_and_the_bundles_words_count() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let start = |bundle: &Bundle, options: &[&str]| {
        let mut command = command(bundle, &[options, &["--", "env"]].concat());
        command
            .env("TERM", "screen")
            .env("COLORTERM", "truecolor")
            .env("NO_COLOR", "1")
            .env("LANG", "xx")
            .env("FOO", "1");
        let output = finish(command, b"").ok().replace('\r', "");
        variables(&output)
    };
    let has = |list: &[(String, String)], name: &str, value: &str| {
        assert!(list.contains(&(name.into(), value.into())), "{name}={value}: {list:?}");
    };
    let lacks = |list: &[(String, String)], name: &str| assert!(list.iter().all(|(known, _)| known != name), "{name}");
    let shown = start(&bundle, &["--console=read-only"]);
    has(&shown, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in [
        ("TERM", "screen"),
        ("COLORTERM", "truecolor"),
        ("NO_COLOR", "1"),
        ("LANG", "C.UTF-8"),
        ("container", "systemd-nspawn"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
    ] {
        has(&shown, name, value);
    }
    lacks(&shown, "FOO");
    lacks(&shown, "NOTIFY_SOCKET");
    let uuid = &shown.iter().find(|(name, _)| name == "container_uuid").expect("container_uuid").1;
    assert!(uuid.len() == 36 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{uuid}");
    let piped = start(&bundle, &["--console=pipe"]);
    has(&piped, "TERM", "dumb");
    has(&piped, "container_uuid", uuid);
    lacks(&piped, "COLORTERM");
    let bundle = bundle.with(|config| {
        config["process"] = json!({"env": ["PATH=/bin", "LANG=de", "HOME=/h", "container=other", "A=b"]});
    });
    let said = start(&bundle, &["--console=pipe", "--setenv=A=c", "--setenv=LANG=fr"]);
    for (name, value) in
        [("PATH", "/bin"), ("HOME", "/h"), ("container", "other"), ("USER", "root"), ("A", "c"), ("LANG", "fr")]
    {
        has(&said, name, value);
    }
    // Another user is not root.
    let bundle = silent().with(|config| config["process"] = json!({"user": {"uid": 5, "gid": 5}}));
    let other = start(&bundle, &["--console=pipe"]);
    lacks(&other, "USER");
    assert!(!other.contains(&("HOME".into(), "/root".into())), "{other:?}");
}

#[test]
fn rights_follow_what_the_bundle_says() {
    if cannot_make_containers() {
        return;
    }
    let status = "cat /proc/self/status; mount -t tmpfs x /mnt 2>&1 || true; cat /proc/self/mountinfo";
    let prepare = |bundle: Bundle| {
        fs::create_dir_all(bundle.rootfs().join("mnt")).unwrap();
        bundle
    };
    let sets = |bounding: &[&str]| json!({"capabilities": {"bounding": bounding, "permitted": bounding, "effective": bounding}});
    let output = inside(&prepare(silent()), &[], status);
    assert_eq!(status_field(&output, "CapEff"), Some("00000000800405fb"));
    assert_eq!(status_field(&output, "Seccomp"), Some("2"));
    assert!(output.contains("permission denied"), "{output}");
    // The filter is for the capabilities that there are, the bundle's and the invoker's.
    let capable = prepare(silent()).with(|config| config["process"] = sets(&["CAP_SYS_ADMIN"]));
    let output = inside(&capable, &[], status);
    assert_eq!(
        (status_field(&output, "Seccomp"), status_field(&output, "CapEff")),
        (Some("2"), Some("0000000000200000"))
    );
    assert_eq!(mount_at(&output, "/mnt").fs, "tmpfs");
    let output = inside(&prepare(silent()), &["--capability=CAP_SYS_ADMIN"], status);
    assert_eq!(mount_at(&output, "/mnt").fs, "tmpfs");
    // What is said of seccomp is all there is.
    let filtered = silent().with(|config| {
        let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5});
        config["linux"] = json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}});
    });
    let output = inside(&filtered, &[], "mkdir /x 2>&1 || true; ip link 2>&1 | head -n 1");
    assert!(output.contains("Input/output error"), "{output}");
    let unprivileged = silent().with(|config| config["process"] = json!({"user": {"uid": 5, "gid": 5}}));
    let output = inside(&unprivileged, &[], "cat /proc/self/status");
    assert_eq!(status_field(&output, "CapEff"), Some("0000000000000000"));
    assert_eq!(status_field(&output, "CapBnd"), Some("00000000800405fb"));
}

#[test]
fn the_console_is_what_the_streams_are() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let look = ["--", "sh", "-c", "tty; stty size; readlink /proc/self/fd/0"];
    // Without a terminal outside it is shown only, whether the bundle asks for one or says nothing.
    for terminal in [Value::Null, json!(true)] {
        let bundle = silent().with(|config| {
            config["process"] = json!({"terminal": terminal, "consoleSize": {"height": 30, "width": 100}});
        });
        let mut command = command(&bundle, &look);
        command.env_remove("COLUMNS").env_remove("LINES");
        let output = finish(command, b"not heard\n").ok();
        assert_eq!(output, "/dev/pts/0\n30 100\n/dev/pts/0\n");
    }
    let mut sized = command(&bundle, &look);
    sized.env("COLUMNS", "77").env("LINES", "11");
    assert_eq!(finish(sized, b"").ok(), "/dev/pts/0\n11 77\n/dev/pts/0\n");
    let piped = silent().with(|config| config["process"] = json!({"terminal": false}));
    let output = finish(command(&piped, &["--", "cat"]), b"heard\n").ok();
    assert_eq!(output, "heard\n");
    assert!(run(&piped, &[&["--console=read-only"], &look[..]].concat()).ok().starts_with("/dev/pts/0\n"));
    // On a terminal it is interactive.
    let terminal = Terminal::new(24, 80);
    let child = terminal.start(&command(&bundle, &["--", "sh", "-c", "read word; echo got $word; stty size; tty"]));
    rspawn_tests::wait_for("raw mode", || terminal.is_raw());
    terminal.type_in(b"hello\r");
    let output = terminal.finish(child);
    assert!(output.status == 0 && output.stdout.contains("got hello\r\n24 80\r\n/dev/pts/0"), "{output:?}");
    bundle.assert_nothing_left();
}

#[test]
fn nobody_is_at_the_console_of_what_is_left_running() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let mut detached = command(&bundle, &["--detach", "--", "sleep", "1000"]);
    detached.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(detached.status().unwrap().success());
    let verb = |words: &[&str]| {
        let mut command = Command::new(rspawn_tests::program("rspawn"));
        command.arg("--root").arg(bundle.state_root()).args(words);
        finish(bundle.by_its_user(command), b"")
    };
    let env = verb(&["exec", &bundle.id, "sh", "-c", "tr '\\0' '\\n' </proc/1/environ; tr '\\0' ' ' </proc/1/cmdline"]);
    assert!(env.stdout.contains("TERM=dumb\n") && env.stdout.ends_with("sleep 1000 "), "{env:?}");
    verb(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn words_of_the_command_line_count_more() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent().with(|config| {
        config["process"] = json!({"env": ["A=bundle"], "terminal": true});
        config["root"]["readonly"] = json!(false);
    });
    fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
    fs::write(bundle.path().join("shown"), "shown\n").unwrap();
    let settings = bundle.path().join("some.nspawn");
    fs::write(&settings, "[Exec]\nEnvironment=B=settings\n").unwrap();
    let shown = format!("--bind={}:/run/shown", bundle.path().join("shown").display());
    let words = [
        "--inaccessible=/etc/secret",
        "--inaccessible=-/no/such",
        &shown,
        "--setenv=A=line",
        "--read-only",
        "--hostname=named",
        &format!("--settings={}", settings.display()),
        "--tmpfs=/run/mine:size=1M",
    ];
    let look = "wc -c </etc/secret; cat /run/shown; echo $A $B; touch /x 2>/dev/null || echo read-only; hostname; \
                touch /run/mine/x /tmp/x && echo writable";
    let expected = "0\nshown\nline settings\nread-only\nnamed\nwritable\n";
    assert_eq!(inside(&bundle, &words, look), expected);
    let missing = run(&bundle, &[&["--inaccessible=/no/such"], &script("true")[..]].concat());
    assert_ne!(missing.status, 0, "{missing:?}");
}

/// No file is put into the root, none is looked up beside it, and no owner changes.
#[test]
fn the_root_stays_as_it_is() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let name = bundle.id.clone();
    let beside = [bundle.path().join(format!("{name}.nspawn")), bundle.rootfs().join("../rootfs.nspawn")];
    beside.iter().for_each(|path| fs::write(path, "[Exec]\nEnvironment=SETTINGS=1\n").unwrap());
    fs::write(bundle.rootfs().join("etc/resolv.conf"), "mine\n").unwrap();
    let list = |path: &Path| {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let before = list(&bundle.rootfs().join("etc"));
    let output = inside(
        &bundle,
        &[],
        "echo [$SETTINGS]; cat /etc/resolv.conf; ls /var; ls -d /etc/machine-id /etc/localtime 2>&1 || true",
    );
    assert!(output.starts_with("[]\nmine\n") && output.matches("No such file").count() == 2, "{output}");
    assert_eq!(list(&bundle.rootfs().join("etc")), before);
    // Places for mounts are all that is made.
    let expected = ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"];
    assert_eq!(list(&bundle.rootfs()), expected);
    for place in ["proc", "dev", "run", "tmp", "sys"] {
        assert!(list(&bundle.rootfs().join(place)).is_empty(), "{place}");
    }
}

#[test]
fn entries_for_its_places_take_their_place() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent().with(|config| {
        config["mounts"] = json!([
            {"destination": "/data", "type": "tmpfs"},
            {"destination": "/tmp", "type": "tmpfs", "options": ["size=1M", "ro"]},
            {"destination": "/dev/shm/", "type": "tmpfs", "options": ["mode=700"]},
            {"destination": "/proc", "type": "proc", "options": ["nosuid", "hidepid=2"]},
            {"destination": "/run", "type": "bind", "source": "mine", "options": ["bind"]},
        ]);
    });
    fs::create_dir(bundle.path().join("mine")).unwrap();
    fs::write(bundle.path().join("mine/file"), "mine\n").unwrap();
    let look_inside = "cat /proc/self/mountinfo; cat /run/file; ls /run";
    let output = inside(&bundle, &[], look_inside);
    assert!(mount_at(&output, "/tmp").has("ro") && mount_at(&output, "/tmp").filesystem_has("size=1024k"), "{output}");
    assert!(mount_at(&output, "/dev/shm").filesystem_has("mode=700"), "{output}");
    assert!(mount_at(&output, "/proc").filesystem_has("hidepid=invisible"), "{output}");
    // In a directory of the host's nothing is made.
    assert!(output.ends_with("mine\nfile\n") && !output.contains("/run/host"), "{output}");
    assert!(!bundle.path().join("mine/host").exists());
    for place in ["/tmp", "/proc", "/dev/shm", "/data", "/dev"] {
        assert_eq!(output.matches(&format!(" {place} ")).count(), 1, "{place}: {output}");
    }
    let found = look(&bundle, "check", &["--", "sh"]).ok();
    for (index, noted) in [(0, false), (1, true), (2, true), (3, true), (4, true)] {
        let note = format!("note: /mounts/{index}: systemd-nspawn would ignore this entry");
        assert_eq!(found.contains(&note), noted, "{index}: {found}");
    }
    let plan = look(&bundle, "plan", &["--", "sh"]).ok();
    let lines = |origin: &str, text: &str| {
        plan.lines().any(|line| line.trim_start().starts_with(origin) && line.contains(text))
    };
    assert!(lines("/mounts/1", "mount tmpfs on /tmp") && lines("/mounts/0", "mount tmpfs on /data"), "{plan}");
    assert!(lines("/mounts/4", "on /run") && lines("rule: nspawn", "mount tmpfs on /dev"), "{plan}");
    // An error is said of the bundle's own entry.
    let wrong = bundle.with(|config| config["mounts"][4]["options"] = json!(["bind", "nonsense"]));
    let error = run(&wrong, &script("true")).refused();
    assert!(error.contains("config.json /mounts/4/options: option \"nonsense\""), "{error}");
}

#[test]
fn a_plan_shows_what_the_bundle_left_out() {
    if cannot_make_containers() {
        return;
    }
    let plan = look(&silent(), "plan", &["named", "--", "true"]).ok();
    let has = |origin: &str, text: &str| {
        let found = plan.lines().any(|line| line.trim_start().starts_with(origin) && line.ends_with(text));
        assert!(found, "{origin} {text}: {plan}");
    };
    has("/mounts/0", "mount tmpfs on /root");
    has("/root/path", "attach the container's root");
    has("rule: nspawn", "mount proc on /proc");
    has("rule: nspawn", "set host name named");
    has("rule: nspawn", "make /proc/sys read-only");
    let namespaces = plan.lines().find(|line| line.contains("new namespaces: ")).expect("a line");
    let listed = ["rule: nspawn", "mount", "pid", "ipc", "uts", "cgroup"];
    assert!(listed.iter().all(|word| namespaces.contains(word)) && !namespaces.contains("network"), "{namespaces}");
    has("the command line", "execute true");
    let shell = look(&silent(), "plan", &[]).ok();
    assert!(shell.starts_with("runs          /bin/sh -l\n"), "{shell}");
    let difference = look(&silent(), "plan", &["--diff", "--private-network", "--", "true"]).ok();
    assert!(difference.contains("no longer shares the host's network namespace"), "{difference}");
    assert!(!difference.contains("/dev"), "{difference}");
}

/// Nobody has asked for it, so that an administrator who does not grant it does not keep the container from starting.
#[test]
fn the_hosts_os_release_is_shown_where_the_policy_grants_it() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let policy = bundle.path().join("policy");
    let place = fs::canonicalize("/etc/os-release").unwrap().display().to_string();
    for (lines, shown) in [
        (String::new(), false),
        (format!("bind.allow = {}/** {place}:ro\n", bundle.path().display()), true),
        (format!("bind.allow = any\nbind.deny = {place}\n"), false),
    ] {
        fs::write(&policy, format!("mode = enforce\nuserns = allowed\nno_new_privs = allowed\n{lines}")).unwrap();
        let output = run(
            &bundle,
            &[
                &[&format!("--policy={}", policy.display()) as &str, "--console=pipe", "--private-network"],
                &script("ls /run/host")[..],
            ]
            .concat(),
        );
        assert_eq!(output.stdout, if shown { "os-release\n" } else { "" }, "{lines}: {output:?}");
        assert_eq!(output.status, 0, "{lines}: {output:?}");
    }
}

#[test]
fn a_payload_says_that_it_is_ready() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    let path = bundle.path().join("notify");
    let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut command = command(
        &bundle,
        &[&["--console=pipe"], &script("echo $NOTIFY_SOCKET; [ -S $NOTIFY_SOCKET ] && echo there")[..]].concat(),
    );
    command.env("NOTIFY_SOCKET", &path);
    assert_eq!(finish(command, b"").ok(), "/run/notify/notify.sock\nthere\n");
}

#[test]
fn a_root_that_keeps_nothing_has_them_too() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent();
    for mode in ["--volatile=state", "--volatile=overlay"] {
        let output = inside(&bundle, &[mode, "--private-network"], "cat /proc/self/mountinfo; touch /var/x");
        assert!(mount_at(&output, "/run").has("rw") && mount_at(&output, "/proc/sys").has("ro"), "{output}");
    }
    assert!(!bundle.rootfs().join("var/x").exists());
}
