//! What the integration tests share: bundles to run, ways to run them, and a look at what they left behind.
#![forbid(unsafe_code)]

pub mod clients;
pub mod hostile;
pub mod lane;
pub mod life;
pub mod mountinfo;
pub mod podman;
pub mod podman_profile;
pub mod terminal;
pub mod user;
pub mod v2_alone;
pub mod vm;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes on a loaded machine; a test that hits it has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Applets that the test payloads use.
const APPLETS: [&str; 44] = [
    "sh", "true", "false", "cat", "ls", "ps", "id", "mount", "sleep", "echo", "touch", "mkdir", "rm", "ln", "stat",
    "grep", "hostname", "env", "kill", "dd", "cut", "head", "tail", "wc", "tr", "seq", "test", "readlink", "chmod",
    "chown", "mknod", "umount", "pwd", "date", "sort", "tty", "stty", "find", "ip", "setsid", "dmesg", "nice", "uname",
    "df",
];

/// One of rspawn's programs, built before: by the README's commands, in release mode.
pub fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("RSPAWN_BIN").map_or_else(
        || {
            // target/TRIPLE/PROFILE/deps/this
            let me = std::env::current_exe().expect("the test's own path");
            let target = me
                .ancestors()
                .find(|path| path.ends_with("deps") || path.ends_with("debug") || path.ends_with("release"));
            let profile = target.expect("a target directory");
            let profile = if profile.ends_with("deps") { profile.parent().expect("a profile") } else { profile };
            profile.with_file_name("release")
        },
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    path
}

/// Whether a test that needs something can run here. Prints a line that CI counts where it cannot.
pub fn skip_unless(possible: bool, reason: &str) -> bool {
    if !possible {
        lane::note_test();
        println!("SKIPPED: {reason}");
        let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {reason}");
    }
    !possible
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// True, with the reason printed, if this process cannot make containers.
pub fn cannot_make_containers() -> bool {
    lane::is_exception()
        || skip_unless(is_root(), "containers of these tests need root")
        || (lane::is_here() && user::cannot_have_ranges())
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A directory of the test's own, removed at its end.
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        let made = Self::make();
        lane::note_scratch(&made.path);
        made
    }

    /// One that has an owner already, where tests are run by users.
    pub(crate) fn make() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // No name is the beginning of another: what is left behind is looked for by name.
        let path = std::env::temp_dir().join(format!("rspawn-test-{}-{number}x", std::process::id()));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self { path }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A bundle over a busybox root. `config` is written when it is run.
pub struct Bundle {
    pub scratch: Scratch,
    pub config: Value,
    pub id: String,
    /// Who runs it, if not this process's user.
    pub user: Option<user::User>,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 128 + the signal that killed it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// stdout of a run that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// stderr of a run that rspawn must have refused, with one error and nothing of the payload's.
    #[track_caller]
    pub fn refused(self) -> String {
        // 255 is that of `exec`, whose other statuses are the command's.
        assert!(matches!(self.status, 1 | 255), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("rspawn: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("a bug"), "{}", self.stderr);
        self.stderr
    }
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// The default configuration without a terminal; the payload is `sh`.
    pub fn new() -> Self {
        let scratch = Scratch::make();
        make_busybox_root(&scratch.path.join("rootfs"));
        let mut config = serde_json::to_value(rspawn::default_spec::default_spec(false)).expect("a default config");
        // Left to each test: most want to see what their own change does.
        config["root"]["readonly"] = json!(false);
        let id = scratch.path.file_name().expect("a name").to_string_lossy().into_owned();
        Self { scratch, config, id, user: lane::user() }
    }

    /// A bundle whose payload is a shell script.
    pub fn script(script: &str) -> Self {
        Self::new().with_args(&["sh", "-c", script])
    }

    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Changes the configuration.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn path(&self) -> &Path {
        &self.scratch.path
    }

    /// The state root of this bundle alone.
    pub fn state_root(&self) -> PathBuf {
        self.scratch.path.join("state")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.scratch.path.join("rootfs")
    }

    /// Adds a mount to the configuration.
    pub fn with_mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.with(|config| config["mounts"].as_array_mut().expect("mounts").push(mount))
    }

    /// Removes the kinds of namespace given from the configuration.
    pub fn without_namespaces(self, kinds: &[&str]) -> Self {
        self.with(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            list.retain(|entry| !kinds.contains(&entry["type"].as_str().unwrap_or_default()));
        })
    }

    /// Puts the tests' own payload into the root, as /payload.
    pub fn with_payload(self) -> Self {
        fs::copy(program("rspawn-test-payload"), self.rootfs().join("payload")).expect("the payload in the root");
        self
    }

    /// A bundle whose payload is the tests' own with these arguments.
    pub fn payload(arguments: &[&str]) -> Self {
        let arguments: Vec<&str> = ["/payload"].iter().chain(arguments).copied().collect();
        Self::new().with_payload().with_args(&arguments)
    }

    pub fn write_config(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        fs::write(self.path().join("config.json"), text).expect("config.json");
    }

    /// `rspawn run` on the bundle, not started yet.
    pub fn command(&self, options: &[&str]) -> Command {
        self.write_config();
        let mut command = Command::new(program("rspawn"));
        command.arg("--root").arg(self.state_root());
        command.arg("run").arg("--bundle").arg(self.path()).args(options).arg(&self.id);
        self.by_its_user(command)
    }

    /// A command on the bundle, run by whom it belongs to.
    pub fn by_its_user(&self, command: Command) -> Command {
        match &self.user {
            Some(user) => self.command_of(user, command),
            None => command,
        }
    }

    /// A command on the bundle, run by a user, whose it is from then on.
    pub fn command_of(&self, user: &user::User, command: Command) -> Command {
        user.give(self.path());
        user.run(command)
    }

    /// Runs the bundle to its end, stdin empty.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.run_with(&[], b"")
    }

    /// Runs the bundle to its end with options and input.
    #[track_caller]
    pub fn run_with(&self, options: &[&str], input: &[u8]) -> Output {
        let output = finish(self.command(options), input);
        self.assert_nothing_left();
        assert!(!self.state_root().join(&self.id).exists(), "its state is left behind");
        output
    }

    /// Nothing of the bundle is mounted, runs, or has a cgroup, and nobody is at its state. Of a container whose
    /// rspawn-setup was killed the state itself may be left: the next one of its name takes it over.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = leftovers(&self.id);
        assert!(left.is_empty(), "left behind: {left:#?}");
        wait_for("its state is let go", || !self.state_is_locked());
    }

    fn state_is_locked(&self) -> bool {
        fs::File::open(self.state_root().join(&self.id)).is_ok_and(|state| state.try_lock().is_err())
    }
}

/// Host pids of the processes whose root is the bundle's. The first is the container's first process.
pub fn container_processes(bundle: &Bundle) -> Vec<i32> {
    let root = bundle.rootfs();
    let Ok(wanted) = fs::metadata(&root).map(|root| (root.dev(), root.ino())) else { return Vec::new() };
    let is_inside = |pid: &i32| {
        let root = fs::metadata(format!("/proc/{pid}/root"));
        root.is_ok_and(|root| (root.dev(), root.ino()) == wanted)
    };
    let numbers = fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids: Vec<i32> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.retain(is_inside);
    pids.sort_unstable();
    pids
}

/// Mounts, processes and cgroups of this machine that carry a name. What is on its way out gets a second to go.
pub fn leftovers(name: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let left = leftovers_now(name);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn leftovers_now(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    left.extend(
        cgroups_named(Path::new("/sys/fs/cgroup"), name).iter().map(|path| format!("cgroup {}", path.display())),
    );
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // What is dead keeps its cgroup's name until its parent, here the machine's init, takes note; and PID 1 of a
        // namespace cannot end before that has been done for the last of its processes.
        if fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| is_dead(&stat)) {
            continue;
        }
        let of_process = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let carries = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(name);
        if of_process("cmdline").starts_with(b"strace\0") {
            // It stays until the machine's init has seen the end of the last one that it traced.
            continue;
        }
        let root = fs::read_link(process.path().join("root")).unwrap_or_default();
        if carries(of_process("cmdline")) || carries(of_process("cgroup")) || root.to_string_lossy().contains(name) {
            left.push(format!("process {pid}: {}", String::from_utf8_lossy(&of_process("cmdline")).replace('\0', " ")));
        }
    }
    left
}

/// What /proc/PID/stat says of a process that has ended or is ending (proc_pid_stat(5): PF_EXITING of its flags).
fn is_dead(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.next() == Some("Z") || fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(0u64) & PF_EXITING != 0
}

/// Directories below another whose name has a certain part.
pub fn cgroups_named(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(part) {
                found.push(entry.path());
            }
            found.extend(cgroups_named(&entry.path(), part));
        }
    }
    found
}

/// Runs a command to its end, with input; kills it (alone) if it hangs, which fails the test.
#[track_caller]
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = collect(child);
    let _ = writer.join();
    output
}

/// Waits for a started child and collects what it prints.
#[track_caller]
pub fn collect(mut child: Child) -> Output {
    fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("a child to wait for") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                panic!("it hung for {PATIENCE:?}, pid {}", child.id());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.map_or_else(String::new, |reader| reader.join().unwrap_or_default())
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Output { status: code, stdout: text(stdout), stderr: text(stderr) }
}

/// A root with a static busybox and the directories that images have.
pub fn make_busybox_root(root: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "usr", "var"] {
        fs::create_dir_all(root.join(directory)).expect("a directory of the root");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox: install Debian's busybox-static");
    // No hard link: a payload that is root could write to the host's busybox through it.
    fs::copy(busybox, root.join("bin/busybox")).expect("busybox in the root");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("an applet");
    }
}

/// Waits until a condition holds; panics with `what` if it never does.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The value of a field in a /proc/PID/status text.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}:");
    status.lines().find_map(|line| line.strip_prefix(prefix.as_str())).map(str::trim)
}
