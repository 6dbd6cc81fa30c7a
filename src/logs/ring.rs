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

/// Records a queue may have room for beyond four times its length.
const SPARE_RECORDS_MAX: usize = 1024;

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
        // A queue far emptier than `ENTRY_COST_BYTES` allows for is given back.
        if self.records.capacity() > 4 * self.records.len() + SPARE_RECORDS_MAX {
            self.records.shrink_to(2 * self.records.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(stream: OutputStream) -> Origin {
        Origin {
            run_id: 1,
            stream,
            open: None,
        }
    }

    /// Pieces in order of arrival: `1a 2 3 1b 4`, two bytes each.
    fn interleaved() -> Ring {
        let mut ring = Ring::new(usize::MAX);
        let mut out = origin(OutputStream::Stdout);
        let mut err = origin(OutputStream::Stderr);
        let data = || Bytes::from_static(b"xx");
        ring.push(&mut out, Timestamp(1), data(), Cut::More);
        ring.push(&mut err, Timestamp(2), data(), Cut::End);
        ring.push(&mut err, Timestamp(3), data(), Cut::End);
        ring.push(&mut out, Timestamp(4), data(), Cut::End);
        ring.push(&mut err, Timestamp(5), data(), Cut::End);
        ring
    }

    fn keep(ring: &mut Ring, entries: usize) {
        ring.trim_to(entries * (2 + ENTRY_COST_BYTES));
    }

    /// First and last sequence and bytes of a gap; sequence and offset of entries.
    type Got = (Option<(i64, i64, i64)>, Vec<(i64, i64)>);

    fn read(ring: &Ring, mut cursor: Cursor) -> Got {
        let batch = ring.read(&mut cursor, usize::MAX, u64::MAX);
        assert!(!batch.more);
        let entries = batch.entries.iter();
        (
            batch
                .gap
                .map(|gap| (gap.first_sequence, gap.last_sequence, gap.lost_bytes)),
            entries.map(|e| (e.sequence, e.line_offset)).collect(),
        )
    }

    #[test]
    fn a_long_line_keeps_its_number_while_others_pass() {
        let ring = interleaved();
        let all = [(1, 0), (2, 0), (3, 0), (1, 2), (4, 0)];
        assert_eq!(read(&ring, ring.after(0)), (None, all.to_vec()));
        assert_eq!(read(&ring, ring.after(2)), (None, vec![(3, 0), (4, 0)]));
        assert_eq!(read(&ring, ring.at(3)), (None, vec![(1, 2), (4, 0)]));
    }

    #[test]
    fn gaps_name_what_this_reader_missed() {
        // What was read before, what is kept, the gap.
        let cases = [
            (0, 2, Some((1, 3, 6))),
            (1, 2, Some((2, 3, 4))),
            (1, 1, Some((2, 3, 6))),
            // Only the end of line 1, which is a gap in that line.
            (3, 1, Some((1, 1, 2))),
            (3, 2, None),
        ];
        for (seen, kept, want) in cases {
            let mut ring = interleaved();
            let mut cursor = ring.at(0);
            ring.read(&mut cursor, usize::MAX, seen);
            keep(&mut ring, kept);
            let (gap, entries) = read(&ring, cursor);
            assert_eq!(gap, want, "{seen} read, {kept} kept");
            assert_eq!(entries.len(), kept);
        }
        let mut ring = interleaved();
        keep(&mut ring, 2);
        let wanted = |sequence| read(&ring, ring.after(sequence)).0;
        assert_eq!(wanted(0), Some((1, 3, 6)));
        assert_eq!(wanted(2), Some((3, 3, 0)));
        assert_eq!(wanted(3), None);
    }

    #[test]
    fn what_was_not_wanted_is_not_missed() {
        let mut ring = interleaved();
        let cursor = ring.after(3);
        keep(&mut ring, 1);
        assert_eq!(read(&ring, cursor), (None, vec![(4, 0)]));
    }

    #[test]
    fn the_newest_entry_stays_and_an_emptied_queue_is_given_back() {
        let mut ring = Ring::new(usize::MAX);
        let mut out = origin(OutputStream::Stdout);
        for _ in 0..100_000 {
            ring.push(&mut out, Timestamp(1), Bytes::new(), Cut::End);
        }
        ring.trim_to(0);
        assert_eq!(
            ring.window(),
            Window {
                oldest: 99_999,
                end: 100_000
            }
        );
        assert_eq!(ring.cost(), ENTRY_COST_BYTES);
        assert!(ring.records.capacity() <= 4 + SPARE_RECORDS_MAX);
    }
}
