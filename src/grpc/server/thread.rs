//! One API thread: a current-thread runtime that serves its connections.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport};

use super::{
    ApiThread, ServerError,
    connection::{Arrival, Connection},
    health::Health,
    layers::FrontLayer,
};
use crate::{domain::status::ProcessState, grpc::proto, registry::Registry, watch::Dispatcher};

/// Accepted connections that wait for this thread.
const ARRIVALS_MAX: usize = 128;
/// Calls and streams of one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Streams of one connection that were reset before they were accepted.
const PENDING_RESETS_MAX: usize = 20;
const HEADER_LIST_BYTES_MAX: u32 = 8 * 1024;
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that a peer may send ahead, per stream and per connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type MakeRoutes = dyn Fn(ApiThread) -> Routes + Send + Sync;

pub(super) struct Setup {
    pub(super) index: usize,
    pub(super) registry: Registry<ProcessState>,
    pub(super) routes: Arc<MakeRoutes>,
    pub(super) health: Health,
    pub(super) closing: CancellationToken,
    pub(super) killed: CancellationToken,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

pub(super) struct Started {
    pub(super) inlet: mpsc::Sender<Arrival>,
    /// Told at the end: whether everything ended by itself.
    pub(super) drained: oneshot::Receiver<bool>,
    pub(super) thread: JoinHandle<()>,
}

pub(super) fn start(setup: Setup) -> Result<Started, ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Start)?;
    let (inlet, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let (done, drained) = oneshot::channel();
    let thread = thread::Builder::new()
        .name(format!("api-{}", setup.index))
        .spawn(move || run(runtime, setup, arrivals, done))
        .map_err(ServerError::Start)?;
    Ok(Started {
        inlet,
        drained,
        thread,
    })
}

fn run(
    runtime: Runtime,
    setup: Setup,
    arrivals: mpsc::Receiver<Arrival>,
    done: oneshot::Sender<bool>,
) {
    let clean = runtime.block_on(serve(setup, arrivals));
    // Ends the connections that did not end by themselves. Before `done`, so that
    // after a drain none is left.
    drop(runtime);
    // Nobody listens if the server is dropped without a drain.
    let _ = done.send(clean);
}

/// Serves until closed; whether everything ended by itself then.
async fn serve(setup: Setup, arrivals: mpsc::Receiver<Arrival>) -> bool {
    let dispatcher = Dispatcher::start(setup.registry);
    let routes = (setup.routes)(ApiThread {
        index: setup.index,
        heads: dispatcher.heads(),
        closing: setup.closing.clone(),
    });
    let routes = with_reflection(routes.add_service(setup.health.into_server()));
    let (greeted, connections) = mpsc::channel(ARRIVALS_MAX);
    let greeter = tokio::spawn(greet(arrivals, greeted, setup.tls));
    let serving = builder()
        .layer(FrontLayer {
            own_uid: nix::unistd::geteuid().as_raw(),
        })
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections).map(Ok::<_, std::io::Error>),
            setup.closing.clone().cancelled_owned(),
        );
    let clean = tokio::select! {
        // It fails only where a connection cannot be set up, which ours can.
        served = serving => served.is_ok(),
        () = setup.killed.cancelled() => false,
    };
    greeter.abort();
    clean
}

fn builder() -> transport::Server {
    transport::Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_adaptive_window(Some(false))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
}

/// Greets all connections at once; there are no more than the caps allow.
async fn greet(
    mut arrivals: mpsc::Receiver<Arrival>,
    greeted: mpsc::Sender<Connection>,
    tls: Option<Arc<rustls::ServerConfig>>,
) {
    let mut greetings = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { return };
                greetings.spawn(arrival.greet(tls.clone()));
            }
            Some(outcome) = greetings.join_next() => match outcome {
                Ok(Ok(connection)) => {
                    if greeted.send(connection).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "connection refused"),
                Err(error) => tracing::error!(%error, "a greeting panicked"),
            },
        }
    }
}

/// Reflection of the contract, of health, and of the details of errors (nothing in
/// the contract names their types), in both of its versions.
fn with_reflection(routes: Routes) -> Routes {
    let configure = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    match (configure().build_v1(), configure().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        // The set is compiled in, and a test asks for it.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no reflection: the descriptor set is broken");
            routes
        }
    }
}
