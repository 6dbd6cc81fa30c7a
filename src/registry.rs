//! L1: the state of all processes, shared without locks between readers, and the
//! log of its changes.
//!
//! ```text
//! name -> table -> Slot -> newest Node        read: one load
//!                   |  ^
//!           commit: compare-and-swap, then publish -> log: ring | base
//!                                                      ^  head, gates
//!                        subscribers read at a cursor -+
//! ```
//!
//! | part | is about |
//! |---|---|
//! | `node` | one immutable state; the slot that holds the newest |
//! | `table` | name to slot; the only user of the map |
//! | `commit` | compare-and-swap, publish with helping |
//! | `membership` | create, re-create, purge |
//! | `log`, `base` | the ring of changes; the state below it |
//! | `restore` | going on where an earlier registry stood |
//! | `read`, `change` | reading at a cursor; what a reader gets |
//! | `snapshot`, `roster` | all processes at one revision |
//! | `wake` | gates: waking dispatchers |
//! | `cached` | repeated reads of one process |
//!
//! Invariants: see each part. Together: what any method returns is published;
//! revisions are dense and each is one change of one process; versions are dense
//! per uid and in order of revision.
//!
//! Deliberately absent: what a state means (it is generic over [`Body`]), time,
//! async, subscribers. Methods are synchronous and wait for nothing but the log
//! lock, which covers an append. `docs/atomic-state.md` teaches the pattern.

mod base;
mod cached;
mod change;
mod commit;
mod log;
mod membership;
mod node;
mod read;
mod restore;
mod roster;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod wake;

use std::fmt;

pub use self::{
    cached::Cached,
    change::{Before, Budget, Change, Mode, Read},
    commit::{CommitError, Committed, Stats},
    log::Limits,
    membership::CreateError,
    node::{Body, Node, Slot},
    restore::{Position, Restored},
    snapshot::Snapshot,
    wake::Gate,
};
use self::{commit::Core, membership::Membership};
use crate::{
    domain::id::{Revision, Uid},
    sync::Arc,
};

/// The registry; clones share it.
pub struct Registry<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    core: Core<B>,
    membership: Membership<B>,
}

// === impl Registry ===

impl<B: Body> Registry<B> {
    /// An empty registry whose log continues after `first`, normally
    /// [`Revision::ZERO`].
    #[must_use]
    pub fn new(limits: Limits, first: Revision) -> Self {
        Self {
            shared: Arc::new(Shared {
                core: Core::new(limits, first),
                membership: Membership::new(),
            }),
        }
    }

    /// Newest published revision.
    #[must_use]
    pub fn head(&self) -> Revision {
        Revision::new(self.shared.core.head())
    }

    /// The live process called `name`, published.
    ///
    /// The revision to put in the header of an answer made from it is
    /// `max(head() read before this call, node.revision())`: reading the head
    /// first makes it a lower bound of what the answer contains, and the node's
    /// own revision keeps a client from seeing a state newer than its header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Node<B>>> {
        let mut node = self.shared.membership.table.load(name)?;
        if !node.is_published() {
            node = self.load(&self.slot(name)?);
        }
        (!node.is_deleted()).then_some(node)
    }

    /// The slot of `name`, to spare further lookups; of a deleted process too, as
    /// long as its tombstone is kept.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<Arc<Slot<B>>> {
        self.shared.membership.table.slot(name)
    }

    /// The newest state of `slot`, published; a tombstone once the process is
    /// deleted.
    #[must_use]
    pub fn load(&self, slot: &Arc<Slot<B>>) -> Arc<Node<B>> {
        self.shared.core.load(slot)
    }

    /// Looks at the newest state of `slot`, published, without counting a
    /// reference: the cheapest read without a handle of one's own. `look` is
    /// short; while it runs, the state it sees is kept by a slot of its thread, of
    /// which there are few.
    pub fn peek<R>(&self, slot: &Arc<Slot<B>>, look: impl FnOnce(&Node<B>) -> R) -> R {
        self.shared.core.peek(slot, look)
    }

    /// A handle for one thread that reads `slot` often.
    #[must_use]
    pub fn cached(&self, slot: Arc<Slot<B>>) -> Cached<B> {
        Cached::new(self.clone(), slot)
    }

    /// Registers `body` as version 1 of `uid`, also where a deleted process of
    /// the same name left its tombstone. Published on return.
    ///
    /// # Errors
    /// [`CreateError::Exists`] if a live process has the name.
    pub fn create(&self, uid: Uid, body: B) -> Result<Arc<Node<B>>, CreateError<B>> {
        let core = &self.shared.core;
        let node = self.shared.membership.create(core, uid, body)?;
        self.purge_overdue();
        Ok(node)
    }

    /// Replaces the state by what `f` makes of it; `None` leaves it. `f` is a
    /// pure function: it runs again if another writer was first. It may be handed
    /// another uid than expected, if the name was re-created. Published on return.
    ///
    /// # Errors
    /// [`CommitError`] if the process is deleted or its slot closed; `f` is not
    /// called then.
    pub fn commit(
        &self,
        slot: &Arc<Slot<B>>,
        f: impl FnMut(&Node<B>) -> Option<B>,
    ) -> Result<Committed<B>, CommitError> {
        let committed = self.shared.core.commit(slot, false, f);
        self.purge_overdue();
        committed
    }

    /// Replaces the state by a tombstone that carries what `f` makes of it, the
    /// last state to be told; `None` keeps the process. Otherwise as
    /// [`Self::commit`].
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn delete(
        &self,
        slot: &Arc<Slot<B>>,
        f: impl FnMut(&Node<B>) -> Option<B>,
    ) -> Result<Committed<B>, CommitError> {
        let committed = self.shared.core.commit(slot, true, f);
        self.purge_overdue();
        committed
    }

    /// All live processes at one revision.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<B> {
        self.shared.core.snapshot()
    }

    /// Changes after `after`, as many as `budget` has room for, and not so many
    /// that writers wait; an empty batch that ends at `after` if there are none.
    /// Read until it ends at the head.
    ///
    /// `after` above the head is a mistake of the caller and reads as "none yet".
    #[must_use]
    pub fn read(&self, mode: Mode, after: Revision, budget: Budget) -> Read<B> {
        self.shared.core.log.lock().read(mode, after.get(), budget)
    }

    /// The latest changes of the live process called `name`, newest first, as far
    /// back as the ring goes; also those of earlier processes of that name.
    #[must_use]
    pub fn history(&self, name: &str, max: usize) -> Vec<Change<B>> {
        let Some(node) = self.get(name) else {
            return Vec::new();
        };
        self.shared
            .core
            .log
            .lock()
            .history(node.revision().get(), max)
    }

    /// Oldest revision a reader can resume from. It only rises.
    #[must_use]
    pub fn oldest_resumable(&self, mode: Mode) -> Revision {
        Revision::new(self.shared.core.log.lock().oldest_resumable(mode))
    }

    /// Adds a dispatcher. `wake` is called after a publication whenever the gate
    /// was clear: on the publisher's thread, outside any lock, so it must be
    /// quick and not panic. It may come once more just after the gate is dropped.
    #[must_use]
    pub fn add_gate(&self, wake: impl Fn() + Send + Sync + 'static) -> Gate {
        self.shared.core.add_gate(wake)
    }

    /// Counters since start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.core.stats()
    }

    fn purge_overdue(&self) {
        if self.shared.core.take_overdue() {
            self.shared.membership.purge(&self.shared.core);
        }
    }
}

impl<B> Clone for Registry<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<B> fmt::Debug for Registry<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
