//! Entries and gaps as lines of JSON.
//!
//! ```text
//! {"name":"web","sequence":7,"run_id":1,"stream":"stdout","time":"...","text":"x",
//!  "line_offset":0,"partial":false,"approximate":false}
//! {"name":"web","gap":{"first_sequence":8,"last_sequence":9,"reason":"trimmed",
//!  "lost_bytes":0}}
//! ```
//!
//! What is not UTF-8 has `base64` in place of `text`. Every field is always there,
//! so that it can be asked for by name.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    cli::errors::CliError,
    grpc::proto::{LogEntry, LogGap, LogGapReason, OutputStream},
};

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    sequence: i64,
    run_id: i64,
    stream: &'static str,
    time: String,
    #[serde(flatten)]
    data: Data<'a>,
    line_offset: i64,
    partial: bool,
    approximate: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Data<'a> {
    Text(&'a str),
    Base64(String),
}

#[derive(Serialize)]
struct Lost<'a> {
    name: &'a str,
    gap: Gap,
}

#[derive(Serialize)]
struct Gap {
    first_sequence: i64,
    last_sequence: i64,
    reason: &'static str,
    lost_bytes: i64,
}

/// One entry.
///
/// # Errors
/// [`CliError::Json`], which only a lack of memory could be the reason for.
pub(super) fn entry(entry: &LogEntry) -> Result<String, CliError> {
    text(&Line {
        name: &entry.name,
        sequence: entry.sequence,
        run_id: entry.run_id,
        stream: match entry.stream() {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
            OutputStream::Unspecified => "",
        },
        time: entry.log_time.as_ref().map(instant).unwrap_or_default(),
        data: match std::str::from_utf8(&entry.data) {
            Ok(text) => Data::Text(text),
            Err(_) => Data::Base64(STANDARD.encode(&entry.data)),
        },
        line_offset: entry.line_offset,
        partial: entry.partial,
        approximate: entry.approximate_time,
    })
}

/// One gap.
///
/// # Errors
/// As [`entry`].
pub(super) fn gap(gap: &LogGap) -> Result<String, CliError> {
    text(&Lost {
        name: &gap.name,
        gap: Gap {
            first_sequence: gap.first_sequence,
            last_sequence: gap.last_sequence,
            reason: match gap.reason() {
                LogGapReason::Trimmed => "trimmed",
                LogGapReason::Dropped => "dropped",
                LogGapReason::Crash => "crash",
                LogGapReason::Unspecified => "lost",
            },
            lost_bytes: gap.lost_bytes,
        },
    })
}

fn text(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|error| CliError::Json(error.to_string()))
}

/// RFC 3339, with all digits there are.
fn instant(time: &prost_types::Timestamp) -> String {
    jiff::Timestamp::new(time.seconds, time.nanos)
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_gaps_have_every_field() {
        let written = LogEntry {
            name: "web".into(),
            sequence: 7,
            run_id: 2,
            stream: 2,
            log_time: Some(prost_types::Timestamp {
                seconds: 1_764_057_600,
                nanos: 123_456_789,
            }),
            data: "a\x1b\"b".into(),
            ..LogEntry::default()
        };
        assert_eq!(
            entry(&written).unwrap(),
            r#"{"name":"web","sequence":7,"run_id":2,"stream":"stderr","time":"2025-11-25T08:00:00.123456789Z","text":"a\u001b\"b","line_offset":0,"partial":false,"approximate":false}"#
        );
        let binary = LogEntry {
            data: b"\xff\0"[..].into(),
            ..written
        };
        let binary: serde_json::Value = serde_json::from_str(&entry(&binary).unwrap()).unwrap();
        assert_eq!(binary["base64"], "/wA=");
        let lost = LogGap {
            name: "web".into(),
            first_sequence: 8,
            last_sequence: 9,
            reason: 2,
            lost_bytes: 12,
            ..LogGap::default()
        };
        assert_eq!(
            gap(&lost).unwrap(),
            r#"{"name":"web","gap":{"first_sequence":8,"last_sequence":9,"reason":"dropped","lost_bytes":12}}"#
        );
    }
}
