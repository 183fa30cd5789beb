//! Every key of systemd.nspawn(5): whether it is honoured, and whom it is honoured from.

/// Whose word is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Any file's: it gives no more than the container has.
    Anyone,
    /// A file's that is the invoker's or the administrator's: it reaches the host, or adds rights.
    Trusted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySupport {
    /// What it does, in the words of the command line or of config.json.
    Honoured(&'static str),
    /// Why it has no effect.
    Ignored(&'static str),
}

#[derive(Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub trust: Trust,
    pub fate: KeySupport,
}

use KeySupport::{Honoured, Ignored};
use Trust::{Anyone, Trusted};

const fn key(section: &'static str, name: &'static str, trust: Trust, fate: KeySupport) -> Key {
    Key { section, name, trust, fate }
}

const NETWORKING: KeySupport =
    Ignored("networks are made by whoever starts the container (netavark, CNI); rspawn moves or joins what exists");

pub const KEYS: &[Key] = &[
    key("Exec", "Boot", Anyone, Honoured("runs /sbin/init with Parameters= as its arguments")),
    key("Exec", "Ephemeral", Trusted, Honoured("--volatile=overlay")),
    key("Exec", "ProcessTwo", Anyone, Honoured("--as-pid2")),
    key("Exec", "Parameters", Anyone, Honoured("the command after --")),
    key("Exec", "Environment", Anyone, Honoured("--setenv=")),
    key("Exec", "User", Anyone, Honoured("--user=; from an untrusted file only if the bundle's user is root")),
    key("Exec", "Capability", Trusted, Honoured("--capability=")),
    key("Exec", "AmbientCapability", Trusted, Honoured("--ambient-capability=")),
    key("Exec", "DropCapability", Anyone, Honoured("--drop-capability=")),
    key("Exec", "KillSignal", Anyone, Honoured("--kill-signal=")),
    key("Exec", "Personality", Anyone, Honoured("--personality=")),
    key("Exec", "MachineID", Trusted, Honoured("the variable container_uuid, which systemd reads")),
    key("Exec", "WorkingDirectory", Anyone, Honoured("--chdir=")),
    key("Exec", "PivotRoot", Anyone, Ignored("the root is the directory that is named: name the one inside it")),
    key(
        "Exec",
        "PrivateUsers",
        Trusted,
        Honoured(
            "--private-users=: identity or FIRST[:COUNT]; yes, pick and managed \
         need a range that rspawn does not allocate",
        ),
    ),
    key("Exec", "NotifyReady", Anyone, Ignored("READY=1 is passed on whenever NOTIFY_SOCKET is set")),
    key("Exec", "SystemCallFilter", Anyone, Honoured("--system-call-filter=; from an untrusted file only with ~")),
    key("Exec", "LimitCPU", Trusted, LIMIT),
    key("Exec", "LimitFSIZE", Trusted, LIMIT),
    key("Exec", "LimitDATA", Trusted, LIMIT),
    key("Exec", "LimitSTACK", Trusted, LIMIT),
    key("Exec", "LimitCORE", Trusted, LIMIT),
    key("Exec", "LimitRSS", Trusted, LIMIT),
    key("Exec", "LimitNOFILE", Trusted, LIMIT),
    key("Exec", "LimitAS", Trusted, LIMIT),
    key("Exec", "LimitNPROC", Trusted, LIMIT),
    key("Exec", "LimitMEMLOCK", Trusted, LIMIT),
    key("Exec", "LimitLOCKS", Trusted, LIMIT),
    key("Exec", "LimitSIGPENDING", Trusted, LIMIT),
    key("Exec", "LimitMSGQUEUE", Trusted, LIMIT),
    key("Exec", "LimitNICE", Trusted, LIMIT),
    key("Exec", "LimitRTPRIO", Trusted, LIMIT),
    key("Exec", "LimitRTTIME", Trusted, LIMIT),
    key("Exec", "Hostname", Anyone, Honoured("--hostname=")),
    key("Exec", "NoNewPrivileges", Anyone, Honoured("--no-new-privileges=; from an untrusted file no=off is left out")),
    key("Exec", "OOMScoreAdjust", Trusted, Honoured("--oom-score-adjust=")),
    key("Exec", "CPUAffinity", Trusted, Honoured("--cpu-affinity=")),
    key(
        "Exec",
        "ResolvConf",
        Trusted,
        Honoured(
            "bind-host binds the host's file read-only; copies and links would be \
         written into the image, which rspawn does not do",
        ),
    ),
    key("Exec", "LinkJournal", Trusted, Ignored("rspawn knows no journals: bind the directory")),
    key(
        "Exec",
        "Timezone",
        Trusted,
        Honoured(
            "bind binds the host's file read-only; copies and links would be \
         written into the image, which rspawn does not do",
        ),
    ),
    key(
        "Exec",
        "SuppressSync",
        Anyone,
        Honoured("fsync and its like succeed at once; opening with O_SYNC still works"),
    ),
    key("Files", "ReadOnly", Anyone, Honoured("--read-only; from an untrusted file no is left out")),
    key("Files", "Volatile", Anyone, Honoured("--volatile=; overlay only from a trusted file")),
    key("Files", "Bind", Trusted, Honoured("--bind=")),
    key("Files", "BindReadOnly", Trusted, Honoured("--bind-ro=")),
    key("Files", "TemporaryFileSystem", Trusted, Honoured("--tmpfs=")),
    key("Files", "Inaccessible", Trusted, Honoured("--inaccessible=")),
    key("Files", "Overlay", Trusted, Honoured("--overlay=")),
    key("Files", "OverlayReadOnly", Trusted, Honoured("--overlay-ro=")),
    key("Files", "PrivateUsersChown", Trusted, OWNERSHIP),
    key("Files", "PrivateUsersOwnership", Trusted, OWNERSHIP),
    key(
        "Files",
        "BindUser",
        Trusted,
        Ignored("it would hand the user's password hash to the container (CVE-2026-40226)"),
    ),
    key("Network", "Private", Trusted, Honoured("--network=private or --network=host")),
    key("Network", "Interface", Trusted, Honoured("--network-interface=")),
    key("Network", "MACVLAN", Trusted, NETWORKING),
    key("Network", "IPVLAN", Trusted, NETWORKING),
    key("Network", "VirtualEthernet", Trusted, NETWORKING),
    key("Network", "VirtualEthernetExtra", Trusted, NETWORKING),
    key("Network", "Bridge", Trusted, NETWORKING),
    key("Network", "Zone", Trusted, NETWORKING),
    key("Network", "Port", Trusted, NETWORKING),
];

const LIMIT: KeySupport = Honoured("--rlimit=");
const OWNERSHIP: KeySupport = Ignored("files of the image keep their owners: rspawn changes none of them");

/// The key of a section.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}
