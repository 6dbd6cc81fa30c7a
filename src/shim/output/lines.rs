//! Which line a byte belongs to.
//!
//! Invariants: numbers are given once, in order, at the first byte of a line; a
//! stretch that was dropped takes one. Pure: no clock and no files.

use crate::shim::segment::{Kind, OpenLine, Record, Stream};

/// Newlines in a stretch of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stretch {
    pub(super) bytes: u64,
    pub(super) newlines: u64,
    /// Bytes after the last newline; all if there is none.
    pub(super) tail: u64,
}

/// The numbers in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) sequence: i64,
    pub(super) line_offset: i64,
    pub(super) following: i64,
    pub(super) next_sequence: i64,
}

/// Where the numbering stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    /// Number that the next new line gets.
    pub(super) next: i64,
    /// The unended line of each stream.
    pub(super) open: [Option<OpenLine>; 2],
}

// === impl Stretch ===

impl Stretch {
    /// Counts a further piece.
    pub(super) fn count(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match memchr::memrchr(b'\n', piece) {
            Some(last) => {
                self.newlines += memchr::memchr_iter(b'\n', &piece[..=last]).count() as u64;
                self.tail = (piece.len() - last - 1) as u64;
            }
            None => self.tail += piece.len() as u64,
        }
    }

    /// Lines that begin in these bytes after a newline in them.
    fn lines_after_newline(&self) -> i64 {
        signed(self.newlines - u64::from(self.newlines > 0 && self.tail == 0))
    }
}

// === impl Lines ===

impl Lines {
    /// Where a log begins.
    pub(super) const FIRST: Self = Self {
        next: 1,
        open: [None; 2],
    };

    /// `stretch`, which is not empty, comes on `stream`.
    pub(super) fn add(&mut self, stream: Stream, stretch: Stretch) -> Numbers {
        let open = self.open[stream.index()].take();
        let first = open.unwrap_or_else(|| OpenLine {
            sequence: self.take_number(),
            bytes: 0,
        });
        let following = self.next;
        self.next = self.next.saturating_add(stretch.lines_after_newline());
        self.open[stream.index()] = open_after(first, following, stretch);
        Numbers {
            sequence: first.sequence,
            line_offset: first.bytes,
            following,
            next_sequence: self.next,
        }
    }

    /// A stretch of `stream` was dropped.
    pub(super) fn drop(&mut self, stream: Stream) -> Numbers {
        self.open[stream.index()] = None;
        let sequence = self.take_number();
        Numbers {
            sequence,
            ..self.numbers()
        }
    }

    /// A run began or ended.
    pub(super) fn end_all(&mut self) {
        self.open = [None; 2];
    }

    /// Of a record without bytes.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            sequence: self.next,
            line_offset: 0,
            following: self.next,
            next_sequence: self.next,
        }
    }

    /// Goes on after a record found on disk. What `Data` leaves open depends on
    /// its bytes: see [`Lines::reopen`].
    pub(super) fn follow(&mut self, record: &Record) {
        self.next = record.next_sequence;
        match record.kind {
            Kind::Data | Kind::Dropped => self.open[record.stream.index()] = None,
            Kind::RunBegan | Kind::RunEnded => self.end_all(),
            Kind::Closed => {}
        }
    }

    /// `stretch` are the bytes of `record`, the last one of its stream.
    pub(super) fn reopen(&mut self, record: &Record, stretch: Stretch) {
        let first = OpenLine {
            sequence: record.sequence,
            bytes: record.line_offset,
        };
        self.open[record.stream.index()] = open_after(first, record.following, stretch);
    }

    fn take_number(&mut self) -> i64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }
}

/// The line that is open after `stretch`, whose first byte goes to `first` and
/// whose further lines are numbered from `following`.
fn open_after(first: OpenLine, following: i64, stretch: Stretch) -> Option<OpenLine> {
    if stretch.newlines == 0 {
        return Some(OpenLine {
            sequence: first.sequence,
            bytes: first.bytes.saturating_add(signed(stretch.tail)),
        });
    }
    (stretch.tail > 0).then(|| OpenLine {
        sequence: following.saturating_add(signed(stretch.newlines) - 1),
        bytes: signed(stretch.tail),
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(lines: &mut Lines, stream: Stream, bytes: &str) -> (i64, i64, i64, i64) {
        let mut stretch = Stretch::default();
        for byte in bytes.as_bytes().chunks(2) {
            stretch.count(byte);
        }
        let mut whole = Stretch::default();
        whole.count(bytes.as_bytes());
        assert_eq!(stretch, whole, "chunks make no difference");
        let n = lines.add(stream, stretch);
        (n.sequence, n.line_offset, n.following, n.next_sequence)
    }

    #[test]
    fn a_line_is_numbered_at_its_first_byte() {
        let mut lines = Lines::FIRST;
        assert_eq!(add(&mut lines, Stream::Stdout, "abc"), (1, 0, 2, 2));
        assert_eq!(add(&mut lines, Stream::Stderr, "E\n\nF"), (2, 0, 3, 5));
        assert_eq!(add(&mut lines, Stream::Stdout, "de"), (1, 3, 5, 5));
        assert_eq!(add(&mut lines, Stream::Stdout, "\nx\ny"), (1, 5, 5, 7));
        assert_eq!(add(&mut lines, Stream::Stderr, "\n"), (4, 1, 7, 7));
        assert_eq!(add(&mut lines, Stream::Stdout, "z\n"), (6, 1, 7, 7));
        assert_eq!(lines.open, [None; 2]);
        assert_eq!(add(&mut lines, Stream::Stdout, "\n"), (7, 0, 8, 8));
    }

    #[test]
    fn a_dropped_stretch_takes_one_number_and_ends_its_line() {
        let mut lines = Lines::FIRST;
        add(&mut lines, Stream::Stdout, "abc");
        add(&mut lines, Stream::Stderr, "d");
        let dropped = lines.drop(Stream::Stdout);
        assert_eq!((dropped.sequence, dropped.next_sequence), (3, 4));
        assert_eq!(add(&mut lines, Stream::Stdout, "e"), (4, 0, 5, 5));
        assert_eq!(add(&mut lines, Stream::Stderr, "f"), (2, 1, 5, 5));
        lines.end_all();
        assert_eq!(add(&mut lines, Stream::Stderr, "g"), (5, 0, 6, 6));
    }
}
