//! L3: what outlives the daemon. SQLite behind a narrow interface.
//!
//! ```text
//! supervisor --intend--> queue --> thread "store" --> store.db (+ -wal)
//!            <--Receipt--              |
//! change log --observe-> newest per uid+--> durable_revision, health (watch)
//! ```
//! Two kinds of writes:
//! - An intent is durable when its [`Receipt`] says so: one fsync for all that
//!   wait (group commit, `synchronous=FULL`).
//! - An observed state is written behind: the newest per process, in one
//!   transaction with others, without an fsync of its own. It survives the death
//!   of the daemon at once, and a power cut from the next intent or checkpoint on.
//!
//! Invariants:
//! - An acknowledgement is never false. The opposite may happen: an intent that
//!   was answered [`NotDurable`] may turn out to be recorded, because the disk
//!   failed after taking it.
//! - A connection on which a write or an fsync failed is never used again.
//! - Every row carries a checksum over all of it; a row that fails it is reported,
//!   never used.
//! - Nothing is written to a store that was found damaged, and nothing starts
//!   empty in its place.
//! - The thread loads no published state: it gets what it writes.
//!
//! Deliberately absent: the format of configurations and states (a [`Codec`],
//! implemented above), who may write what, and the lock of the directory.
//!
//! Reading order: `api`, `recovered`, this file, `queue`, `writer`; then `database`,
//! `pen`, `rows`, `recovery`.

mod api;
mod checksum;
mod codec;
mod database;
mod fault;
mod index;
pub mod inspect;
mod log_tail;
mod pen;
mod queue;
mod recovered;
mod recovery;
mod reserve;
mod rows;
mod salvage;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch};

use crate::domain::id::Revision;

pub use api::{
    Health, Intent, NotDurable, Observation, Options, Reason, ReasonKind, Receipt, Request, Stats,
    Wish,
};
pub use codec::{Codec, CodecError};
pub use database::{DATABASE, OpenError};
pub use recovered::{Damage, Observed, Recovered, Stored};

use fault::Faults;
use queue::{Close, Shared};
use writer::Writer;

/// The durable store. Clones are handles of the same one; when the last is
/// dropped without [`Store::close`], what was not written yet is lost, as if the
/// daemon had been killed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    health: watch::Receiver<Health>,
    durable: watch::Receiver<Revision>,
    thread: Option<JoinHandle<()>>,
}

// === impl Store ===

impl Store {
    /// Opens the store in `dir`, or creates it, and reads all of it. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: nothing can be read, or it is not ours to read. A store that
    /// can be read in part is opened read-only instead, see
    /// [`Recovered::read_only`].
    pub fn open(
        dir: &Path,
        codec: Arc<dyn Codec>,
        options: Options,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(dir, codec, options, Faults::default())
    }

    fn open_with(
        dir: &Path,
        codec: Arc<dyn Codec>,
        options: Options,
        faults: Faults,
    ) -> Result<(Self, Recovered), OpenError> {
        let (database, recovered) = database::open(dir, &*codec, &options)?;
        let health = match &recovered.read_only {
            None => Health::Writable,
            Some(reason) => Health::ReadOnly {
                reason: reason.clone(),
                since: (options.now)(),
            },
        };
        let (health_in, health) = watch::channel(health);
        let (durable_in, durable) = watch::channel(recovered.durable_revision);
        let shared = Arc::new(Shared::new(
            recovered.durable_revision,
            recovered.read_only.as_ref(),
        ));
        let writer = Writer::new(writer::Setup {
            shared: Arc::clone(&shared),
            codec,
            options,
            faults,
            dir: dir.to_owned(),
            database,
            health: health_in,
            durable: durable_in,
        });
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        let inner = Inner {
            shared,
            health,
            durable,
            thread: Some(thread),
        };
        let inner = Arc::new(inner);
        Ok((Self { inner }, recovered))
    }

    /// Records what is wanted; never blocks. All of `intents` are recorded in one
    /// transaction, or none is.
    #[must_use = "durable only once the receipt says so"]
    pub fn intend(&self, intents: Vec<Intent>) -> Receipt {
        self.inner.shared.intend(intents)
    }

    /// Records the newest states, behind; never blocks. `batch` has every process
    /// that changed after the `upto` of the call before, at its newest state up to
    /// `upto` or a later one. What waits is one state per process.
    ///
    /// A state of a process without a recorded intent is ignored.
    pub fn observe(&self, batch: Vec<Observation>, upto: Revision) {
        self.inner.shared.observe(batch, upto);
    }

    /// The revision up to which every change is recorded. It only rises.
    #[must_use]
    pub fn durable_revision(&self) -> watch::Receiver<Revision> {
        self.inner.durable.clone()
    }

    /// Whether intents can be recorded.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.clone()
    }

    /// Records that a daemon run began, whose revisions continue after the durable
    /// one. `boot` is the machine's own run.
    #[must_use = "durable only once the receipt says so"]
    pub fn begin_epoch(&self, epoch: &str, boot: &str) -> Receipt {
        self.inner.shared.begin_epoch(epoch.into(), boot.into())
    }

    /// Counters since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats.read()
    }

    /// Writes everything that waits, moves the log into the database and ends the
    /// thread; other handles get [`NotDurable::Closed`] from then on. Blocks. With
    /// `stopped_all`, the next daemon is told that every process was stopped.
    ///
    /// # Errors
    /// Not everything could be written; the files are as after a kill.
    pub fn close(self, stopped_all: bool) -> Result<(), NotDurable> {
        let (done, closed) = oneshot::channel();
        self.inner.shared.close(Close { stopped_all, done });
        closed.blocking_recv().unwrap_or(Err(NotDurable::Closed))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.abandon();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
