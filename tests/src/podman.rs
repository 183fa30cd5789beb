//! A podman of the test's own: its storage, its state and its cgroups are in places of the test's name.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::clients::{
    another_runtime, assert_no_traces, cannot_use, client, default_state_root, make_image_archive, runtime,
};
use crate::clients::{remove_parent_cgroups, runtime_name};
use crate::user::User;
use crate::{Output, Scratch, finish, leftovers_besides};

/// How podman hears of the runtime's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// From stderr alone: podman gives log options only to runtimes that it knows by name.
    Stderr,
    /// From a log of JSON too, as containers.conf asks for by `runtime_supports_json`.
    JsonLog,
}

pub struct Podman {
    pub scratch: Scratch,
    /// Also the name of the cgroup that all of its containers are in.
    pub name: String,
    /// Whose it is, if not the machine's root's.
    user: Option<User>,
    /// Who makes its cgroups.
    manager: &'static str,
}

impl Podman {
    /// `None`, with the reason printed, where it cannot run.
    pub fn new(errors: Errors) -> Option<Self> {
        if cannot_use(&["podman", "conmon"]) {
            return None;
        }
        Self::with(errors, None)
    }

    /// A user's own. `None`, with the reason printed, where no user can have one.
    pub fn of_user() -> Option<Self> {
        if cannot_use(&["podman", "conmon"]) {
            return None;
        }
        Self::with(Errors::Stderr, Some(User::with_range()?.with_tunnels()))
    }

    fn with(errors: Errors, user: Option<User>) -> Option<Self> {
        let scratch = Scratch::new();
        let name = scratch.path.file_name()?.to_string_lossy().into_owned();
        let podman = Self { scratch, name, user, manager: "cgroupfs" };
        podman.write_configuration(errors);
        let archive = make_image_archive(podman.path());
        podman.user.iter().for_each(|user| user.give(podman.path()));
        podman.ok(&["import", "--quiet", "--change", "ENV=PATH=/usr/bin:/bin", &archive.to_string_lossy(), "image"]);
        Some(podman)
    }

    /// The same, with scopes of systemd's.
    pub fn with_systemds_cgroups(mut self) -> Self {
        self.manager = "systemd";
        self
    }

    pub fn path(&self) -> &Path {
        &self.scratch.path
    }

    /// The runtime that it starts by itself.
    pub fn runtime(&self) -> PathBuf {
        self.user.as_ref().map_or_else(runtime, User::runtime)
    }

    /// Locks in files: with several storages, podman's shared memory would hand the same lock to two of them. The
    /// limits are for the containers that podman starts on its own account, those of pods.
    fn write_configuration(&self, errors: Errors) {
        let known = match errors {
            Errors::Stderr => String::new(),
            Errors::JsonLog => format!("\"{}\"", runtime_name()),
        };
        // podman 4 has the one key, and later ones the other.
        let name = format!("\"{}\"", runtime_name());
        let text = format!(
            "[containers]\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
             log_driver = \"k8s-file\"\n\
             [engine]\n\
             lock_type = \"file\"\n\
             events_logger = \"file\"\n\
             runtime_supports_json = [{known}]\n\
             runtime_supports_nocgroup = [{name}]\n\
             runtime_supports_nocgroups = [{name}]\n",
        );
        fs::write(self.path().join("containers.conf"), text).expect("podman's configuration");
    }

    /// podman with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client("podman"));
        for (option, place) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmpdir")] {
            command.arg(option).arg(self.path().join(place));
        }
        let runtime = another_runtime().unwrap_or_else(|| self.runtime());
        command.args(["--storage-driver", "vfs", "--cgroup-manager", self.manager, "--runtime"]).arg(runtime);
        command.env("CONTAINERS_CONF", self.path().join("containers.conf"));
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").args(arguments);
        match &self.user {
            Some(user) => user.run(command),
            None => {
                command.env_remove("XDG_RUNTIME_DIR");
                command
            }
        }
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments), b"")
    }

    /// What a podman that must succeed prints, without the last line's end.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_string()
    }

    /// `podman VERB` with what every container here needs, options, and a payload over the image.
    pub fn start_command(&self, verb: &str, options: &[&str], payload: &[&str]) -> Command {
        let parent = format!("/{}", self.name);
        let mut arguments = vec![verb, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let has = |name: &str| options.iter().any(|option| option.starts_with(name));
        if !has("--pod=") && !has("--network=") {
            arguments.push("--network=none");
        }
        if !has("--pod=") && !has("--cgroups=") && self.user.is_none() && self.manager == "cgroupfs" {
            arguments.extend(["--cgroup-parent", &parent]);
        }
        arguments.extend(options);
        arguments.push("image");
        arguments.extend(payload);
        self.command(&arguments)
    }

    /// A container that runs to its end, and is removed.
    #[track_caller]
    pub fn to_its_end(&self, options: &[&str], payload: &[&str]) -> Output {
        let options: Vec<&str> = ["--rm"].iter().chain(options).copied().collect();
        finish(self.start_command("run", &options, payload), b"")
    }

    /// A shell script in a container that runs to its end.
    #[track_caller]
    pub fn script(&self, options: &[&str], script: &str) -> Output {
        self.to_its_end(options, &["sh", "-c", script])
    }

    /// A container in the background.
    #[track_caller]
    pub fn detached(&self, name: &str, options: &[&str], payload: &[&str]) {
        let options: Vec<&str> = ["--detach", "--name", name].iter().chain(options).copied().collect();
        finish(self.start_command("run", &options, payload), b"").ok();
    }

    /// One field of `podman inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str, field: &str) -> String {
        self.ok(&["inspect", "--format", &format!("{{{{{field}}}}}"), name])
    }

    /// Host path of a file in the container's cgroup of a v1 controller, or of the only hierarchy.
    pub fn cgroup_file(&self, container: &str, controller: &str, file: &str) -> PathBuf {
        let pid = self.inspect(container, ".State.Pid");
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the container's cgroups");
        let line = text.lines().find(|line| line.split(':').nth(1) == Some(controller));
        let line = line.or_else(|| text.lines().find(|line| line.starts_with("0::"))).expect("a cgroup");
        let below = line.splitn(3, ':').nth(2).unwrap_or_default().trim_start_matches('/');
        let hierarchy = Path::new("/sys/fs/cgroup");
        let named = hierarchy.join(controller);
        if named.is_dir() { named } else { hierarchy.to_path_buf() }.join(below).join(file)
    }

    /// Ids of every container that ever was, from podman's event log.
    fn ids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("tmpdir/events/events.log")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let containers = events.filter(|event| event["Type"] == "container");
        let mut ids: Vec<String> = containers.filter_map(|event| Some(event["ID"].as_str()?.to_string())).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The end of every test: no container is there, and nothing of one.
    #[track_caller]
    pub fn assert_nothing_left(self) {
        assert_eq!(self.ok(&["ps", "--all", "--quiet"]), "", "a container that the test did not remove");
        let ids = self.ids();
        assert!(!ids.is_empty(), "podman's event log names no container");
        self.end_pause();
        let root = self.user.as_ref().map(|user| user.runtime_directory().join("rspawn"));
        assert_no_traces(&self.name, &root.unwrap_or_else(default_state_root), &ids);
    }
}

impl Podman {
    /// The user whose it is.
    pub fn user_number(&self) -> u32 {
        self.user.as_ref().map_or(0, |user| user.number)
    }

    /// The process that keeps a user's namespaces between commands.
    fn end_pause(&self) {
        let file = fs::read_to_string(self.path().join("tmpdir/pause.pid")).unwrap_or_default();
        if let Ok(pid) = file.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Podman {
    /// After a test that failed; else there is nothing to do.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in
                [&["pod", "rm", "--all", "--force", "--time=0"][..], &["rm", "--all", "--force", "--time=0"]]
            {
                let _ = self.command(arguments).output();
            }
            // They cannot be removed before the last process has gone.
            leftovers_besides(&self.name, |left| !left.starts_with("process "));
            remove_parent_cgroups(&self.name, &[]);
            self.end_pause();
        }
    }
}
