//! Many processes: finding one, listing all, and what one costs.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Arc, RwLock},
};

use procession::{
    domain::id::{ProcessName, Revision},
    registry::{Body, Limits, Registry},
};

use super::{ENTRIES, NO_BOUND, State, name, registry, row, uid};
use crate::{
    alloc,
    sampler::{Row, Sample, Sampler},
};

pub(crate) fn look_up(sampler: &Sampler) -> Row {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    // As asked for: not the text that either map holds.
    let names: Vec<_> = (0..entries).map(name).collect();
    let locked: RwLock<HashMap<_, _>> = RwLock::new(
        (0..entries)
            .map(|n| {
                let state = State::new(name(n));
                (state.name().clone(), Arc::new(state))
            })
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

/// Against a list that takes a reference of each entry too, as an answer has to
/// that is sent while the registry goes on.
pub(crate) fn list(sampler: &Sampler) -> Row {
    let dense = dense(sampler);
    let sample = list_against(sampler, |n| {
        for _ in 0..n {
            let taken = black_box(&dense).clone();
            let sum: u64 = taken.iter().map(|state| state.hot[0]).sum();
            assert_eq!(black_box(sum), dense.len() as u64);
        }
    });
    row(
        "list per entry, 10,000 processes",
        "copy and walk of Vec<Arc<_>>",
        "ns",
        sample,
        (5.0, 2.0),
    )
}

/// Against a walk that takes nothing and hence holds up writers.
pub(crate) fn list_bare(sampler: &Sampler) -> Row {
    let dense = dense(sampler);
    let sample = list_against(sampler, |n| {
        for _ in 0..n {
            let sum: u64 = black_box(&dense).iter().map(|state| state.hot[0]).sum();
            assert_eq!(black_box(sum), dense.len() as u64);
        }
    });
    row(
        "list per entry, 10,000 processes",
        "walk of Vec<Arc<_>> in place",
        "ns",
        sample,
        NO_BOUND,
    )
}

fn dense(sampler: &Sampler) -> Vec<Arc<State>> {
    (0..sampler.size(ENTRIES))
        .map(|n| Arc::new(State::new(name(n))))
        .collect()
}

fn list_against(sampler: &Sampler, baseline: impl FnMut(u64)) -> Sample {
    let entries = sampler.size(ENTRIES);
    let registry = registry(entries);
    let ours = |n| {
        for _ in 0..n {
            let snapshot = registry.snapshot();
            let sum: u64 = snapshot.nodes.iter().map(|node| node.body().hot[0]).sum();
            assert_eq!(black_box(sum), entries as u64);
        }
    };
    let mut sample = sampler.pair(ours, baseline);
    sample.ours /= entries as f64;
    sample.baseline /= entries as f64;
    sample
}

/// 72 bytes of content: a name of its own, a spec that all share, 48 hot bytes.
struct Idle {
    name: ProcessName,
    _spec: Arc<[u8; 256]>,
    _hot: [u64; 6],
}

impl Body for Idle {
    fn name(&self) -> &ProcessName {
        &self.name
    }

    fn weight(&self) -> usize {
        160
    }
}

/// With the text of the name, the map, the ring and the sorted roster.
pub(crate) fn memory(sampler: &Sampler) -> Row {
    let entries = sampler.size(100_000);
    let spec = Arc::new([0; 256]);
    let before = alloc::bytes();
    let registry = Registry::new(Limits::default(), Revision::ZERO);
    for n in 0..entries {
        let idle = Idle {
            name: name(n),
            _spec: Arc::clone(&spec),
            _hot: [1; 6],
        };
        assert!(registry.create(uid(n), idle).is_ok());
    }
    drop(registry.snapshot());
    let ours = (alloc::bytes() - before) as f64 / entries as f64;
    let baseline = size_of::<Idle>() as f64;
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
