//! To an OpenTelemetry collector: OTLP logs over gRPC.
//!
//! - A request has at most [`BATCH_RECORDS_MAX`] records and [`BATCH_BYTES_MAX`] bytes,
//!   and waits [`super::limits::BATCH_LINGER`] for more.
//! - What the protocol calls retryable is sent again, after the delay that the
//!   collector asks for (`RetryInfo`) if it does; so is what did not reach it. Anything
//!   else loses the batch, which is counted and told in the daemon's log; so is what it
//!   says it took only in part.
//! - `https` trusts the certificates of the system.
//!
//! Deliberately absent: HTTP bindings, headers, compression.

mod request;

use std::{error::Error, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

use self::request::Resource;
use super::{
    limits::{BATCH_BYTES_MAX, BATCH_LINGER, BATCH_RECORDS_MAX, CONNECT_TIMEOUT, REQUEST_TIMEOUT},
    queue::{Origin, Queue},
    target::{Failure, Target},
};
use crate::domain::spec::OtlpTarget;
use proto::logs_service_client::LogsServiceClient;

/// What a collector is told, generated from `proto/opentelemetry/logs.proto`.
#[allow(missing_debug_implementations, clippy::all, reason = "generated")]
pub mod proto {
    tonic::include_proto!("opentelemetry.proto.collector.logs.v1");
}

/// A collector.
#[derive(Debug)]
pub(super) struct Otlp {
    resource: Resource,
    client: LogsServiceClient<Channel>,
}

// === impl Otlp ===

impl Otlp {
    /// Connects when there is something to send. `None` if the target is not valid.
    pub(super) fn new(target: &OtlpTarget, origin: &Origin) -> Option<Self> {
        let mut endpoint = Endpoint::from_shared(target.endpoint.clone()).ok()?;
        if target.endpoint.starts_with("https://") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).ok()?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("procession/", env!("CARGO_PKG_VERSION")))
            .ok()?;
        Some(Self {
            resource: Resource::of(origin),
            client: LogsServiceClient::new(endpoint.connect_lazy()),
        })
    }
}

impl Target for Otlp {
    const LINGER: (usize, Duration) = (BATCH_RECORDS_MAX, BATCH_LINGER);

    async fn send(&mut self, queue: &mut Queue) -> Result<(), Failure> {
        let (request, count) =
            self.resource
                .request(queue.contents(), BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
        match self.client.export(request).await {
            Ok(response) => {
                let partial = response.into_inner().partial_success.unwrap_or_default();
                let rejected = usize::try_from(partial.rejected_log_records).unwrap_or(0);
                queue.refused(count, rejected.min(count), &partial.error_message);
                Ok(())
            }
            Err(status) if is_retryable(&status) => Err(failure(&status)),
            Err(status) => {
                let why = format!("{:?}: {}", status.code(), status.message());
                queue.refused(count, count, &why);
                Ok(())
            }
        }
    }
}

/// Whether the same request may be taken later, by the table of the OTLP
/// specification ("Failures" of OTLP/gRPC); and whatever has not come from the
/// collector at all.
fn is_retryable(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Without a delay it is about the request, not about the moment.
        Code::ResourceExhausted => retry_after(status).is_some(),
        _ => status.source().is_some(),
    }
}

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// With the innermost reason, which is what people can do something about.
fn failure(status: &Status) -> Failure {
    let mut reason = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        source = error.source();
        if source.is_none() {
            reason = format!("{reason}: {error}");
        }
    }
    Failure {
        retry_after: retry_after(status),
        ..Failure::new(&reason)
    }
}

#[cfg(test)]
mod tests;
