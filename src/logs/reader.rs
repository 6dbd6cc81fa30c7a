//! The reading side: one reader follows any number of buffers.
//!
//! A reader has a cursor per buffer and no queue of entries: what it does not
//! fetch in time is trimmed, and the next read says so by a gap.
//!
//! How a wake is never lost: the writer appends, then marks the link; the reader
//! unmarks the link, then reads the ring. Either the read sees the append, or the
//! mark comes after the unmark and lists the slot anew.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::{
    buffer::{Buffer, Directory, lock},
    entry::Entry,
    ring::{Batch, Cursor, Ring, Window},
};
use crate::domain::id::Uid;

/// Where to start in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest retained entry.
    Oldest,
    /// After the newest.
    End,
    /// At this arrival number, or the nearest retained.
    At(u64),
    /// Everything up to this sequence was seen. What is gone since is told by a
    /// gap; a sequence that was never assigned starts at the oldest entry.
    After(i64),
}

/// Names one buffer within one reader; never reused.
pub type Slot = usize;

/// A buffer that is now followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Its name within the reader.
    pub slot: Slot,
    /// What was retained at that moment; what comes later wakes the reader.
    pub window: Window,
    /// Whether it was made after the reader was.
    pub is_new: bool,
}

/// Follows buffers. Dropping it costs the writers nothing further.
#[derive(Debug)]
pub struct Reader {
    directory: Arc<Directory>,
    gate: Arc<Gate>,
    sources: HashMap<Slot, Source>,
    next_slot: Slot,
    /// How many buffers were made before this reader.
    made_before: u64,
    // BOUND: each slot at most once, and detached ones until they are met.
    /// Slots with something to read, in turn.
    queue: VecDeque<Slot>,
}

/// Where the writers of many buffers leave word for one reader.
#[derive(Debug, Default)]
pub(super) struct Gate {
    // BOUND: a slot is listed at most once per link, see `Link::mark`.
    marked: Mutex<Vec<Slot>>,
    notify: Notify,
}

/// One buffer's tie to one reader.
#[derive(Debug)]
pub(super) struct Link {
    slot: Slot,
    marked: AtomicBool,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Source {
    buffer: Arc<Buffer>,
    link: Arc<Link>,
    cursor: Cursor,
    /// Whether it stands in `Reader::queue`.
    queued: bool,
}

// === impl Start ===

impl Start {
    fn find(self, ring: &Ring) -> Cursor {
        match self {
            Self::Oldest => ring.at(ring.window().oldest),
            Self::End => ring.at(ring.window().end),
            Self::At(index) => ring.at(index),
            Self::After(sequence) => ring.after(sequence),
        }
    }
}

// === impl Link ===

impl Link {
    /// Tells the reader that there is something to read, once until it looks.
    pub(super) fn mark(&self) {
        // ORDERING: pairs with the swap in `Reader::read`; the append before it is
        // ordered by the lock of the buffer.
        if !self.marked.swap(true, Ordering::AcqRel) {
            lock(&self.gate.marked).push(self.slot);
            self.gate.notify.notify_one();
        }
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        let made_before = *directory.created().borrow();
        Self {
            directory,
            made_before,
            gate: Arc::default(),
            sources: HashMap::new(),
            next_slot: 0,
            queue: VecDeque::new(),
        }
    }

    /// Ticks when a buffer is made that `attach` could not find before.
    #[must_use]
    pub fn created(&self) -> watch::Receiver<u64> {
        self.directory.created()
    }

    /// Follows the buffer of `uid`. `None`: nothing of it was ever captured, or it
    /// was removed.
    pub fn attach(&mut self, uid: Uid, start: Start) -> Option<Attached> {
        let buffer = self.directory.get(uid)?;
        let is_new = buffer.made_after >= self.made_before;
        let slot = self.next_slot;
        self.next_slot += 1;
        let link = Arc::new(Link {
            slot,
            marked: AtomicBool::new(false),
            gate: Arc::clone(&self.gate),
        });
        let (cursor, window) = buffer.join(&link, |ring| (start.find(ring), ring.window()));
        self.sources.insert(
            slot,
            Source {
                buffer,
                link,
                cursor,
                queued: false,
            },
        );
        Some(Attached {
            slot,
            window,
            is_new,
        })
    }

    /// Stops following.
    pub fn detach(&mut self, slot: Slot) {
        if let Some(source) = self.sources.remove(&slot) {
            source.buffer.leave(&source.link);
        }
    }

    /// Whether the process of `slot` was removed since.
    #[must_use]
    pub fn is_removed(&self, slot: Slot) -> bool {
        self.sources
            .get(&slot)
            .is_none_or(|source| source.buffer.removed.is_cancelled())
    }

    /// How many buffers are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// What is retained of `slot` now.
    #[must_use]
    pub fn window(&self, slot: Slot) -> Window {
        self.sources
            .get(&slot)
            .map_or(Window { oldest: 0, end: 0 }, |source| {
                source.buffer.look(Ring::window)
            })
    }

    /// Moves to another place.
    pub fn seek(&mut self, slot: Slot, start: Start) {
        if let Some(source) = self.sources.get_mut(&slot) {
            source.cursor = source.buffer.look(|ring| start.find(ring));
        }
    }

    /// Entries `from..to` as far as retained and within a bound, without moving.
    #[must_use]
    pub fn peek(&self, slot: Slot, from: u64, to: u64) -> Vec<Entry> {
        self.sources
            .get(&slot)
            .map(|source| source.buffer.look(|ring| ring.peek(from, to)))
            .unwrap_or_default()
    }

    /// Reads on: up to about `budget` bytes, and only entries before arrival
    /// number `before`. A batch without entries may still have `more`.
    pub fn read(&mut self, slot: Slot, budget: usize, before: u64) -> Batch {
        let Some(source) = self.sources.get_mut(&slot) else {
            return Batch::default();
        };
        // ORDERING: before the ring is read, see the module header.
        source.link.marked.swap(false, Ordering::AcqRel);
        source
            .buffer
            .look(|ring| ring.read(&mut source.cursor, budget, before))
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
        let marked = std::mem::take(&mut *lock(&self.gate.marked));
        for slot in marked {
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
        while self.queue.is_empty() && lock(&self.gate.marked).is_empty() {
            // A mark between the check and the wait has left its permit.
            self.gate.notify.notified().await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for source in self.sources.values() {
            source.buffer.leave(&source.link);
        }
    }
}
