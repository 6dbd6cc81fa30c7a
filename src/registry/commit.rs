//! Changing a state, and telling it: compare-and-swap, then publish with helping.
//!
//! ```text
//! commit: load -> f(state) -> compare-and-swap --+--> lock log
//!            ^---- lost the race: again ---------+      append this node and every
//!                                                       unpublished one before it
//! read:   load -> unpublished? -> publish first         store head, then set revisions
//!                                                       mark gates, unlock, wake
//! ```
//!
//! Two writers of one slot may leave the compare-and-swap in one order and reach
//! the log in the other, and a writer may stall between the two. So whoever
//! publishes a node publishes everything before it in the slot first, in order,
//! and finds nothing to do if somebody else was there: publishing is idempotent,
//! and any thread that meets an unpublished node can finish its writer's job.
//!
//! Invariants:
//! - `head` is stored before the revisions up to it are set, so a visible
//!   revision is never above the head; both within one hold of the log lock.
//! - A node is returned only when it is published.
//! - The lock covers an append. The caller's function runs before the swap;
//!   wake-ups and drops of old states after the unlock.
//! - Between swap and publish nothing waits; a drop guard publishes on unwind.
//!
//! Deliberately absent: creating and purging (`membership`), any sweeper, any
//! knowledge of what a state means.

use std::fmt;

use super::{
    log::{Limits, Log},
    node::{Body, Node, Slot},
    wake::{Gate, Idle, Line},
};
use crate::{
    domain::id::Revision,
    sync::{Arc, AtomicBool, AtomicI64, AtomicU64, Mutex, MutexGuard, Ordering},
};

/// What a commit led to.
pub struct Committed<B> {
    /// The state it left, published.
    pub node: Arc<Node<B>>,
    /// Whether it is a new one.
    pub changed: bool,
}

/// Why a commit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The process was deleted.
    #[error("the process was deleted")]
    Deleted,
    /// The name was purged; a process of this name has another slot.
    #[error("the slot is closed; look the name up again")]
    Closed,
}

/// Counters since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Commits that lost the race and ran their function again.
    pub cas_retries: u64,
    /// Nodes published by another thread than their writer's.
    pub publish_helped: u64,
}

/// Head and log: what all slots share.
pub(super) struct Core<B> {
    pub(super) head: AtomicI64,
    pub(super) log: Mutex<Log<B>>,
    cas_retries: AtomicU64,
    publish_helped: AtomicU64,
    /// There may be too many tombstones.
    overdue: AtomicBool,
}

/// Publishes even if the writer unwinds.
struct PublishGuard<'a, B: Body> {
    core: &'a Core<B>,
    slot: &'a Arc<Slot<B>>,
    node: &'a Arc<Node<B>>,
}

// === impl Core ===

impl<B: Body> Core<B> {
    pub(super) fn new(limits: Limits, first: Revision) -> Self {
        Self {
            head: AtomicI64::new(first.get()),
            log: Mutex::new(Log::new(limits, first)),
            cas_retries: AtomicU64::new(0),
            publish_helped: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
        }
    }

    pub(super) fn head(&self) -> i64 {
        // ORDERING: SeqCst as its store; pairs with it, so that everything up to
        // the revision read is in the log.
        self.head.load(Ordering::SeqCst)
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            cas_retries: self.cas_retries.load(Ordering::Relaxed),
            publish_helped: self.publish_helped.load(Ordering::Relaxed),
        }
    }

    /// Replaces the state by what `f` makes of it, `None` for no change; `f` runs
    /// again if another writer was first. With `deleted`, the new state is a
    /// tombstone.
    pub(super) fn commit(
        &self,
        slot: &Arc<Slot<B>>,
        deleted: bool,
        mut f: impl FnMut(&Node<B>) -> Option<B>,
    ) -> Result<Committed<B>, CommitError> {
        loop {
            let current = slot.load();
            if current.is_closed() {
                return Err(CommitError::Closed);
            }
            let body = if current.is_deleted() {
                None
            } else {
                f(&current)
            };
            let Some(body) = body else {
                // The answer tells this state, so it has to be published.
                self.publish(slot, &current, false);
                return match current.is_deleted() {
                    true => Err(CommitError::Deleted),
                    false => Ok(Committed {
                        node: current,
                        changed: false,
                    }),
                };
            };
            let place = Arc::as_ptr(&current);
            let node = Arc::new(Node::after(current, body, deleted));
            if slot.newest().compare_exchange(place, Arc::clone(&node)) {
                drop(PublishGuard {
                    core: self,
                    slot,
                    node: &node,
                });
                return Ok(Committed {
                    node,
                    changed: true,
                });
            }
            self.cas_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The newest state of `slot`, published.
    pub(super) fn load(&self, slot: &Arc<Slot<B>>) -> Arc<Node<B>> {
        let node = slot.load();
        self.publish(slot, &node, false);
        node
    }

    /// Looks at the newest state of `slot`, published.
    pub(super) fn peek<R>(&self, slot: &Arc<Slot<B>>, look: impl FnOnce(&Node<B>) -> R) -> R {
        slot.newest().peek(|node| {
            self.publish(slot, node, false);
            look(node)
        })
    }

    /// Makes sure `node` and everything before it in `slot` is published. `own`:
    /// the caller wrote it.
    pub(super) fn publish(&self, slot: &Arc<Slot<B>>, node: &Arc<Node<B>>, own: bool) {
        if node.is_published() {
            return;
        }
        let mut log = self.log.lock();
        let appended = self.publish_locked(&mut log, slot, node);
        self.unlock(log, appended, own);
    }

    /// What follows the last append: marks the gates, unlocks, wakes.
    pub(super) fn unlock(&self, mut log: MutexGuard<'_, Log<B>>, appended: u64, own: bool) {
        if appended == 0 {
            return;
        }
        let idle = Idle::mark(&log.lines);
        if log.is_overdue() {
            self.overdue.store(true, Ordering::Relaxed);
        }
        let retired = log.take_retired();
        drop(log);
        drop(retired);
        let helped = appended.saturating_sub(u64::from(own));
        if helped > 0 {
            self.publish_helped.fetch_add(helped, Ordering::Relaxed);
        }
        idle.wake();
    }

    /// Whether there are too many tombstones; says so once.
    pub(super) fn take_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) && self.overdue.swap(false, Ordering::Relaxed)
    }

    /// Under the log lock: appends, stores the head, then sets the revisions.
    /// Returns the number of nodes. The caller marks the gates.
    pub(super) fn publish_locked(
        &self,
        log: &mut Log<B>,
        slot: &Arc<Slot<B>>,
        node: &Arc<Node<B>>,
    ) -> u64 {
        if node.is_published() {
            return 0;
        }
        match node.cut_previous() {
            Some(previous) if !previous.is_published() => {
                self.publish_chain(log, slot, node, previous)
            }
            previous => {
                let at = previous.as_ref().map_or(0, |p| p.revision().get());
                let at = log.append(slot, Arc::clone(node), previous, at);
                self.store_head(at);
                node.set_revision(at);
                1
            }
        }
    }

    /// The same for a node with other unpublished ones before it.
    fn publish_chain(
        &self,
        log: &mut Log<B>,
        slot: &Arc<Slot<B>>,
        newest: &Arc<Node<B>>,
        previous: Arc<Node<B>>,
    ) -> u64 {
        // Newest first.
        let mut chain = vec![Arc::clone(newest)];
        let mut oldest = previous;
        let mut previous = oldest.cut_previous();
        while let Some(before) = previous.take_if(|p| !p.is_published()) {
            previous = before.cut_previous();
            chain.push(std::mem::replace(&mut oldest, before));
        }
        chain.push(oldest);
        let mut at = previous.as_ref().map_or(0, |p| p.revision().get());
        for node in chain.iter().rev() {
            let before = previous.replace(Arc::clone(node));
            at = log.append(slot, Arc::clone(node), before, at);
        }
        self.store_head(at);
        // Dense: the revisions given end at the head.
        for (node, revision) in chain.iter().zip((1..=at).rev()) {
            node.set_revision(revision);
        }
        chain.len() as u64
    }

    fn store_head(&self, revision: i64) {
        // ORDERING: SeqCst, before the revisions (see `Node::revision`) and before
        // the gates (see `wake`).
        self.head.store(revision, Ordering::SeqCst);
    }

    /// Adds a dispatcher's gate. In the log lock: a publisher that does not see
    /// the gate has stored its head before.
    pub(super) fn add_gate(&self, wake: impl Fn() + Send + Sync + 'static) -> Gate {
        let (gate, line) = Gate::new(wake);
        let mut log = self.log.lock();
        log.lines.retain(|line| !Line::is_abandoned(line));
        log.lines.push(line);
        gate
    }
}

// === impl PublishGuard ===

impl<B: Body> Drop for PublishGuard<'_, B> {
    fn drop(&mut self) {
        self.core.publish(self.slot, self.node, true);
    }
}

// === impl Committed ===

impl<B> fmt::Debug for Committed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed")
            .field("node", &self.node)
            .field("changed", &self.changed)
            .finish()
    }
}
