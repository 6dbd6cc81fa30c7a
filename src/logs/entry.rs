//! What a reader gets: entries and gaps.

use bytes::Bytes;

use crate::{domain::time::Timestamp, shim::segment::Stream};

/// Which standard stream a run wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output, and standard error where both share one pipe.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// As programs and people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Its place in an array of both.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// A line or a piece of one. Cloning copies no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the line, from 1, dense per uid over both streams and all runs,
    /// in the order in which the first bytes were recorded. Pieces of one line
    /// share it. First pieces come in order of their numbers; a later piece may
    /// come after entries with higher numbers.
    pub sequence: i64,
    /// Position of `data` within its line, in bytes.
    pub line_offset: i64,
    /// The run that wrote it.
    pub run_id: i64,
    /// When its last byte was captured. Entries captured together share it.
    pub time: Timestamp,
    /// Whether `time` is when the byte was found, not when it came.
    pub approximate_time: bool,
    /// The stream it was written to.
    pub stream: OutputStream,
    /// Whether more of the line follows; the last piece may be empty.
    pub partial: bool,
    /// As written, without the newline.
    pub data: Bytes,
}

/// Entries that are gone for the reader that gets this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First line of which something is missing.
    pub first_sequence: i64,
    /// Last such line. Its later pieces may still follow.
    pub last_sequence: i64,
    /// Bytes lost; 0 where that is not known.
    pub lost_bytes: i64,
    /// Why.
    pub reason: GapReason,
}

/// Why entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention removed them before this reader came for them.
    Trimmed,
    /// The shim could not store them and was told not to wait.
    Dropped,
    /// Records or bytes of the log are damaged or missing.
    Crash,
}

/// The entries of one read.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is missing before `entries`, in order.
    pub gaps: Vec<Gap>,
    /// In the order in which they were written.
    pub entries: Vec<Entry>,
    /// Whether there was more to read.
    pub more: bool,
}

// === impl OutputStream ===

impl From<Stream> for OutputStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}
