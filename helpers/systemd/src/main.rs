//! `rspawn-scope SOCKET`: has systemd make the scope of a container, or change the properties of one.
//!
//! It gets one [`ScopeJob`] over the socket, and with it a connection to systemd's bus, which the invoker made; it
//! answers that the job is done, or why not. It can open and connect to nothing, and has no capabilities: all that it
//! could be taken over for is what may be asked on that connection, with the invoker's name.
#![forbid(unsafe_code)]

mod bus;
mod systemd;

use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::Capabilities;
use rspawn_proto::report::Place;
use rspawn_proto::unit::ScopeJob;
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_sys::confine::{allow_only, calls};
use rspawn_sys::{Failure, Fd, Named, Outcome, channel, cred};

/// What it takes to speak over two descriptors; the rest is the standard library's memory and end.
const CALLS: [libc::c_long; 21] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit_group,
];

fn main() {
    let number = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let Some(number) = number else {
        eprintln!("usage: rspawn-scope SOCKET (rspawn starts it itself)");
        std::process::exit(2);
    };
    let socket = Fd::from_raw(number);
    let answer = match serve(&socket) {
        Ok(()) => FromStage::Done,
        // Whoever asked knows for which step.
        Err(failure) => FromStage::Failed(failure.at(Place::Receive)),
    };
    let told = channel::send_value(&socket, &answer, &[]);
    std::process::exit(i32::from(told.is_err()));
}

fn serve(socket: &Fd) -> Outcome<()> {
    confine().named("confine")?;
    let (message, fds) = channel::receive(socket, MAX_PLAN)
        .named("recvmsg")?
        .ok_or_else(|| Failure::check("rspawn-scope got no request"))?;
    let job: ScopeJob = codec::decode_plan(&message).map_err(Failure::check)?;
    let bus = fds.into_iter().next().ok_or_else(|| Failure::check("rspawn-scope got no connection to the bus"))?;
    systemd::carry_out(bus, &job).map_err(|reason| Failure::check(&reason))
}

/// Before a byte is read of what others say. The bounding set stays: it matters to an exec, of which there is none.
fn confine() -> rspawn_sys::Result<()> {
    cred::no_new_privileges()?;
    cred::set_capabilities(&Capabilities::default())?;
    allow_only(calls(&CALLS))
}
