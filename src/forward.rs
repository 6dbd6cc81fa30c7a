//! L3, copies of captured output sent elsewhere: syslog, the journal, collectors.
//!
//! ```text
//! daemon --wanted--> Forwarder --orders--> one task per (process, target)
//!                                             log -> reader -> queue -> target
//! ```
//!
//! A forward reads the log like any other follower, so the run never waits for it: a
//! target that is slow, stuck or absent has its lines on disk, and nobody else knows.
//! What retention removed before it was sent is one record that says how many and
//! which. Its position is kept beside the log, so that another daemon goes on.
//!
//! Invariants: at least once, in order per process; never a gap that is not told; all
//! that is held in memory is bounded (`limits`). A target that is as old as its
//! process gets all of its output; one that was added later gets what comes then.
//!
//! Deliberately absent: what is wanted (the specs; `daemon/forwarding.rs` follows
//! them), and a place in the status of a process: the daemon's log says which targets
//! fail.

mod journald;
mod keep;
pub mod limits;
pub mod otlp;
mod position;
mod queue;
mod syslog;
mod target;
mod task;
mod telling;
mod text;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::Instant,
};

use self::{
    journald::Journald,
    keep::Keeper,
    limits::DRAIN_MAX,
    otlp::Otlp,
    queue::Origin,
    syslog::Syslog,
    target::Target,
    task::{Forward, Order, Setup},
    telling::Telling,
};
use crate::{
    domain::{
        id::{ProcessName, Uid},
        spec::{ForwardTarget, LogForward},
    },
    logs::Logs,
};

/// What is wanted of one process.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which.
    pub uid: Uid,
    /// Its name.
    pub process: &'a ProcessName,
    /// Whether its spec is the one it was created with, and so its targets are new
    /// with it.
    pub is_first_spec: bool,
    /// Where its output goes; valid.
    pub forwards: &'a [LogForward],
}

/// Has a task per process and target. Lives on the runtime it was first used on.
#[derive(Debug)]
pub struct Forwarder {
    logs: Logs,
    host: String,
    journal: PathBuf,
    entropy: fn() -> u64,
    // BOUND: processes, times the forwards of one.
    /// Those that are wanted, by process and target.
    running: HashMap<Uid, HashMap<String, watch::Sender<Order>>>,
    /// All that have not ended, and for how long those that are not wanted may.
    tasks: JoinSet<()>,
    /// Orders to those that are not wanted, until their tasks have ended.
    ending: Vec<watch::Sender<Order>>,
}

// === impl Forwarder ===

impl Forwarder {
    /// Of the logs of one daemon, on the machine called `host`.
    #[must_use]
    pub fn new(logs: Logs, host: String, entropy: fn() -> u64) -> Self {
        Self::with_journal(logs, host, entropy, Path::new(journald::SOCKET))
    }

    /// [`Forwarder::new`] with journald at another place.
    fn with_journal(logs: Logs, host: String, entropy: fn() -> u64, journal: &Path) -> Self {
        Self {
            logs,
            host,
            journal: journal.to_owned(),
            entropy,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            ending: Vec::new(),
        }
    }

    /// Starts, changes and ends forwards until they are what is wanted. One that is
    /// the same, but for its streams, goes on where it stands.
    ///
    /// To be called on the runtime that the forwards are to run on.
    pub fn set(&mut self, wanted: Wanted<'_>) {
        self.clear_away();
        let mut before = self.running.remove(&wanted.uid).unwrap_or_default();
        let mut now = HashMap::new();
        for forward in wanted.forwards {
            let key = forward.target.key();
            let order = match before.remove(&key) {
                Some(order) => {
                    order.send_if_modified(|order| {
                        let streams = forward.streams.clone();
                        std::mem::replace(&mut order.streams, streams) != forward.streams
                    });
                    Some(order)
                }
                None => self.start(wanted, forward, &key),
            };
            now.extend(order.map(|order| (key, order)));
        }
        for (key, order) in before {
            self.keeper(wanted.uid, &key).forget();
            self.stop(order);
        }
        if !now.is_empty() {
            self.running.insert(wanted.uid, now);
        }
    }

    /// The process is deleted: what it wrote is sent, for [`DRAIN_MAX`] at most.
    pub fn remove(&mut self, uid: Uid) {
        self.clear_away();
        for order in self.running.remove(&uid).into_iter().flatten() {
            self.stop(order.1);
        }
    }

    /// Whether anything of this process is forwarded.
    #[cfg(test)]
    fn has(&self, uid: Uid) -> bool {
        self.running.contains_key(&uid)
    }

    /// Sends what is written, for `drain_max` at most, and keeps how far it got.
    pub async fn end(mut self, drain_max: Duration) {
        let stop = Some(Instant::now() + drain_max);
        for order in self.running.values().flat_map(HashMap::values) {
            order.send_modify(|order| order.stop = stop);
        }
        for order in &self.ending {
            order.send_modify(|order| order.stop = order.stop.min(stop));
        }
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }

    fn stop(&mut self, order: watch::Sender<Order>) {
        order.send_modify(|order| {
            order.stop = Some(Instant::now() + DRAIN_MAX);
            order.forget = true;
        });
        self.ending.push(order);
    }

    /// Forgets what has ended.
    fn clear_away(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        self.ending.retain(|order| !order.is_closed());
    }

    fn keeper(&self, uid: Uid, key: &str) -> Keeper {
        Keeper::new(self.logs.directory(uid), key.to_owned())
    }

    fn start(
        &mut self,
        wanted: Wanted<'_>,
        forward: &LogForward,
        key: &str,
    ) -> Option<watch::Sender<Order>> {
        let origin = Origin {
            process: wanted.process.clone(),
            uid: wanted.uid.to_string(),
            host: self.host.clone(),
        };
        match &forward.target {
            ForwardTarget::Syslog(target) => {
                let target = Syslog::new(target, &origin)?;
                Some(self.spawn(wanted, forward, key, target))
            }
            ForwardTarget::Journald(target) => {
                let target = Journald::new(target, &origin, &self.journal);
                Some(self.spawn(wanted, forward, key, target))
            }
            ForwardTarget::Otlp(target) => {
                let Some(target) = Otlp::new(target, &origin) else {
                    let (process, target) = (wanted.process, &target.endpoint);
                    tracing::error!(%process, target, "no client can be made for it");
                    return None;
                };
                Some(self.spawn(wanted, forward, key, target))
            }
        }
    }

    fn spawn<T: Target>(
        &mut self,
        wanted: Wanted<'_>,
        forward: &LogForward,
        key: &str,
        target: T,
    ) -> watch::Sender<Order> {
        let (order, orders) = watch::channel(Order {
            streams: forward.streams.clone(),
            ..Order::default()
        });
        let setup = Setup {
            uid: wanted.uid,
            from_the_first: wanted.is_first_spec,
            target,
            keeper: self.keeper(wanted.uid, key),
            telling: Telling::new(wanted.process.to_string(), key.to_owned()),
            order: orders,
            entropy: self.entropy,
        };
        // Now, so that what is written from here on is not missed.
        let begun = Forward::begin(&self.logs, setup);
        self.tasks.spawn(Forward::run(self.logs.clone(), begun));
        order
    }
}

/// A panic was reported when it happened; the forward is gone until the next daemon.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a forward ended by a fault of this program");
    }
}
