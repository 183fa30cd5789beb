//! Updates of rspawn under containers that live: those of the version that was released last go on in every respect,
//! those of one that this cannot read are named, and ended by `delete --force`.
//!
//! The containers are this build's, with records as that version wrote them (`updates/format_1007.rs`).
//! `RSPAWN_LAST=DIR cargo test --test updates` has them made by the programs in a directory instead.
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_proto::record::RECORD_VERSION;
use rspawn_tests::life::{Life, error};
use rspawn_tests::sources::workspace;
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program, skip_unless, wait_for};
use serde_json::{Value, json};

#[path = "updates/format_1007.rs"]
mod format_1007;

use format_1007::{Cgroup, Hook, Init, PathRule, Record, encode};

/// Whether the programs that make containers are another version's.
fn last() -> Option<PathBuf> {
    std::env::var_os("RSPAWN_LAST").map(PathBuf::from)
}

/// Creates the container as the last version did.
fn create(life: &Life, options: &[&str]) {
    match last() {
        Some(directory) => {
            let mut command = Command::new(directory.join("rspawn"));
            command.args(life.making("create", options).get_args());
            assert_eq!(life.run(command).ok(), "");
        }
        None => {
            assert_eq!(life.create(options).ok(), "");
            let path = life.state_directory().join("record");
            fs::write(path, encode(&Record::from(&life.record()))).unwrap();
        }
    }
}

fn verb(life: &Life, verb: &str, options: &[&str]) -> Output {
    life.run(life.on_it(verb, options))
}

#[test]
fn containers_of_the_last_version_live_on() {
    if cannot_make_containers() {
        return;
    }
    let script = "trap 'echo term > /got; exit 5' TERM; while :; do sleep 0.05; done";
    let bundle = Bundle::script(script);
    let told = bundle.rootfs().join("poststop").to_string_lossy().into_owned();
    let life = Life::new(bundle.with(|config| {
        let args = ["sh", "-c", "cat > $0", &told];
        config["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": args}]});
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
    }));
    create(&life, &[]);
    assert_eq!(life.status(), "created");
    life.started();
    assert_eq!(life.status(), "running");
    let listed: Value = serde_json::from_str(&life.run(life.command(&["list", "--format", "json"])).ok()).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!(life.id()), &json!("running")));
    assert!(verb(&life, "ps", &[]).ok().contains("sleep"));
    assert_eq!(life.exec(&[], &["sh", "-c", "echo inside; exit 0"]).ok(), "inside\n");
    assert_eq!(life.exec(&[], &["sh", "-c", "exit 9"]).status, 9);
    verb(&life, "pause", &[]).ok();
    assert_eq!(life.status(), "paused");
    verb(&life, "resume", &[]).ok();
    assert_eq!(life.status(), "running");
    let updated = verb(&life, "update", &["--pids-limit=77"]);
    let reason = format!("there is no controller of pids: {}", updated.stderr);
    if !skip_unless(updated.status == 0 || !updated.stderr.contains("controller"), &reason) {
        updated.ok();
        let cgroups = life.record().cgroups;
        let files = cgroups.iter().map(|cgroup| Path::new(cgroup.path.as_str()).join("pids.max"));
        let limits: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
        assert_eq!(limits, ["77\n"]);
    }
    let events = life.run(life.on_it("events", &["--stats"])).ok();
    assert!(events.contains(life.id()), "{events}");
    life.kill("TERM").ok();
    life.wait_for_status("stopped");
    assert_eq!(life.file("got"), "term\n");
    assert_eq!(life.delete(&[]).ok(), "");
    life.assert_gone();
    let told: Value = serde_json::from_str(&life.file("poststop")).expect("its hook has run, and was told the state");
    assert_eq!((&told["id"], &told["status"]), (&json!(life.id()), &json!("stopped")));

    // One that was only created, and one that is deleted alive.
    create(&life, &[]);
    life.delete(&[]).ok();
    life.assert_gone();
    create(&life, &[]);
    life.started().delete(&["--force"]).ok();
    life.assert_gone();
}

/// A state root with what version 0x52531007 left in it, byte by byte.
fn released() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let root = scratch.path.join("root");
    let source = workspace().join("tests/tests/cli/updates/0x52531007");
    for name in ["web", "plain"] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(name)).unwrap();
        for entry in fs::read_dir(source.join(name)).unwrap().flatten() {
            let copy = root.join(name).join(entry.file_name());
            fs::copy(entry.path(), &copy).unwrap();
            fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    (scratch, root)
}

fn on(root: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program("rspawn"));
    command.arg("--root").arg(root).args(words);
    finish(command, b"")
}

const BOOT: &str = "00000000-1111-2222-3333-444444444444";

/// What the fixture `web` says, in the words of its own version: as much as a record can say.
fn web() -> Record {
    let cgroup = |hierarchy: &str| Cgroup {
        hierarchy: hierarchy.into(),
        path: format!("/sys/fs/cgroup/{hierarchy}/rspawn-released/web"),
        shared: false,
    };
    let hook = |origin: &str| Hook {
        origin: origin.into(),
        path: "/bin/true".into(),
        argv: vec!["true".into(), "an argument".into()],
        env: Some(vec!["A=b".into()]),
        timeout: 7,
        outputs: [Some("/dev/null".into()), None],
    };
    Record {
        version: format_1007::VERSION,
        id: "web".into(),
        bundle: "/srv/bundles/web".into(),
        created: 1_700_000_000_123_456_789,
        owner: 0,
        pid: 4242,
        start_time: 987_654_321,
        boot: BOOT.into(),
        foreground: false,
        init: Init::Exec,
        new_keyring: true,
        namespaces: 0b0111_1110,
        cgroups: vec![cgroup("memory"), cgroup("cpu,cpuacct")],
        unit: Some("rspawn-web.scope".into()),
        poststart: vec![hook("/hooks/poststart/0")],
        poststop: vec![hook("/hooks/poststop/0")],
        state_head: "{\"ociVersion\":\"1.2.0\",\"id\":\"web\",\"status\":".into(),
        state_tail: ",\"bundle\":\"/srv/bundles/web\"}".into(),
        allowed_hooks: Some(vec![PathRule { path: "/bin".into(), below: true, read_only: false }]),
    }
}

/// As little as a record can say.
fn plain() -> Record {
    Record {
        version: format_1007::VERSION,
        id: "plain".into(),
        bundle: "/b".into(),
        created: 1,
        owner: 0,
        pid: 1,
        start_time: 0,
        boot: BOOT.into(),
        foreground: true,
        init: Init::Supervise,
        new_keyring: false,
        namespaces: 0,
        cgroups: Vec::new(),
        unit: None,
        poststart: Vec::new(),
        poststop: Vec::new(),
        state_head: String::new(),
        state_tail: String::new(),
        allowed_hooks: None,
    }
}

/// The bytes are what that version wrote, and this one understands all of them.
#[test]
fn records_of_the_released_format_are_read() {
    let (_scratch, root) = released();
    for record in [web(), plain()] {
        let bytes = fs::read(root.join(&record.id).join("record")).unwrap();
        assert_eq!(encode(&record), bytes, "tests/tests/cli/updates/0x52531007/{}/record", record.id);
        let present: rspawn_proto::record::Record = rspawn_proto::codec::decode_plan(&bytes).unwrap();
        assert_eq!(Record::from(&present), record);
    }
    let noted = fs::read(root.join("web/cgroups")).unwrap();
    assert_eq!(encode(&web().cgroups), noted);
    let present: Vec<rspawn_proto::record::CgroupDir> = rspawn_proto::codec::decode_message(&noted).unwrap();
    assert_eq!(present.iter().map(Cgroup::from).collect::<Vec<_>>(), web().cgroups);
}

#[test]
fn states_of_the_released_format_are_shown_and_deleted() {
    if cannot_make_containers() {
        return;
    }
    let (scratch, root) = released();
    let listed: Value = serde_json::from_str(&on(&root, &["list", "--format", "json"]).ok()).unwrap();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["plain", "web"]);
    let state: Value = serde_json::from_str(&on(&root, &["state", "web"]).ok()).unwrap();
    let expected = json!({
        "ociVersion": state["ociVersion"],
        "id": "web",
        "pid": 0,
        "status": "stopped",
        "bundle": "/srv/bundles/web",
        "rootfs": "/srv/bundles/web/rootfs",
        "created": "2023-11-14T22:13:20.123456789Z",
        "owner": "",
        "annotations": {"org.example.released": "0.1"},
    });
    assert_eq!(state, expected, "the machine was started again since");
    for (words, told) in [(&["kill", "web", "TERM"][..], "not running"), (&["exec", "web", "true"], "stopped")] {
        let output = on(&root, words);
        assert!(output.status != 0 && output.stderr.contains(told), "{words:?}: {output:?}");
    }
    on(&root, &["delete", "web"]).ok();
    on(&root, &["delete", "plain"]).ok();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    drop(scratch);
}

/// Whoever changes the record adds the format that was released to this file, and reads both.
#[test]
fn the_present_format_has_fixtures() {
    let place = workspace().join(format!("tests/tests/cli/updates/{RECORD_VERSION:#x}"));
    assert!(place.join("web/record").is_file(), "{} is missing: see README.md, \"Updates\"", place.display());
}

/// Makes a container's record one of the next version, of which this one knows the head alone.
fn make_newer(life: &Life, change: impl FnOnce(&mut Record)) {
    let mut record = Record::from(&life.record());
    record.version += 1;
    change(&mut record);
    let mut bytes = encode(&record);
    // Of another shape than any that this version knows.
    bytes.truncate(bytes.len() - 1);
    bytes.extend([0xff; 40]);
    fs::write(life.state_directory().join("record"), bytes).unwrap();
}

/// Every command says what is to be done.
#[track_caller]
fn expect_refusals(life: &Life) {
    for words in [["state"].as_slice(), &["start"], &["kill"], &["pause"], &["update", "--pids-limit=9"], &["delete"]] {
        let mut command = life.command(words);
        command.arg(life.id());
        let message = error(life.run(command));
        let told = [
            "is another version's (0x52531008; this rspawn reads 0x52531007)",
            "use the rspawn that made it",
            &format!("`rspawn delete --force {}`", life.id()),
        ];
        assert!(told.iter().all(|words| message.contains(words)), "{words:?}: {message}");
    }
    let listed = life.run(life.command(&["list"]));
    assert_eq!(listed.status, 0, "{listed:?}");
    assert!(listed.stderr.contains("is another version's") && !listed.stdout.contains(life.id()), "{listed:?}");
}

fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_living_container_of_an_unknown_version_is_ended_by_force() {
    if cannot_make_containers() {
        return;
    }
    let without_cgroups = ["--cgroup-manager=disabled"];
    for global in [&[][..], &without_cgroups] {
        let life = Life::idle();
        let mut create = life.command(global);
        create.args(["create", "--bundle"]).arg(life.bundle.path()).arg(life.id());
        assert_eq!(life.run(create).ok(), "");
        life.started();
        let pid = life.pid();
        make_newer(&life, |_| {});
        expect_refusals(&life);
        assert!(lives(pid), "nothing has happened to it");
        let deleted = life.delete(&["--force"]);
        assert_eq!((deleted.status, deleted.stderr.as_str()), (0, ""));
        wait_for("its process is gone", || !lives(pid));
        life.assert_gone();
    }
}

/// A `start` of the other version that waits for a hook in the container has the lock, until the container has ended.
#[test]
fn a_command_that_waits_for_the_container_keeps_nobody_from_ending_it() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let pid = life.pid();
    make_newer(&life, |_| {});
    let directory = fs::File::open(life.state_directory()).unwrap();
    directory.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the first process ends", || !lives(pid));
            directory.unlock().unwrap();
        });
        life.delete(&["--force"]).ok();
    });
    life.assert_gone();
}

#[test]
fn a_dead_container_of_an_unknown_version_is_removed_by_force() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started().stop();
    make_newer(&life, |_| {});
    expect_refusals(&life);
    let deleted = life.delete(&["--force"]);
    assert_eq!((deleted.status, deleted.stderr.as_str()), (0, ""));
    life.assert_gone();
}

/// A process is the container's by its number, its start and the machine's, and by the container's name: whoever has
/// less in common with the head lives on.
#[test]
fn nobody_else_is_killed_for_an_unknown_record() {
    if cannot_make_containers() {
        return;
    }
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let number = bystander.id() as i32;
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
    let start = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
    type Change<'a> = &'a dyn Fn(&mut Record);
    let spoil: [(&str, Change); 4] = [
        ("another start", &|record| (record.pid, record.start_time) = (number, start + 1)),
        ("another boot", &|record| {
            (record.pid, record.start_time, record.boot) = (number, start, BOOT.into());
        }),
        ("another container's", &|record| (record.pid, record.start_time, record.id) = (number, start, "x".into())),
        ("another program's", &|record| {
            (record.pid, record.start_time, record.version) = (number, start, 0x1234_1008);
        }),
    ];
    for (what, change) in spoil {
        let life = Life::idle();
        life.created(&[]).started().stop();
        make_newer(&life, change);
        life.delete(&["--force"]).ok();
        assert_eq!(bystander.try_wait().unwrap(), None, "{what}");
        life.assert_gone();
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Without a head and without a cgroup nothing proves whose a process is: it is left alone, and that is said.
#[test]
fn what_cannot_be_proven_is_said() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let mut create = life.command(&["--cgroup-manager=disabled", "create", "--bundle"]);
    create.arg(life.bundle.path()).arg(life.id());
    assert_eq!(life.run(create).ok(), "");
    life.started();
    let pid = life.pid();
    fs::write(life.state_directory().join("record"), "").unwrap();
    let deleted = life.delete(&["--force"]);
    assert_eq!(deleted.status, 0, "{deleted:?}");
    assert!(deleted.stderr.contains("if it lives, it lives on"), "{deleted:?}");
    assert!(lives(pid) && !life.state_directory().exists());
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    life.assert_gone();
}
