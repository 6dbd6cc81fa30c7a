//! A registry as an earlier one left it, from what was kept of it.
//!
//! What is restored stands in the base, as if it had left the ring: a reader of
//! latest state resumes from before it, a reader of every change from its head.
//! What was kept of a process can be newer than the head that was kept of the
//! whole; such states get revisions after that head, in their order, since the
//! changes between are not known.
//!
//! Invariant: nothing is published by restoring; nobody holds the registry yet.

use std::collections::HashMap;

use super::{
    Registry, Shared,
    commit::Core,
    log::Limits,
    membership::Membership,
    node::{Body, Node, Slot},
};
use crate::{
    domain::id::{ProcessName, Revision, Uid},
    sync::{Arc, Ordering},
};

/// A process as it was.
#[derive(Debug, Clone)]
pub struct Restored<B> {
    /// Its incarnation.
    pub uid: Uid,
    /// The state; of a tombstone, the last one.
    pub body: B,
    /// Version of that state.
    pub version: i64,
    /// Revision of that state.
    pub revision: Revision,
    /// Revision of version 1 of `uid`.
    pub created: Revision,
    /// Whether this is a tombstone.
    pub deleted: bool,
}

/// What else is known of the registry that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The revision up to which everything was kept.
    pub head: Revision,
    /// Oldest revision after which no deletion has been forgotten.
    pub oldest: Revision,
}

impl<B: Body> Registry<B> {
    /// A registry that continues after `position` with `processes`. Of several
    /// states of one name only the newest counts.
    #[must_use]
    pub fn restore(limits: Limits, position: Position, processes: Vec<Restored<B>>) -> Self {
        let processes = newest_by_name(processes);
        let core = Core::new(limits, position.head);
        let membership = Membership::new();
        let mut log = core.log.lock();
        log.base.restore_floor(position.oldest.get());
        for process in processes {
            let Some(index) = log.base.allocate() else {
                break; // 2^32 names, more than any registry had
            };
            let revision = if process.revision > position.head {
                log.base.raise()
            } else {
                process.revision.get()
            };
            let created = process.created.get().min(revision);
            let Restored {
                uid,
                version,
                body,
                deleted,
                ..
            } = process;
            let node = Arc::new(Node::restored(index, uid, version, body, deleted));
            node.set_revision(revision);
            let slot = Arc::new(Slot::new(Arc::clone(&node)));
            log.base.restore(node, revision, created);
            log.roster.add(Arc::clone(&slot));
            membership.table.insert(slot);
        }
        // ORDERING: nobody else sees it yet.
        core.head.store(log.head(), Ordering::SeqCst);
        drop(log);
        Self {
            shared: Arc::new(Shared { core, membership }),
        }
    }
}

/// In order of revision.
fn newest_by_name<B: Body>(mut processes: Vec<Restored<B>>) -> Vec<Restored<B>> {
    processes.sort_by_key(|process| process.revision);
    let mut last: HashMap<ProcessName, usize> = HashMap::new();
    for (at, process) in processes.iter().enumerate() {
        last.insert(process.body.name().clone(), at);
    }
    let mut at = 0;
    processes.retain(|process| {
        let newest = last.get(process.body.name()) == Some(&at);
        at += 1;
        newest
    });
    processes
}
