//! Which processes a call follows, as the registry changes.

use std::{collections::HashSet, io};

use tokio::time::Instant;
use tonic::Status;

use super::{
    super::{
        super::{proto, stream::output_unreadable},
        Subject,
        filter::Continued,
        history::Locating,
        message::Origin,
        query::Begin,
    },
    Phase, Tailing,
};
use crate::{
    domain::id::Uid,
    logs::{Place, Slot, Start},
};

/// A process as this call follows it.
#[derive(Debug)]
pub(in super::super) struct Source {
    uid: Uid,
    pub(in super::super) origin: Origin,
    pub(in super::super) continued: Continued,
    /// Where its log ended when it was attached.
    pub(in super::super) history_end: Place,
    pub(super) matching: Matching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matching {
    Yes,
    /// No longer, and to be read up to here.
    Until(Place),
    No,
}

// === impl Tailing ===

impl<R> Tailing<R>
where
    R: Fn(&proto::ProcessSelector) -> Result<Vec<Subject>, Status>,
{
    pub(super) fn refresh(&mut self) {
        // Before `resolve`, so that a tick during it is seen again.
        if let Some(changed) = &mut self.changed {
            changed.mark_unchanged();
        }
        self.resolve_at = None;
        self.resolved = Instant::now();
        let found = match (self.resolve)(&self.query.selector) {
            Ok(found) => found,
            Err(status) => {
                self.phase = Phase::Ended(Some(status));
                return;
            }
        };
        let uids: HashSet<Uid> = found.iter().map(|subject| subject.uid).collect();
        let gone: Vec<Slot> = self
            .slots
            .iter()
            .filter(|(uid, _)| !uids.contains(uid))
            .map(|(_, slot)| *slot)
            .collect();
        let mut result = gone.into_iter().try_for_each(|slot| self.rest(slot));
        for subject in found {
            result = result.and_then(|()| match self.slots.get(&subject.uid) {
                Some(slot) => {
                    self.rouse(*slot);
                    Ok(())
                }
                None => self.attach(&subject),
            });
        }
        if let Err(error) = result {
            self.phase = Phase::Ended(Some(output_unreadable(&error)));
        }
    }

    /// It no longer matches: read it to its end of now.
    fn rest(&mut self, slot: Slot) -> io::Result<()> {
        let end = self.reader.end(slot)?.place;
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
        Ok(())
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

    pub(super) fn attach(&mut self, subject: &Subject) -> io::Result<()> {
        let Subject { name, uid, created } = subject;
        let uid = *uid;
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
        let Some(attached) = self.reader.attach(uid, start)? else {
            // Deleted since; the next `resolve` does not list it.
            return Ok(());
        };
        let (slot, end) = (attached.slot, attached.end);
        // Its first output may be trimmed by now.
        let is_new = attached.is_new || *created >= self.reader.made();
        self.slots.insert(uid, slot);
        self.sources.insert(
            slot,
            Source {
                uid,
                origin,
                continued: Continued::default(),
                history_end: end.place,
                matching: Matching::Yes,
            },
        );
        match begin {
            Begin::End | Begin::Back(_) if is_new => {
                self.reader.seek(slot, Start::After(0))?;
                self.begin(slot);
            }
            Begin::Back(count) if !self.query.filter.is_open() => {
                self.locating.push(Locating::new(slot, count, end));
            }
            Begin::Back(count) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let first = end.next_sequence.saturating_sub(count);
                self.reader.seek(slot, Start::From(first))?;
                self.begin(slot);
            }
            Begin::Oldest | Begin::End | Begin::After(_) => self.begin(slot),
        }
        Ok(())
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
