//! The processes as a watch tells them, and the proof that nothing is missing.
//!
//! Pure: messages in, news out. Invariants: each message begins where the one
//! before ended (only `reset` and a new snapshot begin anew); a token is given out
//! only for a view that was complete; a snapshot is collected aside and swapped in
//! whole, and what it changes is told as differences.

use std::{collections::BTreeMap, sync::Arc};

use crate::grpc::proto::{
    self, Process, ProcessEventKind, ResetReason, WatchProcessesResponse,
    watch_processes_response::Payload,
};

/// What a message told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// In the first snapshot.
    Found(Arc<Process>),
    /// A change. For a process that left or was deleted, `new` is what was last
    /// known.
    Event {
        event: Box<proto::ProcessEvent>,
        old: Option<Arc<Process>>,
        new: Arc<Process>,
    },
    /// A later snapshot shows it different from what was known.
    Resynced {
        old: Option<Arc<Process>>,
        new: Arc<Process>,
        gone: bool,
    },
    /// The stream could not go on where it was.
    Reset(ResetReason),
}

/// The daemon broke the contract of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the chain of revisions is broken: expected a message from r{expected}, got r{got}")]
    Chain { expected: i64, got: i64 },
    #[error("a message goes back from r{from} to r{to}")]
    Backwards { from: i64, to: i64 },
    #[error("a change at r{revision} came in a message for (r{from}, r{to}]")]
    Outside { revision: i64, from: i64, to: i64 },
    #[error("a {0} message came out of order")]
    OutOfOrder(&'static str),
    #[error("a message has no process where one is promised")]
    NoProcess,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct View {
    processes: BTreeMap<String, Arc<Process>>,
    /// The snapshot that is coming in.
    shadow: Option<BTreeMap<String, Arc<Process>>>,
    /// `to_revision` of the last message of this stream; none before `opened`.
    chain: Option<i64>,
    epoch: String,
    scope: String,
    /// Everything up to here is in `processes`; none before the first snapshot.
    complete_at: Option<i64>,
    opened: bool,
}

// === impl View ===

impl View {
    /// Whether no stream was ever opened.
    pub(crate) fn is_new(&self) -> bool {
        !self.opened
    }

    /// The processes, by name.
    pub(crate) fn processes(&self) -> impl ExactSizeIterator<Item = &Process> {
        self.processes.values().map(|process| &**process)
    }

    /// The revision the view is complete at.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.complete_at
    }

    /// Where to go on; none: with a snapshot. Called before each new stream.
    pub(crate) fn token(&mut self) -> Option<proto::ResumeToken> {
        self.chain = None;
        // A snapshot that was cut off is worth nothing.
        let unfinished = self.shadow.take().is_some();
        if unfinished {
            return None;
        }
        self.complete_at.map(|revision| proto::ResumeToken {
            epoch: self.epoch.clone(),
            revision,
            scope: self.scope.clone(),
        })
    }

    /// The next stream begins with a snapshot, whatever was seen.
    pub(crate) fn distrust(&mut self) {
        self.shadow = Some(BTreeMap::new());
    }

    /// Checks a message against the chain and applies it. After an error the view
    /// is as before.
    pub(crate) fn accept(&mut self, message: &WatchProcessesResponse) -> Result<Vec<News>, Broken> {
        let (from, to) = (message.from_revision, message.to_revision);
        if let Some(Payload::Opened(opened)) = &message.payload {
            return self.open(opened, to);
        }
        let expected = self.chain.ok_or(Broken::OutOfOrder("first"))?;
        if let Some(Payload::Reset(reset)) = &message.payload {
            self.epoch.clone_from(&reset.epoch);
            self.shadow = Some(BTreeMap::new());
            self.chain = Some(to);
            return Ok(vec![News::Reset(reset.reason())]);
        }
        if from != expected {
            return Err(Broken::Chain {
                expected,
                got: from,
            });
        }
        if to < from {
            return Err(Broken::Backwards { from, to });
        }
        let news = match &message.payload {
            Some(Payload::Snapshot(part)) => self.collect(part)?,
            Some(Payload::Synced(_)) => self.swap()?,
            Some(Payload::Events(events)) => self.apply(&events.events, from, to)?,
            Some(
                Payload::Progress(_) | Payload::Closing(_) | Payload::Opened(_) | Payload::Reset(_),
            )
            | None => Vec::new(),
        };
        self.chain = Some(to);
        if self.shadow.is_none() {
            self.complete_at = Some(to);
        }
        Ok(news)
    }

    fn open(&mut self, opened: &proto::WatchOpened, to: i64) -> Result<Vec<News>, Broken> {
        if self.chain.is_some() {
            return Err(Broken::OutOfOrder("second opened"));
        }
        match (opened.resumed, self.complete_at) {
            (true, Some(revision)) if revision != to => {
                return Err(Broken::Chain {
                    expected: revision,
                    got: to,
                });
            }
            (true, Some(_)) => {}
            (true, None) => return Err(Broken::OutOfOrder("resumed")),
            (false, _) => self.shadow = Some(BTreeMap::new()),
        }
        self.epoch.clone_from(&opened.epoch);
        self.scope.clone_from(&opened.scope);
        self.chain = Some(to);
        self.opened = true;
        Ok(Vec::new())
    }

    fn collect(&mut self, part: &proto::SnapshotPart) -> Result<Vec<News>, Broken> {
        let shadow = self.shadow.as_mut().ok_or(Broken::OutOfOrder("snapshot"))?;
        for process in &part.processes {
            shadow.insert(process.name.clone(), Arc::new(process.clone()));
        }
        Ok(Vec::new())
    }

    fn swap(&mut self) -> Result<Vec<News>, Broken> {
        let shadow = self.shadow.take().ok_or(Broken::OutOfOrder("synced"))?;
        let mut old = std::mem::replace(&mut self.processes, shadow);
        if self.complete_at.is_none() {
            return Ok(self.processes.values().cloned().map(News::Found).collect());
        }
        let mut news = Vec::new();
        for process in self.processes.values() {
            let known = old.remove(&process.name);
            if known.as_ref().is_none_or(|known| !is_same(known, process)) {
                news.push(News::Resynced {
                    old: known,
                    new: process.clone(),
                    gone: false,
                });
            }
        }
        let gone = |process| News::Resynced {
            old: None,
            new: process,
            gone: true,
        };
        news.extend(old.into_values().map(gone));
        Ok(news)
    }

    fn apply(
        &mut self,
        events: &[proto::ProcessEvent],
        from: i64,
        to: i64,
    ) -> Result<Vec<News>, Broken> {
        if self.shadow.is_some() {
            return Err(Broken::OutOfOrder("events"));
        }
        let mut previous = from;
        for event in events {
            if event.revision <= previous || event.revision > to {
                return Err(Broken::Outside {
                    revision: event.revision,
                    from: previous,
                    to,
                });
            }
            if event.process.is_none() {
                return Err(Broken::NoProcess);
            }
            previous = event.revision;
        }
        Ok(events
            .iter()
            .filter_map(|event| self.apply_one(event))
            .collect())
    }

    /// None where the view already had it, or never did and it is gone.
    fn apply_one(&mut self, event: &proto::ProcessEvent) -> Option<News> {
        let new = Arc::new(event.process.clone()?);
        let old = self.processes.get(&new.name).cloned();
        match event.kind() {
            ProcessEventKind::Deleted | ProcessEventKind::Left => {
                let known = old.filter(|known| known.uid == new.uid)?;
                self.processes.remove(&new.name);
                let event = Box::new(event.clone());
                Some(News::Event {
                    event,
                    old: Some(known),
                    new,
                })
            }
            ProcessEventKind::Added | ProcessEventKind::Changed | ProcessEventKind::Unspecified => {
                let is_old = old
                    .as_ref()
                    .is_some_and(|known| known.uid == new.uid && known.version >= new.version);
                if is_old {
                    return None;
                }
                self.processes.insert(new.name.clone(), Arc::clone(&new));
                Some(News::Event {
                    event: Box::new(event.clone()),
                    old,
                    new,
                })
            }
        }
    }
}

fn is_same(known: &Process, process: &Process) -> bool {
    known.uid == process.uid && known.version == process.version
}

#[cfg(test)]
mod tests;
