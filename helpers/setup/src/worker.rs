//! The worker: a process that enters the container's namespaces, builds its root and ends.
//!
//! It is no ancestor of the payload, so that it can wear a seccomp filter which the payload does not inherit: no
//! exec, no socket connections, no path-based mount call. It is created inside the container's pid namespace,
//! since procfs shows the pid namespace of the process that mounts it.
use alloc::vec::Vec;

use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::{Plan, RootfsOp};
use rspawn_proto::report::{Place, SpawnStep, StepError};
use rspawn_sys::confine::{Allowed, allow_only};
use rspawn_sys::memory::SharedWord;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Fd, channel};

use crate::follow::told;
use crate::host::Slots;
use crate::inside::Inside;
use crate::parent::progress_word;
use crate::rootfs::Rootfs;
use crate::spawn::Container;
use rspawn_sys::failure::{Failure, Named, Outcome, timed};

/// A running worker, seen from rspawn-setup. Killed when dropped.
pub struct Worker {
    pid: i32,
    process: Fd,
    pub socket: Fd,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = process::signal(&self.process, 9);
        let _ = process::wait(self.pid, true);
    }
}

impl Worker {
    /// The pivot may come.
    pub fn give_word(&self) -> Result<(), StepError> {
        told(channel::send(&self.socket, &[], &[]), Place::Spawn(SpawnStep::Worker))
    }
}

/// What the worker needs beside the plan.
pub struct Job<'a> {
    pub plan: &'a Plan,
    pub inside: &'a Inside,
    pub audit: bool,
    pub progress: SharedWord,
    pub no_pivot: bool,
}

/// Starts the worker for a container.
pub fn start(job: &Job, container: &Container, slots: &mut Slots) -> Outcome<Worker> {
    let (mine, theirs) = channel::pair().named("socketpair")?;
    match job.inside.fork(container)? {
        Side::Parent { pid, child } => Ok(Worker { pid, process: child, socket: mine }),
        Side::Child => {
            drop(mine);
            process::exit(run(job, container, slots, &theirs))
        }
    }
}

/// In the worker.
fn run(job: &Job, container: &Container, slots: &mut Slots, socket: &Fd) -> i32 {
    let tell = |message: &FromStage, fds: &[&Fd]| channel::send_value(socket, message, fds);
    let failed = |failure: Failure, place: Place| {
        let _ = tell(&FromStage::Failed(failure.at(place)), &[]);
        1
    };
    // Without no_new_privs the filter takes CAP_SYS_ADMIN, which the worker has in its user namespace.
    let entered = job.inside.enter(container);
    if let Err(failure) = entered.and_then(|()| allow_only(&allowed_calls(job.plan)).named("seccomp")) {
        return failed(failure, Place::Spawn(SpawnStep::Worker));
    }
    let mut rootfs = Rootfs::default();
    let mut told = false;
    for (index, step) in job.plan.rootfs.iter().enumerate() {
        let place = Place::Rootfs(index as u16);
        job.progress.store(progress_word(place));
        let action = || match &step.op {
            RootfsOp::Hooks => {
                tell(&FromStage::Mounted, &[]).named("sendmsg")?;
                wait_for_word(socket, &mut told)
            }
            RootfsOp::Pivot => {
                wait_for_word(socket, &mut told)?;
                if job.no_pivot { rootfs.move_over_all() } else { rootfs.carry_out(&step.op, slots, &tell) }
            }
            RootfsOp::AttachRoot { .. } if job.no_pivot => {
                rootfs.carry_out(&step.op, slots, &tell)?;
                tell(&FromStage::Root, &[rootfs.root()?]).named("sendmsg")
            }
            op => rootfs.carry_out(op, slots, &tell),
        };
        let (done, record) = timed(job.audit, place, action);
        let recorded = record.map_or(Ok(()), |record| tell(&FromStage::Audit(record), &[]).named("sendmsg"));
        if let Err(failure) = done.and(recorded) {
            return failed(failure, place);
        }
    }
    i32::from(tell(&FromStage::Done, &[]).is_err())
}

/// Waits for the only word that is ever said to a worker, an empty message: rspawn-init is ready for the pivot, and the
/// hooks have run, if there are any.
fn wait_for_word(socket: &Fd, told: &mut bool) -> Outcome<()> {
    if *told {
        return Ok(());
    }
    *told = true;
    channel::receive(socket, 0).named("recvmsg")?.map(drop).ok_or_else(|| Failure::check("rspawn-setup died"))
}

/// Every call that the operations make. What is missing is missing on purpose: open and openat, mount, chmod, exec,
/// ptrace, connect, keyctl, bpf.
fn allowed_calls(plan: &Plan) -> Vec<Allowed> {
    const EMPTY_PATH: u32 = 0x1000;
    use libc::*;
    let calls = [
        SYS_openat2, SYS_close, SYS_statx, SYS_fstatfs, SYS_read, SYS_write, SYS_sendmsg, SYS_recvmsg, SYS_fcntl,
        SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_mkdirat, SYS_mknodat, SYS_symlinkat, SYS_readlinkat, SYS_fchownat,
        SYS_fchdir, SYS_pivot_root, SYS_umount2, SYS_mmap, SYS_clock_gettime, SYS_exit_group,
    ];
    let mut calls: Vec<Allowed> = calls.map(Allowed::Call).into();
    // Mounts by descriptor only: never by a path that someone could have changed meanwhile.
    calls.push(Allowed::With(SYS_open_tree, 2, EMPTY_PATH));
    calls.push(Allowed::With(SYS_mount_setattr, 2, EMPTY_PATH));
    calls.push(Allowed::With(SYS_move_mount, 4, 0x44));
    for step in &plan.rootfs {
        let more: &[c_long] = match step.op {
            RootfsOp::LoopbackUp => &[SYS_socket, SYS_ioctl],
            RootfsOp::Console { .. } => &[SYS_ioctl],
            RootfsOp::Hostname { .. } => &[SYS_sethostname],
            RootfsOp::Domainname { .. } => &[SYS_setdomainname],
            RootfsOp::CopyMode { .. } => &[SYS_fchmod],
            RootfsOp::CopyUp { .. } => &[SYS_getdents64, SYS_sendfile, SYS_fchmod],
            _ => &[],
        };
        calls.extend(more.iter().copied().map(Allowed::Call));
    }
    calls
}
