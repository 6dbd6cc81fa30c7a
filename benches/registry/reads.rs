//! Reading one state.

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicPtr, Ordering},
    },
    thread,
};

use super::{NO_BOUND, State, name, one, row};
use crate::{
    alloc,
    sampler::{Row, Sample, Sampler, cpu_time_of},
};

/// The limit: a bare pointer and one field behind it.
fn bare_read() -> impl FnMut(u64) {
    let state = Box::leak(Box::new(State::new(name(0))));
    let pointer: &'static AtomicPtr<State> = Box::leak(Box::new(AtomicPtr::new(state)));
    move |n| {
        for _ in 0..n {
            // SAFETY: the state is leaked, so the pointer stays valid.
            let state = unsafe { &*black_box(pointer).load(Ordering::Acquire) };
            black_box(state.hot[0]);
        }
    }
}

pub(crate) fn read_cached(sampler: &Sampler) -> Row {
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

pub(crate) fn read_peek(sampler: &Sampler) -> Row {
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

pub(crate) fn read_load(sampler: &Sampler) -> Row {
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

pub(crate) fn read_two_threads(sampler: &Sampler) -> Row {
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

pub(crate) fn allocations(sampler: &Sampler) -> Row {
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
