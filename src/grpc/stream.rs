//! What every long stream has in common: its heartbeat and how it ends on purpose.
//!
//! Such a stream says `closing`, then UNAVAILABLE, both with the same delay.
//! Deliberately absent: what a stream tells in between.

use std::{io, time::Duration};

use tonic::Status;

use super::{
    convert::duration,
    proto,
    status::{self, Reason},
};
use crate::watch::CloseReason;

/// Shortest heartbeat; what a caller asks for is clamped.
pub(super) const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Longest heartbeat.
pub(super) const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// Silence after which a stream says that it lives, if the caller does not say
/// otherwise.
pub(super) const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);

/// When to try again what cannot be read.
const UNREADABLE_DELAY: Duration = Duration::from_secs(5);

/// The last message of a stream that is ended on purpose.
pub(super) fn closing(reason: CloseReason) -> proto::WatchClosing {
    let wire = match reason {
        CloseReason::Shutdown => proto::CloseReason::Shutdown,
        CloseReason::MaxStreamAge => proto::CloseReason::MaxStreamAge,
    };
    proto::WatchClosing {
        reason: wire.into(),
        retry_delay: Some(duration(retry_delay(reason))),
    }
}

/// How it ends after that message.
pub(super) fn closed(reason: CloseReason) -> Status {
    let delay = retry_delay(reason);
    match reason {
        CloseReason::Shutdown => status::shutting_down(delay),
        CloseReason::MaxStreamAge => {
            let message = "the stream reached its age; resume it";
            status::retry_later(Reason::StreamMaxAge, message, delay)
        }
    }
}

/// The files of captured output cannot be opened or read now.
pub(super) fn output_unreadable(error: &io::Error) -> Status {
    tracing::warn!(%error, "captured output cannot be read");
    let message = format!("captured output cannot be read now: {error}; try again");
    status::retry_later(Reason::LogsUnreadable, message, UNREADABLE_DELAY)
}

/// How long a client should wait before it comes back.
const fn retry_delay(reason: CloseReason) -> Duration {
    match reason {
        CloseReason::Shutdown => Duration::from_secs(1),
        CloseReason::MaxStreamAge => Duration::from_millis(100),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn output_that_cannot_be_read_says_why_and_when_to_try_again() {
        let status = output_unreadable(&io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(status.code(), tonic::Code::Unavailable);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "LOGS_UNREADABLE");
        assert!(details.retry_info().unwrap().retry_delay.is_some());
    }
}
