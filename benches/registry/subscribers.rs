//! A dispatcher thread with parked subscribers, as the watch layer has it: woken
//! through its gate, it reads the change log and tells each subscriber.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Wake, Waker},
    thread::{self, JoinHandle},
};

use procession::{
    domain::id::Revision,
    registry::{Budget, Mode, Read, Registry},
};

use super::cases::State;

pub(crate) struct Dispatcher {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

/// A task that would run and park again.
struct Parked {
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
    }
}

impl Dispatcher {
    pub(crate) fn start(registry: &Registry<State>, subscribers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicI64::new(registry.head().get()));
        let thread = thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            let registry = registry.clone();
            move || run(&registry, subscribers, &stop, &seen)
        });
        Self {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    /// Whether it has told everything up to `revision`.
    pub(crate) fn has_seen(&self, revision: Revision) -> bool {
        self.seen.load(Ordering::Acquire) >= revision.get()
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the dispatcher does not panic");
        }
    }
}

fn run(registry: &Registry<State>, subscribers: usize, stop: &AtomicBool, seen: &AtomicI64) {
    let this = thread::current();
    let gate = registry.add_gate(move || this.unpark());
    let parked: Vec<Waker> = (0..subscribers)
        .map(|_| {
            Waker::from(Arc::new(Parked {
                woken: AtomicBool::new(false),
            }))
        })
        .collect();
    let budget = Budget {
        entries_max: 256,
        bytes_max: 256 << 10,
    };
    let mut cursor = Revision::new(seen.load(Ordering::Relaxed));
    while !stop.load(Ordering::Acquire) {
        gate.clear();
        let head = registry.head();
        while cursor < head {
            match registry.read(Mode::LatestState, cursor, budget) {
                Read::Batch { to, .. } => cursor = to,
                Read::TooOld { oldest } => cursor = oldest,
            }
            for waker in &parked {
                waker.wake_by_ref();
            }
        }
        seen.store(cursor.get(), Ordering::Release);
        thread::park();
    }
}
