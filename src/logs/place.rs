//! Places in a log, and how far a reader has come. Pure.
//!
//! The bytes of one stream are taken in order, but those of the other one may be
//! left behind: a line that goes on in a later record is put together before what
//! lies between is handed on. So a [`Cursor`] has one place up to which everything
//! is done, and per stream how far it was taken beyond that.

use crate::shim::segment::{Kind, Record};

/// A place between two parts of a log: 0 is before the header of a segment, `n`
/// before its record `n - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub(super) segment: u64,
    pub(super) unit: u64,
}

/// Where a log ended at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Behind all that was recorded.
    pub place: Place,
    /// Number that the next new line gets; 0 if there was nothing at all.
    pub next_sequence: i64,
}

/// Where to start in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest retained byte.
    Oldest,
    /// After the newest.
    End,
    /// At the beginning of this line, or the nearest retained.
    From(i64),
    /// Everything up to this sequence was seen. What is gone since is told by a
    /// gap; a sequence that was never assigned starts at the oldest byte.
    After(i64),
}

/// A reader's place in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Everything before it is done.
    pub(super) place: Place,
    pub(super) tracks: [Track; 2],
    /// Number of the next new line; 0: as the log says.
    pub(super) next_sequence: i64,
    /// Lines up to here are not wanted ...
    pub(super) after: i64,
    /// ... if they lie before this place.
    pub(super) after_until: Place,
}

/// How far one stream was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Track {
    /// The record that bytes were taken of last, which may lie behind the place
    /// of the cursor.
    pub(super) taken: Place,
    /// How many.
    pub(super) taken_bytes: u64,
    pub(super) line: Line,
}

/// The line that the next byte of a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// As the next record says.
    Unknown,
    /// A new one.
    Ended,
    Open(OpenLine),
}

/// A line that has begun, and of which the end was not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenLine {
    pub(super) sequence: i64,
    /// Bytes of it so far.
    pub(super) bytes: i64,
    pub(super) run_id: i64,
    /// A record was unreadable since, which may have been one of this line.
    pub(super) doubtful: bool,
    /// A gap of unknown length names it, and none of its bytes was handed on since.
    pub(super) is_lost: bool,
}

// === impl Place ===

impl Place {
    /// Before everything.
    pub const MIN: Self = Self {
        segment: 0,
        unit: 0,
    };

    /// Before the oldest that is still there, and behind something that is not.
    pub(super) const GONE: Self = Self {
        segment: 0,
        unit: 1,
    };

    /// Behind everything that will ever be.
    pub const MAX: Self = Self {
        segment: u64::MAX,
        unit: u64::MAX,
    };

    pub(super) const fn header(segment: u64) -> Self {
        Self { segment, unit: 0 }
    }

    pub(super) const fn record(segment: u64, record: u64) -> Self {
        Self {
            segment,
            unit: record.saturating_add(1),
        }
    }

    /// Behind what lies at this place.
    pub(super) const fn next(self) -> Self {
        Self {
            segment: self.segment,
            unit: self.unit.saturating_add(1),
        }
    }
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn at(place: Place, next_sequence: i64) -> Self {
        let track = Track {
            taken: Place::MIN,
            taken_bytes: 0,
            line: Line::Unknown,
        };
        Self {
            place,
            tracks: [track; 2],
            next_sequence,
            after: 0,
            after_until: Place::MIN,
        }
    }

    /// Without lines up to `sequence`, as far as they lie before `until`.
    pub(super) fn without(self, sequence: i64, until: Place) -> Self {
        Self {
            after: sequence,
            after_until: until,
            ..self
        }
    }

    /// Lines up to this one are not wanted now.
    pub(super) fn unwanted(&self) -> i64 {
        if self.place < self.after_until {
            self.after
        } else {
            0
        }
    }
}

/// Number that a new line would have had just before `record`.
pub(super) fn sequence_before(record: &Record) -> i64 {
    match record.kind {
        Kind::Data if record.line_offset > 0 => record.following,
        Kind::Data | Kind::Dropped => record.sequence,
        Kind::RunBegan | Kind::RunEnded | Kind::Closed => record.next_sequence,
    }
}
