//! Where each test program runs beside `cargo test`: in the virtual machine (tests/vm.md), and once more as an ordinary
//! user ([`super::user`]). This is the only list: the machine's driver and the tests read it, and a test program that is
//! not in it fails them.
use self::AsUser::{Not, Runs};
use self::Machine::{ByName, LeftOut, Resources, Systemd};

/// Its place in the virtual machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Machine {
    /// On cgroup v2 with all of its controllers, with every capability, on another kernel than the builder's.
    Resources,
    /// The same machine, when it is asked for by name: emulated, all together would take longer than a submission may,
    /// and what they are about is seen on any machine with Linux.
    ByName,
    /// On Debian with systemd.
    Systemd,
    /// Nothing about it is different on another machine, or the machine lacks what it is about.
    LeftOut(&'static str),
}

/// Whether its containers are also an ordinary user's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AsUser {
    Runs,
    Not(&'static str),
}

/// A test program, `tests/tests/FOLDER/NAME.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    pub machine: Machine,
    pub as_user: AsUser,
}

const fn program(name: &'static str, machine: Machine, as_user: AsUser) -> Program {
    Program { name, machine, as_user }
}

/// The program of a name.
pub fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

pub const PROGRAMS: [Program; 81] = [
    // tests/spec
    program(
        "bad_input",
        ByName,
        Not("what is wrong with config.json is seen before anything is made; the same for everybody"),
    ),
    program(
        "bundles",
        ByName,
        Not("root's own mounts and policies; what is a user's is in mounts, process, lifecycle and init"),
    ),
    program("capabilities", ByName, Runs),
    program("cgroups", Resources, Not("cgroups of root's making; rootless.rs has those that were delegated to a user")),
    program("device_rules", ByName, Not("device rules are programs of a cgroup's that only root may attach")),
    program("devices", ByName, Runs),
    program("hooks", ByName, Runs),
    program("incompatibilities", ByName, Runs),
    program("init", ByName, Runs),
    program("kernel_state", Resources, Runs),
    program("last_mile", ByName, Not("the same last mile; process.rs and exec.rs have users'")),
    program("last_words", ByName, Not("the same last mile; process.rs and exec.rs have users'")),
    program("masks", ByName, Runs),
    program("mount_words", ByName, Not("its overlay lies on a tmpfs in a mount namespace of root's")),
    program("mounts", ByName, Runs),
    program("namespaces", Resources, Runs),
    program("no_pivot", ByName, Not("a machine whose root is the initial ramfs, made by root")),
    program("notify", ByName, Runs),
    program("oci_bundle", ByName, Runs),
    program("oci_everything", ByName, Not("devices, limits and sysctls of root's; oci_bundle has what is a user's")),
    program(
        "oci_invalid",
        ByName,
        Not("what is wrong with config.json is seen before anything is made; the same for everybody"),
    ),
    program("process", Resources, Runs),
    program("root", ByName, Runs),
    program("rootless", ByName, Not("by users already")),
    program("run", Resources, Runs),
    program("seccomp_vs_libseccomp", LeftOut("the compiler alone, millions of verdicts"), Not("the compiler alone")),
    program("streams", ByName, Not("files of root's, for a payload of another id")),
    program("terminal", ByName, Runs),
    // tests/cli
    program("check", ByName, Not("`rspawn check` makes no container")),
    program("check_and_run", ByName, Runs),
    program("events", Resources, Not("numbers of cgroups that root made")),
    program("exec", Resources, Runs),
    program("exec_errors", ByName, Runs),
    program(
        "golden",
        LeftOut("the planner alone, on written facts; reads the sources"),
        Not("the planner alone, on written facts"),
    ),
    program("guesses", ByName, Not("what is said of a command line is the same for everybody")),
    program("host", ByName, Not("rootless.rs has `run --host` by a user")),
    program("lifecycle", Resources, Runs),
    program("orphans", ByName, Runs),
    program("networks", ByName, Runs),
    program("overrides", ByName, Runs),
    program(
        "people",
        LeftOut("what is shown of containers; the numbers are those of events"),
        Not("what is shown of root's containers; users' are shown by the same code"),
    ),
    program("plan_text", LeftOut("the planner alone"), Not("the planner alone")),
    program(
        "policy",
        ByName,
        Not("root's policy, of root's files: what a user's may be bound to is rootless_security.rs's"),
    ),
    program("runc_flags", LeftOut("the command line alone"), Not("a table, and commands that make no container")),
    program("settings", LeftOut("the planner alone; reads the sources"), Not("the planner alone")),
    program("updates", ByName, Not("root's records; a user's have the same form")),
    program("update", Resources, Not("limits of cgroups that root made")),
    // tests/clients
    program("buildah", LeftOut("needs buildah"), Not("buildah as root: podman_rootless.rs has it without")),
    program("containerd", LeftOut("needs containerd"), Not("containerd needs root")),
    program(
        "debian",
        LeftOut("needs a mirror of Debian's"),
        Not("needs a mirror of Debian's and debootstrap, which needs root"),
    ),
    program("docker", LeftOut("needs docker"), Not("docker's daemon runs as root")),
    program(
        "podman_errors",
        LeftOut("needs podman; vm_systemd has what is about the machine"),
        Not("podman as root: podman_rootless.rs has it without"),
    ),
    program(
        "podman_life",
        LeftOut("needs podman; vm_systemd has what is about the machine"),
        Not("podman as root: podman_rootless.rs has it without"),
    ),
    program(
        "podman_options",
        LeftOut("needs podman; vm_systemd has what is about the machine"),
        Not("podman as root: podman_rootless.rs has it without"),
    ),
    program("podman_rootless", LeftOut("needs podman and a network"), Not("without root already")),
    program(
        "policy_files",
        LeftOut("needs podman; what it says of bundles is policy's"),
        Not("podman as root, and a user's already"),
    ),
    // tests/hostile
    program("bad_state", ByName, Not("root spoils state directories by chown; rootless_security.rs has users' own")),
    program(
        "evil_exec",
        ByName,
        Not("a parent that was taken over speaks to root's rspawn-setup; rootless_security.rs has users'"),
    ),
    program(
        "evil_planner",
        ByName,
        Not("a parent that was taken over speaks to root's rspawn-setup; rootless_security.rs has users'"),
    ),
    program(
        "evil_update",
        ByName,
        Not("a parent that was taken over speaks to root's rspawn-setup, about root's cgroups"),
    ),
    program(
        "fuzz",
        LeftOut("asks the decoder, not the kernel; slow without hardware's help"),
        Not("asks the decoder, not the kernel"),
    ),
    program("out_of_reach", ByName, Not("what root's processes show; a user's show what is the user's")),
    program("races", ByName, Not("a neighbour against root's container; a user's can reach no more than the user")),
    program("rootless_security", ByName, Not("by users already")),
    program("sandbox", ByName, Not("what the stages of root's have given up; rootless_security.rs has users'")),
    // tests/faults
    program(
        "failure",
        ByName,
        Not("has users of its own: strace's faults cost newuidmap its setuid bit, so they have one id each"),
    ),
    program(
        "failure_life",
        ByName,
        Not("the same stages as failure.rs, which has users, and the files of root's state"),
    ),
    program("faults", ByName, Not("root's commands fail at their calls; they are the same ones")),
    program("shortages", ByName, Not("root's commands under limits; they are the same ones")),
    program("waits", ByName, Not("root's stages are stopped; a user's are the same ones")),
    // tests/vm
    program("vm_life", Resources, Not("runs in the virtual machine, as root")),
    program(
        "vm_privileges",
        Resources,
        Not("runs in the virtual machine, as root: it is about capabilities of root's"),
    ),
    program("vm_resctrl", Resources, Not("runs in the virtual machine, as root: resctrl groups are root's")),
    program("vm_resources", Resources, Not("runs in the virtual machine, as root: limits of cgroups that root made")),
    program("vm_scope", Systemd, Not("runs in the virtual machine: scopes of systemd's")),
    program("vm_systemd", Systemd, Not("runs in the virtual machine, as root")),
    // tests/source
    program("budget", LeftOut("reads the sources"), Not("reads the sources")),
    program("house", LeftOut("reads the sources"), Not("reads the sources")),
    program("lanes", LeftOut("reads the sources"), Not("reads the sources")),
    program("security_page", LeftOut("reads the sources"), Not("reads a document")),
    program("swallowed", LeftOut("reads the sources"), Not("reads the sources")),
];
