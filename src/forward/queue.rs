//! What is read and not sent yet, and how far what is sent reaches.

use std::collections::VecDeque;

use super::position::Position;
use crate::{
    domain::{id::ProcessName, time::Timestamp},
    logs::{Entry, Gap, GapReason, OutputStream},
};

/// Characters of what a target says about itself.
pub(super) const REASON_CHARS_MAX: usize = 300;

/// Whose output it is, as targets tell it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) process: ProcessName,
    pub(super) uid: String,
    /// Of this machine; empty if unknown.
    pub(super) host: String,
}

/// Something that a target is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A line, or a piece of one.
    Line(Entry),
    /// Lines that are gone, and when that was found.
    Lost(Gap, Timestamp),
}

/// Something to tell, and where the log has got to once it is told.
#[derive(Debug, Clone)]
struct Record {
    content: Content,
    reached: Position,
}

/// In the order of the log. Bounded by whoever fills it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    /// Up to where all is sent, or not wanted.
    sent: Position,
    /// Up to where was read.
    read: Position,
    /// Records that the target refused, and why, since somebody looked.
    refused: (usize, String),
}

// === impl Content ===

impl Content {
    /// When it came to be.
    pub(super) fn time(&self) -> Timestamp {
        match self {
            Self::Line(entry) => entry.time,
            Self::Lost(_, time) => *time,
        }
    }

    /// The same as RFC 3339 has it, in UTC with microseconds; `None` where that cannot
    /// be written.
    pub(super) fn timestamp(&self) -> Option<String> {
        let time = jiff::Timestamp::from_nanosecond(self.time().0.into()).ok()?;
        Some(format!("{time:.6}"))
    }

    /// As syslog has it (RFC 5424, section 6.2.1): informational for stdout, error for
    /// stderr, warning where lines were lost.
    pub(super) fn severity(&self) -> u8 {
        match self {
            Self::Line(entry) => match entry.stream {
                OutputStream::Stdout => 6,
                OutputStream::Stderr => 3,
            },
            Self::Lost(..) => 4,
        }
    }

    /// Number of the (first) line.
    pub(super) fn sequence(&self) -> i64 {
        match self {
            Self::Line(entry) => entry.sequence,
            Self::Lost(gap, _) => gap.first_sequence,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Line(entry) => entry.data.len(),
            Self::Lost(..) => 0,
        }
    }
}

/// What a target is told in place of lines that are gone.
pub(super) fn lost_text(gap: &Gap) -> String {
    let lines = gap.last_sequence - gap.first_sequence + 1;
    let noun = if lines == 1 { "line" } else { "lines" };
    let reason = reason(gap.reason);
    let (first, last) = (gap.first_sequence, gap.last_sequence);
    format!("{lines} {noun} lost ({reason}): sequences {first} to {last}")
}

/// Why lines are gone, in a word.
pub(super) fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Trimmed => "trimmed",
        GapReason::Dropped => "dropped",
        GapReason::Crash => "damaged",
    }
}

// === impl Queue ===

impl Queue {
    /// Empty, at `position`.
    pub(super) fn at(position: Position) -> Self {
        Self {
            sent: position,
            read: position,
            ..Self::default()
        }
    }

    /// What of it is new, if anything.
    pub(super) fn push_gap(&mut self, gap: Gap, now: Timestamp) -> Option<Gap> {
        let gap = self.read.take_gap(gap)?;
        self.push(Content::Lost(gap, now));
        Some(gap)
    }

    /// An entry that is not `wanted` only moves the position.
    pub(super) fn push_entry(&mut self, entry: Entry, wanted: bool) {
        if let Some(entry) = self.read.take(entry)
            && wanted
        {
            self.push(Content::Line(entry));
        } else if self.records.is_empty() {
            self.sent = self.read;
        }
    }

    fn push(&mut self, content: Content) {
        self.bytes += content.bytes();
        self.records.push_back(Record {
            content,
            reached: self.read,
        });
    }

    /// The oldest, which stays until it is [`Queue::sent`].
    pub(super) fn front(&self) -> Option<&Content> {
        self.records.front().map(|record| &record.content)
    }

    /// All, oldest first.
    pub(super) fn contents(&self) -> impl Iterator<Item = &Content> {
        self.records.iter().map(|record| &record.content)
    }

    /// The target has the oldest `count`.
    pub(super) fn sent(&mut self, count: usize) {
        for record in self.records.drain(..count.min(self.records.len())) {
            self.bytes -= record.content.bytes();
            self.sent = record.reached;
        }
        if self.records.is_empty() {
            self.sent = self.read;
        }
    }

    /// The target will never take `lost` of the oldest `count`, and says why.
    pub(super) fn refused(&mut self, count: usize, lost: usize, why: &str) {
        self.refused.0 += lost;
        if lost > 0 {
            self.refused.1 = why.chars().take(REASON_CHARS_MAX).collect();
        }
        self.sent(count);
    }

    /// How many were refused since this was asked last, and why the last of them.
    pub(super) fn take_refused(&mut self) -> (usize, String) {
        std::mem::take(&mut self.refused)
    }

    /// Where the log has got to.
    pub(super) fn position(&self) -> Position {
        self.sent
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of lines.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
