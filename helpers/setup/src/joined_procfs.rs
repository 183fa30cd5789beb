//! procfs of a pid namespace that was joined.
//!
//! It shows the pid namespace of the process that makes it, so that one must be there, where others may look at it.
//! That is a process which has nothing to look at: no descriptor but a socket and the streams, and an empty directory
//! as its root; and which somebody who takes it over by ptrace(2) can have make a procfs, and no more.
use rspawn_proto::plan::{Capabilities, FsParam, Plan, RootfsOp, VirtualFs};
use rspawn_proto::report::StepError;
use rspawn_sys::confine::{Allowed, Argument, allow_only, calls};
use rspawn_sys::mount::NewFilesystem;
use rspawn_sys::process::{self, Side};
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred, fd, file, fixed_path};

use crate::container::ContainerNamespaces;
use crate::helper_process::HelperProcess;
use crate::objects::new_filesystem;
use crate::slots::Slots;
use rspawn_proto::report::{Place, SpawnStep};

/// What is answered for each: its descriptor rides on it.
type Answer = Result<(), StepError>;

/// Makes those that the plan's worker cannot make, into their slots; and one to write sysctls through, if there are
/// any.
pub fn make(plan: &Plan, namespaces: &ContainerNamespaces, slots: &mut Slots) -> Outcome<Option<Fd>> {
    let planned = plan.rootfs.iter().filter_map(|step| match &step.op {
        RootfsOp::NewFilesystem { out, fs: VirtualFs::Proc, params, attrs } => Some((*out, (&params[..], *attrs))),
        _ => None,
    });
    let has_sysctls = plan.rootfs.iter().any(|step| matches!(step.op, RootfsOp::Sysctl { .. }));
    let wanted = planned.clone().map(|(_, wanted)| wanted).chain(has_sysctls.then_some((&[][..], 0)));
    if !namespaces.joined_pid() || wanted.clone().next().is_none() {
        return Ok(None);
    }
    let fork = || process::fork(0).named("clone3");
    let helper = HelperProcess::start(fork, |socket| match enter(namespaces, &socket) {
        Ok(()) => make_inside(wanted, &socket),
        Err(failure) => channel::send_value(&socket, &Answer::Err(failure.at(PLACE)), &[]).is_err().into(),
    })?;
    let receive = || match channel::receive_value::<Answer>(&helper.socket).named("recvmsg")? {
        Some((Ok(()), mut fds)) => fds.pop().ok_or_else(|| Failure::check("there is no procfs")),
        Some((Err(StepError { errno, detail, .. }), _)) => {
            Err(Failure::of("fsopen", rspawn_sys::Errno(errno)).with(detail))
        }
        None => Err(Failure::check("the process that makes a procfs died")),
    };
    let mut outs = planned.map(|(out, _)| out);
    let made = outs.try_for_each(|out| receive().map(|made| slots.fill(out, made)));
    let for_sysctls = made.and_then(|()| has_sysctls.then(receive).transpose());
    process::wait(helper.pid, true).named("wait4")?;
    for_sysctls
}

const PLACE: Place = Place::Spawn(SpawnStep::Worker);

/// Into the container's other namespaces and an empty root, and then, for its child, into the pid namespace.
fn enter(namespaces: &ContainerNamespaces, socket: &Fd) -> Outcome<()> {
    let empty = NewFilesystem::open("tmpfs").and_then(|new| new.create(0)).named("fsmount")?;
    // Root of the container's user namespace may not enter what it does not own; and what it owns, nobody else.
    let early = namespaces.join_pid();
    namespaces.enter()?;
    early.or_else(|_| namespaces.join_pid())?;
    file::enter_root(&empty).named("chroot")?;
    fd::close_all_but(&mut [0, 1, 2, socket.raw()]).named("close_range")?;
    cred::keep_only(Capabilities::SYS_ADMIN).named("capset")?;
    confine()
}

/// For good, the child as well: no filesystem but procfs, no namespace, nothing of a file's.
fn confine() -> Outcome<()> {
    use libc::*;
    fixed_path::seal().named("mmap")?;
    let (writable, private) = ((PROT_READ | PROT_WRITE) as u32, (MAP_PRIVATE | MAP_ANONYMOUS) as u32);
    let with_arguments = [
        Allowed::with(SYS_fsopen, [Argument::is(0, fixed_path::proc() as u64)]),
        Allowed::with(SYS_mmap, [Argument::int(2, writable), Argument::int(3, private)]),
    ];
    let plain = [SYS_fsconfig, SYS_fsmount, SYS_read, SYS_sendmsg, SYS_close, SYS_clone3, SYS_wait4, SYS_exit_group];
    allow_only(calls(&plain).chain(with_arguments)).named("seccomp")
}

/// In the process outside: has a child make them, waits for its end, and gives the exit status.
fn make_inside<'a>(wanted: impl Iterator<Item = (&'a [FsParam], u64)>, socket: &Fd) -> i32 {
    match process::fork(0) {
        Ok(Side::Child) => {
            for (params, attributes) in wanted {
                let made = new_filesystem("proc", params, attributes, &Slots::default());
                let sent = match made {
                    Ok(made) => channel::send_value(socket, &Answer::Ok(()), &[&made]),
                    Err(failure) => channel::send_value(socket, &Answer::Err(failure.at(PLACE)), &[]),
                };
                if sent.is_err() {
                    process::exit(1);
                }
            }
            process::exit(0)
        }
        Ok(Side::Parent { pid, .. }) => i32::from(process::wait(pid, true).is_err()),
        Err(errno) => {
            let error = Failure::of("clone3", errno).at(PLACE);
            channel::send_value(socket, &Answer::Err(error), &[]).is_err().into()
        }
    }
}
