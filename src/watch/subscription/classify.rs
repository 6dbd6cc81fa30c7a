//! What a change means to one reader.
//!
//! Decided from the state before it, as the log knows it for the reader's cursor.
//! Where it is unknown (a reader from before the ring), the kinds are those a
//! reader can apply whatever it holds: "put" or "remove if held".

use std::sync::Arc;

use super::{BATCH_BYTES_MAX, Event, EventKind, Origin, Projection};
use crate::{
    domain::{id::Revision, status::ProcessState},
    registry::{Before, Change, Node},
    watch::filter::Filter,
};

/// One reader's filter and projection.
#[derive(Debug)]
pub(super) struct Classifier<P> {
    pub(super) filter: Filter,
    pub(super) projection: P,
}

impl<P: Projection> Classifier<P> {
    /// A state of a snapshot, if it matches.
    pub(super) fn show(&self, node: &Arc<Node<ProcessState>>) -> Option<P::Shown> {
        let matches = self.filter.matches(node.body());
        matches.then(|| self.projection.show(node))
    }

    /// The events of `changes` for a reader at `cursor`. Or, if they are too many
    /// bytes for one message, how many changes would fit.
    pub(super) fn events(
        &self,
        changes: &[Change<ProcessState>],
        cursor: Revision,
    ) -> Result<Vec<Event<P::Shown>>, usize> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for (i, change) in changes.iter().enumerate() {
            let Some(event) = self.event(change, cursor) else {
                continue;
            };
            bytes += self.projection.size(&event.shown);
            if bytes > BATCH_BYTES_MAX && i > 0 {
                return Err(i);
            }
            events.push(event);
        }
        Ok(events)
    }

    fn event(&self, change: &Change<ProcessState>, cursor: Revision) -> Option<Event<P::Shown>> {
        let node = &change.node;
        let body = node.body();
        if !self.filter.matches_name(body.name()) {
            return None;
        }
        let kind = self.kind(change, cursor)?;
        let shown = match kind {
            EventKind::Left => self.projection.identity(node),
            _ => self.projection.show(node),
        };
        Some(Event {
            kind,
            revision: change.revision,
            shown,
            skipped: change.skipped,
            origin: Origin {
                time: body.time,
                cause: body.cause.clone(),
            },
        })
    }

    fn kind(&self, change: &Change<ProcessState>, cursor: Revision) -> Option<EventKind> {
        let node = &change.node;
        let gone = node.is_deleted();
        let matches = !gone && self.filter.matches(node.body());
        let leaves = if gone {
            EventKind::Deleted
        } else {
            EventKind::Left
        };
        match &change.before {
            Before::Absent => matches.then_some(EventKind::Added),
            Before::State(before) => match (self.filter.matches(before.body()), matches) {
                (false, false) => None,
                (false, true) => Some(EventKind::Added),
                (true, false) => Some(leaves),
                (true, true) if before.uid() != node.uid() => Some(EventKind::Added),
                (true, true) if self.projection.is_same(before, node) => None,
                (true, true) => Some(EventKind::Changed),
            },
            Before::Unknown { .. } if !matches => Some(leaves),
            Before::Unknown { created } if *created > cursor => Some(EventKind::Added),
            Before::Unknown { .. } => Some(EventKind::Changed),
        }
    }
}
