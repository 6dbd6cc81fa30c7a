//! Changing a state, and telling it.

use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use arc_swap::ArcSwap;
use procession::registry::{Registry, Slot};

use super::{ENTRIES, NO_BOUND, State, commit, name, one, registry, row};
use crate::{
    sampler::{Row, Sample, Sampler, cpu_time_of},
    subscribers::Dispatcher,
};

const SUBSCRIBERS: usize = 10_000;
const READERS: usize = 64;

/// What a node has beside its body.
struct Swapped {
    state: State,
    _marks: [u64; 8],
}

/// The swap without a log: load, make, compare and swap, over as much state.
fn bare_swap() -> impl FnMut(u64) {
    let swapped = |state| {
        Arc::new(Swapped {
            state,
            _marks: [1; 8],
        })
    };
    let cell = ArcSwap::new(swapped(State::new(name(0))));
    move |n| {
        for _ in 0..n {
            let current = cell.load_full();
            let next = swapped(current.state.next());
            let found = cell.compare_and_swap(&current, next);
            assert!(Arc::ptr_eq(&found, &current));
        }
    }
}

pub(crate) fn cas_alone(sampler: &Sampler) -> Row {
    let packed = AtomicU64::new(0);
    let baseline = |n| {
        for _ in 0..n {
            let current = packed.load(Ordering::Acquire);
            let swapped = packed.compare_exchange(
                current,
                black_box(current + 1),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            assert!(swapped.is_ok());
        }
    };
    let sample = sampler.pair(bare_swap(), baseline);
    row(
        "CAS alone, uncontended",
        "packed AtomicU64",
        "ns",
        sample,
        (25.0, 15.0),
    )
}

pub(crate) fn cas_and_publish(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let ours = |n| {
        for _ in 0..n {
            black_box(commit(&registry, &slot));
        }
    };
    // The ring is full, as it is nearly always.
    ours(sampler.size(70_000) as u64);
    let sample = sampler.pair(ours, bare_swap());
    row(
        "CAS + publish, 0 subscribers",
        "CAS alone",
        "ns",
        sample,
        (4.0, 2.0),
    )
}

/// Not one hot process but 10,000 in turn: nothing is in the nearest cache.
pub(crate) fn cas_and_publish_spread(sampler: &Sampler) -> Row {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    let slots: Vec<_> = (0..entries)
        .filter_map(|n| registry.slot(name(n).as_str()))
        .collect();
    let cells: Vec<_> = (0..entries)
        .map(|n| ArcSwap::from_pointee(State::new(name(n))))
        .collect();
    let mut turn = 0;
    let mut ours = |n| {
        for _ in 0..n {
            turn = (turn + 7919) % entries;
            black_box(commit(&registry, &slots[turn]));
        }
    };
    ours(sampler.size(70_000) as u64);
    let mut turn = 0;
    let baseline = |n| {
        for _ in 0..n {
            turn = (turn + 7919) % entries;
            let current = cells[turn].load_full();
            let found = cells[turn].compare_and_swap(&current, Arc::new(current.next()));
            assert!(Arc::ptr_eq(&found, &current));
        }
    };
    let sample = sampler.pair(ours, baseline);
    row(
        "CAS + publish, 10,000 processes in turn",
        "CAS alone, the same",
        "ns",
        sample,
        NO_BOUND,
    )
}

/// A registry with a dispatcher, and what one commit costs its writer.
struct Watched {
    registry: Registry<State>,
    slot: Arc<Slot<State>>,
    dispatcher: Option<Dispatcher>,
}

impl Watched {
    fn by(subscribers: usize) -> Self {
        let (registry, slot) = one();
        let dispatcher = (subscribers > 0).then(|| Dispatcher::start(&registry, subscribers));
        Self {
            registry,
            slot,
            dispatcher,
        }
    }

    /// Back to back.
    fn burst(&self, n: u64) -> f64 {
        cpu_time_of(|| {
            for _ in 0..n {
                black_box(commit(&self.registry, &self.slot));
            }
        })
    }

    /// Each when all subscribers are parked again; n times the median.
    fn paced(&self, n: u64) -> f64 {
        let mut times: Vec<_> = (0..n)
            .map(|_| {
                self.settle();
                let start = Instant::now();
                black_box(commit(&self.registry, &self.slot));
                start.elapsed().as_nanos() as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] * n as f64
    }

    fn settle(&self) {
        let Some(dispatcher) = &self.dispatcher else {
            return;
        };
        while !dispatcher.has_seen(self.registry.head()) {
            spin_loop();
        }
        // It has told all, and needs a moment to park.
        let told = Instant::now();
        while told.elapsed().as_micros() < 20 {
            spin_loop();
        }
    }
}

fn burst(sampler: &Sampler, ours: usize, baseline: usize) -> Sample {
    let (ours, baseline) = (Watched::by(ours), Watched::by(baseline));
    sampler.rounds(&mut |n| ours.burst(n), &mut |n| baseline.burst(n))
}

fn paced(sampler: &Sampler, ours: usize, baseline: usize) -> Sample {
    let (ours, baseline) = (Watched::by(ours), Watched::by(baseline));
    sampler.rounds(&mut |n| ours.paced(n), &mut |n| baseline.paced(n))
}

pub(crate) fn publish_burst_one(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 1 parked subscriber, bursts",
        "own with 0",
        "ns",
        burst(sampler, 1, 0),
        NO_BOUND,
    )
}

pub(crate) fn publish_burst_many(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 10,000 parked subscribers, bursts",
        "own with 1",
        "ns",
        burst(sampler, sampler.size(SUBSCRIBERS), 1),
        (10.0, 2.0),
    )
}

pub(crate) fn publish_paced_one(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 1 parked subscriber, one by one",
        "own with 0",
        "ns",
        paced(sampler, 1, 0),
        NO_BOUND,
    )
}

pub(crate) fn publish_paced_many(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 10,000 parked subscribers, one by one",
        "own with 1",
        "ns",
        paced(sampler, sampler.size(SUBSCRIBERS), 1),
        (10.0, 2.0),
    )
}

/// What other threads that loaded an `ArcSwap`, any, and still live, add to a
/// write, although they are parked.
pub(crate) fn cas_among_readers(sampler: &Sampler) -> Row {
    let mut alone = bare_swap();
    let mut among = bare_swap();
    let any = ArcSwap::from_pointee(0);
    let (ready, stop) = (Barrier::new(READERS + 1), Barrier::new(READERS + 1));
    let sample = thread::scope(|scope| {
        // Both sides see all threads, so the sides cannot be taken in turn.
        let baseline = sampler.pair(&mut alone, |n| _ = black_box(n));
        for _ in 0..READERS {
            scope.spawn(|| {
                black_box(**any.load());
                ready.wait();
                stop.wait();
            });
        }
        ready.wait();
        let ours = sampler.pair(&mut among, |n| _ = black_box(n));
        stop.wait();
        Sample {
            ours: ours.ours,
            baseline: baseline.ours,
            ratio: ours.ours / baseline.ours,
        }
    });
    row(
        "CAS alone, 64 other threads that read",
        "CAS alone, now",
        "ns",
        sample,
        NO_BOUND,
    )
}
