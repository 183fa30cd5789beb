//! Words for the steps of a plan: the same ones in `rspawn plan`, in the audit log and in errors.
mod capabilities;
mod cgroups;
mod hint;
mod mounts;
mod verdict;

use rspawn_proto::plan::*;
use rspawn_proto::report::{FinishStep, Place, SpawnStep, StepError};

pub use capabilities::capabilities;
pub use cgroups::device_access;
use cgroups::{cgroup_setting, unit_properties};
use hint::hint;
use mounts::{attribute_list, fs_params, mount_attrs, propagation_name};
pub use verdict::{finding, refusal, violation};

use rspawn_planner::origin::{finish_origin, origin, spawn_origin};
use rspawn_planner::origins::Origins;
use rspawn_planner::problem::did_you_mean;
use rspawn_planner::tables::RLIMITS;

/// What happens at a place of the plan.
pub fn action(plan: &Plan, place: Place) -> String {
    match place {
        Place::Receive => "start rspawn-setup".into(),
        Place::Check => "check the plan".into(),
        Place::Host(index) => plan.host.get(index as usize).map_or_else(String::new, |step| host(plan, &step.op)),
        Place::Attach(index) => plan.attach.get(index as usize).map_or_else(String::new, |step| attach(&step.op)),
        Place::Rootfs(index) => plan.rootfs.get(index as usize).map_or_else(String::new, |step| rootfs(plan, &step.op)),
        Place::Spawn(step) => spawn(step).into(),
        Place::Finish(step) => finish(step).into(),
        Place::Supervise => "supervise the container".into(),
    }
}

/// The name of the phase that a place is in.
pub fn phase(place: Place) -> &'static str {
    match place {
        Place::Receive | Place::Check => "receive",
        Place::Host(_) => "host",
        Place::Spawn(_) => "spawn",
        Place::Attach(_) => "attach",
        Place::Rootfs(_) => "rootfs",
        Place::Finish(_) => "finish",
        Place::Supervise => "supervise",
    }
}

/// The program that takes the step.
pub fn stage(place: Place) -> &'static str {
    match place {
        Place::Rootfs(_) => "worker",
        Place::Finish(_) | Place::Spawn(SpawnStep::Enter) => "rspawn-init",
        _ => "rspawn-setup",
    }
}

/// The sentence for a failed step: where from, what, which call, why.
pub fn failure(plan: Option<&Plan>, error: &StepError, origins: &Origins) -> String {
    // runc's words, which clients match on; the place adds nothing to them.
    if error.place == Place::Finish(FinishStep::Exec) && error.errno == 0 {
        return error.detail.clone();
    }
    if let (Some(plan), Place::Finish(FinishStep::Rlimits)) = (plan, error.place)
        && let Some(limit) = error.detail.parse::<usize>().ok().and_then(|index| plan.finish.rlimits.get(index))
    {
        return failed_limit(&error.detail, limit, error, origins);
    }
    if error.detail.starts_with("/hooks/") {
        let why = if error.errno == 0 { String::new() } else { format!(": {}: {}", error.call, errno(error.errno)) };
        return format!("config.json {}{why}", error.detail);
    }
    let (origin, action) = match plan {
        // rspawn-init is executed with the payload's arguments and environment, so that they are too long shows there.
        Some(plan) if error.place == Place::Spawn(SpawnStep::Enter) && error.errno == libc::E2BIG => {
            ("/process/args".into(), action(plan, error.place))
        }
        Some(plan) => (origin(plan, error.place), action(plan, error.place)),
        None => match error.place {
            Place::Spawn(step) => (spawn_origin(step).into(), spawn(step).into()),
            Place::Finish(step) => (finish_origin(step).into(), finish(step).into()),
            place => (String::new(), phase(place).into()),
        },
    };
    let mut text = place_name(&origins.of(&origin));
    text.push_str(&shortened(&action));
    if error.errno != 0 {
        text.push_str(&format!(": {}: {}", error.call, errno(error.errno)));
        if !error.detail.is_empty() {
            text.push_str(&format!(" ({})", error.detail));
        }
    } else {
        text.push_str(&format!(": {}", error.detail));
    }
    if let Some(hint) = hint(plan, error) {
        text.push_str(&format!("; {hint}"));
    }
    if (error.call.as_str(), error.errno) == ("fsopen", libc::ENODEV) {
        text.push_str(&did_you_mean(&error.detail, FILESYSTEMS));
    }
    plan.into_iter().for_each(|plan| text.push_str(&not_done(plan, error.place)));
    text
}

/// What a step does, where that is a long list: its beginning, since the reason of the failure is what is looked for.
fn shortened(action: &str) -> String {
    const MOST: usize = 500;
    match action.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &action[..end]),
        None => action.into(),
    }
}

/// Types of mounts that bundles have. Which others there are, the kernel's modules decide.
const FILESYSTEMS: [&str; 16] = [
    "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "bind", "ramfs", "hugetlbfs", "ext4",
    "xfs", "btrfs", "squashfs", "erofs",
];

/// What an update that failed has left as it was. One of a new container leaves nothing.
fn not_done(plan: &Plan, place: Place) -> String {
    let Place::Host(failed) = place else { return String::new() };
    let mut left: Vec<&str> = plan.host.iter().skip(failed as usize + 1).map(|step| step.origin.as_str()).collect();
    left.dedup();
    if plan.header.kind != Kind::Update || left.is_empty() {
        return String::new();
    }
    format!("; not set any more: {}", left.join(", "))
}

/// The beginning of a sentence about what comes from an origin.
fn place_name(origin: &str) -> String {
    match origin {
        "" => String::new(),
        pointer if pointer.starts_with('/') => format!("config.json {pointer}: "),
        rule => format!("{rule}: "),
    }
}

/// The sentence for a resource limit that could not be set; rspawn-init gives its index in the list.
fn failed_limit(index: &str, limit: &Rlimit, error: &StepError, origins: &Origins) -> String {
    let name = RLIMITS.get(limit.resource as usize).copied().unwrap_or("a resource limit");
    let Rlimit { soft, hard, .. } = limit;
    let reason = errno(error.errno);
    let hint = match error.errno {
        libc::EPERM => "; raising a hard limit needs CAP_SYS_RESOURCE on the host",
        _ => "",
    };
    let place = place_name(&origins.of(&format!("/process/rlimits/{index}")));
    format!("{place}set {name} to soft {soft}, hard {hard}: {reason}{hint}")
}

/// An exit status as a shell gives it, in words.
pub fn status(status: i32) -> String {
    let name = |number| nix::sys::signal::Signal::try_from(number).map_or("", |signal| signal.as_str());
    match status - 128 {
        number @ 1.. => format!("signal: {number} ({})", name(number)),
        _ => format!("exit status: {status}"),
    }
}

/// `EPERM: Operation not permitted`.
pub fn errno(number: i32) -> String {
    let errno = nix::errno::Errno::from_raw(number);
    format!("{errno:?}: {}", errno.desc())
}

fn spawn(step: SpawnStep) -> &'static str {
    match step {
        SpawnStep::SealInit => "copy rspawn-init into sealed memory",
        SpawnStep::TimeOffsets => "make the time namespace and set its clocks",
        SpawnStep::Join => "join the namespaces that have a path",
        SpawnStep::Clone => "create the container's first process in its new namespaces",
        SpawnStep::IdMaps => "write the id maps of the user namespace",
        SpawnStep::OomScore => "set the OOM score",
        SpawnStep::Worker => "start the worker in the container's namespaces",
        SpawnStep::Cgroups => "enter the container's cgroups",
        SpawnStep::Hooks => "run hooks",
        SpawnStep::Record => "write the state directory and the pid file",
        SpawnStep::Enter => "execute rspawn-init in the container's first process",
    }
}

fn finish(step: FinishStep) -> &'static str {
    match step {
        FinishStep::Receive => "hand the last mile to rspawn-init",
        FinishStep::Session => "start a session and close inherited descriptors",
        FinishStep::Terminal => "take the console as controlling terminal",
        FinishStep::Stdio => "make the console stdin, stdout and stderr",
        FinishStep::Rlimits => "set a resource limit",
        FinishStep::Scheduler => "set the scheduler",
        FinishStep::IoPriority => "set the I/O priority",
        FinishStep::MemoryPolicy => "set the memory policy",
        FinishStep::Affinity => "set the CPU affinity",
        FinishStep::Personality => "set the personality",
        FinishStep::Gate => "wait for the start",
        FinishStep::Hooks => "run startContainer hooks",
        FinishStep::Keyring => "join a new session keyring",
        FinishStep::AppArmorProfile => "set the AppArmor profile of the payload",
        FinishStep::SelinuxLabel => "set the SELinux label of the payload",
        FinishStep::Umask => "set the umask",
        FinishStep::Groups => "set the supplementary groups",
        FinishStep::Gid => "set the group id",
        FinishStep::Cwd => "enter the working directory",
        FinishStep::BoundingSet => "limit the capability bounding set",
        FinishStep::Uid => "set the user id",
        FinishStep::Capabilities => "set the capabilities",
        FinishStep::NoNewPrivileges => "set no_new_privs",
        FinishStep::Seccomp => "install the seccomp filter",
        FinishStep::Listener => "install the seccomp filter and pass its listener to the agent",
        FinishStep::Fork => "start the payload's process beside init",
        FinishStep::Exec => "execute the payload",
    }
}

pub fn host(plan: &Plan, op: &HostOp) -> String {
    match op {
        HostOp::OpenPath { path, .. } => format!("open host path {path}"),
        HostOp::OpenNamespace { path, kind, .. } => format!("open {} namespace {path}", kind.name()),
        HostOp::MakeIdMap { uid_map, gid_map, .. } => {
            format!("make an id map for mounts: uids {}; gids {}", id_map(uid_map), id_map(gid_map))
        }
        HostOp::CloneTree { path, recursive, attrs, .. } => {
            let tree = if *recursive { "tree" } else { "mount" };
            format!("clone {tree} at host path {path}{}", mount_attrs(attrs))
        }
        HostOp::NewFilesystem { fs, params, attrs, .. } => {
            format!("new {fs} filesystem{}{}", fs_params(params), mount_attrs(attrs))
        }
        HostOp::SetAttrs { mount, attrs } => format!("remount {}{}", mount_name(plan, *mount), mount_attrs(attrs)),
        HostOp::OpenCgroup { mount, path, owner, .. } => {
            let owner = owner.map_or(String::new(), |owner| format!(", owner {}", owner.raw()));
            let is_scope = plan.host.iter().any(|step| matches!(step.op, HostOp::StartScope { .. }));
            let verb = if is_scope { "take" } else { "make" };
            format!("{verb} the cgroup {mount}/{path}{owner}")
        }
        HostOp::OpenResctrl { mount, group, new, .. } => cgroups::resctrl(mount, group, new.as_ref()),
        HostOp::SetCgroup { choices, .. } => {
            let names: Vec<String> = choices.iter().map(cgroup_setting).collect();
            format!("set {}", names.join(", or where there is no such file "))
        }
        HostOp::DeviceRules { rules, .. } => {
            let rules: Vec<String> = rules.iter().map(device_access).collect();
            format!("deny devices but {}", rules.join(", "))
        }
        HostOp::StartScope { unit, properties } => {
            format!("have systemd make the scope {unit}: {}", unit_properties(properties))
        }
        HostOp::SetScope { properties } => format!("have systemd set {}", unit_properties(properties)),
    }
}

pub fn attach(op: &AttachOp) -> String {
    let AttachOp::MoveNetDevice { name, new_name } = op;
    if name == new_name {
        format!("move network device {name} into the container")
    } else {
        format!("move network device {name} into the container as {new_name}")
    }
}

pub fn rootfs(plan: &Plan, op: &RootfsOp) -> String {
    match op {
        RootfsOp::Propagate { propagation, recursive } => {
            format!("cut off from the host's mounts ({})", propagation_name(*propagation, *recursive))
        }
        RootfsOp::AttachRoot { .. } => "attach the container's root".into(),
        RootfsOp::NewFilesystem { fs, params, attrs, .. } => {
            format!("new {}{}{}", fs.name(), fs_params(params), attribute_list(*attrs, "", false))
        }
        RootfsOp::CopyMode { from, .. } => format!("give it the mode of {}", from.absolute()),
        RootfsOp::CopyUp { from, .. } => format!("copy what the image has at {}", from.absolute()),
        RootfsOp::Attach { mount, at, .. } => format!("mount {} on {}", mount_name(plan, *mount), at.absolute()),
        RootfsOp::CloneTree { from, recursive, .. } => {
            let tree = if *recursive { "tree" } else { "mount" };
            format!("clone {tree} at {}, which is in the container", from.absolute())
        }
        RootfsOp::AttachLink { mount, at, copy, follow } => {
            let copied = if *copy { ", or make the same link there if it is one" } else { "" };
            let link = if *follow { "" } else { ", itself if that is a link" };
            format!("mount {} on {}{link}{copied}", mount_name(plan, *mount), at.absolute())
        }
        RootfsOp::SetAttrs { mount, attrs } => format!("remount {}{}", mount_name(plan, *mount), mount_attrs(attrs)),
        RootfsOp::MakeDirectory { at, mode } => format!("mkdir {} (mode {mode:04o}) if missing", at.absolute()),
        RootfsOp::MakeSymlink { at, target } => format!("symlink {} -> {target}", at.absolute()),
        RootfsOp::MakeNode { at, kind, major, minor, mode, uid, gid } => {
            let owner = if (uid.raw(), gid.raw()) == (0, 0) {
                String::new()
            } else {
                format!(", owner {}:{}", uid.raw(), gid.raw())
            };
            format!("mknod {} ({}, mode {mode:04o}{owner})", at.absolute(), node(*kind, *major, *minor))
        }
        RootfsOp::Console { rows, columns, .. } => {
            let size = if (*rows, *columns) == (0, 0) { String::new() } else { format!(" of {columns}x{rows}") };
            format!("open a terminal{size} and bind it on /dev/console")
        }
        RootfsOp::Mask { at, needed, .. } => {
            format!("mask {}{}", at.absolute(), if *needed { ", which must be there" } else { "" })
        }
        RootfsOp::ReadOnly { at, .. } => format!("make {} read-only", at.absolute()),
        RootfsOp::Sysctl { key, value } => format!("sysctl {key} = {value}"),
        RootfsOp::Hostname { name } => format!("set host name {name}"),
        RootfsOp::Domainname { name } => format!("set NIS domain name {name}"),
        RootfsOp::LoopbackUp => "set loopback device up".into(),
        RootfsOp::Hooks => "wait while prestart, createRuntime and createContainer hooks run".into(),
        RootfsOp::Pivot => "make it the root and drop the host's tree".into(),
    }
}

/// What a mount slot holds, as the step that made it says.
fn mount_name(plan: &Plan, slot: rspawn_proto::ids::Slot) -> String {
    let from_host = plan.host.iter().find_map(|step| match &step.op {
        HostOp::CloneTree { out, path, .. } if *out == slot => Some(path.to_string()),
        HostOp::NewFilesystem { out, fs, .. } if *out == slot => Some(fs.to_string()),
        _ => None,
    });
    let from_rootfs = || {
        plan.rootfs.iter().find_map(|step| match &step.op {
            RootfsOp::NewFilesystem { out, fs, .. } if *out == slot => Some(fs.name().to_string()),
            RootfsOp::CloneTree { out, from, .. } if *out == slot => Some(from.absolute()),
            _ => None,
        })
    };
    from_host.or_else(from_rootfs).unwrap_or_else(|| slot.to_string())
}

pub fn node(kind: NodeKind, major: u32, minor: u32) -> String {
    match kind {
        NodeKind::Char => format!("c {major}:{minor}"),
        NodeKind::Block => format!("b {major}:{minor}"),
        NodeKind::Fifo => "fifo".into(),
    }
}

pub fn id_map(map: &[IdMap]) -> String {
    let ranges: Vec<String> =
        map.iter().map(|range| format!("{}+{} -> {}", range.inside, range.count, range.outside)).collect();
    ranges.join(", ")
}
