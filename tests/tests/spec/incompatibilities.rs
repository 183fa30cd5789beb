//! Every point of INCOMPATIBILITIES.md, by its name.
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rspawn_planner::Options;
use rspawn_planner::facts::{CgroupFacts, Facts, Hierarchy};
use rspawn_tests::life::Life;
use rspawn_tests::mountinfo::{in_private_mounts, mount_at};
use rspawn_tests::terminal::Terminal;
use rspawn_tests::user::User;
use rspawn_tests::{Bundle, cannot_make_containers, finish, silent, status_field, wait_for};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

#[test]
fn what_cgroup_v2_cannot_express_is_an_error() {
    let hierarchy = Hierarchy { mount: Some("/sys/fs/cgroup".into()), ..Hierarchy::default() };
    let controllers = vec!["memory".into(), "io".into()];
    let facts = CgroupFacts { unified: true, hierarchies: vec![hierarchy], controllers, units: None };
    let resources = json!({"memory": {"disableOOMKiller": true}, "blockIO": {"leafWeight": 100},
        "cpu": {"realtimeRuntime": 5, "realtimePeriod": 10},
        "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]}});
    let resources = serde_json::from_value(resources).unwrap();
    let found = rspawn_planner::sections::resources::settings(&resources, &facts, "/linux/resources").problems;
    let mut pointers: Vec<&str> =
        found.iter().filter_map(|problem| problem.pointer.strip_prefix("/linux/resources/")).collect();
    pointers.sort();
    let expected = [
        "blockIO/leafWeight", "cpu/realtimeRuntime", "memory/disableOOMKiller", "network/classID",
        "network/priorities/0",
    ];
    assert_eq!(pointers, expected);
}

#[test]
fn device_rules_are_heard_in_their_order() {
    if cannot_make_containers() {
        return;
    }
    // runc keeps what the first rule allows, since the second one names more.
    let rule =
        |allow: bool, minor: i64| json!({"allow": allow, "type": "c", "major": 240, "minor": minor, "access": "rwm"});
    let bundle = Bundle::script("mknod /tmp/x c 240 7 && : </tmp/x").with(|config| {
        config["linux"]["resources"] = json!({"devices": [rule(true, 7), rule(false, -1)]});
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    });
    let output = bundle.run();
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
}

#[test]
fn unknown_values_are_errors_and_unknown_properties_are_ignored() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true").with(|config| {
        config["notAProperty"] = json!({"a": 1});
        config["linux"]["neitherIsThis"] = json!([]);
        config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_OF_THE_FUTURE"]);
    });
    bundle.run().ok();
    let bundle = Bundle::script("true");
    let bundle = bundle.with(|config| config["linux"]["namespaces"][0]["type"] = json!("pidd"));
    let error = bundle.run().refused();
    assert!(error.contains("/linux/namespaces/0/type") && error.contains("did you mean pid?"), "{error}");
}

#[test]
fn pid_1_is_rspawn_init() {
    if cannot_make_containers() {
        return;
    }
    let script = "tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$";
    let output = Bundle::script(script).run().ok();
    let mut lines = output.lines();
    assert!(lines.next().unwrap().starts_with("rspawn-init "));
    assert_ne!(lines.next().unwrap(), "1");
    let output = Bundle::script(script).run_with(&["--init=exec"], b"").ok();
    assert!(output.starts_with("sh ") && output.ends_with("\n1\n"), "{output}");
    let bundle = Bundle::script(script).with(|config| config["annotations"] = json!({"org.rspawn.init": "exec"}));
    assert!(bundle.run().ok().ends_with("\n1\n"));
    assert_eq!(Bundle::script("kill -9 $$").run().status, 128 + 9);
    // Where an engine starts it, all of that is runc's.
    let life = Life::script("tr '\\0' ' ' </proc/1/cmdline >/first; echo $$ >/own; exec sleep 1000");
    life.created(&[]).started();
    wait_for("the payload runs", || life.file("own") == "1\n");
    assert!(life.file("first").starts_with("sh -c "), "{}", life.file("first"));
}

#[test]
fn a_mount_namespace_is_required() {
    if cannot_make_containers() {
        return;
    }
    assert!(Bundle::script("true").without_namespaces(&["mount"]).run().refused().contains("no mount namespace"));
}

#[test]
fn a_relative_root_stays_in_the_bundle() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let bundle = bundle.with(|config| config["root"]["path"] = json!("rootfs/../../etc"));
    assert!(bundle.run().refused().contains("/root/path"));
    let bundle = Bundle::script("true");
    let absolute = bundle.rootfs();
    bundle.with(|config| config["root"]["path"] = json!(absolute)).run().ok();
}

#[test]
fn the_umask_is_0022_where_nothing_is_said() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(Bundle::script("umask").run().ok(), "0022\n");
    let life = Life::idle();
    life.created(&[]).started();
    let exec = life.exec_command(&[], &["sh", "-c", "umask"]);
    assert_eq!(finish(in_private_mounts("umask 077; exec \"$@\"", &exec), b"").ok(), "0022\n");
    let bundle = Bundle::script("umask").with(|config| config["process"]["user"]["umask"] = json!(0o077));
    assert_eq!(bundle.run().ok(), "0077\n");
}

#[test]
fn a_wrong_node_in_the_image_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    // Without a tmpfs over it, the image's own /dev is used.
    let bundle = bundle.with(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    fs::write(bundle.rootfs().join("dev/null"), "not a device").unwrap();
    let error = bundle.run().refused();
    assert!(error.contains("mknod /dev/null") && error.contains("it is not the device"), "{error}");
}

#[test]
fn a_writable_cgroup_mount_shows_the_containers_own() {
    if cannot_make_containers() {
        return;
    }
    let script = "cd /sys/fs/cgroup; cd pids 2>/dev/null; grep -c . cgroup.procs; test -e pids.max && echo own";
    let bundle = Bundle::script(script).without_namespaces(&["cgroup"]).with(|config| {
        for mount in config["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["type"] == "cgroup") {
            mount["options"] = json!(["nosuid"]);
        }
    });
    // The hierarchy's own root has no such file.
    assert!(bundle.run().ok().ends_with("own\n"));
}

#[test]
fn links_do_not_decide_where_proc_goes() {
    if cannot_make_containers() {
        return;
    }
    for kind in ["proc", "sysfs"] {
        for (destination, link) in
            [("/srv/here", "srv/here"), ("/srv/on/the/way", "srv/on"), ("/srv/on/the/way", "srv")]
        {
            let bundle = Bundle::script("true").with_mount(destination, kind, kind, &[]);
            let link = bundle.rootfs().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            // Where it leads is in the root, and could be mounted on.
            symlink("/tmp", link).unwrap();
            fs::create_dir_all(bundle.rootfs().join("tmp/the/way")).unwrap();
            let error = bundle.run().refused();
            assert!(error.contains("/mounts/7") && error.contains("ELOOP"), "{kind} on {destination}: {error}");
        }
    }
}

#[test]
fn a_terminal_without_a_terminal_is_read_only() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("tty; cat < /dev/null").with(|config| config["process"]["terminal"] = json!(true));
    let output = bundle.run_with(&[], b"ignored");
    assert_eq!((output.status, output.stdout.trim()), (0, "/dev/pts/0"));
    // Who did not ask for it is told.
    assert!(output.stderr.contains("the container's console is only shown: --console=interactive"), "{output:?}");
    assert_eq!(bundle.run_with(&["--console=read-only"], b"ignored").stderr, "");
}

#[test]
fn on_a_terminal_people_read() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let shown = |command: &Command| {
        let terminal = Terminal::new(24, 200);
        let child = terminal.start(command);
        terminal.finish(child).ok().replace("\r\n", "\n")
    };
    for (verb, people, runcs) in [
        ("list", " ago ", "--format=table"),
        ("state", "  status ", "--format=json"),
        ("ps", "PARENT", "--format=table"),
    ] {
        let command = |options: &[&str]| {
            if verb == "list" { life.command(&[&[verb], options].concat()) } else { life.on_it(verb, options) }
        };
        let (terminal, pipe) = (shown(&command(&[])), life.run(command(&[])).ok());
        assert!(terminal.contains(people) && !pipe.contains(people), "{verb}: {terminal}{pipe}");
        assert_eq!(shown(&command(&[runcs])).lines().next(), pipe.lines().next(), "{verb}");
    }
}

#[test]
fn attributes_of_the_source_stay() {
    if cannot_make_containers() {
        return;
    }
    let script = "cat /proc/self/mountinfo";
    let bundle = Bundle::script(script).with_mount("/data", "bind", "source", &["bind"]);
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    let prepare = format!("mount -t tmpfs -o ro,nosuid,nodev,noexec t {}; exec \"$@\"", source.display());
    let shown = finish(in_private_mounts(&prepare, &bundle.command(&[])), b"").ok();
    bundle.assert_nothing_left();
    let data = mount_at(&shown, "/data");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| data.has(option)), "{data:?}");
}

#[test]
fn every_1_x_version_is_accepted() {
    if cannot_make_containers() {
        return;
    }
    for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.3.0"] {
        Bundle::script("true").with(|config| config["ociVersion"] = json!(version)).run().ok();
    }
    for version in ["", "1", "2.0.0", "0.9.0", "1.x.0"] {
        let bundle = Bundle::script("true").with(|config| config["ociVersion"] = json!(version));
        assert!(bundle.run().refused().contains("/ociVersion"), "{version}");
    }
}

#[test]
fn sysctls_are_applied() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("cat /proc/sys/kernel/msgmax");
    let bundle = bundle.with(|config| config["linux"]["sysctl"] = json!({"kernel.msgmax": "12345"}));
    assert_eq!(bundle.run().ok(), "12345\n");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "12345\n");
}

#[test]
fn many_id_ranges_are_mapped() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("wc -l < /proc/self/uid_map; id -u").with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let ranges: Vec<_> =
            (0..100).map(|i| json!({"containerID": 10 * i, "hostID": 100_000 + 20 * i, "size": 10})).collect();
        config["linux"]["uidMappings"] = json!(ranges);
        config["linux"]["gidMappings"] = json!(ranges);
    });
    assert_eq!(bundle.run().ok(), "100\n0\n");
}

#[test]
fn mounts_of_the_bundle_win() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("ls /proc; ls /dev; ls /sys").with(|config| config["mounts"] = json!([]));
    let output = bundle.run().ok();
    assert!(output.contains("null") && !output.contains("self") && !output.contains("kernel"), "{output}");
    // As nspawn starts it, it has nspawn's where it says nothing, and its own where it does.
    let bundle = silent::silent().with(|config| {
        config["mounts"] = json!([{"destination": "/tmp", "type": "tmpfs", "options": ["size=1M"]}]);
    });
    let mounts = as_nspawn(&bundle, &[], "cat /proc/self/mountinfo");
    assert!(mount_at(&mounts, "/tmp").filesystem_has("size=1024k"), "{mounts}");
    assert_eq!(mount_at(&mounts, "/proc").fs, "proc");
}

/// What the payload of `--oci-bundle` prints, without a console.
fn as_nspawn(bundle: &Bundle, options: &[&str], script: &str) -> String {
    silent::run(bundle, &[options, &["--console=pipe", "--", "sh", "-c", script]].concat()).ok()
}

#[test]
fn a_bundle_as_nspawn_starts_it_has_the_capabilities_of_a_directory() {
    if cannot_make_containers() {
        return;
    }
    let status = as_nspawn(&silent::silent(), &[], "cat /proc/self/status");
    let bits = u64::from_str_radix(status_field(&status, "CapBnd").unwrap(), 16).unwrap();
    assert_eq!((bits.count_ones(), bits & (1 << 21)), (11, 0), "none of CAP_SYS_ADMIN's kind");
}

#[test]
fn a_bundle_as_nspawn_starts_it_has_rspawn_init_as_pid_1() {
    if cannot_make_containers() {
        return;
    }
    let first = "cat /proc/1/comm; [ $$ = 1 ] && echo the payload";
    for (options, expected) in
        [(&[][..], "rspawn-init\n"), (&["--as-pid2"], "rspawn-init\n"), (&["--init=exec"], "sh\nthe payload\n")]
    {
        let script = format!("{first}; true");
        assert_eq!(as_nspawn(&silent::silent(), options, &script), expected, "{options:?}");
    }
}

#[test]
fn a_bundle_as_nspawn_starts_it_is_called_after_its_directory() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent::silent();
    assert_eq!(as_nspawn(&bundle, &[], "hostname"), format!("{}\n", bundle.id));
    assert_eq!(as_nspawn(&bundle, &["given"], "hostname"), "given\n");
    let named = bundle.with(|config| config["hostname"] = json!("its-own"));
    assert_eq!(as_nspawn(&named, &[], "hostname"), "its-own\n");
}

#[test]
fn a_root_without_usr_will_do() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent::silent();
    fs::remove_dir(bundle.rootfs().join("usr")).unwrap();
    assert_eq!(as_nspawn(&bundle, &[], "ls -d /usr 2>/dev/null; echo runs"), "runs\n");
}

#[test]
fn cgroups_of_a_bundle_as_nspawn_starts_it_are_read_only() {
    if cannot_make_containers() {
        return;
    }
    let mounts = as_nspawn(&silent::silent(), &[], "cat /proc/self/mountinfo");
    assert!(mount_at(&mounts, "/sys/fs/cgroup").has("ro"), "{mounts}");
    // An entry of the bundle's makes them its own.
    let writable = silent::silent().with(|config| {
        config["mounts"] = json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]);
    });
    let mounts = as_nspawn(&writable, &[], "cat /proc/self/mountinfo");
    assert!(mount_at(&mounts, "/sys/fs/cgroup").has("rw"), "{mounts}");
}

#[test]
fn container_uuid_is_the_same_each_time() {
    if cannot_make_containers() {
        return;
    }
    let bundle = silent::silent();
    fs::write(bundle.rootfs().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let ask = |options: &[&str]| as_nspawn(&bundle, options, "echo $container_uuid");
    assert_eq!(ask(&[]), ask(&[]));
    assert_ne!(ask(&[]), ask(&["other"]));
    assert!(!ask(&[]).starts_with("01234567"));
}

#[test]
fn settings_add_to_the_command_line() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("ls -d /a /b");
    let settings = bundle.path().join("x.nspawn");
    fs::write(&settings, "[Files]\nTemporaryFileSystem=/a\n").unwrap();
    let named = format!("--settings={}", settings.display());
    assert_eq!(bundle.run_with(&[&named, "--tmpfs=/b"], b"").ok(), "/a\n/b\n");
}

#[test]
fn a_failing_exec_ends_as_a_shell_does() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    assert_eq!(life.exec(&[], &["nothing"]).status, 127);
    assert_eq!(life.exec(&[], &["/etc"]).status, 126);
    assert_eq!(life.exec(&["--cwd", "/no/such"], &["true"]).status, 255);
}

#[test]
fn created_containers_end_by_sigterm() {
    if cannot_make_containers() {
        return;
    }
    // What `create` leaves is this process's to wait for.
    set_child_subreaper(true).unwrap();
    for init in ["--init=supervise", "--init=exec"] {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            let life = Life::idle();
            life.created(&[init]);
            let pid = Pid::from_raw(life.pid());
            life.kill(signal.as_str()).ok();
            life.wait_for_status("stopped");
            assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 128 + signal as i32)), "{init}");
            life.delete(&[]).ok();
            life.assert_gone();
        }
    }
}

#[test]
fn an_update_may_change_device_rules() {
    if cannot_make_containers() {
        return;
    }
    // runc says nothing, and the device can still be opened.
    let rule = json!({"allow": true, "type": "c", "major": 240, "minor": 7, "access": "rwm"});
    let script = "mknod /tmp/x c 240 7; (: </tmp/x); until [ -e /go ]; do sleep 0.02; done; (: </tmp/x)";
    let life = Life::new(Bundle::script(&format!("({script}) 2>/said")).with(|config| {
        config["linux"]["resources"] = json!({"devices": [rule]});
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    }));
    life.created(&[]).started();
    wait_for("the device is tried", || life.file("said").contains("No such device"));
    let denied = json!({"devices": [{"allow": false, "access": "rwm"}]});
    assert_eq!(finish(life.on_it("update", &["-r", "-"]), denied.to_string().as_bytes()).ok(), "");
    std::fs::write(life.bundle.rootfs().join("go"), "").unwrap();
    life.wait_for_status("stopped");
    assert!(life.file("said").contains("Operation not permitted"), "{}", life.file("said"));
}

#[test]
fn a_hook_gets_nothing_of_the_callers() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let text = format!("pwd > {0}/cwd; /usr/bin/env > {0}/env; echo chatter", bundle.path().display());
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", &text]}]});
    });
    assert_eq!(bundle.run().ok(), "");
    assert_eq!(fs::read_to_string(bundle.path().join("cwd")).unwrap(), "/\n");
    let inside = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", text]}]});
    let bundle = bundle.with(|config| config["hooks"] = inside);
    bundle.run().ok();
    let seen = fs::read_to_string(bundle.path().join("cwd")).unwrap();
    assert_eq!(seen, format!("{}\n", bundle.path().display()));
    // These are the shell's own.
    let env = fs::read_to_string(bundle.path().join("env")).unwrap();
    assert!(
        env.lines().all(|entry| ["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| entry.starts_with(own))),
        "{env}"
    );
}

/// What is wrong with a configuration on another machine.
fn problems(config: &Value, facts: &Facts, options: &Options) -> String {
    let spec = rspawn_planner::oci::parse(config.to_string().as_bytes()).unwrap();
    let problems = rspawn_planner::plan(&spec, facts, options).err().unwrap_or_default();
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Without rules for cgroups, and without cgroups.
fn default_config() -> Value {
    let mut config = serde_json::to_value(rspawn_planner::default_spec::default_spec(false)).unwrap();
    config["linux"]["resources"] = Value::Null;
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    config
}

fn machine() -> Facts {
    Facts { kernel: (6, 12), machine: "x86_64".into(), capabilities: u64::MAX, ..Facts::default() }
}

#[test]
fn scopes_are_of_cgroup_v2() {
    let hierarchy = |controllers: &str| Hierarchy {
        controllers: controllers.into(),
        mount: Some(format!("/sys/fs/cgroup/{controllers}")),
        ..Hierarchy::default()
    };
    let with = |hierarchies: Vec<Hierarchy>, unified| Facts {
        systemd: Some(rspawn_planner::facts::Manager::System),
        cgroup: CgroupFacts { unified, hierarchies, controllers: vec!["pids".into()], units: Some(String::new()) },
        ..machine()
    };
    let options = Options { systemd: true, ..rspawn_tests::hostile::options("id", std::path::Path::new("/bundle")) };
    let mut config = serde_json::to_value(rspawn_planner::default_spec::default_spec(false)).unwrap();
    config["linux"]["cgroupsPath"] = json!("system.slice:rspawn:id");
    assert_eq!(problems(&config, &with(vec![hierarchy("")], true), &options), "");
    let hybrid = with(vec![hierarchy("devices"), hierarchy("name=systemd"), hierarchy("")], false);
    let found = problems(&config, &hybrid, &options);
    assert!(found.contains("v1"), "{found}");
}

#[test]
fn layers_beyond_thirteen_need_linux_6_7() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    let found = |layers: usize, kernel| {
        let lower: Vec<String> = (0..layers).map(|layer| format!("/l{layer}")).collect();
        let mut config = default_config();
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/o", "type": "overlay",
            "options": [format!("lowerdir={}", lower.join(":"))]}));
        problems(&config, &Facts { kernel, ..machine() }, &options)
    };
    assert_eq!(found(13, (6, 6)) + &found(14, (6, 7)) + &found(500, (6, 7)), "");
    assert!(found(14, (6, 6)).contains("/mounts/"), "{}", found(14, (6, 6)));
}

#[test]
fn limits_without_a_cgroup_are_left_out() {
    // In the lane of users too, this one is nobody's but this test's.
    let Some(user) = User::by_number() else { return };
    let mut life = Life::new(Bundle::new().with_args(&["sleep", "1000"]).with(|config| {
        config["linux"]["resources"] = json!({"pids": {"limit": 100}});
    }));
    life.bundle.user = Some(user);
    let log = life.bundle.path().join("log");
    let create = |format: &str, bundle: &str| {
        let format = format!("--log-format={format}");
        let log = log.display().to_string();
        life.run(life.command(&["--log", &log, &format, "create", "--bundle", bundle, life.id()]))
    };
    let bundle = life.bundle.path().display().to_string();
    // One line on stderr is all that clients take for an error, and so is a second one in the log of what fails.
    let output = create("json", &bundle);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let said = fs::read_to_string(&log).unwrap();
    let entry: serde_json::Value = serde_json::from_str(&said).expect("one document");
    let message = entry["msg"].as_str().unwrap();
    assert_eq!(entry["level"], "warning");
    assert!(message.starts_with("config.json /linux/resources/pids") && message.contains("not applied"), "{message}");
    fs::remove_file(&log).unwrap();
    assert_eq!(create("json", &bundle).status, 1);
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.lines().count() == 1 && said.contains("\"level\":\"error\""), "{said}");
    life.delete(&["--force"]).ok();
    fs::remove_file(&log).unwrap();
    assert_eq!(create("text", &bundle).ok(), "");
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("level=warning msg=\"config.json /linux/resources/pids"), "{said}");
}

#[test]
fn a_class_of_service_that_is_there_stays_as_it_is() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    let groups = [("", "L3:0=fffff\n"), ("gold", "    L3:0=000ff\n")];
    let resctrl = rspawn_planner::facts::ResctrlFacts {
        mount: "/sys/fs/resctrl".into(),
        groups: groups.map(|(name, schemata)| (name.to_string(), schemata.to_string())).into(),
        ..Default::default()
    };
    let facts = Facts { resctrl: Some(resctrl), ..machine() };
    let found = |class: Value| {
        let mut config = default_config();
        config["linux"]["intelRdt"] = class;
        problems(&config, &facts, &options)
    };
    assert_eq!(found(json!({"closID": "gold", "l3CacheSchema": "L3:0=ff"})), "");
    assert_eq!(found(json!({"closID": "gold"})) + &found(json!({"closID": "/"})), "");
    let differs = found(json!({"closID": "gold", "l3CacheSchema": "L3:0=f"}));
    assert!(differs.contains("/linux/intelRdt/l3CacheSchema"), "{differs}");
}

#[test]
fn a_failing_start_container_hook_fails_the_start() {
    if cannot_make_containers() {
        return;
    }
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 9"]});
    let life = Life::new(Bundle::script("true").with(|config| config["hooks"] = json!({"startContainer": [hook]})));
    life.created(&[]);
    let error = life.start().refused();
    assert!(error.contains("/hooks/startContainer/0: the hook /bin/sh: exit status 9"), "{error}");
    life.delete(&[]).ok();
}

#[test]
fn poststop_hooks_all_run() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let hook = |text: String| json!({"path": "/bin/sh", "args": ["sh", "-c", text]});
    let second = format!("echo ran >{}", bundle.path().join("second").display());
    let hooks = json!({"poststop": [hook("exit 1".into()), hook(second)]});
    let life = Life::new(bundle.with(|config| config["hooks"] = hooks));
    life.created(&[]);
    let deleted = life.delete(&[]);
    assert_eq!(deleted.status, 0);
    assert!(deleted.stderr.starts_with("rspawn: warning: config.json /hooks/poststop/0: "), "{deleted:?}");
    assert_eq!(fs::read_to_string(life.bundle.path().join("second")).unwrap(), "ran\n");
}

#[test]
fn relative_paths_of_hooks_are_errors() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    let lists = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for (list, path) in lists.into_iter().zip(["bin/true", "./hook", "hook", "bin/true", "../hook", "hook"]) {
        let mut config = default_config();
        config["hooks"] = json!({list: [{"path": path}]});
        let found = problems(&config, &machine(), &options);
        assert!(found.contains(&format!("/hooks/{list}/0/path: the path is not absolute")), "{found}");
    }
}

#[test]
fn inheritable_capabilities_may_be_beyond_the_bounding_set() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("grep -E 'Cap(Inh|Bnd)' /proc/self/status").with(|config| {
        config["process"]["capabilities"] = json!({"bounding": [], "inheritable": ["CAP_CHOWN"]});
    });
    assert_eq!(bundle.run().ok(), "CapInh:\t0000000000000001\nCapBnd:\t0000000000000000\n");
}

#[test]
fn magic_links_lead_nowhere() {
    if cannot_make_containers() {
        return;
    }
    let error = Bundle::script("true").with_mount("/m", "bind", "/proc/self/root/etc", &["bind"]).run().refused();
    assert!(error.contains("/mounts/7") && error.contains("ELOOP"), "{error}");
    let bundle = Bundle::script("true").with(|config| config["root"]["path"] = json!("/proc/self/root/srv"));
    let error = bundle.run().refused();
    assert!(error.contains("/root") && error.contains("ELOOP"), "{error}");
}

#[test]
fn other_versions_than_1_are_errors() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    for version in ["2.0.0", "0.6.0"] {
        let mut config = default_config();
        config["ociVersion"] = json!(version);
        let found = problems(&config, &machine(), &options);
        assert!(found.contains("/ociVersion") && found.contains("1.x"), "{found}");
    }
}

#[test]
fn nothing_stands_around_the_configuration() {
    let config = default_config().to_string();
    assert!(rspawn_planner::oci::parse(config.as_bytes()).is_ok());
    let error = |text: String| rspawn_planner::oci::parse(text.as_bytes()).unwrap_err().message;
    assert!(error(format!("{config} more")).contains("trailing characters"));
    assert!(error(format!("\u{feff}{config}")).contains("byte order mark"));
}

#[test]
fn odd_access_letters_are_errors() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    for access in ["rwx", "RW", ""] {
        let mut config = default_config();
        config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": access}]});
        let hierarchy = Hierarchy { mount: Some("/sys/fs/cgroup".into()), ..Hierarchy::default() };
        let cgroup = CgroupFacts { unified: true, hierarchies: vec![hierarchy], ..CgroupFacts::default() };
        let found = problems(&config, &Facts { cgroup, ..machine() }, &options);
        assert!(found.contains("/linux/resources/devices/0/access"), "{access}: {found}");
    }
}

#[test]
fn rules_that_rule_nothing_are_said() {
    if cannot_make_containers() {
        return;
    }
    let with = |rule: Value| {
        Bundle::script("mkdir /d || echo refused").with(|config| {
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        })
    };
    let empty = with(json!({"names": [], "action": "SCMP_ACT_ERRNO"})).run().refused();
    assert!(empty.contains("/linux/seccomp/syscalls/0/names: "), "{empty}");
    let old = with(json!({"name": "mkdir", "action": "SCMP_ACT_ERRNO"})).run();
    assert!(old.stdout == "refused\n" && old.stderr.contains("/linux/seccomp/syscalls/0/name: "), "{old:?}");
}

#[test]
fn mounts_and_device_rules_are_numbered() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    let hierarchy = Hierarchy { mount: Some("/sys/fs/cgroup".into()), ..Hierarchy::default() };
    let cgroup = CgroupFacts { unified: true, hierarchies: vec![hierarchy], ..CgroupFacts::default() };
    let facts = Facts { cgroup, ..machine() };
    let mut config = default_config();
    config["mounts"] = json!(vec![json!({"destination": "/m", "type": "tmpfs"}); 4097]);
    let found = problems(&config, &facts, &options);
    assert!(found.contains("/mounts/4096: there are 4097 mounts; rspawn takes at most 4096"), "{found}");
    let mut config = default_config();
    let rule = |minor: u32| json!({"allow": true, "type": "c", "major": 240, "minor": minor, "access": "r"});
    config["linux"]["resources"] = json!({"devices": (0..1024).map(rule).collect::<Vec<_>>()});
    let found = problems(&config, &facts, &options);
    assert!(found.contains("/linux/resources/devices: there are") && found.contains("at most 1024"), "{found}");
}

#[test]
fn destinations_are_paths_in_the_container() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    let place = bundle.rootfs().join("m").display().to_string();
    let script = format!("grep -c ' {place} ' /proc/self/mountinfo");
    let bundle = bundle.with_args(&["sh", "-c", &script]).with_mount(&place, "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.run().ok(), "1\n");
    let mut check = Command::new(rspawn_tests::program("rspawn"));
    check.arg("check").arg(bundle.path());
    let said = finish(check, b"").stdout;
    assert!(said.contains("/mounts/7/destination: ") && said.contains("and not /m, as by runc"), "{said}");
}

#[test]
fn a_link_of_the_hosts_leads_to_no_mount_of_the_containers() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    symlink(bundle.rootfs(), bundle.path().join("link")).unwrap();
    let bundle = bundle.with_mount("/dst", "bind", ".", &["bind"]).with_mount("/m", "bind", "link/dst", &["bind"]);
    fs::create_dir(bundle.rootfs().join("dst")).unwrap();
    let error = bundle.run().refused();
    assert!(error.contains("/mounts/8") && error.contains("into the container's root, to /dst; an earlier"), "{error}");
}

#[test]
fn what_a_mount_brings_is_not_mapped_in_a_user_namespace() {
    let options = rspawn_tests::hostile::options("id", std::path::Path::new("/bundle"));
    let mut config = default_config();
    rspawn_tests::bundle::in_user_namespace(&mut config);
    let bind = |to: &str, source: &str, option: &str| json!({"destination": to, "source": source, "options": ["bind", option]});
    config["mounts"] = json!([bind("/a", "a", "ro"), bind("/b", "rootfs/a/x", "idmap"), bind("/c", "c", "idmap")]);
    let found = problems(&config, &machine(), &options);
    assert!(found.starts_with("config.json /mounts/1/source: the source is what an earlier mount brings"), "{found}");
    assert_eq!(found.lines().count(), 1, "{found}");
}

#[test]
fn words_that_a_bind_cannot_mean_are_errors() {
    if cannot_make_containers() {
        return;
    }
    let with =
        |words: &[&str]| Bundle::script("true").with_mount("/m", "bind", ".", &[&["bind"], words].concat()).run();
    let error = with(&["nosiud"]).refused();
    assert!(error.contains("/mounts/7/options") && error.contains("did you mean nosuid?"), "{error}");
    with(&["defaults", "x-anything", "comment=mine", "z", "Z", "U", "copy", "nocopy", "cached"]).ok();
}

#[test]
fn a_runtime_directory_must_be_there() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let mut list = Command::new("unshare");
    list.args(["--user", "--map-root-user", "--"]).arg(rspawn_tests::program("rspawn")).arg("list");
    list.env("XDG_RUNTIME_DIR", life.bundle.path().join("not-there-yet"));
    let error = finish(list, b"").refused();
    assert!(error.contains("not-there-yet") && error.contains("set XDG_RUNTIME_DIR, or give --root"), "{error}");
}

#[test]
fn a_read_only_bind_does_not_follow_the_host() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("cat /proc/self/mountinfo");
    let source = life.bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    let source = source.to_string_lossy().into_owned();
    for (options, follows) in [(&["bind"][..], true), (&["bind", "ro"], false), (&["bind", "ro", "slave"], true)] {
        let bundle = Bundle::script("cat /proc/self/mountinfo").with_mount("/data", "none", &source, options);
        let script = format!("mount --bind {source} {source} && mount --make-shared {source} && \"$@\"");
        let shown = finish(in_private_mounts(&script, &bundle.command(&[])), b"").ok();
        let propagation = mount_at(&shown, "/data").propagation;
        assert_eq!(propagation.iter().any(|word| word.starts_with("master:")), follows, "{options:?}: {propagation:?}");
    }
}

/// In the pid namespace of another container.
fn among_others(neighbour: &Life, config: &mut Value) {
    let path = format!("/proc/{}/ns/pid", neighbour.pid());
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.iter_mut().find(|one| one["type"] == "pid").unwrap()["path"] = json!(path);
}

#[test]
fn hooks_stay_outside_a_joined_pid_namespace() {
    if cannot_make_containers() {
        return;
    }
    let neighbour = Life::idle();
    neighbour.created(&[]).started();
    let bundle = Bundle::script("true");
    let seen = bundle.path().join("seen");
    let script = format!("readlink /proc/self/ns/pid > {}", seen.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    let life = Life::new(bundle.with(|config| {
        among_others(&neighbour, config);
        config["hooks"] = json!({"createContainer": hook});
    }));
    life.run(life.making("run", &[])).ok();
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap().trim_end(), own.to_string_lossy());
}

#[test]
fn a_new_user_namespace_in_a_joined_pid_namespace_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    let neighbour = Life::idle();
    neighbour.created(&[]).started();
    let life = Life::new(Bundle::script("true").with(|config| {
        among_others(&neighbour, config);
        rspawn_tests::bundle::in_user_namespace(config);
    }));
    let error = life.run(life.making("run", &[])).refused();
    assert!(error.contains("a new user namespace in a pid namespace that others are in"), "{error}");
}
