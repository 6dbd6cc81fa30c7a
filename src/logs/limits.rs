//! Bounds of reading captured output, with their units. Everything that grows in
//! `logs` has a row here; what a process keeps on disk is its own policy.

use std::time::Duration;

/// Bytes of one piece of a line. A longer line is cut into pieces of this size
/// and a last one of 1 to this many bytes.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What an entry counts beside its data in the budget of a read.
pub const ENTRY_COST_BYTES: usize = 160;

/// Bytes on disk over all processes where nothing else is asked for.
pub const TOTAL_BYTES_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;

/// Between two looks at the total, while a run is up. With it and what runs can
/// write in that time, the total may be exceeded.
pub const TOTAL_INTERVAL: Duration = Duration::from_secs(60);

/// A line without its newline is handed on when its stream was quiet this long.
pub const QUIET: Duration = Duration::from_millis(100);

/// ... or when its oldest held byte was seen so long ago, however busy the
/// stream is.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Between two looks at logs that the kernel cannot watch for us.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Entries of one read.
pub const READ_ENTRIES_MAX: usize = 1024;

/// Records looked at by one read, and how far ahead of a line its end is looked
/// for among those of the other stream.
pub const WINDOW_RECORDS_MAX: usize = 512;

/// Bytes taken from a data file at once.
pub(super) const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Least of it, however small the budget of the read.
pub(super) const BLOCK_BYTES_MIN: usize = 4 * 1024;

/// Bytes of output that a search backwards takes in one step, or one record.
pub(super) const BACK_BYTES: u64 = 256 * 1024;

/// How much output is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk over all processes. Past it the oldest segments go, but
    /// never the newest of a process. Known to clients as `logs_total_bytes_max`.
    pub total_bytes: u64,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: TOTAL_BYTES_DEFAULT,
        }
    }
}
