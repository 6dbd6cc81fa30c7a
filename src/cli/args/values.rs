//! Parsers of option values. Errors end in the remedy.

use std::time::{Duration, SystemTime};

use crate::grpc::proto;

/// A signal as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalArg {
    /// One the API has a name for.
    Named(proto::Signal),
    /// A kernel number.
    Number(i32),
}

/// A point in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This long ago.
    Ago(Duration),
    /// An instant.
    At(SystemTime),
}

// === impl Since ===

impl Since {
    /// The instant meant, seen from `now`.
    pub(crate) fn instant(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).map_or(SystemTime::UNIX_EPOCH, |then| {
                then.max(SystemTime::UNIX_EPOCH)
            }),
            Self::At(instant) => instant,
        }
    }
}

/// `90s`, `1h30m`, `500ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "not a duration; write 30s, 5m or 1h30m".to_owned())
}

/// A signal of the API by name, with or without `SIG`.
pub(crate) fn named_signal(text: &str) -> Result<proto::Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    proto::Signal::from_str_name(&format!("SIGNAL_{name}"))
        .filter(|signal| *signal != proto::Signal::Unspecified)
        .ok_or_else(|| "no such signal; write TERM, INT, HUP, KILL, USR1, ...".to_owned())
}

/// A signal by name or kernel number.
pub(crate) fn signal(text: &str) -> Result<SignalArg, String> {
    match text.parse::<i32>() {
        Ok(number @ 1..=64) => Ok(SignalArg::Number(number)),
        Ok(_) => Err("kernel signal numbers are 1 to 64".to_owned()),
        Err(_) => named_signal(text).map(SignalArg::Named),
    }
}

/// A duration back from now, or an RFC 3339 instant.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|instant| u64::try_from(instant.as_millisecond()).ok())
        .and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
        .map(Since::At)
        .ok_or_else(|| "not a time; write 10m or 2026-11-25T08:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("30", 30_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-5s", "fast", "5 parsecs"] {
            assert!(duration(text).unwrap_err().contains("write"), "{text}");
        }
    }

    #[test]
    fn signals() {
        for text in ["HUP", "SIGHUP", "hup", "sighup"] {
            assert_eq!(
                signal(text),
                Ok(SignalArg::Named(proto::Signal::Hup)),
                "{text}"
            );
        }
        assert_eq!(signal("34"), Ok(SignalArg::Number(34)));
        for text in ["0", "65", "-1", "UNSPECIFIED", "NOPE", ""] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |text: &str| since(text).unwrap().instant(now);
        assert_eq!(at("10m"), now - Duration::from_secs(600));
        assert_eq!(
            at("1970-01-01T00:00:05Z"),
            SystemTime::UNIX_EPOCH + Duration::from_secs(5)
        );
        assert_eq!(at("1000000h"), SystemTime::UNIX_EPOCH, "before all time");
        assert!(since("yesterday-ish").is_err());
    }
}
