//! Where it is told that a log has grown, and who is told.
//!
//! How a wake is never lost: a shim writes, then the kernel tells the watcher, and
//! that marks the links; a reader unmarks its link, then reads the files. Either
//! the read sees what was written, or the mark comes after the unmark and lists
//! the slot anew.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::reader::Slot;
use crate::domain::id::Uid;

/// One followed log, as its readers share it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) uid: Uid,
    /// Set, with another directory, when the process is removed.
    removed: AtomicBool,
    dir: Mutex<PathBuf>,
    /// Replaced, never changed, so that it can be walked without the lock.
    links: Mutex<Arc<[Arc<Link>]>>,
}

/// Where word is left for one reader of many logs.
#[derive(Debug, Default)]
pub(super) struct Gate {
    // BOUND: a slot is listed at most once per link, see `Link::mark`.
    marked: Mutex<Vec<Slot>>,
    notify: Notify,
}

/// One log's tie to one reader.
#[derive(Debug)]
pub(super) struct Link {
    slot: Slot,
    marked: AtomicBool,
    gate: Arc<Gate>,
}

// === impl Channel ===

impl Channel {
    pub(super) fn new(uid: Uid, dir: PathBuf) -> Self {
        Self {
            uid,
            removed: AtomicBool::new(false),
            dir: Mutex::new(dir),
            links: Mutex::new(Arc::new([])),
        }
    }

    /// Where its segments lie now.
    pub(super) fn dir(&self) -> PathBuf {
        lock(&self.dir).clone()
    }

    pub(super) fn is_removed(&self) -> bool {
        // ORDERING: a reader that sees the flag reads from the new directory.
        self.removed.load(Ordering::Acquire)
    }

    /// The process is gone; what it wrote lies in `dir` until nobody reads it.
    pub(super) fn remove(&self, dir: PathBuf) {
        *lock(&self.dir) = dir;
        self.removed.store(true, Ordering::Release);
    }

    pub(super) fn join(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        *links = links.iter().chain([link]).cloned().collect();
    }

    /// Whether nobody is left.
    pub(super) fn leave(&self, link: &Arc<Link>) -> bool {
        let mut links = lock(&self.links);
        let others = links.iter().filter(|other| !Arc::ptr_eq(other, link));
        *links = others.cloned().collect();
        links.is_empty()
    }

    /// Tells every reader.
    pub(super) fn mark(&self) {
        let links = Arc::clone(&lock(&self.links));
        links.iter().for_each(|link| link.mark());
    }
}

// === impl Gate ===

impl Gate {
    pub(super) fn take(&self) -> Vec<Slot> {
        std::mem::take(&mut *lock(&self.marked))
    }

    /// Waits until something is marked. May be dropped and called again.
    pub(super) async fn marked(&self) {
        while lock(&self.marked).is_empty() {
            // A mark between the check and the wait has left its permit.
            self.notify.notified().await;
        }
    }
}

// === impl Link ===

impl Link {
    pub(super) fn new(slot: Slot, gate: &Arc<Gate>) -> Self {
        Self {
            slot,
            marked: AtomicBool::new(false),
            gate: Arc::clone(gate),
        }
    }

    /// Tells the reader that there is something to read, once until it looks.
    pub(super) fn mark(&self) {
        // ORDERING: pairs with the swap in `unmark`, see the module header.
        if !self.marked.swap(true, Ordering::AcqRel) {
            lock(&self.gate.marked).push(self.slot);
            self.gate.notify.notify_one();
        }
    }

    /// To be called before the files are looked at.
    pub(super) fn unmark(&self) {
        self.marked.swap(false, Ordering::AcqRel);
    }
}

/// Every value behind these locks is whole between any two statements, so a
/// panic of another holder does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
