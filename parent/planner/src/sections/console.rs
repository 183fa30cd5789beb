//! `process.terminal` and `process.consoleSize`: a pseudoterminal of the container's own devpts.
use crate::prelude::*;
use rspawn_proto::ids::Slot;
use rspawn_proto::plan::{HostOp, RootfsOp};

use crate::planner::Planner;

/// Whether the container gets a terminal: the invoker's word counts before the bundle's.
pub fn wanted(planner: &Planner) -> bool {
    let configured = planner.spec.process.as_ref().is_some_and(|process| process.terminal);
    planner.options.terminal.unwrap_or(configured)
}

pub fn plan(planner: &mut Planner) {
    let Some(process) = &planner.spec.process else { return };
    if !wanted(planner) {
        if process.console_size.is_some() {
            planner.note("/process/consoleSize", "ignored: the container has no terminal");
        }
        return;
    }
    let (rows, columns) = size(planner);
    if !planner.devpts && !may_have_devpts(planner) {
        let message = "a terminal needs a mount of type devpts at /dev/pts, or one of the host's that is bound there";
        planner.problem("/process/terminal", message);
        return;
    }
    let Some(uid) = planner.id("/process/user/uid", process.user.uid) else { return };
    let (Some(devpts), Some(console)) =
        (planner.inside("/process/terminal", "dev/pts"), planner.inside("/process/terminal", "dev/console"))
    else {
        return;
    };
    let (devpts, console) = (planner.target(devpts), planner.target(console));
    planner.rootfs("/process/terminal", RootfsOp::Console { devpts, console, rows, columns, uid });
}

/// Whether something of the host's is bound at /dev or /dev/pts, as clients do for `--volume /dev:/dev`. What it is shows
/// when the terminal is opened.
fn may_have_devpts(planner: &Planner) -> bool {
    let is_clone =
        |slot: Slot| planner.host.iter().any(|step| matches!(step.op, HostOp::CloneTree { out, .. } if out == slot));
    planner.mounted.iter().any(|(place, slot)| matches!(place.as_str(), "dev" | "dev/pts") && is_clone(*slot))
}

/// First size of the terminal: the configured one, else the invoker's, else none.
pub fn size(planner: &mut Planner) -> (u16, u16) {
    let configured = planner.spec.process.as_ref().and_then(|process| process.console_size);
    let mut side = |pointer: &str, value: u32| match u16::try_from(value) {
        Ok(value) => value,
        Err(_) => {
            planner.problem(pointer, format!("{value} is too large for a terminal: at most 65535"));
            0
        }
    };
    let configured = configured
        .map(|size| (side("/process/consoleSize/height", size.height), side("/process/consoleSize/width", size.width)));
    configured.or(planner.options.console_size).unwrap_or((0, 0))
}
