//! Whether what comes next in a log follows on what a reader has seen. Pure.
//!
//! Every record says of which line its first byte is and which numbers were given
//! before it. What does not fit is missing, whatever the reason: a removed
//! segment, an unreadable record, bytes that are not there. So nothing is ever
//! lost without a gap, and no line is made up of parts that do not belong
//! together.

use super::{
    entry::{Gap, GapReason},
    place::{Cursor, Line, OpenLine, Place, Track, sequence_before},
};
use crate::shim::segment::{Header, Kind, Record, Stream};

/// What follows from meeting the next part of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    /// Lines that are ended by it, each at its length so far. They come first.
    pub(super) ends: Vec<(Stream, OpenLine)>,
    pub(super) gaps: Vec<Gap>,
}

// === impl Cursor ===

impl Cursor {
    /// The header at `place`; `jumped`: something before it was removed.
    pub(super) fn meet_header(&mut self, header: &Header, place: Place, jumped: bool) -> Met {
        let mut met = Met::default();
        let reason = match jumped {
            true => GapReason::Trimmed,
            false => GapReason::Crash,
        };
        for stream in Stream::ALL {
            let track = &mut self.tracks[stream.index()];
            if track.taken > place {
                // Looked at before, when its line was put together.
                continue;
            }
            let open = header.open[stream.index()].map(|line| OpenLine {
                sequence: line.sequence,
                bytes: line.bytes,
                run_id: header.run_id,
                doubtful: false,
                is_lost: track.has_lost(line.sequence),
            });
            match track.line {
                Line::Open(known) if open.is_none() && known.run_id != header.run_id => {
                    track.meet_end(stream, &mut met);
                }
                Line::Open(known) => met.lost_of(known, open, reason),
                // Looked ahead to the end of its run.
                Line::Ended if open.is_some_and(|line| line.sequence < self.next_sequence) => {
                    continue;
                }
                Line::Unknown | Line::Ended => {}
            }
            track.line = open.map_or(Line::Ended, Line::Open);
        }
        self.expect(header.next_sequence, reason, &mut met);
        self.note_lost(&met);
        met
    }

    /// Something unreadable.
    pub(super) fn meet_corrupt(&mut self) {
        for track in &mut self.tracks {
            if let Line::Open(line) = &mut track.line {
                line.doubtful = true;
            }
        }
    }

    /// A record of any kind; for one with bytes, before the first is taken.
    pub(super) fn meet_record(&mut self, record: &Record, place: Place) -> Met {
        let mut met = Met::default();
        match record.kind {
            Kind::Data => {
                let track = &mut self.tracks[record.stream.index()];
                if track.taken < place {
                    track.meet_bytes(record, &mut met);
                    track.taken = place;
                    track.taken_bytes = 0;
                }
                self.expect(sequence_before(record), GapReason::Crash, &mut met);
            }
            Kind::Dropped => {
                self.tracks[record.stream.index()].meet_end(record.stream, &mut met);
                self.expect(record.sequence, GapReason::Crash, &mut met);
                met.gaps.push(Gap {
                    first_sequence: record.sequence,
                    last_sequence: record.sequence,
                    lost_bytes: signed(record.bytes),
                    reason: GapReason::Dropped,
                });
                self.next_sequence = record.sequence.saturating_add(1);
            }
            Kind::RunBegan | Kind::RunEnded => {
                for stream in Stream::ALL {
                    self.tracks[stream.index()].meet_end(stream, &mut met);
                }
                self.expect(record.next_sequence, GapReason::Crash, &mut met);
            }
            Kind::Closed => self.expect(record.next_sequence, GapReason::Crash, &mut met),
        }
        self.note_lost(&met);
        met
    }

    /// The bytes of `record` from those taken on are not there.
    pub(super) fn meet_missing(&mut self, record: &Record) -> Met {
        let mut met = Met::default();
        let track = &mut self.tracks[record.stream.index()];
        let lost = record.bytes.saturating_sub(track.taken_bytes);
        let first = match track.line {
            Line::Open(line) => line.sequence,
            Line::Ended | Line::Unknown if track.taken_bytes == 0 => record.sequence,
            Line::Ended | Line::Unknown => self.next_sequence.max(record.following),
        };
        met.gaps.push(Gap {
            first_sequence: first,
            last_sequence: first.max(record.next_sequence.saturating_sub(1)),
            lost_bytes: signed(lost),
            reason: GapReason::Crash,
        });
        track.taken_bytes = record.bytes;
        track.line = Line::Unknown;
        self.next_sequence = self.next_sequence.max(record.next_sequence);
        met
    }

    /// The next new line should have the number `next`.
    fn expect(&mut self, next: i64, reason: GapReason, met: &mut Met) {
        if self.next_sequence > 0 && next > self.next_sequence {
            met.lost_lines(self.next_sequence, next - 1, reason);
        }
        self.next_sequence = self.next_sequence.max(next);
    }

    /// Lines that go on, although a gap names them.
    fn note_lost(&mut self, met: &Met) {
        for track in &mut self.tracks {
            if let Line::Open(line) = &mut track.line {
                line.is_lost |= met.has_lost(line.sequence);
            }
        }
    }
}

// === impl Track ===

impl Track {
    /// Whether a gap that was told says all there is to say of line `sequence`.
    fn has_lost(&self, sequence: i64) -> bool {
        matches!(self.line, Line::Open(line) if line.is_lost && line.sequence == sequence)
    }

    fn meet_bytes(&mut self, record: &Record, met: &mut Met) {
        let open = (record.line_offset > 0).then_some(OpenLine {
            sequence: record.sequence,
            bytes: record.line_offset,
            run_id: record.run_id,
            doubtful: false,
            is_lost: self.has_lost(record.sequence),
        });
        if let Line::Open(known) = self.line {
            met.lost_of(known, open, GapReason::Crash);
        }
        self.line = open.map_or(Line::Ended, Line::Open);
    }

    fn meet_end(&mut self, stream: Stream, met: &mut Met) {
        if let Line::Open(line) = self.line {
            if line.doubtful {
                met.lost_rest(line, 0, GapReason::Crash);
            } else {
                met.end(stream, line);
            }
        }
        self.line = Line::Ended;
    }
}

// === impl Met ===

impl Met {
    fn end(&mut self, stream: Stream, line: OpenLine) {
        self.ends.push((stream, line));
    }

    /// `known` should go on; what goes on is `open`.
    fn lost_of(&mut self, known: OpenLine, open: Option<OpenLine>, reason: GapReason) {
        match open {
            Some(open) if open.sequence == known.sequence => {
                let lost = open.bytes.saturating_sub(known.bytes);
                if lost > 0 {
                    self.lost_rest(known, lost, reason);
                }
            }
            _ => self.lost_rest(known, 0, reason),
        }
    }

    /// Some of what follows of `line`, unless a gap has said so; `lost_bytes` 0:
    /// nobody knows how much.
    fn lost_rest(&mut self, line: OpenLine, lost_bytes: i64, reason: GapReason) {
        if line.is_lost {
            return;
        }
        self.gaps.push(Gap {
            first_sequence: line.sequence,
            last_sequence: line.sequence,
            lost_bytes,
            reason,
        });
    }

    /// Whether a gap of unknown length names line `sequence`.
    fn has_lost(&self, sequence: i64) -> bool {
        let names = |gap: &Gap| (gap.first_sequence..=gap.last_sequence).contains(&sequence);
        self.gaps
            .iter()
            .any(|gap| gap.lost_bytes == 0 && names(gap))
    }

    /// Lines of which nothing was seen; one gap with a line before them of which
    /// the rest is lost too.
    fn lost_lines(&mut self, first: i64, last: i64, reason: GapReason) {
        let adjacent = self
            .gaps
            .iter()
            .position(|gap| gap.last_sequence == first - 1 && gap.reason == reason);
        match adjacent {
            Some(at) => {
                self.gaps[at].last_sequence = last;
                self.gaps[at].lost_bytes = 0;
            }
            None => self.gaps.push(Gap {
                first_sequence: first,
                last_sequence: last,
                lost_bytes: 0,
                reason,
            }),
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
