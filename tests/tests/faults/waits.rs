//! Every wait for another stage, or for a file system, ends: with the other side's death, with a second SIGINT or
//! SIGTERM, or with a limit that the error names.
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::life::{Life, error};
use rspawn_tests::{
    Bundle, Output, Scratch, cannot_make_containers, cgroups_named, program, skip_unless, status_field, wait_for,
};

/// rspawn-setup has fifteen seconds to clear away; what is longer than this has no limit.
const MOST: Duration = Duration::from_secs(25);

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|errno| panic!("{signal} to {pid}: {errno}"));
}

fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// The process at or below another that has been stopped.
fn stopped_one(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_stopped = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
    if is_stopped { Some(pid) } else { children(pid).into_iter().find_map(stopped_one) }
}

/// Stops a process of a command at one of its calls; asks the command for its end, twice, and tells how it ended. What
/// was stopped goes on afterwards.
fn stopped_at(life: &Life, inner: &Command, site: &str) -> Output {
    let words: Vec<&str> = site.split(' ').collect();
    let mut command = Command::new(program("faults"));
    command.arg("--trace").arg("/dev/null").args(&words).args(["stop", "--"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let (tracer, paths) = life.spawn(&mut command);
    let mut found = None;
    wait_for(&format!("{site} is stopped"), || {
        let root = children(tracer.id() as i32).first().copied();
        found = root.and_then(|root| stopped_one(root).map(|stopped| (root, stopped)));
        found.is_some()
    });
    let (root, stopped) = found.expect("both");
    // It has taken what it takes meanwhile, signals among it.
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    let end = if root == stopped { Signal::SIGKILL } else { Signal::SIGTERM };
    signal(root, end);
    thread::sleep(Duration::from_millis(300));
    // The first was enough where there is nobody whom it could be passed on to.
    let _ = kill(Pid::from_raw(root), Signal::SIGTERM);
    let output = life.outcome(tracer, &paths);
    assert!(began.elapsed() < MOST, "{site}: {:?}; {output:?}", began.elapsed());
    let _ = kill(Pid::from_raw(stopped), Signal::SIGCONT);
    output
}

#[test]
fn a_stopped_stage_keeps_nobody() {
    if cannot_make_containers() {
        return;
    }
    const LIMIT: &str = "does not end within 15 s: what it made stays";
    const SECOND: &str = "interrupted by a second signal while rspawn-setup was at work";
    // The words of the error; without any, the signal is what ends it.
    let cases = [
        ("run", "0.0 recvmsg 1", &["interrupted before rspawn-setup had answered", LIMIT][..]),
        ("run", "0.0 mkdirat 1", &[SECOND, LIMIT]),
        ("run", "0.0.0 setsid 1", &[SECOND]),
        ("run", "0.0.0.0 setresuid 1", &[SECOND]),
        ("run", "0.0.2 move_mount 3", &[SECOND]),
        ("run", "0 landlock_restrict_self 1", &[]),
        ("create", "0.0 mkdirat 1", &[]),
        ("create", "0.0.0 setsid 1", &[]),
        ("create", "0 landlock_restrict_self 1", &[]),
        ("exec", "0.0 recvmsg 1", &["interrupted before rspawn-setup had answered", LIMIT]),
        ("exec", "0.0.0.0 setresuid 1", &[SECOND]),
    ];
    thread::scope(|scope| {
        for (verb, site, words) in cases {
            scope.spawn(move || {
                let life = Life::idle();
                let command = match verb {
                    "exec" => {
                        life.created(&[]).started();
                        life.exec_command(&[], &["true"])
                    }
                    verb => life.making(verb, &[]),
                };
                let output = stopped_at(&life, &command, site);
                assert_ne!(output.status, 0, "{verb}, {site}: {output:?}");
                let says = words.iter().all(|word| output.stderr.contains(word));
                assert!(says && words.is_empty() == output.stderr.is_empty(), "{verb}, {site}: {output:?}");
                life.delete(&["--force"]).ok();
                life.assert_gone();
            });
        }
    });
}

/// A container's first process is stopped: at the gate, and as it runs.
#[test]
fn a_stopped_container_keeps_nobody() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::idle();
    life.created(&[]);
    let first = life.pid();
    signal(first, Signal::SIGSTOP);
    let (start, paths) = life.spawn(&mut life.on_it("start", &[]));
    thread::sleep(Duration::from_millis(300));
    signal(start.id() as i32, Signal::SIGTERM);
    assert_eq!(life.outcome(start, &paths).status, 128 + 15);
    assert_eq!(life.status(), "created");
    life.delete(&["--force"]).ok();
    life.assert_gone();
    life.created(&[]).started();
    signal(life.pid(), Signal::SIGSTOP);
    assert_eq!(life.status(), "running");
    life.delete(&["--force"]).ok();
    life.assert_gone();
}

/// A file system in this thread's mount namespace of which every question waits for an answer that never comes, until
/// this is dropped.
struct Mute {
    line: Option<File>,
    place: Scratch,
}

impl Mute {
    /// Or why there is none.
    fn mount() -> Result<Self, String> {
        let line = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let line = line.map_err(|error| format!("/dev/fuse: {error}"))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare: {errno}"))?;
        let mount = |kind: Option<&str>, path: &Path, flags, options: Option<&str>| {
            mount(kind, path, kind, flags, options).map_err(|errno| format!("mount {}: {errno}", path.display()))
        };
        mount(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
        let place = Scratch::new();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", line.as_raw_fd());
        mount(Some("fuse"), &place.path, MsFlags::empty(), Some(&options))?;
        Ok(Self { line: Some(line), place })
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // Whoever waits gets an error now.
        self.line = None;
        umount2(&self.place.path, MntFlags::MNT_DETACH).expect("unmounted");
    }
}

/// Sends SIGTERM to a command that waits, twice if need be, and tells how it ended.
fn interrupted(life: &Life, mut command: Command) -> Output {
    let (child, paths) = life.spawn(&mut command);
    let (pid, began) = (child.id() as i32, Instant::now());
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(500));
        // It is there as long as it was not waited for, dead or not.
        signal(pid, Signal::SIGTERM);
    }
    let output = life.outcome(child, &paths);
    assert!(began.elapsed() < MOST, "{command:?}: {:?}; {output:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_millis(500), "{command:?} has not waited: {output:?}");
    output
}

#[test]
fn a_file_system_that_does_not_answer_keeps_nobody() {
    if cannot_make_containers() {
        return;
    }
    let mute = match Mute::mount() {
        Ok(mute) => mute,
        Err(reason) => {
            skip_unless(false, &reason);
            return;
        }
    };
    let source = mute.place.path.join("data");
    let source = source.to_str().expect("UTF-8");
    let [life, other] =
        ["create", "run"].map(|_| Life::new(Bundle::script("true").with_mount("/data", "none", source, &["bind"])));
    let of = |words: &[&str], path: &Path| {
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(path).args(words);
        command
    };
    // The caller's own waits: one signal ends them.
    let elsewhere = mute.place.path.join("state");
    let bundle = life.bundle.path().to_str().expect("UTF-8");
    for words in [
        &["run", "--bundle", bundle, "mute"][..],
        &["create", "--bundle", bundle, "mute"],
        &["start", "mute"],
        &["exec", "mute", "true"],
        &["state", "mute"],
        &["list"],
        &["kill", "mute"],
        &["delete", "--force", "mute"],
    ] {
        assert_eq!(interrupted(&life, of(words, &elsewhere)).status, 128 + 15, "{words:?}");
    }
    for verb in ["run", "create"] {
        let mut command = life.command(&[verb, "--bundle"]);
        command.arg(&mute.place.path).arg(life.id());
        assert_eq!(interrupted(&life, command).status, 128 + 15, "{verb}");
    }
    // rspawn-setup's: nobody waits for it longer than the error says.
    assert_eq!(interrupted(&life, life.making("create", &[])).status, 128 + 15);
    let output = interrupted(&other, other.making("run", &[]));
    let is_said = output.stderr.contains("interrupted by a second signal while rspawn-setup was at work")
        && output.stderr.contains("does not end within 15 s: what it made stays");
    assert!(output.status == 1 && is_said, "{output:?}");
    // It gets an answer.
    drop(mute);
    for life in [&life, &other] {
        life.delete(&["--force"]).ok();
        life.assert_gone();
    }
}

/// Its note says that the payload is next, and the payload never was.
#[test]
fn a_payload_that_is_killed_before_its_exec_fails_the_start() {
    if cannot_make_containers() || skip_unless(Path::new("/usr/bin/strace").exists(), "strace is not installed") {
        return;
    }
    // So that nobody takes note of the container's end before `start` does.
    nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
    for signal in ["SIGKILL", "SIGTERM"] {
        let life = Life::script("touch /ran");
        life.created(&[]);
        let first = life.pid();
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "trace=execve", "-p", &first.to_string()]);
        strace.args(["-e", &format!("inject=execve:error=EINTR:signal={signal}")]);
        let (strace, paths) = life.spawn(&mut strace);
        wait_for("strace is there", || {
            let status = fs::read_to_string(format!("/proc/{first}/status")).expect("a status");
            status_field(&status, "TracerPid") != Some("0")
        });
        let text = error(life.start());
        life.outcome(strace, &paths);
        assert!(text.contains("was killed before it executed the payload"), "{signal}: {text}");
        assert!(!life.bundle.rootfs().join("ran").exists());
        assert_eq!(life.status(), "stopped");
        life.delete(&[]).ok();
        life.assert_gone();
    }
    // One that ends at once has begun.
    for script in ["touch /ran", "touch /ran; kill -9 $$", "touch /ran; exit 3"] {
        let life = Life::script(script);
        life.created(&[]).started();
        life.wait_for_status("stopped");
        assert!(life.bundle.rootfs().join("ran").exists());
    }
}

/// A container whose cgroups nobody would remove does not start. The process that removes them removes them too where it
/// cannot wait, before it says so.
#[test]
fn a_keeper_that_fails_leaves_no_cgroups() {
    if cannot_make_containers() {
        return;
    }
    for (site, errno, starts) in [
        ("rt_sigprocmask 1", libc::EPERM, false),
        ("close_range 1", libc::EPERM, false),
        ("sendmsg 1", libc::EPERM, false),
        // As where rspawn-setup has failed and ended before.
        ("sendmsg 1", libc::EPIPE, false),
        ("recvmsg 1", libc::EPERM, true),
    ] {
        let life = Life::script("echo ran");
        let inner = life.making("run", &[]);
        let mut command = Command::new(program("faults"));
        command.args(["--trace", "/dev/null", "0.0.1"]).args(site.split(' ')).arg(errno.to_string()).arg("--");
        command.arg(inner.get_program()).args(inner.get_args());
        let output = life.run(command);
        let told = if starts { "was to remove the container's cgroups" } else { "cgroups did not start" };
        // The end of its cgroups is the container's: before the payload begins, whoever notices first says so; or after.
        let failed = output.status == 1 && output.stdout.is_empty() && output.stderr.starts_with("rspawn: ");
        let removes_early = starts || errno == libc::EPIPE;
        assert!(output.stderr.contains(told) || (removes_early && failed), "{site}: {output:?}");
        assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), life.id()), [] as [PathBuf; 0], "{site}");
        if starts && life.state_directory().exists() {
            life.delete(&["--force"]).ok();
        } else {
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{site}: {output:?}");
        }
        life.assert_gone();
    }
}

/// What PID 1 cannot give up, it says before the payload or anything else goes on: always in the same words.
#[test]
fn the_payload_never_begins_under_an_init_that_is_not_confined() {
    if cannot_make_containers() {
        return;
    }
    let life = Life::script("touch /ran");
    for _ in 0..20 {
        let inner = life.making("run", &[]);
        let mut command = Command::new(program("faults"));
        command.args(["--trace", "/dev/null", "0.0.0", "seccomp", "1", &libc::ENOMEM.to_string(), "--"]);
        command.arg(inner.get_program()).args(inner.get_args());
        let text = error(life.run(command));
        assert!(text.contains("beside init: give up its rights: ENOMEM"), "{text}");
        assert!(!life.bundle.rootfs().join("ran").exists(), "the payload has begun");
    }
    life.assert_gone();
}
