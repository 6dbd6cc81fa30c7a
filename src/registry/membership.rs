//! Who is in: creating, re-creating and purging.
//!
//! Both run under one lock of their own. They are rare, and the lock makes the
//! races of three (create, re-create, purge of one name) impossible instead of
//! subtle: a tombstone is replaced by nobody else, because commits refuse it.
//! Commits never take this lock.
//!
//! Purging: the oldest tombstone leaves the base, its slot is closed, the name
//! leaves the table. The close comes before the removal, so a writer that holds
//! the slot learns that it is no longer the one of its name.
//!
//! Lock order: membership, then log or table; never log with table.

use std::fmt;

use super::{
    commit::Core,
    node::{Body, Node, Slot},
    table::Table,
};
use crate::{
    domain::id::Uid,
    sync::{Arc, Mutex},
};

/// Why a process was not created.
#[derive(thiserror::Error)]
pub enum CreateError<B> {
    /// The name is taken by a live process; this is its state.
    #[error("the name is taken")]
    Exists(Arc<Node<B>>),
    /// 2^32 names are registered.
    #[error("the registry is full")]
    Full,
}

/// The table and the lock to change it.
pub(super) struct Membership<B> {
    pub(super) table: Table<B>,
    lock: Mutex<()>,
}

// === impl Membership ===

impl<B: Body> Membership<B> {
    pub(super) fn new() -> Self {
        Self {
            table: Table::new(),
            lock: Mutex::new(()),
        }
    }

    /// Registers version 1 of `uid` under the name of `body`.
    pub(super) fn create(
        &self,
        core: &Core<B>,
        uid: Uid,
        body: B,
    ) -> Result<Arc<Node<B>>, CreateError<B>> {
        let _lock = self.lock.lock();
        if let Some(slot) = self.table.slot(body.name().as_str()) {
            let current = core.load(&slot);
            if !current.is_deleted() {
                return Err(CreateError::Exists(current));
            }
            let index = current.slot();
            let node = Arc::new(Node::first(index, uid, body, Some(current)));
            slot.newest().store(Arc::clone(&node));
            core.publish(&slot, &node, true);
            return Ok(node);
        }
        let index = core.log.lock().base.allocate();
        let index = index.ok_or(CreateError::Full)?;
        let node = Arc::new(Node::first(index, uid, body, None));
        let slot = Arc::new(Slot::new(Arc::clone(&node)));
        self.table.insert(Arc::clone(&slot));
        core.publish(&slot, &node, true);
        Ok(node)
    }

    /// Purges the oldest tombstones until no more are kept than allowed.
    pub(super) fn purge(&self, core: &Core<B>) {
        let _lock = self.lock.lock();
        loop {
            let Some(tombstone) = core.log.lock().overdue() else {
                return;
            };
            let name = tombstone.body().name().as_str();
            let Some(slot) = self.table.slot(name) else {
                continue;
            };
            let closed = Arc::new(Node::closed(&tombstone));
            // It fails if the name was re-created; then the slot lives on, and its
            // old tombstone leaves the base with the re-creation's entry.
            if slot
                .newest()
                .compare_exchange(Arc::as_ptr(&tombstone), closed)
            {
                self.table.remove(name);
                let mut log = core.log.lock();
                log.base.release(tombstone.slot());
                let swept = log.roster.note_closed();
                drop(log);
                drop(swept);
            }
        }
    }
}

// === impl CreateError ===

impl<B> fmt::Debug for CreateError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(node) => f.debug_tuple("Exists").field(node).finish(),
            Self::Full => f.write_str("Full"),
        }
    }
}
