//! Which processes a call follows, as the registry and the buffers change.

use std::collections::HashSet;

use tokio::time::Instant;
use tonic::Status;

use super::{
    super::{super::proto, filter::Continued, history::Locating, message::Origin, query::Begin},
    Phase, Tailing,
};
use crate::{
    domain::id::{ProcessName, Uid},
    logs::{Slot, Start},
};

/// A process as this call follows it.
#[derive(Debug)]
pub(in super::super) struct Source {
    uid: Uid,
    pub(in super::super) origin: Origin,
    pub(in super::super) continued: Continued,
    /// What arrived before the call: up to this entry.
    pub(in super::super) history_end: u64,
    pub(super) matching: Matching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matching {
    Yes,
    /// No longer, and to be read up to this entry.
    Until(u64),
    No,
}

// === impl Tailing ===

impl<R> Tailing<R>
where
    R: Fn(&proto::ProcessSelector) -> Result<Vec<(ProcessName, Uid)>, Status>,
{
    pub(super) fn refresh(&mut self) {
        // Before `resolve`, so that a tick during it is seen again.
        if let Some(changed) = &mut self.changed {
            changed.mark_unchanged();
        }
        self.created.mark_unchanged();
        self.resolve_at = None;
        self.resolved = Instant::now();
        let found = match (self.resolve)(&self.query.selector) {
            Ok(found) => found,
            Err(status) => {
                self.phase = Phase::Ended(Some(status));
                return;
            }
        };
        let uids: HashSet<Uid> = found.iter().map(|(_, uid)| *uid).collect();
        let gone: Vec<Slot> = self
            .slots
            .iter()
            .filter(|(uid, _)| !uids.contains(uid))
            .map(|(_, slot)| *slot)
            .collect();
        for slot in gone {
            self.rest(slot);
        }
        for (name, uid) in found {
            match self.slots.get(&uid) {
                Some(slot) => self.rouse(*slot),
                None => self.attach(&name, uid),
            }
        }
    }

    /// It no longer matches: read it to its end of now.
    fn rest(&mut self, slot: Slot) {
        let end = self.reader.window(slot).end;
        if let Some(source) = self.sources.get_mut(&slot) {
            match source.matching {
                Matching::Yes => {
                    source.matching = Matching::Until(end);
                    self.reader.requeue(slot);
                }
                Matching::Until(_) => {}
                Matching::No => self.drop_if_removed(slot),
            }
        }
    }

    /// It matches, perhaps again.
    fn rouse(&mut self, slot: Slot) {
        if let Some(source) = self.sources.get_mut(&slot)
            && source.matching != Matching::Yes
        {
            source.matching = Matching::Yes;
            self.reader.requeue(slot);
        }
    }

    pub(super) fn attach(&mut self, name: &ProcessName, uid: Uid) {
        let origin = Origin {
            name: name.to_string(),
            uid: uid.to_string(),
        };
        let begin = self.query.begin(&origin.name, &origin.uid);
        let start = match begin {
            Begin::Oldest => Start::Oldest,
            Begin::End | Begin::Back(_) => Start::End,
            Begin::After(sequence) => Start::After(sequence),
        };
        let Some(attached) = self.reader.attach(uid, start) else {
            // Nothing captured yet; `created` ticks when there is.
            return;
        };
        let (slot, window) = (attached.slot, attached.window);
        self.slots.insert(uid, slot);
        self.sources.insert(
            slot,
            Source {
                uid,
                origin,
                continued: Continued::default(),
                history_end: window.end,
                matching: Matching::Yes,
            },
        );
        match begin {
            Begin::End | Begin::Back(_) if attached.is_new => {
                self.reader.seek(slot, Start::After(0));
                self.begin(slot);
            }
            Begin::Back(count) if !self.query.filter.is_open() => {
                self.locating.push(Locating {
                    slot,
                    count,
                    at: window.end,
                });
            }
            Begin::Back(count) => {
                let start = Start::At(window.end.saturating_sub(count));
                self.reader.seek(slot, start);
                self.begin(slot);
            }
            Begin::Oldest | Begin::End | Begin::After(_) => self.begin(slot),
        }
    }

    /// Its cursor stands where it starts: read it.
    pub(super) fn begin(&mut self, slot: Slot) {
        match &mut self.phase {
            Phase::History(history) => history.add(slot),
            Phase::Live | Phase::Ended(_) => self.reader.requeue(slot),
        }
    }

    pub(super) fn drop_if_removed(&mut self, slot: Slot) {
        if self.reader.is_removed(slot) {
            self.detach(slot);
        }
    }

    pub(super) fn detach(&mut self, slot: Slot) {
        self.reader.detach(slot);
        if let Some(source) = self.sources.remove(&slot) {
            self.slots.remove(&source.uid);
        }
    }
}
