//! `WatchProcesses`: a subscription on the wire.
//!
//! Everything that can be refused is refused before the first header. A stream
//! that is ended on purpose says `closing`, then UNAVAILABLE; a lost one
//! OUT_OF_RANGE. The stream counts against its limits until it is dropped.
//!
//! Deliberately absent: what a subscriber is told and when (`watch`), the
//! conversion of a process (the caller's [`View`]).

mod encode;
mod request;
mod streams;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::encode::Encoder;
pub use self::streams::{STREAMS_MAX, STREAMS_PER_PRINCIPAL_MAX, StreamGuard, Streams};
use super::{
    auth::Principal,
    proto,
    status::{self, Reason},
    stream::closed,
};
use crate::{
    domain::{status::ProcessState, time::Timestamp},
    registry::{Node, Registry},
    watch::{
        CloseReason, Heads, Lineage, Lost, LostReason, OpenError, Projection, Source, Subscription,
    },
};

/// The answer to a watch.
pub type WatchStream =
    Pin<Box<dyn Stream<Item = Result<proto::WatchProcessesResponse, Status>> + Send>>;

/// Age at which a stream is ended; each draws its own within 10 % of it.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// What a watch needs of this API thread and of the daemon.
#[derive(Clone)]
pub struct WatchContext {
    /// State and log.
    pub registry: Registry<ProcessState>,
    /// This epoch and its ancestors.
    pub lineage: Arc<Lineage>,
    /// This thread's head.
    pub heads: Heads,
    /// Cancelled when streams must end.
    pub closing: CancellationToken,
    /// All open streams.
    pub streams: Arc<Streams>,
    /// The wall clock, for display.
    pub now: fn() -> Timestamp,
}

/// What of a process the caller asked for: a parsed read mask.
pub trait View: Send + 'static {
    /// The process under the mask, with name, uid, version and revision.
    fn show(&self, node: &Arc<Node<ProcessState>>) -> proto::Process;

    /// Whether the two states, of one uid, differ under the mask in more than
    /// version and revision.
    fn touches(&self, before: &Arc<Node<ProcessState>>, after: &Arc<Node<ProcessState>>) -> bool;

    /// Text that is the same for the same mask.
    fn canonical(&self) -> String;
}

/// The subscription's idea of a view.
struct Shown<V>(V);

/// A stream's state; its guard goes with it.
struct Watching<V: View> {
    subscription: Subscription<Shown<V>>,
    encoder: Encoder,
    /// The status that follows the message just sent.
    ending: Option<Status>,
    _guard: StreamGuard,
}

/// Opens a watch for `principal`, whose mask the caller has parsed to `view`.
///
/// # Errors
/// INVALID_ARGUMENT for a bad selector, mode, policy, token or revision;
/// OUT_OF_RANGE for a token that cannot be honoured under RESET_POLICY_FAIL;
/// RESOURCE_EXHAUSTED for too many streams; UNAVAILABLE while shutting down.
pub fn watch(
    context: &WatchContext,
    principal: &Principal,
    request: &proto::WatchProcessesRequest,
    view: impl View,
) -> Result<WatchStream, Status> {
    let options = request::options(request, &view.canonical(), age())?;
    if context.closing.is_cancelled() {
        return Err(closed(CloseReason::Shutdown));
    }
    let guard = context.streams.open(principal)?;
    let encoder = Encoder {
        epoch: context.lineage.epoch.clone(),
        scope: options.scope.clone(),
        heartbeat: options.heartbeat,
        mode: options.mode,
        now: context.now,
    };
    let source = Source {
        registry: context.registry.clone(),
        lineage: Arc::clone(&context.lineage),
        heads: context.heads.clone(),
        closing: context.closing.clone(),
    };
    let subscription = Subscription::open(source, options, Shown(view))
        .map_err(|error| open_status(error, &context.lineage))?;
    let watching = Watching {
        subscription,
        encoder,
        ending: None,
        _guard: guard,
    };
    Ok(Box::pin(stream::unfold(Some(watching), |watching| async {
        watching?.next().await
    })))
}

// === impl Watching ===

impl<V: View> Watching<V> {
    async fn next(
        mut self,
    ) -> Option<(Result<proto::WatchProcessesResponse, Status>, Option<Self>)> {
        if let Some(status) = self.ending.take() {
            return Some((Err(status), None));
        }
        match self.subscription.next().await? {
            Ok(message) => {
                let (response, reason) = self.encoder.response(message);
                self.ending = reason.map(closed);
                Some((Ok(response), Some(self)))
            }
            Err(lost) => Some((Err(lost_status(lost, &self.encoder.epoch)), None)),
        }
    }
}

// === impl Shown ===

impl<V: View> Projection for Shown<V> {
    type Shown = proto::Process;

    fn show(&self, node: &Arc<Node<ProcessState>>) -> proto::Process {
        self.0.show(node)
    }

    fn identity(&self, node: &Arc<Node<ProcessState>>) -> proto::Process {
        proto::Process {
            name: node.body().name().to_string(),
            uid: node.uid().to_string(),
            version: node.version(),
            revision: node.revision().get(),
            ..Default::default()
        }
    }

    fn is_same(&self, before: &Arc<Node<ProcessState>>, after: &Arc<Node<ProcessState>>) -> bool {
        !self.0.touches(before, after)
    }

    fn size(&self, shown: &proto::Process) -> usize {
        prost::Message::encoded_len(shown)
    }
}

impl fmt::Debug for WatchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchContext")
            .field("lineage", &self.lineage)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// A stream's age of its own, so that streams opened together do not end together.
fn age() -> Duration {
    let spread = f64::from(rand_u32()) / f64::from(u32::MAX);
    AGE_MAX.mul_f64(0.9 + 0.2 * spread)
}

fn rand_u32() -> u32 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn open_status(error: OpenError, lineage: &Lineage) -> Status {
    match error {
        OpenError::InFuture { asked, head } => status::plain(
            Reason::RevisionInFuture,
            format!("resume_token.revision {asked} is not published; the head is {head}"),
            [
                ("head_revision", head.to_string()),
                ("epoch", lineage.epoch.to_string()),
            ],
        ),
        OpenError::Lost(lost) => lost_status(lost, &lineage.epoch),
    }
}

fn lost_status(lost: Lost, epoch: &str) -> Status {
    let reason = match lost.reason {
        LostReason::EpochChanged => Reason::EpochChanged,
        LostReason::HistoryTrimmed => Reason::HistoryTrimmed,
        LostReason::Lagged => Reason::Lagged,
        LostReason::ScopeChanged => Reason::ScopeChanged,
    };
    status::plain(
        reason,
        format!("{lost}; watch again without a resume token"),
        [
            ("oldest_resumable_revision", lost.oldest.to_string()),
            ("epoch", epoch.to_owned()),
        ],
    )
}
