//! Both clocks in one place, so that a test can pause or replace them.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::domain::time::{Monotonic, Now, Timestamp};

/// Reads the monotonic clock of the runtime (which tests pause) and the wall
/// clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

// === impl Clock ===

impl Clock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            zero: Instant::now(),
        }
    }

    /// This instant.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = Instant::now().saturating_duration_since(self.zero);
        Now {
            mono: Monotonic(nanos(mono)),
            wall: wall_now(),
        }
    }

    /// When the runtime's timer must fire for `at`.
    #[must_use]
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.zero + Duration::from_nanos(at.0)
    }
}

/// The wall clock, for display.
#[must_use]
pub fn wall_now() -> Timestamp {
    SystemTime::now().into()
}

/// Randomness for jitter: the keys that std draws per `RandomState`.
#[must_use]
pub fn entropy() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
