//! Times for people and for JSON-like text.

use std::time::{Duration, SystemTime};

/// `12s`, `3m12s`, `5h3m`, `12d4h`: the two largest units.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// Time from `then` to `now`; 0 when `then` is later.
pub(crate) fn since(then: &prost_types::Timestamp, now: SystemTime) -> Duration {
    system_time(then)
        .and_then(|then| now.duration_since(then).ok())
        .unwrap_or_default()
}

/// Time from `now` to `then`; 0 when `then` is past.
pub(crate) fn until(then: &prost_types::Timestamp, now: SystemTime) -> Duration {
    system_time(then)
        .and_then(|then| then.duration_since(now).ok())
        .unwrap_or_default()
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn instant(time: &prost_types::Timestamp) -> String {
    let nanos = (time.nanos / 1_000_000).saturating_mul(1_000_000);
    match jiff::Timestamp::new(time.seconds, nanos) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => "-".to_owned(),
    }
}

/// The wire form of a duration; longer than the wire can say becomes its longest.
pub(crate) fn wire(duration: Duration) -> prost_types::Duration {
    const SECONDS_MAX: i64 = 315_576_000_000;
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds < SECONDS_MAX => prost_types::Duration {
            seconds,
            // Below 10^9, so it fits.
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
        },
        _ => prost_types::Duration {
            seconds: SECONDS_MAX,
            nanos: 0,
        },
    }
}

/// A wire duration; absent, negative and malformed ones are none.
pub(crate) fn duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    let wire = wire?;
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// A wire instant, where the system can express it.
pub(crate) fn system_time(time: &prost_types::Timestamp) -> Option<SystemTime> {
    let offset = duration(Some(&prost_types::Duration {
        seconds: time.seconds,
        nanos: time.nanos,
    }))?;
    SystemTime::UNIX_EPOCH.checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (192, "3m12s"),
            (3600, "1h0m"),
            (18_180, "5h3m"),
            (86_400, "1d0h"),
            (1_051_200, "12d4h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn instants_are_rfc_3339_with_milliseconds() {
        let time = prost_types::Timestamp {
            seconds: 1_764_057_600,
            nanos: 7_999_999,
        };
        assert_eq!(instant(&time), "2025-11-25T08:00:00.007Z");
        assert_eq!(
            instant(&prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            "-"
        );
    }

    #[test]
    fn a_time_of_the_future_is_no_age() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        assert_eq!(since(&at(40), now), Duration::from_secs(60));
        assert_eq!(since(&at(140), now), Duration::ZERO);
        assert_eq!(since(&at(-40), now), Duration::ZERO);
        assert_eq!(until(&at(140), now), Duration::from_secs(40));
    }

    #[test]
    fn wire_durations_are_bounded_and_checked() {
        assert_eq!(
            wire(Duration::from_millis(1500)),
            prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000
            }
        );
        assert_eq!(wire(Duration::MAX).seconds, 315_576_000_000);
        assert_eq!(
            duration(Some(&prost_types::Duration {
                seconds: -1,
                nanos: 0
            })),
            None
        );
        assert_eq!(duration(None), None);
    }
}
