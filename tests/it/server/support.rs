//! A server with a small service, and clients for it.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use procession::{
    domain::{id::Revision, status::ProcessState, time::Timestamp},
    grpc::{
        auth::Principal,
        proto::{
            self, process_manager_client::ProcessManagerClient,
            process_manager_server::ProcessManagerServer,
        },
        server::{
            ApiThread, ConnectionLimits, REQUEST_BYTES_MAX, Running, Server, ServerConfig,
            ServerError, UnixConfig,
        },
        watch_service::{self, Streams, View, WatchContext},
    },
    registry::{Limits, Node, Registry},
    store,
    watch::Lineage,
};
use tempfile::TempDir;
use tokio::{net::UnixStream, sync::watch};
use tonic::{
    Request, Response, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

pub(crate) type Client = ProcessManagerClient<Channel>;

/// Long enough for all that ends by itself.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) registry: Registry<ProcessState>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) store: watch::Sender<store::Health>,
}

/// Answers what the tests ask: the principal as server version, a watch, a panic.
struct Small {
    context: WatchContext,
}

/// Names only.
struct Names;

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        let limits = Limits {
            ring_entries_max: 1000,
            ring_bytes_max: usize::MAX,
            tombstones_max: 1000,
        };
        Self {
            directory: TempDir::new().unwrap(),
            registry: Registry::new(limits, Revision::ZERO),
            streams: Arc::new(Streams::new(100, 2)),
            store: watch::Sender::new(store::Health::Writable),
        }
    }

    /// In a directory that does not exist yet.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("run/api.sock")
    }

    pub(crate) fn config(&self) -> ServerConfig {
        ServerConfig {
            unix: Some(UnixConfig {
                path: self.path(),
                group: None,
            }),
            tcp: None,
            api_threads: 2,
            limits: ConnectionLimits::default(),
        }
    }

    pub(crate) fn serve(&self) -> Running {
        self.serve_with(self.config()).unwrap()
    }

    pub(crate) fn serve_with(&self, config: ServerConfig) -> Result<Running, ServerError> {
        let (registry, streams) = (self.registry.clone(), Arc::clone(&self.streams));
        let store = self.store.subscribe();
        Server::bind(config)?.serve(&self.registry, &store, move |thread: ApiThread| {
            let context = WatchContext {
                registry: registry.clone(),
                lineage: Arc::new(Lineage {
                    epoch: "epoch".into(),
                    ancestors: Vec::new(),
                }),
                heads: thread.heads,
                closing: thread.closing,
                streams: Arc::clone(&streams),
                now: || Timestamp(1),
            };
            Routes::new(
                ProcessManagerServer::new(Small { context })
                    .max_decoding_message_size(REQUEST_BYTES_MAX),
            )
        })
    }

    pub(crate) async fn client(&self) -> Client {
        ProcessManagerClient::new(channel(&self.path()).await)
    }
}

/// A connection of its own over the socket at `path`.
pub(crate) async fn channel(path: &Path) -> Channel {
    try_channel(path).await.unwrap()
}

pub(crate) async fn try_channel(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

pub(crate) async fn principal(client: &mut Client) -> Result<String, Status> {
    let answer = client
        .get_server_info(proto::GetServerInfoRequest {})
        .await?;
    Ok(answer.into_inner().server_version)
}

pub(crate) fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

pub(crate) fn reason(status: &Status) -> String {
    let details = tonic_types::StatusExt::get_error_details(status);
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// Waits for a condition; a test that waits too long has failed.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

// === impl Small ===

type Answer<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl View for Names {
    fn show(&self, node: &Arc<Node<ProcessState>>) -> proto::Process {
        proto::Process {
            name: node.body().name().to_string(),
            ..Default::default()
        }
    }

    fn touches(&self, _: &Arc<Node<ProcessState>>, _: &Arc<Node<ProcessState>>) -> bool {
        true
    }

    fn canonical(&self) -> String {
        "names".into()
    }
}

macro_rules! absent {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl proto::process_manager_server::ProcessManager for Small {
            async fn get_server_info(
                &self,
                request: Request<proto::GetServerInfoRequest>,
            ) -> Answer<proto::GetServerInfoResponse> {
                let principal = request.extensions().get::<Principal>().unwrap();
                Ok(Response::new(proto::GetServerInfoResponse {
                    server_version: principal.0.to_string(),
                    instance_id: std::thread::current().name().unwrap().into(),
                    ..Default::default()
                }))
            }

            async fn get_process(
                &self,
                _: Request<proto::GetProcessRequest>,
            ) -> Answer<proto::GetProcessResponse> {
                panic!("a bug")
            }

            async fn list_processes(
                &self,
                _: Request<proto::ListProcessesRequest>,
            ) -> Answer<proto::ListProcessesResponse> {
                std::future::pending().await
            }

            type WatchProcessesStream = Streaming<proto::WatchProcessesResponse>;
            async fn watch_processes(
                &self,
                request: Request<proto::WatchProcessesRequest>,
            ) -> Answer<Self::WatchProcessesStream> {
                let principal = request.extensions().get::<Principal>().unwrap();
                watch_service::watch(&self.context, principal, request.get_ref(), Names)
                    .map(Response::new)
            }

            type TailLogsStream = Streaming<proto::TailLogsResponse>;
            async fn tail_logs(
                &self,
                _: Request<proto::TailLogsRequest>,
            ) -> Answer<Self::TailLogsStream> {
                Err(Status::unimplemented(""))
            }

            type WatchProcessStatsStream = Streaming<proto::WatchProcessStatsResponse>;
            async fn watch_process_stats(
                &self,
                _: Request<proto::WatchProcessStatsRequest>,
            ) -> Answer<Self::WatchProcessStatsStream> {
                Err(Status::unimplemented(""))
            }

            type AttachProcessStream = Streaming<proto::AttachProcessResponse>;
            async fn attach_process(
                &self,
                _: Request<tonic::Streaming<proto::AttachProcessRequest>>,
            ) -> Answer<Self::AttachProcessStream> {
                Err(Status::unimplemented(""))
            }

            $(async fn $method(&self, _: Request<proto::$request>) -> Answer<proto::$response> {
                Err(Status::unimplemented(""))
            })*
        }
    };
}

absent! {
    create_process(CreateProcessRequest) -> CreateProcessResponse;
    batch_get_processes(BatchGetProcessesRequest) -> BatchGetProcessesResponse;
    update_process(UpdateProcessRequest) -> UpdateProcessResponse;
    apply_process(ApplyProcessRequest) -> ApplyProcessResponse;
    batch_apply_processes(BatchApplyProcessesRequest) -> BatchApplyProcessesResponse;
    delete_process(DeleteProcessRequest) -> DeleteProcessResponse;
    start_process(StartProcessRequest) -> StartProcessResponse;
    stop_process(StopProcessRequest) -> StopProcessResponse;
    restart_process(RestartProcessRequest) -> RestartProcessResponse;
    signal_process(SignalProcessRequest) -> SignalProcessResponse;
    reload_process(ReloadProcessRequest) -> ReloadProcessResponse;
    pause_process(PauseProcessRequest) -> PauseProcessResponse;
    resume_process(ResumeProcessRequest) -> ResumeProcessResponse;
    reset_process(ResetProcessRequest) -> ResetProcessResponse;
    explain_process(ExplainProcessRequest) -> ExplainProcessResponse;
    batch_control_processes(BatchControlProcessesRequest) -> BatchControlProcessesResponse;
    wait_process(WaitProcessRequest) -> WaitProcessResponse;
    write_stdin(WriteStdinRequest) -> WriteStdinResponse;
    get_process_stats(GetProcessStatsRequest) -> GetProcessStatsResponse;
    list_groups(ListGroupsRequest) -> ListGroupsResponse;
    shutdown_server(ShutdownServerRequest) -> ShutdownServerResponse;
}
