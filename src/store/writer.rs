//! The thread "store": takes what waits, writes it in one transaction, answers.
//!
//! ```text
//!            a write or fsync failed
//! Writable ---------------------------> broken: no connection, probed with pauses
//!    ^                                     | a fresh connection passed the probe
//!    | what waits is written,              v
//!    | the reserve is back              recovering: states are written,
//!    +------------------------------------ calls still refused
//! ```
//! Invariants: no call is answered Ok before its commit returned; a connection that
//! failed is dropped before anything else is done; nothing wakes the thread while
//! nothing waits and the store is writable.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::{
    Codec, Health, NotDurable, Options, Reason, ReasonKind,
    database::{DATABASE, Database, move_log, reason},
    fault::{Cut, Faults},
    pen::Pen,
    queue::{Asked, Call, Close, Counters, Group, Shared, Terms, Work},
    recovery::before,
    reserve::Reserve,
    rows::{EpochRow, Meta},
};
use crate::domain::{id::Revision, time::Timestamp};

/// Pages in the log from which on it is moved into the database.
const LOG_PAGES_MAX: i64 = 1000;
/// Transactions with request ids between two sweeps of old ones.
const SWEEP_EVERY: u32 = 256;

/// What the thread works with.
pub(super) struct Setup {
    pub(super) shared: Arc<Shared>,
    pub(super) codec: Arc<dyn Codec>,
    pub(super) options: Options,
    pub(super) faults: Faults,
    pub(super) dir: PathBuf,
    /// `None`: nothing may ever be written.
    pub(super) database: Option<Database>,
    pub(super) health: watch::Sender<Health>,
    pub(super) durable: watch::Sender<Revision>,
}

/// The thread's state.
pub(super) struct Writer {
    setup: Setup,
    reserve: Reserve,
    /// Under way while the store is broken or recovering.
    healing: Option<Healing>,
    /// The last transaction was synced.
    full: Option<bool>,
    until_sweep: u32,
    /// Device and inode of the database that is written.
    file: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Healing {
    kind: ReasonKind,
    due: Instant,
    pause: Duration,
}

/// Tells those who wait that the thread has ended, however it did.
struct Ending {
    shared: Arc<Shared>,
    health: watch::Sender<Health>,
    now: fn() -> Timestamp,
}

/// Answers to the calls of a group, in their order, once it is committed.
type Verdicts = Vec<Result<(), NotDurable>>;

// === impl Writer ===

impl Writer {
    pub(super) fn new(setup: Setup) -> Self {
        let reserve = Reserve::new(&setup.dir, setup.options.reserve_bytes);
        let file = identity(&setup.dir);
        Self {
            setup,
            reserve,
            healing: None,
            full: None,
            until_sweep: 0,
            file,
        }
    }

    /// Until the store is closed or nobody is left.
    pub(super) fn run(mut self) {
        let _ending = Ending {
            shared: Arc::clone(&self.setup.shared),
            health: self.setup.health.clone(),
            now: self.setup.options.now,
        };
        if self.setup.database.is_some()
            && let Err(error) = self.reserve.fill()
        {
            tracing::warn!(%error, "no space could be set aside for exit states");
        }
        loop {
            let work = self.setup.shared.next(Terms {
                takes: self.setup.database.is_some(),
                until: self.healing.map(|healing| healing.due),
                write_behind: self.setup.options.write_behind,
            });
            match work {
                Work::Group(group) => self.write(group),
                Work::Due => self.heal(),
                Work::Close(close) => return self.close(close),
                Work::Abandoned => return,
            }
        }
    }

    /// Writes `group`, or puts it back and breaks.
    fn write(&mut self, group: Group) {
        let Some(mut database) = self.setup.database.take() else {
            return self.fail(group, &Reason::new(ReasonKind::Io, "no connection"));
        };
        match self.transact(&mut database, &group) {
            // To a file that was removed or moved away every write succeeds.
            Ok(_) if identity(&self.setup.dir) != self.file => {
                drop(database);
                self.fail(group, &Reason::new(ReasonKind::Io, "the database is gone"));
            }
            Ok(verdicts) => {
                self.setup.database = Some(database);
                self.answer(group, verdicts);
                self.move_log_if_long();
            }
            Err(error) => {
                drop(database);
                self.fail(group, &reason(&error));
            }
        }
    }

    fn transact(&mut self, database: &mut Database, group: &Group) -> rusqlite::Result<Verdicts> {
        let full = !group.calls.is_empty();
        let faults = &self.setup.faults;
        faults.at(Cut::Begin)?;
        set_synchronous(&database.connection, full, &mut self.full)?;
        let behavior = TransactionBehavior::Immediate;
        let transaction = database.connection.transaction_with_behavior(behavior)?;
        let mut pen = Pen {
            connection: &transaction,
            index: &mut database.index,
            codec: &*self.setup.codec,
        };
        let mut meta = database.meta;
        let options = &self.setup.options;
        let verdicts = put_down(&mut pen, group, meta, options)?;
        if group.calls.iter().any(carries_request) {
            if self.until_sweep == 0 {
                let since = before((options.now)(), options.request_retention);
                pen.forget_requests(since, options.requests_max)?;
                self.until_sweep = SWEEP_EVERY;
            }
            self.until_sweep -= 1;
        }
        let forgotten = pen.forget_tombstones(options.tombstones_max)?;
        meta.forgotten = meta.forgotten.max(forgotten.unwrap_or(0));
        meta.durable = meta.durable.max(group.durable.get());
        if meta != database.meta {
            meta.write(&transaction)?;
        }
        faults.at(Cut::Commit)?;
        transaction.commit()?;
        faults.at(Cut::Committed)?;
        database.meta = meta;
        let stats = &self.setup.shared.stats;
        Counters::add(&stats.transactions, 1);
        Counters::add(&stats.synced, usize::from(full));
        Ok(verdicts)
    }

    fn answer(&self, group: Group, verdicts: Verdicts) {
        let stats = &self.setup.shared.stats;
        let intents = group.calls.iter().map(|call| match &call.asked {
            Asked::Intents(intents) => intents.len(),
            Asked::Epoch { .. } => 0,
        });
        Counters::add(&stats.intents, intents.sum());
        Counters::add(&stats.states, group.states.len());
        for (call, verdict) in group.calls.into_iter().zip(verdicts) {
            // Nobody may wait for it.
            let _ = call.answer.send(verdict);
        }
        self.setup.durable.send_if_modified(|durable| {
            let rises = group.durable > *durable;
            *durable = (*durable).max(group.durable);
            rises
        });
    }

    /// The connection is gone; calls are refused until a new one is proven.
    fn fail(&mut self, group: Group, reason: &Reason) {
        Counters::add(&self.setup.shared.stats.failures, 1);
        self.full = None;
        let first = self.healing.is_none();
        let (shortest, longest) = self.setup.options.heal_pause;
        let pause = match self.healing {
            None => shortest,
            Some(healing) => (healing.pause * 2).min(longest),
        };
        // A full disk has room again once the reserve is freed: try at once.
        let freed = first && reason.kind == ReasonKind::Full;
        if freed {
            self.reserve.free();
        }
        let wait = if freed { Duration::ZERO } else { pause };
        self.healing = Some(Healing {
            kind: reason.kind,
            due: Instant::now() + wait,
            pause,
        });
        if first {
            tracing::error!(%reason, "the store is read-only");
            let since = (self.setup.options.now)();
            self.setup.health.send_replace(Health::ReadOnly {
                reason: reason.clone(),
                since,
            });
        }
        self.setup.shared.fail(group, reason);
    }

    /// Tries to become writable again.
    fn heal(&mut self) {
        let Some(healing) = self.healing else {
            return;
        };
        if self.setup.database.is_none() {
            let reopened = self.setup.faults.at(Cut::Probe).and_then(|()| {
                Database::reopen(&self.setup.dir, healing.kind == ReasonKind::Corrupt)
            });
            match reopened {
                Ok(database) => {
                    self.file = identity(&self.setup.dir);
                    self.setup.database = Some(database);
                }
                Err(error) => {
                    tracing::debug!(%error, "the store is still broken");
                    return self.pause();
                }
            }
        }
        while self.setup.database.is_some()
            && let Some(group) = self.setup.shared.take()
        {
            self.write(group);
        }
        if self.setup.database.is_none() {
            return;
        }
        if let Err(error) = self.reserve.fill() {
            tracing::debug!(%error, "the store has no reserve yet");
            return self.pause();
        }
        self.healing = None;
        self.setup.shared.heal();
        self.setup.health.send_replace(Health::Writable);
        tracing::info!("the store is writable again");
    }

    /// Waits longer than last time.
    fn pause(&mut self) {
        let (_, longest) = self.setup.options.heal_pause;
        if let Some(healing) = &mut self.healing {
            healing.due = Instant::now() + healing.pause;
            healing.pause = (healing.pause * 2).min(longest);
        }
    }

    /// Moves a long log into the database, after everyone was answered.
    fn move_log_if_long(&mut self) {
        let Some(database) = self.setup.database.take() else {
            return;
        };
        let moved = log_pages(&database.connection).and_then(|pages| {
            if pages < LOG_PAGES_MAX {
                return Ok(());
            }
            self.setup.faults.at(Cut::Checkpoint)?;
            let passive = "PRAGMA wal_checkpoint(PASSIVE)";
            database.connection.query_row(passive, [], |_| Ok(()))
        });
        match moved {
            Ok(()) => self.setup.database = Some(database),
            Err(error) => {
                drop(database);
                self.fail(Group::default(), &reason(&error));
            }
        }
    }

    /// Writes what is left, moves the log and tells how that went.
    fn close(mut self, close: Close) {
        if self.healing.is_some() {
            self.heal();
        }
        while self.setup.database.is_some()
            && let Some(group) = self.setup.shared.take()
        {
            self.write(group);
        }
        let closed = match self.setup.database.take() {
            None => {
                let broken = Reason::new(ReasonKind::Io, "it was not writable at the end");
                Err(match &*self.setup.health.borrow() {
                    Health::ReadOnly { reason, .. } => reason.clone(),
                    Health::Writable => broken,
                })
            }
            Some(mut database) => self
                .note_end(&mut database, close.stopped_all)
                .and_then(|()| self.setup.faults.at(Cut::Checkpoint))
                .and_then(|()| move_log(&database.connection))
                .map_err(|error| reason(&error)),
        };
        // The connection is closed: whoever hears of it may open the store again.
        drop(self);
        // The closer may be gone.
        let _ = close.done.send(closed.map_err(NotDurable::ReadOnly));
    }

    fn note_end(&mut self, database: &mut Database, stopped_all: bool) -> rusqlite::Result<()> {
        if !stopped_all {
            return Ok(());
        }
        set_synchronous(&database.connection, true, &mut self.full)?;
        let pen = Pen {
            connection: &database.connection,
            index: &mut database.index,
            codec: &*self.setup.codec,
        };
        pen.stopped()
    }
}

// === impl Ending ===

impl Drop for Ending {
    fn drop(&mut self) {
        if thread::panicking() {
            self.health.send_replace(Health::ReadOnly {
                reason: Reason::new(ReasonKind::Io, "its thread ended by a bug"),
                since: (self.now)(),
            });
        }
        self.shared.end();
    }
}

/// The wall clock.
pub(super) fn wall_now() -> Timestamp {
    SystemTime::now().into()
}

/// Writes everything in `group` into the transaction at hand.
fn put_down(
    pen: &mut Pen<'_>,
    group: &Group,
    meta: Meta,
    options: &Options,
) -> rusqlite::Result<Verdicts> {
    let mut verdicts = Vec::with_capacity(group.calls.len());
    for call in &group.calls {
        verdicts.push(match &call.asked {
            Asked::Epoch { epoch, boot } => {
                pen.epoch(&EpochRow {
                    epoch: epoch.to_string(),
                    base: meta.durable,
                    started: (options.now)().0,
                    boot: boot.to_string(),
                    stopped: false,
                })?;
                Ok(())
            }
            Asked::Intents(intents) => all_or_none(pen, intents)?,
        });
    }
    for seated in &group.states {
        pen.state(&seated.observation)?;
    }
    Ok(verdicts)
}

/// Writes the intents of one call; none of them if one is about a process that
/// does not exist.
fn all_or_none(
    pen: &mut Pen<'_>,
    intents: &[super::Intent],
) -> rusqlite::Result<Result<(), NotDurable>> {
    if let Some(stranger) = pen.stranger(intents) {
        return Ok(Err(NotDurable::NoSuchProcess(stranger)));
    }
    for intent in intents {
        pen.intent(intent)?;
    }
    Ok(Ok(()))
}

fn carries_request(call: &Call) -> bool {
    match &call.asked {
        Asked::Epoch { .. } => false,
        Asked::Intents(intents) => intents.iter().any(|intent| intent.request.is_some()),
    }
}

/// Changes how commits are synced, if that differs from `now`.
fn set_synchronous(
    connection: &Connection,
    full: bool,
    now: &mut Option<bool>,
) -> rusqlite::Result<()> {
    if *now != Some(full) {
        let value = if full { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", value)?;
        *now = Some(full);
    }
    Ok(())
}

/// Which file is the database in `dir`.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(dir.join(DATABASE)).ok()?;
    Some((found.dev(), found.ino()))
}

/// Pages in the log; nothing is moved.
fn log_pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| row.get(1))
}
