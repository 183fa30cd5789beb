//! `rspawn run --host`: the host's own root, read-only, in namespaces of every kind.
use std::fs;
use std::process::Command;

use rspawn_tests::{Output, Scratch, cannot_make_containers, finish, leftovers, program, status_field};

/// Runs a shell script over the host's root.
#[track_caller]
fn host_with(script: &str, options: &[&str], input: &[u8]) -> Output {
    // Started where there is no bundle.
    let empty = Scratch::new();
    let id = empty.path.file_name().unwrap().to_string_lossy().into_owned();
    let mut command = Command::new(program("rspawn"));
    command.args(["run", "--host", "--console=pipe"]).args(options).arg(&id);
    command.args(["--", "sh", "-c", script]).current_dir(&empty.path);
    let output = finish(command, input);
    let path = empty.path.clone();
    drop(empty);
    assert!(!path.exists());
    let left = leftovers(&id);
    assert!(left.is_empty(), "left behind: {left:#?}");
    output
}

#[track_caller]
fn host(script: &str) -> Output {
    host_with(script, &[], b"")
}

#[test]
fn streams_and_exit_status() {
    if cannot_make_containers() {
        return;
    }
    let output = host_with("cat; echo error >&2; exit 7", &[], b"input");
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "input", "error\n"));
    let missing = Command::new(program("rspawn")).args(["run", "--host", "--", "/no/such"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("stat /no/such: no such file or directory"));
}

#[test]
fn every_namespace_is_new() {
    if cannot_make_containers() {
        return;
    }
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let output = host(&format!("for n in {}; do readlink /proc/self/ns/$n; done", kinds.join(" "))).ok();
    let inside: Vec<&str> = output.lines().collect();
    assert_eq!(inside.len(), kinds.len());
    for (kind, inside) in kinds.iter().zip(inside) {
        let outside = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(outside.to_string_lossy(), inside, "{kind}");
    }
}

#[test]
fn the_root_and_every_mount_below_it_are_read_only() {
    if cannot_make_containers() {
        return;
    }
    // A mount of this machine's own below the root, writable outside.
    let mount = Scratch::new();
    let place = fs::canonicalize("/var").unwrap().join(mount.path.file_name().unwrap());
    fs::create_dir(&place).unwrap();
    nix::mount::mount(Some("none"), &place, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    fs::write(place.join("file"), "there").unwrap();
    let output = host(&format!(
        "for d in / /etc /home /usr /root /var {0}; do touch $d/rspawn-probe 2>/dev/null && echo $d; done; \
         cat {0}/file; exit 0",
        place.display()
    ));
    nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir(&place).unwrap();
    assert_eq!(output.ok(), "there", "directories that could be written to, if any, come first");
    // No mount can be made writable again.
    let output = host("mount -o remount,rw / 2>/dev/null; mount -o remount,bind,rw / 2>/dev/null; touch /etc/x").status;
    assert_ne!(output, 0);
}

#[test]
fn proc_dev_and_tmp_are_its_own() {
    if cannot_make_containers() {
        return;
    }
    let marker = Scratch::new();
    let name = marker.path.file_name().unwrap().to_string_lossy().into_owned();
    let output = host(&format!(
        "ls -d /tmp/{name} 2>/dev/null; ls /proc | grep -c '^[0-9]'; echo $$; for d in /tmp /run /var/tmp /dev/shm; do \
         touch $d/file || echo no $d; done; stat -c %a /tmp; echo x >/dev/null; head -c 4 /dev/urandom | wc -c; \
         ls /dev; hostname; pwd"
    ))
    .ok();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() < 10, "{output}");
    assert!(lines[1] == "1" || lines[1] == "2" || lines[1].parse::<u32>().unwrap() < 10, "{output}");
    assert_eq!(lines[2..4], ["1777", "4"], "{output}");
    for device in ["null", "zero", "full", "random", "urandom", "tty", "pts", "shm"] {
        assert!(lines.contains(&device), "{device}: {output}");
    }
    for device in ["kmsg", "mem", "loop0", "sda", "vda", "fuse"] {
        assert!(!lines.contains(&device), "{device}: {output}");
    }
    assert_eq!(lines[lines.len() - 2..], ["rspawn-host", "/"], "{output}");
}

#[test]
fn what_it_may_do_is_limited() {
    if cannot_make_containers() {
        return;
    }
    let status = host("cat /proc/self/status").ok();
    assert_eq!(status_field(&status, "NoNewPrivs"), Some("1"));
    let mask = u64::from_str_radix(status_field(&status, "CapBnd").unwrap(), 16).unwrap();
    // CAP_SYS_ADMIN, CAP_MKNOD, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE.
    for number in [21, 27, 12, 19, 16] {
        assert_eq!(mask & (1 << number), 0, "capability {number}");
    }
    assert_eq!(status_field(&status, "Seccomp"), Some("2"), "the default profile");
    for script in [
        "mknod /tmp/null c 1 3",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "hostname other",
        "unshare -m true",
        "echo x >/proc/sys/kernel/panic",
        "echo 1 >/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        assert_ne!(host(script).status, 0, "{script}");
    }
    // Only a loopback device.
    let devices = host("cat /proc/net/dev").ok();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), 1, "{devices}");
}

#[test]
fn without_a_command_it_is_a_shell() {
    if cannot_make_containers() {
        return;
    }
    let mut command = Command::new(program("rspawn"));
    command.args(["run", "--host", "--console=pipe"]);
    let output = finish(command, b"echo $0; exit 4\n");
    assert_eq!((output.status, output.stdout.as_str()), (4, "sh\n"), "{}", output.stderr);
}
