//! What a reader of the change log gets.
//!
//! Deliberately absent: selectors, masks and event types; `watch` decides those
//! from `Before` and the node.

use std::fmt;

use super::node::Node;
use crate::{domain::id::Revision, sync::Arc};

/// How a reader wants changes that it is late for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every change, or `TooOld`.
    EveryChange,
    /// Per process the newest state only.
    LatestState,
}

/// Bounds of one read. At least one change is returned if there is any, even
/// one that is heavier than `bytes_max` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most changes.
    pub entries_max: usize,
    /// Most bytes, by [`Body::weight`](super::Body::weight).
    pub bytes_max: usize,
}

/// One change as it looks to a reader.
pub struct Change<B> {
    /// The state after it; a tombstone if the process was deleted.
    pub node: Arc<Node<B>>,
    /// Revision of `node`.
    pub revision: Revision,
    /// The state before it, as the reader knows it.
    pub before: Before<B>,
    /// Versions of this uid that the reader will not see, because they are merged
    /// into this change. 0 in [`Mode::EveryChange`], and where `before` is unknown.
    pub skipped: i64,
}

/// State of a process before a change: in [`Mode::EveryChange`] the direct
/// predecessor, in [`Mode::LatestState`] the state at the reader's cursor.
pub enum Before<B> {
    /// There was no live process of this name.
    Absent,
    /// This one; its uid differs if the name was re-created since.
    State(Arc<Node<B>>),
    /// The log no longer covers the cursor.
    Unknown {
        /// Revision of version 1 of the uid in `Change::node`: if it is above the
        /// cursor, the reader cannot know this uid (but maybe an earlier one of
        /// the same name).
        created: Revision,
    },
}

/// Answer to a read.
pub enum Read<B> {
    /// Everything there is to tell about `(after, to]`.
    Batch {
        /// The reader's next cursor.
        to: Revision,
        /// Whether a reader that was exact at `after` holds the state of
        /// revision `to` exactly once it has applied the batch. Only a
        /// [`Mode::LatestState`] reader from before the ring sees `false`;
        /// it is exact again once it reaches the ring.
        exact: bool,
        /// In order of revision, all in `(after, to]`. May be empty although `to`
        /// advances.
        changes: Vec<Change<B>>,
    },
    /// The log no longer has what a reader at `after` misses: take a snapshot.
    TooOld {
        /// Oldest revision to resume from in this mode.
        oldest: Revision,
    },
}

// === impl Change ===

impl<B> fmt::Debug for Change<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("node", &self.node)
            .field("before", &self.before)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

// === impl Before ===

impl<B> Before<B> {
    /// A node as the state before something: a tombstone is absence.
    pub(super) fn of(previous: Option<&Arc<Node<B>>>) -> Self {
        match previous {
            Some(node) if !node.is_deleted() => Self::State(Arc::clone(node)),
            Some(_) | None => Self::Absent,
        }
    }
}

impl<B> fmt::Debug for Before<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::State(node) => f.debug_tuple("State").field(node).finish(),
            Self::Unknown { created } => {
                f.debug_struct("Unknown").field("created", created).finish()
            }
        }
    }
}

// === impl Read ===

impl<B> fmt::Debug for Read<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { to, exact, changes } => f
                .debug_struct("Batch")
                .field("to", to)
                .field("exact", exact)
                .field("changes", changes)
                .finish(),
            Self::TooOld { oldest } => f.debug_struct("TooOld").field("oldest", oldest).finish(),
        }
    }
}
