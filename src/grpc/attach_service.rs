//! `AttachProcess`: the standard streams and signals of one run, as one stream.
//!
//! ```text
//! requests -> Input (a task) -> stdin, signals of the run
//! captured output -> Attachment -> opened, output, ..., exit
//! ```
//!
//! Output comes from the log and not from the run, so a client that reads slowly
//! holds nobody up, and what retention removed meanwhile is told as lost. Lines are
//! handed on to their last byte as soon as they are captured; a last line without
//! its end gets one when the run is over. Invariants: the exit is the last message,
//! after all that the run wrote; input goes on while output waits for its reader,
//! and the other way round; nothing is queued but one read.

mod backlog;
mod input;
mod output;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use self::output::Attachment;
use super::proto::{self, attach_process_response::Payload};
use crate::{
    domain::id::Revision,
    supervisor::{LiveProcess, StdinTurn, Supervisor},
};

/// Bytes of one piece of stdin.
pub(super) const STDIN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of output that are replayed at most.
pub(super) const BACKLOG_BYTES_MAX: i64 = 1024 * 1024;

/// What an attachment works with.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) supervisor: Supervisor,
    pub(super) epoch: String,
    /// Ticks with each change of any process.
    pub(super) heads: watch::Receiver<Revision>,
    pub(super) closing: CancellationToken,
}

/// Who is attached to what.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) live: LiveProcess,
    pub(super) stdin: Option<StdinTurn>,
    pub(super) open: proto::AttachOpen,
}

/// Serves one call whose first request has been carried out.
pub(super) async fn attach(
    context: Context,
    opened: Opened,
    requests: Streaming<proto::AttachProcessRequest>,
) -> Result<impl Stream<Item = Result<proto::AttachProcessResponse, Status>> + Send + 'static, Status>
{
    if let Some(size) = opened.open.terminal_size {
        input::resize(&opened.live, size).await?;
    }
    let attachment = Attachment::open(context, opened, requests)?;
    Ok(stream::unfold(attachment, |mut attachment| async move {
        let item = attachment.next().await?;
        Some((item.map(response), attachment))
    }))
}

fn response(payload: Payload) -> proto::AttachProcessResponse {
    proto::AttachProcessResponse {
        payload: Some(payload),
    }
}
