//! Names to slots: the only file that knows the map.
//!
//! Invariant: no guard of the map leaves a function, so nobody can hold one over
//! a publish, an await or a second access. A held guard blocks every writer of
//! its shard, and getting then inserting on one thread deadlocks.
//!
//! Deliberately absent: iteration. Who wants all processes wants one instant,
//! which an iteration of the map is not (`snapshot`).

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::node::{Node, Slot};
use crate::sync::Arc;

pub(super) struct Table<B> {
    /// The key is all there is: eight bytes a row, so that a lookup finds the row
    /// in a near cache. Names are chosen by those who may run programs here, so the
    /// hasher need not withstand them: seeded at random, and quick.
    slots: DashMap<Named<B>, (), RandomState>,
}

/// A slot that is equal to its name.
struct Named<B>(Arc<Slot<B>>);

// === impl Table ===

impl<B> Table<B> {
    pub(super) fn new() -> Self {
        Self {
            slots: DashMap::with_hasher(RandomState::default()),
        }
    }

    /// The newest node of `name`, published or not.
    pub(super) fn load(&self, name: &str) -> Option<Arc<Node<B>>> {
        self.slots.get(name).map(|row| row.key().0.load())
    }

    pub(super) fn slot(&self, name: &str) -> Option<Arc<Slot<B>>> {
        self.slots.get(name).map(|row| Arc::clone(&row.key().0))
    }

    /// Only under the membership lock, which keeps the place free since it was
    /// found free.
    pub(super) fn insert(&self, slot: Arc<Slot<B>>) {
        self.slots.insert(Named(slot), ());
    }

    pub(super) fn remove(&self, name: &str) {
        self.slots.remove(name);
    }
}

// === impl Named ===

impl<B> Borrow<str> for Named<B> {
    fn borrow(&self) -> &str {
        self.0.name().as_str()
    }
}

impl<B> Hash for Named<B> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().as_str().hash(state);
    }
}

impl<B> PartialEq for Named<B> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<B> Eq for Named<B> {}
