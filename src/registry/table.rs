//! Names to slots: the only file that knows the map.
//!
//! Invariant: no guard of the map leaves a function, so nobody can hold one over
//! a publish, an await or a second access. A held guard blocks every writer of
//! its shard, and getting then inserting on one thread deadlocks.
//!
//! Deliberately absent: iteration. Who wants all processes wants one instant,
//! which an iteration of the map is not (`snapshot`).

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::node::{Node, Slot};
use crate::{domain::id::ProcessName, sync::Arc};

pub(super) struct Table<B> {
    /// Names are chosen by those who may run programs here, so the hasher need not
    /// withstand them: seeded at random and quick.
    slots: DashMap<ProcessName, Arc<Slot<B>>, RandomState>,
}

// === impl Table ===

impl<B> Table<B> {
    pub(super) fn new() -> Self {
        Self {
            slots: DashMap::with_hasher(RandomState::default()),
        }
    }

    /// The newest node of `name`, published or not.
    pub(super) fn load(&self, name: &str) -> Option<Arc<Node<B>>> {
        self.slots.get(name).map(|slot| slot.load())
    }

    pub(super) fn slot(&self, name: &str) -> Option<Arc<Slot<B>>> {
        self.slots.get(name).map(|slot| Arc::clone(&slot))
    }

    /// Only under the membership lock, which keeps the place free since it was
    /// found free.
    pub(super) fn insert(&self, name: ProcessName, slot: Arc<Slot<B>>) {
        self.slots.insert(name, slot);
    }

    pub(super) fn remove(&self, name: &ProcessName) {
        self.slots.remove(name);
    }
}
