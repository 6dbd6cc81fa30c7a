//! Who is registered, in order of name.
//!
//! Role: a snapshot walks this instead of the map, so it is sorted without
//! sorting and sees exactly the slots published up to a head. Slots are added
//! under the log lock with their first change.
//!
//! Invariants: `sorted` is never changed in place while a snapshot holds it. What
//! was added since, and closed slots, are merged by the next snapshot, outside
//! the lock; closed slots never outnumber a small part of the rest.
//!
//! Deliberately absent: lookup by name (`table`).

use super::node::Slot;
use crate::sync::Arc;

/// Closed slots that are not worth a sweep.
const CLOSED_MIN: usize = 256;

pub(super) struct Roster<B> {
    sorted: Members<B>,
    added: Vec<Arc<Slot<B>>>,
    closed: usize,
}

/// Slots by name; closed ones may be among them, and then a name comes twice.
pub(super) type Members<B> = Arc<Vec<Arc<Slot<B>>>>;

/// A roster as it was at some instant, to be merged outside the lock.
pub(super) struct Pending<B> {
    sorted: Members<B>,
    added: Vec<Arc<Slot<B>>>,
}

// === impl Roster ===

impl<B> Roster<B> {
    pub(super) fn new() -> Self {
        Self {
            sorted: Arc::new(Vec::new()),
            added: Vec::new(),
            closed: 0,
        }
    }

    pub(super) fn add(&mut self, slot: Arc<Slot<B>>) {
        self.added.push(slot);
    }

    /// Counts a slot that was closed, and sweeps when there are many. Returns what
    /// to drop after unlocking, because a slot's drop is the body's code.
    pub(super) fn note_closed(&mut self) -> Option<Pending<B>> {
        self.closed += 1;
        if self.closed <= CLOSED_MIN + (self.sorted.len() + self.added.len()) / 16 {
            return None;
        }
        self.closed = 0;
        let swept = self.pending();
        let open = |slot: &&Arc<Slot<B>>| !slot.is_closed();
        self.sorted = Arc::new(self.sorted.iter().filter(open).cloned().collect());
        self.added.retain(|slot| !slot.is_closed());
        Some(swept)
    }

    /// What there is now.
    pub(super) fn pending(&self) -> Pending<B> {
        Pending {
            sorted: Arc::clone(&self.sorted),
            added: self.added.clone(),
        }
    }

    /// Keeps `merged`, the merge of `pending`, unless somebody else was first.
    pub(super) fn keep(&mut self, pending: &Pending<B>, merged: &Members<B>) {
        if Arc::ptr_eq(&self.sorted, &pending.sorted) && !pending.added.is_empty() {
            self.sorted = Arc::clone(merged);
            self.added.drain(..pending.added.len());
        }
    }
}

// === impl Pending ===

impl<B> Pending<B> {
    /// Whether merging is worth keeping.
    pub(super) const fn is_unmerged(&self) -> bool {
        !self.added.is_empty()
    }

    pub(super) fn merge(&self) -> Members<B> {
        if self.added.is_empty() {
            return Arc::clone(&self.sorted);
        }
        let mut all = Vec::with_capacity(self.sorted.len() + self.added.len());
        all.extend(self.sorted.iter().chain(&self.added).cloned());
        // Stable: it finds the sorted run and merges.
        all.sort_by(|a, b| a.name().cmp(b.name()));
        Arc::new(all)
    }
}
