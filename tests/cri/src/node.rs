//! A node of the test's own: containerd with its CRI plugin, on directories, sockets and cgroups that are nobody
//! else's, configured by the text of `parent/docs/kubernetes.md`.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_cri::v1::{ListContainersRequest, ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use k8s_cri::v1::{StatusRequest, VersionRequest};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::clients::{
    Daemon, assert_no_traces, cannot_use, client, eventually, make_docker_archive_of, make_image_root,
    remove_parent_cgroups, runtime,
};
use rspawn_tests::{Output, Scratch, finish, program, skip_unless, wait_for};
use serde_json::json;

use crate::Cri;

/// The sandboxes' image, and the containers': rspawn-init as the pause program, beside busybox.
pub const IMAGE: &str = "docker.io/library/pause:latest";

/// The namespace that the CRI plugin keeps its containers in.
const NAMESPACE: &str = "k8s.io";

pub struct Node {
    /// First, so that it ends before its files go.
    daemon: Daemon,
    pub cri: Cri,
    scratch: Scratch,
    /// Also the cgroup that the pods are in.
    pub name: String,
    checked: bool,
}

impl Node {
    /// `None`, with the reason printed, where it cannot run.
    pub fn new() -> Option<Self> {
        Self::with_runtime(&runtime())
    }

    /// One whose handler `rspawn` is this program.
    pub fn with_runtime(runtime: &Path) -> Option<Self> {
        if cannot_use(&["containerd", "ctr", "containerd-shim-runc-v2", "nsenter", "ip"]) {
            return None;
        }
        let scratch = Scratch::new();
        let name = scratch.path.file_name()?.to_string_lossy().into_owned();
        write_network(&scratch.path);
        fs::write(scratch.path.join("config.toml"), config(&scratch.path, runtime)).expect("a configuration");
        let daemon = match start(&scratch.path) {
            Ok(daemon) => daemon,
            Err(reason) => {
                skip_unless(false, &reason);
                return None;
            }
        };
        let cri = Cri::new(&scratch.path.join("c.sock"));
        let node = Self { daemon, cri, scratch, name, checked: false };
        node.wait_until_ready();
        node.import_image();
        Some(node)
    }

    pub fn path(&self) -> &Path {
        &self.scratch.path
    }

    /// The runtime's directory for the state of its containers.
    pub fn states(&self) -> PathBuf {
        self.path().join("runtime").join(NAMESPACE)
    }

    /// The version of the CRI's other side, as in `1.6.20~ds1`.
    pub fn containerd_version(&self) -> String {
        self.cri.version(VersionRequest::default()).expect("Version").runtime_version
    }

    /// An error with what containerd logged last.
    pub fn explain(&self, status: &tonic::Status) -> String {
        format!("{:?}: {}\n{}", status.code(), status.message(), self.daemon.last_words())
    }

    /// Ends containerd, whose pods go on, and starts it again.
    pub fn restart(&mut self) {
        self.daemon.stop();
        let socket = self.path().join("c.sock");
        assert!(!socket.exists() || fs::remove_file(&socket).is_ok(), "its socket is in the way");
        self.daemon = start(self.path()).expect("containerd starts again");
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        wait_for("the CRI plugin answers", || match self.cri.status(StatusRequest::default()) {
            Ok(answer) => answer.status.is_some_and(|status| status.conditions.iter().all(|one| one.status)),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        });
    }

    fn import_image(&self) {
        let image = self.path().join("image");
        make_image_root(&image);
        fs::copy(program("rspawn-init"), image.join("pause")).expect("the pause program");
        let config = json!({"Entrypoint": ["/pause", "--", "/bin/sleep", "1000000"], "Env": ["PATH=/usr/bin:/bin"]});
        let archive = make_docker_archive_of(self.path(), IMAGE, &config);
        // It is refused until the namespace of the snapshotter's plugin is there.
        let import = || self.ctr(&["images", "import", &archive.to_string_lossy()]);
        eventually("the image is imported", import, |output| output.status == 0);
    }

    /// `ctr` on this containerd, in the CRI plugin's namespace.
    pub fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(client("ctr"));
        command.arg("--address").arg(self.path().join("c.sock")).args(["--namespace", NAMESPACE]).args(arguments);
        finish(command, b"")
    }

    /// Removes every pod. The first error, if there is one, after all have been tried.
    fn remove_pods(&self) -> Result<(), tonic::Status> {
        let pods = self.cri.list_pod_sandbox(ListPodSandboxRequest::default())?.items;
        let mut first = Ok(());
        for pod in pods {
            let stopped = self.cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() });
            let removed = self.cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.id });
            first = first.and(stopped.map(drop)).and(removed.map(drop));
        }
        first
    }

    /// Removes the pods, ends containerd, and looks for what is left: mounts, processes, cgroups, states.
    #[track_caller]
    pub fn finish(mut self) {
        self.remove_pods().expect("the pods go");
        let left = self.cri.list_containers(ListContainersRequest::default()).expect("ListContainers").containers;
        assert!(left.is_empty(), "containers outlive their pods: {left:?}");
        let states: Vec<_> = fs::read_dir(self.states()).into_iter().flatten().flatten().collect();
        assert!(states.is_empty(), "states of the runtime are left: {states:?}");
        self.daemon.stop();
        assert_no_traces(&self.name, &self.states(), &[]);
        self.checked = true;
    }
}

impl Drop for Node {
    /// After a test that failed: shims and containers outlive the daemon, and cannot be asked of one that has ended.
    fn drop(&mut self) {
        if self.checked {
            return;
        }
        let removed = self.remove_pods();
        self.daemon.stop();
        if let Err(status) = removed {
            eprintln!("the pods of {} are cleared away by force: {status}", self.name);
            for (pid, _) in shims(self) {
                // It may end at this moment.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            for state in fs::read_dir(self.states()).into_iter().flatten().flatten() {
                let mut delete = Command::new(runtime());
                delete.arg("--root").arg(self.states()).args(["delete", "--force"]).arg(state.file_name());
                eprintln!("{:?}", finish(delete, b""));
            }
            unmount_below(self.path());
        }
        remove_parent_cgroups(&self.name, &[]);
    }
}

fn start(directory: &Path) -> Result<Daemon, String> {
    let mut command = Command::new(client("containerd"));
    // The shim's own sockets are in a directory of containerd's whatever it is told.
    command.arg("--config").arg(directory.join("config.toml")).env_remove("XDG_RUNTIME_DIR");
    Daemon::start(command, &directory.join("c.sock"), directory.join("log"))
}

/// The block of `parent/docs/kubernetes.md` that configures containerd.
pub fn documented_config() -> &'static str {
    let page = include_str!("../../../parent/docs/kubernetes.md");
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains("default_runtime_name")).expect("containerd's configuration")
}

/// What a node is told, with the paths of this one, and what makes it a node of the test's own.
fn config(directory: &Path, runtime: &Path) -> String {
    let place = |name: &str| directory.join(name);
    let documented = documented_config();
    let binary = "BinaryName = \"/usr/bin/rspawn\"\n";
    assert!(documented.contains(binary), "{documented}");
    let kind = "runtimes.rspawn]\nruntime_type = \"io.containerd.runc.v2\"\n";
    assert!(documented.contains(kind), "{documented}");
    let with_annotation = format!("{kind}pod_annotations = [\"org.rspawn.init\"]\n");
    let own_paths = format!("BinaryName = {runtime:?}\nRoot = {:?}\n", place("runtime"));
    format!(
        "root = {root:?}\nstate = {state:?}\n{documented}\n\
         [grpc]\naddress = {grpc:?}\n[ttrpc]\naddress = {ttrpc:?}\n[debug]\naddress = {debug:?}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {opt:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {IMAGE:?}\n\
         stream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\nnetns_mounts_under_state_dir = true\n\
         # Who lacks CAP_SYS_RESOURCE may protect no sandbox from the kernel's choice.\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {bin:?}\nconf_dir = {conf:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nBinaryName = {runc:?}\n\
         Root = {runc_root:?}\n",
        root = place("root"),
        state = place("state"),
        documented = documented.replace(binary, &own_paths).replace(kind, &with_annotation),
        grpc = place("c.sock"),
        ttrpc = place("t.sock"),
        debug = place("d.sock"),
        opt = place("opt"),
        bin = place("cni/bin"),
        conf = place("cni/conf"),
        runc = client("runc"),
        runc_root = place("runc"),
    )
}

/// A network plugin that gives a pod the loopback device alone, which needs nothing of the node's. It claims an address
/// for `eth0`, since containerd takes a pod without one for a failure.
const PLUGIN: &str = r#"#!/bin/sh
read -r config
case "$CNI_COMMAND" in
ADD)
    nsenter --net="$CNI_NETNS" ip link set lo up || exit 1
    echo '{"cniVersion": "0.3.1", "interfaces": [{"name": "'"$CNI_IFNAME"'", "sandbox": "'"$CNI_NETNS"'"}],
        "ips": [{"version": "4", "address": "127.0.0.1/8", "interface": 0}]}';;
VERSION) echo '{"cniVersion": "0.3.1", "supportedVersions": ["0.3.1", "0.4.0"]}';;
esac
"#;

fn write_network(directory: &Path) {
    for place in ["cni/bin", "cni/conf"] {
        fs::create_dir_all(directory.join(place)).expect("a directory for the network's plugin");
    }
    // containerd asks for `loopback` by itself.
    for name in ["loopback", "test-net"] {
        let path = directory.join("cni/bin").join(name);
        fs::write(&path, PLUGIN).expect("a plugin");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let conf = json!({"cniVersion": "0.3.1", "name": "tests", "plugins": [{"type": "test-net"}]});
    fs::write(directory.join("cni/conf/10-tests.conflist"), conf.to_string()).expect("the network's configuration");
}

/// What containerd and its shims have mounted in a directory.
fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let places =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(directory));
    // Those that were mounted last go first.
    for place in places.collect::<Vec<_>>().iter().rev() {
        if let Err(errno) = umount2(*place, MntFlags::MNT_DETACH) {
            eprintln!("{place} stays mounted: {errno}");
        }
    }
}

/// The names of all processes that a shim's process and its children have started, themselves not among them. What a
/// runtime leaves behind becomes a child of the shim, which is a subreaper.
pub fn descendants(of: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has gone meanwhile is none.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (name, fields) = stat.rsplit_once(") ").expect("a name, and fields");
        if fields.split(' ').nth(1) == Some(&of.to_string()) {
            found.push(name.split_once(" (").expect("a number, and a name").1.to_string());
            found.extend(descendants(pid));
        }
    }
    found.sort();
    found
}

/// The shims of a node: they have its socket on their command lines.
pub fn shims(node: &Node) -> Vec<(u32, String)> {
    let socket = node.path().join("c.sock").to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has gone meanwhile is none.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("containerd-shim") && line.contains(&socket) {
            found.push((pid, line));
        }
    }
    found
}
