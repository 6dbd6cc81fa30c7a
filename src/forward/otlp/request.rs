//! Records as the log data model of OpenTelemetry has them. Pure.
//!
//! Attributes are those of its semantic conventions where there is one (`service.*`,
//! `host.name`, `log.iostream`), else begin with `procession.`. A line that is not
//! UTF-8 has bytes as its body.

use prost::Message;

use super::proto::{
    self, AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord,
    ResourceLogs, ScopeLogs, any_value::Value,
};
use crate::{
    forward::queue::{Content, Origin, lost_text, reason},
    logs::OutputStream,
};

/// Numbers and names of severities.
const INFO: (i32, &str) = (9, "INFO");
const WARN: (i32, &str) = (13, "WARN");
const ERROR: (i32, &str) = (17, "ERROR");

/// Bytes of tag and length of one record in a request, at most.
const RECORD_FRAME_BYTES: usize = 8;

/// What all records of one process share.
#[derive(Debug)]
pub(super) struct Resource(proto::Resource);

// === impl Resource ===

impl Resource {
    pub(super) fn of(origin: &Origin) -> Self {
        let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.to_owned()));
        let mut attributes = vec![
            text("service.name", origin.process.as_str()),
            text("service.instance.id", &origin.uid),
        ];
        if !origin.host.is_empty() {
            attributes.push(text("host.name", &origin.host));
        }
        Self(proto::Resource { attributes })
    }

    /// As many of the first `contents` as fit, at least one; and how many.
    pub(super) fn request<'a>(
        &self,
        contents: impl Iterator<Item = &'a Content>,
        records_max: usize,
        bytes_max: usize,
    ) -> (ExportLogsServiceRequest, usize) {
        let mut log_records = Vec::new();
        // What stands around the records is far below this.
        let mut bytes = 4096;
        for content in contents.take(records_max) {
            let record = record(content);
            bytes += record.encoded_len() + RECORD_FRAME_BYTES;
            if bytes > bytes_max && !log_records.is_empty() {
                break;
            }
            log_records.push(record);
        }
        let count = log_records.len();
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let scope_logs = vec![ScopeLogs {
            scope: Some(scope),
            log_records,
        }];
        let resource_logs = vec![ResourceLogs {
            resource: Some(self.0.clone()),
            scope_logs,
        }];
        (ExportLogsServiceRequest { resource_logs }, count)
    }
}

fn record(content: &Content) -> LogRecord {
    let time = u64::try_from(content.time().0).unwrap_or(0);
    let int = |key: &str, value: i64| attribute(key, Value::IntValue(value));
    let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.to_owned()));
    let (severity, body, attributes) = match content {
        Content::Line(entry) => {
            let severity = match entry.stream {
                OutputStream::Stdout => INFO,
                OutputStream::Stderr => ERROR,
            };
            let body = match str::from_utf8(&entry.data) {
                Ok(text) => Value::StringValue(text.to_owned()),
                Err(_) => Value::BytesValue(entry.data.clone()),
            };
            let attributes = vec![
                text("log.iostream", entry.stream.name()),
                int("procession.run", entry.run_id),
                int("procession.sequence", entry.sequence),
            ];
            (severity, body, attributes)
        }
        Content::Lost(gap, _) => {
            let attributes = vec![
                int("procession.lost.first_sequence", gap.first_sequence),
                int("procession.lost.last_sequence", gap.last_sequence),
                text("procession.lost.reason", reason(gap.reason)),
            ];
            (WARN, Value::StringValue(lost_text(gap)), attributes)
        }
    };
    LogRecord {
        time_unix_nano: time,
        severity_number: severity.0,
        severity_text: severity.1.to_owned(),
        body: Some(AnyValue { value: Some(body) }),
        attributes,
        observed_time_unix_nano: time,
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
