//! `procession.v1.ProcessManager`: each call is converted, carried out by the
//! supervisor, and converted back.
//!
//! Every answer has the position at which it is true: a read that of its state, a
//! write that of what it did. Deliberately absent: authorization (a layer before
//! this), policy (the supervisor's), and anything a process does.

mod attach;
mod batch;
mod call;
mod configure;
mod control;
mod earlier;
mod explain;
mod read;
mod rpc;
mod stdin;
#[cfg(test)]
mod tests;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use tokio::sync::watch;
use tonic::{Request, Status};

use self::{call::Call, earlier::EarlierBatches};
use super::{
    auth::Principal,
    convert::Unacceptable,
    dedupe::Dedupe,
    logs_service::{self, Subject},
    mask::Mask,
    page::Pages,
    proto::{self, process_manager_server::ProcessManagerServer},
    selector,
    server::{ApiThread, REQUEST_BYTES_MAX},
    status::{self, Reason},
    watch_service::{self, Streams, WatchContext},
};
use crate::{
    domain::{id::Revision, time::Timestamp},
    store::{self, Health},
    supervisor::{Clock, Refused, Supervisor, wall_now},
    watch::Lineage,
};

/// Processes of one batch, and names of one batch read.
pub const BATCH_PROCESSES_MAX: usize = 1000;
/// Bytes of the processes of one batch read.
pub const BATCH_GET_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Events of one explanation.
pub const EXPLAIN_EVENTS_MAX: usize = 100;

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Every process is stopped first.
    Stop,
    /// The processes are left to the next daemon.
    Keep,
    /// As `Keep`, and the next daemon is the program now installed.
    Reexec,
}

/// What would outlive a crash of the daemon.
#[derive(Debug, Clone)]
pub struct Durability {
    /// Everything up to here.
    pub durable: watch::Receiver<Revision>,
    /// Whether more can be kept.
    pub health: watch::Receiver<Health>,
}

/// What becomes of processes that a configuration file does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// They stay.
    Nothing,
    /// They are deleted.
    All,
}

/// What the composition root hands to the service.
#[derive(Clone)]
pub struct Setup {
    /// Carries everything out.
    pub supervisor: Supervisor,
    /// This epoch and its ancestors.
    pub lineage: Arc<Lineage>,
    /// What would outlive a crash.
    pub durability: Durability,
    /// Requests that an earlier run of the daemon carried out.
    pub remembered: Vec<store::Request>,
    /// All open streams.
    pub streams: Arc<Streams>,
    /// Stable over restarts of the daemon.
    pub instance_id: Arc<str>,
    /// The daemon's clocks.
    pub clock: Clock,
    /// When the daemon started.
    pub started: Timestamp,
    /// Optional features that this daemon has, e.g. `cgroup`.
    pub capabilities: Vec<String>,
    /// Limits of other layers, to be told with those of the domain and the
    /// service, e.g. `watch_streams_max`.
    pub limits: Vec<(&'static str, i64)>,
    /// Begins the end of the daemon in one of the modes; returns at once.
    pub shutdown: Arc<dyn Fn(Shutdown) + Send + Sync>,
}

/// The service; clones share one memory of requests and lists.
#[derive(Clone)]
pub struct ProcessManagerService {
    shared: Arc<Shared>,
    /// Where streams are served; a service without one serves none.
    thread: Option<ApiThread>,
}

struct Shared {
    setup: Setup,
    dedupe: Arc<Dedupe>,
    earlier: EarlierBatches,
    pages: Pages,
}

/// A stream of responses.
pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Setup ===

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("supervisor", &self.supervisor)
            .field("lineage", &self.lineage)
            .finish_non_exhaustive()
    }
}

// === impl ProcessManagerService ===

impl fmt::Debug for ProcessManagerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared.setup, f)
    }
}

impl ProcessManagerService {
    /// A service over `setup`, not yet on an API thread.
    #[must_use]
    pub fn new(mut setup: Setup) -> Self {
        let remembered = std::mem::take(&mut setup.remembered);
        let mut shared = Shared {
            setup,
            dedupe: Arc::default(),
            earlier: EarlierBatches::default(),
            pages: Pages::default(),
        };
        for request in remembered {
            shared.remember(&request);
        }
        Self {
            shared: Arc::new(shared),
            thread: None,
        }
    }

    /// The same service, for `thread`.
    #[must_use]
    pub fn on(&self, thread: ApiThread) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            thread: Some(thread),
        }
    }

    /// To be added to the routes; refuses what is too large.
    #[must_use]
    pub fn into_server(self) -> ProcessManagerServer<Self> {
        ProcessManagerServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    fn thread(&self) -> Result<&ApiThread, Status> {
        self.thread.as_ref().ok_or_else(|| {
            let delay = Duration::from_secs(1);
            status::retry_later(Reason::Starting, "the daemon is starting", delay)
        })
    }

    fn setup(&self) -> &Setup {
        &self.shared.setup
    }

    fn epoch(&self) -> &str {
        &self.setup().lineage.epoch
    }

    fn supervisor(&self) -> &Supervisor {
        &self.setup().supervisor
    }

    fn head(&self) -> Revision {
        self.supervisor().registry().head()
    }

    fn header(&self, revision: Revision) -> Option<proto::ResponseHeader> {
        Some(proto::ResponseHeader {
            epoch: self.epoch().to_owned(),
            revision: revision.get(),
        })
    }

    fn refused(&self, refused: &Refused) -> Status {
        status::refused(refused, self.epoch())
    }

    fn shut_down(&self, mode: i32) -> Result<proto::ShutdownServerResponse, Status> {
        use proto::ShutdownMode as Mode;
        let shutdown = match Mode::try_from(mode) {
            Ok(Mode::Unspecified | Mode::StopProcesses) => Shutdown::Stop,
            Ok(Mode::KeepProcesses) => Shutdown::Keep,
            Ok(Mode::Reexec) => Shutdown::Reexec,
            Err(_) => return Err(Unacceptable::field("mode", "is no known value").into()),
        };
        let header = self.header(self.head());
        (self.setup().shutdown)(shutdown);
        Ok(proto::ShutdownServerResponse { header })
    }

    fn tail_logs(
        &self,
        request: proto::TailLogsRequest,
    ) -> Result<ResponseStream<proto::TailLogsResponse>, Status> {
        let registry = self.supervisor().registry().clone();
        let resolve = move |selector: &proto::ProcessSelector| {
            let filter = selector::filter(Some(selector))?;
            let mut found = Vec::new();
            for node in registry.snapshot().nodes {
                if filter.matches(node.body()) {
                    found.push(Subject {
                        name: node.body().name().clone(),
                        uid: node.uid(),
                        created: node.body().spec.created,
                    });
                }
            }
            Ok(found)
        };
        let thread = self.thread()?;
        let (heads, closing) = (thread.heads.clone(), thread.closing.clone());
        let stream =
            logs_service::tail(self.supervisor().logs(), resolve, heads, request, closing)?;
        Ok(Box::pin(stream))
    }

    fn watch(
        &self,
        request: Request<proto::WatchProcessesRequest>,
    ) -> Result<ResponseStream<proto::WatchProcessesResponse>, Status> {
        let (setup, thread) = (self.setup(), self.thread()?);
        let context = WatchContext {
            registry: setup.supervisor.registry().clone(),
            lineage: Arc::clone(&setup.lineage),
            heads: thread.heads.clone(),
            closing: thread.closing.clone(),
            streams: Arc::clone(&setup.streams),
            now: wall_now,
        };
        let principal = Principal(Call::of(&request).principal);
        let message = request.into_inner();
        let mask = Mask::parse(message.read_mask.as_ref()).map_err(Unacceptable::Fields)?;
        watch_service::watch(&context, &principal, &message, mask)
    }
}
