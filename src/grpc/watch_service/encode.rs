//! From the subscription's messages to the wire's.

use std::time::Duration;

use super::super::{
    convert::{duration, timestamp},
    proto::{
        self, EventCause, ProcessEvent, ProcessEventKind, ProcessEvents, SnapshotPart, WatchOpened,
        WatchProcessesResponse, WatchProgress, WatchReset, WatchSynced,
        watch_processes_response::Payload as Wire,
    },
    stream,
};
use crate::{
    domain::{status::Cause, time::Timestamp},
    registry::Mode,
    watch::{CloseReason, Event, EventKind, Lost, LostReason, Message, Payload},
};

/// What a stream's messages say beside the subscription's.
pub(super) struct Encoder {
    pub(super) epoch: Box<str>,
    pub(super) scope: Box<str>,
    pub(super) heartbeat: Duration,
    pub(super) mode: Mode,
    pub(super) now: fn() -> Timestamp,
}

impl Encoder {
    /// The message, and why the stream ends after it, if it does.
    pub(super) fn response(
        &self,
        message: Message<proto::Process>,
    ) -> (WatchProcessesResponse, Option<CloseReason>) {
        let mut closing = None;
        let payload = match message.payload {
            Payload::Opened { resumed } => Wire::Opened(self.opened(resumed)),
            Payload::Reset(lost) => Wire::Reset(self.reset(lost)),
            Payload::Snapshot(processes) => Wire::Snapshot(SnapshotPart { processes }),
            Payload::Synced { count } => Wire::Synced(WatchSynced {
                process_count: i32::try_from(count).unwrap_or(i32::MAX),
            }),
            Payload::Events(events) => Wire::Events(ProcessEvents {
                events: events.into_iter().map(event).collect(),
            }),
            Payload::Progress => Wire::Progress(WatchProgress {
                server_time: timestamp((self.now)()),
            }),
            Payload::Closing(reason) => {
                closing = Some(reason);
                Wire::Closing(stream::closing(reason))
            }
        };
        let response = WatchProcessesResponse {
            from_revision: message.from.get(),
            to_revision: message.to.get(),
            exact: message.exact,
            payload: Some(payload),
        };
        (response, closing)
    }

    fn opened(&self, resumed: bool) -> WatchOpened {
        let mode = match self.mode {
            Mode::LatestState => proto::WatchMode::LatestState,
            Mode::EveryChange => proto::WatchMode::EveryChange,
        };
        WatchOpened {
            epoch: self.epoch.to_string(),
            heartbeat_interval: Some(duration(self.heartbeat)),
            resumed,
            mode: mode.into(),
            server_time: timestamp((self.now)()),
            scope: self.scope.to_string(),
        }
    }

    fn reset(&self, lost: Lost) -> WatchReset {
        let reason = match lost.reason {
            LostReason::EpochChanged => proto::ResetReason::EpochChanged,
            LostReason::HistoryTrimmed => proto::ResetReason::HistoryTrimmed,
            LostReason::Lagged => proto::ResetReason::Lagged,
            LostReason::ScopeChanged => proto::ResetReason::ScopeChanged,
        };
        WatchReset {
            reason: reason.into(),
            epoch: self.epoch.to_string(),
            oldest_resumable_revision: lost.oldest.get(),
        }
    }
}

fn event(event: Event<proto::Process>) -> ProcessEvent {
    let kind = match event.kind {
        EventKind::Added => ProcessEventKind::Added,
        EventKind::Changed => ProcessEventKind::Changed,
        EventKind::Deleted => ProcessEventKind::Deleted,
        EventKind::Left => ProcessEventKind::Left,
    };
    ProcessEvent {
        kind: kind.into(),
        revision: event.revision.get(),
        process: Some(event.shown),
        skipped_versions: event.skipped,
        event_time: timestamp(event.origin.time),
        cause: Some(cause(&event.origin.cause)),
    }
}

fn cause(cause: &Cause) -> EventCause {
    let caller = cause.caller.as_deref();
    EventCause {
        origin: cause.origin.as_str().into(),
        principal: caller.map_or("", |c| &c.principal).into(),
        request_id: caller.map_or("", |c| &c.request_id).into(),
    }
}
