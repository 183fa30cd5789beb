//! A plan for tools.
use serde_json::{Value, json};

use super::lines;
use super::text::finish_lines;
use super::verdict::Verdict;
use crate::describe;
use rspawn_planner::Planned;

/// `steps` in the order in which they are taken, `spawn` and `finish` as structures, `notes` for what is left out.
pub fn json(planned: &Planned, verdict: Option<&Verdict>) -> Value {
    let plan = &planned.plan;
    let step = |line: &super::Line| {
        json!({
            "phase": describe::phase(line.place), "stage": describe::stage(line.place),
            "origin": line.origin, "do": line.action,
            "policy": verdict.map(|verdict| verdict.word(&line.origin)),
        })
    };
    let maps = |map: &[rspawn_proto::plan::IdMap]| -> Vec<Value> {
        map.iter().map(|r| json!({"containerID": r.inside, "hostID": r.outside, "size": r.count})).collect()
    };
    let finish = &plan.finish;
    let caps = &finish.capabilities;
    let words = |texts: &[rspawn_proto::ids::Text]| -> Vec<String> { texts.iter().map(|t| t.to_string()).collect() };
    json!({
        "id": plan.header.id.as_str(),
        "steps": lines(plan).iter().map(step).collect::<Vec<_>>(),
        "spawn": {
            "new": plan.spawn.new.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "join": plan.spawn.join.iter().map(|step| step.op.kind.name()).collect::<Vec<_>>(),
            "uidMap": maps(&plan.spawn.uid_map), "gidMap": maps(&plan.spawn.gid_map),
            "oomScoreAdj": plan.spawn.oom_score_adj,
        },
        "finish": {
            "init": format!("{:?}", finish.init).to_lowercase(), "initReason": finish.init_reason,
            "terminal": finish.terminal, "args": words(&finish.argv), "env": words(&finish.env),
            "cwd": finish.cwd.as_str(), "uid": finish.uid.raw(), "gid": finish.gid.raw(),
            "groups": finish.groups.as_ref().map(|groups| groups.iter().map(|id| id.raw()).collect::<Vec<_>>()),
            "umask": finish.umask, "noNewPrivileges": finish.no_new_privileges,
            "capabilities": {
                "bounding": describe::capabilities(caps.bounding), "permitted": describe::capabilities(caps.permitted),
                "effective": describe::capabilities(caps.effective), "inheritable": describe::capabilities(caps.inheritable),
                "ambient": describe::capabilities(caps.ambient),
            },
            "seccompInstructions": finish.seccomp.as_ref().map(|filter| filter.program.len()),
            "steps": finish_lines(finish).iter()
                .map(|line| json!({"origin": planned.origins.of(&line.pointer), "do": line.text})).collect::<Vec<_>>(),
        },
        "notes": planned.notes,
        "policy": verdict.map(Verdict::json),
    })
}
