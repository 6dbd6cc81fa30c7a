//! What one subscriber is told: the watch contract as a state machine.
//!
//! ```text
//! open -> opened -+-> [reset] -> snapshot parts -> synced --+-> follow --> closing
//!                 +---- resumed, or without a snapshot -----+    |
//!                        reset (lagged) <------------------------+
//! ```
//!
//! Invariants: each message accounts for `(from, to]` and begins where the one
//! before ended; a reset goes back to 0. The cursor moves only past what was told
//! or did not match, so a message never claims more than its reader knows. Silence
//! never exceeds the heartbeat interval, also while scanning what does not match.
//! Between two messages it holds a cursor; while it sends a snapshot, pointers.
//!
//! Deliberately absent: encoding (the reader's [`Projection`]), authorization,
//! limits on the number of subscriptions. Time is tokio's.

mod classify;
mod clock;
mod message;
mod resume;
mod sending;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{classify::Classifier, clock::Clock, resume::Start, sending::Sending};
pub use self::{
    message::{
        CloseReason, Event, EventKind, Lost, LostReason, Message, Origin, Payload, Projection,
    },
    resume::{Lineage, OpenError, Token},
};
use super::{dispatcher::Heads, filter::Filter};
use crate::{
    domain::{id::Revision, status::ProcessState},
    registry::{Budget, Mode, Read, Registry},
};

/// Bytes of one message, unless a single process is larger.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Processes in one message.
pub const BATCH_PROCESSES_MAX: usize = 512;

/// Where changes come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// State and log.
    pub registry: Registry<ProcessState>,
    /// This epoch and its ancestors.
    pub lineage: Arc<Lineage>,
    /// The head, told by this thread's dispatcher.
    pub heads: Heads,
    /// Cancelled when streams must end.
    pub closing: CancellationToken,
}

/// What the subscriber asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which processes.
    pub filter: Filter,
    /// Every change or the newest state.
    pub mode: Mode,
    /// What to do when history is lost.
    pub policy: Policy,
    /// Longest silence; above 0.
    pub heartbeat: Duration,
    /// [`Mode::LatestState`] only: an update begins at most once per this long.
    pub min_update_interval: Duration,
    /// Without a token: begin at the head.
    pub skip_snapshot: bool,
    /// Continue after this.
    pub resume: Option<Token>,
    /// Names the filter, the projection and what the subscriber may see.
    pub scope: Box<str>,
    /// After this long the stream ends by a closing message.
    pub max_age: Duration,
}

/// What to do when a cursor is no longer covered by the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Tell so and send a new snapshot.
    Resnapshot,
    /// End the stream.
    Fail,
}

/// One subscription. Ask for the next message whenever the reader has room.
pub struct Subscription<P: Projection> {
    source: Source,
    classifier: Classifier<P>,
    mode: Mode,
    policy: Policy,
    stage: Stage<P::Shown>,
    /// Everything up to here is told, or did not match.
    cursor: Revision,
    /// `to` of the latest message.
    told: Revision,
    /// The reader holds the whole state at `cursor`.
    exact: bool,
    /// It was given a whole view to begin with, or claims to have one.
    complete: bool,
    clock: Clock,
}

enum Stage<S> {
    Opening(Start),
    Resetting(Lost),
    Snapshot(Sending<S>),
    Following,
    Closed,
}

/// What a look at the log led to.
enum Pulled<S> {
    Events(Vec<Event<S>>),
    Nothing,
    TooOld(Revision),
}

// === impl Subscription ===

impl<P: Projection> Subscription<P> {
    /// Validates the resume token and stands ready to send `opened`.
    ///
    /// # Errors
    /// [`OpenError`]: the token is in the future, or unusable under
    /// [`Policy::Fail`].
    pub fn open(source: Source, options: Options, projection: P) -> Result<Self, OpenError> {
        let start = resume::start(&source, &options)?;
        let now = Instant::now();
        let every = options.mode == Mode::EveryChange;
        Ok(Self {
            classifier: Classifier {
                filter: options.filter,
                projection,
            },
            mode: options.mode,
            policy: options.policy,
            cursor: start.cursor(),
            told: start.cursor(),
            exact: match start {
                Start::Resume(at) => {
                    every || at >= source.registry.oldest_resumable(Mode::EveryChange)
                }
                Start::Head(_) => every,
                Start::Snapshot | Start::Reset(_) => false,
            },
            complete: every || !matches!(start, Start::Head(_)),
            stage: Stage::Opening(start),
            source,
            clock: Clock {
                heartbeat: options.heartbeat,
                last_sent: now,
                closes_at: now + options.max_age,
                pace: match options.mode {
                    Mode::LatestState => options.min_update_interval,
                    Mode::EveryChange => Duration::ZERO,
                },
                paced_until: now,
                update_to: Revision::ZERO,
            },
        })
    }

    /// The next message; `None` after a closing message or a loss. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Message<P::Shown>, Lost>> {
        let payload = match self.step().await? {
            Ok(payload) => payload,
            Err(lost) => {
                self.stage = Stage::Closed;
                return Some(Err(lost));
            }
        };
        self.clock.last_sent = Instant::now();
        let from = match payload {
            Payload::Opened { .. } | Payload::Reset(_) => self.cursor,
            _ => self.told,
        };
        self.told = self.cursor;
        let exact = match payload {
            Payload::Synced { .. } => true,
            Payload::Events(_) | Payload::Progress => self.exact && self.complete,
            _ => false,
        };
        Some(Ok(Message {
            from,
            to: self.cursor,
            exact,
            payload,
        }))
    }

    async fn step(&mut self) -> Option<Result<Payload<P::Shown>, Lost>> {
        match &self.stage {
            Stage::Closed => None,
            Stage::Opening(start) => {
                let resumed = start.is_resumed();
                self.stage = match *start {
                    Start::Resume(_) | Start::Head(_) => Stage::Following,
                    Start::Snapshot => self.take_snapshot(),
                    Start::Reset(lost) => Stage::Resetting(lost),
                };
                Some(Ok(Payload::Opened { resumed }))
            }
            Stage::Resetting(lost) => {
                let lost = *lost;
                Some(Ok(self.reset(lost)))
            }
            Stage::Snapshot(_) => Some(Ok(self.snapshot_part().await)),
            Stage::Following => Some(self.follow().await),
        }
    }

    fn take_snapshot(&self) -> Stage<P::Shown> {
        Stage::Snapshot(Sending::new(self.source.registry.snapshot()))
    }

    /// The next part, or `synced`.
    async fn snapshot_part(&mut self) -> Payload<P::Shown> {
        loop {
            if let Some(reason) = self.due_to_close() {
                return self.close(reason);
            }
            let Stage::Snapshot(sending) = &mut self.stage else {
                return Payload::Progress;
            };
            if let Some(part) = sending.fill(&self.classifier) {
                return Payload::Snapshot(part);
            }
            if sending.is_through() {
                return match sending.take_part() {
                    Some(part) => Payload::Snapshot(part),
                    None => self.synced(),
                };
            }
            if self.clock.is_silent() {
                return sending
                    .take_part()
                    .map_or(Payload::Progress, Payload::Snapshot);
            }
            tokio::task::yield_now().await;
        }
    }

    fn synced(&mut self) -> Payload<P::Shown> {
        let (at, count) = match &self.stage {
            Stage::Snapshot(sending) => (sending.at, sending.sent),
            _ => (self.cursor, 0),
        };
        self.cursor = at;
        self.exact = true;
        self.complete = true;
        self.stage = Stage::Following;
        Payload::Synced { count }
    }

    /// Waits for something to tell.
    async fn follow(&mut self) -> Result<Payload<P::Shown>, Lost> {
        loop {
            if let Some(reason) = self.due_to_close() {
                return Ok(self.close(reason));
            }
            // Registers before it reads: what comes later wakes `changed`.
            let head = *self.source.heads.borrow_and_update();
            let behind = self.cursor < head;
            if behind && self.clock.may_update(self.cursor, head) {
                match self.pull() {
                    Pulled::Events(events) => {
                        self.clock.updated();
                        return Ok(Payload::Events(events));
                    }
                    Pulled::TooOld(oldest) => return self.lagged(oldest),
                    Pulled::Nothing if self.clock.is_silent() => return Ok(Payload::Progress),
                    Pulled::Nothing => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
            }
            if self.clock.is_silent() {
                return Ok(Payload::Progress);
            }
            self.wait(behind).await;
        }
    }

    /// Until the head moves, or some deadline; `paced`: only for deadlines.
    async fn wait(&mut self, paced: bool) {
        let Source { heads, closing, .. } = &mut self.source;
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            gone = heads.changed(), if !paced => {
                if gone.is_err() {
                    // No dispatcher, no changes: the thread is on its way out.
                    self.clock.closes_at = Instant::now();
                }
            }
            () = tokio::time::sleep_until(self.clock.next_deadline(paced)) => {}
        }
    }

    /// Reads on from the cursor, a message's worth.
    fn pull(&mut self) -> Pulled<P::Shown> {
        let mut budget = Budget {
            entries_max: BATCH_PROCESSES_MAX,
            bytes_max: BATCH_BYTES_MAX,
        };
        loop {
            match self.source.registry.read(self.mode, self.cursor, budget) {
                Read::TooOld { oldest } => return Pulled::TooOld(oldest),
                Read::Batch { to, exact, changes } => {
                    // A batch is cut by reading less, never by telling less: only
                    // the end of a read is a place to resume from.
                    match self.classifier.events(&changes, self.cursor) {
                        Err(fitting) => budget.entries_max = fitting.max(1),
                        Ok(events) => {
                            self.cursor = to;
                            self.exact = exact;
                            return match events.is_empty() {
                                true => Pulled::Nothing,
                                false => Pulled::Events(events),
                            };
                        }
                    }
                }
            }
        }
    }

    fn lagged(&mut self, oldest: Revision) -> Result<Payload<P::Shown>, Lost> {
        let lost = Lost {
            reason: LostReason::Lagged,
            oldest,
        };
        if self.policy == Policy::Fail {
            return Err(lost);
        }
        Ok(self.reset(lost))
    }

    /// Back to 0; a snapshot follows.
    fn reset(&mut self, lost: Lost) -> Payload<P::Shown> {
        self.cursor = Revision::ZERO;
        self.exact = false;
        self.complete = true;
        self.stage = self.take_snapshot();
        Payload::Reset(lost)
    }

    fn due_to_close(&self) -> Option<CloseReason> {
        if self.source.closing.is_cancelled() || self.source.heads.has_changed().is_err() {
            return Some(CloseReason::Shutdown);
        }
        (Instant::now() >= self.clock.closes_at).then_some(CloseReason::MaxStreamAge)
    }

    fn close(&mut self, reason: CloseReason) -> Payload<P::Shown> {
        self.stage = Stage::Closed;
        Payload::Closing(reason)
    }
}

impl<P: Projection> fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("mode", &self.mode)
            .field("cursor", &self.cursor)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}
