//! `process.capabilities`: names to bits.
use crate::prelude::*;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::Capabilities;

use crate::planner::Planner;
use crate::problem::did_you_mean;
use crate::tables::{CAPABILITIES, capability_name};

/// The five sets. A capability that cannot be granted is left out with a note, as config.md asks ("MUST be logged as
/// a warning by the runtime", "SHOULD NOT fail").
pub fn sets(planner: &mut Planner) -> Capabilities {
    let configured = planner.spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    let Some(configured) = configured else { return Capabilities::default() };
    let bounding = bits(planner, "bounding", &configured.bounding);
    let permitted = bits(planner, "permitted", &configured.permitted);
    let inheritable = bits(planner, "inheritable", &configured.inheritable);
    let effective = bits(planner, "effective", &configured.effective);
    let ambient = bits(planner, "ambient", &configured.ambient);
    drop_beyond(planner, "effective", effective & !permitted, "it is not permitted");
    drop_beyond(planner, "ambient", ambient & !(permitted & inheritable), "it is not both permitted and inheritable");
    Capabilities {
        bounding,
        permitted,
        inheritable,
        effective: effective & permitted,
        ambient: ambient & permitted & inheritable,
    }
}

fn bits(planner: &mut Planner, set: &str, names: &[String]) -> u64 {
    let mut bits = 0;
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("/process/capabilities/{set}/{index}");
        // What the kernel calls CAP_CHOWN some people call chown.
        let upper = name.to_ascii_uppercase();
        let found = CAPABILITIES.iter().position(|known| *known == upper || known[4..] == upper);
        match found {
            None => {
                // Of very many, the first ones say what was meant.
                let near = planner.notes.len() < 100;
                let meant = if near { did_you_mean(name, CAPABILITIES) } else { String::new() };
                planner.note(pointer, format!("there is no capability {name:?}{meant}; left out"));
            }
            // In a user namespace of its own the container may have every capability: over that namespace.
            Some(number) if planner.facts.capabilities & (1 << number) == 0 && !planner.owns(Namespace::User) => {
                planner.note(pointer, format!("{name} is left out: rspawn does not have it itself"));
            }
            Some(number) => bits |= 1 << number,
        }
    }
    bits
}

fn drop_beyond(planner: &mut Planner, set: &str, beyond: u64, reason: &str) {
    for number in (0..64).filter(|number| beyond & (1 << number) != 0) {
        planner
            .note(format!("/process/capabilities/{set}"), format!("{} is left out: {reason}", capability_name(number)));
    }
}
