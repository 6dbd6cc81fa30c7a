//! Listeners, and serving on the API threads.
//!
//! ```text
//! accept thread: Unix, TCP --cap, deal round robin--> API thread (1..N)
//! API thread: TLS handshake, preface --> tonic --> panic, size, auth --> routes
//! ```
//!
//! Invariants: `bind` leaves no socket behind if it fails; a living daemon's socket
//! is never replaced. No peer costs more than its caps: connections in total and
//! per user or address, five seconds to become an HTTP/2 connection. An accept
//! error never spins. A drain ends: health says NOT_SERVING first, then streams are
//! told to close, then connections, and what is left when its time is over is dropped.
//!
//! Deliberately absent: what is served (the routes are handed in), the lock of the
//! state directory, reload of certificates.

mod accept;
mod connection;
mod health;
mod layers;
mod limits;
mod thread;
mod tls;
mod unix;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    health::{Health, Serving},
    limits::Connections,
    unix::SocketFile,
};
pub use self::{
    limits::ConnectionLimits,
    tls::{TlsError, TlsFiles},
};
use crate::{domain::status::ProcessState, registry::Registry, store, watch::Heads};

/// Largest request, in bytes; set it on every service that is added to the routes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// API threads at most: readers of the registry are few by design.
pub const API_THREADS_MAX: usize = 4;
/// How long a TCP address may be in use before that is an error.
const IN_USE_MAX: Duration = Duration::from_secs(2);
const IN_USE_LOOK: Duration = Duration::from_millis(10);

/// Where and how to listen. At least one of `unix` and `tcp` is needed.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Unix socket.
    pub unix: Option<UnixConfig>,
    /// TCP listener.
    pub tcp: Option<TcpConfig>,
    /// 1 to [`API_THREADS_MAX`].
    pub api_threads: usize,
    /// Caps of connections.
    pub limits: ConnectionLimits,
}

/// A Unix socket.
#[derive(Debug, Clone)]
pub struct UnixConfig {
    /// Its path; a missing directory is created, closed to others.
    pub path: PathBuf,
    /// Who may connect besides the owner: mode 0660 and this gid instead of 0600.
    pub group: Option<u32>,
}

/// A TCP listener.
#[derive(Debug, Clone)]
pub struct TcpConfig {
    /// Where; port 0 picks a free one.
    pub address: SocketAddr,
    /// How peers prove who they are; `None`: not at all, and in plain text.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// What an API thread has to serve with.
#[derive(Debug, Clone)]
pub struct ApiThread {
    /// From 0.
    pub index: usize,
    /// The head, for subscriptions of this thread.
    pub heads: Heads,
    /// Cancelled when streams must end.
    pub closing: CancellationToken,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No listener is configured.
    #[error("no listener is configured; give a socket path or a TCP address")]
    NoListener,
    /// `api_threads` is out of range.
    #[error("api_threads is {0}; give 1 to {API_THREADS_MAX}")]
    Threads(usize),
    /// Somebody answers at the socket.
    #[error("another daemon serves {}; stop it, or choose another socket", .0.display())]
    Alive(PathBuf),
    /// Something else is in the way.
    #[error("{} exists and is not a socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// A listener could not be set up.
    #[error("cannot listen on {place}: {step}: {source}")]
    Listen {
        /// The path or address.
        place: String,
        /// What failed.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("cannot start an API thread: {0}")]
    Start(io::Error),
}

/// Where a server begins: [`Server::bind`].
#[derive(Debug)]
pub struct Server;

/// Listening, not yet serving.
#[derive(Debug)]
pub struct Bound {
    unix: Option<(UnixListener, SocketFile)>,
    tcp: Option<(TcpListener, Option<Arc<rustls::ServerConfig>>)>,
    config: ServerConfig,
}

/// A serving server. Dropping it without [`Running::shutdown`] ends it at once.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    connections: Arc<Connections>,
    serving: watch::Sender<Serving>,
    closing: CancellationToken,
    /// Ends what a drain did not.
    killed: CancellationToken,
    drained: Vec<tokio::sync::oneshot::Receiver<bool>>,
    threads: Vec<JoinHandle<()>>,
    _socket: Option<SocketFile>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Path of the Unix socket.
    pub unix: Option<PathBuf>,
    /// The TCP address, with its real port.
    pub tcp: Option<SocketAddr>,
}

// === impl Addresses ===

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix = self
            .unix
            .iter()
            .map(|path| format!("unix:{}", path.display()));
        let tcp = self.tcp.iter().map(SocketAddr::to_string);
        f.write_str(&unix.chain(tcp).collect::<Vec<_>>().join(" "))
    }
}

// === impl Server ===

impl Server {
    /// Binds the listeners.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left behind then, but maybe the directory.
    pub fn bind(config: ServerConfig) -> Result<Bound, ServerError> {
        if config.unix.is_none() && config.tcp.is_none() {
            return Err(ServerError::NoListener);
        }
        if !(1..=API_THREADS_MAX).contains(&config.api_threads) {
            return Err(ServerError::Threads(config.api_threads));
        }
        // TCP first: closing it again leaves nothing behind.
        let tcp = match &config.tcp {
            Some(tcp) => Some((bind_tcp(tcp.address)?, tcp.tls.clone())),
            None => None,
        };
        let unix = match &config.unix {
            Some(unix) => Some(unix::bind(&unix.path, unix.group)?),
            None => None,
        };
        Ok(Bound { unix, tcp, config })
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let failed = |step| {
        move |source| ServerError::Listen {
            place: address.to_string(),
            step,
            source,
        }
    };
    let listener = bind_when_free(address).map_err(failed("bind"))?;
    listener
        .set_nonblocking(true)
        .map_err(failed("set non-blocking"))?;
    Ok(listener)
}

/// As `TcpListener::bind`. A shim that a killed daemon was starting holds the address
/// until it executes its program; nothing tells it from a server of somebody else.
fn bind_when_free(address: SocketAddr) -> io::Result<TcpListener> {
    let begun = Instant::now();
    let mut bound = TcpListener::bind(address);
    let is_in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    if bound.as_ref().is_err_and(is_in_use) {
        tracing::info!(%address, "the address is in use; waiting");
    }
    while bound.as_ref().is_err_and(is_in_use) && begun.elapsed() < IN_USE_MAX {
        std::thread::sleep(IN_USE_LOOK);
        bound = TcpListener::bind(address);
    }
    bound
}

// === impl Bound ===

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            unix: self.config.unix.as_ref().map(|unix| unix.path.clone()),
            tcp: self
                .tcp
                .as_ref()
                .and_then(|(listener, _)| listener.local_addr().ok()),
        }
    }

    /// Starts the threads and serves. `routes` is called once on each API thread,
    /// within its runtime; health, also that of `store`, and reflection are added to
    /// what it returns.
    ///
    /// # Errors
    /// [`ServerError::Start`]; what was started is ended again.
    pub fn serve(
        self,
        registry: &Registry<ProcessState>,
        store: &watch::Receiver<store::Health>,
        routes: impl Fn(ApiThread) -> Routes + Send + Sync + 'static,
    ) -> Result<Running, ServerError> {
        let addresses = self.addresses();
        let (unix, socket) = self.unix.unzip();
        let mut running = Running {
            addresses,
            connections: Connections::new(self.config.limits),
            serving: watch::Sender::new(Serving::Yes),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            drained: Vec::new(),
            threads: Vec::new(),
            _socket: socket,
        };
        let (tcp, tls) = self.tcp.unzip();
        let routes: Arc<thread::MakeRoutes> = Arc::new(routes);
        let mut inlets = Vec::new();
        for index in 0..self.config.api_threads {
            let started = thread::start(thread::Setup {
                index,
                registry: registry.clone(),
                routes: Arc::clone(&routes),
                health: Health {
                    serving: running.serving.subscribe(),
                    store: store.clone(),
                    closing: running.closing.clone(),
                },
                closing: running.closing.clone(),
                killed: running.killed.clone(),
                tls: tls.clone().flatten(),
            })?;
            inlets.push(started.inlet);
            running.drained.push(started.drained);
            running.threads.push(started.thread);
        }
        running.threads.push(accept::start(accept::Setup {
            unix,
            tcp,
            connections: Arc::clone(&running.connections),
            inlets,
            closing: running.closing.clone(),
            killed: running.killed.clone(),
        })?);
        Ok(running)
    }
}

// === impl Running ===

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Health answers NOT_SERVING from now on, while everything is still served:
    /// balancers look elsewhere before the drain begins.
    pub fn announce_shutdown(&self) {
        self.serving
            .send_if_modified(|serving| std::mem::replace(serving, Serving::No) != Serving::No);
    }

    /// Drains: no new connections, streams say `closing`, connections end when
    /// their calls do, at the latest after `drain_max`. The socket file is gone
    /// afterwards. Returns whether everything ended by itself.
    pub async fn shutdown(mut self, drain_max: Duration) -> bool {
        self.announce_shutdown();
        self.closing.cancel();
        let drained = join_all(self.drained.drain(..));
        let drained = timeout(drain_max, drained).await;
        drained.is_ok_and(|threads| threads.iter().all(|clean| *clean == Ok(true)))
    }
}

/// Ends what is left, and waits for the threads, which then have nothing to do.
impl Drop for Running {
    fn drop(&mut self) {
        self.announce_shutdown();
        self.closing.cancel();
        self.killed.cancel();
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
