//! The socket by which a payload says that it is ready, where the invoker's manager wants to hear of it.
use rspawn_proto::ids::HostPath;
use rspawn_proto::plan::*;

use crate::options::NotifyMount;
use crate::planner::Planner;

const RULE: &str = "rule: NOTIFY_SOCKET";

/// Over whatever the bundle mounts on /run. Read-only: the socket must stay the host's.
pub fn plan(planner: &mut Planner) {
    let Some(NotifyMount { source, at }) = planner.options.notify.clone() else { return };
    let Some(at) = planner.inside(RULE, at) else { return };
    let Ok(path) = HostPath::new(source).map_err(|reason| planner.problem(RULE, reason)) else { return };
    let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let attrs = MountAttrs { set, propagation: Some(Propagation::Private), ..MountAttrs::default() };
    let out = planner.slot();
    planner.host(RULE, HostOp::CloneTree { out, path, expect: Expect::Any, recursive: false, attrs, peer: false });
    planner.attach(RULE, out, at, false);
}
