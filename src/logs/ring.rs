//! The retained entries of one uid, in order of arrival, bounded in bytes.
//!
//! Pure: no lock, no clock, no waking. An entry's `index` is its arrival number
//! from 0; it is what cursors count in, because the pieces of a long line may
//! arrive between lines of the other stream.
//!
//! Invariants: sequences are assigned densely, at the arrival of a line's first
//! piece (the one with offset 0); the cost never exceeds the limit, except that
//! the newest entry always stays.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    entry::{Entry, Gap, GapReason, OutputStream},
    limits::{ENTRY_COST_BYTES, READ_ENTRIES_MAX},
    lines::Cut,
};
use crate::domain::time::Timestamp;

/// Where the pieces of one pipe come from, and its line in progress.
#[derive(Debug)]
pub(super) struct Origin {
    /// The run that writes.
    pub(super) run_id: i64,
    /// The stream it writes to.
    pub(super) stream: OutputStream,
    /// Sequence and next offset of a line whose end did not come yet.
    pub(super) open: Option<(i64, i64)>,
}

/// A reader's place in one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The next entry to look at.
    pub(super) index: u64,
    /// Bytes of data that arrived before it, where known.
    bytes: Option<u64>,
    /// Highest sequence that arrived before it.
    sequence: i64,
    /// Lines up to here are not wanted.
    after: i64,
}

/// The entries of one read.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is missing before `entries`.
    pub gap: Option<Gap>,
    /// In order of arrival.
    pub entries: Vec<Entry>,
    /// Whether there was more to read.
    pub more: bool,
}

/// What is retained: arrival numbers `oldest..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The oldest retained entry.
    pub oldest: u64,
    /// One past the newest.
    pub end: u64,
}

#[derive(Debug)]
pub(super) struct Ring {
    records: VecDeque<Record>,
    /// Arrival number of the front record.
    oldest: u64,
    next_sequence: i64,
    /// Bytes of data that ever arrived.
    bytes: u64,
    cost: usize,
    limit: usize,
    /// Sequence of the entry trimmed last.
    trimmed_sequence: i64,
}

#[derive(Debug)]
struct Record {
    entry: Entry,
    /// Bytes of data that arrived before it.
    bytes_before: u64,
}

// === impl Ring ===

impl Ring {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            records: VecDeque::new(),
            oldest: 0,
            next_sequence: 1,
            bytes: 0,
            cost: 0,
            limit,
            trimmed_sequence: 0,
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.trim_to(limit);
    }

    /// Bytes retained, with [`ENTRY_COST_BYTES`] per entry.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn window(&self) -> Window {
        Window {
            oldest: self.oldest,
            end: self.oldest + self.records.len() as u64,
        }
    }

    /// Highest sequence assigned; 0 before the first.
    pub(super) fn last_sequence(&self) -> i64 {
        self.next_sequence - 1
    }

    pub(super) fn push(&mut self, origin: &mut Origin, time: Timestamp, data: Bytes, cut: Cut) {
        let (sequence, line_offset) = origin.open.take().unwrap_or_else(|| {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            (sequence, 0)
        });
        let len = data.len();
        if cut == Cut::More {
            origin.open = Some((sequence, line_offset + signed(len as u64)));
        }
        let entry = Entry {
            sequence,
            line_offset,
            run_id: origin.run_id,
            time,
            stream: origin.stream,
            partial: cut == Cut::More,
            data,
        };
        self.records.push_back(Record {
            entry,
            bytes_before: self.bytes,
        });
        self.bytes += len as u64;
        self.cost += len + ENTRY_COST_BYTES;
        self.trim_to(self.limit);
    }

    /// Removes the oldest entries until at most `cost` is left, or one entry.
    pub(super) fn trim_to(&mut self, cost: usize) {
        while self.cost > cost && self.records.len() > 1 {
            if let Some(Record { entry, .. }) = self.records.pop_front() {
                self.oldest += 1;
                self.cost -= entry.data.len() + ENTRY_COST_BYTES;
                self.trimmed_sequence = entry.sequence;
            }
        }
    }

    /// A cursor before the entry `index`, or before the nearest retained one.
    pub(super) fn at(&self, index: u64) -> Cursor {
        let window = self.window();
        let index = index.clamp(window.oldest, window.end);
        Cursor {
            index,
            bytes: Some(
                self.record(index)
                    .map_or(self.bytes, |record| record.bytes_before),
            ),
            sequence: self.sequence_before(index),
            after: 0,
        }
    }

    /// A cursor before the first line after `sequence`. A number that was never
    /// assigned means that the reader's history is not ours: it gets everything.
    pub(super) fn after(&self, sequence: i64) -> Cursor {
        let cursor = self.at(self.oldest);
        if sequence > self.last_sequence() {
            return cursor;
        }
        if sequence >= cursor.sequence {
            return Cursor {
                after: sequence,
                ..cursor
            };
        }
        // Lines after it are gone: stand before them, so that the read says so.
        Cursor {
            index: 0,
            bytes: (sequence == 0).then_some(0),
            sequence,
            after: sequence,
        }
    }

    /// Reads on from `cursor`, up to entry `before` and about `budget` bytes.
    pub(super) fn read(&self, cursor: &mut Cursor, budget: usize, before: u64) -> Batch {
        let mut batch = Batch {
            gap: self.gap(cursor),
            ..Batch::default()
        };
        let end = self.window().end.min(before);
        let mut spent = 0;
        let last = end.min(cursor.index.saturating_add(READ_ENTRIES_MAX as u64));
        while cursor.index < last && spent < budget {
            let Some(Record { entry, .. }) = self.record(cursor.index) else {
                break;
            };
            cursor.index += 1;
            cursor.bytes = cursor.bytes.map(|bytes| bytes + entry.data.len() as u64);
            cursor.sequence = cursor.sequence.max(entry.sequence);
            if entry.sequence > cursor.after {
                spent += entry.data.len() + ENTRY_COST_BYTES;
                batch.entries.push(entry.clone());
            }
        }
        batch.more = cursor.index < end;
        batch
    }

    /// The retained entries `from..to`, at most [`READ_ENTRIES_MAX`], to look at.
    pub(super) fn peek(&self, from: u64, to: u64) -> Vec<Entry> {
        (from..to)
            .take(READ_ENTRIES_MAX)
            .filter_map(|index| self.record(index).map(|record| record.entry.clone()))
            .collect()
    }

    /// What was trimmed from under `cursor`, which is moved past it.
    fn gap(&self, cursor: &mut Cursor) -> Option<Gap> {
        if cursor.index >= self.oldest {
            return None;
        }
        let next = self.at(self.oldest);
        let seen = cursor.sequence.max(cursor.after);
        let (first_sequence, last_sequence) = if next.sequence > seen {
            (seen + 1, next.sequence)
        } else {
            // Only later pieces of a line whose start was seen are gone.
            (self.trimmed_sequence, self.trimmed_sequence)
        };
        // Bytes of lines that were not wanted must not be counted.
        let lost_bytes = match (cursor.bytes, next.bytes) {
            (Some(from), Some(to)) if seen == cursor.sequence => signed(to.saturating_sub(from)),
            _ => 0,
        };
        *cursor = Cursor {
            sequence: next.sequence.max(cursor.sequence),
            after: cursor.after,
            ..next
        };
        (last_sequence > cursor.after).then_some(Gap {
            first_sequence,
            last_sequence,
            lost_bytes,
            reason: GapReason::Trimmed,
        })
    }

    fn record(&self, index: u64) -> Option<&Record> {
        let place = usize::try_from(index.checked_sub(self.oldest)?).ok()?;
        self.records.get(place)
    }

    /// Highest sequence that arrived before the retained entry `index`: sequences
    /// are dense in order of arrival, so the next first piece tells it.
    fn sequence_before(&self, index: u64) -> i64 {
        let place = usize::try_from(index.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        self.records
            .iter()
            .skip(place)
            .find(|record| record.entry.line_offset == 0)
            .map_or(self.next_sequence, |record| record.entry.sequence)
            - 1
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
