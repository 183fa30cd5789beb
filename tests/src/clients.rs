//! What the lanes of real clients share: which runtime is under test, an image to run, daemons, and what is left.
//!
//! `RSPAWN_TEST_RUNTIME=/usr/sbin/runc cargo test --test podman_life` runs a lane with another runtime, which tells the
//! machine's faults from rspawn's. Debian's crun refuses cgroups v1 and v2 side by side: `tests/without_cgroup2.sh`
//! helps it.
use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{
    Output, PATIENCE, cannot_make_containers, finish, leftovers, leftovers_besides, make_busybox_root, program,
    skip_unless, wait_for,
};

thread_local! {
    static ANOTHER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Has the clients that this thread starts take another program for the runtime: one that stands before it.
pub fn with_runtime<T>(path: PathBuf, act: impl FnOnce() -> T) -> T {
    ANOTHER.set(Some(path));
    let done = act();
    ANOTHER.set(None);
    done
}

/// What [`with_runtime`] has this thread take.
pub fn another_runtime() -> Option<PathBuf> {
    ANOTHER.with_borrow(Clone::clone)
}

/// A policy that is shipped, for clients that keep their files elsewhere.
pub fn shipped_policy(name: &str, place: &str) -> String {
    let path = crate::sources::workspace().join(format!("parent/dist/policy/{name}.conf"));
    format!("{}\nbind.allow = {place}\n", fs::read_to_string(path).expect("a shipped policy"))
}

/// A script that runs a runtime under a policy, as `/etc/rspawn/policy.conf` would have it. Clients give no such option.
pub fn under_policy(directory: &Path, runtime: &Path, policy: &str) -> PathBuf {
    let (file, script) = (directory.join("policy.conf"), directory.join("rspawn"));
    fs::write(&file, policy).expect("a policy");
    let text = format!(
        "#!/bin/sh\nn=$#; said=\nwhile [ $n -gt 0 ]; do word=$1; shift; set -- \"$@\" \"$word\"; n=$((n - 1))\n\
         case \"$said$word\" in run|create|exec|update) set -- \"$@\" --policy={}; said=1;; esac\ndone\n\
         exec {} \"$@\"\n",
        file.display(),
        runtime.display()
    );
    fs::write(&script, text).expect("a script");
    for (path, mode) in [(&file, 0o644), (&script, 0o755)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
    }
    script
}

/// The runtime that the clients are given.
pub fn runtime() -> PathBuf {
    another_runtime()
        .unwrap_or_else(|| std::env::var_os("RSPAWN_TEST_RUNTIME").map_or_else(|| program("rspawn"), PathBuf::from))
}

/// Name by which clients know it: the file's.
pub fn runtime_name() -> String {
    runtime().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether the runtime says what went wrong in runc's words, which clients look for. Debian's crun has its own, which
/// docker does not know.
pub fn speaks_as_runc() -> bool {
    runtime_name() != "crun"
}

/// Debian's own of a client. Another of the same name may come first in PATH, of another version.
pub fn client(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// True, with the reason printed, if these clients cannot be used here.
pub fn cannot_use(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !client(name).is_absolute()).collect();
    cannot_make_containers() || skip_unless(missing.is_empty(), &format!("not installed: {}", missing.join(", ")))
}

/// Files of an image's root that the payloads and the clients look for.
pub fn make_image_root(root: &Path) {
    make_busybox_root(root);
    let write = |path: &str, text: &str| fs::write(root.join(path), text).expect("a file of the image");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n");
    write("etc/group", "root:x:0:\nalice:x:1000:\nextra:x:2000:\n");
    write("etc/plain", "not a program\n");
    for directory in ["root", "home/alice", "srv"] {
        fs::create_dir_all(root.join(directory)).expect("a directory of the image");
    }
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), open_to_all).expect("the mode of /tmp");
}

/// The image's root as a tar archive, as `podman import`, `docker import` and `ADD` take it.
pub fn make_image_archive(directory: &Path) -> PathBuf {
    make_image_root(&directory.join("image"));
    archive_image(directory)
}

fn archive_image(directory: &Path) -> PathBuf {
    let archive = directory.join("image.tar");
    tar(&archive, &directory.join("image"), &["."]);
    archive
}

/// An archive in docker's form, for clients that import no bare root.
pub fn make_docker_archive(directory: &Path, name: &str) -> PathBuf {
    make_image_root(&directory.join("image"));
    make_docker_archive_of(directory, name, &json!({"Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"]}))
}

/// The same of the root that is in the directory's `image`, with this configuration.
pub fn make_docker_archive_of(directory: &Path, name: &str, config: &Value) -> PathBuf {
    let layer = archive_image(directory);
    let mut sum = Command::new("sha256sum");
    sum.arg(&layer);
    let sum = finish(sum, b"").ok();
    let digest = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["image.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string()).expect("the image's configuration");
    fs::write(directory.join("manifest.json"), manifest.to_string()).expect("the image's manifest");
    let archive = directory.join("docker.tar");
    tar(&archive, directory, &["manifest.json", "config.json", "image.tar"]);
    archive
}

fn tar(archive: &Path, directory: &Path, members: &[&str]) {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory).arg("-cf").arg(archive).args(members);
    finish(tar, b"").ok();
}

/// A daemon of the test's own. Ended with the value, by its pid alone.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits for its socket. `Err` has the end of its log, if it ended instead: then it cannot run here.
    #[track_caller]
    pub fn start(mut command: Command, socket: &Path, log: PathBuf) -> Result<Self, String> {
        let file = File::create(&log).map_err(|error| error.to_string())?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let mut daemon = Self { child: child.map_err(|error| format!("{command:?}: {error}"))?, log };
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            if matches!(daemon.child.try_wait(), Ok(Some(_))) {
                return Err(format!("{command:?} did not start: {}", daemon.last_words()));
            }
            assert!(Instant::now() < deadline, "{command:?} has no socket yet: {}", daemon.last_words());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// What it logged last.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Asks it to end, and insists.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            let _ = kill(pid, signal);
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Cgroup directories of a name directly below each hierarchy's root.
pub fn parent_cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain(["/sys/fs/cgroup".into()]).map(|hierarchy| hierarchy.join(name));
    places.filter(|path| path.is_dir()).collect()
}

/// Directories below a cgroup, children before parents.
pub fn cgroups_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if entry.is_dir() {
            found.extend(cgroups_below(&entry));
            found.push(entry);
        }
    }
    found
}

/// Removes the cgroups of a name. Says which of them were the runtime's to remove, those of containers: the parent, a
/// pod's and that of conmons are podman's, and it leaves some of them.
pub fn remove_parent_cgroups(name: &str, ids: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for parent in parent_cgroups(name) {
        for below in cgroups_below(&parent) {
            let own = below.file_name().unwrap_or_default().to_string_lossy();
            if ids.iter().any(|id| own.contains(id)) {
                left.push(format!("cgroup {}", below.display()));
            }
            let _ = fs::remove_dir(&below);
        }
        let _ = fs::remove_dir(&parent);
    }
    left
}

/// Nothing is left of containers whose cgroups are below `name` and whose storage has it in its paths: no mount, no
/// process, no cgroup, and no state directory of one of the ids.
#[track_caller]
pub fn assert_no_traces(name: &str, state_root: &Path, ids: &[String]) {
    // The clients' own cgroups cannot be removed before the last process has gone.
    leftovers_besides(name, |left| !left.starts_with("process "));
    let mut left = remove_parent_cgroups(name, ids);
    left.extend(leftovers(name));
    let states = ids.iter().map(|id| state_root.join(id)).filter(|path| path.exists());
    left.extend(states.map(|path| format!("state {}", path.display())));
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// Where the runtime keeps its state when the client names no `--root`.
pub fn default_state_root() -> PathBuf {
    Path::new("/run").join(runtime_name())
}

/// Retries a command until its output fits; clients learn some things a moment later.
#[track_caller]
pub fn eventually(what: &str, mut ask: impl FnMut() -> Output, fits: impl Fn(&Output) -> bool) -> Output {
    let mut last = ask();
    wait_for(&format!("{what}; last answer {last:?}"), || {
        if !fits(&last) {
            std::thread::sleep(Duration::from_millis(100));
            last = ask();
        }
        fits(&last)
    });
    last
}
