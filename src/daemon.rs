//! L5, the composition root: builds the parts, starts the threads, ends them.
//!
//! ```text
//! thread            runs                                   loads published state
//! supervision       owner tasks (one current-thread rt)    yes
//! api-0..N          the gRPC service (one rt each)         yes
//! accept            accepts and deals connections          no
//! store             writes what must outlive the daemon    no
//! logs              reads pipes                            no
//! spawner           starts and reaps shims                 no
//! forward           sends copies of output                 no
//! names, 0 to 8     look up addresses to send to           no
//! files, 0 to 2     look at run directories                no
//! ```
//!
//! Threads that load published state are few by design: each makes every write a
//! little dearer. Deliberately absent: what is done on signals (`cli::serve`,
//! `cli::up`).

mod forwarding;
mod recorder;
mod recovery;
mod state_dir;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use self::state_dir::{Holder, StateDirError, holder};
use self::{
    forwarding::Forwarding, recorder::Recorder, recovery::Inheritance, state_dir::StateDir,
};
pub use crate::grpc::service::{Prune, Shutdown};
use crate::{
    config::Config,
    domain::{id::Uid, status::Cause},
    grpc::{
        convert::durable::ProtoCodec,
        server::{
            ApiThread, ConnectionLimits, Running, Server, ServerConfig, ServerError, TcpConfig,
            UnixConfig,
        },
        service::{Durability, ProcessManagerService, Setup as ServiceSetup},
        watch_service::{STREAMS_MAX, STREAMS_PER_PRINCIPAL_MAX, Streams},
    },
    logs::{Limits as LogLimits, Logs},
    runner::{Dirs, RunnerError, ShimRunner, cgroups_available, read_boot_id},
    store::{self, Store},
    supervisor::{Clock, Processes, Recovery, Setup, Supervisor},
};

/// Threads that look at run directories and clear them away, and how long one waits
/// for more to do.
const FILE_THREADS_MAX: usize = 2;
const FILE_THREAD_IDLE: Duration = Duration::from_secs(1);

/// How long a drain of connections may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The same where another daemon takes over: until then nobody answers, and whoever is
/// cut off resumes there.
const HANDOVER_DRAIN_MAX: Duration = Duration::from_millis(500);

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
    shutdown_asked: Arc<watch::Sender<Option<Shutdown>>>,
    supervision: Supervision,
    recorder: Recorder,
    forwarding: Forwarding,
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
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
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
    pub async fn start(options: Options) -> Result<Self, DaemonError> {
        let state_dir = StateDir::open(&options.state_dir, new_uuid)?;
        let bound = Server::bind(ServerConfig {
            unix: Some(options.socket),
            tcp: options.tcp,
            api_threads: options.api_threads,
            limits: ConnectionLimits::default(),
        })?;
        let (store, inheritance) = begin_epoch(&options.state_dir).await?;
        let supervision = Supervision::start()?;
        let clock = Clock::start();
        let registry = inheritance.registry;
        let dirs = Dirs::below(&options.state_dir);
        let runner = Arc::new(ShimRunner::new(dirs.clone())?);
        let recorder = Recorder::new(
            store,
            registry.clone(),
            Arc::<ShimRunner>::clone(&runner),
            inheritance.known,
        );
        supervision.runtime.spawn(recorder.clone().run());
        let (logs, forwarding) = open_logs(dirs.logs, &registry, &inheritance.recovery)?;
        let supervisor = Supervisor::new(Setup {
            registry: registry.clone(),
            runtime: supervision.runtime.clone(),
            runner,
            logs,
            clock,
            base_env: std::env::vars_os().collect(),
            new_uid: || Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes()),
            intents: Arc::new(recorder.clone()),
        });
        for (name, error) in supervisor.recover(inheritance.recovery) {
            tracing::error!(process = %name, %error, "a process could not be taken over");
        }
        let shutdown_asked = Arc::new(watch::Sender::new(None));
        let shutdown = Arc::clone(&shutdown_asked);
        let service = ProcessManagerService::new(ServiceSetup {
            supervisor: supervisor.clone(),
            lineage: Arc::new(inheritance.lineage),
            remembered: inheritance.requests,
            durability: Durability {
                durable: recorder.durable(),
                health: recorder.health(),
            },
            streams: Arc::new(Streams::default()),
            instance_id: state_dir.instance_id.as_str().into(),
            clock,
            started: clock.now().wall,
            capabilities: capabilities(),
            limits: limits(),
            shutdown: Arc::new(move |how| {
                shutdown.send_replace(Some(how));
            }),
        });
        let served = service.clone();
        let routes = move |thread: ApiThread| Routes::new(served.on(thread).into_server());
        let server = bound.serve(&registry, &recorder.health(), routes)?;
        Ok(Self {
            supervisor,
            service,
            server,
            shutdown_asked,
            supervision,
            recorder,
            forwarding,
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

    /// Tells when a caller asks the daemon to end, and how.
    #[must_use]
    pub fn shutdown_asked(&self) -> watch::Receiver<Option<Shutdown>> {
        self.shutdown_asked.subscribe()
    }

    /// Applies a configuration file, all of it or nothing, and then prunes.
    ///
    /// # Errors
    /// The status that a client would get.
    pub async fn apply(&self, config: Config, prune: Prune) -> Result<(), tonic::Status> {
        self.service
            .apply_config(config.processes, config.groups, prune, Cause::CONFIG)
            .await
    }

    /// Health answers NOT_SERVING from now on.
    pub fn announce_shutdown(&self) {
        self.server.announce_shutdown();
    }

    /// Ends serving and the threads, and keeps what is not kept yet. `how` says what
    /// became of the processes before; this changes nothing about them.
    pub async fn end(self, how: Shutdown) {
        let Self {
            server,
            supervision,
            recorder,
            forwarding,
            _state_dir,
            ..
        } = self;
        let drain_max = match how {
            Shutdown::Stop => DRAIN_MAX,
            Shutdown::Keep | Shutdown::Reexec => HANDOVER_DRAIN_MAX,
        };
        if !server.shutdown(drain_max).await {
            tracing::warn!("some connections were cut");
        }
        drop(supervision);
        let ended = tokio::task::spawn_blocking(move || {
            forwarding.end();
            recorder.end(how == Shutdown::Stop);
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the store did not end in good order");
        }
    }
}

// === impl Supervision ===

impl Supervision {
    fn start() -> Result<Self, DaemonError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For looks at run directories: few, short, and seldom.
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_keep_alive(FILE_THREAD_IDLE)
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

/// Opens the store and notes that another run of the daemon begins.
async fn begin_epoch(directory: &Path) -> Result<(Store, Inheritance), DaemonError> {
    let options = store::Options::default();
    let (store, recovered) = Store::open(directory, Arc::new(ProtoCodec), options)?;
    let (epoch, boot) = (new_uuid(), read_boot_id()?);
    let inheritance = recovery::inherit(recovered, &epoch, &boot);
    // A position in this run is told to nobody before the run is kept.
    if let Err(error) = store.begin_epoch(&epoch, &boot).await {
        tracing::error!(%error, "this run of the daemon is not kept");
    }
    Ok((store, inheritance))
}

/// Output that is kept, and its forwarding, before the first run can end.
fn open_logs(
    root: PathBuf,
    registry: &Processes,
    recovery: &Recovery,
) -> io::Result<(Logs, Forwarding)> {
    let logs = Logs::new(root, LogLimits::default())?;
    clear_away_logs(&logs, recovery);
    let forwarding = Forwarding::start(registry.clone(), logs.clone())?;
    Ok((logs, forwarding))
}

/// Output of processes that are gone; nothing goes while it is not sure who is.
fn clear_away_logs(logs: &Logs, recovery: &Recovery) {
    if !recovery.complete {
        return;
    }
    let kept: Vec<Uid> = recovery.processes.iter().map(|p| p.uid).collect();
    if let Err(error) = logs.retain_only(&kept) {
        tracing::warn!(%error, "output of processes that are gone stays");
    }
}

/// What this daemon can do beyond the calls themselves.
fn capabilities() -> Vec<String> {
    let always = [
        "attach",
        "explain",
        "log_forwards",
        "pause",
        "request_id",
        "run_as",
        "stdin",
        "tail_logs",
        "tty",
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
    let counts = [
        ("connections_max", ConnectionLimits::default().total_max),
        ("watch_streams_max", STREAMS_MAX),
        ("watch_streams_per_principal_max", STREAMS_PER_PRINCIPAL_MAX),
    ];
    let logs = LogLimits::default().total_bytes;
    let logs = i64::try_from(logs).unwrap_or(i64::MAX);
    counts
        .map(|(name, max)| (name, i64::try_from(max).unwrap_or(i64::MAX)))
        .into_iter()
        .chain([("logs_total_bytes_max", logs)])
        .collect()
}

fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
