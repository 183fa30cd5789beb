//! A client of the CRI that waits for each answer: what the kubelet calls, by the names of the protocol.
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

pub type Answer<T> = Result<T, Status>;

/// Longer than any call takes on a loaded machine; one that hits it has hung.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects with the first call, and again after containerd was restarted.
    pub fn new(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime of tokio's");
        let socket: PathBuf = socket.into();
        let connect = service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is never used: each connection is the socket's.
        let endpoint = Endpoint::from_static("http://localhost").timeout(PATIENCE);
        let channel = runtime.block_on(async { endpoint.connect_with_connector_lazy(connect) });
        Self { runtime, channel }
    }
}

macro_rules! calls {
    ($($call:ident($request:ident) -> $response:ident;)*) => {
        impl Cri {
            $(pub fn $call(&self, request: $request) -> Answer<$response> {
                let mut client = RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(32 << 20);
                self.runtime.block_on(client.$call(request)).map(tonic::Response::into_inner)
            })*
        }
    };
}

calls! {
    version(VersionRequest) -> VersionResponse;
    status(StatusRequest) -> StatusResponse;
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    create_container(CreateContainerRequest) -> CreateContainerResponse;
    start_container(StartContainerRequest) -> StartContainerResponse;
    stop_container(StopContainerRequest) -> StopContainerResponse;
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    list_containers(ListContainersRequest) -> ListContainersResponse;
    container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    exec(ExecRequest) -> ExecResponse;
    attach(AttachRequest) -> AttachResponse;
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
}

/// What a call answered; nothing, with the reason printed, where this containerd does not know it.
#[track_caller]
pub fn known<T>(call: &str, answer: Answer<T>) -> Option<T> {
    match answer {
        Err(status) if status.code() == Code::Unimplemented => {
            rspawn_tests::skip_unless(false, &format!("this containerd has no {call}: {}", status.message()));
            None
        }
        answer => Some(answer.unwrap_or_else(|status| panic!("{call}: {status}"))),
    }
}
