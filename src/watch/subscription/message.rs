//! What a subscription says.

use std::sync::Arc;

use crate::{
    domain::{
        id::Revision,
        status::{Cause, ProcessState},
        time::Timestamp,
    },
    registry::Node,
};

/// Decides what of a state a reader is shown, and how large that is.
pub trait Projection {
    /// A state as shown.
    type Shown;

    /// The part of a state that the reader asked for.
    fn show(&self, node: &Arc<Node<ProcessState>>) -> Self::Shown;

    /// Name, uid, version and revision only.
    fn identity(&self, node: &Arc<Node<ProcessState>>) -> Self::Shown;

    /// Whether the reader is shown the same, but for version and revision. Both
    /// are of one uid.
    fn is_same(&self, before: &Arc<Node<ProcessState>>, after: &Arc<Node<ProcessState>>) -> bool;

    /// Bytes on the wire.
    fn size(&self, shown: &Self::Shown) -> usize;
}

/// Accounts for the revisions in `(from, to]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Message<S> {
    /// `to` of the message before, or 0 after a reset.
    pub from: Revision,
    /// Where to resume from.
    pub to: Revision,
    /// A view built from this stream equals the registry at `to`.
    pub exact: bool,
    /// What there is to say.
    pub payload: Payload<S>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload<S> {
    /// The first.
    Opened {
        /// Events follow directly; otherwise a snapshot comes first.
        resumed: bool,
    },
    /// Forget everything.
    Reset(Lost),
    /// Processes by name.
    Snapshot(Vec<S>),
    /// The snapshot is whole.
    Synced {
        /// Processes in it.
        count: usize,
    },
    /// Changes in order of revision.
    Events(Vec<Event<S>>),
    /// Nothing to tell up to `to`.
    Progress,
    /// The last.
    Closing(CloseReason),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<S> {
    /// What it means to the reader.
    pub kind: EventKind,
    /// When, in the order of all changes.
    pub revision: Revision,
    /// The state afterwards; of a deleted process the last one.
    pub shown: S,
    /// Versions merged into this one.
    pub skipped: i64,
    /// When, by the clock.
    pub origin: Origin,
}

/// Why and when a change came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// When.
    pub time: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// What a change means to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It now exists, or now matches.
    Added,
    /// It matched and still does.
    Changed,
    /// It is gone.
    Deleted,
    /// It no longer matches.
    Left,
}

/// History that a reader misses cannot be told any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; the oldest revision to resume from is {oldest}")]
pub struct Lost {
    /// Why.
    pub reason: LostReason,
    /// What could have been resumed from.
    pub oldest: Revision,
}

/// Why history is lost to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReason {
    /// The token's epoch is unknown, or its revision did not survive it.
    EpochChanged,
    /// The token is older than what is kept.
    HistoryTrimmed,
    /// The reader fell behind what is kept.
    Lagged,
    /// The token is of a stream with another filter, mask or authorization.
    ScopeChanged,
}

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It shuts down.
    Shutdown,
    /// The stream is old.
    MaxStreamAge,
}

// === impl LostReason ===

impl LostReason {
    /// Text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EpochChanged => "EPOCH_CHANGED",
            Self::HistoryTrimmed => "HISTORY_TRIMMED",
            Self::Lagged => "LAGGED",
            Self::ScopeChanged => "SCOPE_CHANGED",
        }
    }
}

impl std::fmt::Display for LostReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EpochChanged => "the epoch changed",
            Self::HistoryTrimmed => "the history was trimmed",
            Self::Lagged => "the reader fell behind",
            Self::ScopeChanged => "the scope changed",
        })
    }
}
