//! The standard health service: the server, the process manager, its store.
//!
//! Ours rather than the ready-made one, because its watches end when the server
//! drains, and an unknown service is answered as the protocol says.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthService, HealthServer},
};

use crate::{grpc::stream::closed, store, watch::CloseReason};

/// What is reported besides the server as a whole (`""`): the process manager, and
/// whether it can promise to keep what it is asked for. While the store is read-only
/// the processes are supervised and all that is known is told, so calls are to be
/// sent here; who only has changes to make may look elsewhere.
const SERVICE: &str = "procession.v1.ProcessManager";
const STORE: &str = "procession.v1.ProcessManager/StoreWritable";

/// Whether calls should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    Yes,
    No,
}

#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) serving: watch::Receiver<Serving>,
    pub(super) store: watch::Receiver<store::Health>,
    pub(super) closing: CancellationToken,
}

/// What can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Server,
    Store,
}

/// A watch of one service.
struct Watching {
    /// `None`: the service is unknown, and stays so.
    part: Option<Part>,
    health: Health,
    told: Option<ServingStatus>,
}

// === impl Health ===

impl Health {
    pub(super) fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn status(&self, part: Part) -> ServingStatus {
        let serves = *self.serving.borrow() == Serving::Yes;
        let is_well = match part {
            Part::Server => true,
            Part::Store => matches!(*self.store.borrow(), store::Health::Writable),
        };
        match serves && is_well {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }

    /// Returns when a status may have changed; never if none can any more.
    async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.serving.changed() => {}
            Ok(()) = self.store.changed() => {}
            else => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl HealthService for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let part = Part::named(&request.get_ref().service);
        let part = part.ok_or_else(|| Status::not_found("no such service"))?;
        Ok(Response::new(answer(self.status(part))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching {
            part: Part::named(&request.get_ref().service),
            health: self.clone(),
            told: None,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            Some(watching),
            |watching| async { Some(watching?.next().await) },
        ))))
    }
}

// === impl Part ===

impl Part {
    fn named(service: &str) -> Option<Self> {
        match service {
            "" | SERVICE => Some(Self::Server),
            STORE => Some(Self::Store),
            _ => None,
        }
    }
}

// === impl Watching ===

impl Watching {
    /// The next answer; the state of the watch unless it ended.
    async fn next(mut self) -> (Result<HealthCheckResponse, Status>, Option<Self>) {
        loop {
            let status = self.part.map_or(ServingStatus::ServiceUnknown, |part| {
                self.health.status(part)
            });
            if self.told != Some(status) {
                self.told = Some(status);
                return (Ok(answer(status)), Some(self));
            }
            let closing = self.health.closing.clone();
            tokio::select! {
                // What changed is told before the end.
                biased;
                () = self.health.changed() => {}
                () = closing.cancelled() => {
                    return (Err(closed(CloseReason::Shutdown)), None);
                }
            }
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
