//! What arrived before the call: where to start in it, and its merge by time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

use super::{
    filter::{Continued, Filter},
    tailing::{STEP_READS_MAX, Tailing},
};
use crate::{
    domain::time::Timestamp,
    logs::{Entry, Reader, Slot, Start, limits::READ_ENTRIES_MAX},
};

/// Bytes held for the merge, over all processes; each gets its part.
const MERGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Least and most bytes held of one process.
const PART_BYTES_MIN: usize = 4 * 1024;
const PART_BYTES_MAX: usize = 64 * 1024;

/// The search for the entry a given number of matching ones back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locating {
    pub(super) slot: Slot,
    pub(super) count: u64,
    /// Everything from here on was looked at.
    pub(super) at: u64,
}

/// The merge of several processes by time, oldest first. Within one process the
/// order of arrival is kept, whatever the clock did.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Entries read and not yet sent.
    read: HashMap<Slot, Part>,
    /// The front of each that has one.
    fronts: BinaryHeap<Reverse<(Timestamp, Slot)>>,
    /// Those whose front is not known.
    hungry: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Part {
    entries: VecDeque<Entry>,
    more: bool,
}

// === impl Locating ===

impl Locating {
    /// Looks at one batch; `None` once the reader stands where it should.
    pub(super) fn step(mut self, reader: &mut Reader, filter: &Filter) -> Option<Self> {
        let from = self.at.saturating_sub(READ_ENTRIES_MAX as u64);
        for entry in reader.peek(self.slot, from, self.at).iter().rev() {
            if self.count == 0 {
                break;
            }
            self.at -= 1;
            // A line that began further back is judged by its later pieces.
            self.count -= u64::from(filter.admits(entry, &mut Continued::default()));
        }
        if self.count > 0 && self.at == from && from > 0 {
            return Some(self);
        }
        reader.seek(self.slot, Start::At(self.at));
        None
    }
}

// === impl History ===

impl History {
    pub(super) fn add(&mut self, slot: Slot) {
        self.hungry.push(slot);
    }

    /// Sends or reads on, by a bounded amount. Whether all of it is sent.
    pub(super) fn step<R>(&mut self, tailing: &mut Tailing<R>) -> bool {
        for _ in 0..STEP_READS_MAX {
            let Some(slot) = self.hungry.pop() else {
                break;
            };
            self.fill(slot, tailing);
        }
        while self.hungry.is_empty() && !tailing.outbox.has_message() {
            let Some(Reverse((_, slot))) = self.fronts.pop() else {
                return true;
            };
            let Some(part) = self.read.get_mut(&slot) else {
                continue;
            };
            if let (Some(entry), Some(source)) =
                (part.entries.pop_front(), tailing.sources.get(&slot))
            {
                tailing.outbox.entry(&source.origin, entry);
            }
            self.show_front(slot);
        }
        false
    }

    fn fill<R>(&mut self, slot: Slot, tailing: &mut Tailing<R>) {
        let Some(source) = tailing.sources.get_mut(&slot) else {
            return;
        };
        let budget =
            (MERGE_BYTES_MAX / tailing.reader.len().max(1)).clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        let batch = tailing.reader.read(slot, budget, source.history_end);
        if let Some(gap) = batch.gap {
            tailing.outbox.gap(&source.origin, gap);
        }
        let part = self.read.entry(slot).or_default();
        part.more = batch.more;
        let filter = &tailing.query.filter;
        let continued = &mut source.continued;
        part.entries.extend(
            batch
                .entries
                .into_iter()
                .filter(|entry| filter.admits(entry, continued)),
        );
        self.show_front(slot);
    }

    /// Puts the front of `slot` in order, or asks for more of it.
    fn show_front(&mut self, slot: Slot) {
        let Some(part) = self.read.get(&slot) else {
            return;
        };
        if let Some(front) = part.entries.front() {
            self.fronts.push(Reverse((front.time, slot)));
        } else if part.more {
            self.hungry.push(slot);
        } else {
            self.read.remove(&slot);
        }
    }
}
