//! `namespaces.own`, `join.allow`, `userns`, `userns.min-host-id`: whose namespaces a container has.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use rspawn_proto::ids::{HostPath, Slot};
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::{HostOp, IdMap, Join, Step};
use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::hostile::{Verdict, only, plan_of, policy, submit, trusted};
use rspawn_tests::{Bundle, cannot_make_containers, wait_for};
use serde_json::json;

use super::trial::{Counts, Ground, Trial};

/// A process with namespaces of its own, which ends with this value.
struct Neighbour(Child);

impl Neighbour {
    fn with(options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        let child = command.args(options).args(["sleep", "1000"]).stdin(Stdio::null()).spawn().expect("unshare");
        let name = if options.contains(&"--net") { "net" } else { "user" };
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let its = format!("/proc/{}/ns/{name}", child.id());
        wait_for("the neighbour has its namespaces", || fs::read_link(&its).is_ok_and(|found| found != own));
        Self(child)
    }

    fn file(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn joining(kind: &str, path: &str) -> Bundle {
    Bundle::script("echo ran").without_namespaces(&[kind]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": kind, "path": path}));
        // The network namespace of others has what it has.
        config["linux"].as_object_mut().unwrap().remove("sysctl");
    })
}

pub fn trials(counts: &mut Counts) {
    let ground = Ground::lay_out();
    own(&ground, counts);
    joined(&ground, counts);
    if rspawn_tests::is_root() {
        ids(&ground, counts);
    }
}

fn own(ground: &Ground, counts: &mut Counts) {
    let file = |kind: &str| match kind {
        "network" => "net".to_string(),
        other => other.to_string(),
    };
    for kind in ["pid", "network", "ipc", "uts", "cgroup"] {
        let rule = format!("namespaces.own = {kind}");
        let with_others = format!("namespaces.own = mount {kind}");
        let bundle = || Bundle::script("echo ran");
        Trial::new(ground, kind, bundle()).granted(counts, &[&rule, &with_others]);
        let shared = bundle().without_namespaces(&[kind]).with(|config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| ["proc", "tmpfs"].contains(&mount["type"].as_str().unwrap()));
            config["hostname"] = serde_json::Value::Null;
            config["linux"].as_object_mut().unwrap().remove("sysctl");
        });
        Trial::new(ground, kind, shared)
            .granted(counts, &["namespaces.own = none", "namespaces.own = mount"])
            .refused(counts, &[(&rule, "namespaces.own"), (&with_others, "namespaces.own")]);
        if kind == "pid" {
            continue;
        }
        // Under another name.
        let path = format!("/proc/self/ns/{}", file(kind));
        let by_path = joining(kind, &path).with(|config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| ["proc", "tmpfs"].contains(&mount["type"].as_str().unwrap()));
            config["hostname"] = serde_json::Value::Null;
        });
        Trial::new(ground, kind, by_path)
            .refused(counts, &[(&rule, "namespaces.own"), ("join.allow = none", "join.allow")]);
    }
    let shared = Bundle::script("echo ran").without_namespaces(&["network"]).with(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    });
    Trial::new(ground, "the network, where nothing is said", shared)
        .refused(counts, &[("-namespaces.own", "namespaces.own")]);
}

fn joined(ground: &Ground, counts: &mut Counts) {
    if !rspawn_tests::is_root() {
        return;
    }
    let neighbour = Neighbour::with(&["--net"]);
    let of_process = neighbour.file("net");
    fs::write(ground.path("data/ns"), "").unwrap();
    symlink("data/ns", ground.path("ns-link")).unwrap();
    symlink(&of_process, ground.path("data/ns-of-process")).unwrap();
    let mount = format!("mount --bind {of_process} $S/data/ns");
    let forms = [
        ("exact", "data/ns"),
        ("by a link to the directory", "link/ns"),
        ("by a link", "ns-link"),
        ("with two dots", "other/../data/ns"),
    ];
    for (name, path) in forms {
        Trial::new(ground, name, joining("network", &ground.path(path)))
            .under(&mount)
            .granted(
                counts,
                &["join.allow = S/data/**", "join.allow = S/data/ns", "join.allow = S/link/**", "join.allow = any"],
            )
            .refused(counts, &[("join.allow = S/other/**", "join.allow"), ("join.allow = none", "join.allow")])
            .refused(
                counts,
                &[
                    ("-join.allow", "join.allow"),
                    ("join.allow = S/data", "join.allow"),
                    ("join.allow = /proc/**", "join.allow"),
                ],
            );
    }
    for path in [of_process.as_str(), &ground.path("data/ns-of-process")] {
        let exact = format!("join.allow = {of_process}");
        Trial::new(ground, "of a process", joining("network", path))
            .granted(counts, &[&exact, "join.allow = /proc/**"])
            .refused(counts, &[("join.allow = S/data/**", "join.allow"), ("-join.allow", "join.allow")]);
    }
}

fn ids(ground: &Ground, counts: &mut Counts) {
    let mapped = |uid: u32, gid: u32| {
        Bundle::script("echo ran").with(|config| {
            in_user_namespace(config);
            config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1000}]);
            config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1000}]);
        })
    };
    let open = |bundle: Bundle| {
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
        bundle
    };
    let key = "userns.min-host-id";
    Trial::new(ground, "the lowest that is allowed", open(mapped(100_000, 100_000)))
        .granted(
            counts,
            &["userns.min-host-id = 100000", "userns.min-host-id = 1", "userns = required", "userns.min-host-id = 0"],
        )
        .refused(counts, &[("userns.min-host-id = 100001", key)]);
    Trial::new(ground, "one lower", open(mapped(99_999, 100_000)))
        .granted(counts, &["userns.min-host-id = 99999"])
        .refused(counts, &[("userns.min-host-id = 100000", "maps the host id 99999")]);
    Trial::new(ground, "a lower group", open(mapped(100_000, 99_999)))
        .granted(counts, &["-userns.min-host-id"])
        .refused(counts, &[("userns.min-host-id = 100000", key)]);
    Trial::new(ground, "no user namespace", Bundle::script("echo ran"))
        .granted(counts, &["userns = allowed", "-userns"])
        .refused(counts, &[("userns = required", "userns")]);
    // What is joined stands for ids, too: the neighbour's root is the host's.
    let neighbour = Neighbour::with(&["--user", "--mount"]);
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", neighbour.0.id()), "0 0 65536").unwrap();
    }
    let path = neighbour.file("user");
    let bundle = Bundle::script("echo ran").with(|config| {
        in_user_namespace(config);
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        for entry in linux["namespaces"].as_array_mut().unwrap().iter_mut().filter(|entry| entry["type"] == "user") {
            entry["path"] = json!(path);
        }
    });
    Trial::new(ground, "a user namespace that is joined", open(bundle))
        .granted(counts, &["userns.min-host-id = 0", "userns = required"])
        .refused(counts, &[("userns.min-host-id = 1", "maps the host id 0"), ("join.allow = none", "join.allow")]);
}

/// A plan that makes a map of every id and joins it by the number of its descriptor.
#[test]
fn what_a_plan_makes_it_cannot_join() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    let bundle = Bundle::script("exit 0");
    let everything = vec![IdMap { inside: 0, outside: 0, count: u32::MAX }];
    let mut plan = plan_of(&bundle.config, &bundle.id, bundle.path());
    let slot = Slot(4000);
    let made = HostOp::MakeIdMap { out: slot, uid_map: everything.clone(), gid_map: everything };
    plan.host.insert(0, Step::new("/x", made));
    let rules = |text: &str| policy(&only(text), bundle.path());
    match submit(trusted(&bundle.id, rules("userns.min-host-id = 100000")), plan.clone()) {
        (Verdict::Refused(found), 1, _) => assert_eq!(found[0].rule, "userns.min-host-id"),
        other => panic!("{other:?}"),
    }
    for number in 3..40 {
        let mut plan = plan.clone();
        let path = HostPath::new(format!("/proc/self/fd/{number}")).unwrap();
        let joined = Slot(4001);
        plan.host.insert(1, Step::new("/x", HostOp::OpenNamespace { out: joined, path, kind: Namespace::User }));
        plan.spawn.join.push(Step::new("/x", Join { kind: Namespace::User, from: joined }));
        match submit(trusted(&bundle.id, rules("join.allow = any")), plan) {
            (Verdict::Failed(error), 1, _) => {
                assert!(
                    error.detail.contains("a link of procfs") || error.errno == libc::ENOENT,
                    "{number}: {error:?}"
                );
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    bundle.assert_nothing_left();
}
