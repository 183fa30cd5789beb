//! A stricter policy accepts a part of what a looser one accepts.
use rspawn_proto::ids::{HostPath, Slot, Text};
use rspawn_proto::namespaces::{Namespace, NamespaceSet};
use rspawn_proto::plan::*;
use rspawn_proto::policy::{
    DeniedCall, DeviceRule, Enforcement, Opened, PathRule, Policy, absolute, judge_opened, violations,
};
use rspawn_tests::Bundle;
use rspawn_tests::hostile::{Numbers, plan_of};

const PATHS: [&str; 6] = ["/srv/data", "/srv/data/sub", "/srv", "/etc", "/var/lib/x", "/home/u/y"];
const PLANS: usize = 100_000;

#[test]
fn a_stricter_policy_accepts_a_subset() {
    let mut numbers = Numbers(0x5eed);
    let mut base = plan_of(&Bundle::script("true").config, "subset", "/".as_ref());
    base.host.retain(|step| {
        !matches!(step.op, HostOp::OpenCgroup { .. } | HostOp::DeviceRules { .. } | HostOp::SetCgroup { .. })
    });
    let (mut loose_accepts, mut strict_alone_refuses) = (0, 0);
    for _ in 0..PLANS {
        let plan = some_plan(&base, &mut numbers);
        let loose = some_policy(&mut numbers);
        let strict = stricter(&loose, &mut numbers);
        let (by_loose, by_strict) = (accepts(&loose, &plan), accepts(&strict, &plan));
        assert!(
            by_loose || !by_strict,
            "the stricter policy accepts what the looser refuses:\n{strict:?}\n{loose:?}\n{plan:?}"
        );
        loose_accepts += usize::from(by_loose);
        strict_alone_refuses += usize::from(by_loose && !by_strict);
    }
    println!(
        "{PLANS} plans: the looser policy accepts {loose_accepts}, the stricter alone refuses {strict_alone_refuses}"
    );
    assert!(loose_accepts >= PLANS / 3 && strict_alone_refuses >= PLANS / 10);
}

/// As rspawn-setup, where every path leads to itself.
fn accepts(policy: &Policy, plan: &Plan) -> bool {
    let mut found = violations(policy, plan);
    for step in &plan.host {
        if let HostOp::CloneTree { path, .. } | HostOp::OpenPath { path, .. } | HostOp::OpenNamespace { path, .. } =
            &step.op
        {
            let place = absolute(path.as_str());
            let denied = policy.bind_deny.iter().find(|rule| rule.is_shown_by(&place)).map(|rule| rule.path.clone());
            judge_opened(policy, plan, step, &Opened { place: &place, denied, alone: true }, &mut found);
        }
    }
    found.is_empty()
}

fn some_plan(base: &Plan, numbers: &mut Numbers) -> Plan {
    let mut plan = base.clone();
    plan.host.truncate(0);
    for index in 0..numbers.below(3) {
        let path = HostPath::new(*numbers.pick(&PATHS)).unwrap();
        let set = *numbers.pick(&[0, attr::RDONLY]);
        let propagation = Some(*numbers.pick(&[Propagation::Private, Propagation::Slave]));
        let attrs = MountAttrs { set, propagation, recursive: true, ..MountAttrs::default() };
        let op = HostOp::CloneTree {
            out: Slot(100 + index as u16),
            path,
            expect: Expect::Any,
            recursive: numbers.below(2) == 0,
            attrs,
            peer: false,
        };
        plan.host.push(Step::new(format!("/mounts/{index}"), op));
    }
    if numbers.below(3) == 0 {
        let path = HostPath::new(*numbers.pick(&["/run/netns/a", "/proc/7/ns/net"])).unwrap();
        plan.host.push(Step::new(
            "/linux/namespaces/1",
            HostOp::OpenNamespace { out: Slot(200), path, kind: Namespace::Network },
        ));
    }
    plan.rootfs.retain(|step| !matches!(step.op, RootfsOp::MakeNode { .. }) || numbers.below(2) == 0);
    let caps = numbers.number() & numbers.number() & 0xff;
    plan.finish.capabilities =
        Capabilities { bounding: caps, permitted: caps, effective: caps, inheritable: 0, ambient: 0 };
    plan.finish.no_new_privileges = numbers.below(2) == 0;
    let number = |number: u32| Instruction { code: 0x15, jt: 0, jf: 1, k: number };
    let give = |k: u32| Instruction { code: 0x06, jt: 0, jf: 0, k };
    let load = Instruction { code: 0x20, jt: 0, jf: 0, k: 0 };
    let denied = numbers.below(4) as u32;
    let program = vec![load, number(denied), give(0x0005_0001), give(0x7fff_0000)];
    plan.finish.seccomp = (numbers.below(3) != 0).then_some(Seccomp { program, flags: 0, listener: None });
    if numbers.below(2) == 0 {
        plan.spawn.new.remove(Namespace::Ipc);
    }
    if numbers.below(3) == 0 {
        plan.spawn.new.insert(Namespace::User);
        let map = IdMap { inside: 0, outside: *numbers.pick(&[0, 1000, 100_000]), count: 1 };
        (plan.spawn.uid_map, plan.spawn.gid_map) = (vec![map], vec![map]);
    }
    if numbers.below(4) == 0 {
        let name = Text::new(*numbers.pick(&["eth0", "eth1"])).unwrap();
        plan.attach.push(Step::new("/linux/netDevices", AttachOp::MoveNetDevice { new_name: name.clone(), name }));
    }
    plan
}

fn rule(numbers: &mut Numbers) -> PathRule {
    PathRule { path: numbers.pick(&PATHS).to_string(), below: numbers.below(4) != 0, read_only: numbers.below(3) == 0 }
}

/// One that grants much, so that there is something to take away.
fn some_policy(numbers: &mut Numbers) -> Policy {
    let everywhere = PathRule { path: String::new(), below: true, read_only: false };
    let some = |numbers: &mut Numbers, of: usize| numbers.below(of) == 0;
    Policy {
        mode: Enforcement::Enforce,
        bind_allow: if some(numbers, 4) { vec![rule(numbers), rule(numbers)] } else { vec![everywhere.clone()] },
        bind_deny: if some(numbers, 5) { vec![rule(numbers)] } else { Vec::new() },
        capabilities: if some(numbers, 4) { 0x7f } else { u64::MAX },
        no_new_privileges: some(numbers, 6),
        seccomp: some(numbers, 6),
        must_deny: Vec::new(),
        user_namespace: some(numbers, 8),
        invoker_is_confined: false,
        min_host_id: if some(numbers, 6) { 1000 } else { 0 },
        own_namespaces: NamespaceSet::default(),
        join_allow: vec![everywhere],
        devices: None,
        sysctls: None,
        filesystems: None,
        usual_filesystems: false,
        protect_kernel: false,
        hooks: None,
        properties: None,
        net_devices: None,
        cgroups: None,
        resctrl: None,
    }
}

/// The same with one to three keys made stricter.
fn stricter(policy: &Policy, numbers: &mut Numbers) -> Policy {
    let mut policy = policy.clone();
    for _ in 0..=numbers.below(3) {
        match numbers.below(12) {
            0 => policy.bind_deny.push(rule(numbers)),
            1 => drop(policy.bind_allow.pop()),
            2 => policy.bind_allow.iter_mut().for_each(|rule| rule.read_only = true),
            3 => policy.capabilities &= numbers.number() | 0xf0,
            4 => policy.no_new_privileges = true,
            5 => policy.seccomp = true,
            6 => {
                let name = "call".to_string();
                policy.must_deny.push(DeniedCall { arch: 1, number: numbers.below(4) as u32, name });
            }
            7 => policy.user_namespace = true,
            8 => policy.min_host_id = policy.min_host_id.max(*numbers.pick(&[1, 1001, 100_000])),
            9 => policy.own_namespaces.insert(*numbers.pick(&[Namespace::Ipc, Namespace::User, Namespace::Pid])),
            10 => policy.join_allow = vec![PathRule { path: "/run/netns".into(), below: true, read_only: false }],
            _ => {
                let null = DeviceRule { kind: NodeKind::Char, major: 1, minor: Some(3) };
                policy.devices = Some(vec![null]);
            }
        }
    }
    policy
}
