//! What changes inside the container: masks, read-only paths, devices, sysctls, the root.
use std::collections::BTreeSet;

use rspawn_proto::plan::*;

use super::exposure;
use super::sentences::{Change, Sentence, both_ways};
use crate::describe;

pub fn inside(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let of = |plan: &Plan, pick: fn(&RootfsOp) -> Option<String>| -> BTreeSet<String> {
        plan.rootfs.iter().filter_map(|step| pick(&step.op)).collect()
    };
    let masked = |op: &RootfsOp| match op {
        RootfsOp::Mask { at, .. } => Some(at.absolute()),
        _ => None,
    };
    both_ways(
        out,
        &of(after, masked),
        &of(before, masked),
        |path| format!("{path} is no longer masked"),
        |path| format!("{path} is masked"),
    );
    let read_only = |op: &RootfsOp| match op {
        RootfsOp::ReadOnly { at, .. } => Some(at.absolute()),
        _ => None,
    };
    both_ways(
        out,
        &of(after, read_only),
        &of(before, read_only),
        |path| format!("{path} is no longer read-only"),
        |path| format!("{path} is read-only"),
    );
    let device = |op: &RootfsOp| match op {
        RootfsOp::MakeNode { at, kind, major, minor, .. } if *kind != NodeKind::Fifo => {
            Some(format!("{} ({})", at.absolute(), describe::node(*kind, *major, *minor)))
        }
        _ => None,
    };
    both_ways(
        out,
        &of(before, device),
        &of(after, device),
        |name| format!("has the device {name}"),
        |name| format!("no longer has the device {name}"),
    );
    devices(out, before, after);
    let sysctl = |op: &RootfsOp| match op {
        RootfsOp::Sysctl { key, value } => Some(format!("{key} = {}", value.as_str().trim_end())),
        _ => None,
    };
    both_ways(
        out,
        &of(before, sysctl),
        &of(after, sysctl),
        |setting| format!("sets the sysctl {setting}"),
        |setting| format!("no longer sets the sysctl {setting}"),
    );
    root(out, before, after);
}

/// What device rules let it use beside what every container may.
fn devices(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    let usable = |plan: &Plan| -> BTreeSet<String> { exposure::usable_devices(plan).into_iter().collect() };
    both_ways(
        out,
        &usable(before),
        &usable(after),
        |device| format!("may use {device}"),
        |device| format!("may no longer use {device}"),
    );
}

/// Its root filesystem.
fn root(out: &mut Vec<Sentence>, before: &Plan, after: &Plan) {
    match (exposure::root_propagation(before), exposure::root_propagation(after)) {
        (old, new) if old == new => {}
        (_, Propagation::Shared) => {
            out.push((Change::More, "shares the mounts of its root filesystem with the host".into()));
        }
        (Propagation::Shared, _) => {
            out.push((Change::Less, "no longer shares the mounts of its root filesystem with the host".into()));
        }
        (_, new) => out.push((Change::Other, format!("has a root filesystem that is {new:?}").to_lowercase())),
    }
    match (exposure::root_is_writable(before), exposure::root_is_writable(after)) {
        (false, true) => out.push((Change::More, "its root filesystem becomes writable".into())),
        (true, false) => out.push((Change::Less, "its root filesystem becomes read-only".into())),
        _ => {}
    }
}
