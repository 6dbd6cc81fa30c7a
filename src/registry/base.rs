//! The registry as it stood at the floor of the ring, in order of revision.
//!
//! Role: what lets a latest-state reader resume from before the ring. Each entry
//! that leaves the ring advances the base by one change, so at any time
//! `base + ring = head`. A reader at `after` misses exactly the base states with a
//! revision above `after`, then the ring.
//!
//! Invariants:
//! - `states[slot]` is the newest state of the slot at or below the floor.
//! - `order` is ascending and holds each state once; superseded rows stay until
//!   they are at the front or outnumber the live ones, so advancing is O(1)
//!   amortised and a read finds its place by bisection.
//! - Tombstones in the base are counted; the oldest is purged beyond the limit,
//!   and what was purged raises the floor for resuming: its deletion could not be
//!   told any more.
//!
//! Deliberately absent: the ring (`log`), and the purge itself (`membership`).

use std::collections::{BTreeMap, VecDeque};

use super::node::Node;
use crate::sync::Arc;

/// Superseded rows of `order` that are not worth a sweep.
const STALE_ROWS_MIN: usize = 1024;

pub(super) struct Base<B> {
    /// The floor of the ring.
    revision: i64,
    states: Vec<State<B>>,
    order: VecDeque<Row>,
    live_rows: usize,
    /// Slot of each tombstone, by revision.
    tombstones: BTreeMap<i64, u32>,
    /// Highest revision of a purged tombstone.
    purged: i64,
    /// Slots that were used and are not.
    free: Vec<u32>,
}

/// State of one slot; `revision` 0 is none.
struct State<B> {
    revision: i64,
    /// Revision of version 1 of the uid.
    created: i64,
    node: Option<Arc<Node<B>>>,
}

/// Valid while the slot's state has this revision.
#[derive(Clone, Copy)]
struct Row {
    revision: i64,
    slot: u32,
}

/// One state that a reader misses.
pub(super) struct Missed<'a, B> {
    pub(super) node: &'a Arc<Node<B>>,
    pub(super) revision: i64,
    pub(super) created: i64,
}

// === impl Base ===

impl<B> Base<B> {
    /// An empty registry at `revision`.
    pub(super) const fn new(revision: i64) -> Self {
        Self {
            revision,
            states: Vec::new(),
            order: VecDeque::new(),
            live_rows: 0,
            tombstones: BTreeMap::new(),
            purged: revision,
            free: Vec::new(),
        }
    }

    /// Deletions at or before `oldest` have been forgotten, later ones have not.
    pub(super) fn restore_floor(&mut self, oldest: i64) {
        self.purged = oldest.min(self.revision);
    }

    /// The next revision, of a state that is restored without those before it.
    pub(super) const fn raise(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    /// Takes over a state from an earlier base. Calls are in order of revision.
    pub(super) fn restore(&mut self, node: Arc<Node<B>>, revision: i64, created: i64) {
        let slot = node.slot();
        let Some(state) = self.states.get_mut(slot as usize) else {
            return;
        };
        if node.is_deleted() {
            self.tombstones.insert(revision, slot);
        }
        *state = State {
            revision,
            created,
            node: Some(node),
        };
        self.live_rows += 1;
        self.order.push_back(Row { revision, slot });
    }

    /// Revision this is the state of.
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }

    /// Oldest revision a latest-state reader can resume from.
    pub(super) const fn oldest_resumable(&self) -> i64 {
        if self.purged < self.revision {
            self.purged
        } else {
            self.revision
        }
    }

    /// An unused slot number. `None`: 2^32 are in use.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = u32::try_from(self.states.len()).ok()?;
        self.states.push(State {
            revision: 0,
            created: 0,
            node: None,
        });
        Some(slot)
    }

    /// Takes the next change over from the ring; returns the state it replaces.
    pub(super) fn advance(&mut self, node: Arc<Node<B>>) -> Option<Arc<Node<B>>> {
        self.revision += 1;
        let revision = self.revision;
        let slot = node.slot();
        let state = self.states.get_mut(slot as usize)?;
        if node.version() == 1 {
            state.created = revision;
        }
        if state.revision == 0 {
            self.live_rows += 1;
        }
        let deleted = node.is_deleted();
        let replaced_at = std::mem::replace(&mut state.revision, revision);
        let replaced = state.node.replace(node);
        if replaced.as_ref().is_some_and(|node| node.is_deleted()) {
            self.tombstones.remove(&replaced_at);
        }
        if deleted {
            self.tombstones.insert(revision, slot);
        }
        self.order.push_back(Row { revision, slot });
        self.sweep();
        replaced
    }

    /// What a reader at `after` misses up to the floor, oldest first.
    pub(super) fn missed(&self, after: i64) -> impl Iterator<Item = Missed<'_, B>> {
        let from = self.order.partition_point(|row| row.revision <= after);
        self.order.range(from..).filter_map(|row| self.state(*row))
    }

    /// Takes the oldest tombstone out of the count if there are more than
    /// `tombstones_max`, and raises the floor. The caller closes its slot and
    /// then calls [`Self::release`].
    pub(super) fn overdue(&mut self, tombstones_max: usize) -> Option<Arc<Node<B>>> {
        if self.tombstones.len() <= tombstones_max {
            return None;
        }
        let (revision, slot) = self.tombstones.pop_first()?;
        self.purged = self.purged.max(revision);
        self.states.get(slot as usize)?.node.clone()
    }

    /// Whether [`Self::overdue`] has something.
    pub(super) fn is_overdue(&self, tombstones_max: usize) -> bool {
        self.tombstones.len() > tombstones_max
    }

    /// Frees the slot of a purged tombstone. No entry of the ring names it: its
    /// last change is this tombstone, at or below the floor.
    pub(super) fn release(&mut self, slot: u32) {
        if let Some(state) = self.states.get_mut(slot as usize) {
            *state = State {
                revision: 0,
                created: 0,
                node: None,
            };
            self.live_rows -= 1;
            self.free.push(slot);
        }
    }

    fn state(&self, row: Row) -> Option<Missed<'_, B>> {
        let state = self.states.get(row.slot as usize)?;
        if state.revision != row.revision {
            return None;
        }
        Some(Missed {
            node: state.node.as_ref()?,
            revision: state.revision,
            created: state.created,
        })
    }

    fn sweep(&mut self) {
        let states = &self.states;
        let is_live = |row: &Row| {
            states
                .get(row.slot as usize)
                .is_some_and(|state| state.revision == row.revision)
        };
        while self.order.front().is_some_and(|row| !is_live(row)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.live_rows + STALE_ROWS_MIN {
            self.order.retain(is_live);
        }
    }
}
