//! One call: which processes it follows and what it does next.
//!
//! Pulled by the transport, so a client that does not read costs nothing. A step
//! is bounded (entries looked at, bytes kept) and then yields, so that one call
//! cannot hold up the others on its thread.

mod sources;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::sources::{Matching, Source};
use super::{
    super::{
        proto,
        stream::{self, output_unreadable},
    },
    Subject,
    history::{History, Locating},
    message::Outbox,
    query::Query,
};
use crate::{
    domain::id::{Revision, Uid},
    logs::{Place, Reader, Slot},
    watch::CloseReason,
};

/// Bytes read from one process before the next has its turn.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// Reads in one step.
pub(super) const STEP_READS_MAX: usize = 64;

/// Least time between two calls of `resolve`.
const RESOLVE_INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(super) struct Tailing<R> {
    pub(super) query: Query,
    pub(super) reader: Reader,
    pub(super) sources: HashMap<Slot, Source>,
    pub(super) outbox: Outbox,
    slots: HashMap<Uid, Slot>,
    locating: Vec<Locating>,
    phase: Phase,
    resolve: R,
    changed: Option<watch::Receiver<Revision>>,
    resolve_at: Option<Instant>,
    resolved: Instant,
    heartbeat_at: Instant,
    until_at: Option<Instant>,
    shutdown: CancellationToken,
}

enum Phase {
    History(History),
    Live,
    Ended(Option<Status>),
}

// === impl Tailing ===

impl<R> Tailing<R>
where
    R: Fn(&proto::ProcessSelector) -> Result<Vec<Subject>, Status>,
{
    /// Finds where each process starts: what is written from now on is new.
    pub(super) fn open(
        reader: Reader,
        query: Query,
        resolve: R,
        mut changed: watch::Receiver<Revision>,
        shutdown: CancellationToken,
    ) -> Result<Self, Status> {
        let now = Instant::now();
        changed.mark_unchanged();
        let found = resolve(&query.selector)?;
        let mut tailing = Self {
            reader,
            sources: HashMap::new(),
            outbox: Outbox::default(),
            slots: HashMap::new(),
            locating: Vec::new(),
            phase: Phase::History(History::default()),
            resolve,
            changed: Some(changed),
            resolve_at: None,
            resolved: now,
            heartbeat_at: now + query.heartbeat,
            until_at: query.filter.until.map(|until| now + time_until(until.0)),
            shutdown,
            query,
        };
        for subject in found {
            tailing
                .attach(&subject)
                .map_err(|e| output_unreadable(&e))?;
        }
        Ok(tailing)
    }

    /// The next message; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<Result<proto::TailLogsResponse, Status>> {
        loop {
            // A batch of history waits until it is full.
            let is_done = !matches!(self.phase, Phase::History(_));
            if let Some(message) = self.outbox.pop(is_done) {
                self.heartbeat_at = Instant::now() + self.query.heartbeat;
                return Some(Ok(message));
            }
            if let Phase::Ended(status) = &mut self.phase {
                return status.take().map(Err);
            }
            if self.shutdown.is_cancelled() {
                self.close();
            } else if Instant::now() >= self.heartbeat_at {
                self.outbox.progress();
            } else if let Some(locating) = self.locating.pop() {
                self.locate(locating);
                tokio::task::yield_now().await;
            } else if let Phase::History(history) = &mut self.phase {
                let mut history = std::mem::take(history);
                let done = history.step(self);
                self.phase = Phase::History(history);
                match done {
                    Ok(true) => self.go_live(),
                    Ok(false) => {}
                    Err(error) => self.phase = Phase::Ended(Some(output_unreadable(&error))),
                }
                tokio::task::yield_now().await;
            } else {
                self.live().await;
            }
        }
    }

    fn close(&mut self) {
        self.outbox.closing(CloseReason::Shutdown);
        self.phase = Phase::Ended(Some(stream::closed(CloseReason::Shutdown)));
    }

    fn go_live(&mut self) {
        if !self.query.follow {
            self.phase = Phase::Ended(None);
            return;
        }
        self.outbox.synced();
        self.phase = Phase::Live;
        // Reads of the history took the marks of what came after it.
        for slot in self.sources.keys() {
            self.reader.requeue(*slot);
        }
    }

    async fn live(&mut self) {
        self.note_ticks();
        let now = Instant::now();
        if self.resolve_at.is_some_and(|at| now >= at) {
            self.refresh();
            return;
        }
        let ending = self.until_at.is_some_and(|at| now >= at);
        let mut reads = 0;
        while reads < STEP_READS_MAX && !self.outbox.has_message() {
            let Some(slot) = self.reader.next_ready() else {
                break;
            };
            reads += 1;
            self.read(slot, ending);
        }
        if reads > 0 {
            tokio::task::yield_now().await;
        } else if ending {
            self.phase = Phase::Ended(None);
        } else {
            self.wait().await;
        }
    }

    fn read(&mut self, slot: Slot, ending: bool) {
        let Some(source) = self.sources.get_mut(&slot) else {
            return;
        };
        let before = match source.matching {
            Matching::Yes => Place::MAX,
            Matching::Until(end) => end,
            // The mark stays, so it is not woken for this process again.
            Matching::No => return self.drop_if_removed(slot),
        };
        let Ok(batch) = self.reader.read(slot, TURN_BYTES_MAX, before) else {
            // It is tried again when the reader says so.
            return;
        };
        for gap in batch.gaps {
            self.outbox.gap(&source.origin, gap);
        }
        let mut past = false;
        for entry in batch.entries {
            past |= self.query.filter.is_past(entry.time);
            if self.query.filter.admits(&entry, &mut source.continued) {
                self.outbox.entry(&source.origin, entry);
            }
        }
        if batch.more && !(past && ending) {
            self.reader.requeue(slot);
        } else if source.matching != Matching::Yes {
            source.matching = Matching::No;
            self.drop_if_removed(slot);
        } else if past && ending {
            self.detach(slot);
        }
    }

    async fn wait(&mut self) {
        let heartbeat_at = self.heartbeat_at;
        let next = [self.resolve_at, self.until_at]
            .into_iter()
            .flatten()
            .fold(heartbeat_at, Instant::min);
        let changed = async {
            match &mut self.changed {
                Some(changed) => changed.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let mut lost = false;
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.reader.ready() => {}
            () = sleep_until(next) => {}
            ticks = changed, if self.resolve_at.is_none() => {
                lost = !ticks;
                self.resolve_at = Some(self.resolved + RESOLVE_INTERVAL_MIN);
            }
        }
        if lost {
            self.changed = None;
        }
    }

    /// What `wait` would see; a busy call never waits.
    fn note_ticks(&mut self) {
        let changed = self
            .changed
            .as_ref()
            .is_some_and(|changed| changed.has_changed().unwrap_or(false));
        if self.resolve_at.is_none() && changed {
            self.resolve_at = Some(self.resolved + RESOLVE_INTERVAL_MIN);
        }
    }

    /// One batch further back in search of the place to start.
    fn locate(&mut self, locating: Locating) {
        let slot = locating.slot;
        match locating.step(&mut self.reader, &self.query.filter) {
            Ok(Some(locating)) => self.locating.push(locating),
            Ok(None) => self.begin(slot),
            Err(error) => self.phase = Phase::Ended(Some(output_unreadable(&error))),
        }
    }
}

/// How long until the wall clock shows `nanos`; timers run on the other clock.
fn time_until(nanos: i64) -> Duration {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()).saturating_sub(now)
}
