//! A registry that is wrong on purpose, in one way at a time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

use arc_swap::ArcSwap;
use procession::registry::Mode;

use super::run::{Batch, Seen, Store, View, Waiter, apply};

/// Yields of one stall.
const STALL_MAX: usize = 100;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// After the swap each writer appends its own state, helping nobody.
    NotifyAfterSwap,
    /// The revision is drawn before the swap, and the head is whatever was
    /// appended last.
    RevisionBeforeSwap,
    /// A write returns before the head is raised to it; the next one does that.
    HeadTooLate,
    /// The head is raised before the change is in the log.
    HeadTooEarly,
    /// Revisions are given in pairs, the second first, as by a publisher that
    /// gathers changes and has an order of its own.
    OrderOfItsOwn,
}

pub(crate) struct Naive {
    fault: Fault,
    cells: Vec<ArcSwap<State>>,
    log: Mutex<Vec<Seen>>,
    drawn: AtomicI64,
    head: AtomicI64,
}

struct State {
    uid: u64,
    version: i64,
    deleted: bool,
    revision: AtomicI64,
}

struct Polling;

impl Naive {
    pub(crate) fn new(fault: Fault, names: usize) -> Self {
        let absent = || ArcSwap::from_pointee(State::new(0, 0, true));
        Self {
            fault,
            cells: (0..=names).map(|_| absent()).collect(),
            log: Mutex::new(Vec::new()),
            drawn: AtomicI64::new(0),
            head: AtomicI64::new(0),
        }
    }

    /// Swaps in what `next` makes of the state, `None` for nothing.
    fn change(&self, name: usize, next: impl Fn(&State) -> Option<State>) -> Result<Seen, Seen> {
        loop {
            let current = self.cells[name].load_full();
            let Some(state) = next(&current) else {
                return Err(seen(name, &current));
            };
            let state = Arc::new(state);
            if self.fault == Fault::RevisionBeforeSwap {
                let drawn = self.drawn.fetch_add(1, Ordering::SeqCst) + 1;
                state.revision.store(drawn, Ordering::SeqCst);
                self.stall(&state, || self.head() > drawn);
            }
            let found = self.cells[name].compare_and_swap(&current, Arc::clone(&state));
            if Arc::ptr_eq(&found, &current) {
                return Ok(self.publish(name, &state));
            }
        }
    }

    /// Writers are interrupted at bad moments; this makes it happen often: every
    /// fourth waits a while until others have gone on.
    fn stall(&self, state: &State, gone_on: impl Fn() -> bool) {
        for _ in 0..STALL_MAX {
            if state.version % 4 != 0 || gone_on() {
                return;
            }
            thread::yield_now();
        }
    }

    fn publish(&self, name: usize, state: &State) -> Seen {
        match self.fault {
            Fault::NotifyAfterSwap => self.stall(state, || {
                let newest = self.cells[name].load();
                newest.version != state.version && newest.revision.load(Ordering::SeqCst) != 0
            }),
            Fault::RevisionBeforeSwap | Fault::HeadTooLate => {}
            Fault::HeadTooEarly => {
                let drawn = self.drawn.fetch_add(1, Ordering::SeqCst) + 1;
                state.revision.store(drawn, Ordering::SeqCst);
                self.head.fetch_max(drawn, Ordering::SeqCst);
                self.stall(state, || self.head() > drawn + 3);
            }
            Fault::OrderOfItsOwn => {
                let drawn = self.drawn.fetch_add(1, Ordering::SeqCst) + 1;
                let swapped = if drawn % 2 == 0 { drawn - 1 } else { drawn + 1 };
                state.revision.store(swapped, Ordering::SeqCst);
                self.head.fetch_max(drawn, Ordering::SeqCst);
            }
        }
        let mut log = self.log.lock().unwrap();
        if matches!(self.fault, Fault::NotifyAfterSwap | Fault::HeadTooLate) {
            let revision = log.len() as i64 + 1;
            state.revision.store(revision, Ordering::SeqCst);
        }
        let appended = seen(name, state);
        log.push(appended);
        match self.fault {
            Fault::NotifyAfterSwap | Fault::RevisionBeforeSwap => {
                self.head.store(appended.revision, Ordering::SeqCst);
            }
            Fault::HeadTooLate => self.head.store(appended.revision - 1, Ordering::SeqCst),
            Fault::HeadTooEarly | Fault::OrderOfItsOwn => {}
        }
        appended
    }
}

impl State {
    const fn new(uid: u64, version: i64, deleted: bool) -> Self {
        Self {
            uid,
            version,
            deleted,
            revision: AtomicI64::new(0),
        }
    }
}

fn seen(name: usize, state: &State) -> Seen {
    Seen {
        name,
        uid: state.uid,
        version: state.version,
        revision: state.revision.load(Ordering::SeqCst),
        deleted: state.deleted,
    }
}

impl Store for Naive {
    fn create(&self, name: usize, uid: u64) -> Result<Seen, Seen> {
        self.change(name, |state| {
            state.deleted.then(|| State::new(uid, 1, false))
        })
    }

    fn commit(&self, name: usize) -> Option<Seen> {
        let next = |state: &State| State::new(state.uid, state.version + 1, false);
        self.change(name, |state| (!state.deleted).then(|| next(state)))
            .ok()
    }

    fn delete(&self, name: usize) -> Option<Seen> {
        let last = |state: &State| State::new(state.uid, state.version + 1, true);
        self.change(name, |state| (!state.deleted).then(|| last(state)))
            .ok()
    }

    fn get(&self, name: usize) -> Option<Seen> {
        let state = self.cells[name].load();
        (!state.deleted).then(|| seen(name, &state))
    }

    fn head(&self) -> i64 {
        self.head.load(Ordering::SeqCst)
    }

    fn snapshot(&self) -> (i64, View) {
        let head = self.head();
        for _ in 0..STALL_MAX {
            if self.head() != head {
                break;
            }
            thread::yield_now();
        }
        let names = 0..self.cells.len();
        let live = names.filter_map(|name| Some((name, self.get(name)?)));
        (head, live.collect())
    }

    fn read(&self, mode: Mode, after: i64) -> Batch {
        let to = self.head();
        let log = self.log.lock().unwrap();
        let fresh = |seen: &&Seen| after < seen.revision && seen.revision <= to;
        let mut changes: Vec<_> = log.iter().filter(fresh).copied().collect();
        if mode == Mode::LatestState {
            let mut view = View::new();
            apply(&mut view, &changes);
            changes.retain(|seen| seen.deleted || view.get(&seen.name) == Some(seen));
        }
        Batch::Changes {
            to: to.max(after),
            exact: true,
            changes,
        }
    }

    fn waiter(&self) -> Box<dyn Waiter> {
        Box::new(Polling)
    }
}

impl Waiter for Polling {
    fn before_look(&self) {}

    fn wait(&self) {
        thread::yield_now();
    }
}
