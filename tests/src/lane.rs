//! The suite's second lane, `tests/as_user.rs`: its containers are an ordinary user's. What cannot be a user's is named
//! here, with the reason.
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::user::User;

/// Names of tests of which the user has run a command, or which have said why they are skipped.
static RAN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

thread_local! {
    /// Scratch directories of the running test.
    static SCRATCHES: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Whether this test program is that lane.
pub fn is_here() -> bool {
    let me = std::env::current_exe().unwrap_or_default();
    me.file_name().is_some_and(|name| name.to_string_lossy().starts_with("as_user"))
}

/// The user whose a bundle is on this lane.
pub fn user() -> Option<User> {
    if is_here() { User::with_range() } else { None }
}

/// Called for every scratch directory.
pub fn note_scratch(path: &Path) {
    if is_here() {
        SCRATCHES.with_borrow_mut(|all| all.push(path.to_path_buf()));
    }
}

/// On this lane, the scratch directories of the running test: what it puts there is meant for its user.
pub fn scratches() -> Vec<PathBuf> {
    SCRATCHES.with_borrow(Clone::clone)
}

/// The running test's name, which its thread has.
fn test() -> Option<String> {
    std::thread::current().name().map(ToString::to_string)
}

/// The same with the test program's name before it; none where no test runs.
pub fn full_name() -> Option<String> {
    let me = std::env::current_exe().ok()?;
    // cargo adds `-HASH`, which no program of the tests has in its name.
    let program = me.file_name()?.to_str()?.split('-').next()?.to_string();
    test().filter(|name| name != "main").map(|name| format!("{program}::{name}"))
}

/// True, with the reason printed, if the running test is none for an ordinary user.
pub fn is_exception() -> bool {
    if !is_here() {
        return false;
    }
    let name = test().unwrap_or_default();
    assert_ne!(name, "main", "with --test-threads=1 tests have no names: leave it out on this lane");
    let exception = EXCEPTIONS.iter().find(|(exception, _)| *exception == name);
    if let Some((name, reason)) = exception {
        println!("EXCEPTION: {name}: {reason}");
    }
    exception.is_some()
}

/// Called for every command that is a user's, and where a test is skipped.
pub fn note_test() {
    if let Some(name) = test() {
        RAN.lock().expect("a list").insert(name);
    }
}

/// Whether the user has run a command of a test so far, or it was skipped.
pub fn has_run(test: &str) -> bool {
    RAN.lock().expect("a list").contains(test)
}

/// Tests that say nothing about an ordinary user's containers, and why.
pub const EXCEPTIONS: [(&str, &str); 47] = [
    (
        "capabilities::capabilities_that_rspawn_lacks_are_left_out_with_a_note",
        "who makes a user namespace lacks no capability in it",
    ),
    ("devices::a_bound_dev_is_left_alone", "device nodes are the host's, bound: a user can make none"),
    (
        "devices::listed_devices_have_their_kind_mode_and_owner",
        "device nodes are the host's, bound: a user can make none",
    ),
    (
        "devices::nodes_of_the_image_are_checked",
        "device nodes are the host's, bound: a user can make none, over the image's",
    ),
    (
        "devices::the_default_devices",
        "device nodes are the host's, bound: a user can make none, and owned by an id that the container lacks",
    ),
    ("incompatibilities::a_runtime_directory_must_be_there", "its command is root's, in a user namespace made for it"),
    ("incompatibilities::hooks_stay_outside_a_joined_pid_namespace", "joins a namespace that another container owns"),
    (
        "incompatibilities::a_writable_cgroup_mount_shows_the_containers_own",
        "needs a cgroup in every hierarchy of the machine, and none is delegated",
    ),
    (
        "incompatibilities::a_wrong_node_in_the_image_is_an_error",
        "device nodes are the host's, bound: a user can make none, over the image's",
    ),
    ("incompatibilities::an_update_may_change_device_rules", "only root may attach device rules to a cgroup"),
    (
        "kernel_state::sysctls_of_the_containers_namespaces",
        "kernel.domainname belongs to the machine's root in every UTS namespace",
    ),
    ("oci_bundle::a_root_that_keeps_nothing_has_them_too", "an overlay's own layers need root, as `rspawn run` says"),
    ("oci_bundle::namespaces_of_every_kind_are_joined", "joins namespaces that root's process owns"),
    (
        "masks::a_null_device_that_is_none_is_refused",
        "device nodes are the host's, bound: a user can make none: the refusal is another",
    ),
    ("mounts::a_filesystem_on_a_block_device", "needs a loop device"),
    (
        "mounts::a_shared_bind_of_a_shared_root_is_a_peer_of_the_hosts_mount",
        "mounts of a user namespace get the host's, and give nothing back",
    ),
    ("mounts::attributes_of_binds", "the kernel locks attributes of the host's mounts against a user namespace"),
    (
        "mounts::binds_keep_and_drop_attributes_of_their_source",
        "the kernel locks attributes of the host's mounts against a user namespace",
    ),
    (
        "mounts::cgroup_mounts_show_each_hierarchy",
        "needs a cgroup in every hierarchy of the machine, and none is delegated",
    ),
    (
        "mounts::id_mapped_binds_shift_owners",
        "only the root of the namespace that owns a filesystem may map it: rootless.rs has the refusal",
    ),
    (
        "mounts::id_maps_are_for_binds_and_need_both_kinds",
        "expects `idmap` to lack the container's ids, which a user's always has",
    ),
    (
        "mounts::recursive_forms_reach_submounts",
        "the kernel lets no user namespace leave out the mounts below a bind's source",
    ),
    ("mounts::tmpcopyup_brings_what_the_image_has", "files of the image belong to ids of the host that are no user's"),
    ("mounts::virtual_filesystems_take_their_options", "the kernel shows a tmpfs's owner by the machine's ids"),
    ("namespaces::a_mount_namespace_is_joined_and_becomes_the_containers", "joins a namespace that root made"),
    ("namespaces::a_user_namespace_is_joined_and_a_network_of_the_hosts", "joins a namespace that root made"),
    ("namespaces::a_user_namespace_is_joined_with_mappings_beside_it", "joins a namespace that root made"),
    ("namespaces::a_user_namespace_is_joined_with_what_it_owns", "joins a namespace that root made"),
    ("namespaces::each_kind_is_joined_by_its_path", "joins a namespace that root made"),
    (
        "namespaces::id_mappings_that_make_no_sense",
        "expects a container without a user namespace, and a user's always has one",
    ),
    ("namespaces::ids_are_mapped_range_by_range", "ids of the host that are no user's: rootless.rs maps a user's own"),
    (
        "namespaces::kinds_that_are_not_listed_are_the_callers",
        "the host's mqueue would be bound, and CI's machines have none",
    ),
    ("namespaces::loopback_is_up_in_a_new_network_namespace_only", "joins a namespace that root made"),
    ("namespaces::network_devices_move_with_their_addresses", "moves the host's network devices"),
    ("namespaces::network_devices_that_cannot_move_are_named", "moves the host's network devices"),
    (
        "namespaces::sysctls_of_a_user_namespace",
        "expects a container without a user namespace, and a user's always has one",
    ),
    ("namespaces::the_callers_mount_namespace_is_never_the_containers", "joins a namespace that root made"),
    ("overrides::a_scratch_directory_survives_nobody", "an overlay's own layers need root, as `rspawn run` says"),
    ("overrides::a_user_namespace", "expects the machine's ids outside, and sees those of rspawn-setup's namespace"),
    ("overrides::networks", "joins a namespace that root made"),
    ("overrides::a_volatile_overlay", "an overlay's own layers need root, as `rspawn run` says"),
    (
        "process::a_working_directory_that_only_its_owner_may_enter",
        "the directory belongs to an id of the host that is no user's",
    ),
    ("process::ids_groups_and_umask_are_numbers", "the gid 4294967294 is in nobody's range"),
    ("process::io_priority", "real-time I/O priority needs CAP_SYS_ADMIN or CAP_SYS_NICE of the machine's root"),
    ("process::real_time_policies", "real-time policies need CAP_SYS_NICE of the machine's root"),
    ("process::scheduling_policies_and_nice_values", "negative nice values need CAP_SYS_NICE of the machine's root"),
    ("terminal::a_terminal_of_the_hosts_devpts", "the ptmx of the host's own devpts is root's alone"),
];

/// Tests of which no command is the user's, and why.
pub const WITHOUT_COMMANDS: [(&str, &str); 15] = [
    ("incompatibilities::a_class_of_service_that_is_there_stays_as_it_is", "the planner alone"),
    ("incompatibilities::layers_beyond_thirteen_need_linux_6_7", "the planner alone"),
    ("incompatibilities::mounts_and_device_rules_are_numbered", "the planner alone"),
    ("incompatibilities::nothing_stands_around_the_configuration", "the parser alone"),
    ("incompatibilities::odd_access_letters_are_errors", "the planner alone"),
    ("incompatibilities::other_versions_than_1_are_errors", "the planner alone"),
    ("incompatibilities::relative_paths_of_hooks_are_errors", "the planner alone"),
    ("incompatibilities::scopes_are_of_cgroup_v2", "the planner alone"),
    ("incompatibilities::what_a_mount_brings_is_not_mapped_in_a_user_namespace", "the planner alone"),
    ("incompatibilities::what_cgroup_v2_cannot_express_is_an_error", "the planner alone"),
    ("init::standalone_it_adopts_orphans_and_forwards_signals", "rspawn-init alone"),
    ("init::standalone_it_is_an_init_for_anyone", "rspawn-init alone"),
    ("lifecycle::ids_are_names_and_nothing_else", "refused before there is a container"),
    ("overrides::the_sets_are_systemds", "tables alone"),
    ("terminal::the_harness_is_a_terminal", "the harness alone"),
];

/// Test programs that are no part of the lane.
pub const LEFT_OUT: [(&str, &str); 57] = [
    ("bad_input", "what is wrong with config.json is seen before anything is made; the same for everybody"),
    ("bad_state", "root spoils state directories by chown; rootless_security.rs has users' own"),
    ("budget", "reads the sources"),
    ("buildah", "buildah as root: podman_rootless.rs has it without"),
    ("bundles", "root's own mounts and policies; what is a user's is in mounts, process, lifecycle and init"),
    ("cgroups", "cgroups of root's making; rootless.rs has those that were delegated to a user"),
    ("check", "`rspawn check` makes no container"),
    ("containerd", "containerd needs root"),
    ("debian", "needs a mirror of Debian's and debootstrap, which needs root"),
    ("device_rules", "device rules are programs of a cgroup's that only root may attach"),
    ("docker", "docker's daemon runs as root"),
    ("events", "numbers of cgroups that root made"),
    ("evil_exec", "a parent that was taken over speaks to root's rspawn-setup; rootless_security.rs has users'"),
    ("evil_planner", "a parent that was taken over speaks to root's rspawn-setup; rootless_security.rs has users'"),
    ("evil_update", "a parent that was taken over speaks to root's rspawn-setup, about root's cgroups"),
    ("failure", "has users of its own: strace's faults cost newuidmap its setuid bit, so they have one id each"),
    ("failure_life", "the same stages as failure.rs, which has users, and the files of root's state"),
    ("fuzz", "asks the decoder, not the kernel"),
    ("golden", "the planner alone, on written facts"),
    ("host", "rootless.rs has `run --host` by a user"),
    ("house", "reads the sources"),
    ("mount_words", "its overlay lies on a tmpfs in a mount namespace of root's"),
    ("no_pivot", "a machine whose root is the initial ramfs, made by root"),
    ("oci_everything", "devices, limits and sysctls of root's; oci_bundle has what is a user's"),
    ("oci_invalid", "what is wrong with config.json is seen before anything is made; the same for everybody"),
    ("people", "what is shown of root's containers; users' are shown by the same code"),
    ("plan_text", "the planner alone"),
    ("policy", "root's policy, of root's files: what a user's may be bound to is rootless_security.rs's"),
    ("policy_files", "podman as root, and a user's already"),
    ("podman_errors", "podman as root: podman_rootless.rs has it without"),
    ("podman_life", "podman as root: podman_rootless.rs has it without"),
    ("podman_options", "podman as root: podman_rootless.rs has it without"),
    ("podman_rootless", "without root already"),
    ("races", "a neighbour against root's container; a user's can reach no more than the user"),
    ("rootless", "by users already"),
    ("rootless_security", "by users already"),
    ("runc_flags", "a table, and commands that make no container"),
    ("sandbox", "what the stages of root's have given up; rootless_security.rs has users'"),
    ("seccomp_vs_libseccomp", "the compiler alone"),
    ("settings", "the planner alone"),
    ("update", "limits of cgroups that root made"),
    ("updates", "root's records; a user's have the same form"),
    ("vm_life", "runs in the virtual machine, as root"),
    ("vm_resctrl", "runs in the virtual machine, as root: resctrl groups are root's"),
    ("vm_privileges", "runs in the virtual machine, as root: it is about capabilities of root's"),
    ("vm_resources", "runs in the virtual machine, as root: limits of cgroups that root made"),
    ("vm_scope", "runs in the virtual machine: scopes of systemd's"),
    ("vm_systemd", "runs in the virtual machine, as root"),
    ("faults", "root's commands fail at their calls; they are the same ones"),
    ("last_mile", "the same last mile; process.rs and exec.rs have users'"),
    ("last_words", "the same last mile; process.rs and exec.rs have users'"),
    ("out_of_reach", "what root's processes show; a user's show what is the user's"),
    ("security_page", "reads a document"),
    ("shortages", "root's commands under limits; they are the same ones"),
    ("streams", "files of root's, for a payload of another id"),
    ("swallowed", "reads the sources"),
    ("waits", "root's stages are stopped; a user's are the same ones"),
];
