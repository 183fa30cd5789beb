//! Standard streams of the caller's: what the payload can open again, and whose they stay.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, cannot_make_containers, wait_for};
use serde_json::json;

/// Opens each stream again by its name, as images do.
const REOPEN: &str = "cat /dev/stdin; echo out >> /dev/stdout; echo err >> /dev/stderr; echo last";

fn life_of(uid: u32, script: &str) -> Life {
    Life::new(Bundle::script(script).with(|config| {
        config["process"]["user"] = json!({"uid": uid, "gid": uid});
        config["process"]["capabilities"] = json!({});
    }))
}

/// What an owner can see changed of a file.
fn state(path: &Path) -> (u32, u32, u32) {
    let found = fs::metadata(path).expect("a file");
    (found.uid(), found.gid(), found.mode())
}

fn file(life: &Life, name: &str, text: &str) -> std::path::PathBuf {
    let path = life.bundle.path().join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

/// A file of root's that nobody else may open stays root's, and is read and written all the same.
#[test]
fn files_of_the_callers_stay_the_callers() {
    if cannot_make_containers() {
        return;
    }
    for uid in [0, 1000] {
        let life = life_of(uid, REOPEN);
        let [input, output, errors] = ["in", "out", "err"].map(|name| file(&life, name, "some text\n"));
        let before = [&input, &output, &errors].map(|path| state(path));
        let mut command = life.making("run", &[]);
        let open = |path| fs::OpenOptions::new().append(true).open(path).expect("a file");
        command.stdin(File::open(&input).expect("a file")).stdout(open(&output)).stderr(open(&errors));
        assert!(command.status().expect("rspawn").success(), "uid {uid}: {}", fs::read_to_string(&errors).unwrap());
        assert_eq!(fs::read_to_string(&output).unwrap(), "some text\nsome text\nout\nlast\n", "uid {uid}");
        assert_eq!(fs::read_to_string(&errors).unwrap(), "some text\nerr\n", "uid {uid}");
        assert_eq!([&input, &output, &errors].map(|path| state(path)), before, "uid {uid}");
    }
}

#[test]
fn a_process_in_a_container_leaves_them_alone_too() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]).started();
    let [input, output] = ["in", "out"].map(|name| file(&life, name, "some text\n"));
    let before = [&input, &output].map(|path| state(path));
    let mut command = life.command(&["exec", "--user", "1000", life.id(), "sh", "-c", REOPEN]);
    let written = fs::OpenOptions::new().append(true).open(&output).expect("a file");
    command.stdin(File::open(&input).expect("a file")).stdout(written).stderr(Stdio::null());
    assert!(command.status().expect("rspawn").success());
    assert_eq!(fs::read_to_string(&output).unwrap(), "some text\nsome text\nout\nlast\n");
    assert_eq!([&input, &output].map(|path| state(path)), before);
}

/// Pipes without a name are given to the payload's user, as with runc; what is behind them is not the caller's alone.
#[test]
fn pipes_can_be_opened_again() {
    if cannot_make_containers() {
        return;
    }
    let life = life_of(1000, REOPEN);
    let mut command = life.making("run", &[]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rspawn");
    child.stdin.take().expect("a pipe").write_all(b"typed\n").expect("a line");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\nout\nlast\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn a_named_pipe_stays_the_callers() {
    if cannot_make_containers() {
        return;
    }
    let life = life_of(1000, "echo out > /dev/stdout");
    let path = life.bundle.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    let before = state(&path);
    let held = fs::OpenOptions::new().read(true).write(true).open(&path).expect("a pipe");
    let mut command = life.making("run", &[]);
    command.stdin(Stdio::null()).stdout(held.try_clone().expect("a copy"));
    assert!(command.status().expect("rspawn").success());
    let mut text = [0; 4];
    (&held).read_exact(&mut text).expect("a line");
    assert_eq!((&text, state(&path)), (b"out\n", before));
}

/// The caller's terminal without one of the container's own.
#[test]
fn a_terminal_of_the_callers_stays_the_callers() {
    if cannot_make_containers() {
        return;
    }
    for uid in [0, 1000] {
        let life = life_of(uid, "read line; echo got $line; echo out > /dev/stdout; stat -L -c %u /proc/self/fd/1");
        let pty = openpty(None, None).expect("a terminal");
        let mut raw = tcgetattr(pty.slave.as_fd()).expect("settings");
        cfmakeraw(&mut raw);
        tcsetattr(pty.slave.as_fd(), SetArg::TCSANOW, &raw).expect("settings");
        let owner =
            |fd: &OwnedFd| nix::sys::stat::fstat(fd).map(|found| (found.st_uid, found.st_gid)).expect("a terminal");
        let before = owner(&pty.slave);
        let copy = || Stdio::from(pty.slave.try_clone().expect("a copy"));
        let mut command = life.making("run", &["--console=pipe"]);
        let mut child = command.stdin(copy()).stdout(copy()).stderr(Stdio::null()).spawn().expect("rspawn");
        let mut master = File::from(pty.master);
        master.write_all(b"typed\n").expect("a line");
        assert!(child.wait().expect("an end").success(), "uid {uid}");
        assert_eq!(owner(&pty.slave), before, "uid {uid}");
        let mut text = vec![0; 64];
        let mut length = master.read(&mut text).expect("output");
        while !text[..length].windows(4).any(|part| part == b"out\n") {
            length += master.read(&mut text[length..]).expect("output");
        }
        assert!(text.starts_with(b"got typed\nout\n"), "uid {uid}: {}", String::from_utf8_lossy(&text));
    }
}

/// The container's own null device, open for both, in the place of the caller's, which may have been opened for reading
/// alone (containerd's null I/O).
#[test]
fn a_null_device_is_the_containers() {
    if cannot_make_containers() {
        return;
    }
    let script = "for n in 0 1 2; do /bin/stat -L -c '%F %t:%T %d' /proc/$$/fd/$n | cat >> /seen; done; stat -c '%d' /dev/null >> /seen; \
        echo x && echo written >> /seen; exit 0";
    let host = fs::metadata("/dev/null").expect("a device").dev();
    for (verb, options) in [("run", &["--init=supervise"][..]), ("run", &["--init=exec"]), ("run", &["--detach"])] {
        let life = life_of(0, script);
        let mut command = life.making(verb, options);
        let null = || File::open("/dev/null").expect("a device");
        command.stdin(null()).stdout(null()).stderr(null());
        assert!(command.status().expect("rspawn").success());
        wait_for("the payload looks", || {
            fs::read_to_string(life.bundle.rootfs().join("seen")).is_ok_and(|text| text.ends_with("written\n"))
        });
        let seen = fs::read_to_string(life.bundle.rootfs().join("seen")).expect("what it saw");
        let lines: Vec<&str> = seen.lines().collect();
        let own = lines[3];
        assert_ne!(own, host.to_string(), "{options:?}");
        for line in &lines[..3] {
            assert_eq!(*line, format!("character special file 1:3 {own}"), "{options:?}: {seen}");
        }
    }
}

/// Where `/dev` is the host's, the streams are of neither.
#[test]
fn with_the_hosts_dev_a_null_device_is_rspawns() {
    if cannot_make_containers() {
        return;
    }
    let life =
        Life::new(Bundle::script("stat -L -c '%t:%T %d' /proc/self/fd/0; echo x >&0 && echo written").with(|config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
            mounts.push(json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}));
        }));
    let output = life.run(life.making("run", &[])).ok();
    let host = fs::metadata("/dev/null").expect("a device").dev();
    assert!(output.starts_with("1:3 ") && output.ends_with("\nwritten\n"), "{output}");
    assert!(!output.starts_with(&format!("1:3 {host}\n")), "{output}");
}

/// A payload that ends while what it wrote is on its way, or that reads nothing, or that has nobody who reads.
#[test]
fn what_was_written_arrives_and_nothing_waits() {
    if cannot_make_containers() {
        return;
    }
    let life = life_of(1000, "seq 1 40000; exit 3");
    let output = file(&life, "out", "");
    let mut command = life.making("run", &[]);
    let written = fs::OpenOptions::new().append(true).open(&output).expect("a file");
    command.stdin(File::open("/dev/zero").expect("a device")).stdout(written).stderr(Stdio::null());
    assert_eq!(command.status().expect("rspawn").code(), Some(3));
    let text = fs::read_to_string(&output).expect("output");
    assert!(text.ends_with("\n39999\n40000\n") && text.lines().count() == 40000, "{} lines", text.lines().count());
    let life = life_of(1000, "cat >/dev/null; echo end");
    let input = file(&life, "in", &"line\n".repeat(100_000));
    let output = Command::new("sh")
        .args(["-c", "\"$@\" < $0"])
        .arg(&input)
        .arg(life.making("run", &[]).get_program())
        .args(life.making("run", &[]).get_args())
        .output()
        .expect("rspawn");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "end\n");
}
