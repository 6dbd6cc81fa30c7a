//! Tells the forwarder what is wanted, as the change log has it, on a thread of its
//! own: it reads files, and looks up names on others.
//!
//! Invariant: published states are loaded by the thread that starts it, not by its
//! own (see the header of `daemon`), but for the rare case that the log has forgotten
//! what was not read yet.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime::Builder, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        id::{Revision, Uid},
        status::ProcessState,
    },
    forward::{Forwarder, Wanted, limits::SHUTDOWN_DRAIN_MAX},
    logs::Logs,
    registry::{Before, Budget, Change, Mode, Read, Snapshot},
    supervisor::{ProcessNode, Processes, entropy},
};

/// Changes taken at once.
const BATCH: Budget = Budget {
    entries_max: 512,
    bytes_max: 4 << 20,
};

/// Threads that look up names, and how long one waits for more to do.
const NAME_THREADS_MAX: usize = 8;
const NAME_THREAD_IDLE: Duration = Duration::from_secs(1);

/// The thread. Dropping it ends it, as [`Forwarding::end`] does.
#[derive(Debug)]
pub(super) struct Forwarding {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What was told to the forwarder.
struct Follower {
    registry: Processes,
    forwarder: Forwarder,
    cursor: Revision,
    /// Generation of the spec, of processes that have forwards.
    generations: HashMap<Uid, i64>,
}

// === impl Forwarding ===

impl Forwarding {
    /// Forwards the output of all processes that are published, and of those to come.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start(registry: Processes, logs: Logs) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(NAME_THREADS_MAX)
            .thread_keep_alive(NAME_THREAD_IDLE)
            .build()?;
        let end = CancellationToken::new();
        let ended = end.clone();
        let snapshot = registry.snapshot();
        let follower = Follower {
            registry,
            forwarder: Forwarder::new(logs, host(), entropy),
            cursor: snapshot.revision,
            generations: HashMap::new(),
        };
        let thread = thread::Builder::new()
            .name("forward".into())
            .spawn(move || {
                runtime.block_on(follower.run(snapshot, ended));
                // A look-up that nobody answers holds up no end.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }

    /// Sends what is written, for a short while. Blocks.
    pub(super) fn end(self) {
        drop(self);
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

// === impl Follower ===

impl Follower {
    async fn run(mut self, first: Snapshot<ProcessState>, end: CancellationToken) {
        let published = Arc::new(Notify::new());
        let on_publish = Arc::clone(&published);
        let gate = self.registry.add_gate(move || on_publish.notify_one());
        self.resync(first);
        while !end.is_cancelled() {
            // Before the log is read: what comes later rings again.
            gate.clear();
            self.catch_up();
            tokio::select! {
                () = published.notified() => {}
                () = end.cancelled() => {}
            }
        }
        self.catch_up();
        self.forwarder.end(SHUTDOWN_DRAIN_MAX).await;
    }

    /// Everything that is published by now.
    fn catch_up(&mut self) {
        loop {
            match self.registry.read(Mode::LatestState, self.cursor, BATCH) {
                Read::Batch {
                    to,
                    exact: true,
                    changes,
                } => {
                    changes.iter().for_each(|change| self.follow(change));
                    if to == self.cursor {
                        return;
                    }
                    self.cursor = to;
                }
                // It may have forgotten who is gone.
                Read::Batch { .. } | Read::TooOld { .. } => {
                    let snapshot = self.registry.snapshot();
                    self.resync(snapshot);
                }
            }
        }
    }

    fn resync(&mut self, snapshot: Snapshot<ProcessState>) {
        let there: HashSet<Uid> = snapshot.nodes.iter().map(|node| node.uid()).collect();
        let known: Vec<Uid> = self.generations.keys().copied().collect();
        for uid in known.into_iter().filter(|uid| !there.contains(uid)) {
            self.remove(uid);
        }
        snapshot.nodes.iter().for_each(|node| self.set(node));
        self.cursor = snapshot.revision;
    }

    fn follow(&mut self, change: &Change<ProcessState>) {
        let node = &change.node;
        if let Before::State(before) = &change.before
            && before.uid() != node.uid()
        {
            self.remove(before.uid());
        }
        if node.is_deleted() {
            self.remove(node.uid());
        } else {
            self.set(node);
        }
    }

    fn set(&mut self, node: &ProcessNode) {
        let (uid, spec) = (node.uid(), &node.body().spec);
        let forwards = &spec.config.stdio.log_forwards;
        let known = self.generations.get(&uid);
        if known == Some(&spec.generation) || (known.is_none() && forwards.is_empty()) {
            return;
        }
        if forwards.is_empty() {
            self.generations.remove(&uid);
        } else {
            self.generations.insert(uid, spec.generation);
        }
        self.forwarder.set(Wanted {
            uid,
            process: &spec.name,
            is_first_spec: spec.generation == 1,
            forwards,
        });
    }

    fn remove(&mut self, uid: Uid) {
        if self.generations.remove(&uid).is_some() {
            self.forwarder.remove(uid);
        }
    }
}

/// Name of this machine; empty if it has none that is text.
fn host() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}
