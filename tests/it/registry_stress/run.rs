//! Puts a registry under load and records what everybody saw.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use procession::registry::Mode;

const WRITERS: u64 = 8;
const SNAPSHOTS_MAX: usize = 2000;
/// A reader that is not woken would wait for ever; this says so.
const PATIENCE: Duration = Duration::from_secs(120);

/// A state as somebody saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: usize,
    pub(crate) uid: u64,
    pub(crate) version: i64,
    pub(crate) revision: i64,
    pub(crate) deleted: bool,
}

/// Live processes by name.
pub(crate) type View = BTreeMap<usize, Seen>;

pub(crate) enum Batch {
    Changes {
        to: i64,
        exact: bool,
        changes: Vec<Seen>,
    },
    TooOld,
}

/// What is stressed.
pub(crate) trait Store: Send + Sync + 'static {
    /// `Err`: taken, by this.
    fn create(&self, name: usize, uid: u64) -> Result<Seen, Seen>;
    fn commit(&self, name: usize) -> Option<Seen>;
    fn delete(&self, name: usize) -> Option<Seen>;
    fn get(&self, name: usize) -> Option<Seen>;
    fn head(&self) -> i64;
    fn snapshot(&self) -> (i64, View);
    fn read(&self, mode: Mode, after: i64) -> Batch;
    fn waiter(&self) -> Box<dyn Waiter>;
}

/// How one reader waits for changes that its last look did not see.
pub(crate) trait Waiter {
    fn before_look(&self);
    fn wait(&self);
}

#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// By each of the writers.
    pub(crate) writes: u64,
    pub(crate) names: usize,
}

/// One acknowledged write, between two ticks of one clock.
pub(crate) struct Write {
    pub(crate) seen: Seen,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) head_after: i64,
    pub(crate) read_back: Option<Seen>,
}

/// Batches without a reset between them.
pub(crate) struct Chain {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) changes: Vec<Seen>,
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) writes: Vec<Write>,
    /// A state and the head right after.
    pub(crate) reads: Vec<(Seen, i64)>,
    pub(crate) snapshots: Vec<(i64, View)>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) views: Vec<(i64, View)>,
}

struct Shared<S> {
    store: S,
    seed: u64,
    load: Load,
    clock: AtomicU64,
    uids: AtomicU64,
    start: Barrier,
    done: AtomicBool,
}

/// Small, fast and repeatable; not for anything else.
struct Random(u64);

// === impl History ===

impl History {
    /// All changes in order of revision, as they were acknowledged.
    pub(crate) fn truth(&self) -> Vec<Seen> {
        let mut truth: Vec<_> = self.writes.iter().map(|write| write.seen).collect();
        truth.sort_by_key(|seen| seen.revision);
        truth
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} writes, {} reads, {} snapshots, {} chains, {} exact views",
            self.writes.len(),
            self.reads.len(),
            self.snapshots.len(),
            self.chains.len(),
            self.views.len()
        )
    }
}

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

pub(crate) fn run<S: Store>(store: S, seed: u64, load: Load) -> History {
    let shared = Arc::new(Shared {
        store,
        seed,
        load,
        clock: AtomicU64::new(0),
        uids: AtomicU64::new(0),
        start: Barrier::new(WRITERS as usize),
        done: AtomicBool::new(false),
    });
    let spawn = |part: fn(&Shared<S>, u64) -> History, n: u64| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || part(&shared, n))
    };
    let others: Vec<_> = [
        spawn(take_snapshots, 0),
        spawn(follow_every_change, 1),
        spawn(follow_every_change, 2),
        spawn(follow_latest_state, 3),
        spawn(follow_latest_state, 4),
    ]
    .into();
    let writers: Vec<_> = (0..WRITERS).map(|n| spawn(write, n)).collect();
    let mut history = History::default();
    gather(&mut history, writers);
    // Whoever waits now is woken by the last change, or never.
    shared.done.store(true, Ordering::SeqCst);
    let mut last = History::default();
    shared.write(&mut last, |store, uid| store.create(load.names, uid));
    gather(&mut history, others);
    history.writes.append(&mut last.writes);
    history
}

fn gather(history: &mut History, threads: Vec<JoinHandle<History>>) {
    let start = Instant::now();
    for thread in threads {
        while !thread.is_finished() {
            assert!(start.elapsed() < PATIENCE, "somebody waits for ever");
            thread::sleep(Duration::from_millis(2));
        }
        let mut part = thread.join().expect("no thread panics");
        history.writes.append(&mut part.writes);
        history.reads.append(&mut part.reads);
        history.snapshots.append(&mut part.snapshots);
        history.chains.append(&mut part.chains);
        history.views.append(&mut part.views);
    }
}

// === impl Shared ===

impl<S: Store> Shared<S> {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    fn random(&self, n: u64) -> Random {
        Random((self.seed ^ (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
    }

    fn write(&self, history: &mut History, operation: impl FnOnce(&S, u64) -> Result<Seen, Seen>) {
        let uid = self.uids.fetch_add(1, Ordering::Relaxed) + 1;
        let start = self.tick();
        match operation(&self.store, uid) {
            Ok(seen) => {
                let end = self.tick();
                history.writes.push(Write {
                    seen,
                    start,
                    end,
                    head_after: self.store.head(),
                    read_back: self.store.get(seen.name),
                });
            }
            Err(seen) => history.reads.push((seen, self.store.head())),
        }
    }
}

fn write<S: Store>(shared: &Shared<S>, n: u64) -> History {
    let mut random = shared.random(n);
    let mut history = History::default();
    shared.start.wait();
    for _ in 0..shared.load.writes {
        let name = random.below(shared.load.names as u64) as usize;
        let what = random.below(100);
        if what >= 90 {
            if let Some(seen) = shared.store.get(name) {
                history.reads.push((seen, shared.store.head()));
            }
            continue;
        }
        shared.write(&mut history, |store, uid| {
            let absent = || store.create(name, uid);
            match what {
                0..8 => store.create(name, uid),
                8..12 => store.delete(name).map_or_else(absent, Ok),
                _ => store.commit(name).map_or_else(absent, Ok),
            }
        });
    }
    history
}

fn take_snapshots<S: Store>(shared: &Shared<S>, _: u64) -> History {
    let mut history = History::default();
    while !shared.is_done() && history.snapshots.len() < SNAPSHOTS_MAX {
        let (at, view) = shared.store.snapshot();
        let head = shared.store.head();
        history
            .reads
            .extend(view.values().map(|seen| (*seen, head)));
        history.snapshots.push((at, view));
        thread::yield_now();
    }
    history
}

fn follow_every_change<S: Store>(shared: &Shared<S>, _: u64) -> History {
    let mut history = History::default();
    let mut chain = Chain {
        from: 0,
        to: 0,
        changes: Vec::new(),
    };
    let waiter = shared.store.waiter();
    loop {
        waiter.before_look();
        let (done, head) = (shared.is_done(), shared.store.head());
        while chain.to < head {
            match shared.store.read(Mode::EveryChange, chain.to) {
                Batch::Changes {
                    to, mut changes, ..
                } => {
                    chain.changes.append(&mut changes);
                    chain.to = to;
                }
                Batch::TooOld => {
                    let (at, view) = shared.store.snapshot();
                    history.snapshots.push((at, view));
                    let next = Chain {
                        from: at,
                        to: at,
                        changes: Vec::new(),
                    };
                    history.chains.push(std::mem::replace(&mut chain, next));
                }
            }
        }
        if done && chain.to >= shared.store.head() {
            history.chains.push(chain);
            return history;
        }
        waiter.wait();
    }
}

fn follow_latest_state<S: Store>(shared: &Shared<S>, n: u64) -> History {
    let mut random = shared.random(n + 100);
    let mut history = History::default();
    let (mut cursor, mut view) = (0, View::new());
    let waiter = shared.store.waiter();
    loop {
        waiter.before_look();
        let (done, head) = (shared.is_done(), shared.store.head());
        while cursor < head {
            match shared.store.read(Mode::LatestState, cursor) {
                Batch::Changes { to, exact, changes } => {
                    apply(&mut view, &changes);
                    cursor = to;
                    if exact && (random.below(16) == 0 || done) {
                        history.views.push((to, view.clone()));
                    }
                }
                Batch::TooOld => (cursor, view) = shared.store.snapshot(),
            }
        }
        if done && cursor >= shared.store.head() {
            history.views.push((cursor, view));
            return history;
        }
        waiter.wait();
    }
}

pub(crate) fn apply(view: &mut View, changes: &[Seen]) {
    for seen in changes {
        match seen.deleted {
            true => drop(view.remove(&seen.name)),
            false => drop(view.insert(seen.name, *seen)),
        }
    }
}
