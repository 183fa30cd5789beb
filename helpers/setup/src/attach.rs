//! Operations in the caller's namespaces on a container that exists but does not run yet.
use rspawn_proto::plan::AttachOp;
use rspawn_sys::{Named, Outcome, net_device};

use crate::container::ContainerProcess;

pub fn carry_out(op: &AttachOp, container: &ContainerProcess) -> Outcome<()> {
    let AttachOp::MoveNetDevice { name, new_name } = op;
    net_device::move_to(name.as_str(), new_name.as_str(), container.pid as u32).named("netlink")
}
