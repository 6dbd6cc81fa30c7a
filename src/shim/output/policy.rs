//! How the output of a run is kept.
//!
//! Invariant: whatever the numbers are, the bounds that come out of them can be
//! kept: a segment has room for a record, and there is a bounded number of them.

use std::time::Duration;

use crate::{
    domain::{
        limits::{LOG_SEGMENT_BYTES_MIN, LOG_SEGMENTS_MAX},
        time::Timestamp,
    },
    shim::codec::{DecodeError, Reader, Writer},
};

/// So many segments make `max_bytes` or `max_age` if nothing else is said.
const SEGMENTS: u32 = 8;
/// A segment does not end for its age before it is this old.
const SEGMENT_AGE_MIN: Duration = Duration::from_secs(1);
/// A segment ends at the end of a line if there is one this near to its limit.
const SLACK_BYTES_MAX: u64 = 64 * 1024;

/// How output is kept; part of what a shim is told of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of all segments, indexes too, that are never exceeded by more than
    /// a record. At least 1 KiB.
    pub max_bytes: u64,
    /// Bytes of one segment, index too. 0: an eighth of `max_bytes`. At least
    /// 1 KiB and a 1024th of `max_bytes`, at most `max_bytes`.
    pub segment_bytes: u64,
    /// 0: no limit.
    pub max_segments: u32,
    /// Age of the newest output in a segment; zero: no limit.
    pub max_age: Duration,
    /// Discards and counts what cannot be stored; else the run waits.
    pub drop_when_full: bool,
}

// === impl Policy ===

impl Policy {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.u64(self.max_bytes);
        w.u64(self.segment_bytes);
        w.u32(self.max_segments);
        w.u64(self.max_age.as_secs());
        w.u32(self.max_age.subsec_nanos());
        w.bool(self.drop_when_full);
    }

    /// # Errors
    /// [`DecodeError`] if the bytes end too soon or a value is out of range.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            max_bytes: r.u64()?,
            segment_bytes: r.u64()?,
            max_segments: r.u32()?,
            max_age: match (r.u64()?, r.u32()?) {
                (secs, nanos @ ..1_000_000_000) => Duration::new(secs, nanos),
                _ => return Err(DecodeError::Value("max_age")),
            },
            drop_when_full: r.bool()?,
        })
    }

    /// Bytes that all segments together may have.
    pub(super) fn total_limit(&self) -> u64 {
        self.max_bytes.max(LOG_SEGMENT_BYTES_MIN)
    }

    /// Bytes that a segment may have.
    pub(super) fn segment_limit(&self) -> u64 {
        let total = self.total_limit();
        let wanted = match self.segment_bytes {
            0 => total / u64::from(SEGMENTS),
            bytes => bytes,
        };
        wanted.clamp(LOG_SEGMENT_BYTES_MIN.max(total / LOG_SEGMENTS_MAX), total)
    }

    /// From so many bytes on a segment ends with the next end of a line.
    pub(super) fn segment_soft_limit(&self) -> u64 {
        let limit = self.segment_limit();
        limit - (limit / 8).min(SLACK_BYTES_MAX)
    }

    /// Whether a segment made at `made` gets no more output.
    pub(super) fn segment_is_old(&self, made: Timestamp, now: Timestamp) -> bool {
        !self.max_age.is_zero() && age(made, now) > (self.max_age / SEGMENTS).max(SEGMENT_AGE_MIN)
    }

    /// Whether a segment is to go whose newest record is of `newest`.
    pub(super) fn is_expired(&self, newest: Timestamp, now: Timestamp) -> bool {
        !self.max_age.is_zero() && age(newest, now) > self.max_age
    }
}

/// Zero if the clock went back.
fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max_bytes: u64, segment_bytes: u64) -> Policy {
        Policy {
            max_bytes,
            segment_bytes,
            max_segments: 3,
            max_age: Duration::new(80, 5),
            drop_when_full: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        policy(5, 6).encode(&mut w);
        let mut r = Reader(&w.0);
        assert_eq!(Policy::decode(&mut r), Ok(policy(5, 6)));
        assert_eq!(r.end(), Ok(()));
        for len in 0..w.0.len() {
            let short = Policy::decode(&mut Reader(&w.0[..len]));
            assert_eq!(short, Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn limits_of_a_segment_can_be_kept_whatever_the_numbers_are() {
        const MIB: u64 = 1024 * 1024;
        for (max_bytes, segment_bytes, limit) in [
            (64 * MIB, 0, 8 * MIB),
            (64 * MIB, 5 * MIB, 5 * MIB),
            (64 * MIB, 1, 64 * 1024),
            (MIB, 2 * MIB, MIB),
            (0, 0, 1024),
            (0, u64::MAX, 1024),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let policy = policy(max_bytes, segment_bytes);
            assert_eq!(policy.segment_limit(), limit);
            assert!(policy.segment_soft_limit() < limit);
            assert!(limit - policy.segment_soft_limit() <= SLACK_BYTES_MAX);
        }
    }

    #[test]
    fn age_counts_only_if_it_is_asked_for_and_the_clock_went_forward() {
        let mut policy = policy(0, 0);
        let at = |secs: i64| Timestamp(secs * 1_000_000_000);
        assert!(policy.segment_is_old(at(100), at(111)));
        assert!(!policy.segment_is_old(at(100), at(110)));
        assert!(!policy.segment_is_old(at(100), at(0)));
        assert!(policy.is_expired(at(100), at(181)));
        assert!(!policy.is_expired(at(100), at(180)));
        policy.max_age = Duration::ZERO;
        assert!(!policy.segment_is_old(at(0), at(999)));
        assert!(!policy.is_expired(at(0), at(999)));
    }
}
