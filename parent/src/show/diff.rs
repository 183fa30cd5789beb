//! What one plan may do that another may not.
use std::collections::BTreeSet;

use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;

use super::lines;
use crate::describe;

/// Sentences about rights first, then every step that only one of the two has.
pub fn diff(before: &Plan, after: &Plan) -> String {
    let mut out = Vec::new();
    rights(&mut out, before, after);
    let facts = |plan: &Plan| -> BTreeSet<String> { lines(plan).into_iter().map(|line| line.action).collect() };
    let (old, new) = (facts(before), facts(after));
    out.extend(new.difference(&old).map(|step| format!("+ {step}")));
    out.extend(old.difference(&new).map(|step| format!("- {step}")));
    let finish = |plan: &Plan| -> BTreeSet<String> {
        super::text::finish_lines(&plan.finish).into_iter().map(|(_, text)| text).collect()
    };
    let (old, new) = (finish(before), finish(after));
    out.extend(new.difference(&old).map(|step| format!("+ {step}")));
    out.extend(old.difference(&new).map(|step| format!("- {step}")));
    if out.is_empty() {
        return "the two plans do the same\n".into();
    }
    out.push(String::new());
    out.join("\n")
}

fn rights(out: &mut Vec<String>, before: &Plan, after: &Plan) {
    let (old, new) = (&before.finish, &after.finish);
    let reach = |finish: &Finish| finish.capabilities.bounding | finish.capabilities.permitted;
    let named = |bits| describe::capabilities(bits).join(" ");
    let (gained, lost) = (reach(new) & !reach(old), reach(old) & !reach(new));
    if gained != 0 {
        out.push(format!("gains {}", named(gained)));
    }
    if lost != 0 {
        out.push(format!("loses {}", named(lost)));
    }
    if old.no_new_privileges != new.no_new_privileges {
        out.push(
            if new.no_new_privileges { "can no longer gain privileges by exec" } else { "may gain privileges by exec" }
                .into(),
        );
    }
    match (&old.seccomp, &new.seccomp) {
        (Some(_), None) => out.push("is no longer under a seccomp filter".into()),
        (None, Some(_)) => out.push("is now under a seccomp filter".into()),
        (Some(a), Some(b)) if a != b => out.push("has another seccomp filter".into()),
        _ => {}
    }
    let owned = |plan: &Plan| rspawn_proto::check::owned_namespaces(&plan.spawn);
    for kind in Namespace::ALL {
        match (owned(before).contains(kind), owned(after).contains(kind)) {
            (true, false) => out.push(format!("shares the host's {} namespace", kind.name())),
            (false, true) => out.push(format!("no longer shares the host's {} namespace", kind.name())),
            _ => {}
        }
    }
    host_paths(out, before, after);
}

fn host_paths(out: &mut Vec<String>, before: &Plan, after: &Plan) {
    let visible = |plan: &Plan| -> BTreeSet<(String, bool)> {
        let paths = plan.host.iter().filter_map(|step| match &step.op {
            HostOp::CloneTree { path, attrs, .. } => Some((path.to_string(), attrs.set & attr::RDONLY == 0)),
            HostOp::OpenPath { path, .. } => Some((path.to_string(), true)),
            _ => None,
        });
        paths.collect()
    };
    let how = |writable: &bool| if *writable { "writable" } else { "read-only" };
    let (old, new) = (visible(before), visible(after));
    for (path, writable) in new.difference(&old) {
        out.push(format!("host path {path} becomes visible, {}", how(writable)));
    }
    for (path, writable) in old.difference(&new) {
        out.push(format!("host path {path} is no longer visible, {}", how(writable)));
    }
}
