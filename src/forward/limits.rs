//! Bounds of forwarding, with their units.

use std::time::Duration;

/// Bytes read from a log before they are sent. With one piece of a line more it is
/// what a forward holds of its log, but for [`BATCH_BYTES_MAX`].
pub const READ_BYTES_MAX: usize = 64 * 1024;

/// Records of one request to a collector.
pub const BATCH_RECORDS_MAX: usize = 512;

/// Bytes of one request to a collector, as it is encoded.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How long a request to a collector waits for more records.
pub const BATCH_LINGER: Duration = Duration::from_millis(500);

/// Least time between two writes of a position. What was sent since is sent again
/// after a crash.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two tries to follow a log that cannot be read.
pub const BEGIN_INTERVAL: Duration = Duration::from_secs(1);

/// How long one send may report nothing.
pub const SEND_TURN: Duration = Duration::from_secs(1);

/// How long a target may take nothing before its connection is given up.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a target may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a collector may take to answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// First delay before a target is tried again; it doubles, and up to half of each is
/// taken off at random.
pub const RETRY_MIN: Duration = Duration::from_millis(250);

/// Longest delay before a target is tried again, also if it asks for more.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Least time between two warnings about one target.
pub const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// How long what was written may take to be sent once the process is deleted or
/// the forward is removed.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The same when the daemon ends; the next one goes on where it stood.
pub const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(2);
