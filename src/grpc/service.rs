//! `procession.v1.ProcessManager`: each call is converted, carried out by the
//! supervisor, and converted back.
//!
//! Every answer has the position at which it is true: a read that of its state, a
//! write that of what it did. Deliberately absent: authorization (a layer before
//! this), policy (the supervisor's), and anything a process does.

mod batch;
mod call;
mod configure;
mod control;
mod explain;
mod read;
mod rpc;
#[cfg(test)]
mod tests;

use std::{fmt, pin::Pin, sync::Arc};

use futures_util::Stream;
use tonic::{Request, Status};

use super::{convert::Unacceptable, dedupe::Dedupe, page::Pages, proto, status};
use crate::{
    domain::{id::Revision, time::Timestamp},
    supervisor::{Clock, Refused, Supervisor},
};

/// Bytes of one request; the server refuses larger ones.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Processes of one batch, and names of one batch read.
pub const BATCH_PROCESSES_MAX: usize = 1000;
/// Bytes of the processes of one batch read.
pub const BATCH_GET_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Events of one explanation.
pub const EXPLAIN_EVENTS_MAX: usize = 100;

/// What the composition root hands to the service.
#[derive(Clone)]
pub struct Setup {
    /// Carries everything out.
    pub supervisor: Supervisor,
    /// UUID of this daemon run, lower case.
    pub epoch: Arc<str>,
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
    /// Begins a shutdown that stops every process; returns at once.
    pub shutdown: Arc<dyn Fn() + Send + Sync>,
}

/// The service; cheap to clone.
#[derive(Clone)]
pub struct ProcessManagerService {
    setup: Arc<Setup>,
    dedupe: Arc<Dedupe>,
    pages: Arc<Pages>,
}

/// A stream of responses.
pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Setup ===

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("supervisor", &self.supervisor)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

// === impl ProcessManagerService ===

impl fmt::Debug for ProcessManagerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.setup, f)
    }
}

impl ProcessManagerService {
    /// A service over `setup`.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup: Arc::new(setup),
            dedupe: Arc::default(),
            pages: Arc::default(),
        }
    }

    fn supervisor(&self) -> &Supervisor {
        &self.setup.supervisor
    }

    fn head(&self) -> Revision {
        self.supervisor().registry().head()
    }

    fn header(&self, revision: Revision) -> Option<proto::ResponseHeader> {
        Some(proto::ResponseHeader {
            epoch: self.setup.epoch.to_string(),
            revision: revision.get(),
        })
    }

    fn refused(&self, refused: &Refused) -> Status {
        status::refused(refused, &self.setup.epoch)
    }

    fn shut_down(&self, mode: i32) -> Result<proto::ShutdownServerResponse, Status> {
        match proto::ShutdownMode::try_from(mode) {
            Ok(proto::ShutdownMode::Unspecified | proto::ShutdownMode::StopProcesses) => {
                let header = self.header(self.head());
                (self.setup.shutdown)();
                Ok(proto::ShutdownServerResponse { header })
            }
            Ok(proto::ShutdownMode::KeepProcesses) => {
                Err(status::capability_missing("keep_processes", "mode"))
            }
            Ok(proto::ShutdownMode::Reexec) => Err(status::capability_missing("reexec", "mode")),
            Err(_) => Err(Unacceptable::field("mode", "is no known value").into()),
        }
    }

    fn tail_logs(
        &self,
        _: Request<proto::TailLogsRequest>,
    ) -> Result<ResponseStream<proto::TailLogsResponse>, Status> {
        Err(status::capability_missing("logs", "TailLogs"))
    }

    fn watch(
        &self,
        _: Request<proto::WatchProcessesRequest>,
    ) -> Result<ResponseStream<proto::WatchProcessesResponse>, Status> {
        Err(status::capability_missing("watch", "WatchProcesses"))
    }
}
