//! Bounds of captured output, with their units. Everything that grows in `logs`
//! has a row here.

use std::time::Duration;

/// Bytes of one piece of a line. A longer line is cut into pieces of exactly
/// this size and a last one of 1 to this many bytes.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Bytes taken from a pipe at once; the default capacity of a pipe. Not above
/// [`PIECE_BYTES_MAX`], so that a line within one read is never cut.
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes one pipe may deliver before the other pipes have their turn.
pub const TURN_BYTES_MAX: usize = 1024 * 1024;

/// What an entry costs beside its data: its record in a queue that may be half
/// empty, and its share of the allocation its data lies in.
pub const ENTRY_COST_BYTES: usize = 160;

/// Bytes retained per process where nothing else is asked for.
pub const BUFFER_BYTES_DEFAULT: usize = 1024 * 1024;

/// Least bytes retained per process: a few of the largest pieces.
pub const BUFFER_BYTES_MIN: usize = 256 * 1024;

/// Most bytes retained per process.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes retained over all processes where nothing else is asked for.
pub const TOTAL_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// A line without its newline is handed on when its pipe was quiet this long.
pub const QUIET: Duration = Duration::from_millis(100);

/// ... or when its oldest held byte is this old, however busy the pipe is.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Entries looked at under one hold of a buffer's lock by a reader.
pub const READ_ENTRIES_MAX: usize = 1024;

/// How much output is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes over all processes, with [`ENTRY_COST_BYTES`] per entry. Past it the
    /// oldest entries of the largest buffers go.
    pub total_bytes: usize,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: TOTAL_BYTES_DEFAULT,
        }
    }
}

/// The bytes a buffer gets when `asked` are asked for; 0 asks for the default.
#[must_use]
pub fn buffer_bytes(asked: usize) -> usize {
    match asked {
        0 => BUFFER_BYTES_DEFAULT,
        asked => asked.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_sizes_are_clamped() {
        assert_eq!(buffer_bytes(0), BUFFER_BYTES_DEFAULT);
        assert_eq!(buffer_bytes(1), BUFFER_BYTES_MIN);
        assert_eq!(buffer_bytes(2 * 1024 * 1024), 2 * 1024 * 1024);
        assert_eq!(buffer_bytes(usize::MAX), BUFFER_BYTES_MAX);
        const { assert!(READ_BYTES_MAX <= PIECE_BYTES_MAX) };
        const { assert!(BUFFER_BYTES_MIN >= 2 * (PIECE_BYTES_MAX + ENTRY_COST_BYTES)) };
    }
}
