//! What a user must not gain by rspawn, and what others must not gain of the user's.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::user::{RANGE, User};
use rspawn_tests::{Bundle, Output, finish, program, status_field, wait_for};
use serde_json::json;

#[track_caller]
fn run(user: &User, bundle: &Bundle) -> Output {
    finish(bundle.command_of(user, bundle.command(&[])), b"")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A container that runs until it is dropped.
struct Running<'a> {
    child: Child,
    bundle: &'a Bundle,
}

impl<'a> Running<'a> {
    fn start(user: &User, bundle: &'a Bundle) -> Self {
        let mut command = bundle.command_of(user, bundle.command(&[]));
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let running = Self { child, bundle };
        wait_for("the payload", || bundle.rootfs().join("started").exists());
        running
    }

    fn parent(&self) -> i32 {
        self.child.id() as i32
    }

    /// rspawn-setup, the parent's only child by that name.
    fn setup(&self) -> i32 {
        let parent = self.parent();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let is_setup =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "rspawn-setup");
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_setup).expect("rspawn-setup")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.parent()), Signal::SIGKILL);
        let _ = self.child.wait();
        rspawn_tests::leftovers(&self.bundle.id);
    }
}

const STAY: &str = "touch /started; sleep 100";

fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

fn field(pid: i32, name: &str) -> String {
    status_field(&status(pid), name).unwrap_or_default().to_string()
}

fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

/// What rspawn-setup may do, it may do to ids that the user has anyway.
#[test]
fn rspawn_setup_has_no_right_outside_its_user_namespace() {
    for user in [User::by_number(), User::with_range()] {
        let Some(user) = user else { continue };
        let has_range = user.files.path.join("subuid").exists();
        let bundle = Bundle::script(STAY);
        let running = Running::start(&user, &bundle);
        let (setup, parent) = (running.setup(), running.parent());
        // Seen from the machine: the ids, the namespaces, the maps.
        let number = user.number;
        let four = [number; 4].map(|id| id.to_string()).join("\t");
        assert_eq!(
            (field(setup, "Uid"), field(setup, "Gid"), field(setup, "Groups")),
            (four.clone(), four.clone(), "".into())
        );
        let (setup_name, parent_name) = (setup.to_string(), parent.to_string());
        assert_ne!(namespace(&setup_name, "user"), namespace("self", "user"));
        assert_ne!(namespace(&setup_name, "mnt"), namespace("self", "mnt"));
        for file in ["uid_map", "gid_map"] {
            let text = fs::read_to_string(format!("/proc/{setup}/{file}")).unwrap();
            let numbers: Vec<u32> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
            let expected = if has_range { vec![0, number, 1, 1, RANGE.0, RANGE.1] } else { vec![0, number, 1] };
            assert_eq!(numbers, expected, "{file}");
        }
        // The kernel's rule: capabilities count for what belongs to the namespace of the process, or to one below.
        // CAP_KILL, over its own user namespace, as soon as it has nothing to do but to wait.
        wait_for("no capability but CAP_KILL", || field(setup, "CapEff") == "0000000000000020");
        assert_eq!((field(setup, "NoNewPrivs"), field(setup, "Seccomp")), ("1".into(), "2".into()));
        // The parent stays who the user is, without anything else.
        assert_eq!((field(parent, "Uid"), field(parent, "CapPrm")), (four, "0000000000000000".into()));
        assert_eq!((field(parent, "NoNewPrivs"), field(parent, "Seccomp")), ("1".into(), "2".into()));
        assert_eq!(namespace(&parent_name, "user"), namespace("self", "user"));
        // And so is every process of the container, to the machine.
        for pid in rspawn_tests::container_processes(&bundle) {
            assert!(field(pid, "Uid").split_whitespace().all(|id| id == number.to_string()), "{}", status(pid));
        }
    }
}

#[test]
fn setuid_programs_of_others_give_nothing() {
    let Some(user) = User::with_range() else { return };
    let script = "stat -c '%u %a' /bin/busybox.suid; /bin/busybox.suid id; grep -c '^Uid:.5.5.5.5' /proc/self/status";
    let bundle = Bundle::script(script).with(|config| {
        config["process"]["user"] = json!({"uid": 5, "gid": 5});
        config["process"]["noNewPrivileges"] = json!(false);
    });
    set_mode(bundle.path(), 0o755);
    let suid = bundle.rootfs().join("bin/busybox.suid");
    fs::copy(bundle.rootfs().join("bin/busybox"), &suid).unwrap();
    user.give(bundle.path());
    // The machine's root is nobody in the container.
    chown(&suid, Some(0), Some(0)).unwrap();
    set_mode(&suid, 0o6755);
    let mut command = bundle.command(&[]);
    command = user.run(command);
    assert_eq!(finish(command, b"").ok(), "65534 6755\nuid=5 gid=5\n1\n");
    // The user's own file makes the container's root of it, who is the user.
    let bundle = bundle.with_args(&["sh", "-c", "/bin/busybox.suid sh -c 'id -u; sleep 0.3'"]);
    bundle.write_config();
    chown(&suid, Some(user.number), Some(user.number)).unwrap();
    set_mode(&suid, 0o6755);
    let output = finish(user.run(bundle.command(&[])), b"").ok();
    assert!(output.trim() == "0" || output.trim() == "5", "{output}");
}

#[test]
fn files_of_unmapped_ids_stay_closed() {
    let Some(user) = User::with_range() else { return };
    let script = "cat /closed; echo $?; echo x >> /readable; echo $?; chown 0 /readable; echo $?; chmod 777 /readable; \
                  echo $?; rm /kept/file; echo $?; cat /readable; stat -c %u:%g /readable";
    let bundle = Bundle::script(&format!("({script}) 2>/dev/null"));
    user.give(bundle.path());
    let root = bundle.rootfs();
    for (name, mode) in [("closed", 0o600), ("readable", 0o644)] {
        fs::write(root.join(name), format!("{name}\n")).unwrap();
        set_mode(&root.join(name), mode);
    }
    fs::create_dir(root.join("kept")).unwrap();
    fs::write(root.join("kept/file"), "").unwrap();
    let output = finish(user.run(bundle.command(&[])), b"").ok();
    assert_eq!(output, "1\n1\n1\n1\n1\nreadable\n65534:65534\n");
    // Nor can a directory be reached from which the user is kept.
    let secret = bundle.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::create_dir(secret.join("below")).unwrap();
    set_mode(&secret, 0o700);
    let bundle = bundle.with_mount("/s", "bind", &secret.join("below").to_string_lossy(), &["rbind"]);
    let error = finish(user.run(bundle.command(&[])), b"").refused();
    assert!(error.contains("EACCES"), "{error}");
}

/// Who is kept from files by a group must not leave it.
#[test]
fn groups_cannot_be_left_without_a_range() {
    let Some(user) = User::by_number() else { return };
    let bundle = Bundle::script("grep Groups /proc/self/status");
    let mut command = Command::new("setpriv");
    let rspawn = bundle.command(&[]);
    user.give(bundle.path());
    let number = user.number.to_string();
    command.args(["--reuid", &number, "--regid", &number, "--groups", "33", "--inh-caps=-all", "--"]);
    command.arg(rspawn.get_program()).args(rspawn.get_args());
    assert_eq!(finish(command, b"").ok().trim(), "Groups:\t65534");
}

#[test]
fn a_runtime_directory_must_be_the_users_own() {
    let Some(user) = User::by_number() else { return };
    let place = user.files.path.join("places");
    fs::create_dir(&place).unwrap();
    let make = |name: &str, owner: u32, mode: u32| {
        let path = place.join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        set_mode(&path, mode);
        path
    };
    let fine = make("fine", user.number, 0o700);
    let group = make("group", user.number, 0o770);
    let all = make("all", user.number, 0o1777);
    let roots = make("roots", 0, 0o755);
    let others = make("others", user.number + 1, 0o777);
    symlink(&fine, place.join("link")).unwrap();
    let ask = |directory: &Path| {
        let mut command = Command::new(program("rspawn"));
        command.arg("list");
        let mut command = user.run(command);
        command.env("XDG_RUNTIME_DIR", directory);
        finish(command, b"")
    };
    ask(&fine).ok();
    for (directory, words) in [
        (group, "can be written to by others"),
        (all, "can be written to by others"),
        (roots, "belongs to another user"),
        (others, "belongs to another user"),
        (place.join("link"), "runtime directory"),
        (place.join("missing"), "No such file"),
    ] {
        let error = ask(&directory).refused();
        assert!(error.contains(words), "{}: {error}", directory.display());
    }
    // And the state directory in it as well, which is made by the first command that does more than look.
    let mut command = Command::new(program("rspawn"));
    command.args(["delete", "--force", "nobody"]);
    let mut command = user.run(command);
    command.env("XDG_RUNTIME_DIR", &fine);
    finish(command, b"").ok();
    let inner = fine.join("rspawn");
    assert_eq!(
        (fs::metadata(&inner).unwrap().mode() & 0o7777, fs::metadata(&inner).unwrap().uid()),
        (0o1700, user.number)
    );
    fs::remove_dir(&inner).unwrap();
    symlink(&place, &inner).unwrap();
    assert!(ask(&fine).refused().contains("state directory"));
    fs::remove_file(&inner).unwrap();
    fs::create_dir(&inner).unwrap();
    chown(&inner, Some(user.number + 1), None).unwrap();
    assert!(ask(&fine).refused().contains("belongs to another user"));
}

#[test]
fn containers_of_another_user_are_out_of_reach() {
    let (Some(one), Some(other)) = (User::by_number(), User::by_number()) else { return };
    let bundle = Bundle::script(STAY);
    let running = Running::start(&one, &bundle);
    let root = bundle.state_root();
    let root = root.to_string_lossy();
    for words in [
        &["state", &bundle.id][..],
        &["kill", &bundle.id, "KILL"],
        &["delete", "--force", &bundle.id],
        &["exec", &bundle.id, "id"],
        &["list"],
    ] {
        let words: Vec<&str> = ["--root", &root].iter().chain(words).copied().collect();
        let error = finish(other.rspawn(&words), b"").refused();
        assert!(error.contains("Permission denied") || error.contains("belongs to another user"), "{words:?}: {error}");
    }
    // The same name in the other's own place is another container.
    let error = finish(other.rspawn(&["state", &bundle.id]), b"").refused();
    assert!(error.contains("does not exist"), "{error}");
    assert_eq!(field(running.setup(), "State").chars().next(), Some('S'));
    // Not even the machine's root takes a user's word for what is in a state directory.
    let mut command = Command::new(program("rspawn"));
    command.args(["--root", &root, "kill", &bundle.id, "KILL"]);
    assert!(finish(command, b"").refused().contains("belongs to another user"));
    assert!(bundle.state_root().join(&bundle.id).exists());
}

#[test]
fn what_is_written_is_the_users_alone() {
    for user in [User::by_number(), User::with_range()] {
        let Some(user) = user else { continue };
        let bundle = Bundle::script("sleep 100");
        bundle.write_config();
        user.give(bundle.path());
        let directory = bundle.path().to_string_lossy().into_owned();
        let (pid_file, audit, log) =
            (format!("{directory}/pid"), format!("{directory}/audit"), format!("{directory}/log"));
        let id = bundle.id.as_str();
        let words = ["--log", &log, "create", "--bundle", &directory, "--pid-file", &pid_file, "--audit", &audit, id];
        let mut create = user.rspawn(&words);
        // Pipes of ours would be the container's: nothing would end them before it.
        assert!(create.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
        let root = user.runtime_directory().join("rspawn");
        let mode = |path: &Path| {
            let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!((found.uid(), found.gid()), (user.number, user.number), "{}", path.display());
            found.mode() & 0o7777
        };
        let state = root.join(id);
        assert_eq!((mode(&root), mode(&state)), (0o1700, 0o700));
        let mut names: Vec<String> = fs::read_dir(&state)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["config.json", "gate", "record", "report", "step"]);
        for name in names {
            assert_eq!(mode(&state.join(&name)), 0o600, "{name}");
        }
        for path in [&pid_file, &audit, &log] {
            assert_eq!(mode(Path::new(path)), 0o644, "{path}");
        }
        finish(user.rspawn(&["delete", "--force", id]), b"").ok();
        assert!(!state.exists());
    }
}

/// newuidmap asks /etc/subuid itself: what another file says counts for nothing.
#[test]
fn newuidmap_is_not_believed_to_grant_what_it_refuses() {
    let Some(user) = User::with_range() else { return };
    // rspawn reads the range of a name; newuidmap looks for it under the name that the number has first in passwd.
    let passwd = user.files.path.join("passwd");
    let text = fs::read_to_string(&passwd).unwrap();
    fs::write(&passwd, text.replace(&format!("{}:x:{}:", user.name(), user.number), "unknown:x:1:")).unwrap();
    fs::write(user.files.path.join("subuid"), format!("{}:{}:{}\n", user.number, RANGE.0, RANGE.1)).unwrap();
    fs::write(user.files.path.join("subgid"), format!("{}:{}:{}\n", user.number, RANGE.0, RANGE.1)).unwrap();
    let bundle = Bundle::script("cat /proc/self/uid_map /proc/self/setgroups");
    let output = run(&user, &bundle).ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "1", "deny"], "the user's own id, since newuidmap knows no such user");
}

#[test]
fn it_refuses_to_be_setuid() {
    let Some(user) = User::by_number() else { return };
    let copy = user.files.path.join("rspawn");
    fs::copy(program("rspawn"), &copy).unwrap();
    set_mode(&copy, 0o4755);
    let mut command = Command::new(&copy);
    command.arg("list");
    assert!(finish(user.run(command), b"").refused().contains("setuid"));
}
