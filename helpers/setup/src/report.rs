//! What the parent is told of a plan's judgement, and of a process that is there.
use alloc::{format, string::String, vec::Vec};

use rspawn_proto::msg::{FromSetup, Mode};
use rspawn_proto::policy::Violation;
use rspawn_proto::report::{Place, SpawnStep};

use crate::container::ContainerProcess;
use crate::invoker::Invoker;
use crate::parent::{End, Parent};
use crate::state;

/// Passes on what a policy in warn mode would have refused.
pub fn warn(parent: &Parent, warnings: Vec<Violation>) -> Result<(), End> {
    warnings.into_iter().try_for_each(|warning| parent.send(&FromSetup::Warning(truncate_violation(warning)), &[]))
}

/// As much of a policy's findings as one message holds.
pub fn truncate_list(violations: Vec<Violation>) -> Vec<Violation> {
    const MOST: usize = 20;
    let mut distinct: Vec<Violation> = Vec::new();
    for violation in violations {
        if !distinct.contains(&violation) {
            distinct.push(violation);
        }
    }
    let more = distinct.len().saturating_sub(MOST);
    let mut most: Vec<Violation> = distinct.into_iter().take(MOST).map(truncate_violation).collect();
    if more > 0 {
        most.push(Violation::new("", "", format!("and {more} more")));
    }
    most
}

fn truncate_violation(violation: Violation) -> Violation {
    const MOST: usize = 1024;
    let cut = |text: String| if text.len() > MOST { text.chars().take(MOST / 4).collect() } else { text };
    Violation { origin: cut(violation.origin), what: cut(violation.what), ..violation }
}

/// Leaves a pid file where one was asked for, and says that the process is there.
pub fn announce(invoker: &Invoker, container: &ContainerProcess) -> Result<(), End> {
    let parent = invoker.parent;
    let pid = container.pid as u32;
    if let (Some(name), Some(directory)) = (&invoker.request.pid_file, &invoker.pid_directory) {
        let place = Place::Spawn(SpawnStep::Record);
        parent.step(place, || state::write_pid_file(directory, name.as_str(), container.pid))?;
    }
    let created = invoker.request.mode == Mode::Created;
    let message = if created { FromSetup::Created { pid } } else { FromSetup::Started { pid } };
    parent.send(&message, &[&container.process])
}
