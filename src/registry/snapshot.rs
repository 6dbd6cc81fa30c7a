//! All live processes at one revision: an exact cut, without stopping writers.
//!
//! Read the head r0 and the roster; load every slot (publishing what is not);
//! lock the log, read the head r1 and the changes of (r0, r1]; apply them over
//! what was loaded. Every loaded node was published by then, so it is at or below
//! r1, and where a slot moved on before r1 the replay has it: the result is the
//! state at r1. If the ring lost r0 meanwhile, start over; after
//! `ATTEMPTS` collect under the lock.
//!
//! Deliberately absent: filtering and paging; a snapshot is pointers, and whoever
//! sends it walks them at leisure.

use std::fmt;

use super::{
    commit::Core,
    node::{Body, Node},
    roster::Members,
};
use crate::{domain::id::Revision, sync::Arc};

/// Tries without the lock.
const ATTEMPTS: usize = 3;

/// All live processes at one instant.
pub struct Snapshot<B> {
    /// The instant.
    pub revision: Revision,
    /// Their states, by name. Tombstones are left out.
    pub nodes: Vec<Arc<Node<B>>>,
}

impl<B: Body> Core<B> {
    pub(super) fn snapshot(&self) -> Snapshot<B> {
        for _ in 0..ATTEMPTS {
            let (since, members) = self.members();
            let nodes = self.collect(&members);
            if let Some((at, later)) = self.later(since) {
                return Snapshot::cut(at, nodes, later);
            }
        }
        self.snapshot_locked()
    }

    /// The roster, sorted, and the head it belongs to.
    fn members(&self) -> (i64, Members<B>) {
        let (head, pending) = {
            let log = self.log.lock();
            (log.head(), log.roster.pending())
        };
        let merged = pending.merge();
        if pending.is_unmerged() {
            self.log.lock().roster.keep(&pending, &merged);
        }
        (head, merged)
    }

    fn collect(&self, members: &Members<B>) -> Vec<Arc<Node<B>>> {
        let mut nodes = Vec::with_capacity(members.len());
        for slot in members.iter() {
            let node = self.load(slot);
            if !node.is_closed() {
                nodes.push(node);
            }
        }
        nodes
    }

    /// The head, and what was published up to it since; `None` if some is lost.
    fn later(&self, since: i64) -> Option<(i64, Vec<Arc<Node<B>>>)> {
        let log = self.log.lock();
        let entries = log.since(since)?;
        let later = entries.map(|entry| Arc::clone(&entry.node)).collect();
        Some((log.head(), later))
    }

    /// Stops publishing for as long as it takes; needed only if the ring turns
    /// over faster than the registry can be walked.
    fn snapshot_locked(&self) -> Snapshot<B> {
        let mut log = self.log.lock();
        let pending = log.roster.pending();
        let members = pending.merge();
        log.roster.keep(&pending, &members);
        let mut published = 0;
        let mut nodes = Vec::with_capacity(members.len());
        for slot in members.iter() {
            let node = slot.load();
            published += self.publish_locked(&mut log, slot, &node);
            if !node.is_closed() {
                nodes.push(node);
            }
        }
        let at = log.head();
        self.unlock(log, published, false);
        Snapshot::cut(at, nodes, Vec::new())
    }
}

// === impl Snapshot ===

impl<B: Body> Snapshot<B> {
    /// Applies what came `later`, in order, over `nodes`, which are by name.
    fn cut(at: i64, mut nodes: Vec<Arc<Node<B>>>, later: Vec<Arc<Node<B>>>) -> Self {
        let mut added = Vec::new();
        for node in later {
            match nodes.binary_search_by(|n| n.body().name().cmp(node.body().name())) {
                Ok(index) => nodes[index] = node,
                Err(_) => added.push(node),
            }
        }
        if !added.is_empty() {
            // Newest first, so that of one name the newest is kept.
            added.reverse();
            nodes.append(&mut added);
            nodes.sort_by(|a, b| a.body().name().cmp(b.body().name()));
            nodes.dedup_by(|b, a| a.body().name() == b.body().name());
        }
        nodes.retain(|node| !node.is_deleted());
        Self {
            revision: Revision::new(at),
            nodes,
        }
    }
}

impl<B> fmt::Debug for Snapshot<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("nodes", &self.nodes.len())
            .finish()
    }
}
