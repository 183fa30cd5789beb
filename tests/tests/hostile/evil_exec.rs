//! A parent that was taken over, about processes in running containers, hooks and the life cycle: what it may not say,
//! and what an invoker's message may not lack.
use std::fs;
use std::os::fd::IntoRawFd;

use rspawn_proto::check::check;
use rspawn_proto::hook::{DeferredHooks, Hook};
use rspawn_proto::ids::{HostPath, Slot, Text};
use rspawn_proto::msg::{InvokerRequest, Mode, ToSetup};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::*;
use rspawn_proto::policy::Policy;
use rspawn_proto::report::Place;
use rspawn_sys::{Fd, process};
use rspawn_tests::hostile::{EvilParent, Verdict, options, plan_message, plan_of, trusted, trusted_exec};
use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, cannot_make_containers};

/// The plan of a harmless process for a running container.
fn exec_plan(life: &Life) -> Plan {
    let spec = rspawn_planner::oci::parse(life.bundle.config.to_string().as_bytes()).unwrap();
    let mut spec = spec;
    spec.process.as_mut().unwrap().args = vec!["true".into()];
    let mut options = options(life.id(), life.bundle.path());
    options.init = rspawn_planner::InitChoice::Exec;
    rspawn_planner::exec(&spec, &rspawn_host::facts::gather().expect("facts"), &options).unwrap().plan
}

fn hook(path: &str) -> Hook {
    let path = HostPath::new(path).unwrap();
    Hook { origin: "/evil".into(), path, argv: Vec::new(), env: None, timeout: 0, outputs: Default::default() }
}

/// Says it all, with a pidfd of a container's first process.
#[track_caller]
fn submit(trusted: InvokerRequest, plan: Plan, target: &Fd) -> (Verdict, i32, String) {
    let parent = EvilParent::start();
    parent.say_with(&ToSetup::Request(trusted), &[target]);
    parent.say_with(&plan_message(plan), &[]);
    parent.verdict()
}

#[test]
fn a_plan_for_a_process_is_its_last_mile_alone() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let target = process::open_pidfd(life.pid()).unwrap();
    let good = exec_plan(&life);
    let marker = life.bundle.path().join("hook-ran");
    let touch =
        Hook { argv: ["touch", marker.to_str().unwrap()].map(|w| Text::new(w).unwrap()).into(), ..hook("/bin/touch") };
    let container = plan_of(&life.bundle.config, life.id(), life.bundle.path());
    type Change<'a> = Box<dyn Fn(&mut Plan) + 'a>;
    let cases: Vec<(&str, Change)> = vec![
        ("opens a host path", Box::new(|p| p.host = container.host.clone())),
        ("mounts", Box::new(|p| p.rootfs = container.rootfs.clone())),
        ("pivots", Box::new(|p| p.rootfs = vec![Step::new("/evil", RootfsOp::Pivot)])),
        ("waits for hooks", Box::new(|p| p.rootfs = vec![Step::new("/evil", RootfsOp::Hooks)])),
        (
            "moves a device",
            Box::new(|p| {
                let name = Text::new("lo").unwrap();
                p.attach = vec![Step::new("/evil", AttachOp::MoveNetDevice { name: name.clone(), new_name: name })];
            }),
        ),
        ("new namespaces", Box::new(|p| p.spawn.new.insert(Namespace::User))),
        (
            "joins others",
            Box::new(|p| {
                p.spawn.join.push(Step::new("/evil", Join { kind: Namespace::Pid, from: Slot(0) }));
            }),
        ),
        ("maps ids", Box::new(|p| p.spawn.uid_map.push(IdMap { inside: 0, outside: 0, count: 1 }))),
        ("stays PID 1", Box::new(|p| p.finish.init = InitMode::Supervise)),
        ("prestart hooks", Box::new(|p| p.hooks.runtime.push(touch.clone()))),
        ("createContainer hooks", Box::new(|p| p.hooks.container.push(touch.clone()))),
        (
            "poststart hooks",
            Box::new(|p| {
                p.hooks.deferred = DeferredHooks { poststart: vec![touch.clone()], ..DeferredHooks::default() }
            }),
        ),
        (
            "poststop hooks",
            Box::new(|p| {
                p.hooks.deferred = DeferredHooks { poststop: vec![touch.clone()], ..DeferredHooks::default() }
            }),
        ),
        ("startContainer hooks", Box::new(|p| p.finish.hooks.push(touch.clone()))),
    ];
    for (name, change) in &cases {
        let mut plan = good.clone();
        change(&mut plan);
        assert!(check(&plan).is_err(), "{name}: the check by itself accepts it");
        match submit(trusted_exec(life.id(), Policy::default()), plan, &target) {
            (Verdict::Failed(error), 1, stderr) => {
                assert!(error.detail.contains("asks for more than its last mile"), "{name}: {error:?}");
                assert_eq!((error.place, stderr.as_str()), (Place::Check, ""), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(!marker.exists(), "a hook has run");
    // And the plan that all of them were made from runs.
    match submit(trusted_exec(life.id(), Policy::default()), good, &target) {
        (Verdict::Ran(0), 0, _) => {}
        other => panic!("the good plan: {other:?}"),
    }
    assert_eq!(life.status(), "running");
}

#[test]
fn a_plan_is_for_what_the_invoker_asked() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let target = process::open_pidfd(life.pid()).unwrap();
    let refused = |name: &str, verdict: (Verdict, i32, String)| match verdict {
        (Verdict::Failed(error), 1, stderr) => {
            assert!(error.detail.contains("not for what the invoker asked"), "{name}: {error:?}");
            assert_eq!(stderr, "", "{name}");
        }
        other => panic!("{name}: {other:?}"),
    };
    let container = || plan_of(&life.bundle.config, life.id(), life.bundle.path());
    let verdict = submit(trusted_exec(life.id(), Policy::default()), container(), &target);
    refused("a container where a process was asked for", verdict);
    let verdict = rspawn_tests::hostile::submit(trusted(life.id(), Policy::default()), exec_plan(&life));
    refused("a process where a container was asked for", verdict);
    let mut other = exec_plan(&life);
    other.header.id = rspawn_proto::ids::ContainerId::new("another").unwrap();
    refused("another container", submit(trusted_exec(life.id(), Policy::default()), other, &target));
    assert_eq!(life.status(), "running");
}

/// What does not come with the invoker's message is not made up for.
#[test]
fn an_invokers_message_that_lacks_descriptors() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let directory = || Fd::from_raw(fs::File::open(bundle.path()).unwrap().into_raw_fd());
    let some = [directory(), directory(), directory(), directory()];
    let with = |mode: Mode, pid_file: bool| {
        let pid_file = pid_file.then(|| Text::new("pid").unwrap());
        InvokerRequest { mode, pid_file, ..trusted(&bundle.id, Policy::default()) }
    };
    let exec = |pid_file: bool| InvokerRequest {
        pid_file: with(Mode::Foreground, pid_file).pid_file,
        ..trusted_exec("x", Policy::default())
    };
    for (name, trusted, needed) in [
        ("a container", with(Mode::Foreground, false), 2),
        ("a container with a pid file", with(Mode::Detached, true), 3),
        ("a created one", with(Mode::Created, false), 4),
        ("a process", exec(false), 1),
        ("a process with a pid file", exec(true), 2),
    ] {
        for count in 0..needed {
            let parent = EvilParent::start();
            let fds: Vec<&Fd> = some.iter().take(count).collect();
            parent.say_with(&ToSetup::Request(trusted.clone()), &fds);
            match parent.verdict() {
                (Verdict::Failed(error), 1, stderr) => {
                    assert_eq!(error.detail, "the invoker's message lacks a descriptor", "{name} {count}");
                    assert_eq!((error.place, stderr.as_str()), (Place::Receive, ""));
                }
                other => panic!("{name} {count}: {other:?}"),
            }
        }
    }
    bundle.assert_nothing_left();
}

/// What is no process, or no longer one, cannot be joined; and a process of the host's is no container.
#[test]
fn descriptors_that_are_something_else() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let target = process::open_pidfd(life.pid()).unwrap();
    let plan = exec_plan(&life);
    let file = Fd::from_raw(fs::File::open("/etc/passwd").unwrap().into_raw_fd());
    life.stop();
    for (name, fd) in [("a file", &file), ("a dead process", &target)] {
        match submit(trusted_exec(life.id(), Policy::default()), plan.clone(), fd) {
            (Verdict::Failed(error), 1, stderr) => {
                assert!(matches!(error.place, Place::Spawn(_)) && error.errno != 0, "{name}: {error:?}");
                assert_eq!(stderr, "", "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
