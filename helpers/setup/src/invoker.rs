//! What the invoker has said and opened. No plan has a say in it.
use alloc::string::ToString;

use rspawn_proto::msg::{InvokerRequest, Mode, Purpose, ToSetup};
use rspawn_proto::report::Place;
use rspawn_proto::{MAX_PLAN, WIRE_VERSION, codec};
use rspawn_sys::{Failure, Fd, channel};

use crate::parent::{End, Parent};
use crate::state::StateDir;

pub struct Invoker<'a> {
    pub parent: &'a Parent,
    pub request: InvokerRequest,
    pub fds: PurposeFds,
    /// The directory of the pid file.
    pub pid_directory: Option<Fd>,
    /// A connection to the bus on which systemd is asked for a scope.
    pub bus: Option<Fd>,
}

impl Invoker<'_> {
    /// What the container leaves goes with its payload, which this program waits for.
    pub fn ends_with_container(&self) -> bool {
        self.request.mode == Mode::Foreground && !self.request.keep
    }

    pub fn gate(&self) -> Option<&StartGate> {
        if let PurposeFds::Container { gate, .. } = &self.fds { gate.as_ref() } else { None }
    }
}

/// Where a container waits for its start: two pipes, and the page for its last words.
pub struct StartGate {
    pub gate: Fd,
    pub report: Fd,
    pub page: Fd,
}

/// The descriptors of a purpose.
pub enum PurposeFds {
    Container {
        state: StateDir,
        /// Where the container is only created.
        gate: Option<StartGate>,
    },
    Exec {
        target: Fd,
    },
    Update,
}

/// Receives the first message.
pub fn receive(parent: &Parent) -> Result<Invoker<'_>, End> {
    let refuse = |reason: &str| End::Failed(Failure::check(reason).at(Place::Receive));
    let (message, fds) = match channel::receive(&parent.control, MAX_PLAN) {
        Ok(Some(received)) => received,
        Ok(None) => return Err(End::Orphaned),
        Err(errno) => return Err(Failure::of("recvmsg", errno).at(Place::Receive).into()),
    };
    let request = match codec::decode_message(&message).map_err(refuse)? {
        ToSetup::Request(request) if request.version == WIRE_VERSION => request,
        ToSetup::Request(_) => return Err(refuse("rspawn and rspawn-setup are of different builds")),
        _ => return Err(refuse("the first message is not the invoker's")),
    };
    let mut fds = fds.into_iter();
    let mut take = || fds.next().ok_or_else(|| refuse("the invoker's message lacks a descriptor"));
    let purpose_fds = match request.purpose {
        Purpose::Container { .. } => {
            let name = request.id.as_str().to_string();
            let state = StateDir { dir: take()?, root: take()?, name };
            let mut gates = || Ok::<StartGate, End>(StartGate { gate: take()?, report: take()?, page: take()? });
            let gate = if request.mode == Mode::Created { Some(gates()?) } else { None };
            PurposeFds::Container { state, gate }
        }
        Purpose::Exec { .. } => PurposeFds::Exec { target: take()? },
        Purpose::Update { .. } => PurposeFds::Update,
    };
    let pid_directory = request.pid_file.as_ref().map(|_| take()).transpose()?;
    let bus = if request.bus { Some(take()?) } else { None };
    parent.audit.set(request.audit);
    Ok(Invoker { parent, request, fds: purpose_fds, pid_directory, bus })
}
