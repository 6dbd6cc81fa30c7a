//! One bounded read: from the records and bytes of a log to entries and gaps.
//!
//! Lines come in the order of their first bytes. A line that goes on in a later
//! record is put together from it, even if records of the other stream lie in
//! between; those come after it. At the end of what is recorded an unended line
//! is held back, and with it what lies behind, until the caller says `flush`.
//!
//! Invariants: what was taken is in the batch, and what is in the batch was taken,
//! also when a file cannot be read half way; at most [`PIECE_BYTES_MAX`][super::limits::PIECE_BYTES_MAX] bytes are
//! put together; a piece is only cut off when a byte of its line is known to
//! follow, or by `flush`.

mod gather;

use std::{io, path::Path};

use bytes::Bytes;
use memchr::memchr_iter;

use super::{
    continuity::Met,
    data::{Data, Piece},
    entry::{Batch, Entry},
    limits::{ENTRY_COST_BYTES, READ_ENTRIES_MAX},
    place::{Cursor, Line, OpenLine, Place},
    tape::{Item, Look, Tape},
};
use crate::{
    domain::time::Timestamp,
    shim::segment::{Kind, Record, Stream},
};

/// What a read came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) batch: Batch,
    /// The unended line that the rest waits for.
    pub(super) held: Option<Held>,
}

/// Part of a line, at the end of what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) sequence: i64,
    /// Bytes of the line so far.
    pub(super) bytes: i64,
    /// Something of the other stream lies behind it and waits.
    pub(super) is_awaited: bool,
}

struct Walk<'a> {
    cursor: &'a mut Cursor,
    tape: Tape<'a>,
    data: Data<'a>,
    batch: Batch,
    held: Option<Held>,
    spent: usize,
    budget: usize,
    flush: bool,
}

enum Flow {
    /// This item is done.
    Next,
    /// There is more, another time.
    Later,
    /// All there is for now.
    Wait,
}

/// A place in the bytes of one record.
#[derive(Clone, Copy)]
struct Spot {
    item: usize,
    place: Place,
    record: Record,
    taken: u64,
}

/// When the last byte of an entry was captured.
#[derive(Clone, Copy)]
struct When {
    time: Timestamp,
    approximate: bool,
}

/// Reads on from `cursor`, up to `before` and about `budget` bytes.
///
/// # Errors
/// A file cannot be opened or read now; nothing was taken.
pub(super) fn read(
    dir: &Path,
    cursor: &mut Cursor,
    before: Place,
    budget: usize,
    flush: bool,
) -> io::Result<Outcome> {
    let mut walk = Walk {
        tape: Tape::new(dir, cursor.place, before),
        data: Data::new(dir, budget),
        cursor,
        batch: Batch::default(),
        held: None,
        spent: 0,
        // With nothing to spend it would never come any further.
        budget: budget.max(1),
        flush,
    };
    match walk.run() {
        Err(error) if walk.batch.entries.is_empty() && walk.batch.gaps.is_empty() => Err(error),
        Ok(()) | Err(_) => Ok(Outcome {
            batch: walk.batch,
            held: walk.held,
        }),
    }
}

// === impl When ===

impl From<&Record> for When {
    fn from(record: &Record) -> Self {
        Self {
            time: record.time,
            approximate: record.approximate,
        }
    }
}

impl From<Timestamp> for When {
    fn from(time: Timestamp) -> Self {
        Self {
            time,
            approximate: false,
        }
    }
}

// === impl Walk ===

impl Walk<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.batch.more = true;
        for at in 0.. {
            if self.is_full() {
                return Ok(());
            }
            let (place, item) = match self.tape.look(at)? {
                Look::At(place, item) => (place, item),
                Look::End => break,
                Look::Full => return Ok(()),
            };
            match self.step(at, place, &item)? {
                Flow::Next => self.cursor.place = place.next(),
                Flow::Later => return Ok(()),
                Flow::Wait => break,
            }
        }
        self.batch.more = false;
        Ok(())
    }

    fn step(&mut self, at: usize, place: Place, item: &Item) -> io::Result<Flow> {
        let record = match item {
            Item::Header { header, jumped } => {
                let meet = |cursor: &mut Cursor| cursor.meet_header(header, place, *jumped);
                return Ok(self.meet(header.time.into(), meet));
            }
            Item::Corrupt => {
                self.cursor.meet_corrupt();
                return Ok(Flow::Next);
            }
            Item::Record(record) => record,
        };
        let flow = self.meet(record.into(), |cursor| cursor.meet_record(record, place));
        if record.kind != Kind::Data || !matches!(flow, Flow::Next) {
            return Ok(flow);
        }
        self.bytes(Spot {
            item: at,
            place,
            record: *record,
            taken: 0,
        })
    }

    /// Lets the cursor meet something; later, if a gap would have to come behind
    /// entries.
    fn meet(&mut self, when: When, meet: impl Fn(&mut Cursor) -> Met) -> Flow {
        loop {
            let mut cursor = *self.cursor;
            let met = meet(&mut cursor);
            if met.ends.is_empty() {
                if !met.gaps.is_empty() && !self.batch.entries.is_empty() {
                    return Flow::Later;
                }
                let unwanted = self.cursor.unwanted();
                self.batch
                    .gaps
                    .extend(met.gaps.into_iter().filter_map(|mut gap| {
                        gap.first_sequence = gap.first_sequence.max(unwanted.saturating_add(1));
                        (gap.first_sequence <= gap.last_sequence).then_some(gap)
                    }));
                *self.cursor = cursor;
                return Flow::Next;
            }
            for (stream, line) in met.ends {
                self.entry(stream, line, Bytes::new(), false, when);
                self.cursor.tracks[stream.index()].line = Line::Ended;
            }
        }
    }

    /// Takes the bytes of a record.
    fn bytes(&mut self, spot: Spot) -> io::Result<Flow> {
        let Spot { place, record, .. } = spot;
        loop {
            let track = self.cursor.tracks[record.stream.index()];
            if track.taken > place || track.taken_bytes >= record.bytes {
                return Ok(Flow::Next);
            }
            if self.is_full() {
                return Ok(Flow::Later);
            }
            let spot = Spot {
                taken: track.taken_bytes,
                ..spot
            };
            let block = match self.data_at(&spot)? {
                Piece::Bytes(block) => block,
                Piece::Removed => return Ok(Flow::Later),
                Piece::Missing => match self.meet((&record).into(), |c| c.meet_missing(&record)) {
                    Flow::Next => continue,
                    other => return Ok(other),
                },
            };
            if self.whole_lines(&spot, &block) {
                continue;
            }
            match self.rest_of_line(spot)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
    }

    /// Hands on the lines that end within `block`; whether there was one.
    fn whole_lines(&mut self, spot: &Spot, block: &Bytes) -> bool {
        let stream = spot.record.stream;
        let mut start = 0;
        for end in memchr_iter(b'\n', block) {
            if self.is_full() {
                break;
            }
            let line = self.line(spot, start > 0 || spot.taken > 0);
            let data = block.slice(start..end);
            self.entry(stream, line, data, false, (&spot.record).into());
            start = end + 1;
            let track = &mut self.cursor.tracks[stream.index()];
            track.line = Line::Ended;
            track.taken_bytes = spot.taken + start as u64;
        }
        start > 0
    }

    /// The line of the next byte of this record.
    fn line(&mut self, spot: &Spot, is_later: bool) -> OpenLine {
        let record = &spot.record;
        if let Line::Open(line) = self.cursor.tracks[record.stream.index()].line {
            return line;
        }
        let sequence = match is_later {
            true => self.cursor.next_sequence.max(record.following),
            false => record.sequence,
        };
        OpenLine {
            sequence,
            bytes: 0,
            run_id: record.run_id,
            doubtful: false,
            is_lost: false,
        }
    }

    fn data_at(&mut self, spot: &Spot) -> io::Result<Piece> {
        let Spot { record, taken, .. } = spot;
        self.data.at(
            spot.place.segment,
            record.stream,
            record.offset.saturating_add(*taken),
            record.bytes - taken,
        )
    }

    fn entry(&mut self, stream: Stream, line: OpenLine, data: Bytes, partial: bool, when: When) {
        if line.bytes == 0 {
            let next = line.sequence.saturating_add(1);
            self.cursor.next_sequence = self.cursor.next_sequence.max(next);
        }
        // What is not wanted costs time too.
        self.spent += data.len() + ENTRY_COST_BYTES;
        if line.sequence <= self.cursor.unwanted() {
            return;
        }
        self.batch.entries.push(Entry {
            sequence: line.sequence,
            line_offset: line.bytes,
            run_id: line.run_id,
            time: when.time,
            approximate_time: when.approximate,
            stream: stream.into(),
            partial,
            data,
        });
    }

    fn is_full(&self) -> bool {
        self.spent >= self.budget || self.batch.entries.len() >= READ_ENTRIES_MAX
    }
}
