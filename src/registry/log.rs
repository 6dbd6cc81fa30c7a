//! The change log: the newest changes in a ring, everything older as the base
//! state they led to.
//!
//! Invariants, all under the one lock that `commit` keeps this behind:
//! - Revisions are dense: the ring holds `floor + 1 ..= head`, one change each.
//! - An entry knows the node before it and the entry after it in its slot, so a
//!   reader finds the first and the last change of a slot in an interval without
//!   an index.
//! - The ring is bounded by entries and by the estimated bytes it pins; what
//!   leaves it moves into the base.
//!
//! Deliberately absent: assigning a node its revision and waking anybody
//! (`commit`), reading (`read`).

use std::collections::VecDeque;

use super::{
    base::Base,
    node::{Body, Node, Slot},
    roster::Roster,
    wake::Line,
};
use crate::{domain::id::Revision, sync::Arc};

/// Bounds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most changes kept; at least 1 is.
    pub ring_entries_max: usize,
    /// Most bytes the kept changes pin, by [`Body::weight`]; each entry counts
    /// its own state and the one before. The newest change is kept regardless.
    pub ring_bytes_max: usize,
    /// Most tombstones kept beyond those in the ring.
    pub tombstones_max: usize,
}

pub(super) struct Log<B> {
    limits: Limits,
    ring: VecDeque<Entry<B>>,
    bytes: usize,
    pub(super) base: Base<B>,
    pub(super) roster: Roster<B>,
    pub(super) lines: Vec<Arc<Line>>,
    retired: Retired<B>,
}

/// States that left the log, to be dropped once it is unlocked: their drop is the
/// body's code. Nearly always one.
pub(super) struct Retired<B> {
    last: Option<Arc<Node<B>>>,
    others: Vec<Arc<Node<B>>>,
}

pub(super) struct Entry<B> {
    pub(super) node: Arc<Node<B>>,
    /// What it replaced.
    pub(super) previous: Option<Arc<Node<B>>>,
    /// Revision of the next change of the slot; 0 while there is none.
    pub(super) next: i64,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            ring_entries_max: 65_536,
            ring_bytes_max: 32 << 20,
            tombstones_max: 10_000,
        }
    }
}

// === impl Log ===

impl<B: Body> Log<B> {
    /// An empty log that continues after `first`.
    pub(super) fn new(limits: Limits, first: Revision) -> Self {
        Self {
            limits,
            ring: VecDeque::new(),
            bytes: 0,
            base: Base::new(first.get()),
            roster: Roster::new(),
            lines: Vec::new(),
            retired: Retired::new(),
        }
    }

    /// Whether the base keeps more tombstones than allowed.
    pub(super) fn is_overdue(&self) -> bool {
        self.base.is_overdue(self.limits.tombstones_max)
    }

    /// One tombstone too many, see [`Base::overdue`].
    pub(super) fn overdue(&mut self) -> Option<Arc<Node<B>>> {
        self.base.overdue(self.limits.tombstones_max)
    }

    /// Revision before the oldest entry of the ring.
    pub(super) const fn floor(&self) -> i64 {
        self.base.revision()
    }

    /// Newest revision.
    pub(super) fn head(&self) -> i64 {
        // A deque holds at most isize::MAX entries.
        self.floor() + self.ring.len() as i64
    }

    /// The entry of `revision`, if the ring has it.
    pub(super) fn entry(&self, revision: i64) -> Option<&Entry<B>> {
        self.ring.get(self.index(revision)?)
    }

    /// Entries of `(after, head]`; `None` if the ring lost some.
    pub(super) fn since(&self, after: i64) -> Option<impl Iterator<Item = &Entry<B>>> {
        let from = self.index(after + 1)?;
        Some(self.ring.range(from.min(self.ring.len())..))
    }

    /// Appends one change and returns its revision. `previous_at` is the revision
    /// of `previous`, which may not carry it yet.
    pub(super) fn append(
        &mut self,
        slot: &Arc<Slot<B>>,
        node: Arc<Node<B>>,
        previous: Option<Arc<Node<B>>>,
        previous_at: i64,
    ) -> i64 {
        if previous.is_none() {
            self.roster.add(Arc::clone(slot));
        }
        let entry = Entry {
            node,
            previous,
            next: 0,
        };
        let weight = entry.weight();
        self.make_room(weight);
        let revision = self.head() + 1;
        if let Some(index) = self.index(previous_at)
            && let Some(before) = self.ring.get_mut(index)
        {
            before.next = revision;
        }
        self.bytes += weight;
        self.ring.push_back(entry);
        revision
    }

    /// What to drop after unlocking.
    pub(super) fn take_retired(&mut self) -> Retired<B> {
        std::mem::replace(&mut self.retired, Retired::new())
    }

    fn make_room(&mut self, weight: usize) {
        while self.ring.len() >= self.limits.ring_entries_max.max(1)
            || self.bytes + weight > self.limits.ring_bytes_max
        {
            let Some(oldest) = self.ring.pop_front() else {
                return;
            };
            self.bytes -= oldest.weight();
            let replaced = self.base.advance(oldest.node);
            // `oldest.previous` is the same node, so it is not the last reference.
            self.retired.add(replaced);
        }
    }

    fn index(&self, revision: i64) -> Option<usize> {
        usize::try_from(revision - self.floor() - 1).ok()
    }
}

// === impl Retired ===

impl<B> Retired<B> {
    const fn new() -> Self {
        Self {
            last: None,
            others: Vec::new(),
        }
    }

    fn add(&mut self, node: Option<Arc<Node<B>>>) {
        if node.is_some() {
            self.others.extend(std::mem::replace(&mut self.last, node));
        }
    }
}

// === impl Entry ===

impl<B> Entry<B> {
    fn weight(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, |node| node.weight());
        self.node.weight() + previous
    }
}
