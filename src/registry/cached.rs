//! A handle for one thread that reads one process often.
//!
//! It keeps the node it returned last and compares pointers per read, so reading
//! costs about as much as a bare pointer. The price: that node stays alive until
//! the next read.

use std::{fmt, ops::Deref};

use arc_swap::{ArcSwap, Cache};

use super::{
    Registry,
    node::{Body, Node, Slot},
};
use crate::sync::Arc;

/// Reads of one slot for one thread. Made by [`Registry::cached`].
pub struct Cached<B> {
    registry: Registry<B>,
    slot: Arc<Slot<B>>,
    cache: Cache<Place<B>, Arc<Node<B>>>,
    /// The node returned last, hence published.
    published: Arc<Node<B>>,
}

/// What the cache looks through.
struct Place<B>(Arc<Slot<B>>);

// === impl Cached ===

impl<B: Body> Cached<B> {
    pub(super) fn new(registry: Registry<B>, slot: Arc<Slot<B>>) -> Self {
        let published = registry.load(&slot);
        Self {
            registry,
            cache: Cache::new(Place(Arc::clone(&slot))),
            slot,
            published,
        }
    }

    /// The newest state, published; a tombstone once the process is deleted.
    #[inline]
    pub fn load(&mut self) -> &Arc<Node<B>> {
        if !Arc::ptr_eq(self.cache.load(), &self.published) {
            self.renew();
        }
        &self.published
    }

    #[cold]
    fn renew(&mut self) {
        let node = Arc::clone(self.cache.load());
        let core = &self.registry.shared.core;
        core.publish(&self.slot, &node, false);
        self.published = node;
    }
}

impl<B> fmt::Debug for Cached<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&self.published).finish()
    }
}

// === impl Place ===

impl<B> Deref for Place<B> {
    type Target = ArcSwap<Node<B>>;

    fn deref(&self) -> &Self::Target {
        self.0.newest().inner()
    }
}
