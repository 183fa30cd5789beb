//! A parent that was taken over, about the limits of a living container: whose cgroups it cannot reach.
use std::fs;

use rspawn_proto::ids::{HostPath, RelPath, Slot, Text};
use rspawn_proto::msg::{InvokerRequest, Purpose, ToSetup};
use rspawn_proto::plan::*;
use rspawn_proto::policy::Policy;
use rspawn_proto::record::CgroupDir;
use rspawn_proto::report::Place;
use rspawn_tests::hostile::{EvilParent, Verdict, plan_message, trusted};
use rspawn_tests::life::Life;
use rspawn_tests::{cannot_make_containers, skip_unless};

/// The container's own directory in the v1 hierarchy of pids.
fn pids(life: &Life) -> CgroupDir {
    let of_pids = |cgroup: &CgroupDir| cgroup.hierarchy.as_str() == "pids";
    life.record().cgroups.into_iter().find(of_pids).expect("a cgroup of pids")
}

fn limit(life: &Life) -> String {
    fs::read_to_string(format!("{}/pids.max", pids(life).path)).expect("a limit").trim().to_string()
}

fn lacks_pids() -> bool {
    let has = || fs::read_to_string("/proc/self/cgroup").unwrap().lines().any(|line| line.contains(":pids:"));
    cannot_make_containers() || skip_unless(has(), "v1 has no hierarchy of pids of its own")
}

fn value(file: &str, value: &str) -> HostOp {
    let text = |text: &str| Text::new(text).unwrap();
    let choices = vec![CgroupSetting { file: text(file), values: vec![text(value)] }];
    HostOp::SetCgroup { cgroup: Slot(0), choices, needed: true }
}

/// A parent that was taken over may set values in the cgroups that its invoker named, and reaches no others.
#[test]
fn a_hostile_plan_reaches_no_other_container() {
    if lacks_pids() {
        return;
    }
    let (life, victim) = (Life::idle(), Life::idle());
    life.created(&[]);
    victim.created(&[]);
    let good = {
        let mut plan = rspawn_tests::hostile::plan_of(&life.bundle.config, life.id(), life.bundle.path());
        plan.header.kind = Kind::Update;
        plan.host = vec![Step::new("/evil", value("pids.max", "77"))];
        plan.spawn = Spawn::default();
        plan.attach.clear();
        plan.rootfs.clear();
        plan.hooks = Hooks::default();
        plan
    };
    let submit = |plan: &Plan| {
        let purpose = Purpose::Update { cgroups: vec![pids(&life)], unit: None };
        let parent = EvilParent::start();
        parent.say_with(&ToSetup::Request(InvokerRequest { purpose, ..trusted(life.id(), Policy::default()) }), &[]);
        parent.say_with(&plan_message(plan.clone()), &[]);
        parent.verdict()
    };
    let open = |out: u16| {
        let path = pids(&victim).path.to_string();
        let (mount, below) = path.split_at(path.find("/pids/").unwrap() + "/pids".len());
        HostOp::OpenCgroup {
            out: Slot(out),
            hierarchy: Text::new("pids").unwrap(),
            mount: HostPath::new(mount).unwrap(),
            path: RelPath::new(below.trim_start_matches('/')).unwrap(),
            controllers: Vec::new(),
            owner: None,
        }
    };
    let in_slot = |slot: u16| match value("pids.max", "66") {
        HostOp::SetCgroup { choices, needed, .. } => HostOp::SetCgroup { cgroup: Slot(slot), choices, needed },
        _ => unreachable!(),
    };
    let up = format!("../{}/pids.max", victim.id());
    let path = |path: &str| HostOp::OpenPath { out: Slot(1), path: HostPath::new(path).unwrap(), expect: Expect::Any };
    type Change<'a> = Box<dyn Fn(&mut Plan) + 'a>;
    let host = |ops: Vec<HostOp>| -> Change {
        Box::new(move |plan| plan.host = ops.iter().map(|op| Step::new("/evil", op.clone())).collect())
    };
    let cases: Vec<(&str, Change)> = vec![
        ("opens another's cgroup", host(vec![open(1), in_slot(1)])),
        ("opens it in a slot beyond all", host(vec![open(4096)])),
        ("opens it over its own", host(vec![open(0), in_slot(0)])),
        ("names a cgroup that it was not given", host(vec![in_slot(1)])),
        ("names one beyond all", host(vec![in_slot(u16::MAX)])),
        ("climbs out by a file's name", host(vec![value(&up, "66")])),
        ("moves processes", host(vec![value("cgroup.procs", "1")])),
        ("names a program to run", host(vec![value("release_agent", "/bin/true")])),
        (
            "asks for a scope",
            host(vec![HostOp::StartScope { unit: Text::new("evil.scope").unwrap(), properties: vec![] }]),
        ),
        ("changes a scope that there is not", host(vec![HostOp::SetScope { properties: vec![] }])),
        ("opens a host path", host(vec![path("/etc/passwd")])),
        ("mounts", Box::new(|plan| plan.rootfs = vec![Step::new("/evil", RootfsOp::Pivot)])),
        ("makes namespaces", Box::new(|plan| plan.spawn.new.insert(rspawn_proto::namespaces::Namespace::User))),
        ("is about another container", Box::new(|plan| plan.header.id = victim.record().id)),
        ("is for a process", Box::new(|plan| plan.header.kind = Kind::Exec)),
        ("is for a container", Box::new(|plan| plan.header.kind = Kind::Container)),
    ];
    for (name, change) in &cases {
        let mut plan = good.clone();
        change(&mut plan);
        match submit(&plan) {
            (Verdict::Failed(error), 1, stderr) => {
                assert!(matches!(error.place, Place::Check | Place::Host(_)) && error.errno == 0, "{name}: {error:?}");
                assert_eq!(stderr, "", "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!([limit(&life), limit(&victim)], ["max", "max"], "{name}");
    }
    // And the plan that all of them were made from is carried out.
    assert!(matches!(submit(&good), (Verdict::Ran(0), 0, _)));
    assert_eq!([limit(&life), limit(&victim)], ["77", "max"]);
}
