//! What a target must do, and how it fails.

use std::{future::Future, io, time::Duration};

use tokio::time::timeout;

use super::{
    limits::SEND_TIMEOUT,
    queue::{Queue, REASON_CHARS_MAX},
};

/// One that is sent to.
pub(super) trait Target: Send + 'static {
    /// Records worth waiting for, and how long: 0 is not to wait.
    const LINGER: (usize, Duration);

    /// Sends from the front of the queue, marking there what was taken, for
    /// [`super::limits::SEND_TURN`] at most if there is much. May be dropped: then what was
    /// not marked may have been taken.
    fn send(&mut self, queue: &mut Queue) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A target cannot be reached or does not take anything now. What is not marked as
/// sent is to be sent again.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why, for people.
    pub(super) reason: String,
    /// When to try again, if the target said so.
    pub(super) retry_after: Option<Duration>,
}

/// What `sending` comes to, unless it takes longer than [`SEND_TIMEOUT`].
///
/// # Errors
/// Its own, or that nothing was taken for so long.
pub(super) async fn in_time<T>(sending: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(SEND_TIMEOUT, sending).await.unwrap_or_else(|_| {
        let reason = format!("it took nothing for {} s", SEND_TIMEOUT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    })
}

// === impl Failure ===

impl Failure {
    /// With as much of the reason as people need.
    pub(super) fn new(reason: &str) -> Self {
        Self {
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            retry_after: None,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(&error.to_string())
    }
}
