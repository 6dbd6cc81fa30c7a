//! One uid's ring as writer and readers share it, and the directory of all.
//!
//! The lock of a buffer is held by the writer for one read of a pipe and by a
//! reader for one bounded batch; data is never copied under it for a reader.
//! Waking happens after the lock is released and costs one atomic swap per
//! reader that has not yet come for what it was told of; with no reader nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{reader::Link, ring::Ring};
use crate::domain::id::{ProcessName, Uid};

/// Trimming for the total brings it this part below, so that the search for the
/// largest buffer is rare.
const TOTAL_SLACK_PART: usize = 32;

/// Least bytes taken from the largest buffer before the next search.
const TRIM_BYTES_MIN: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Buffer {
    /// For the daemon's own log.
    pub(super) name: ProcessName,
    /// Cancelled when the process is removed: its pipes are drained and closed.
    pub(super) removed: CancellationToken,
    /// How many buffers the directory had made before.
    pub(super) made_after: u64,
    state: Mutex<State>,
    used: Arc<AtomicUsize>,
}

/// All buffers and what they cost together.
#[derive(Debug)]
pub(super) struct Directory {
    buffers: Mutex<Buffers>,
    used: Arc<AtomicUsize>,
    total_bytes: usize,
    /// Ticks when there is a new buffer.
    created: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Replaced, never changed, so that the writer can walk it without the lock.
    links: Arc<[Arc<Link>]>,
}

#[derive(Debug, Default)]
struct Buffers {
    live: HashMap<Uid, Arc<Buffer>>,
    /// Removed ones that readers still hold: they count, and can be trimmed.
    held: Vec<Weak<Buffer>>,
}

// === impl Buffer ===

impl Buffer {
    fn new(name: &ProcessName, limit: usize, directory: &Directory) -> Self {
        Self {
            name: name.clone(),
            removed: CancellationToken::new(),
            made_after: *directory.created.borrow(),
            state: Mutex::new(State {
                ring: Ring::new(limit),
                links: Arc::new([]),
            }),
            used: Arc::clone(&directory.used),
        }
    }

    /// Lets `write` add entries, then wakes the readers.
    pub(super) fn append(&self, write: impl FnOnce(&mut Ring)) {
        let links = {
            let mut state = lock(&self.state);
            let end = state.ring.window().end;
            self.change(&mut state.ring, write);
            if state.ring.window().end == end || state.links.is_empty() {
                return;
            }
            Arc::clone(&state.links)
        };
        for link in links.iter() {
            link.mark();
        }
    }

    /// Adds `link` to those woken by what is appended from now on; `look` sees
    /// the ring as it is at that moment.
    pub(super) fn join<T>(&self, link: &Arc<Link>, look: impl FnOnce(&Ring) -> T) -> T {
        let mut state = lock(&self.state);
        let links = state.links.iter().chain([link]).cloned().collect();
        state.links = links;
        look(&state.ring)
    }

    pub(super) fn leave(&self, link: &Arc<Link>) {
        let mut state = lock(&self.state);
        let others = state.links.iter().filter(|other| !Arc::ptr_eq(other, link));
        state.links = others.cloned().collect();
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&lock(&self.state).ring)
    }

    fn set_limit(&self, limit: usize) {
        let mut state = lock(&self.state);
        self.change(&mut state.ring, |ring| ring.set_limit(limit));
    }

    fn trim_by(&self, bytes: usize) {
        let mut state = lock(&self.state);
        self.change(&mut state.ring, |ring| {
            ring.trim_to(ring.cost().saturating_sub(bytes));
        });
    }

    fn cost(&self) -> usize {
        lock(&self.state).ring.cost()
    }

    /// Every change of a ring goes through here, so that the total stays true.
    fn change(&self, ring: &mut Ring, change: impl FnOnce(&mut Ring)) {
        let before = ring.cost();
        change(ring);
        let after = ring.cost();
        // ORDERING: a statistic; it guards no other memory.
        self.used
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let cost = self.cost();
        self.used.fetch_sub(cost, Ordering::Relaxed);
    }
}

// === impl Directory ===

impl Directory {
    pub(super) fn new(total_bytes: usize) -> Self {
        Self {
            buffers: Mutex::default(),
            used: Arc::default(),
            total_bytes,
            created: watch::Sender::new(0),
        }
    }

    /// The buffer of `uid`, made if need be, with `limit` from now on.
    pub(super) fn open(&self, uid: Uid, name: &ProcessName, limit: usize) -> Arc<Buffer> {
        let mut buffers = lock(&self.buffers);
        if let Some(buffer) = buffers.live.get(&uid) {
            buffer.set_limit(limit);
            return Arc::clone(buffer);
        }
        let buffer = Arc::new(Buffer::new(name, limit, self));
        buffers.live.insert(uid, Arc::clone(&buffer));
        // Under the lock, so that buffers are numbered in the order they appear.
        self.created.send_modify(|count| *count += 1);
        buffer
    }

    pub(super) fn get(&self, uid: Uid) -> Option<Arc<Buffer>> {
        lock(&self.buffers).live.get(&uid).cloned()
    }

    pub(super) fn created(&self) -> watch::Receiver<u64> {
        self.created.subscribe()
    }

    /// Forgets `uid`. Readers that follow it keep what they have not read yet.
    pub(super) fn remove(&self, uid: Uid) {
        let mut buffers = lock(&self.buffers);
        buffers.held.retain(|buffer| buffer.strong_count() > 0);
        if let Some(buffer) = buffers.live.remove(&uid) {
            buffers.held.push(Arc::downgrade(&buffer));
            drop(buffers);
            buffer.removed.cancel();
            let links = Arc::clone(&lock(&buffer.state).links);
            links.iter().for_each(|link| link.mark());
        }
    }

    /// Bytes retained over all.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Trims the oldest of the largest buffers until the total is kept.
    pub(super) fn keep_total(&self) {
        if self.used() <= self.total_bytes {
            return;
        }
        let target = self.total_bytes - self.total_bytes / TOTAL_SLACK_PART;
        loop {
            let excess = self.used().saturating_sub(target);
            let Some((cost, largest)) = self.largest().filter(|_| excess > 0) else {
                return;
            };
            largest.trim_by(excess.min((cost / 8).max(TRIM_BYTES_MIN)));
            if largest.cost() == cost {
                // Not even the largest has anything to spare.
                return;
            }
        }
    }

    fn largest(&self) -> Option<(usize, Arc<Buffer>)> {
        let buffers = lock(&self.buffers);
        let held = buffers.held.iter().filter_map(Weak::upgrade);
        buffers
            .live
            .values()
            .cloned()
            .chain(held)
            .map(|buffer| (buffer.cost(), buffer))
            .max_by_key(|(cost, _)| *cost)
    }
}

/// Every value behind these locks is whole between any two statements, so a
/// panic of another holder does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
