//! Every `*_MAX` of the daemon in one place, with its unit. What grows has a row
//! here, and each row is tested where it binds.

use std::time::Duration;

/// Characters of a process or group name.
pub const NAME_CHARS_MAX: usize = 63;
/// Characters of a label key's name part and of a label value.
pub const LABEL_CHARS_MAX: usize = 63;
/// Characters of the prefix of a label key.
pub const LABEL_PREFIX_CHARS_MAX: usize = 253;
/// Label pairs of one process.
pub const LABELS_MAX: usize = 64;
/// Bytes of all annotations of one process, keys and values.
pub const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of argv and of the environment of one process, each.
pub const COMMAND_BYTES_MAX: usize = 128 * 1024;
/// Words of argv and variables of the environment of one process, each.
pub const COMMAND_WORDS_MAX: usize = 1024;
/// Dependencies of one process.
pub const DEPENDENCIES_MAX: usize = 256;
/// Least bytes of one segment of a log.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 1024;
/// A segment is at least this share of all that is kept of a log.
pub const LOG_SEGMENTS_MAX: u64 = 1024;
/// Targets that the output of one process is forwarded to.
pub const LOG_FORWARDS_MAX: usize = 8;
/// Characters of a syslog tag (APP-NAME of RFC 5424) or a journal identifier.
pub const FORWARD_TAG_CHARS_MAX: usize = 48;
/// Bytes of an address or endpoint that output is forwarded to.
pub const FORWARD_TEXT_BYTES_MAX: usize = 512;
/// Processes in the registry.
pub const PROCESSES_MAX: usize = 20_000;
/// Finished runs remembered per process.
pub const EXIT_HISTORY_MAX: usize = 10;
/// Commands waiting for one process's owner task.
pub const MAILBOX_MAX: usize = 256;
/// Callers waiting for a condition of one process.
pub const WAITERS_MAX: usize = 4096;
/// Automatic restarts that one budget counts.
pub const BUDGET_RESTARTS_MAX: i32 = 10_000;

/// Longest configurable duration of any policy.
pub const POLICY_DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const _: () = assert!(
    WAITERS_MAX >= MAILBOX_MAX,
    "a full mailbox of waits must fit"
);
