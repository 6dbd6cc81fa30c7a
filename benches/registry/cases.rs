//! The cases: what is measured, and against what.

use std::{
    collections::HashMap,
    hint::{black_box, spin_loop},
    sync::{
        Arc, Barrier, RwLock,
        atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use arc_swap::ArcSwap;
use procession::{
    domain::id::{ProcessName, Revision, Uid},
    registry::{Body, Limits, Node, Registry, Slot},
};

use super::{
    alloc,
    sampler::{Row, Sample, Sampler, cpu_time_of},
    subscribers::Dispatcher,
};

/// 72 bytes of content: a name and a spec by reference, 48 hot bytes.
#[derive(Clone)]
pub(crate) struct State {
    name: ProcessName,
    spec: Arc<Spec>,
    hot: [u64; 6],
}

/// Shared and never copied.
struct Spec {
    _command: [u8; 256],
}

type Case = fn(&Sampler) -> Row;

pub(crate) const ALL: [Case; 15] = [
    read_cached,
    read_peek,
    read_load,
    read_two_threads,
    allocations,
    cas_alone,
    cas_and_publish,
    cas_and_publish_spread,
    publish_burst_one,
    publish_burst_many,
    publish_paced_one,
    publish_paced_many,
    look_up,
    list,
    memory,
];

const ENTRIES: usize = 10_000;
const SUBSCRIBERS: usize = 10_000;

// === impl State ===

impl State {
    fn new(name: ProcessName, spec: &Arc<Spec>) -> Self {
        Self {
            name,
            spec: Arc::clone(spec),
            hot: [1; 6],
        }
    }

    fn next(&self) -> Self {
        let mut next = self.clone();
        next.hot[0] += 1;
        next
    }
}

impl Body for State {
    fn name(&self) -> &ProcessName {
        &self.name
    }

    fn weight(&self) -> usize {
        160
    }
}

fn spec() -> Arc<Spec> {
    Arc::new(Spec { _command: [0; 256] })
}

fn name(n: usize) -> ProcessName {
    ProcessName::new(&format!("process-{n}")).expect("within the grammar")
}

fn uid(n: usize) -> Uid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Uid::from_bytes(bytes)
}

fn registry(entries: usize) -> Registry<State> {
    let registry = Registry::new(Limits::default(), Revision::ZERO);
    let spec = spec();
    for n in 0..entries {
        let created = registry.create(uid(n), State::new(name(n), &spec));
        assert!(created.is_ok());
    }
    registry
}

fn one() -> (Registry<State>, Arc<Slot<State>>) {
    let registry = registry(1);
    let slot = registry.slot("process-0").expect("just created");
    (registry, slot)
}

fn commit(registry: &Registry<State>, slot: &Arc<Slot<State>>) -> Arc<Node<State>> {
    let committed = registry.commit(slot, |node| Some(node.body().next()));
    committed.expect("nobody deletes it").node
}

const fn row(
    operation: &'static str,
    against: &'static str,
    unit: &'static str,
    sample: Sample,
    bounds: (f64, f64),
) -> Row {
    Row {
        operation,
        against,
        unit,
        sample,
        must: bounds.0,
        aim: bounds.1,
    }
}

const NO_BOUND: (f64, f64) = (f64::INFINITY, f64::INFINITY);

// Reads.

/// The limit: a bare pointer and one field behind it.
fn bare_read() -> impl FnMut(u64) {
    let state = Box::leak(Box::new(State::new(name(0), &spec())));
    let pointer: &'static AtomicPtr<State> = Box::leak(Box::new(AtomicPtr::new(state)));
    move |n| {
        for _ in 0..n {
            // SAFETY: the state is leaked, so the pointer stays valid.
            let state = unsafe { &*black_box(pointer).load(Ordering::Acquire) };
            black_box(state.hot[0]);
        }
    }
}

fn read_cached(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let mut cached = registry.cached(slot);
    let ours = |n| {
        for _ in 0..n {
            black_box(black_box(&mut cached).load().body().hot[0]);
        }
    };
    let sample = sampler.pair(ours, bare_read());
    let bounds = (4.0, 2.0);
    row(
        "read, cached handle, 1 thread",
        "AtomicPtr",
        "ns",
        sample,
        bounds,
    )
}

fn read_peek(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let ours = |n| {
        for _ in 0..n {
            black_box(registry.peek(black_box(&slot), |node| node.body().hot[0]));
        }
    };
    let sample = sampler.pair(ours, bare_read());
    row(
        "read, `ArcSwap::load` (peek)",
        "AtomicPtr",
        "ns",
        sample,
        (15.0, 10.0),
    )
}

fn read_load(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let ours = |n| {
        for _ in 0..n {
            black_box(registry.load(black_box(&slot)).body().hot[0]);
        }
    };
    let sample = sampler.pair(ours, bare_read());
    row(
        "read, `load_full` (load)",
        "AtomicPtr",
        "ns",
        sample,
        NO_BOUND,
    )
}

fn read_two_threads(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let read = |n: u64| {
        let mut cached = registry.cached(Arc::clone(&slot));
        cpu_time_of(|| {
            for _ in 0..n {
                black_box(black_box(&mut cached).load().body().hot[0]);
            }
        })
    };
    let mut two = |n: u64| {
        let start = Barrier::new(2);
        let run = || {
            start.wait();
            read(n)
        };
        thread::scope(|scope| {
            let other = scope.spawn(run);
            let own = run();
            (own + other.join().expect("does not panic")) / 2.0
        })
    };
    let sample = sampler.rounds(&mut two, &mut |n| read(n));
    row(
        "read, 2 threads, per thread",
        "own, 1 thread",
        "ns",
        sample,
        (1.5, 1.15),
    )
}

fn allocations(sampler: &Sampler) -> Row {
    let (registry, slot) = one();
    let mut cached = registry.cached(Arc::clone(&slot));
    let reads = sampler.size(100_000);
    let before = alloc::calls();
    for _ in 0..reads {
        black_box(cached.load().body().hot[0]);
        black_box(registry.peek(&slot, |node| node.body().hot[0]));
        black_box(registry.load(&slot).body().hot[0]);
        black_box(registry.get("process-0").map(|node| node.body().hot[0]));
    }
    let per_read = (alloc::calls() - before) as f64 / (4 * reads) as f64;
    let sample = Sample {
        ours: per_read,
        baseline: 0.0,
        ratio: per_read,
    };
    row(
        "allocations per read, all 4 ways",
        "none",
        "",
        sample,
        (0.0, 0.0),
    )
}

// Writes.

/// What a node has beside its body.
struct Swapped {
    state: State,
    _marks: [u64; 8],
}

/// The swap without a log: the same loop over the same amount of state.
fn bare_swap() -> impl FnMut(u64) {
    let swapped = |state| {
        Arc::new(Swapped {
            state,
            _marks: [1; 8],
        })
    };
    let cell = ArcSwap::new(swapped(State::new(name(0), &spec())));
    move |n| {
        for _ in 0..n {
            let current = cell.load_full();
            let next = swapped(current.state.next());
            let kept = Arc::clone(&next);
            let found = cell.compare_and_swap(&current, next);
            assert!(Arc::ptr_eq(&found, &current));
            black_box(kept);
        }
    }
}

fn cas_alone(sampler: &Sampler) -> Row {
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

fn cas_and_publish(sampler: &Sampler) -> Row {
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
fn cas_and_publish_spread(sampler: &Sampler) -> Row {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    let slots: Vec<_> = (0..entries)
        .filter_map(|n| registry.slot(name(n).as_str()))
        .collect();
    let spec = spec();
    let cells: Vec<_> = (0..entries)
        .map(|n| ArcSwap::from_pointee(State::new(name(n), &spec)))
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

// Subscribers.

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

fn publish_burst_one(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 1 parked subscriber, bursts",
        "own with 0",
        "ns",
        burst(sampler, 1, 0),
        NO_BOUND,
    )
}

fn publish_burst_many(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 10,000 parked subscribers, bursts",
        "own with 1",
        "ns",
        burst(sampler, sampler.size(SUBSCRIBERS), 1),
        (10.0, 2.0),
    )
}

fn publish_paced_one(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 1 parked subscriber, one by one",
        "own with 0",
        "ns",
        paced(sampler, 1, 0),
        NO_BOUND,
    )
}

fn publish_paced_many(sampler: &Sampler) -> Row {
    row(
        "CAS + publish, 10,000 parked subscribers, one by one",
        "own with 1",
        "ns",
        paced(sampler, sampler.size(SUBSCRIBERS), 1),
        (10.0, 2.0),
    )
}

// Many processes.

fn look_up(sampler: &Sampler) -> Row {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    let names: Vec<_> = (0..entries).map(name).collect();
    let spec = spec();
    let locked: RwLock<HashMap<_, _>> = RwLock::new(
        names
            .iter()
            .map(|name| (name.clone(), Arc::new(State::new(name.clone(), &spec))))
            .collect(),
    );
    let mut turn = 0;
    let ours = |n| {
        for _ in 0..n {
            turn = (turn + 7919) % entries;
            let node = registry.get(names[turn].as_str());
            black_box(node.map(|node| node.body().hot[0]));
        }
    };
    let mut turn = 0;
    let baseline = |n| {
        for _ in 0..n {
            turn = (turn + 7919) % entries;
            let map = locked.read().expect("nobody panics");
            let state = map.get(names[turn].as_str()).cloned();
            drop(map);
            black_box(state.map(|state| state.hot[0]));
        }
    };
    let sample = sampler.pair(ours, baseline);
    row(
        "lookup + read, 10,000 processes",
        "RwLock<HashMap>",
        "ns",
        sample,
        (1.2, 0.7),
    )
}

fn list(sampler: &Sampler) -> Row {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    let spec = spec();
    let dense: Vec<_> = (0..entries)
        .map(|n| Arc::new(State::new(name(n), &spec)))
        .collect();
    let ours = |n| {
        for _ in 0..n {
            let snapshot = registry.snapshot();
            let sum: u64 = snapshot.nodes.iter().map(|node| node.body().hot[0]).sum();
            assert_eq!(black_box(sum), entries as u64);
        }
    };
    let baseline = |n| {
        for _ in 0..n {
            let sum: u64 = black_box(&dense).iter().map(|state| state.hot[0]).sum();
            assert_eq!(black_box(sum), entries as u64);
        }
    };
    let mut sample = sampler.pair(ours, baseline);
    sample.ours /= entries as f64;
    sample.baseline /= entries as f64;
    row(
        "list per entry, 10,000 processes",
        "walk of Vec<Arc<_>>",
        "ns",
        sample,
        (5.0, 2.0),
    )
}

fn memory(sampler: &Sampler) -> Row {
    let entries = sampler.size(100_000);
    let before = alloc::bytes();
    let registry = registry(entries);
    // The sorted roster counts too.
    drop(registry.snapshot());
    let ours = (alloc::bytes() - before) as f64 / entries as f64;
    let baseline = size_of::<State>() as f64;
    let sample = Sample {
        ours,
        baseline,
        ratio: ours / baseline,
    };
    row(
        "memory per process, 100,000 idle, ring full",
        "content",
        "B",
        sample,
        (6.0, 3.0),
    )
}
