//! What all streams share that outlive their connection: which ends are final, how
//! long to wait before the next attempt, and what silence means.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use tonic::{Code, Response, Status, Streaming};

use super::render::{text, time};
use crate::grpc::proto;

/// Waited for the answer and for the first message, which says how often to expect
/// the others.
pub(crate) const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(15);
/// What the daemon does where nothing else is agreed.
pub(crate) const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Exponential back-off with full jitter: any delay from 0 to a ceiling that
/// doubles from 0.1 s to 5 s.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempt: u32,
}

/// Why a stream came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// The server is done, without an error.
    Finished,
    /// The server ends it on purpose; come back after this long.
    Closing(Option<Duration>),
    /// It broke.
    Broken(Status),
    /// Nothing was heard for too long.
    Silent,
}

// === impl Backoff ===

impl Backoff {
    /// The delay before the next attempt; `share` is from 0 to 1.
    fn delay(&mut self, share: f64) -> Duration {
        let ceiling = DELAY_MIN
            .saturating_mul(1 << self.attempt.min(16))
            .min(DELAY_MAX);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(share.clamp(0.0, 1.0))
    }

    /// The delay before the next attempt, drawn at random.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.delay(random_share())
    }

    /// The last attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

// === impl End ===

impl End {
    /// The status, where trying again cannot help.
    pub(crate) fn fatal(self) -> Result<Self, Status> {
        match self {
            Self::Broken(status) if is_final(status.code()) => Err(status),
            end => Ok(end),
        }
    }

    /// For people.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Finished => "the daemon ended the stream".to_owned(),
            Self::Closing(_) => "the daemon closed the stream".to_owned(),
            Self::Broken(status) if status.message().is_empty() => {
                format!("the connection broke ({})", status.code().description())
            }
            Self::Broken(status) => {
                format!("the connection broke ({})", text::line(status.message()))
            }
            Self::Silent => "nothing was heard for too long".to_owned(),
        }
    }
}

/// The stream that `call` opens, or why there is none.
pub(crate) async fn open<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Streaming<T>, End> {
    match tokio::time::timeout(FIRST_MESSAGE_WAIT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(End::Broken(status)),
        Err(_) => Err(End::Silent),
    }
}

/// The next message, or why there is none.
pub(crate) async fn next<T>(stream: &mut Streaming<T>, patience: Duration) -> Result<T, End> {
    match tokio::time::timeout(patience, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(End::Finished),
        Ok(Err(status)) => Err(End::Broken(status)),
        Err(_) => Err(End::Silent),
    }
}

/// How long the daemon asks to be left alone.
pub(crate) fn closing(closing: &proto::WatchClosing) -> End {
    End::Closing(time::duration(closing.retry_delay.as_ref()))
}

/// Silence is an end after three missed heartbeats.
pub(crate) fn patience(heartbeat: Duration) -> Duration {
    heartbeat.max(Duration::from_secs(1)).saturating_mul(3)
}

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::NotFound
            | Code::FailedPrecondition
    )
}

/// A share from 0 to 1. The standard library seeds each of these at random; that
/// is random enough to keep clients apart.
fn random_share() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    #[allow(clippy::cast_precision_loss, reason = "32 bits fit")]
    let share = bits as f64 / f64::from(u32::MAX);
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_any_part_of_a_doubling_ceiling() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..8).map(|_| backoff.delay(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.delay(0.0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.delay(0.5), Duration::from_millis(50));
        for _ in 0..200 {
            assert!(backoff.next_delay() <= DELAY_MAX);
        }
        assert_eq!(Backoff { attempt: u32::MAX }.delay(1.0), DELAY_MAX);
    }

    #[test]
    fn what_cannot_get_better_ends_it() {
        for code in [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::Unimplemented,
        ] {
            assert!(
                End::Broken(Status::new(code, "")).fatal().is_err(),
                "{code:?}"
            );
        }
        for code in [
            Code::Unavailable,
            Code::Internal,
            Code::Unknown,
            Code::Cancelled,
        ] {
            assert!(
                End::Broken(Status::new(code, "")).fatal().is_ok(),
                "{code:?}"
            );
        }
        assert!(End::Silent.fatal().is_ok());
    }
}
