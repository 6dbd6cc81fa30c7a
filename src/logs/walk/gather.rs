//! Puts a line together that does not end within its block: from the blocks and
//! records it goes on in, across segments, up to the size of a piece.

use std::io;

use bytes::Bytes;
use memchr::memchr;

use super::{
    super::{
        data::Piece,
        limits::PIECE_BYTES_MAX,
        place::{Line, OpenLine},
        tape::{Item, Look},
    },
    Flow, Held, Spot, Walk, When,
};
use crate::shim::segment::Kind;

/// A line that is being put together.
struct Gathered {
    /// As it was before.
    line: OpenLine,
    data: Vec<u8>,
    when: When,
    is_awaited: bool,
}

/// How putting a line together came to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// At its newline, or the end of its run.
    Ended,
    /// At the size of a piece.
    Cut,
    /// What should follow does not.
    Broken,
    /// At the end of what is recorded.
    End,
    /// At the end of the tape.
    Full,
}

// === impl Gathered ===

impl Gathered {
    /// Bytes of the line so far.
    fn bytes(&self) -> i64 {
        let new = i64::try_from(self.data.len()).unwrap_or(i64::MAX);
        self.line.bytes.saturating_add(new)
    }
}

// === impl Walk ===

impl Walk<'_> {
    /// Puts together a line that does not end within its block.
    pub(super) fn rest_of_line(&mut self, start: Spot) -> io::Result<Flow> {
        let line = self.line(&start, start.taken > 0);
        let is_open = line.bytes > 0;
        let mut gathered = Gathered {
            line,
            data: Vec::new(),
            when: (&start.record).into(),
            is_awaited: false,
        };
        let mut spot = start;
        let stop = self.gather(&mut gathered, &mut spot)?;
        match stop {
            Stop::Full if start.item > 0 => return Ok(Flow::Later),
            // Later pieces have no order that the other stream would wait for.
            Stop::End if !(self.flush || is_open && gathered.is_awaited) => {
                self.held = Some(Held {
                    sequence: line.sequence,
                    bytes: gathered.bytes(),
                    is_awaited: gathered.is_awaited,
                });
                return Ok(Flow::Wait);
            }
            _ => {}
        }
        let ended = stop == Stop::Ended;
        let bytes = gathered.bytes();
        let data = Bytes::from(gathered.data);
        self.entry(start.record.stream, line, data, !ended, gathered.when);
        let track = &mut self.cursor.tracks[start.record.stream.index()];
        track.taken = spot.place;
        track.taken_bytes = spot.taken;
        track.line = match ended {
            true => Line::Ended,
            false => Line::Open(OpenLine {
                bytes,
                is_lost: false,
                ..line
            }),
        };
        Ok(Flow::Next)
    }

    fn gather(&mut self, gathered: &mut Gathered, spot: &mut Spot) -> io::Result<Stop> {
        loop {
            if spot.taken >= spot.record.bytes
                && let Some(stop) = self.follow(gathered, spot)?
            {
                return Ok(stop);
            }
            let Piece::Bytes(block) = self.data_at(spot)? else {
                return Ok(Stop::Broken);
            };
            let room = PIECE_BYTES_MAX - gathered.data.len();
            let newline = memchr(b'\n', &block[..block.len().min(room + 1)]);
            let count = newline.unwrap_or(block.len().min(room));
            gathered.data.extend_from_slice(&block[..count]);
            spot.taken += count as u64 + u64::from(newline.is_some());
            if newline.is_some() || count > 0 {
                gathered.when = (&spot.record).into();
            }
            if newline.is_some() {
                return Ok(Stop::Ended);
            }
            if count < block.len() {
                return Ok(Stop::Cut);
            }
        }
    }

    /// Moves `spot` to the next record of the line.
    fn follow(&mut self, gathered: &mut Gathered, spot: &mut Spot) -> io::Result<Option<Stop>> {
        let stream = spot.record.stream;
        let (sequence, bytes) = (gathered.line.sequence, gathered.bytes());
        for item in spot.item + 1.. {
            let (place, found) = match self.tape.look(item)? {
                Look::At(place, found) => (place, found),
                Look::End => return Ok(Some(Stop::End)),
                Look::Full => return Ok(Some(Stop::Full)),
            };
            let record = match found {
                Item::Record(record) => record,
                Item::Corrupt => return Ok(Some(Stop::Broken)),
                Item::Header { header, .. } => match header.open[stream.index()] {
                    Some(open) if (open.sequence, open.bytes) == (sequence, bytes) => continue,
                    None if header.run_id != gathered.line.run_id => return Ok(Some(Stop::Ended)),
                    _ => return Ok(Some(Stop::Broken)),
                },
            };
            match record.kind {
                Kind::RunBegan | Kind::RunEnded => return Ok(Some(Stop::Ended)),
                Kind::Closed => {}
                Kind::Dropped if record.stream == stream => return Ok(Some(Stop::Ended)),
                Kind::Data if record.stream == stream => {
                    if (record.sequence, record.line_offset) != (sequence, bytes) {
                        return Ok(Some(Stop::Broken));
                    }
                    *spot = Spot {
                        item,
                        place,
                        record,
                        taken: 0,
                    };
                    return Ok(None);
                }
                Kind::Dropped | Kind::Data => gathered.is_awaited = true,
            }
        }
        Ok(Some(Stop::Full))
    }
}
