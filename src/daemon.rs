//! L5, the composition root: builds the parts, starts the threads, ends them.
//!
//! ```text
//! thread            runs                                   loads published state
//! supervision       owner tasks (one current-thread rt)    yes
//! api-0..N          the gRPC service (one rt each)         yes
//! accept            accepts and deals connections          no
//! logs              reads pipes                            no
//! spawner           starts and reaps shims                 no
//! ```
//!
//! Threads that load published state are few by design: each makes every write a
//! little dearer. Deliberately absent: what is done on signals (`cli::serve`,
//! `cli::up`), durable state.

mod state_dir;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::state_dir::StateDir;
pub use self::state_dir::StateDirError;
use crate::{
    config::Config,
    domain::{
        id::{Revision, Uid},
        status::Cause,
    },
    grpc::{
        server::{
            ApiThread, ConnectionLimits, Running, Server, ServerConfig, ServerError, TcpConfig,
            UnixConfig,
        },
        service::{ProcessManagerService, Setup as ServiceSetup},
        watch_service::{STREAMS_MAX, STREAMS_PER_PRINCIPAL_MAX, Streams},
    },
    logs::{Limits as LogLimits, Logs, limits::BUFFER_BYTES_MAX},
    registry::{Limits, Registry},
    runner::{RunnerError, ShimRunner, cgroups_available},
    supervisor::{Clock, Setup, Supervisor},
    watch::Lineage,
};

/// How long a drain of connections may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What a daemon is started with; everything is resolved.
#[derive(Debug, Clone)]
pub struct Options {
    /// Unix socket to serve on.
    pub socket: UnixConfig,
    /// TCP listener, if any.
    pub tcp: Option<TcpConfig>,
    /// Directory of this daemon alone.
    pub state_dir: PathBuf,
    /// Threads that serve the API.
    pub api_threads: usize,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    supervisor: Supervisor,
    service: ProcessManagerService,
    server: Running,
    shutdown_asked: CancellationToken,
    supervision: Supervision,
    _state_dir: StateDir,
}

/// The thread of the owner tasks.
#[derive(Debug)]
struct Supervision {
    runtime: tokio::runtime::Handle,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no daemon. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The listeners.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The runner.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

// === impl Daemon ===

impl Daemon {
    /// Starts everything; the daemon serves when this returns.
    ///
    /// # Errors
    /// [`DaemonError`]; what was started is ended again.
    pub fn start(options: Options) -> Result<Self, DaemonError> {
        let state_dir = StateDir::open(&options.state_dir, new_uuid)?;
        let bound = Server::bind(ServerConfig {
            unix: Some(options.socket),
            tcp: options.tcp,
            api_threads: options.api_threads,
            limits: ConnectionLimits::default(),
            drain_max: DRAIN_MAX,
        })?;
        let supervision = Supervision::start()?;
        let clock = Clock::start();
        let registry = Registry::new(Limits::default(), Revision::ZERO);
        let supervisor = Supervisor::new(Setup {
            registry: registry.clone(),
            runtime: supervision.runtime.clone(),
            runner: Arc::new(ShimRunner::new()?),
            logs: Logs::new(LogLimits::default())?,
            clock,
            base_env: std::env::vars_os().collect(),
            new_uid: || Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes()),
        });
        let shutdown_asked = CancellationToken::new();
        let shutdown = shutdown_asked.clone();
        let service = ProcessManagerService::new(ServiceSetup {
            supervisor: supervisor.clone(),
            lineage: Arc::new(Lineage {
                epoch: new_uuid().into(),
                ancestors: Vec::new(),
            }),
            streams: Arc::new(Streams::default()),
            instance_id: state_dir.instance_id.as_str().into(),
            clock,
            started: clock.now().wall,
            capabilities: capabilities(),
            limits: limits(),
            shutdown: Arc::new(move || shutdown.cancel()),
        });
        let served = service.clone();
        let routes = move |thread: ApiThread| Routes::new(served.on(thread).into_server());
        let server = bound.serve(&registry, routes)?;
        Ok(Self {
            supervisor,
            service,
            server,
            shutdown_asked,
            supervision,
            _state_dir: state_dir,
        })
    }

    /// The supervisor.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &crate::grpc::server::Addresses {
        self.server.addresses()
    }

    /// Cancelled when a caller asks the daemon to end.
    #[must_use]
    pub fn shutdown_asked(&self) -> &CancellationToken {
        &self.shutdown_asked
    }

    /// Applies a configuration file, all of it or nothing.
    ///
    /// # Errors
    /// The status that a client would get.
    pub async fn apply(&self, config: Config) -> Result<(), tonic::Status> {
        self.service
            .apply_config(config.processes, config.groups, Cause::CONFIG)
            .await
    }

    /// Health answers NOT_SERVING from now on.
    pub fn announce_shutdown(&self) {
        self.server.announce_shutdown();
    }

    /// Ends serving and the threads. Processes must have been stopped before:
    /// runs that still live are stopped by their shims.
    pub async fn end(self) {
        let Self {
            server,
            supervision,
            ..
        } = self;
        if !server.shutdown().await {
            tracing::warn!("some connections were cut");
        }
        drop(supervision);
    }
}

// === impl Supervision ===

impl Supervision {
    fn start() -> Result<Self, DaemonError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = thread::Builder::new()
            .name("supervision".into())
            .spawn(move || runtime.block_on(ended.cancelled()))?;
        Ok(Self {
            runtime: handle,
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Supervision {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// What this daemon can do beyond the calls themselves.
fn capabilities() -> Vec<String> {
    let always = [
        "explain",
        "pause",
        "request_id",
        "run_as",
        "tail_logs",
        "watch_resume",
    ];
    let cgroup = cgroups_available().then_some("cgroup");
    always
        .into_iter()
        .chain(cgroup)
        .map(str::to_owned)
        .collect()
}

/// Limits of what is put together here.
fn limits() -> Vec<(&'static str, i64)> {
    let limits = [
        ("connections_max", ConnectionLimits::default().total_max),
        ("log_buffer_bytes_max", BUFFER_BYTES_MAX),
        ("log_total_bytes_max", LogLimits::default().total_bytes),
        ("watch_streams_max", STREAMS_MAX),
        ("watch_streams_per_principal_max", STREAMS_PER_PRINCIPAL_MAX),
    ];
    limits
        .map(|(name, max)| (name, i64::try_from(max).unwrap_or(i64::MAX)))
        .to_vec()
}

fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
