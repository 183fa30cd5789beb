//! `--no-pivot`: for a machine whose root is the initial ramfs, which pivot_root(2) cannot leave.
use std::fs;
use std::process::Command;

use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, Output, cannot_make_containers, skip_unless, wait_for};
use serde_json::{Value, json};

const ON_RAMFS: &str = env!("CARGO_BIN_EXE_on_ramfs");

/// What a payload sees of the root, by every name that it has for one.
const LOOK: &str = "for root in / /proc/1/root /proc/self/root /.. /proc/1/cwd/../..; do echo $(ls $root); done; \
    readlink /proc/1/root; readlink /proc/self/root; cut -d' ' -f5 /proc/self/mountinfo | head -n 1; \
    grep -c -e /sys/fs/cgroup/unified -e ' /boot ' -e ' /host' /proc/self/mountinfo || true";

fn names(life: &Life) -> String {
    let mut names: Vec<String> =
        fs::read_dir(life.bundle.rootfs()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into()).collect();
    names.sort();
    names.join(" ")
}

#[track_caller]
fn assert_sees_its_own_root_alone(life: &Life, output: &str) {
    let own = names(life);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..5], [own.as_str(); 5], "{output}");
    assert_eq!(lines[5..], ["/", "/", "/", "0"], "{output}");
}

/// A container that is allowed to chroot(2), which is what undoes a chroot(2).
fn with_chroot(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_CHROOT"));
    }
}

#[test]
fn the_hosts_tree_is_out_of_reach() {
    if cannot_make_containers() {
        return;
    }
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::script(LOOK);
        let output = life.run(life.making("run", &["--no-pivot", init])).ok();
        assert_sees_its_own_root_alone(&life, &output);
        // The old way out of a chroot leads nowhere: the container's root lies on top of the host's.
        let life = Life::new(Bundle::payload(&["escape"]).with(with_chroot));
        fs::create_dir(life.bundle.rootfs().join("below")).unwrap();
        let output = life.run(life.making("run", &["--no-pivot", init])).ok();
        assert_eq!(output.trim_end(), names(&life), "{init}");
        life.assert_gone();
    }
}

#[test]
fn the_life_cycle_is_the_same() {
    if cannot_make_containers() {
        return;
    }
    let hook =
        |text: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin:/sbin"]}]);
    for init in ["--init=supervise", "--init=exec"] {
        let bundle = Bundle::script(&format!("({LOOK}) > /tmp/seen; cat /one/file > /tmp/mounted; exec sleep 1000"));
        let rootfs = bundle.rootfs();
        fs::create_dir(rootfs.join("one")).unwrap();
        let mount = format!("mount -t tmpfs one {0}/one && echo hook > {0}/one/file", rootfs.display());
        let life = Life::new(bundle.with(|config| {
            config["hooks"] = json!({
                "createContainer": hook(&mount),
                "startContainer": hook("ls / > /tmp/hook"),
            });
        }));
        life.created(&["--no-pivot", init]);
        life.started();
        // Not before: PID 1 lets nobody look while it waits with more rights than they have.
        let inside = life.exec(&[], &["sh", "-c", LOOK]).ok();
        assert_sees_its_own_root_alone(&life, &inside);
        wait_for("the payload looks", || life.file("tmp/mounted") == "hook\n");
        assert_sees_its_own_root_alone(&life, &life.file("tmp/seen"));
        assert_eq!(life.file("tmp/hook").split_whitespace().collect::<Vec<_>>().join(" "), names(&life));
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
    // With a console, in a user namespace, on a read-only root.
    let life = Life::new(Bundle::script(&format!("tty; {LOOK}")).with(|config| {
        config["process"]["terminal"] = json!(true);
        config["root"]["readonly"] = json!(true);
    }));
    let output = life.run(life.making("run", &["--no-pivot", "--console=read-only"])).ok().replace('\r', "");
    assert_sees_its_own_root_alone(&life, output.strip_prefix("/dev/pts/0\n").expect("a terminal"));
}

/// On the ramfs itself: with pivot_root(2) nothing goes, without it all does.
#[test]
fn a_root_on_the_initial_ramfs() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::new(Bundle::script(LOOK));
    let name = format!("host-{}", std::process::id());
    let there = |path: &std::path::Path| format!("/{name}{}", path.display());
    let run = |verb: &str, options: &[&str]| -> Output {
        let mut command = Command::new(ON_RAMFS);
        command.arg(&name).arg(there(&rspawn_tests::program("rspawn"))).arg("--root").arg(there(&life.root)).arg(verb);
        life.run({
            command.args(options);
            command
        })
    };
    let bundle = there(life.bundle.path());
    fs::create_dir_all(&life.root).unwrap();
    let probe = run("list", &[]);
    if skip_unless(probe.status != 77, "this machine's root does not lie on an initial ramfs") {
        return;
    }
    assert_eq!(probe.status, 0, "{probe:?}");
    let text = run("run", &["--bundle", &bundle, life.id()]).refused();
    assert!(text.contains("pivot_root: EINVAL"), "{text}");
    for init in ["--init=supervise", "--init=exec"] {
        let output = run("run", &["--no-pivot", init, "--bundle", &bundle, life.id()]);
        assert_eq!(output.status, 0, "{output:?}");
        assert_sees_its_own_root_alone(&life, &output.stdout);
    }
    life.assert_gone();
}
