//! Tests that do not run as an ordinary user, in programs that do.

/// Tests that say nothing about an ordinary user's containers, and why.
pub const EXCEPTIONS: [(&str, &str); 50] = [
    (
        "capabilities::capabilities_that_rspawn_lacks_are_left_out_with_a_note",
        "who makes a user namespace lacks no capability in it",
    ),
    ("check_and_run::a_cgroup_that_is_taken", "the cgroup is one that root made"),
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
    ("namespaces::a_pid_namespace_is_joined_without_a_cgroup_namespace", "joins a namespace that root made"),
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
    ("networks::a_namespace_that_somebody_made", "joins a namespace that root made"),
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
pub const WITHOUT_COMMANDS: [(&str, &str); 16] = [
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
    ("check_and_run::every_exception_is_in_the_corpus", "tables alone"),
    ("overrides::the_sets_are_systemds", "tables alone"),
    ("terminal::the_harness_is_a_terminal", "the harness alone"),
];
