//! Grammars of single values. Every error says what is allowed.

use std::time::Duration;

use crate::grpc::proto;

/// Longest duration, of the contract's `google.protobuf.Duration`: 10,000 years.
const DURATION_SECS_MAX: u64 = 315_576_000_000;

/// Units of a duration, largest first, in nanoseconds.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const BYTE_UNITS: [(&str, i64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// What a duration looks like.
pub(super) const DURATION_FORM: &str = r#"a duration such as "10s", "1m30s" or "500ms""#;
/// What a byte size looks like.
pub(super) const BYTES_FORM: &str = r#"a number of bytes or a size such as "64MiB""#;

/// `1m30s`: whole numbers with units, largest first, each unit at most once.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("must be {DURATION_FORM}; found {text:?}");
    let mut rest = text;
    let mut total: u128 = 0;
    let mut units = &DURATION_UNITS[..];
    while !rest.is_empty() {
        let (number, after) = split_at_first(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_at_first(after, |c| c.is_ascii_digit());
        let index = units.iter().position(|(name, _)| *name == unit);
        let (Ok(number), Some(index)) = (number.parse::<u64>(), index) else {
            return Err(bad());
        };
        total = total.saturating_add(u128::from(number) * u128::from(units[index].1));
        units = &units[index + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err(bad());
    }
    let secs = u64::try_from(total / 1_000_000_000).unwrap_or(u64::MAX);
    if secs > DURATION_SECS_MAX {
        return Err(format!(
            "must be at most {DURATION_SECS_MAX}s; found {text:?}"
        ));
    }
    let nanos = u32::try_from(total % 1_000_000_000).unwrap_or(0);
    Ok(Duration::new(secs, nanos))
}

/// `64MiB`: a whole number with a unit.
pub(super) fn parse_bytes(text: &str) -> Result<i64, String> {
    let (number, unit) = split_at_first(text, |c| !c.is_ascii_digit());
    let scale = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start());
    let (Ok(number), Some((_, scale))) = (number.parse::<i64>(), scale) else {
        return Err(format!(
            "must be {BYTES_FORM} (units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB); found {text:?}"
        ));
    };
    number
        .checked_mul(*scale)
        .ok_or_else(|| format!("must be at most {} bytes; found {text:?}", i64::MAX))
}

/// `term` or `SIGTERM`.
pub(super) fn parse_signal(text: &str) -> Result<proto::Signal, String> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    proto::Signal::from_str_name(&format!("SIGNAL_{short}"))
        .filter(|signal| *signal != proto::Signal::Unspecified)
        .ok_or_else(|| {
            format!(
                r#"must be a signal such as "term", "SIGTERM", "hup" or "usr1"; found {text:?}"#
            )
        })
}

/// `022`: three or four octal digits.
pub(super) fn parse_octal(text: &str) -> Result<(), String> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if digits && matches!(text.len(), 3 | 4) {
        return Ok(());
    }
    Err(format!(
        r#"must be three or four octal digits in quotes such as "022"; found {text:?}"#
    ))
}

/// Name of an environment variable: not empty, without `=` and NUL.
pub(super) fn parse_env_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(format!(
            "must be the name of an environment variable: not empty and without \"=\"; found {text:?}"
        ));
    }
    Ok(())
}

fn split_at_first(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("0s", 0),
            ("500ms", 500_000_000),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1d2h3m4s5ms6us7ns", 93_784_005_006_007),
        ];
        for (text, nanos) in good {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        for text in [
            "", "10", "s", "1.5s", "-1s", "1s1s", "30s1m", "1 s", "10S", "1s ", "٣s",
        ] {
            assert_eq!(
                parse_duration(text).unwrap_err(),
                format!(r#"must be a duration such as "10s", "1m30s" or "500ms"; found {text:?}"#),
            );
        }
        assert!(parse_duration("315576000000s").is_ok());
        for text in ["315576000001s", "18446744073709551615d"] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(
                error,
                format!("must be at most 315576000000s; found {text:?}")
            );
        }
    }

    #[test]
    fn byte_sizes() {
        let good = [
            ("0B", 0),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("2kB", 2000),
            ("1TiB", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64", "64M", "64mib", "1.5GiB", "-1B"] {
            assert!(
                parse_bytes(text).unwrap_err().contains("units: B, KiB"),
                "{text}"
            );
        }
        assert_eq!(
            parse_bytes("9000000TiB").unwrap_err(),
            r#"must be at most 9223372036854775807 bytes; found "9000000TiB""#,
        );
    }

    #[test]
    fn signals() {
        for text in ["term", "TERM", "SIGTERM", "sigterm"] {
            assert_eq!(parse_signal(text), Ok(proto::Signal::Term), "{text}");
        }
        for text in ["", "sig", "unspecified", "15", "SIGNAL_TERM", "rtmin"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn octal_text() {
        for text in ["022", "0600", "777"] {
            assert_eq!(parse_octal(text), Ok(()), "{text}");
        }
        for text in ["", "22", "089", "0o22", "00022"] {
            assert!(parse_octal(text).is_err(), "{text}");
        }
    }
}
