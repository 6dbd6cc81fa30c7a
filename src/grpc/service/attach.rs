//! Attaching to a run.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Status, Streaming};

use super::{ProcessManagerService, ResponseStream, call::Call};
use crate::grpc::{
    attach_service::{self, Context, Opened},
    convert::{Faults, Unacceptable},
    proto::{self, attach_process_request::Payload},
    status,
};

/// How long the first request may take.
const OPEN_MAX: Duration = Duration::from_secs(10);

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) async fn attach(
        &self,
        request: Request<Streaming<proto::AttachProcessRequest>>,
    ) -> Result<ResponseStream<proto::AttachProcessResponse>, Status> {
        let thread = self.thread()?;
        let call = Call::of(&request);
        let mut requests = request.into_inner();
        let first = timeout(OPEN_MAX, requests.message())
            .await
            .map_err(|_| status::deadline())??;
        let Some(Payload::Open(open)) = first.and_then(|first| first.payload) else {
            let problem = "is required in the first request";
            return Err(Unacceptable::field("open", problem).into());
        };
        let mut faults = Faults::default();
        if open.backlog_bytes < 0 {
            faults.add("open.backlog_bytes", "must not be negative");
        }
        let target = self.target(&open.name, open.precondition.as_ref(), faults)?;
        let cause = call.write("AttachProcess", "", &open)?.cause;
        let refused = |refused| self.refused(&refused);
        let live = self.supervisor().open(target, "attach", cause).await;
        let live = live.map_err(refused)?;
        let stdin = match open.stdin {
            true => Some(live.take_stdin().await.map_err(refused)?),
            false => None,
        };
        let context = Context {
            supervisor: self.supervisor().clone(),
            epoch: self.epoch().to_owned(),
            heads: thread.heads.clone(),
            closing: thread.closing.clone(),
        };
        let opened = Opened { live, stdin, open };
        Ok(Box::pin(
            attach_service::attach(context, opened, requests).await?,
        ))
    }
}
