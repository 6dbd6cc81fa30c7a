//! The reading side: one reader follows any number of logs.
//!
//! A reader has a cursor per log and nothing else: no queue of entries, no open
//! file. What retention removes before it comes is a gap.
//!
//! Reading looks into files of the page cache or of the disk, a bounded amount
//! per call, on the thread that calls.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    sync::Arc,
    time::SystemTime,
};

use tokio::time::{Instant, sleep_until};

use super::{
    entry::Batch,
    gate::{Channel, Gate, Link},
    limits::{HOLD_MAX, POLL_INTERVAL, QUIET},
    place::{Cursor, End, Place, Start},
    seek,
    walk::{self, Held},
    watcher::Watcher,
};
use crate::domain::{id::Uid, time::Timestamp};

/// Names one log within one reader; never reused.
pub type Slot = usize;

/// A log that is now followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Its name within the reader.
    pub slot: Slot,
    /// Its end at that moment; what comes later wakes the reader.
    pub end: End,
    /// Whether all that was ever written came after the reader was made.
    pub is_new: bool,
}

/// Follows logs. Dropping it ends the watches nobody else needs.
#[derive(Debug)]
pub struct Reader {
    watcher: Arc<Watcher>,
    gate: Arc<Gate>,
    sources: HashMap<Slot, Source>,
    next_slot: Slot,
    made: Timestamp,
    // BOUND: each slot at most once, and detached ones until they are met.
    /// Slots with something to read, in turn.
    queue: VecDeque<Slot>,
    // BOUND: one per slot, see `Source::due`.
    /// When slots are to be read again although nothing comes.
    due: BTreeSet<(Instant, Slot)>,
}

#[derive(Debug)]
struct Source {
    channel: Arc<Channel>,
    link: Arc<Link>,
    cursor: Cursor,
    /// Whether it stands in `Reader::queue`.
    queued: bool,
    hold: Option<Hold>,
    /// Its entry in `Reader::due`.
    due: Option<Instant>,
    warned: bool,
}

/// An unended line that is not handed on yet.
#[derive(Debug, Clone, Copy)]
struct Hold {
    held: Held,
    since: Instant,
    grown: Instant,
}

// === impl Hold ===

impl Hold {
    /// When it is handed on as it is.
    fn until(&self) -> Instant {
        match self.held.is_awaited {
            true => self.since + QUIET,
            false => (self.grown + QUIET).min(self.since + HOLD_MAX),
        }
    }
}

// === impl Reader: what is followed ===

impl Reader {
    pub(super) fn new(watcher: Arc<Watcher>) -> Self {
        Self {
            watcher,
            made: SystemTime::now().into(),
            gate: Arc::default(),
            sources: HashMap::new(),
            next_slot: 0,
            queue: VecDeque::new(),
            due: BTreeSet::new(),
        }
    }

    /// Follows the log of `uid`, which need not be there yet. `None`: the process
    /// was removed.
    ///
    /// # Errors
    /// Its files cannot be opened or read now.
    pub fn attach(&mut self, uid: Uid, start: Start) -> io::Result<Option<Attached>> {
        let slot = self.next_slot;
        let link = Arc::new(Link::new(slot, &self.gate));
        // Before the files are looked at, so that nothing is missed in between.
        let Some(channel) = self.watcher.join(uid, &link) else {
            return Ok(None);
        };
        self.next_slot += 1;
        let mut source = Source {
            channel,
            link,
            cursor: Cursor::at(Place::MIN, 0),
            queued: false,
            hold: None,
            due: None,
            warned: false,
        };
        match source.begin(start, self.made) {
            Ok((end, is_new)) => {
                self.sources.insert(slot, source);
                Ok(Some(Attached { slot, end, is_new }))
            }
            Err(error) => {
                self.watcher.leave(&source.channel, &source.link);
                Err(error)
            }
        }
    }

    /// When it was made, by the wall clock.
    #[must_use]
    pub const fn made(&self) -> Timestamp {
        self.made
    }

    /// Stops following.
    pub fn detach(&mut self, slot: Slot) {
        if let Some(source) = self.sources.remove(&slot) {
            if let Some(due) = source.due {
                self.due.remove(&(due, slot));
            }
            self.watcher.leave(&source.channel, &source.link);
        }
    }

    /// Whether the process of `slot` was removed since.
    #[must_use]
    pub fn is_removed(&self, slot: Slot) -> bool {
        self.sources
            .get(&slot)
            .is_none_or(|source| source.channel.is_removed())
    }

    /// How many logs are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

// === impl Reader: reading ===

impl Reader {
    /// Where the log of `slot` ends now.
    ///
    /// # Errors
    /// Its files cannot be opened or read now.
    pub fn end(&self, slot: Slot) -> io::Result<End> {
        match self.sources.get(&slot) {
            Some(source) => seek::end(&source.channel.dir()),
            None => Ok(End {
                place: Place::MIN,
                next_sequence: 0,
            }),
        }
    }

    /// Moves to another place.
    ///
    /// # Errors
    /// Its files cannot be opened or read now; it stays where it is.
    pub fn seek(&mut self, slot: Slot, start: Start) -> io::Result<()> {
        if let Some(source) = self.sources.get_mut(&slot) {
            source.cursor = seek::find(&source.channel.dir(), start)?;
            self.hold(slot, None);
        }
        Ok(())
    }

    /// A line before `line` from where a bounded amount of output lies in between;
    /// `None`: no line begins before it.
    ///
    /// # Errors
    /// Its files cannot be opened or read now.
    pub fn back(&self, slot: Slot, line: i64) -> io::Result<Option<i64>> {
        match self.sources.get(&slot) {
            Some(source) => seek::back(&source.channel.dir(), line),
            None => Ok(None),
        }
    }

    /// Reads on: about `budget` bytes. What was recorded before `before`, unless
    /// that is [`Place::MAX`], is handed on to its last byte; else the beginning
    /// of a line waits a while for the rest. A batch without entries may still
    /// have `more`.
    ///
    /// # Errors
    /// Its files cannot be opened or read now. Nothing is lost by it, and `ready`
    /// says when to try again.
    pub fn read(&mut self, slot: Slot, budget: usize, before: Place) -> io::Result<Batch> {
        let now = Instant::now();
        let Some(source) = self.sources.get_mut(&slot) else {
            return Ok(Batch::default());
        };
        source.link.unmark();
        let flush = before != Place::MAX
            || source.channel.is_removed()
            || source.hold.is_some_and(|hold| now >= hold.until());
        let dir = source.channel.dir();
        match walk::read(&dir, &mut source.cursor, before, budget, flush) {
            Ok(outcome) => {
                let hold = outcome.held.map(|held| source.holding(held, now));
                source.warned = false;
                self.hold(slot, hold);
                Ok(outcome.batch)
            }
            Err(error) => {
                if !std::mem::replace(&mut source.warned, true) {
                    let dir = dir.display();
                    tracing::warn!(%dir, %error, "captured output cannot be read now");
                }
                self.set_due(slot, Some(now + POLL_INTERVAL));
                Err(error)
            }
        }
    }

    /// Puts `slot` at the end of the turn, if it is not in it.
    pub fn requeue(&mut self, slot: Slot) {
        if let Some(source) = self.sources.get_mut(&slot)
            && !source.queued
        {
            source.queued = true;
            self.queue.push_back(slot);
        }
    }

    /// The next slot that has something to read. The caller reads it, and
    /// requeues it if there was more.
    pub fn next_ready(&mut self) -> Option<Slot> {
        for slot in self.gate.take() {
            self.requeue(slot);
        }
        let now = Instant::now();
        while let Some((at, slot)) = self.due.first().copied()
            && at <= now
        {
            self.set_due(slot, None);
            self.requeue(slot);
        }
        loop {
            let slot = self.queue.pop_front()?;
            if let Some(source) = self.sources.get_mut(&slot) {
                source.queued = false;
                return Some(slot);
            }
        }
    }

    /// Waits until `next_ready` has a slot. May be dropped and called again.
    pub async fn ready(&self) {
        if !self.queue.is_empty() {
            return;
        }
        match self.due.first() {
            None => self.gate.marked().await,
            Some((at, _)) => tokio::select! {
                () = self.gate.marked() => {}
                () = sleep_until(*at) => {}
            },
        }
    }

    fn hold(&mut self, slot: Slot, hold: Option<Hold>) {
        if let Some(source) = self.sources.get_mut(&slot) {
            source.hold = hold;
        }
        self.set_due(slot, hold.map(|hold| hold.until()));
    }

    fn set_due(&mut self, slot: Slot, due: Option<Instant>) {
        let Some(source) = self.sources.get_mut(&slot) else {
            return;
        };
        let before = std::mem::replace(&mut source.due, due);
        if let Some(at) = before {
            self.due.remove(&(at, slot));
        }
        if let Some(at) = due {
            self.due.insert((at, slot));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for source in self.sources.values() {
            self.watcher.leave(&source.channel, &source.link);
        }
    }
}

// === impl Source ===

impl Source {
    fn begin(&mut self, start: Start, made: Timestamp) -> io::Result<(End, bool)> {
        let dir = self.channel.dir();
        let end = seek::end(&dir)?;
        let is_new = end.next_sequence == 0 || seek::begun(&dir)?.is_some_and(|at| at >= made);
        self.cursor = match start {
            Start::End => Cursor::at(end.place, end.next_sequence),
            _ => seek::find(&dir, start)?,
        };
        Ok((end, is_new))
    }

    fn holding(&self, held: Held, now: Instant) -> Hold {
        match self.hold {
            Some(hold) if hold.held == held => hold,
            Some(hold) if hold.held.sequence == held.sequence => Hold {
                held,
                grown: match hold.held.bytes == held.bytes {
                    true => hold.grown,
                    false => now,
                },
                ..hold
            },
            _ => Hold {
                held,
                since: now,
                grown: now,
            },
        }
    }
}
