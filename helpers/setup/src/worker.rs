//! The worker: a process that enters the container's namespaces, builds its root and ends.
//!
//! It is no ancestor of the payload, so that it can wear a seccomp filter which the payload does not inherit: no
//! exec, no socket connections, no path-based mount call. It is created inside the container's new pid
//! namespace, since procfs shows the pid namespace of the process that mounts it; it stays outside one that others are
//! in already, who could look at the host's tree through it (see `joined_procfs`).
use alloc::vec::Vec;

use libc::*;

use rspawn_proto::codec::encode_word;
use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::{Plan, RootfsOp};
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_sys::confine::{Allowed, Argument, allow_only, calls};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::{Fd, Named, Outcome, channel, fixed_path};

use crate::container::ContainerNamespaces;
use crate::helper_process::HelperProcess;
use crate::rootfs::{BuildOptions, Rootfs};
use crate::slots::Slots;
use rspawn_sys::failure::timed;

/// What the worker needs beside the plan.
pub struct Job<'a> {
    pub plan: &'a Plan,
    pub namespaces: &'a ContainerNamespaces<'a>,
    pub audit: bool,
    pub progress: SharedWord,
    pub options: BuildOptions<'a>,
}

/// Starts the worker for a container.
pub fn start(job: &Job, slots: &mut Slots) -> Outcome<HelperProcess> {
    HelperProcess::start(|| job.namespaces.fork(), |socket| run(job, slots, &socket))
}

/// In the worker. Gives its exit status.
fn run(job: &Job, slots: &mut Slots, socket: &Fd) -> i32 {
    let word = build(job, slots, socket).map_or_else(FromStage::Failed, |()| FromStage::Done);
    channel::send_value(socket, &word, &[]).is_err().into()
}

fn build(job: &Job, slots: &mut Slots, socket: &Fd) -> Result<(), StepError> {
    let confined = job.namespaces.enter().and_then(|()| confine(job.plan, job.options.kernel_mounts.is_some()));
    confined.map_err(|failure| failure.at(Place::Spawn(SpawnStep::Worker)))?;
    let mut rootfs = Rootfs::new(socket, &job.options);
    for (index, step) in job.plan.rootfs.iter().enumerate() {
        let place = Place::Rootfs(index as u16);
        job.progress.store(encode_word(&place));
        let (done, record) = timed(job.audit, place, || rootfs.carry_out(&step.op, slots));
        let send = |record| channel::send_value(socket, &FromStage::Audit(record), &[]).named("sendmsg");
        let recorded = record.map_or(Ok(()), send);
        done.and(recorded).map_err(|failure| failure.at(place))?;
    }
    Ok(())
}

/// For good. Without no_new_privs it takes CAP_SYS_ADMIN, which the worker has in its user namespace.
pub fn confine(plan: &Plan, no_pivot: bool) -> Outcome<()> {
    fixed_path::seal().named("mmap")?;
    allow_only(allowed_calls(plan, no_pivot).into_iter()).named("seccomp")
}

/// Every call that the operations make, each with its reason. What is missing is missing on purpose: open and openat,
/// mount, chmod, exec, clone, ptrace, connect, keyctl, bpf, munmap and mremap.
///
/// Mounts are named by descriptor only: a path could have been changed by someone meanwhile. What seccomp cannot see is
/// the path of openat2, which has a structure, and the text of a name.
const CALLS: [(c_long, &str); 15] = [
    (SYS_openat2, "targets, in the container's root"),
    (SYS_close, "descriptors"),
    (SYS_fstatfs, "which filesystem a mount is of"),
    (SYS_read, "complaints of a filesystem, the word that the hooks have run"),
    (SYS_write, "sysctls"),
    (SYS_sendmsg, "reports, the console"),
    (SYS_recvmsg, "the word for the pivot"),
    (SYS_fsopen, "new filesystems"),
    (SYS_fsconfig, "their parameters"),
    (SYS_fsmount, "their mounts"),
    (SYS_mkdirat, "mount points"),
    (SYS_mknodat, "devices"),
    (SYS_symlinkat, "default links"),
    (SYS_fchdir, "the pivot"),
    (SYS_readlinkat, "links to nothing, and where a descriptor leads"),
];

/// The same with arguments: paths are compared by their address, at which nothing can change (see [`fixed_path`]).
fn allowed_calls(plan: &Plan, no_pivot: bool) -> Vec<Allowed> {
    let path = |index: u32, address: usize| Argument::is(index, address as u64);
    let (empty, dot) = (fixed_path::empty(), fixed_path::dot());
    const EMPTY_PATH: u32 = AT_EMPTY_PATH as u32;
    const RECURSIVE: u32 = AT_RECURSIVE as u32;
    const CLONE: u32 = OPEN_TREE_CLONE | O_CLOEXEC as u32 | EMPTY_PATH;
    const BOTH_EMPTY_PATHS: u32 = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let mut allowed: Vec<Allowed> = calls(&CALLS.map(|(call, _)| call)).collect();
    allowed.extend(calls(&[SYS_clock_gettime, SYS_exit_group]));
    allowed.extend([
        Allowed::with(SYS_open_tree, [path(1, empty), Argument::flags(2, CLONE, CLONE | RECURSIVE)]),
        Allowed::with(SYS_mount_setattr, [path(1, empty), Argument::flags(2, EMPTY_PATH, EMPTY_PATH | RECURSIVE)]),
        Allowed::with(SYS_move_mount, [path(1, empty), path(3, empty), Argument::int(4, BOTH_EMPTY_PATHS)]),
        Allowed::with(SYS_statx, [path(1, empty), Argument::int(2, EMPTY_PATH)]),
        Allowed::with(SYS_fchownat, [path(1, empty), Argument::int(4, EMPTY_PATH)]),
        Allowed::with(SYS_pivot_root, [path(0, dot), path(1, dot)]),
        Allowed::with(SYS_umount2, [path(0, dot), Argument::int(1, MNT_DETACH as u32)]),
        Allowed::with(SYS_fcntl, [Argument::int(1, F_DUPFD_CLOEXEC as u32)]),
        // Memory, but nothing over what is there, and nothing that can be executed.
        Allowed::with(
            SYS_mmap,
            [Argument::int(2, (PROT_READ | PROT_WRITE) as u32), Argument::int(3, (MAP_PRIVATE | MAP_ANONYMOUS) as u32)],
        ),
    ]);
    if no_pivot {
        // The host's procfs and sysfs, which the invoker named.
        allowed.push(Allowed::with(SYS_umount2, [Argument::int(1, (MNT_DETACH | UMOUNT_NOFOLLOW) as u32)]));
    }
    // Once each: the kernel takes 4096 instructions, which a thousand mounts would fill.
    for call in plan.rootfs.iter().flat_map(|step| calls_of(&step.op)) {
        if !allowed.contains(&call) {
            allowed.push(call);
        }
    }
    allowed
}

/// What single operations need beyond that.
fn calls_of(op: &RootfsOp) -> Vec<Allowed> {
    let ioctl = |request: u64| Allowed::with(SYS_ioctl, [Argument::int(1, request as u32)]);
    match op {
        RootfsOp::LoopbackUp => {
            let socket = Allowed::with(SYS_socket, [Argument::int(0, AF_INET as u32)]);
            [socket].into_iter().chain([ioctl(SIOCSIFFLAGS)]).collect()
        }
        RootfsOp::Console { .. } => [TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ].map(ioctl).into(),
        RootfsOp::Hostname { .. } => calls(&[SYS_sethostname]).collect(),
        RootfsOp::Domainname { .. } => calls(&[SYS_setdomainname]).collect(),
        RootfsOp::CopyMode { .. } => calls(&[SYS_fchmod]).collect(),
        RootfsOp::CopyUp { .. } => {
            let by_name = Allowed::with(SYS_statx, [Argument::int(2, AT_SYMLINK_NOFOLLOW as u32)]);
            [by_name].into_iter().chain(calls(&[SYS_getdents64, SYS_sendfile, SYS_fchmod])).collect()
        }
        _ => Vec::new(),
    }
}
