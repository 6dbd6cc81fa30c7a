//! What arrived before the call: where to start in it, and its merge by time.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    io,
};

use super::{
    filter::{Continued, Filter},
    tailing::{STEP_READS_MAX, Tailing},
};
use crate::{
    domain::time::Timestamp,
    logs::{End, Entry, Place, Reader, Slot, Start},
};

/// Bytes held for the merge, over all processes; each gets its part.
const MERGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes looked at in one step of a search.
const SCAN_BYTES_MAX: usize = 256 * 1024;

/// Least and most bytes held of one process.
const PART_BYTES_MIN: usize = 4 * 1024;
const PART_BYTES_MAX: usize = 64 * 1024;

/// The search for the line a given number of matching ones back.
#[derive(Debug)]
pub(super) struct Locating {
    pub(super) slot: Slot,
    /// How many more are to be found.
    pub(super) count: usize,
    /// Lines from here on were looked at.
    pub(super) at: i64,
    /// Where the history ends.
    pub(super) end: Place,
    scan: Option<Scan>,
}

/// Lines being looked at: from `from` to where the search stood before.
#[derive(Debug)]
struct Scan {
    from: i64,
    // BOUND: lines within what one step back spans.
    matching: BTreeSet<i64>,
    continued: Continued,
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
    pub(super) fn new(slot: Slot, count: u64, end: End) -> Self {
        Self {
            slot,
            count: usize::try_from(count).unwrap_or(usize::MAX),
            at: end.next_sequence,
            end: end.place,
            scan: None,
        }
    }

    /// Goes back, or looks at one batch; `None` once the reader stands where it
    /// should.
    pub(super) fn step(mut self, reader: &mut Reader, filter: &Filter) -> io::Result<Option<Self>> {
        let Some(mut scan) = self.scan.take() else {
            let Some(from) = reader.back(self.slot, self.at)? else {
                reader.seek(self.slot, Start::Oldest)?;
                return Ok(None);
            };
            reader.seek(self.slot, Start::From(from))?;
            self.scan = Some(Scan {
                from,
                matching: BTreeSet::new(),
                continued: Continued::default(),
            });
            return Ok(Some(self));
        };
        let batch = reader.read(self.slot, SCAN_BYTES_MAX, self.end)?;
        let mut is_over = !batch.more;
        for entry in batch.entries {
            // Lines begin in order, so none before `at` begins behind one of it.
            is_over |= entry.sequence >= self.at && entry.line_offset == 0;
            if (scan.from..self.at).contains(&entry.sequence)
                && filter.admits(&entry, &mut scan.continued)
            {
                scan.matching.insert(entry.sequence);
            }
        }
        if !is_over {
            self.scan = Some(scan);
            return Ok(Some(self));
        }
        let last = self.count.checked_sub(1);
        if let Some(line) = last.and_then(|back| scan.matching.iter().rev().nth(back)) {
            reader.seek(self.slot, Start::From(*line))?;
            return Ok(None);
        }
        self.count -= scan.matching.len();
        self.at = scan.from;
        Ok(Some(self))
    }
}

// === impl History ===

impl History {
    pub(super) fn add(&mut self, slot: Slot) {
        self.hungry.push(slot);
    }

    /// Sends or reads on, by a bounded amount. Whether all of it is sent.
    pub(super) fn step<R>(&mut self, tailing: &mut Tailing<R>) -> io::Result<bool> {
        for _ in 0..STEP_READS_MAX {
            let Some(slot) = self.hungry.pop() else {
                break;
            };
            self.fill(slot, tailing)?;
        }
        while self.hungry.is_empty() && !tailing.outbox.has_message() {
            let Some(Reverse((_, slot))) = self.fronts.pop() else {
                return Ok(true);
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
        Ok(false)
    }

    fn fill<R>(&mut self, slot: Slot, tailing: &mut Tailing<R>) -> io::Result<()> {
        let Some(source) = tailing.sources.get_mut(&slot) else {
            return Ok(());
        };
        let budget =
            (MERGE_BYTES_MAX / tailing.reader.len().max(1)).clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        let batch = tailing.reader.read(slot, budget, source.history_end)?;
        for gap in batch.gaps {
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
        Ok(())
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
