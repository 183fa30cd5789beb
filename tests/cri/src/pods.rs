//! Pods and their containers, as the kubelet makes them.
use std::fs;
use std::path::PathBuf;

use k8s_cri::v1::*;
use rspawn_tests::wait_for;

use crate::node::{IMAGE, Node};
use crate::{Answer, Cri};

/// A sandbox that runs.
pub struct Pod<'n> {
    pub node: &'n Node,
    pub id: String,
    pub config: PodSandboxConfig,
}

/// A container of a pod, started or not.
pub struct Container<'p> {
    pub pod: &'p Pod<'p>,
    pub id: String,
    log: PathBuf,
}

/// A pod with the node's network, in cgroups below the node's, with logs of its own.
pub fn pod_config(node: &Node, name: &str) -> PodSandboxConfig {
    let logs = node.path().join("logs").join(name);
    fs::create_dir_all(&logs).expect("a directory for logs");
    // As the kubelet writes them: each container has a pid namespace of its own.
    let namespaces = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-of-{name}"),
            namespace: "tests".into(),
            attempt: 0,
        }),
        log_directory: logs.to_string_lossy().into_owned(),
        labels: [("app".to_string(), name.to_string())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}/pod-{name}", node.name),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The namespaces of a pod, to change.
pub fn namespaces(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    let linux = config.linux.as_mut().expect("its Linux part");
    linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default()
}

/// What the kubelet hides of procfs, and keeps from being written to (`procMount: Default`).
const MASKED: [&str; 10] = [
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container that runs a program of the image.
pub fn container_config(name: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: command.iter().map(ToString::to_string).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                masked_paths: MASKED.map(String::from).into(),
                readonly_paths: READ_ONLY.map(String::from).into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One that runs a shell script.
pub fn script(name: &str, script: &str) -> ContainerConfig {
    container_config(name, &["sh", "-c", script])
}

/// One that does nothing until it is stopped.
pub fn idle(name: &str) -> ContainerConfig {
    script(name, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
}

/// The security context of a container, to change. Its namespaces are the pod's where nothing else is said, as the
/// kubelet writes them.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The limits of a container, to change.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

impl<'n> Pod<'n> {
    /// `RunPodSandbox`; of the default runtime where no handler is named.
    pub fn try_run(node: &'n Node, config: PodSandboxConfig, handler: &str) -> Answer<Self> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
        let id = node.cri.run_pod_sandbox(request)?.pod_sandbox_id;
        Ok(Self { node, id, config })
    }

    #[track_caller]
    pub fn run(node: &'n Node, config: PodSandboxConfig) -> Self {
        Self::run_by(node, config, "")
    }

    #[track_caller]
    pub fn run_by(node: &'n Node, config: PodSandboxConfig, handler: &str) -> Self {
        Self::try_run(node, config, handler).unwrap_or_else(|status| panic!("RunPodSandbox: {}", node.explain(&status)))
    }

    pub fn cri(&self) -> &Cri {
        &self.node.cri
    }

    /// `CreateContainer`. Namespaces that the container says nothing of are the pod's.
    pub fn try_create(&self, mut config: ContainerConfig) -> Answer<Container<'_>> {
        let of_pod = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let of_pod = of_pod.and_then(|security| security.namespace_options.clone());
        let own = &mut security(&mut config).namespace_options;
        *own = own.take().or(of_pod);
        let log = PathBuf::from(&self.config.log_directory).join(&config.log_path);
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let id = self.cri().create_container(request)?.container_id;
        Ok(Container { pod: self, id, log })
    }

    #[track_caller]
    pub fn create(&self, config: ContainerConfig) -> Container<'_> {
        self.try_create(config).unwrap_or_else(|status| panic!("CreateContainer: {}", self.node.explain(&status)))
    }

    /// A container that is there.
    pub fn adopt(&self, id: &str, name: &str) -> Container<'_> {
        let log = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        Container { pod: self, id: id.into(), log }
    }

    /// Creates and starts a container.
    #[track_caller]
    pub fn start(&self, config: ContainerConfig) -> Container<'_> {
        let container = self.create(config);
        container.try_start().unwrap_or_else(|status| panic!("StartContainer: {}", self.node.explain(&status)));
        container
    }

    /// What a script prints that ends with 0.
    #[track_caller]
    pub fn output_of(&self, config: ContainerConfig) -> String {
        let container = self.start(config);
        let status = container.ended();
        assert_eq!(status.exit_code, 0, "{status:?}\n{}", container.log());
        container.text("stdout")
    }

    #[track_caller]
    pub fn status(&self) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        self.cri().pod_sandbox_status(request).expect("PodSandboxStatus").status.expect("a status")
    }

    pub fn stop(&self) -> Answer<()> {
        self.cri().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: self.id.clone() }).map(drop)
    }

    pub fn remove(&self) -> Answer<()> {
        self.cri().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() }).map(drop)
    }
}

impl Container<'_> {
    pub fn try_start(&self) -> Answer<()> {
        self.pod.cri().start_container(StartContainerRequest { container_id: self.id.clone() }).map(drop)
    }

    #[track_caller]
    pub fn status(&self) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        self.pod.cri().container_status(request).expect("ContainerStatus").status.expect("a status")
    }

    /// Waits until it has exited.
    #[track_caller]
    pub fn ended(&self) -> ContainerStatus {
        wait_for("the container ends", || self.status().state() == ContainerState::ContainerExited);
        self.status()
    }

    pub fn stop(&self, timeout: i64) -> Answer<()> {
        self.pod.cri().stop_container(StopContainerRequest { container_id: self.id.clone(), timeout }).map(drop)
    }

    pub fn remove(&self) -> Answer<()> {
        self.pod.cri().remove_container(RemoveContainerRequest { container_id: self.id.clone() }).map(drop)
    }

    /// `ExecSync`; a timeout of 0 is none.
    pub fn try_exec(&self, command: &[&str], timeout: i64) -> Answer<ExecSyncResponse> {
        let cmd = command.iter().map(ToString::to_string).collect();
        self.pod.cri().exec_sync(ExecSyncRequest { container_id: self.id.clone(), cmd, timeout })
    }

    /// What a script prints that is executed in it and ends with 0.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let answer = self.try_exec(&["sh", "-c", script], 0).expect("ExecSync");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(answer.exit_code, 0, "{script}: {}{}", text(&answer.stdout), text(&answer.stderr));
        text(&answer.stdout)
    }

    /// Its log file.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| panic!("{}: {error}", self.log.display()))
    }

    pub fn log_path(&self) -> &PathBuf {
        &self.log
    }

    /// What its log has of one stream, put together again: each line is `TIME STREAM F|P TEXT`, and P goes on.
    pub fn text(&self, stream: &str) -> String {
        let mut text = String::new();
        for line in self.log().lines() {
            let [_, from, tag, content] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
                panic!("no line of a log: {line}")
            };
            if from == stream {
                text.push_str(content);
                text.push_str(if tag == "F" { "\n" } else { "" });
            }
        }
        text
    }
}
