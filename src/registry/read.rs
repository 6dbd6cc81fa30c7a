//! Reading the log at a cursor.
//!
//! Every change: the entries after the cursor. Latest state: an interval of them,
//! of which each process keeps its last change, told against its state before the
//! first; so a batch from the ring is exact at its end, whatever the budget, and
//! the end is a good place to resume from. A reader from before the ring first
//! gets the base states it misses, in order of revision; until it has all of them
//! it has moved past some and is not exact.
//!
//! Invariants: at most `SCANNED_MAX` entries of the ring are looked at per hold of
//! the lock; a read that finds something to do advances. What is told of an interval from
//! the ring depends on the interval only, never on when it is read.
//!
//! Deliberately absent: waiting (`wake`), selecting (`watch`).

use super::{
    change::{Before, Budget, Change, Mode, Read},
    log::{Entry, Log},
    node::{Body, Node},
};
use crate::{domain::id::Revision, sync::Arc};

/// Entries looked at, and changes returned, in one hold of the log lock.
const SCANNED_MAX: usize = 4096;

/// What is left of a budget.
struct Allowance {
    budget: Budget,
    entries: usize,
    bytes: usize,
}

impl<B: Body> Log<B> {
    /// Oldest revision a reader can resume from.
    pub(super) fn oldest_resumable(&self, mode: Mode) -> i64 {
        match mode {
            Mode::EveryChange => self.floor(),
            Mode::LatestState => self.base.oldest_resumable(),
        }
    }

    /// Changes of the slot whose state at `from` is in the ring, newest first.
    pub(super) fn history(&self, from: i64, max: usize) -> Vec<Change<B>> {
        let mut changes = Vec::new();
        let mut at = from;
        while let Some(entry) = self.entry(at).filter(|_| changes.len() < max) {
            changes.push(Change {
                node: Arc::clone(&entry.node),
                revision: Revision::new(at),
                before: Before::of(entry.previous.as_ref()),
                skipped: 0,
            });
            let Some(previous) = &entry.previous else {
                break;
            };
            at = previous.revision().get();
        }
        changes
    }

    /// Changes after `after`, as many as `budget` has room for.
    pub(super) fn read(&self, mode: Mode, after: i64, budget: Budget) -> Read<B> {
        let oldest = self.oldest_resumable(mode);
        if after < oldest {
            return Read::TooOld {
                oldest: Revision::new(oldest),
            };
        }
        match mode {
            Mode::EveryChange => self.read_every(after, budget),
            Mode::LatestState if after < self.floor() => self.read_base(after, budget),
            Mode::LatestState => self.read_latest(after, budget),
        }
    }

    fn read_every(&self, after: i64, budget: Budget) -> Read<B> {
        let mut allowance = Allowance::new(budget);
        let mut changes = Vec::new();
        let mut to = after;
        for entry in self.since(after).into_iter().flatten() {
            if !allowance.take(entry.node.weight()) {
                break;
            }
            to += 1;
            changes.push(Change {
                node: Arc::clone(&entry.node),
                revision: Revision::new(to),
                before: Before::of(entry.previous.as_ref()),
                skipped: 0,
            });
        }
        batch(to, true, changes)
    }

    fn read_latest(&self, after: i64, budget: Budget) -> Read<B> {
        let to = self.interval_end(after, budget);
        let mut changes = Vec::new();
        let entries = self.since(after).into_iter().flatten();
        for (entry, revision) in entries.zip(after + 1..=to) {
            if entry.next == 0 || entry.next > to {
                let before = Before::of(self.state_at(entry, after));
                changes.extend(merged(entry, revision, before));
            }
        }
        batch(to, true, changes)
    }

    /// Largest revision up to which the newest states fit into `budget`.
    fn interval_end(&self, after: i64, budget: Budget) -> i64 {
        let mut allowance = Allowance::new(budget);
        let mut to = after;
        for entry in self.since(after).into_iter().flatten().take(SCANNED_MAX) {
            let weight = entry.node.weight();
            let fits = match &entry.previous {
                // A later change of a process that is in already.
                Some(previous) if previous.revision().get() > after => {
                    allowance.replace(previous.weight(), weight)
                }
                _ => allowance.take(weight),
            };
            if !fits {
                break;
            }
            to += 1;
        }
        to
    }

    /// State of the slot of `entry` at `after`, which the ring covers.
    fn state_at<'a>(&'a self, entry: &'a Entry<B>, after: i64) -> Option<&'a Arc<Node<B>>> {
        let mut previous = entry.previous.as_ref()?;
        while previous.revision().get() > after {
            previous = self.entry(previous.revision().get())?.previous.as_ref()?;
        }
        Some(previous)
    }

    fn read_base(&self, after: i64, budget: Budget) -> Read<B> {
        let mut allowance = Allowance::new(budget);
        let mut changes = Vec::new();
        let mut to = after;
        for missed in self.base.missed(after) {
            if !allowance.take(missed.node.weight()) {
                return batch(to, false, changes);
            }
            to = missed.revision;
            changes.push(Change {
                node: Arc::clone(missed.node),
                revision: Revision::new(to),
                before: Before::Unknown {
                    created: Revision::new(missed.created),
                },
                skipped: 0,
            });
        }
        batch(self.floor(), true, changes)
    }
}

// === impl Allowance ===

impl Allowance {
    fn new(budget: Budget) -> Self {
        let entries_max = budget.entries_max.min(SCANNED_MAX);
        Self {
            budget: Budget {
                entries_max,
                ..budget
            },
            entries: 0,
            bytes: 0,
        }
    }

    /// One more entry, if there is room; the first always has.
    fn take(&mut self, weight: usize) -> bool {
        let bytes = self.bytes.saturating_add(weight);
        let fits = self.entries < self.budget.entries_max && bytes <= self.budget.bytes_max;
        if !fits && self.entries > 0 {
            return false;
        }
        self.entries += 1;
        self.bytes = bytes;
        true
    }

    /// An entry in place of one that was taken.
    fn replace(&mut self, old: usize, new: usize) -> bool {
        let bytes = self.bytes.saturating_sub(old).saturating_add(new);
        if bytes > self.budget.bytes_max && self.entries > 1 {
            return false;
        }
        self.bytes = bytes;
        true
    }
}

/// The last change of a process in an interval; nothing if it was created and
/// deleted within.
fn merged<B>(entry: &Entry<B>, revision: i64, before: Before<B>) -> Option<Change<B>> {
    let node = &entry.node;
    let known = match &before {
        Before::State(state) if state.uid() == node.uid() => state.version(),
        Before::Absent if node.is_deleted() => return None,
        _ => 0,
    };
    Some(Change {
        node: Arc::clone(node),
        revision: Revision::new(revision),
        before,
        skipped: node.version() - known - 1,
    })
}

fn batch<B>(to: i64, exact: bool, changes: Vec<Change<B>>) -> Read<B> {
    Read::Batch {
        to: Revision::new(to),
        exact,
        changes,
    }
}
