//! `TailLogs`: a request becomes a stream of entries, gaps and heartbeats.
//!
//! ```text
//! request -> Query (checked) -> Tailing: history (merged by time) -> synced -> live
//! ```
//!
//! - Where a process starts: at its position, if the request has one; else
//!   `backlog_entries` matching lines back; else at its oldest retained entry if
//!   the request resumes, has `since_time` or does not follow; else at its end. A
//!   process that was re-created, or appears later, starts at its first entry.
//! - Positions are strict: what has a higher sequence is sent. A client that saw
//!   only a part of a line resumes before it.
//! - A process that no longer matches is read to its end of that moment and then
//!   rests; if it matches again, it goes on where it stood.
//! - `pattern` is tried on each piece of a line; once one matches, the later pieces
//!   of that line follow.
//! - With `follow`, `until_time` ends the stream once that time has passed.
//!
//! Invariant: nothing is queued for a slow client but the bounded step being sent;
//! what it misses is a gap.

mod filter;
mod history;
mod message;
mod query;
mod tailing;
#[cfg(test)]
mod tests;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::{query::Query, tailing::Tailing};
use super::{
    proto,
    status::{self, Reason},
};
use crate::{
    domain::{
        id::{ProcessName, Revision, Uid},
        spec::FieldError,
        time::Timestamp,
    },
    logs::Logs,
};

/// A process whose output is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub name: ProcessName,
    /// Its incarnation.
    pub uid: Uid,
    /// When that was created.
    pub created: Timestamp,
}

/// Serves one `TailLogs` call.
///
/// `resolve` tells the processes that match a selector and that the caller may
/// see; it is called now, and again after `changed` ticks (at most every 100 ms).
/// `shutdown` ends the stream with `closing` and UNAVAILABLE.
///
/// # Errors
/// INVALID_ARGUMENT `FIELD_INVALID` with the field at fault, or what `resolve`
/// answers.
pub fn tail<R>(
    logs: &Logs,
    resolve: R,
    changed: watch::Receiver<Revision>,
    request: proto::TailLogsRequest,
    shutdown: CancellationToken,
) -> Result<
    impl Stream<Item = Result<proto::TailLogsResponse, Status>> + Send + 'static + use<R>,
    Status,
>
where
    R: Fn(&proto::ProcessSelector) -> Result<Vec<Subject>, Status> + Send + 'static,
{
    let query = Query::parse(request)?;
    let tailing = Tailing::open(logs.reader(), query, resolve, changed, shutdown)?;
    Ok(stream::unfold(tailing, |mut tailing| async move {
        let item = tailing.next().await?;
        Some((item, tailing))
    }))
}

fn field_invalid(field: &str, description: impl Into<String>) -> Status {
    let fault = FieldError {
        field: field.to_owned(),
        problem: description.into(),
    };
    status::invalid(Reason::FieldInvalid, &[fault])
}
