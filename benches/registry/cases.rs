//! The cases: what is measured, and against what.

mod population;
mod reads;
mod writes;

use std::sync::Arc;

use procession::{
    domain::id::{ProcessName, Revision, Uid},
    registry::{Body, Limits, Node, Registry, Slot},
};

use super::sampler::{Row, Sample, Sampler};

/// A never-copied spec by reference, and 48 hot bytes.
#[derive(Clone)]
pub(crate) struct State {
    spec: Arc<Spec>,
    hot: [u64; 6],
}

/// What is written once and never copied.
struct Spec {
    name: ProcessName,
}

type Case = fn(&Sampler) -> Row;

/// Writes first: each thread that ever read an `ArcSwap` makes every later write
/// dearer (`docs/atomic-state.md`), and the other cases start some.
pub(crate) const ALL: [Case; 17] = [
    writes::cas_alone,
    writes::cas_and_publish,
    writes::cas_and_publish_spread,
    reads::read_cached,
    reads::read_peek,
    reads::read_load,
    reads::allocations,
    population::look_up,
    population::list,
    population::list_bare,
    population::memory,
    reads::read_two_threads,
    writes::publish_burst_one,
    writes::publish_burst_many,
    writes::publish_paced_one,
    writes::publish_paced_many,
    writes::cas_among_readers,
];

const ENTRIES: usize = 10_000;

// === impl State ===

impl State {
    fn new(name: ProcessName) -> Self {
        Self {
            spec: Arc::new(Spec { name }),
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
        &self.spec.name
    }

    fn weight(&self) -> usize {
        160
    }
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
    for n in 0..entries {
        let created = registry.create(uid(n), State::new(name(n)));
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
