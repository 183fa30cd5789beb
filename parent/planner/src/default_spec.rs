//! Configurations that rspawn writes itself: the default one (`rspawn spec`), and the host's own root as a container
//! (`rspawn run --host`), or a directory's (`--directory=`).
use crate::facts::Ids;
use crate::oci::{Capabilities, IdMapping, Linux, Mount, Namespace, Process, Rlimit, Root, Spec};
use crate::prelude::*;
use crate::seccomp::{Arch, default_profile};

const VERSION: &str = "1.2.0";

/// What runc's default bundle grants.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// What container engines grant by default: enough to look like root, nothing that reaches the host.
pub const HOST_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
];

const MASKED: [&str; 11] = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A configuration to start from: a shell in `rootfs`.
pub fn default_spec(terminal: bool) -> Spec {
    Spec {
        oci_version: VERSION.into(),
        root: Some(Root { path: "rootfs".into(), readonly: true, ..Root::default() }),
        mounts: system_mounts(),
        process: Some(default_process(terminal)),
        hostname: Some("rspawn".into()),
        linux: Some(Linux {
            namespaces: namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup"]),
            masked_paths: words(&MASKED),
            readonly_paths: words(&READ_ONLY),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// Its process; and that of a bundle which has none, where the command line has a command.
pub fn default_process(terminal: bool) -> Process {
    Process {
        terminal,
        args: vec!["sh".into()],
        env: vec![PATH.into(), "TERM=xterm".into()],
        cwd: "/".into(),
        capabilities: Some(capabilities(&CAPABILITIES)),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

/// The host's own root, read-only, in namespaces of every kind.
pub fn host_spec(args: Vec<String>, terminal: bool, term: Option<String>, arch: Option<Arch>) -> Spec {
    let mut spec = default_spec(terminal);
    spec.root = Some(Root { path: "/".into(), readonly: true, readonly_recursive: true, volatile: None });
    spec.hostname = Some("rspawn-host".into());
    let writable = ["/tmp", "/run", "/var/tmp"];
    let private = |path: &&str| mount(path, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]);
    spec.mounts.extend(writable.iter().map(private));
    if let Some(process) = &mut spec.process {
        process.args = if args.is_empty() { vec!["sh".into()] } else { args };
        process.env =
            vec![PATH.into(), format!("TERM={}", term.unwrap_or_else(|| "xterm".into())), "HOME=/root".into()];
        process.capabilities = Some(capabilities(&HOST_CAPABILITIES));
        process.rlimits.clear();
    }
    if let Some(linux) = &mut spec.linux {
        linux.namespaces = namespaces(&["user", "pid", "network", "ipc", "uts", "mount", "cgroup", "time"]);
        // Every id means the same inside, but capabilities count for nothing outside.
        let all = IdMapping { container_id: 0, host_id: 0, size: u32::MAX };
        (linux.uid_mappings, linux.gid_mappings) = (vec![all], vec![all]);
        linux.seccomp = arch.map(|arch| default_profile(&HOST_CAPABILITIES, arch));
    }
    spec
}

/// A directory with a root filesystem, as it is: writable, and with what container engines grant by default.
pub fn directory_spec(path: &str, name: &str, terminal: bool, term: Option<String>, arch: Option<Arch>) -> Spec {
    let mut spec = host_spec(Vec::new(), terminal, term, arch);
    spec.root = Some(Root { path: path.into(), ..Root::default() });
    spec.hostname = Some(host_name(name));
    // Its own /tmp and /var/tmp are as writable as the rest; /run is never of a previous run.
    spec.mounts.retain(|mount| !matches!(mount.destination.as_str(), "/tmp" | "/var/tmp"));
    spec
}

/// A container's name as a host name: what DNS takes of it.
pub fn host_name(name: &str) -> String {
    let usable: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    let trimmed = usable.trim_matches('-');
    if trimmed.is_empty() { "rspawn".into() } else { trimmed.into() }
}

/// Puts a container into a user namespace with all ids that there are; the caller is its root.
pub fn in_user_namespace(spec: &mut Spec, ids: &Ids) {
    if let Some(linux) = &mut spec.linux {
        linux.namespaces.extend(namespaces(&["user"]));
        (linux.uid_mappings, linux.gid_mappings) = ids.everything();
    }
    if ids.gids.iter().all(|range| range.size < TTY) {
        spec.mounts.iter_mut().for_each(|mount| mount.options.retain(|option| *option != format!("gid={TTY}")));
    }
}

/// The group of terminals.
const TTY: u32 = 5;

pub fn system_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: words(options),
        ..Mount::default()
    }
}

pub fn capabilities(names: &[&str]) -> Capabilities {
    Capabilities { bounding: words(names), effective: words(names), permitted: words(names), ..Capabilities::default() }
}

pub fn namespaces(kinds: &[&str]) -> Vec<Namespace> {
    kinds.iter().map(|kind| Namespace { kind: kind.to_string(), path: None }).collect()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}
