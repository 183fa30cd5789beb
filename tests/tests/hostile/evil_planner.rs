//! A parent that was taken over: it speaks the wire to a real rspawn-setup and asks for what no config.json can ask
//! for, or for what the policy forbids. All of it must be refused, with no effect and nothing left behind.
mod evil;

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use evil::{Case, Outcome, structural_cases};
use rspawn_proto::check::check;
use rspawn_proto::msg::ToSetup;
use rspawn_proto::plan::*;
use rspawn_proto::policy::Policy;
use rspawn_proto::report::Place;
use rspawn_proto::{MAX_MESSAGE, MAX_PLAN, WIRE_VERSION, codec};
use rspawn_tests::hostile::{
    Canaries, EvilParent, Numbers, Verdict, only, packets, plan_message, plan_of, policy, submit, trusted,
};
use rspawn_tests::{Bundle, Scratch, cannot_make_containers, finish, leftovers, program, wait_for};
use serde_json::json;

/// What of the host a hostile plan would love to change.
struct Host {
    canaries: Canaries,
    scratch: Scratch,
    before: Vec<String>,
}

impl Host {
    fn look() -> Self {
        let scratch = Scratch::new();
        let canaries = Canaries::lay_out(&scratch.path.join("host"));
        Self { canaries, scratch, before: Self::state() }
    }

    fn state() -> Vec<String> {
        let files = ["kernel/hostname", "kernel/domainname", "kernel/core_pattern", "kernel/msgmax", "vm/swappiness"];
        files.map(|file| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default()).into()
    }

    #[track_caller]
    fn assert_untouched(&self, id: &str) {
        self.canaries.assert_untouched();
        assert_eq!(self.before, Self::state(), "a setting of the host's has changed");
        let left = leftovers(id);
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    fn secret(&self) -> String {
        self.scratch.path.join("host/secret").to_string_lossy().into_owned()
    }
}

fn base(bundle: &Bundle) -> Plan {
    plan_of(&bundle.config, &bundle.id, bundle.path())
}

#[test]
fn structurally_hostile_plans_are_refused() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo the payload ran");
    let host = Host::look();
    let good = base(&bundle);
    let cases = structural_cases(&good, &host.secret());
    assert!(cases.len() >= 300, "only {} cases", cases.len());
    let mut names = HashSet::new();
    for case in &cases {
        assert!(names.insert(case.name.as_str()), "two cases are called {}", case.name);
    }
    for Case { name, plan, outcome } in cases {
        assert_ne!(plan, good, "{name}: the case changes nothing");
        match (submit(trusted(&bundle.id, Policy::default()), plan.clone()), outcome) {
            ((Verdict::Ran(0), 0, _), Outcome::Cut) => continue,
            ((Verdict::Failed(error), 1, _), Outcome::ByTheKernel(call, errno)) => {
                assert_eq!((error.call.as_str(), error.errno), (call, errno), "{name}: {error:?}");
                continue;
            }
            ((Verdict::Failed(error), 1, stderr), Outcome::Refused(reason)) => {
                assert!(error.detail.contains(reason), "{name}: {error:?}");
                assert_eq!((error.errno, error.call.as_str()), (0, "check"), "{name}: {error:?}");
                assert_eq!(stderr, "", "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        // The same verdict without the wire.
        let own = plan.header.id == good.header.id && plan.finish.preserve_fds == 0;
        assert!(check(&plan).is_err() || !own, "{name}: the check by itself accepts it");
    }
    host.assert_untouched(&bundle.id);
    // And the plan that all of them were made from runs.
    match submit(trusted(&bundle.id, Policy::default()), good) {
        (Verdict::Ran(0), 0, _) => {}
        other => panic!("the good plan: {other:?}"),
    }
    bundle.assert_nothing_left();
}

#[test]
fn hostile_bytes_are_refused() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo the payload ran");
    let host = Host::look();
    let plan = base(&bundle);
    let good = codec::encode(&plan_message(plan.clone())).unwrap();
    let invoker = codec::encode(&ToSetup::Request(trusted(&bundle.id, Policy::default()))).unwrap();
    // What is sent, in messages or packets, and part of the reason; "" where it may only hang up.
    let refused = |name: &str, send: &dyn Fn(&EvilParent), reason: &str| {
        let parent = EvilParent::start();
        send(&parent);
        parent.fall_silent();
        match parent.verdict() {
            (Verdict::Failed(error), 1, stderr) => {
                assert!(error.detail.contains(reason), "{name}: {error:?}");
                assert!(matches!(error.place, Place::Receive | Place::Check), "{name}: {error:?}");
                assert_eq!(stderr, "", "{name}");
            }
            (Verdict::Silence, 1, stderr) if reason.is_empty() => assert_eq!(stderr, "", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    };
    refused("a plan before the invoker's word", &|p| p.say_bytes(&good), "");
    refused("a signal first", &|p| p.say(&ToSetup::Signal(9)), "the first message is not the invoker's");
    refused("the invoker's word twice", &|p| [0; 2].iter().for_each(|_| p.say_bytes(&invoker)), "not a plan");
    let after = |bytes: &[u8], p: &EvilParent| {
        p.say_bytes(&invoker);
        p.say_bytes(bytes);
    };
    refused("a signal for a plan", &|p| after(&codec::encode(&ToSetup::Signal(9)).unwrap(), p), "not a plan");
    let mut other = trusted(&bundle.id, Policy::default());
    other.version = WIRE_VERSION + 1;
    let other = codec::encode(&ToSetup::Request(other)).unwrap();
    refused("an invoker of another build", &|p| p.say_bytes(&other), "different builds");
    refused("bytes after the plan", &|p| after(&[&good[..], &[0]].concat(), p), "bytes after its end");
    refused("an empty message", &|p| after(&[], p), "not well formed");
    refused("an empty packet", &|p| p.say_packet(&[]), "");
    refused("a packet of another kind", &|p| p.say_packet(&[7, 1, 2, 3]), "");
    refused("a message that never ends", &|p| p.say_packet(&[&[1u8][..], &invoker].concat()), "");
    refused("an oversized invoker's word", &|p| p.say_bytes(&vec![0; MAX_MESSAGE + 1]), "larger than its limit");
    refused("an oversized plan", &|p| after(&vec![0; MAX_PLAN + 1], p), "");
    refused("a plan of length claims", &|p| after(&[&[1u8][..], &[0xfd; 64]].concat(), p), "not well formed");
    for (index, packet) in packets(&good).iter().enumerate().take(1) {
        refused(
            &format!("the plan's packet {index} alone, marked as more"),
            &|p| {
                p.say_bytes(&invoker);
                p.say_packet(&[&[1u8][..], &packet[1..]].concat());
            },
            "",
        );
    }
    let mut numbers = Numbers(7);
    for length in (0..good.len()).step_by(good.len() / 40) {
        refused(&format!("the plan cut at {length}"), &|p| after(&good[..length], p), "");
    }
    for round in 0..40 {
        let garbage: Vec<u8> = (0..numbers.below(5000)).map(|_| numbers.number() as u8).collect();
        refused(&format!("garbage {round}"), &|p| after(&garbage, p), "");
        refused(&format!("garbage {round} first"), &|p| p.say_bytes(&garbage), "");
    }
    host.assert_untouched(&bundle.id);
}

#[test]
fn a_parent_that_hangs_up_leaves_nothing() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("sleep 60");
    let plan = base(&bundle);
    let invoker = || ToSetup::Request(trusted(&bundle.id, Policy::default()));
    for said in 0..3 {
        let mut parent = EvilParent::start();
        if said > 0 {
            parent.say(&invoker());
        }
        if said > 1 {
            parent.say(&plan_message(plan.clone()));
        }
        parent.hang_up();
        let output = parent.end();
        assert_eq!((output.status, output.stderr.as_str()), (1, ""), "after {said} messages");
        bundle.assert_nothing_left();
    }
}

/// While the payload runs, the only thing that the parent can have is signals delivered; a second plan ends it all.
#[test]
fn a_second_plan_ends_the_container() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("touch /started; sleep 60");
    let plan = base(&bundle);
    for second in [plan_message(plan.clone()), ToSetup::Request(trusted(&bundle.id, Policy::default()))] {
        let _ = fs::remove_file(bundle.rootfs().join("started"));
        let parent = EvilParent::start();
        parent.say(&ToSetup::Request(trusted(&bundle.id, Policy::default())));
        parent.say(&plan_message(plan.clone()));
        wait_for("the payload starts", || bundle.rootfs().join("started").exists());
        parent.say(&second);
        match parent.verdict() {
            (Verdict::Silence, 1, stderr) => assert_eq!(stderr, ""),
            other => panic!("{other:?}"),
        }
        bundle.assert_nothing_left();
    }
    // Signals of any number are no more than signals; the last one kills.
    let parent = EvilParent::start();
    let _ = fs::remove_file(bundle.rootfs().join("started"));
    parent.say(&ToSetup::Request(trusted(&bundle.id, Policy::default())));
    parent.say(&plan_message(plan));
    wait_for("the payload starts", || bundle.rootfs().join("started").exists());
    for number in [0, 65, 128, 255, 9] {
        parent.say(&ToSetup::Signal(number));
    }
    match parent.verdict() {
        (Verdict::Ran(9), 0, _) => {}
        other => panic!("{other:?}"),
    }
    bundle.assert_nothing_left();
}

/// Each rule of a policy: a configuration that it grants, and plans that it refuses.
#[test]
fn a_policy_is_enforced_on_the_decoded_plan() {
    if cannot_make_containers() {
        return;
    }
    let host = Host::look();
    let outside = host.scratch.path.join("host");
    let outside = outside.to_str().unwrap();
    fs::create_dir_all(host.scratch.path.join("links")).unwrap();
    let link = host.scratch.path.join("links/link");
    std::os::unix::fs::symlink(outside, &link).unwrap();
    let link = link.to_str().unwrap();
    let bind = |source: &str, options: &[&str]| {
        let options: Vec<String> = ["bind"].iter().chain(options).map(|option| option.to_string()).collect();
        let source = source.to_string();
        move |b: Bundle| {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            b.with_mount("/mnt", "none", &source, &options)
        }
    };
    let any = "bind.allow = /tmp/**";
    let scratch = host.scratch.path.to_str().unwrap();
    type Change<'a> = Box<dyn Fn(Bundle) -> Bundle + 'a>;
    let set = |pointer: &'static str, value: serde_json::Value| -> Change {
        Box::new(move |b: Bundle| {
            b.with(|config| *config.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone())
        })
    };
    let nothing = || -> Change { Box::new(|b| b) };
    let rule = |part: serde_json::Value| -> Change {
        let mut rule = json!({"allow": true, "access": "rwm"});
        rule.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        Box::new(move |b| b.with(|config| config["linux"]["resources"] = json!({ "devices": [rule] })))
    };
    let cases: Vec<(String, Change, &str)> = vec![
        // A policy, a bundle, and the rule that refuses it; "" if it is granted.
        (any.into(), nothing(), ""),
        (any.into(), Box::new(bind("/etc", &["ro"])), "bind.allow"),
        (any.into(), Box::new(bind("/tmp/../etc", &["ro"])), "bind.allow"),
        (any.into(), Box::new(bind("//etc", &["ro"])), "bind.allow"),
        (any.into(), Box::new(bind(outside, &["ro"])), ""),
        (format!("bind.allow = {scratch}/**:ro /tmp/**"), Box::new(bind(outside, &["ro"])), ""),
        (format!("bind.allow = {scratch}/**:ro"), Box::new(bind(outside, &["rw"])), "bind.allow"),
        (format!("bind.deny = {outside}"), Box::new(bind(outside, &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}/"), Box::new(bind(outside, &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind(&format!("{outside}/"), &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind(&format!("{outside}/."), &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind(&format!("{outside}/dir/.."), &[])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind(scratch, &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind("/", &["ro"])), "bind.deny"),
        ("bind.deny = /**".into(), Box::new(bind("/", &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}/**"), Box::new(bind(&format!("{outside}/secret"), &[])), "bind.deny"),
        (format!("bind.deny = {outside}"), Box::new(bind(link, &["ro"])), "bind.deny"),
        (format!("bind.deny = {outside}/secret"), Box::new(bind(&format!("{link}/secret"), &[])), "bind.deny"),
        ("caps.max = KILL CAP_AUDIT_WRITE NET_BIND_SERVICE".into(), nothing(), ""),
        ("caps.max = KILL".into(), nothing(), "caps.max"),
        ("devices.allow = c 1:* c 5:*".into(), nothing(), ""),
        ("devices.allow = c 1:3 c 1:5".into(), nothing(), "devices.allow"),
        (
            "devices.allow = c 1:* c 5:*".into(),
            Box::new(|b| {
                b.with(|c| c["linux"]["devices"] = json!([{"path": "/dev/x", "type": "b", "major": 1, "minor": 3}]))
            }),
            "devices.allow",
        ),
        ("devices.allow = c 1:* c 5:* b 8:3".into(), rule(json!({"type": "b", "major": 8, "minor": 3})), ""),
        ("devices.allow = c 1:* c 5:* b 8:*".into(), rule(json!({"type": "b", "major": 8, "minor": 3})), ""),
        ("devices.allow = c 1:* c 5:* b 8:3".into(), rule(json!({"type": "b", "major": 8})), "devices.allow"),
        ("devices.allow = c 1:* c 5:*".into(), rule(json!({"type": "c", "major": 10, "minor": 229})), "devices.allow"),
        ("devices.allow = c 1:* c 5:*".into(), rule(json!({})), "devices.allow"),
        ("devices.allow = c 1:* c 5:*".into(), rule(json!({"type": "b", "access": "m"})), ""),
        ("sysctl.allow = net.*".into(), Box::new(|b| sysctl(b, "net.ipv4.ip_forward")), ""),
        ("sysctl.allow = net.*".into(), Box::new(|b| sysctl(b, "kernel.msgmax")), "sysctl.allow"),
        ("sysctl.allow = kernel/msgmax".into(), Box::new(|b| sysctl(b, "kernel.msgmax")), ""),
        ("filesystems.allow = proc tmpfs devpts mqueue sysfs cgroup cgroup2".into(), nothing(), ""),
        ("filesystems.allow = proc tmpfs devpts mqueue sysfs".into(), nothing(), "filesystems.allow"),
        (
            "filesystems.allow = proc tmpfs devpts mqueue sysfs cgroup cgroup2".into(),
            Box::new(|b| b.with_mount("/mnt", "debugfs", "debugfs", &[])),
            "filesystems.allow",
        ),
        ("userns = required".into(), nothing(), "userns"),
        ("userns = required".into(), Box::new(|b| user_namespace(b, 100_000)), ""),
        ("userns.min-host-id = 100000".into(), Box::new(|b| user_namespace(b, 100_000)), ""),
        ("userns.min-host-id = 100000".into(), Box::new(|b| user_namespace(b, 99_999)), "userns.min-host-id"),
        ("namespaces.own = pid network".into(), nothing(), ""),
        ("namespaces.own = network".into(), Box::new(|b| b.without_namespaces(&["network"])), "namespaces.own"),
        ("namespaces.own = network".into(), Box::new(|b| join(b, "network", "/proc/self/ns/net")), "namespaces.own"),
        ("join.allow = /run/netns/**".into(), Box::new(|b| join(b, "network", "/proc/self/ns/net")), "join.allow"),
        ("join.allow = /proc/**".into(), Box::new(|b| join(b, "ipc", "/run/../proc/x")), "No such file"),
        ("no_new_privs = required".into(), nothing(), ""),
        ("no_new_privs = required".into(), set("/process/noNewPrivileges", json!(false)), "no_new_privs"),
        ("seccomp = required".into(), nothing(), "seccomp"),
        (
            "seccomp = required".into(),
            Box::new(|b| b.with(|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}))),
            "seccomp.must-deny",
        ),
    ];
    for (text, change, rule) in &cases {
        let bundle = change(Bundle::script("exit 0"));
        let rules = policy(&only(text), bundle.path());
        match (submit(trusted(&bundle.id, rules), base(&bundle)), *rule) {
            ((Verdict::Ran(0), 0, _), "") => {}
            ((Verdict::Refused(found), 1, _), rule) if found.iter().any(|v| v.rule == rule) => {}
            ((Verdict::Failed(error), 1, _), rule)
                if !rule.is_empty() && (error.detail.contains(rule) || error.errno == libc::ENOENT) => {}
            (other, _) => panic!("{text}: expected {rule:?}: {other:?}"),
        }
        bundle.assert_nothing_left();
        // The same by rspawn itself, from the policy file: refused with the rule, or only warned of.
        if rule.is_empty() || *rule == "No such file" {
            continue;
        }
        let file = bundle.path().join("policy.conf");
        let option = format!("--policy={}", file.display());
        let error = bundle.run_with(&[&option], b"").refused();
        assert!(error.contains(rule), "{text}: {error}");
        fs::write(&file, only(&format!("mode = warn\n{text}"))).unwrap();
        let output = bundle.run_with(&[&option], b"");
        assert_eq!(output.status, 0, "{text}: {output:?}");
        assert!(output.stderr.contains(rule), "{text}: {}", output.stderr);
        fs::write(&file, only(&format!("mode = off\n{text}"))).unwrap();
        let output = bundle.run_with(&[&option], b"");
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{text}: switched off");
    }
    host.canaries.assert_untouched();
}

fn sysctl(bundle: Bundle, key: &str) -> Bundle {
    bundle.with(|config| config["linux"]["sysctl"] = json!({key: "1"}))
}

fn join(bundle: Bundle, kind: &str, path: &str) -> Bundle {
    bundle.without_namespaces(&[kind]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": kind, "path": path}));
    })
}

fn user_namespace(bundle: Bundle, host: u32) -> Bundle {
    // The payload's id must be able to reach its root.
    for directory in bundle.path().ancestors().take(1) {
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    bundle.with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        // The root's files are not the container root's.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    })
}

/// A planner that lies about what the policy will look at.
#[test]
fn a_policy_is_not_fooled_by_a_lying_plan() {
    if cannot_make_containers() {
        return;
    }
    let host = Host::look();
    let outside = host.scratch.path.join("host").to_string_lossy().into_owned();
    let bundle = Bundle::script("exit 0").with_mount("/mnt", "none", &outside, &["bind", "ro"]);
    let read_only = format!("bind.allow = {}/**:ro /nowhere/rootfs", host.scratch.path.display());
    let read_only = format!("{read_only} {}", bundle.rootfs().display());
    let rules = policy(&only(&read_only), bundle.path());
    let good = base(&bundle);
    let clone = |plan: &Plan| {
        plan.host
            .iter()
            .find_map(|step| match &step.op {
                HostOp::CloneTree { out, path, .. } if path.as_str() == outside => Some(*out),
                _ => None,
            })
            .expect("the bind mount")
    };
    let slot = clone(&good);
    match submit(trusted(&bundle.id, rules.clone()), good.clone()) {
        (Verdict::Ran(0), 0, _) => {}
        other => panic!("the honest plan: {other:?}"),
    }
    let writable = MountAttrs { clear: attr::RDONLY, ..MountAttrs::default() };
    let mut cases: Vec<(&str, Plan)> = Vec::new();
    let mut case = |name, change: &dyn Fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        cases.push((name, plan));
    };
    case("made writable in the host phase", &|plan| {
        plan.host.push(Step::new("/mounts/7", HostOp::SetAttrs { mount: slot, attrs: writable.clone() }));
    });
    case("made writable in the rootfs phase", &|plan| {
        let op = RootfsOp::SetAttrs { mount: slot, attrs: writable.clone() };
        plan.rootfs.insert(plan.rootfs.len() - 1, Step::new("/mounts/7", op));
    });
    case("made writable after the pivot", &|plan| {
        plan.rootfs.push(Step::new("/mounts/7", RootfsOp::SetAttrs { mount: slot, attrs: writable.clone() }));
    });
    case("made writable with what it lies on", &|plan| {
        let attrs = MountAttrs { recursive: true, ..writable.clone() };
        let root = plan.rootfs.iter().find_map(|step| match step.op {
            RootfsOp::AttachRoot { mount, .. } => Some(mount),
            _ => None,
        });
        let op = RootfsOp::SetAttrs { mount: root.expect("a root"), attrs };
        plan.rootfs.insert(plan.rootfs.len() - 1, Step::new("/mounts/7", op));
    });
    let attributes_of = |plan: &mut Plan, change: &dyn Fn(&mut MountAttrs)| {
        for step in &mut plan.host {
            match &mut step.op {
                HostOp::CloneTree { out: its, attrs, .. } | HostOp::SetAttrs { mount: its, attrs } if *its == slot => {
                    change(attrs)
                }
                _ => {}
            }
        }
    };
    case("read-only from later on", &|plan| {
        attributes_of(plan, &|attrs| attrs.set &= !attr::RDONLY);
        let attrs = MountAttrs { set: attr::RDONLY, recursive: true, ..MountAttrs::default() };
        let op = RootfsOp::SetAttrs { mount: slot, attrs };
        plan.rootfs.insert(plan.rootfs.len() - 1, Step::new("/mounts/7", op));
    });
    case("the root, and read-only at last", &|plan| {
        let root = plan.rootfs.iter_mut().find_map(|step| match &mut step.op {
            RootfsOp::AttachRoot { mount, .. } => Some(mount),
            _ => None,
        });
        *root.expect("a root") = slot;
        attributes_of(plan, &|attrs| attrs.set &= !attr::RDONLY);
        let attrs = MountAttrs { set: attr::RDONLY, recursive: true, ..MountAttrs::default() };
        plan.rootfs.insert(plan.rootfs.len() - 1, Step::new("/mounts/7", RootfsOp::SetAttrs { mount: slot, attrs }));
    });
    let make_peer = |plan: &mut Plan| {
        for step in &mut plan.host {
            if let HostOp::CloneTree { out, peer, .. } = &mut step.op {
                *peer |= *out == slot;
            }
        }
    };
    case("a peer of the host's mount", &|plan| {
        make_peer(plan);
        attributes_of(plan, &|attrs| attrs.propagation = None);
    });
    case("a shared peer", &|plan| {
        make_peer(plan);
        attributes_of(plan, &|attrs| attrs.propagation = Some(Propagation::Shared));
    });
    case("a pipe that is any file", &|plan| {
        for step in &mut plan.host {
            if let HostOp::CloneTree { path, expect, .. } = &mut step.op
                && path.as_str() == outside
            {
                *path = rspawn_proto::ids::HostPath::new("/etc/hostname").unwrap();
                *expect = Expect::Device { kind: NodeKind::Fifo, major: 0, minor: 0 };
            }
        }
    });
    for (name, plan) in cases {
        assert_eq!(check(&plan), Ok(()), "{name}");
        match submit(trusted(&bundle.id, rules.clone()), plan) {
            (Verdict::Refused(found), 1, _) => assert_eq!(found[0].rule, "bind.allow", "{name}"),
            // What it is not, it is not: before anybody asks whether it may be.
            (Verdict::Failed(error), 1, _) if name == "a pipe that is any file" => {
                assert!(error.detail.contains("it is not the device"), "{error:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    host.assert_untouched(&bundle.id);
}

/// Rules about devices, for a cgroup that the container is not in.
#[test]
fn a_policy_on_devices_wants_rules_that_hold() {
    let bundle = Bundle::script("exit 0");
    let rules = policy(&only("devices.allow = c 1:3"), bundle.path());
    let mut plan = base(&bundle);
    let found =
        |plan: &Plan| rspawn_proto::policy::violations(&rules, plan).into_iter().any(|v| v.what.contains("any device"));
    if plan.spawn.cgroups.is_empty() {
        println!("SKIPPED: a user's container has no cgroup here");
        return;
    }
    assert!(!found(&plan));
    plan.spawn.cgroups.clear();
    assert!(found(&plan));
}

/// A policy with more to say than one message holds.
#[test]
fn a_refusal_of_thousands_of_things_arrives() {
    if cannot_make_containers() {
        return;
    }
    let mut bundle = Bundle::script("exit 0");
    for index in 0..1000 {
        bundle = bundle.with_mount(&format!("/mnt{index}"), "none", "/etc", &["bind"]);
    }
    let file = bundle.path().join("policy.conf");
    fs::write(&file, only("bind.deny = /etc/**")).unwrap();
    let error = bundle.run_with(&[&format!("--policy={}", file.display())], b"").refused();
    assert!(error.contains("bind.deny: /mounts/7") && error.contains("and 980 more"), "{error}");
}

#[test]
fn policy_files_that_others_can_write_are_refused() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let scratch = Scratch::new();
    let file = scratch.path.join("policy.conf");
    fs::write(&file, "mode = off\n").unwrap();
    let ask = || {
        let mut command = Command::new(program("rspawn"));
        command.args(["policy", "show"]).arg(&file);
        finish(command, b"")
    };
    for (mode, fine) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false), (0o622, false), (0o666, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let output = ask();
        assert_eq!(output.status, i32::from(!fine), "{mode:o}: {}", output.stderr);
        assert!(fine || output.stderr.contains("only root may write to it"), "{mode:o}: {}", output.stderr);
    }
    if rspawn_tests::is_root() {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(12345), None).unwrap();
        assert!(ask().refused().contains("it must belong to root"));
        chown(&file, Some(0), None).unwrap();
    }
    for (text, error) in [
        ("mode = off\nbind.dney = /etc\n", "line 2: there is no key \"bind.dney\" (did you mean bind.deny?)"),
        ("mode\n", "line 1: there is no `=`"),
        ("mode = maybe\n", "line 1: the mode is off, warn or enforce"),
        ("bind.allow = etc\n", "line 1: \"etc\" is not an absolute path"),
        ("userns.min-host-id = -1\n", "line 1: the value is not one id"),
        ("devices.allow = c 1\n", "line 1: \"c 1\" is not a device"),
        ("namespaces.own = pidd\n", "line 1: there is no namespace \"pidd\""),
    ] {
        fs::write(&file, text).unwrap();
        assert!(ask().refused().contains(error), "{text}");
    }
    fs::write(&file, "#".repeat((64 << 10) + 1)).unwrap();
    assert!(ask().refused().contains("larger than 64 KiB"));
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(ask().refused().contains("UTF-8"));
}

/// `rspawn plan --format bin` and `rspawn-setup --check`: a plan can be judged on another day by another person.
#[test]
fn saved_plans_are_judged() {
    let bundle = Bundle::script("exit 0").with_mount("/mnt", "none", "/etc", &["bind", "ro"]);
    bundle.write_config();
    let rspawn = |arguments: &[&str]| Command::new(program("rspawn")).args(arguments).output().unwrap();
    let directory = bundle.path().to_str().unwrap();
    let saved = rspawn(&["plan", "--format", "bin", directory]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let plan: Plan = codec::decode_plan(&saved.stdout).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = bundle.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let judge = |files: &[&str]| {
        let mut command = Command::new(program("rspawn-setup"));
        command.arg("--check").args(files);
        finish(command, b"")
    };
    let good = file("good", &saved.stdout);
    let verdict = judge(&[&good]).ok();
    assert!(verdict.starts_with("well formed:") && verdict.contains("container plan"), "{verdict}");
    let rules = file("policy.conf", b"mode = enforce\ncaps.max = KILL\nuserns = required\n");
    let rules = file("policy", &rspawn(&["policy", "show", "--format=bin", &rules]).stdout);
    let output = judge(&[&good, &rules]);
    assert_eq!(output.status, 1);
    for rule in ["violates caps.max", "violates userns", "refused: the policy"] {
        assert!(output.stdout.contains(rule), "{rule}: {}", output.stdout);
    }
    let mut wrong = plan.clone();
    wrong.header.version += 1;
    let wrong = file("wrong", &codec::encode(&wrong).unwrap());
    let output = judge(&[&wrong]);
    assert!((output.status, output.stdout.contains("another build")) == (1, true), "{output:?}");
    let cut = file("cut", &saved.stdout[..saved.stdout.len() / 2]);
    let output = judge(&[&cut]);
    assert!((output.status, output.stdout.contains("not well formed")) == (1, true), "{output:?}");
    let output = judge(&[&file("long", &vec![0; MAX_PLAN + 1])]);
    assert!(output.status != 0 && !output.stderr.contains("a bug"), "{output:?}");
    assert_eq!(judge(&["/nonexistent"]).status, 2);
    assert_eq!(judge(&[&good, &cut]).status, 1);
    // As JSON, and the difference of two.
    let json: serde_json::Value =
        serde_json::from_slice(&rspawn(&["plan", "--format", "json", directory]).stdout).unwrap();
    let steps = json["steps"].as_array().unwrap();
    assert_eq!(steps.len(), plan.host.len() + plan.attach.len() + plan.rootfs.len());
    assert!(steps.iter().any(|step| step["origin"] == "/mounts/7" && step["phase"] == "host"));
    let other = Bundle::script("exit 0").with(|config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        config["process"]["noNewPrivileges"] = json!(false);
    });
    let other = other.without_namespaces(&["network"]);
    other.write_config();
    let difference = rspawn(&["plan", "--diff", directory, other.path().to_str().unwrap()]);
    let difference = String::from_utf8(difference.stdout).unwrap();
    for line in [
        "gains CAP_SYS_ADMIN",
        "may gain privileges by exec",
        "shares the host's network namespace",
        "host path /etc is no longer visible, read-only",
        "- set loopback device up",
    ] {
        assert!(difference.lines().any(|l| l == line), "{line}: {difference}");
    }
    let same = rspawn(&["plan", "--diff", directory, directory]);
    assert_eq!(String::from_utf8(same.stdout).unwrap(), "the two plans do the same\n");
    assert_eq!(rspawn(&["plan", "--diff", directory]).status.code(), Some(1));
}

/// systemd is asked where the invoker has said so, whatever a plan says.
#[test]
fn no_plan_speaks_to_systemd_by_itself() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("echo the payload ran");
    let unit = rspawn_proto::ids::Text::new("evil.scope").unwrap();
    let ops = [
        (HostOp::StartScope { unit, properties: vec![] }, "the invoker asks for no scope"),
        (HostOp::SetScope { properties: vec![] }, "not for a new container"),
    ];
    for (op, reason) in ops {
        let mut plan = base(&bundle);
        plan.host.insert(0, Step::new("/evil", op));
        match submit(trusted(&bundle.id, Policy::default()), plan) {
            (Verdict::Failed(error), 1, stderr) => {
                assert_eq!((error.place, stderr.as_str()), (Place::Host(0), ""), "{error:?}");
                assert!(error.detail.contains(reason), "{error:?}");
            }
            other => panic!("{reason}: {other:?}"),
        }
        bundle.assert_nothing_left();
    }
}
