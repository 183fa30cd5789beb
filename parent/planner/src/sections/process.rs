//! `process`, `linux.personality`, `linux.memoryPolicy`: the last mile.
use crate::prelude::*;
use alloc::collections::BTreeSet;

use rspawn_proto::hook::{Hook, StateTemplate};
use rspawn_proto::ids::{GuestPath, HostPath, Id, Text};
use rspawn_proto::plan::*;

use super::number_list::bit_mask;
use super::{capabilities, console, devices, init_mode, rootless};
use crate::oci::{CpuAffinity, User};
use crate::planner::{Planner, literal};
use crate::problem::did_you_mean;
use crate::seccomp;
use crate::tables::{IO_CLASSES, MEMORY_FLAGS, MEMORY_MODES, POLICIES, RLIMITS, SCHED_FLAGS};

/// The value of a name in a table; an unknown name is a problem.
fn named<T: Copy>(planner: &mut Planner, pointer: &str, name: &str, table: &[(&str, T)]) -> Option<T> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        let names = table.iter().map(|(name, _)| *name);
        planner.problem(pointer, format!("{name:?} is unknown{}", did_you_mean(name, names)));
    }
    found
}

/// The working directory is made where it is missing, as runc and crun do.
pub fn working_directory(planner: &mut Planner) {
    let Some(process) = &planner.spec.process else { return };
    let Some(at) = planner.inside("/process/cwd", &process.cwd).filter(|at| !at.is_root()) else { return };
    planner.rootfs("/process/cwd", RootfsOp::MakeDirectory { at: planner.target(at), mode: 0o755 });
}

/// The last mile; `hooks` are those of its end.
pub fn finish(planner: &mut Planner, hooks: Vec<Hook>, state: StateTemplate) -> Option<Finish> {
    let Some(process) = &planner.spec.process else {
        planner.problem("/process", "there is no process to run");
        return None;
    };
    check_program(planner, &process.args);
    planner.spawn.oom_score_adj = oom_score(planner);
    let (init, init_reason) = init_mode::choose(planner);
    init_mode::note_limit(planner, init);
    let argv = texts(planner, "/process/args", &process.args);
    let env = environment(planner);
    let cwd = working_directory_path(planner);
    let rlimits = rlimits(planner);
    let scheduler = scheduler(planner);
    let io_priority = io_priority(planner);
    let memory_policy = memory_policy(planner);
    let affinity = affinity(planner);
    let personality = personality(planner);
    let keyring = planner.options.new_keyring.then(|| literal(&format!("_ses.{}", planner.options.id)));
    let label = label(planner);
    let umask = umask(planner, process.user.umask);
    let groups = groups(planner);
    let (uid, gid) = ids(planner, &process.user);
    let capabilities = capabilities::sets(planner);
    let seccomp = filter(planner);
    let terminal = console::wanted(planner);
    let terminal_size = if terminal && planner.kind == Kind::Exec { console::size(planner) } else { (0, 0) };
    Some(Finish {
        init,
        init_reason,
        terminal,
        terminal_size,
        argv,
        env,
        cwd: cwd?,
        rlimits,
        scheduler,
        io_priority,
        memory_policy,
        first_affinity: affinity.0,
        affinity: affinity.1,
        personality,
        keyring,
        label,
        umask: Some(umask),
        groups,
        gid,
        uid,
        capabilities,
        no_new_privileges: process.no_new_privileges,
        own_null: !devices::dev_is_bound(planner),
        preserve_fds: planner.options.preserve_fds,
        seccomp,
        hooks,
        state,
    })
}

fn check_program(planner: &mut Planner, args: &[String]) {
    match args.first() {
        None => planner.problem("/process/args", "there is no program to run: args is empty"),
        Some(program) if program.is_empty() => planner.problem("/process/args/0", "the name of the program is empty"),
        Some(_) => {}
    }
}

/// rspawn-setup clears its own, so one has to be set; 0022 is what crun takes where config.json is silent.
fn umask(planner: &mut Planner, umask: Option<u32>) -> u32 {
    if umask.is_some_and(|umask| umask > 0o777) {
        planner.problem("/process/user/umask", "the umask has bits beyond 0777");
    }
    umask.unwrap_or(0o022)
}

/// The payload's user and group.
fn ids(planner: &mut Planner, user: &User) -> (Id, Id) {
    exists(planner, "/process/user/uid", user.uid, Which::User);
    exists(planner, "/process/user/gid", user.gid, Which::Group);
    let uid = planner.id("/process/user/uid", user.uid).unwrap_or(Id::ROOT);
    (uid, planner.id("/process/user/gid", user.gid).unwrap_or(Id::ROOT))
}

/// Bytes of one argument or variable, its NUL included: the kernel's MAX_ARG_STRLEN.
const MAX_STRING: usize = 128 << 10;

fn texts(planner: &mut Planner, pointer: &str, list: &[String]) -> Vec<Text> {
    let mut texts = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        if text.len() >= MAX_STRING {
            planner.problem(pointer, format!("it is longer than the kernel's {MAX_STRING} bytes"));
        } else {
            texts.extend(planner.text(&pointer, text));
        }
    }
    texts
}

fn environment(planner: &mut Planner) -> Vec<Text> {
    let process = planner.spec.process.as_ref();
    let entries = process.map_or(&[][..], |process| &process.env);
    for (index, entry) in entries.iter().enumerate() {
        let name = entry.split_once('=').map(|(name, _)| name);
        if name.is_none_or(str::is_empty) {
            let message = format!("{entry:?} is not an environment entry: it must read NAME=value");
            planner.problem(format!("/process/env/{index}"), message);
        }
    }
    // Programs disagree on which of two entries counts; runc gives them the last one alone.
    let mut seen = BTreeSet::new();
    let mut kept: Vec<(usize, &String)> = entries.iter().enumerate().rev().collect();
    kept.retain(|(_, entry)| seen.insert(entry.split('=').next()));
    kept.into_iter().rev().filter_map(|(index, entry)| planner.text(&format!("/process/env/{index}"), entry)).collect()
}

fn working_directory_path(planner: &mut Planner) -> Option<GuestPath> {
    let cwd = &planner.spec.process.as_ref()?.cwd;
    if cwd.is_empty() {
        planner
            .problem("/process/cwd", "there is no working directory: it is required, an absolute path such as \"/\"");
        return None;
    }
    if !cwd.starts_with('/') {
        planner.problem("/process/cwd", format!("the working directory {cwd:?} is not an absolute path"));
        return None;
    }
    let path = format!("/{}", rspawn_proto::ids::normalized(cwd));
    GuestPath::new(path).map_err(|reason| planner.problem("/process/cwd", reason)).ok()
}

fn oom_score(planner: &mut Planner) -> Option<i32> {
    let score = planner.spec.process.as_ref()?.oom_score_adj?;
    if !(-1000..=1000).contains(&score) {
        planner.problem("/process/oomScoreAdj", format!("{score} is outside the range from -1000 to 1000"));
        return None;
    }
    Some(score)
}

fn rlimits(planner: &mut Planner) -> Vec<Rlimit> {
    let Some(process) = &planner.spec.process else { return Vec::new() };
    let mut limits: Vec<Rlimit> = Vec::new();
    for (index, limit) in process.rlimits.iter().enumerate() {
        let pointer = format!("/process/rlimits/{index}");
        let Some(resource) = RLIMITS.iter().position(|name| *name == limit.kind) else {
            let message = format!("there is no resource limit {:?}{}", limit.kind, did_you_mean(&limit.kind, RLIMITS));
            planner.problem(format!("{pointer}/type"), message);
            continue;
        };
        let resource = resource as u8;
        if limits.iter().any(|other| other.resource == resource) {
            planner.problem(format!("{pointer}/type"), format!("{} is set twice", limit.kind));
        } else if limit.soft > limit.hard {
            let message = format!("the soft limit {} is above the hard limit {}", limit.soft, limit.hard);
            planner.problem(format!("{pointer}/soft"), message);
        } else {
            limits.push(Rlimit { resource, soft: limit.soft, hard: limit.hard });
        }
    }
    limits
}

fn scheduler(planner: &mut Planner) -> Option<Scheduler> {
    let scheduler = planner.spec.process.as_ref()?.scheduler.as_ref()?;
    let pointer = "/process/scheduler";
    let policy = named(planner, &format!("{pointer}/policy"), &scheduler.policy, &POLICIES)?;
    let mut flags = 0;
    for (index, flag) in scheduler.flags.iter().enumerate() {
        flags |= named(planner, &format!("{pointer}/flags/{index}"), flag, &SCHED_FLAGS)?;
    }
    if !(-20..=19).contains(&scheduler.nice) {
        planner.problem(format!("{pointer}/nice"), format!("{} is outside the range from -20 to 19", scheduler.nice));
    }
    let real_time = matches!(policy, 1 | 2);
    if scheduler.priority != 0 && !(real_time && (1..=99).contains(&scheduler.priority)) {
        let message = "a priority is from 1 to 99, and only for SCHED_FIFO and SCHED_RR";
        planner.problem(format!("{pointer}/priority"), message);
    }
    if policy != 6 && (scheduler.runtime | scheduler.deadline | scheduler.period) != 0 {
        planner.problem(pointer, "runtime, deadline and period are for SCHED_DEADLINE only");
    }
    Some(Scheduler {
        policy,
        flags,
        nice: scheduler.nice,
        priority: scheduler.priority.max(0) as u32,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

fn io_priority(planner: &mut Planner) -> Option<u16> {
    let io = planner.spec.process.as_ref()?.io_priority.as_ref()?;
    let class = named(planner, "/process/ioPriority/class", &io.class, &IO_CLASSES)?;
    if !(0..=7).contains(&io.priority) {
        planner.problem("/process/ioPriority/priority", format!("{} is outside the range from 0 to 7", io.priority));
        return None;
    }
    Some(class << 13 | io.priority as u16)
}

/// `execCPUAffinity`: before and after entering the container's cgroups. It is of a process that joins alone; of
/// others, what the invoker says.
fn affinity(planner: &mut Planner) -> (Vec<u64>, Vec<u64>) {
    let of_invoker = (Vec::new(), planner.options.cpus.clone());
    let wanted = planner.spec.process.as_ref().and_then(|process| process.exec_cpu_affinity.clone());
    let Some(CpuAffinity { initial, last }) = wanted else { return of_invoker };
    let mut mask = |name: &str, list: Option<String>| {
        let list = list.unwrap_or_default();
        bit_mask(&list, MOST_NUMBERS).unwrap_or_else(|| {
            let message = format!("{list:?} is not a list of CPUs such as \"0-3,7\" (below 4096)");
            planner.problem(format!("/process/execCPUAffinity/{name}"), message);
            Vec::new()
        })
    };
    let masks = (mask("initial", initial), mask("final", last));
    if planner.kind == Kind::Exec { masks } else { of_invoker }
}

fn memory_policy(planner: &mut Planner) -> Option<MemoryPolicy> {
    let policy = planner.linux()?.memory_policy.as_ref()?;
    let pointer = "/linux/memoryPolicy";
    let mut mode = named(planner, &format!("{pointer}/mode"), &policy.mode, &MEMORY_MODES)?;
    for (index, flag) in policy.flags.iter().enumerate() {
        mode |= named(planner, &format!("{pointer}/flags/{index}"), flag, &MEMORY_FLAGS)?;
    }
    match bit_mask(&policy.nodes, MOST_NUMBERS) {
        Some(nodes) => Some(MemoryPolicy { mode, nodes }),
        None => {
            let message = format!("{:?} is not a list of memory nodes such as \"0-3,7\" (below 4096)", policy.nodes);
            planner.problem(format!("{pointer}/nodes"), message);
            None
        }
    }
}

/// CPUs and memory nodes that a mask of the payload's may name.
const MOST_NUMBERS: usize = 4096;

fn personality(planner: &mut Planner) -> Option<u32> {
    let personality = planner.linux()?.personality.as_ref()?;
    if !personality.flags.is_empty() {
        planner.note("/linux/personality/flags", "ignored: the specification defines no flags");
    }
    named(planner, "/linux/personality/domain", &personality.domain, &[("LINUX", 0), ("LINUX32", 8)])
}

fn label(planner: &mut Planner) -> Option<Label> {
    let process = planner.spec.process.as_ref()?;
    let apparmor = process.apparmor_profile.as_deref().filter(|profile| !profile.is_empty());
    let selinux = process.selinux_label.as_deref().filter(|label| !label.is_empty());
    if apparmor.is_some() && !planner.facts.apparmor {
        planner.problem("/process/apparmorProfile", "this kernel does not have AppArmor enabled");
    }
    if selinux.is_some() && !planner.facts.selinux {
        planner.problem("/process/selinuxLabel", "this kernel does not have SELinux enabled");
    }
    match (apparmor, selinux) {
        (Some(profile), _) => planner.text("/process/apparmorProfile", profile).map(Label::AppArmor),
        (None, Some(label)) => planner.text("/process/selinuxLabel", label).map(Label::SeLinux),
        (None, None) => None,
    }
}

fn groups(planner: &mut Planner) -> Option<Vec<Id>> {
    let process = planner.spec.process.as_ref()?;
    let gids = &process.user.additional_gids;
    if planner.spec.annotations.get("run.oci.keep_original_groups").is_some_and(|value| value == "1") {
        return None;
    }
    if !planner.facts.ids.setgroups {
        // Whoever could leave a group would get at files that the group is kept from.
        if !gids.is_empty() {
            let message = "supplementary groups need a range of group ids: with its own alone, no user may set any";
            planner.problem("/process/user/additionalGids", message);
        }
        return None;
    }
    if gids.len() > rspawn_proto::MAX_GROUPS {
        planner.problem("/process/user/additionalGids", "the kernel takes at most 65536 supplementary groups");
        return None;
    }
    let pointer = "/process/user/additionalGids";
    let group = |(index, gid): (usize, &u32)| {
        let pointer = format!("{pointer}/{index}");
        exists(planner, &pointer, *gid, Which::Group);
        planner.id(&pointer, *gid)
    };
    Some(gids.iter().enumerate().filter_map(group).collect())
}

enum Which {
    User,
    Group,
}

/// An id that the container's mappings leave out cannot be anybody's.
fn exists(planner: &mut Planner, pointer: &str, id: u32, which: Which) {
    let (spawn, ids) = (&planner.spawn, &planner.facts.ids);
    let (map, ids, name) = match which {
        Which::User => (&spawn.uid_map, &ids.uids, "uid"),
        Which::Group => (&spawn.gid_map, &ids.gids, "gid"),
    };
    if id != u32::MAX && !rootless::is_mapped(planner, id, map, ids) {
        planner.problem(pointer, format!("the {name} {id} does not exist in the container: no id mapping has it"));
    }
}

/// crun's: a call that no table has is an error, and not left out.
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

fn filter(planner: &mut Planner) -> Option<Seccomp> {
    let profile = planner.linux()?.seccomp.as_ref()?;
    let Some(arch) = planner.facts.arch() else {
        let message = format!("rspawn has no system call table for the machine {:?}", planner.facts.machine);
        planner.problem("/linux/seccomp", message);
        return None;
    };
    let is_strict = planner.spec.annotations.get(FAIL_UNKNOWN).is_some_and(|value| value == "1");
    let options = seccomp::Options { unknown_calls_fail: is_strict, ..seccomp::Options::default() };
    match seccomp::compile(profile, arch, &options) {
        Ok(compiled) => {
            planner.notes.extend(compiled.warnings);
            let listener = if compiled.notify { Some(listener(planner, profile)?) } else { None };
            Some(Seccomp { program: compiled.program, flags: compiled.flags, listener })
        }
        Err(problems) => {
            planner.problems.extend(problems);
            None
        }
    }
}

/// The agent that a filter asks: its socket is opened with the caller's rights, as a host path of the policy's.
fn listener(planner: &mut Planner, profile: &crate::oci::seccomp::Seccomp) -> Option<Listener> {
    const PATH: &str = "/linux/seccomp/listenerPath";
    let path = HostPath::new(profile.listener_path.as_str());
    let path = path.map_err(|reason| planner.problem(PATH, reason)).ok()?;
    let socket = planner.slot();
    planner.host(PATH, HostOp::OpenPath { out: socket, path, expect: Expect::Any });
    let mut head = format!("{{\"ociVersion\":\"{}\",\"fds\":[\"seccompFd\"]", crate::oci::STATE_VERSION);
    if !profile.listener_metadata.is_empty() {
        head.push_str(&format!(",\"metadata\":{}", serde_json::json!(profile.listener_metadata)));
    }
    head.push_str(",\"pid\":");
    Some(Listener { socket, head, state: super::hooks::state(planner) })
}
