//! What is said to the store, and what it answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::domain::{
    id::{ProcessName, Revision, Uid},
    spec::Spec,
    status::{Cause, Desired, Status},
    time::Timestamp,
};

/// Changes that one call may carry: as many as there may be processes.
pub(super) const INTENTS_PER_CALL_MAX: usize = crate::domain::limits::PROCESSES_MAX;

/// Bounds and clocks. The defaults are for production.
#[derive(Debug, Clone)]
pub struct Options {
    /// The wall clock: ages of request ids, `Health` and epochs.
    pub now: fn() -> Timestamp,
    /// Tombstones kept; as many as the registry keeps.
    pub tombstones_max: usize,
    /// How long a request id is remembered.
    pub request_retention: Duration,
    /// Request ids remembered; the oldest is forgotten first.
    pub requests_max: usize,
    /// How long an observed state waits for others and for newer ones.
    pub write_behind: Duration,
    /// First and longest pause between attempts to heal.
    pub heal_pause: (Duration, Duration),
    /// Bytes set aside for exit states on a full disk; 0: none.
    pub reserve_bytes: u64,
}

/// Something that is wanted of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Of which.
    pub uid: Uid,
    /// What.
    pub wish: Wish,
    /// Number of the intent, per process: 0 for its creation, then 1, 2, 3, ...
    pub number: i64,
    /// A run was asked for, even if one ended for good.
    pub begin: bool,
    /// That run takes the place of this one; 0: of none.
    pub instead_of: i64,
    /// Who wants it.
    pub cause: Cause,
    /// The call that asked for it, to be carried out once.
    pub request: Option<Request>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// This configuration. It creates the process if `uid` is new, and ends what
    /// the store has under the same name with another uid.
    Put {
        /// Name, generation, creation and configuration.
        spec: Arc<Spec>,
        /// The desired state with it.
        desired: Desired,
    },
    /// This desired state. `Deleted` goes on existing until its tombstone is
    /// observed.
    Desired(Desired),
}

/// A request id and what its request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub principal: Box<str>,
    /// Which RPC.
    pub method: Box<str>,
    /// The `request_id`.
    pub id: [u8; 16],
    /// Digest of its content.
    pub fingerprint: u64,
    /// The process it changed. A request that changes several has one of these
    /// for each.
    pub uid: Uid,
    /// Its name.
    pub name: ProcessName,
    /// The run it is about; 0: none.
    pub run_id: i64,
    /// Position that the caller may wait from; ZERO where it was not known yet.
    pub revision: Revision,
    /// When it was asked.
    pub time: Timestamp,
}

/// A published state, to be written behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Of which process.
    pub uid: Uid,
    /// Per-process change counter.
    pub version: i64,
    /// Position in the change log.
    pub revision: Revision,
    /// Position of the process's first version.
    pub created: Revision,
    /// Number of the latest intent that it follows from.
    pub intent: i64,
    /// The state.
    pub status: Status,
    /// Why it came about.
    pub cause: Cause,
    /// When.
    pub time: Timestamp,
    /// It is the tombstone.
    pub deleted: bool,
}

/// Whether an intent is durable; resolves once that is decided.
#[derive(Debug)]
pub struct Receipt(pub(super) oneshot::Receiver<Result<(), NotDurable>>);

/// Why an intent is not durable, as far as is known: it may turn out to be
/// recorded when the store is opened again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// The store cannot be written now.
    #[error("the store is read-only: {0}")]
    ReadOnly(Reason),
    /// Too many intents wait.
    #[error("{0} intents wait for the disk; try again later")]
    Busy(usize),
    /// More than a call may carry.
    #[error("{0} intents in one call; at most {INTENTS_PER_CALL_MAX}")]
    TooMany(usize),
    /// A desired state of a process that the store does not have.
    #[error("the store has no process {0}")]
    NoSuchProcess(Uid),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether the store can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Writable,
    /// Intents are refused until it heals.
    ReadOnly {
        /// Why.
        reason: Reason,
        /// Since when.
        since: Timestamp,
    },
}

/// Why the store cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind of failure.
    pub kind: ReasonKind,
    /// The error, for people.
    pub detail: Arc<str>,
}

/// Kinds of failure of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind {
    /// No space is left; exit states still go into the reserve. It heals when
    /// space is freed.
    Full,
    /// Reading, writing or syncing failed. It heals when that works again.
    Io,
    /// The content is damaged. It does not heal by itself.
    Corrupt,
}

/// Counters since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed.
    pub transactions: u64,
    /// Of those, with an fsync.
    pub synced: u64,
    /// Intents recorded.
    pub intents: u64,
    /// States recorded.
    pub states: u64,
    /// Times it became read-only.
    pub failures: u64,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            now: crate::store::writer::wall_now,
            tombstones_max: 10_000,
            request_retention: Duration::from_secs(600),
            requests_max: 100_000,
            write_behind: Duration::from_millis(10),
            heal_pause: (Duration::from_secs(1), Duration::from_secs(30)),
            reserve_bytes: 1 << 20,
        }
    }
}

// === impl Receipt ===

impl Receipt {
    /// Waits for the answer, blocking the thread. Not for async code.
    ///
    /// # Errors
    /// As the future's output.
    pub fn wait(self) -> Result<(), NotDurable> {
        self.0.blocking_recv().unwrap_or(Err(NotDurable::Closed))
    }
}

impl Future for Receipt {
    type Output = Result<(), NotDurable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(cx);
        answer.map(|answer| answer.unwrap_or(Err(NotDurable::Closed)))
    }
}

// === impl Reason ===

impl Reason {
    pub(super) fn new(kind: ReasonKind, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().into();
        Self { kind, detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ReasonKind::Full => "no space is left",
            ReasonKind::Io => "the disk fails",
            ReasonKind::Corrupt => "its content is damaged, see `procession doctor`",
        };
        write!(f, "{what} ({})", self.detail)
    }
}
