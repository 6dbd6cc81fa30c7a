//! Points in time, handed in by the caller.
//!
//! Timers use [`Monotonic`]; [`Timestamp`] is for display only, so that a jump of
//! the wall clock changes no timer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall-clock time in nanoseconds since the Unix epoch. Display only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Monotonic time in nanoseconds since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers.
    pub mono: Monotonic,
    /// For people.
    pub wall: Timestamp,
}

impl Timestamp {
    /// `self + duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

/// Before the epoch it is 0; past what fits, the largest.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl Monotonic {
    /// `self + duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_is_read_within_what_fits() {
        let second = Duration::from_secs(1);
        let of = |time: SystemTime| Timestamp::from(time);
        assert_eq!(of(UNIX_EPOCH - second), Timestamp(0));
        assert_eq!(of(UNIX_EPOCH + second), Timestamp(1_000_000_000));
        let far = Duration::from_secs(u64::from(u32::MAX) * 4);
        assert_eq!(of(UNIX_EPOCH + far), Timestamp(i64::MAX));
    }
}
