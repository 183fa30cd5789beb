//! What is wrong with the state, or with those who drive it: a clear error, and `delete --force` cleans up.
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rspawn_proto::ids::Text;
use rspawn_tests::hostile::{Canaries, Numbers};
use rspawn_tests::life::{Life, error};
use rspawn_tests::{
    Bundle, Output, Scratch, cannot_make_containers, finish, leftovers, program, skip_unless, wait_for,
};
use serde_json::json;

/// Every command that takes an id, on this container.
fn all_commands(life: &Life) -> Vec<(String, Output)> {
    let mut outputs: Vec<_> =
        ["state", "start", "kill", "delete"].map(|verb| (verb.to_string(), life.run(life.on_it(verb, &[])))).into();
    outputs.push(("exec".into(), life.exec(&[], &["true"])));
    outputs.push(("create".into(), life.create(&[])));
    outputs.push(("run".into(), life.run(life.making("run", &["--detach"]))));
    outputs
}

#[test]
fn a_state_root_that_others_rule_is_refused() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let refused = |text: &str| {
        for (verb, output) in all_commands(&life) {
            let message = error(output);
            assert!(message.contains("the state directory") && message.contains(text), "{verb}: {message}");
        }
        for words in [["list"].as_slice(), &["delete", "--force", "x"]] {
            assert!(error(life.run(life.command(words))).contains(text), "{words:?}");
        }
    };
    fs::create_dir(&life.root).unwrap();
    chown(&life.root, Some(12345), None).unwrap();
    refused("belongs to another user");
    chown(&life.root, Some(0), None).unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&life.root, fs::Permissions::from_mode(mode)).unwrap();
        refused("can be written to by others");
    }
    fs::remove_dir(&life.root).unwrap();
    fs::write(&life.root, "a file").unwrap();
    for (verb, output) in all_commands(&life) {
        let message = error(output);
        assert!(message.contains("cannot use the state directory"), "{verb}: {message}");
    }
    fs::remove_file(&life.root).unwrap();
    let mut slash = Command::new(program("rspawn"));
    slash.args(["--root", "/", "list"]);
    assert!(error(finish(slash, b"")).contains("cannot be the state directory"));
    // It is made with nobody else's rights.
    life.created(&[]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&life.root), mode(&life.state_directory())), (0o700, 0o700));
    for entry in fs::read_dir(life.state_directory()).unwrap().flatten() {
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_state_directory_that_is_not_ours_is_refused_and_cleared_by_force() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    fs::create_dir_all(&life.root).unwrap();
    let directory = life.state_directory();
    let outside = Scratch::new();
    let canaries = Canaries::lay_out(&outside.path);
    let refused = |what: &str| {
        for (verb, output) in all_commands(&life) {
            let message = error(output);
            assert!(message.contains("cannot open the state"), "{what} {verb}: {message}");
        }
        life.delete(&["--force"]).ok();
        assert!(fs::symlink_metadata(&directory).is_err(), "{what} is left");
        canaries.assert_untouched();
    };
    symlink(&outside.path, &directory).unwrap();
    refused("a link");
    symlink("/nowhere", &directory).unwrap();
    refused("a dangling link");
    fs::write(&directory, "").unwrap();
    refused("a file");
    mkfifo(&directory, Mode::from_bits_truncate(0o600)).unwrap();
    refused("a pipe");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(12345), None).unwrap();
    refused("another user's directory");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(&outside.path, directory.join("record")).unwrap();
    refused("a directory that anyone can write to");
    life.created(&[]);
}

/// Records that no rspawn has written: 1,000 of them. No command may panic, hang, or touch a process for them.
#[test]
fn hostile_records_are_errors() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let honest = fs::read(life.state_directory().join("record")).unwrap();
    let pid = life.pid();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let path = life.state_directory().join("record");
    let mut numbers = Numbers(11);
    let verbs = ["state", "kill", "start", "exec", "list"];
    for round in 0..1000 {
        let mut bytes = honest.clone();
        match round % 5 {
            0 => bytes.truncate(numbers.below(honest.len())),
            1 => bytes = (0..numbers.below(2000)).map(|_| numbers.number() as u8).collect(),
            2 => bytes.extend((0..1 + numbers.below(20)).map(|_| numbers.number() as u8)),
            3 => (0..1 + numbers.below(8)).for_each(|_| {
                let at = numbers.below(bytes.len());
                bytes[at] = numbers.number() as u8;
            }),
            _ => {
                // A length prefix that claims everything.
                let at = numbers.below(bytes.len());
                bytes.splice(at..at, [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
            }
        }
        fs::write(&path, &bytes).unwrap();
        let verb = *numbers.pick(&verbs);
        let command = match verb {
            "list" => life.command(&["list"]),
            // A signal that does nothing to whoever gets it.
            "kill" => {
                let mut command = life.on_it("kill", &[]);
                command.arg("CONT");
                command
            }
            "exec" => life.exec_command(&[], &["true"]),
            verb => life.on_it(verb, &[]),
        };
        let output = finish(command, b"");
        let text = &output.stderr;
        assert!(matches!(output.status, 0 | 1 | 255), "{round} {verb}: {output:?}");
        assert!(!text.contains("panicked") && !text.contains("a bug"), "{round} {verb}: {text}");
    }
    fs::write(&path, &honest).unwrap();
    assert_eq!((life.status().as_str(), life.pid()), ("running", pid), "the container lived through it");
    assert_eq!(bystander.try_wait().unwrap(), None);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_damaged_record_is_named_and_cleared_by_force() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let path = life.state_directory().join("record");
    let damage = |write: &dyn Fn()| {
        life.created(&[]).started();
        let pid = life.pid();
        fs::remove_file(&path).unwrap();
        write();
        for (verb, output) in all_commands(&life) {
            let message = error(output);
            assert!(message.contains("the record of container"), "{verb}: {message}");
        }
        life.delete(&["--force"]).ok();
        assert!(!life.state_directory().exists());
        // Whose pid it was, nobody knows any more.
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        wait_for("its end", || leftovers(life.id()).is_empty());
    };
    damage(&|| fs::write(&path, "").unwrap());
    damage(&|| fs::write(&path, "{\"pid\": 1}").unwrap());
    damage(&|| fs::write(&path, vec![0u8; 5 << 20]).unwrap());
    damage(&|| symlink("/dev/zero", &path).unwrap());
    damage(&|| symlink("/etc/passwd", &path).unwrap());
    damage(&|| mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap());
    damage(&|| fs::create_dir(&path).unwrap());
    // Another container's, and another build's.
    let other = Life::idle();
    other.created(&[]);
    damage(&|| fs::write(&path, fs::read(other.state_directory().join("record")).unwrap()).unwrap());
    damage(&|| {
        let mut record = other.record();
        record.id = rspawn_proto::ids::ContainerId::new(life.id()).unwrap();
        record.version += 1;
        // Of another shape, too.
        let bytes = rspawn_proto::codec::encode(&record).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let message = error(life.run(life.on_it("state", &[])));
        assert!(message.contains("is another version's"), "{message}");
    });
}

/// A state root may outlive the machine's run. Its cgroups' names may be another container's by then, who is not killed.
#[test]
fn whoever_is_in_cgroups_of_an_earlier_boot_lives_on() {
    if cannot_make_containers() {
        return;
    }
    for (change, options) in [(0, &[][..]), (1, &["--force"])] {
        let life = Life::idle();
        life.created(&[]).started();
        let (pid, cgroups) = (life.pid(), life.record().cgroups);
        if skip_unless(!cgroups.is_empty(), "the container has no cgroup") {
            return;
        }
        life.change_record(|record| {
            record.boot = Text::new("00000000-1111-2222-3333-444444444444").unwrap();
            record.version += change;
        });
        let deleted = life.delete(options);
        assert_eq!((deleted.status, deleted.stderr.as_str()), (0, ""));
        assert!(!life.state_directory().exists());
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(!stat.contains(") Z "), "{stat}");
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        wait_for("the cgroups are empty", || {
            let gone = |path: &str| fs::remove_dir(path).is_ok() || !Path::new(path).exists();
            cgroups.iter().all(|cgroup| gone(cgroup.path.as_str()))
        });
        life.assert_gone();
    }
}

/// A directory without a record is a container that was never finished.
#[test]
fn half_made_containers_do_not_exist_and_are_in_nobodys_way() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let half = || {
        fs::create_dir_all(life.state_directory()).unwrap();
        fs::write(life.state_directory().join("config.json"), "{").unwrap();
        mkfifo(&life.state_directory().join("gate"), Mode::from_bits_truncate(0o600)).unwrap();
        fs::write(life.state_directory().join(".record.new"), "half").unwrap();
    };
    half();
    for verb in ["state", "start", "kill", "delete"] {
        assert_eq!(error(life.run(life.on_it(verb, &[]))), "container does not exist", "{verb}");
    }
    life.delete(&["--force"]).ok();
    life.assert_gone();
    half();
    life.created(&[]).started();
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

#[test]
fn a_configuration_copy_that_is_gone_or_odd() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let path = life.state_directory().join("config.json");
    let broken = |write: &dyn Fn()| {
        fs::remove_file(&path).unwrap();
        write();
        // The state is what the record says.
        assert_eq!(life.status(), "running");
        assert_eq!(life.state().unwrap()["rootfs"], "");
        error(life.exec(&[], &["true"]));
    };
    broken(&|| mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap());
    broken(&|| symlink(life.bundle.path().join("config.json"), &path).unwrap());
    broken(&|| fs::write(&path, "not JSON").unwrap());
    broken(&|| fs::write(&path, vec![b'['; 1 << 20]).unwrap());
    fs::remove_file(&path).unwrap();
    let text = error(life.exec(&[], &["true"]));
    assert!(text.contains("the configuration of container"), "{text}");
    life.stop();
    life.delete(&[]).ok();
    life.assert_gone();
}

/// A small file system of the test's own, in a mount namespace that only its commands see.
fn in_a_small_file_system(life: &Life, setup: &str, command: &Command) -> Output {
    let directory = life.bundle.path().join("small");
    fs::create_dir_all(&directory).unwrap();
    let mut unshare = Command::new("unshare");
    let script = format!("cd {} && {setup} && shift && exec \"$@\"", directory.display());
    unshare.args(["-m", "sh", "-c", &script, "sh", "-"]).arg(command.get_program()).args(command.get_args());
    life.run(unshare)
}

#[test]
fn a_pid_file_that_cannot_be_written() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let file = life.bundle.path().join("small/pid");
    let option = format!("--pid-file={}", file.display());
    let tmpfs = "mount -t tmpfs -o size=4k small . && cd .";
    let full = format!("{tmpfs} && cd \"$PWD\" && head -c 4096 /dev/zero > fill");
    let read_only = format!("{tmpfs} && cd \"$PWD\" && mount -o remount,ro .");
    for (setup, errno) in [(&full, "ENOSPC"), (&read_only, "EROFS")] {
        for verb in ["create", "run"] {
            let output = in_a_small_file_system(&life, setup, &life.making(verb, &[&option]));
            let text = error(output);
            assert!(text.contains("the pid file pid") && text.contains(errno), "{verb}: {text}");
            life.assert_gone();
        }
    }
    life.created(&[]).started();
    let mut exec = life.on_it("exec", &["--detach", &option]);
    exec.args(["sleep", "4321"]);
    let text = error(in_a_small_file_system(&life, &full, &exec));
    assert!(text.contains("the pid file pid") && text.contains("ENOSPC"), "{text}");
    wait_for("the process is gone", || !life.exec(&[], &["ps"]).ok().contains("sleep 4321"));
    life.delete(&["--force"]).ok();
    for path in ["/no/such/directory/pid", "/etc/hostname/pid", "/", ".."] {
        let text = error(life.create(&[&format!("--pid-file={path}")]));
        assert!(text.contains("--pid-file"), "{path}: {text}");
        life.assert_gone();
    }
    fs::create_dir(life.bundle.path().join("taken")).unwrap();
    let text = error(life.create(&[&format!("--pid-file={}", life.bundle.path().join("taken").display())]));
    assert!(text.contains("the pid file taken"), "{text}");
    life.assert_gone();
}

/// The state root itself is full, or cannot be written to.
#[test]
fn a_state_root_that_cannot_be_written() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let root = life.bundle.path().join("small");
    let tmpfs = "mount -t tmpfs -o size=16k,mode=700 small . && cd .";
    // Room for the directory alone, or for a little more: some step of making the state fails.
    for room in [0, 4096] {
        let setup = format!("{tmpfs} && cd \"$PWD\" && head -c {} /dev/zero > fill", (16 << 10) - room);
        let mut create = Command::new(program("rspawn"));
        create.arg("--root").arg(&root).args(["create", "--bundle"]).arg(life.bundle.path()).arg(life.id());
        let output = in_a_small_file_system(&life, &setup, &create);
        let text = error(output);
        assert!(["ENOSPC", "No space left"].iter().any(|reason| text.contains(reason)), "{room}: {text}");
        life.delete(&["--force"]).ok();
        for pid in rspawn_tests::container_processes(&life.bundle) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        wait_for("nothing is left", || leftovers(life.id()).is_empty());
    }
    let setup = format!("{tmpfs} && cd \"$PWD\" && mount -o remount,ro .");
    let mut create = Command::new(program("rspawn"));
    create.arg("--root").arg(&root).args(["create", "--bundle"]).arg(life.bundle.path()).arg(life.id());
    let text = error(in_a_small_file_system(&life, &setup, &create));
    assert!(text.contains("Read-only file system"), "{text}");
    life.assert_gone();
}

/// A client that is killed between `create` and `start`, or never comes back, leaves a container that can be deleted.
#[test]
fn a_client_that_dies_leaves_nothing_that_force_cannot_remove() {
    if cannot_make_containers() {
        return;
    }
    let mut life = Life::idle();
    life.bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    life.bundle.write_config();
    let mut numbers = Numbers(17);
    let (mut finished, mut cut) = (0, 0);
    for round in 0..100 {
        let (create, paths) = life.spawn(&mut life.making("create", &[]));
        std::thread::sleep(Duration::from_micros(numbers.below(40_000) as u64));
        let _ = kill(Pid::from_raw(create.id() as i32), Signal::SIGKILL);
        match life.outcome(create, &paths).status {
            0 => finished += 1,
            _ => cut += 1,
        }
        paths.iter().for_each(|path| drop(fs::remove_file(path)));
        // At once, as clients do: rspawn-setup may be at work still.
        let output = life.delete(&["--force"]);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "round {round}");
        life.assert_gone();
    }
    println!("{finished} were finished, {cut} were not");
    assert!(cut > 10, "{finished} {cut}");
    life.created(&[]).started();
}

/// The helper is killed as well, at any time: what it had begun ends with it, or can be deleted.
#[test]
fn a_helper_that_dies_leaves_nothing_that_force_cannot_remove() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    let mut numbers = Numbers(19);
    let mut killed = 0;
    // A fast machine is often done before.
    for round in 0..400 {
        if round >= 40 && killed > 10 {
            break;
        }
        for (verb, options) in [("create", [].as_slice()), ("run", &["--detach"])] {
            let (child, paths) = life.spawn(&mut life.making(verb, options));
            std::thread::sleep(Duration::from_micros(numbers.below(30_000) as u64));
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
            }
            let output = life.outcome(child, &paths);
            assert!(matches!(output.status, 0 | 1), "{output:?}");
            paths.iter().for_each(|path| drop(fs::remove_file(path)));
            let output = life.delete(&["--force"]);
            assert_eq!((output.status, output.stderr.as_str()), (0, ""), "round {round}");
            life.assert_gone();
        }
    }
    println!("{killed} helpers were killed");
    assert!(killed > 10, "{killed}");
}

#[test]
fn unusual_state_roots_work() {
    if cannot_make_containers() {
        return;
    }
    // Relative, deep, and through a link of the invoker's.
    let life = Life::idle();
    let deep = life.bundle.path().join("a").join("b c").join("ü".repeat(60));
    let link = life.bundle.path().join("link");
    fs::create_dir(life.bundle.path().join("real")).unwrap();
    symlink("real", &link).unwrap();
    for root in [deep.to_str().unwrap(), link.to_str().unwrap(), "relative"] {
        let rspawn = |words: &[&str]| {
            let mut command = Command::new(program("rspawn"));
            command.arg("--root").arg(root).args(words).current_dir(life.bundle.path());
            life.run(command)
        };
        rspawn(&["create", life.id()]).ok();
        rspawn(&["start", life.id()]).ok();
        assert_eq!(rspawn(&["exec", life.id(), "echo", "there"]).ok(), "there\n");
        rspawn(&["delete", "--force", life.id()]).ok();
        assert!(leftovers(life.id()).is_empty());
    }
    // Where nothing is said, it is the machine's.
    let is_empty = || fs::read_dir("/run/rspawn").is_ok_and(|mut entries| entries.next().is_none());
    if skip_unless(!fs::exists("/run/rspawn").unwrap() || is_empty(), "/run/rspawn is in use") {
        return;
    }
    let bundle = Bundle::script("true");
    bundle.write_config();
    let mut create = Command::new(program("rspawn"));
    create.args(["create", "--bundle"]).arg(bundle.path()).arg(&bundle.id).env("XDG_RUNTIME_DIR", "");
    life.run(create).ok();
    assert!(fs::exists(format!("/run/rspawn/{}/record", bundle.id)).unwrap());
    let mut delete = Command::new(program("rspawn"));
    delete.args(["delete", "--force", &bundle.id]);
    life.run(delete).ok();
    // Somebody else may use it by now.
    let _ = fs::remove_dir("/run/rspawn");
}
