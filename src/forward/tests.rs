//! A forward on a log as shims write it, against targets that do as they are told.

use bytes::Bytes;

use super::{
    position::Position,
    queue::{Content, Origin, Queue},
};
use crate::{
    domain::{id::ProcessName, time::Timestamp},
    logs::{Entry, Gap, GapReason, OutputStream},
};

mod following;
mod wanted;

/// A second and two microseconds after the epoch.
const TIME: Timestamp = Timestamp(1_000_002_000);

pub(super) fn origin(process: &str) -> Origin {
    Origin {
        process: ProcessName::new(process).unwrap(),
        uid: "uid".into(),
        host: "host".into(),
    }
}

pub(super) fn line(sequence: i64, stream: OutputStream, data: &[u8]) -> Content {
    Content::Line(Entry {
        sequence,
        line_offset: 0,
        run_id: 1,
        time: TIME,
        approximate_time: false,
        stream,
        partial: false,
        data: Bytes::copy_from_slice(data),
    })
}

pub(super) fn lost(first_sequence: i64, last_sequence: i64) -> Content {
    let gap = Gap {
        first_sequence,
        last_sequence,
        lost_bytes: 0,
        reason: GapReason::Trimmed,
    };
    Content::Lost(gap, TIME)
}

pub(super) fn queue(contents: impl IntoIterator<Item = Content>) -> Queue {
    let mut queue = Queue::at(Position::default());
    for content in contents {
        match content {
            Content::Line(entry) => queue.push_entry(entry, true),
            Content::Lost(gap, now) => drop(queue.push_gap(gap, now)),
        }
    }
    queue
}
