//! Bundles to run, over roots of busybox, in directories that go with them.
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::lanes::user as lane;
use crate::{Output, finish, leftovers, program, user, wait_for};

/// Applets that the test payloads use.
const APPLETS: [&str; 44] = [
    "sh", "true", "false", "cat", "ls", "ps", "id", "mount", "sleep", "echo", "touch", "mkdir", "rm", "ln", "stat",
    "grep", "hostname", "env", "kill", "dd", "cut", "head", "tail", "wc", "tr", "seq", "test", "readlink", "chmod",
    "chown", "mknod", "umount", "pwd", "date", "sort", "tty", "stty", "find", "ip", "setsid", "dmesg", "nice", "uname",
    "df",
];

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What the names of one run of a test program begin with.
static RUN: OnceLock<String> = OnceLock::new();

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
        // Nor was it one's before: pids come again, and what a test that failed has left stays.
        let run = RUN.get_or_init(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
            format!("{}-{:06x}", std::process::id(), now.as_millis() & 0xff_ffff)
        });
        let path = std::env::temp_dir().join(format!("rspawn-test-{run}-{number}x"));
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
        let mut config =
            serde_json::to_value(rspawn_planner::default_spec::default_spec(false)).expect("a default config");
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

    /// Mounts the cgroups writable, which by default they are not.
    pub fn with_writable_cgroups(self) -> Self {
        self.with(|config| {
            let mut mounts = config["mounts"].as_array_mut().expect("mounts").iter_mut();
            let cgroups = mounts.find(|mount| mount["destination"] == "/sys/fs/cgroup").expect("a cgroup mount");
            cgroups["options"].as_array_mut().expect("options").retain(|option| option != "ro");
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
        self.assert_nothing_left_by(&output);
        assert!(!self.state_root().join(&self.id).exists(), "its state is left behind");
        output
    }

    /// Nothing of the bundle is mounted, runs, or has a cgroup, and nobody is at its state. Of a container whose
    /// rspawn-setup was killed the state itself may be left: the next one of its name takes it over.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.assert_nothing_left_by(&"it is not known what");
    }

    /// The same, of a command that said something.
    #[track_caller]
    pub fn assert_nothing_left_by(&self, said: &impl Debug) {
        let left = leftovers(&self.id);
        assert!(left.is_empty(), "left behind: {left:#?}\nby a command that said {said:?}");
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

/// Gives a configuration a user namespace of its own, whose ids are the host's from 100000 on. Cgroups, which its root
/// could not mount, go.
pub fn in_user_namespace(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["type"] != "cgroup");
}
