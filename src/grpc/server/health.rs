//! The standard health service, for `""` and the process manager.
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

use crate::{grpc::stream::closed, watch::CloseReason};

/// Services that are reported; the empty name is the server as a whole.
const SERVICES: [&str; 2] = ["", "procession.v1.ProcessManager"];

/// Whether calls should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) struct Health {
    serving: watch::Receiver<Serving>,
    closing: CancellationToken,
}

/// A watch of one service.
struct Watching {
    /// `None`: the service is unknown, and stays so.
    serving: Option<watch::Receiver<Serving>>,
    closing: CancellationToken,
    /// The first answer is due.
    first: bool,
}

// === impl Health ===

impl Health {
    pub(super) fn server(
        serving: watch::Receiver<Serving>,
        closing: CancellationToken,
    ) -> HealthServer<Self> {
        HealthServer::new(Self { serving, closing })
    }
}

#[tonic::async_trait]
impl HealthService for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(answer((*self.serving.borrow()).into())))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let watching = Watching {
            serving: known.then(|| self.serving.clone()),
            closing: self.closing.clone(),
            first: true,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            Some(watching),
            |watching| async { Some(watching?.next().await) },
        ))))
    }
}

// === impl Watching ===

impl Watching {
    /// The next answer; the state of the watch unless it ended.
    async fn next(mut self) -> (Result<HealthCheckResponse, Status>, Option<Self>) {
        let first = std::mem::take(&mut self.first);
        let status = match &mut self.serving {
            None if first => ServingStatus::ServiceUnknown,
            Some(serving) if first => (*serving.borrow_and_update()).into(),
            serving => {
                tokio::select! {
                    // What changed is told before the end.
                    biased;
                    Some(status) = changed(serving) => status,
                    () = self.closing.cancelled() => {
                        return (Err(closed(CloseReason::Shutdown)), None);
                    }
                }
            }
        };
        (Ok(answer(status)), Some(self))
    }
}

async fn changed(serving: &mut Option<watch::Receiver<Serving>>) -> Option<ServingStatus> {
    let serving = serving.as_mut()?;
    serving.changed().await.ok()?;
    Some((*serving.borrow_and_update()).into())
}

// === impl Serving ===

impl From<Serving> for ServingStatus {
    fn from(serving: Serving) -> Self {
        match serving {
            Serving::Yes => Self::Serving,
            Serving::No => Self::NotServing,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
