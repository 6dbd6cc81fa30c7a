//! Messages of the stream, and their packing into bounded batches.

use std::{collections::VecDeque, time::SystemTime};

use proto::tail_logs_response::Payload;

use super::super::{convert::output_stream, proto, stream};
use crate::{
    domain::time::Timestamp,
    logs::{Entry, Gap, GapReason},
    watch::CloseReason,
};

/// Bytes of entries in one message, estimated from above.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an encoded entry beside name, uid and data: tags, lengths, numbers.
const ENTRY_BYTES: usize = 80;

/// Whose entries these are, as text.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) uid: String,
}

/// What is about to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    // BOUND: one step of the tailing fills it, and none while a message waits.
    messages: VecDeque<proto::TailLogsResponse>,
    entries: Vec<proto::LogEntry>,
    bytes: usize,
}

// === impl Outbox ===

impl Outbox {
    pub(super) fn entry(&mut self, origin: &Origin, entry: Entry) {
        let bytes = ENTRY_BYTES + origin.name.len() + origin.uid.len() + entry.data.len();
        if self.bytes + bytes > MESSAGE_BYTES_MAX {
            self.close_batch();
        }
        self.bytes += bytes;
        self.entries.push(proto::LogEntry {
            name: origin.name.clone(),
            uid: origin.uid.clone(),
            sequence: entry.sequence,
            run_id: entry.run_id,
            stream: output_stream(entry.stream).into(),
            log_time: Some(timestamp(entry.time)),
            data: entry.data,
            partial: entry.partial,
            line_offset: entry.line_offset,
            approximate_time: entry.approximate_time,
        });
    }

    pub(super) fn gap(&mut self, origin: &Origin, gap: Gap) {
        self.push(Payload::Gap(proto::LogGap {
            name: origin.name.clone(),
            uid: origin.uid.clone(),
            first_sequence: gap.first_sequence,
            last_sequence: gap.last_sequence,
            reason: match gap.reason {
                GapReason::Trimmed => proto::LogGapReason::Trimmed,
                GapReason::Dropped => proto::LogGapReason::Dropped,
                GapReason::Crash => proto::LogGapReason::Crash,
            }
            .into(),
            lost_bytes: gap.lost_bytes,
        }));
    }

    pub(super) fn synced(&mut self) {
        self.push(Payload::Synced(proto::LogSynced {}));
    }

    pub(super) fn progress(&mut self) {
        self.push(Payload::Progress(proto::WatchProgress {
            server_time: Some(SystemTime::now().into()),
        }));
    }

    pub(super) fn closing(&mut self, reason: CloseReason) {
        self.push(Payload::Closing(stream::closing(reason)));
    }

    /// Whether a message is complete.
    pub(super) fn has_message(&self) -> bool {
        !self.messages.is_empty()
    }

    /// The next complete message; with `flush` also a batch that is not full.
    pub(super) fn pop(&mut self, flush: bool) -> Option<proto::TailLogsResponse> {
        if self.messages.is_empty() && flush {
            self.close_batch();
        }
        self.messages.pop_front()
    }

    fn push(&mut self, payload: Payload) {
        self.close_batch();
        self.messages.push_back(proto::TailLogsResponse {
            payload: Some(payload),
        });
    }

    fn close_batch(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        self.messages.push_back(proto::TailLogsResponse {
            payload: Some(Payload::Entries(proto::LogEntries { entries })),
        });
    }
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    const SECOND: i64 = 1_000_000_000;
    prost_types::Timestamp {
        seconds: time.0.div_euclid(SECOND),
        nanos: i32::try_from(time.0.rem_euclid(SECOND)).unwrap_or_default(),
    }
}
