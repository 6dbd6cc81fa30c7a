//! A snapshot on its way: pointers, told in parts that fit into a message.

use std::{sync::Arc, vec};

use super::{BATCH_BYTES_MAX, BATCH_PROCESSES_MAX, Projection, classify::Classifier};
use crate::{
    domain::{id::Revision, status::ProcessState},
    registry::{Node, Snapshot},
};

/// Processes looked at before others get their turn.
const SCANNED_MAX: usize = 1024;

/// A snapshot on its way.
pub(super) struct Sending<S> {
    pub(super) at: Revision,
    nodes: vec::IntoIter<Arc<Node<ProcessState>>>,
    /// The part being filled; kept here so that a dropped future loses nothing.
    part: Vec<S>,
    bytes: usize,
    /// Processes in the parts so far.
    pub(super) sent: usize,
}

// === impl Sending ===

impl<S> Sending<S> {
    pub(super) fn new(snapshot: Snapshot<ProcessState>) -> Self {
        Self {
            at: snapshot.revision,
            nodes: snapshot.nodes.into_iter(),
            part: Vec::new(),
            bytes: 0,
            sent: 0,
        }
    }

    /// Whether every process was looked at.
    pub(super) fn is_through(&self) -> bool {
        self.nodes.len() == 0
    }

    /// Looks at some more processes; a part if one is full.
    pub(super) fn fill<P: Projection<Shown = S>>(
        &mut self,
        classifier: &Classifier<P>,
    ) -> Option<Vec<S>> {
        for _ in 0..SCANNED_MAX {
            let node = self.nodes.next()?;
            let Some(shown) = classifier.show(&node) else {
                continue;
            };
            let size = classifier.projection.size(&shown);
            let full = self.part.len() == BATCH_PROCESSES_MAX
                || (self.bytes + size > BATCH_BYTES_MAX && !self.part.is_empty());
            let part = if full { self.take_part() } else { None };
            self.part.push(shown);
            self.bytes += size;
            if part.is_some() {
                return part;
            }
        }
        None
    }

    /// What is there so far, unless it is nothing.
    pub(super) fn take_part(&mut self) -> Option<Vec<S>> {
        self.bytes = 0;
        self.sent += self.part.len();
        let part = std::mem::take(&mut self.part);
        (!part.is_empty()).then_some(part)
    }
}
