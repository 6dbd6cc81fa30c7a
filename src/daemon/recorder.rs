//! Keeps intents and published states: what the supervisor is to the store.
//!
//! ```text
//! supervisor --keep--> what was published so far, then the intent --> store
//! change log --gate--> task: changes ------------------------------>    | durable
//!                                              runner.forget <----------+
//! ```
//!
//! Invariants: before an intent, everything published before it is handed over, so
//! of each process at most its last intent is not acted on in what is kept; a run's
//! directory goes only once its end is durable; nothing is done while nothing is
//! published. Deliberately absent: what is written and when (the store).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{
    domain::id::{Revision, Uid},
    registry::{Budget, Change, Mode, Read},
    runner::Runner,
    store::{self, Health, Observation, Store, Wish},
    supervisor::{
        Intent, IntentStore, NotKept, ProcessNode, Processes, Receipt, Writable, wall_now,
    },
};

/// Changes handed over at once.
const BATCH: Budget = Budget {
    entries_max: 512,
    bytes_max: 4 << 20,
};

/// The supervisor's side of the store; clones are the same one.
#[derive(Clone)]
pub(super) struct Recorder {
    shared: Arc<Shared>,
}

/// What is known of a process that was restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Revision of its first version.
    pub(super) created: Revision,
    /// Its latest run that is on its way to be cleared away.
    pub(super) over: i64,
}

struct Shared {
    store: Store,
    registry: Processes,
    runner: Arc<dyn Runner>,
    feed: Mutex<Feed>,
}

/// How far the change log was handed over.
struct Feed {
    cursor: Revision,
    known: HashMap<Uid, Known>,
    // BOUND: one per end of a run that is not durable yet.
    /// Runs to clear away once that revision is durable.
    ended: VecDeque<(Revision, Uid, i64)>,
}

// === impl Recorder ===

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn new(
        store: Store,
        registry: Processes,
        runner: Arc<dyn Runner>,
        known: HashMap<Uid, Known>,
    ) -> Self {
        let feed = Feed {
            cursor: registry.head(),
            known,
            ended: VecDeque::new(),
        };
        Self {
            shared: Arc::new(Shared {
                store,
                registry,
                runner,
                feed: Mutex::new(feed),
            }),
        }
    }

    /// Whether intents can be kept, and why not.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.shared.store.health()
    }

    /// Everything up to here is kept.
    pub(super) fn durable(&self) -> watch::Receiver<Revision> {
        self.shared.store.durable_revision()
    }

    /// Hands over what is published, and clears away runs whose end is durable,
    /// until the store is gone.
    pub(super) async fn run(self) {
        let published = Arc::new(Notify::new());
        let on_publish = Arc::clone(&published);
        let gate = self
            .shared
            .registry
            .add_gate(move || on_publish.notify_one());
        let mut durable = self.durable();
        loop {
            // Before the log is read: what comes later rings again.
            gate.clear();
            self.shared.hand_over();
            tokio::select! {
                () = published.notified() => {}
                changed = durable.changed() => match changed {
                    Ok(()) => self.shared.clear_away(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Hands over what is left and closes the store. With `stopped`, every process
    /// was stopped, so the next daemon starts what is wanted. Blocks.
    pub(super) fn end(self, stopped: bool) {
        self.shared.hand_over();
        if let Err(error) = self.shared.store.clone().close(stopped) {
            tracing::error!(%error, "not everything could be kept");
        }
        self.shared.clear_away();
    }
}

impl IntentStore for Recorder {
    fn keep(&self, intent: Intent) -> Receipt {
        self.shared.hand_over();
        let receipt = self
            .shared
            .store
            .intend(vec![stored(intent, self.shared.registry.head())]);
        Box::pin(async {
            receipt.await.map_err(|error| NotKept {
                reason: error.to_string().into(),
            })
        })
    }

    fn writable(&self) -> Writable {
        let mut health = self.health();
        Box::pin(async move {
            // A store that is gone is written by nobody.
            let writable = health.wait_for(|health| *health == Health::Writable);
            drop(writable.await);
        })
    }
}

// === impl Shared ===

impl Shared {
    /// Everything that is published by now.
    fn hand_over(&self) {
        let mut feed = self.feed();
        loop {
            let mut read = self.registry.read(Mode::EveryChange, feed.cursor, BATCH);
            if matches!(read, Read::TooOld { .. }) {
                read = self.registry.read(Mode::LatestState, feed.cursor, BATCH);
            }
            let Read::Batch { to, changes, .. } = read else {
                // Nobody forgets deletions this fast but a registry in ruins.
                tracing::error!("the change log was lost before it could be kept");
                return;
            };
            if to == feed.cursor {
                return;
            }
            let mut newest: HashMap<Uid, Observation> = HashMap::new();
            for change in &changes {
                newest.insert(change.node.uid(), feed.observe(change));
            }
            feed.cursor = to;
            self.store.observe(newest.into_values().collect(), to);
        }
    }

    fn clear_away(&self) {
        let durable = *self.store.durable_revision().borrow();
        let mut feed = self.feed();
        while let Some((_, uid, run_id)) = feed.ended.pop_front_if(|(at, ..)| *at <= durable) {
            self.runner.forget(uid, run_id);
        }
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Feed ===

impl Feed {
    fn observe(&mut self, change: &Change<crate::domain::status::ProcessState>) -> Observation {
        let node: &ProcessNode = &change.node;
        let uid = node.uid();
        let known = self.known.entry(uid).or_insert(Known {
            created: change.revision,
            over: 0,
        });
        let over = node.body().status.latest_over();
        for run_id in known.over + 1..=over {
            self.ended.push_back((change.revision, uid, run_id));
        }
        known.over = known.over.max(over);
        let created = known.created;
        if node.is_deleted() {
            self.known.remove(&uid);
        }
        let state = node.body();
        Observation {
            uid,
            version: node.version(),
            revision: change.revision,
            created,
            intent: state.intent,
            status: state.status.clone(),
            cause: state.cause.clone(),
            time: state.time,
            deleted: node.is_deleted(),
        }
    }
}

fn stored(intent: Intent, head: Revision) -> store::Intent {
    let request = request(&intent, head);
    let wish = match intent.spec {
        Some(spec) => Wish::Put {
            spec,
            desired: intent.desired,
        },
        None => Wish::Desired(intent.desired),
    };
    store::Intent {
        uid: intent.uid,
        wish,
        number: intent.number,
        begin: intent.begin,
        instead_of: intent.instead_of,
        cause: intent.cause,
        request,
    }
}

/// What a repetition of the request is recognized by.
fn request(intent: &Intent, head: Revision) -> Option<store::Request> {
    let caller = intent.cause.caller.as_ref()?;
    let once = caller.once?;
    Some(store::Request {
        principal: caller.principal.clone(),
        method: once.method.into(),
        id: *uuid::Uuid::try_parse(&caller.request_id).ok()?.as_bytes(),
        fingerprint: once.digest,
        uid: intent.uid,
        name: intent.name.clone(),
        run_id: intent.run_id,
        revision: head,
        time: wall_now(),
    })
}
