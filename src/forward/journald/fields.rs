//! A record in the native protocol of journald. Pure.
//!
//! A field is `NAME=value\n`, or, where the value has a newline,
//! `NAME\n`, its length as 64 bits little endian, the value, `\n`. MESSAGE always has
//! the second form, which takes any bytes.

use crate::forward::queue::{Content, lost_text};

/// The names and values of `content`, as journald takes them.
pub(super) fn encode(content: &Content, identifier: &str, process: &str) -> Vec<u8> {
    let mut record = Vec::with_capacity(512);
    text(&mut record, "PRIORITY", &content.severity().to_string());
    text(&mut record, "SYSLOG_IDENTIFIER", identifier);
    text(&mut record, "PROCESSION_PROCESS", process);
    text(
        &mut record,
        "PROCESSION_SEQUENCE",
        &content.sequence().to_string(),
    );
    if let Some(time) = content.timestamp() {
        text(&mut record, "PROCESSION_TIME", &time);
    }
    match content {
        Content::Line(entry) => {
            text(&mut record, "PROCESSION_RUN", &entry.run_id.to_string());
            text(&mut record, "PROCESSION_STREAM", entry.stream.name());
            bytes(&mut record, "MESSAGE", &entry.data);
        }
        Content::Lost(gap, _) => {
            text(
                &mut record,
                "PROCESSION_LOST_UNTIL",
                &gap.last_sequence.to_string(),
            );
            bytes(&mut record, "MESSAGE", lost_text(gap).as_bytes());
        }
    }
    record
}

/// A value without a newline.
fn text(record: &mut Vec<u8>, name: &str, value: &str) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'=');
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}

fn bytes(record: &mut Vec<u8>, name: &str, value: &[u8]) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value);
    record.push(b'\n');
}
