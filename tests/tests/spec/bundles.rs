//! What bundles of other runtimes' users have, and their clients rely on.
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;

use rspawn_proto::WIRE_VERSION;
use rspawn_tests::bundle::in_user_namespace;
use rspawn_tests::hostile::only;
use rspawn_tests::life::Life;
use rspawn_tests::mountinfo::in_private_mounts;
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program, skip_unless};
use serde_json::{Value, json};

fn words_of(pid: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).replace('\0', " ").trim().to_string()
}

#[test]
fn what_an_engine_starts_is_process_1_itself() {
    if cannot_make_containers() {
        return;
    }
    let created = |global: &[&str], verb: &[&str], annotation: Value| {
        let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
            config["annotations"] = annotation;
        }));
        let mut command = life.command(&[global, &[verb[0], "--bundle"]].concat());
        command.arg(life.bundle.path()).args(&verb[1..]).arg(life.id());
        assert_eq!(life.run(command).ok(), "");
        if verb[0] == "create" {
            assert_eq!(life.run(life.command(&[global, &["start", life.id()]].concat())).ok(), "");
        }
        // What comes before a verb that starts nothing is without effect.
        let state = life.run(life.command(&[global, &["state", life.id()]].concat())).ok();
        let pid = serde_json::from_str::<Value>(&state).unwrap()["pid"].to_string();
        rspawn_tests::wait_for("the payload", || {
            words_of(&pid) != "rspawn-init" && !words_of(&pid).contains("--stage")
        });
        words_of(&pid).split(' ').next().unwrap().to_string()
    };
    let supervised = |global: &[&str], verb: &[&str], annotation: Value| {
        let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
            config["annotations"] = annotation;
        }));
        let mut command = life.command(&[global, &[verb[0], "--bundle"]].concat());
        command.arg(life.bundle.path()).args(&verb[1..]).arg(life.id());
        assert_eq!(life.run(command).ok(), "");
        if verb[0] == "create" {
            life.started();
        }
        let pid = life.pid().to_string();
        assert!(words_of(&pid).starts_with("rspawn-init "), "{}", words_of(&pid));
        rspawn_tests::wait_for("the payload beside it", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            children.split_whitespace().next().is_some_and(|child| words_of(child) == "sleep 1000")
        });
    };
    let annotation = |mode: &str| json!({"org.rspawn.init": mode});
    assert_eq!(created(&[], &["create"], json!({})), "sleep");
    assert_eq!(created(&[], &["run", "--detach"], json!({})), "sleep");
    assert_eq!(created(&["--init=exec"], &["create"], annotation("supervise")), "sleep");
    assert_eq!(created(&["--init=supervise"], &["create", "--init=exec"], json!({})), "sleep");
    supervised(&["--init", "supervise"], &["create"], json!({}));
    supervised(&[], &["create", "--init=supervise"], annotation("exec"));
    supervised(&[], &["create"], annotation("supervise"));
    supervised(&[], &["run", "--detach"], annotation("supervise"));
}

#[test]
fn plan_and_check_say_who_process_1_is() {
    let bundle = Bundle::script("true").with(|config| {
        config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    });
    bundle.write_config();
    let said = |words: &[&str]| {
        let mut command = Command::new(program("rspawn"));
        command.args(words).arg(bundle.path());
        finish(command, b"").stdout
    };
    for verb in ["plan", "check"] {
        let foreground = said(&[verb]);
        assert!(foreground.contains("rspawn-init stays PID 1 beside the payload (the default of a foreground run"));
        assert!(foreground.contains("of the 7 processes that /linux/resources/pids/limit allows, one is rspawn-init"));
        let detached = said(&[verb, "--detach"]);
        assert!(detached.contains("rspawn-init becomes the payload (the default where the container outlives"));
        assert!(!detached.contains("of the 7 processes"));
        assert!(said(&[verb, "--detach", "--init=supervise"]).contains("PID 1 beside the payload (--init=supervise)"));
    }
}

#[test]
fn a_limit_of_two_processes_is_the_payloads() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::script("/bin/true; echo ran >/ran; exec sleep 1000").with(|config| {
        config["linux"]["resources"] = json!({"pids": {"limit": 2}});
    }));
    life.created(&[]).started();
    rspawn_tests::wait_for("the shell forks", || life.file("ran") == "ran\n");
    // Without a value, nothing changes, as when it is made.
    let update = |options: &[&str]| life.run(life.on_it("update", options)).ok();
    let zero = life.bundle.path().join("zero");
    fs::write(&zero, r#"{"pids":{"limit":0}}"#).unwrap();
    for option in ["--pids-limit=0".to_string(), format!("--resources={}", zero.display())] {
        assert_eq!(update(&[&option]), "");
        let limit = life
            .record()
            .cgroups
            .iter()
            .find_map(|cgroup| fs::read_to_string(Path::new(cgroup.path.as_str()).join("pids.max")).ok());
        assert_eq!(limit.as_deref(), Some("2\n"));
    }
}

#[test]
fn the_callers_cpus_are_not_the_containers() {
    let cpus = thread::available_parallelism().map_or(1, |n| n.get());
    if cannot_make_containers() || skip_unless(cpus > 1, "there is one processor only") {
        return;
    }
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = rspawn_tests::status_field(&all, "Cpus_allowed_list").unwrap().to_string();
    let pinned = |command: &Command| in_private_mounts("taskset -pc 0 $$ >/dev/null; exec \"$@\"", command);
    let script = "grep Cpus_allowed_list /proc/self/status";
    let seen = |text: &str| text.split_whitespace().nth(1).unwrap().to_string();
    for mode in ["--init=supervise", "--init=exec"] {
        let bundle = Bundle::script(script);
        assert_eq!(seen(&finish(pinned(&bundle.command(&[mode])), b"").ok()), all, "{mode}");
        assert_eq!(seen(&finish(pinned(&bundle.command(&[mode, "--cpu-affinity=1"])), b"").ok()), "1", "{mode}");
    }
    let life = Life::idle();
    life.created(&[]).started();
    let exec = life.exec_command(&[], &["sh", "-c", script]);
    assert_eq!(seen(&finish(pinned(&exec), b"").ok()), all);
}

#[test]
fn misspelt_words_of_a_mount_are_refused() {
    if cannot_make_containers() {
        return;
    }
    let refused = |kind: &str, word: &str| {
        let options = if kind == "bind" { vec!["bind", word] } else { vec![word] };
        let bundle = Bundle::script("true").with_mount("/m", kind, if kind == "bind" { "." } else { kind }, &options);
        bundle.run().refused()
    };
    for (kind, word, meant) in [
        ("bind", "readonly", "ro"),
        ("bind", "RO", "ro"),
        ("bind", "r0", "ro"),
        ("bind", "noexecx", "noexec"),
        ("bind", "nosiud", "nosuid"),
        ("bind", "ridmpa", "ridmap"),
        ("tmpfs", "sze=5m", "size"),
        ("tmpfs", "nosiud", "nosuid"),
        ("tmpfs", "moed=755", "mode"),
        ("devpts", "ptmxmod=0666", "ptmxmode"),
    ] {
        let error = refused(kind, word);
        let word = word.split('=').next().unwrap();
        assert!(error.contains("/mounts/7/options") && error.contains(word), "{error}");
        assert!(error.contains(&format!("(did you mean {meant}?)")), "{error}");
    }
    assert!(refused("bind", "size=5m").contains("no meaning for a bind mount"));
    assert!(refused("bind", "idmap=uids=0-1").contains("INSIDE-OUTSIDE-COUNT"));
    // Of fstab(5), and of engines.
    let words = ["bind", "defaults", "nofail", "x-systemd.automount", "comment=mine", "z", "nocopy"];
    Bundle::script("true").with_mount("/m", "bind", ".", &words).run().ok();
    let bundle = Bundle::script("true");
    let error = bundle.run_with(&["--bind=/etc:/m:r0"], b"").refused();
    assert!(error.contains("--bind=/etc:/m:r0") && error.contains("did you mean ro?"), "{error}");
    let error = bundle.run_with(&["--tmpfs=/m:sze=5m"], b"").refused();
    assert!(error.contains("--tmpfs=/m:sze=5m") && error.contains("did you mean size?"), "{error}");
    let error = bundle.run_with(&["--inaccessible=/not/there"], b"").refused();
    assert!(error.contains("--inaccessible=/not/there") && error.contains("ENOENT"), "{error}");
    bundle.run_with(&["--inaccessible=-/not/there"], b"").ok();
}

#[test]
fn a_bind_of_what_an_earlier_mount_brings() {
    if cannot_make_containers() {
        return;
    }
    let script = "cat /deep/f; echo new >/deep/g || echo read-only; cat /file; ls /beneath";
    let bundle = Bundle::script(script);
    let dst = bundle.rootfs().join("dst");
    fs::create_dir_all(dst.join("x")).unwrap();
    fs::write(dst.join("x/f"), "beneath the mount\n").unwrap();
    let source = bundle.path().join("source");
    fs::create_dir_all(source.join("x")).unwrap();
    fs::write(source.join("x/f"), "of the mount\n").unwrap();
    let inside = |path: &str| dst.join(path).display().to_string();
    let bundle = bundle
        .with_mount("/beneath", "bind", &inside("x"), &["bind"])
        .with_mount("/dst", "bind", "source", &["bind"])
        .with_mount("/deep", "bind", &inside("x"), &["rbind", "rro"])
        .with_mount("/file", "bind", &inside("x/f"), &["bind"]);
    assert_eq!(bundle.run().ok(), "of the mount\nread-only\nof the mount\nf\n");
    assert!(!source.join("x/g").exists());
    let mut plan = Command::new(program("rspawn"));
    plan.arg("plan").arg(bundle.path());
    assert!(finish(plan, b"").ok().contains("clone tree at /dst/x, which is in the container"));
    let missing = bundle.with_mount("/none", "bind", &inside("none"), &["bind"]);
    let error = missing.run().refused();
    assert!(error.contains("/mounts/11") && error.contains("ENOENT") && error.contains("/dst/none"), "{error}");
}

/// A source in the container's root is looked up there, by links of the image too, and when its turn has come.
#[test]
fn every_way_to_name_what_an_earlier_mount_brings() {
    if cannot_make_containers() {
        return;
    }
    let script = "for at in /m?; do echo $at $(cat $at/f); done; cat /all/dst/x/f; ls /all/proc/self/comm /memory";
    for change in [|_: &mut Value| (), in_user_namespace] {
        let bundle = Bundle::script(script).with(change);
        let root = bundle.rootfs();
        for directory in ["dst/x", "all", "mem", "memory", "m1", "m2", "m3", "m4", "m5", "m6"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("dst/x/f"), "beneath the mount\n").unwrap();
        symlink("dst", root.join("relative")).unwrap();
        symlink("/dst", root.join("absolute")).unwrap();
        // On the host it leads to another /etc.
        symlink("/etc", root.join("outside")).unwrap();
        fs::write(root.join("etc/f"), "of the image\n").unwrap();
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("x")).unwrap();
        fs::write(source.join("x/f"), "of the mount\n").unwrap();
        let inside = |path: &str| root.join(path).display().to_string();
        let bundle = bundle
            .with_mount("/dst", "bind", "source", &["bind"])
            .with_mount("/m1", "bind", &inside("relative/x"), &["bind"])
            .with_mount("/m2", "bind", &inside("absolute/x"), &["rbind", "ro"])
            .with_mount("/m3", "bind", &inside("var/../dst/./x"), &["bind"])
            .with_mount("/m4", "bind", "rootfs/dst/x", &["bind"])
            .with_mount("/m5", "bind", &inside("outside"), &["bind"])
            .with_mount("/mem", "tmpfs", "tmpfs", &[])
            .with_mount("/mem/below", "bind", "source", &["bind"])
            .with_mount("/m6", "bind", &inside("mem/below/x"), &["bind"])
            .with_mount("/memory", "bind", &inside("mem"), &["rbind"])
            .with_mount("/all", "bind", "rootfs", &["rbind"]);
        let seen = bundle.run().ok();
        let expected = "/m1 of the mount\n/m2 of the mount\n/m3 of the mount\n/m4 of the mount\n/m5 of the image\n\
                        /m6 of the mount\nof the mount\n/all/proc/self/comm\n\n/memory:\nbelow\n";
        assert_eq!(seen, expected);
    }
}

#[test]
fn what_an_earlier_mount_brings_is_id_mapped() {
    if cannot_make_containers() {
        return;
    }
    let maps = json!([{"containerID": 0, "hostID": 5000, "size": 100}]);
    let with = |change: fn(&mut Value)| {
        let bundle = Bundle::script("stat -c %u:%g /deep/f /dst/x/f").with(change);
        source_of(&bundle, "src/x", (5, 6));
        ["dst", "deep"].iter().for_each(|name| fs::create_dir(bundle.rootfs().join(name)).unwrap());
        let inside = bundle.rootfs().join("dst/x").display().to_string();
        let bundle =
            bundle.with_mount("/dst", "bind", "src", &["bind"]).with_mount("/deep", "bind", &inside, &["bind"]);
        bundle.with(|config| {
            let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            (mount["uidMappings"], mount["gidMappings"]) = (maps.clone(), maps.clone());
        })
    };
    assert_eq!(with(|_| ()).run().ok(), "5005:5006\n5:6\n");
    // What is of the image itself is the host's to map.
    let plain = Bundle::script("stat -c %u:%g /deep/f").with(in_user_namespace);
    source_of(&plain, "rootfs/own", (5, 6));
    fs::create_dir(plain.rootfs().join("deep")).unwrap();
    let plain = plain.with_mount("/deep", "bind", "rootfs/own", &["bind", "idmap"]);
    assert_eq!(plain.run().ok(), "5:6\n");
    let error = with(in_user_namespace).run().refused();
    assert!(
        error.contains("/source: the source is what an earlier mount brings to /dst/x in the container"),
        "{error}"
    );
    assert!(error.contains("name what is mounted there"), "{error}");
}

/// A link of the host's is followed before anything is mounted: what it finds in the root is not what runc would.
#[test]
fn a_link_of_the_hosts_to_what_a_mount_covers_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /m/f");
    fs::create_dir_all(bundle.rootfs().join("dst/x")).unwrap();
    fs::write(bundle.rootfs().join("dst/x/f"), "beneath the mount\n").unwrap();
    fs::create_dir(bundle.path().join("source")).unwrap();
    symlink(bundle.rootfs().join("dst"), bundle.path().join("link")).unwrap();
    let early = bundle.with_mount("/m", "bind", "link/x", &["bind"]).with_mount("/dst", "bind", "source", &["bind"]);
    assert_eq!(early.run().ok(), "beneath the mount\n");
    let error = early.with_mount("/late", "bind", "link/x", &["bind"]).run().refused();
    assert!(error.contains("/mounts/9") && error.contains("into the container's root, to /dst/x"), "{error}");
    assert!(error.contains("name it by its own path"), "{error}");
    let copied = Bundle::script("true").with_mount("/dst", "bind", ".", &["bind"]);
    let error = copied.with_mount("/m", "bind", "rootfs/dst", &["bind", "copy-symlink"]).run().refused();
    assert!(error.contains("/mounts/8/source") && error.contains("\"copy-symlink\" would follow it"), "{error}");
}

/// A clone is no way around a rule: a bind that was read-only is judged by what is made of it.
#[test]
fn the_policy_judges_what_is_cloned() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let source = bundle.path().join("source");
    fs::create_dir_all(source.join("x")).unwrap();
    fs::create_dir_all(bundle.rootfs().join("dst")).unwrap();
    let policy = bundle.path().join("policy");
    let (root, shown) = (bundle.rootfs(), source.display());
    fs::write(&policy, only(&format!("bind.allow = {} {shown}:ro", root.display()))).unwrap();
    let option = format!("--policy={}", policy.display());
    let inside = bundle.rootfs().join("dst/x").display().to_string();
    let bundle = bundle.with_mount("/dst", "bind", "source", &["bind", "ro"]);
    bundle.run_with(&[&option], b"").ok();
    let read_only = bundle.with_mount("/deep", "bind", &inside, &["bind"]);
    read_only.run_with(&[&option], b"").ok();
    let writable = read_only.with_mount("/deeper", "bind", &inside, &["bind", "rw"]);
    let error = writable.run_with(&[&option], b"").refused();
    assert!(error.contains("bind.allow") && error.contains("source, writable"), "{error}");
    // What is denied cannot be had by what lies above it, nor beneath the root.
    for denied in [source.join("x"), root.join("etc")] {
        fs::write(&policy, only(&format!("bind.deny = {}", denied.display()))).unwrap();
        let error = writable.run_with(&[&option], b"").refused();
        assert!(error.contains("bind.deny") && error.contains(&denied.display().to_string()), "{error}");
    }
}

/// Makes a directory of the bundle's with a file that belongs to these ids.
fn source_of(bundle: &Bundle, directory: &str, (uid, gid): (u32, u32)) {
    let directory = bundle.path().join(directory);
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("f");
    fs::write(&file, "").unwrap();
    chown(&file, Some(uid), Some(gid)).unwrap();
}

#[test]
fn idmap_takes_the_maps_of_a_joined_user_namespace() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(in_user_namespace));
    life.created(&[]).started();
    let namespace = format!("/proc/{}/ns/user", life.pid());
    let bundle = Bundle::script("stat -c %u:%g /m/f /plain/f").with(|config| {
        in_user_namespace(config);
        for entry in config["linux"]["namespaces"].as_array_mut().unwrap().iter_mut().filter(|e| e["type"] == "user") {
            entry["path"] = json!(namespace);
        }
        for member in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(member);
        }
    });
    let bundle =
        bundle.with_mount("/m", "bind", "src", &["bind", "idmap"]).with_mount("/plain", "bind", "src", &["bind"]);
    // No root of this container's may make them.
    ["m", "plain"].iter().for_each(|name| fs::create_dir(bundle.rootfs().join(name)).unwrap());
    source_of(&bundle, "src", (5, 6));
    assert_eq!(bundle.run().ok(), "5:6\n65534:65534\n");
}

#[test]
fn crun_s_words_for_id_maps() {
    if cannot_make_containers() {
        return;
    }
    let option = "idmap=uids=5-5000-1#6-7000-1;gids=0-8000-10";
    let bundle = Bundle::script("stat -c %u:%g /m/f").with_mount("/m", "bind", "src", &["bind", option]);
    source_of(&bundle, "src", (6, 3));
    assert_eq!(bundle.run().ok(), "7000:8003\n");
}

#[test]
fn links_as_sources_and_mount_points() {
    if cannot_make_containers() {
        return;
    }
    let script = "readlink /copied; readlink /mounted; cat /plain; ls -ld /at | cut -c1; cat /at; readlink /there";
    let bundle = Bundle::script(script);
    fs::write(bundle.path().join("target"), "the target\n").unwrap();
    symlink("target", bundle.path().join("link")).unwrap();
    symlink("/etc/elsewhere", bundle.rootfs().join("at")).unwrap();
    symlink("target", bundle.rootfs().join("there")).unwrap();
    let bundle = bundle
        .with_mount("/copied", "bind", "link", &["bind", "copy-symlink"])
        .with_mount("/there", "bind", "link", &["bind", "copy-symlink"])
        .with_mount("/mounted", "bind", "link", &["bind", "src-nofollow"])
        .with_mount("/plain", "bind", "link", &["bind"])
        .with_mount("/at", "bind", "target", &["bind", "dest-nofollow"]);
    assert_eq!(bundle.run().ok(), "target\ntarget\nthe target\n-\nthe target\ntarget\n");
    assert!(!bundle.rootfs().join("etc/elsewhere").exists(), "a link was followed");
    fs::write(bundle.rootfs().join("taken"), "").unwrap();
    let error = bundle.with_mount("/taken", "bind", "link", &["bind", "copy-symlink"]).run().refused();
    assert!(error.contains("/mounts/12") && error.contains("EEXIST"), "{error}");
    let error = Bundle::script("true").with_mount("/m", "tmpfs", "tmpfs", &["copy-symlink"]).run().refused();
    assert!(error.contains("\"copy-symlink\" is for bind mounts"), "{error}");
}

#[test]
fn overlay_layers_in_one_string() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /o/f /o/g; touch /o/new");
    for directory in ["a,b", "c", "up", "work"] {
        fs::create_dir(bundle.path().join(directory)).unwrap();
    }
    fs::write(bundle.path().join("a,b/f"), "upper\n").unwrap();
    fs::write(bundle.path().join("c/g"), "lower\n").unwrap();
    // The kernel's overlay cannot lie on another one's files: on a tmpfs it can.
    let options = "lowerdir=a,b:c,upperdir=over/up,workdir=over/work,index=off";
    let bundle = bundle.with_mount("/o", "overlay", "overlay", &[options]);
    let over = bundle.path().join("over");
    fs::create_dir(&over).unwrap();
    let prepare = format!("mount -t tmpfs t {0}; mkdir {0}/up {0}/work; \"$@\"; ls {0}/up; exit", over.display());
    assert_eq!(finish(in_private_mounts(&prepare, &bundle.command(&[])), b"").ok(), "upper\nlower\nnew\n");
}

#[test]
fn capabilities_that_are_left_out_are_said_once() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::script("true").with(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_OF_THE_FUTURE"));
        }
    }));
    let log = life.bundle.path().join("log");
    let log_option = format!("--log={}", log.display());
    let with_log = |words: &[&str]| {
        let mut command = life.command(&[&[log_option.as_str(), "--log-format=json"], words].concat());
        command.arg(life.id());
        command
    };
    let bundle = life.bundle.path().display().to_string();
    let said = |text: &str| text.matches("there is no capability \"CAP_OF_THE_FUTURE\"").count();
    let ran = life.run(with_log(&["run", "--bundle", &bundle]));
    assert_eq!((ran.status, said(&ran.stderr)), (0, 1), "{ran:?}");
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.lines().count() == 1 && logged.contains("\"level\":\"warning\""), "{logged}");
    fs::remove_file(&log).unwrap();
    let created = life.run(with_log(&["create", "--bundle", &bundle]));
    assert_eq!((created.status, created.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&log).unwrap().matches("CAP_OF_THE_FUTURE").count(), 1);
    let exec = life.run(life.exec_command(&[], &["true"]));
    assert_eq!((exec.status, said(&exec.stderr)), (0, 1), "{exec:?}");
    life.delete(&["--force"]).ok();
    // Without a log there is one place left.
    assert_eq!(said(&life.create(&[]).stderr), 1);
}

#[test]
fn a_create_container_hook_works_in_the_bundle() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let out = bundle.path().join("out");
    let text = format!("pwd >{0}; touch ./lib/x 2>>{0}; touch ./x; exit 0", out.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin"]});
    let bundle = bundle.with(|config| config["hooks"] = json!({"createContainer": [hook]}));
    bundle.run().ok();
    let said = fs::read_to_string(&out).unwrap();
    assert!(said.starts_with(&format!("{}\ntouch: ", bundle.path().display())), "{said}");
    assert!(!Path::new("/lib/x").exists() && !Path::new("/x").exists() && bundle.path().join("x").exists());
    assert!(!bundle.rootfs().join("lib/x").exists());
}

#[test]
fn what_hooks_say_is_appended_to_files() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let hook =
        |name: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name}; echo {name} failed >&2")]});
    let (out, errors) = (bundle.path().join("hooks.out"), bundle.path().join("hooks.err"));
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({"createRuntime": [hook("one")], "createContainer": [hook("two")],
            "startContainer": [hook("inside")], "poststop": [hook("last")]});
        config["annotations"] = json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": errors});
    });
    fs::write(&out, "before\n").unwrap();
    let life = Life::new(bundle);
    life.created(&[]).started();
    life.wait_for_status("stopped");
    life.delete(&[]).ok();
    assert_eq!(fs::read_to_string(&out).unwrap(), "before\none\ntwo\nlast\n");
    assert_eq!(fs::read_to_string(&errors).unwrap(), "one failed\ntwo failed\nlast failed\n");
    // Where the policy names the hooks, they write to no file that the bundle names.
    let policy = life.bundle.path().join("policy");
    fs::write(&policy, only("hooks.allow = /bin/**")).unwrap();
    let refused = life.create(&[&format!("--policy={}", policy.display())]).refused();
    assert!(refused.contains("hooks.allow") && refused.contains("may not be written to files"), "{refused}");
}

/// What crun does by an annotation, and rspawn does not, is said; a filter by one would be none.
#[test]
fn annotations_of_cruns_are_not_passed_over() {
    let check = |name: &str| {
        let bundle = Bundle::script("true").with(|config| config["annotations"] = json!({name: "1"}));
        bundle.write_config();
        let mut command = Command::new(program("rspawn"));
        command.arg("check").arg(bundle.path());
        finish(command, b"")
    };
    let page = include_str!("../../../parent/docs/runc-flags.md");
    let table = page.split_once("## crun's annotations").unwrap().1.split_once("\n## ").unwrap().0;
    let rows = table.lines().filter(|line| line.starts_with("|`")).map(|line| line.split('|').collect::<Vec<_>>());
    let mut count = 0;
    for cells in rows {
        for name in cells[1].split('`').skip(1).step_by(2).filter(|name| *name != "org.criu.config") {
            let Output { status, stdout, .. } = check(name);
            let named = stdout.contains(&format!("/annotations/{name}: "));
            assert_eq!(
                (status == 0, named),
                (cells[2] != "refused", !cells[2].starts_with("honoured")),
                "{name}: {stdout}"
            );
            count += 1;
        }
    }
    assert!(count > 10, "{table}");
}

#[test]
fn a_console_in_a_pipe_ends_lines_as_the_payload_does() {
    if cannot_make_containers() {
        return;
    }
    let bundle =
        Bundle::script("tty; echo a; printf 'b\\r\\n'").with(|config| config["process"]["terminal"] = json!(true));
    assert_eq!(bundle.run_with(&["--console=read-only"], b"").ok(), "/dev/pts/0\na\nb\r\n");
}

#[test]
fn another_file_than_config_json() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.bundle.write_config();
    let other = life.bundle.path().join("other.json");
    fs::rename(life.bundle.path().join("config.json"), &other).unwrap();
    let other = other.display().to_string();
    life.created(&["--config", &other]).started();
    assert_eq!(life.exec(&[], &["echo", "runs"]).ok(), "runs\n");
    life.delete(&["--force"]).ok();
    let mut command = life.making("run", &["-f", "other.json"]);
    let error = finish(
        {
            command.current_dir("/");
            command
        },
        b"",
    )
    .refused();
    assert!(error.contains("cannot open other.json"), "{error}");
}

#[test]
fn containers_are_deleted_by_an_expression() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let made = |id: &str| {
        let mut command = life.command(&["create", "--bundle"]);
        command.arg(life.bundle.path()).arg(id);
        assert_eq!(life.run(command).ok(), "");
    };
    for id in ["web-1", "web-2", "db-1"] {
        made(id);
    }
    let run = |words: &[&str]| life.run(life.command(words));
    assert_eq!(run(&["delete", "--regex", "^web-[0-9]$"]).ok(), "");
    assert_eq!(run(&["list", "--quiet"]).ok(), "db-1\n");
    assert_eq!(run(&["delete", "--regex", "^nothing"]).ok(), "");
    assert!(run(&["delete", "--regex", "("]).refused().contains("is not a regular expression"));
    assert_eq!(run(&["delete", "--force", "--regex", "."]).ok(), "");
    assert_eq!(run(&["list", "--quiet"]).ok(), "");
}

#[test]
fn seccomp_rules_that_rule_nothing_are_said() {
    if cannot_make_containers() {
        return;
    }
    let with = |rule: Value, strict: bool| {
        Bundle::script("mkdir /d || echo refused").with(|config| {
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
            if strict {
                config["annotations"] = json!({"run.oci.seccomp_fail_unknown_syscall": "1"});
            }
        })
    };
    let empty = with(json!({"names": [], "action": "SCMP_ACT_ERRNO"}), false).run().refused();
    assert!(empty.contains("/linux/seccomp/syscalls/0/names: the rule names no system call"), "{empty}");
    // What docker wrote once is what it means: the protection is there.
    let old = with(json!({"name": "mkdir", "action": "SCMP_ACT_ERRNO"}), false).run();
    assert_eq!(old.stdout, "refused\n", "{old:?}");
    assert!(old.stderr.contains("/linux/seccomp/syscalls/0/name: docker's old form"), "{old:?}");
    let unknown = || json!({"names": ["mkdri"], "action": "SCMP_ACT_ERRNO"});
    with(unknown(), false).run().ok();
    let error = with(unknown(), true).run().refused();
    assert!(error.contains("/linux/seccomp/syscalls/0/names/0") && error.contains("did you mean mkdir?"), "{error}");
}

/// As many as a plan takes, of each sort.
#[test]
fn thousands_of_mounts() {
    if cannot_make_containers() {
        return;
    }
    for (kind, options) in [("bind", &["bind", "ro"][..]), ("tmpfs", &["ro", "rprivate", "size=64k"])] {
        let bundle = Bundle::script("wc -l </proc/self/mountinfo; ulimit -n").with(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            let more = (mounts.len()..4096).map(|index| {
                json!({"destination": format!("/m/{index}"), "type": kind, "source": "rootfs", "options": options})
            });
            mounts.extend(more.collect::<Vec<_>>());
            config["process"]["rlimits"] = json!([]);
        });
        // The root, the mounts and what covers the paths of the default configuration; and the caller's own limit.
        let shown = finish(in_private_mounts("ulimit -Sn 1000; exec \"$@\"", &bundle.command(&[])), b"").ok();
        let numbers: Vec<usize> = shown.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(numbers[0] > 4096 && numbers[1] == 1000, "{kind}: {shown}");
    }
}

#[test]
fn a_copy_of_rspawn_alone_finds_what_is_installed() {
    if cannot_make_containers() {
        return;
    }
    let alone = Scratch::new();
    let copy = alone.path.join("rspawn");
    fs::copy(program("rspawn"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let bundle = Bundle::script("echo it runs");
    let ordinary = bundle.command(&[]);
    let mut command = Command::new(&copy);
    command.args(ordinary.get_args());
    let prepare = |programs: &str| {
        format!(
            "mkdir -p /usr/libexec; mount -t tmpfs t /usr/libexec; mkdir /usr/libexec/rspawn; {programs}; exec \"$@\""
        )
    };
    let directory = program("rspawn-setup").parent().unwrap().display().to_string();
    let installed = prepare(&format!("cp {directory}/rspawn-* /usr/libexec/rspawn"));
    assert_eq!(finish(in_private_mounts(&installed, &command), b"").ok(), "it runs\n");
    let error = finish(in_private_mounts(&prepare("true"), &command), b"").refused();
    assert!(error.contains("nor in /usr/libexec/rspawn"), "{error}");
    // Of another build: one whose number is another, one that says nothing, and one that cannot be executed.
    let others = Scratch::new();
    let other = |name: &str, bytes: &[u8]| {
        let path = others.path.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&format!(
            "cp {0}/rspawn-* /usr/libexec/rspawn; cp {1} /usr/libexec/rspawn/rspawn-setup",
            directory,
            path.display()
        ))
    };
    let mut setup = fs::read(program("rspawn-setup")).unwrap();
    let (ours, theirs) = (WIRE_VERSION.to_le_bytes(), (WIRE_VERSION - 1).to_le_bytes());
    let places: Vec<usize> = (0..setup.len() - 4).filter(|at| setup[*at..at + 4] == ours).collect();
    assert!(!places.is_empty(), "the number of the build is not in rspawn-setup as it is in memory");
    places.iter().for_each(|at| setup[*at..at + 4].copy_from_slice(&theirs));
    let says_where = "rspawn started that in /usr/libexec/rspawn: the programs there must be of its own build";
    for (name, bytes, reason) in [
        ("older", &setup[..], "rspawn and rspawn-setup are of different builds"),
        ("silent", &fs::read("/bin/busybox").unwrap(), "rspawn-setup died: exit status"),
        ("text", b"no program", "execveat: ENOEXEC"),
    ] {
        let failed = finish(in_private_mounts(&other(name, bytes), &command), b"");
        let error = failed.stderr;
        assert!(failed.status == 1 && error.contains(reason), "{name}: {error}");
        assert!(error.contains(says_where), "{name}: {error}");
    }
    let without_init = prepare(&format!("cp {directory}/rspawn-setup /usr/libexec/rspawn"));
    let error = finish(in_private_mounts(&without_init, &command), b"").refused();
    assert!(error.contains("ENOENT: No such file or directory (rspawn-init)") && error.contains(says_where), "{error}");
}
