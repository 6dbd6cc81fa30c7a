//! Tests of the registry: single promises here, random histories in `model`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::domain::id::ProcessName;

mod model;
mod restore;

/// A body with nothing but a number.
#[derive(Debug, Clone)]
struct Plain {
    name: ProcessName,
    value: u64,
    /// To count how many bodies live.
    held: Option<Arc<()>>,
}

impl Body for Plain {
    fn name(&self) -> &ProcessName {
        &self.name
    }

    /// 100 for small values, so that a test can count on it.
    fn weight(&self) -> usize {
        self.value.max(100) as usize
    }
}

const WIDE: Budget = Budget {
    entries_max: usize::MAX,
    bytes_max: usize::MAX,
};

fn registry(ring_entries_max: usize, tombstones_max: usize) -> Registry<Plain> {
    let limits = Limits {
        ring_entries_max,
        tombstones_max,
        ..Limits::default()
    };
    Registry::new(limits, Revision::ZERO)
}

fn plain(name: &str, value: u64) -> Plain {
    Plain {
        name: ProcessName::new(name).unwrap(),
        value,
        held: None,
    }
}

fn uid(n: u8) -> Uid {
    Uid::from_bytes([n; 16])
}

fn set(registry: &Registry<Plain>, name: &str, value: u64) -> Arc<Node<Plain>> {
    let slot = registry.slot(name).unwrap();
    let next = |node: &Node<Plain>| Some(plain(node.body().name.as_str(), value));
    registry.commit(&slot, next).unwrap().node
}

fn delete(registry: &Registry<Plain>, name: &str) -> Arc<Node<Plain>> {
    let slot = registry.slot(name).unwrap();
    let last = |node: &Node<Plain>| Some(node.body().clone());
    registry.delete(&slot, last).unwrap().node
}

/// What a wide read returns.
fn changes(registry: &Registry<Plain>, mode: Mode, after: i64) -> Vec<Change<Plain>> {
    match registry.read(mode, Revision::new(after), WIDE) {
        Read::Batch { to, exact, changes } => {
            assert_eq!((to, exact), (registry.head(), true));
            changes
        }
        Read::TooOld { oldest } => panic!("too old, oldest is {oldest}"),
    }
}

#[test]
fn a_name_lives_through_two_incarnations() {
    let registry = registry(16, 4);
    let first = registry.create(uid(1), plain("web", 1)).unwrap();
    assert_eq!((first.version(), first.revision().get()), (1, 1));
    let Err(CreateError::Exists(found)) = registry.create(uid(2), plain("web", 9)) else {
        panic!("created twice");
    };
    assert!(Arc::ptr_eq(&found, &first));

    let second = set(&registry, "web", 2);
    assert_eq!((second.version(), second.revision().get()), (2, 2));
    let slot = registry.slot("web").unwrap();
    let kept = registry.commit(&slot, |_| None).unwrap();
    assert!(!kept.changed);
    assert_eq!((kept.node.version(), registry.head().get()), (2, 2));

    let tombstone = delete(&registry, "web");
    assert!(tombstone.is_deleted());
    assert_eq!((tombstone.version(), tombstone.body().value), (3, 2));
    assert!(registry.get("web").is_none());
    let refused = registry.commit(&slot, |_| panic!("called on a tombstone"));
    assert_eq!(refused.unwrap_err(), CommitError::Deleted);

    let again = registry.create(uid(2), plain("web", 3)).unwrap();
    assert_eq!((again.version(), again.revision().get()), (1, 4));
    assert_eq!(registry.get("web").unwrap().uid(), uid(2));
    assert_eq!(registry.load(&slot).uid(), uid(2));
}

#[test]
fn every_change_has_its_predecessor() {
    let registry = registry(16, 4);
    registry.create(uid(1), plain("a", 1)).unwrap();
    set(&registry, "a", 2);
    delete(&registry, "a");
    registry.create(uid(2), plain("a", 4)).unwrap();
    let told: Vec<_> = changes(&registry, Mode::EveryChange, 0)
        .iter()
        .map(|change| match &change.before {
            Before::Absent => None,
            Before::State(node) => Some(node.body().value),
            Before::Unknown { .. } => panic!("in the ring"),
        })
        .collect();
    assert_eq!(told, [None, Some(1), Some(2), None]);
}

#[test]
fn latest_state_merges_and_counts() {
    let registry = registry(16, 4);
    registry.create(uid(1), plain("a", 1)).unwrap();
    registry.create(uid(2), plain("b", 1)).unwrap();
    for value in 2..=4 {
        set(&registry, "a", value);
    }
    registry.create(uid(3), plain("gone", 1)).unwrap();
    delete(&registry, "gone");
    let told = changes(&registry, Mode::LatestState, 2);
    assert_eq!(told.len(), 1, "created and deleted within: nothing to tell");
    assert_eq!((told[0].revision.get(), told[0].skipped), (5, 2));
    assert!(matches!(&told[0].before, Before::State(node) if node.body().value == 1));
}

#[test]
fn latest_state_outlives_the_ring_and_tombstones_bound_it() {
    let registry = registry(2, 1);
    for (n, name) in (1..).zip(["a", "b", "c"]) {
        registry.create(uid(n), plain(name, 0)).unwrap();
    }
    delete(&registry, "a");
    set(&registry, "b", 1);
    set(&registry, "b", 2);
    // The base: c at 3, the tombstone of a at 4; the ring: b at 5 and 6.
    assert_eq!(registry.oldest_resumable(Mode::EveryChange).get(), 4);
    assert_eq!(registry.oldest_resumable(Mode::LatestState).get(), 0);
    let Read::Batch { to, exact, changes } =
        registry.read(Mode::LatestState, Revision::new(2), WIDE)
    else {
        panic!("c and a are missed, both are known");
    };
    assert_eq!((to.get(), exact), (4, true));
    let names: Vec<_> = changes
        .iter()
        .map(|c| c.node.body().name.as_str())
        .collect();
    assert_eq!(names, ["c", "a"]);
    assert!(matches!(changes[1].before, Before::Unknown { created } if created.get() == 1));

    let slot = registry.slot("a").unwrap();
    delete(&registry, "b");
    set(&registry, "c", 1);
    set(&registry, "c", 2);
    assert_eq!(registry.oldest_resumable(Mode::LatestState).get(), 4);
    assert!(matches!(
        registry.read(Mode::LatestState, Revision::new(3), WIDE),
        Read::TooOld { oldest } if oldest.get() == 4
    ));
    assert!(registry.slot("a").is_none(), "purged");
    let refused = registry.commit(&slot, |_| panic!("called on a closed slot"));
    assert_eq!(refused.unwrap_err(), CommitError::Closed);
    assert_eq!(registry.create(uid(9), plain("a", 0)).unwrap().version(), 1);
}

/// Names that come and go leave nothing behind: slots are reused and the roster is
/// swept, with and without snapshots in between.
#[test]
fn names_that_go_leave_nothing_behind() {
    let registry = registry(4, 2);
    let gone = Arc::new(());
    registry.create(uid(1), plain("stays", 0)).unwrap();
    for n in 0..3000 {
        let name = format!("n{n}");
        registry.create(uid(2), plain(&name, 0)).unwrap();
        let slot = registry.slot(&name).unwrap();
        let held = Arc::clone(&gone);
        registry
            .delete(&slot, |node| {
                let mut last = node.body().clone();
                last.held = Some(Arc::clone(&held));
                Some(last)
            })
            .unwrap();
        if n % 500 == 0 {
            assert_eq!(registry.snapshot().nodes.len(), 1);
        }
    }
    let kept = Arc::strong_count(&gone) - 1;
    assert!(kept < 500, "{kept} of 3000 tombstones are kept");
    let last = registry.create(uid(3), plain("last", 0)).unwrap();
    assert!(last.slot() < 20, "slot numbers are reused");
}

#[test]
fn ring_is_bounded_by_bytes() {
    let limits = Limits {
        ring_bytes_max: 1000,
        ..Limits::default()
    };
    let registry = Registry::new(limits, Revision::new(70));
    registry.create(uid(1), plain("a", 0)).unwrap();
    for value in 1..100 {
        set(&registry, "a", value);
    }
    // 100 bytes for a state and 100 for the one before it.
    assert_eq!(registry.head().get(), 170);
    assert_eq!(registry.oldest_resumable(Mode::EveryChange).get(), 165);
}

#[test]
fn gate_wakes_once_until_it_is_cleared() {
    let registry = registry(16, 4);
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let gate = registry.add_gate(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    registry.create(uid(1), plain("a", 0)).unwrap();
    set(&registry, "a", 1);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    gate.clear();
    set(&registry, "a", 2);
    assert_eq!(woken.load(Ordering::Relaxed), 2);
    gate.clear();
    drop(gate);
    set(&registry, "a", 3);
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}

/// Another writer is first, and puts back an equal state: equal is not the same,
/// so the function runs again on what is there now. It also shows that nothing
/// is locked while the function runs.
#[test]
fn a_lost_race_runs_the_function_again() {
    let registry = registry(16, 4);
    registry.create(uid(1), plain("a", 1)).unwrap();
    let slot = registry.slot("a").unwrap();
    let mut seen = Vec::new();
    let done = registry.commit(&slot, |node| {
        seen.push((node.version(), node.body().value));
        if seen.len() == 1 {
            set(&registry, "a", 7);
            set(&registry, "a", 1);
        }
        Some(plain("a", node.body().value + 1))
    });
    assert_eq!(done.unwrap().node.version(), 4);
    assert_eq!(seen, [(1, 1), (3, 1)]);
    assert_eq!(registry.stats().cas_retries, 1);
}

#[test]
fn a_panic_in_the_function_changes_nothing() {
    let registry = registry(16, 4);
    registry.create(uid(1), plain("a", 0)).unwrap();
    let slot = registry.slot("a").unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        registry.commit(&slot, |_| panic!("in the caller's function"))
    }));
    assert!(unwound.is_err());
    assert_eq!(set(&registry, "a", 1).revision().get(), 2);
}

/// A state that its writer swapped in and did not publish is published by
/// whoever meets it, by each way of meeting it.
#[test]
fn whoever_meets_an_unpublished_state_publishes_it() {
    type Meet = fn(&Registry<Plain>, &Arc<Slot<Plain>>);
    let ways: [(&str, Meet); 6] = [
        ("get", |registry, _| drop(registry.get("a"))),
        ("load", |registry, slot| drop(registry.load(slot))),
        ("snapshot", |registry, _| drop(registry.snapshot())),
        ("create", |registry, _| {
            assert!(registry.create(uid(2), plain("a", 5)).is_err());
        }),
        ("commit of nothing", |registry, slot| {
            assert!(!registry.commit(slot, |_| None).unwrap().changed);
        }),
        ("commit", |registry, slot| {
            let next = |node: &Node<Plain>| Some(node.body().clone());
            assert_eq!(registry.commit(slot, next).unwrap().node.version(), 4);
        }),
    ];
    for (way, meet) in ways {
        let registry = registry(16, 4);
        registry.create(uid(1), plain("a", 1)).unwrap();
        let slot = registry.slot("a").unwrap();
        let mut cached = registry.cached(Arc::clone(&slot));
        for value in 2..=3 {
            let current = slot.load();
            let place = Arc::as_ptr(&current);
            let node = Arc::new(Node::after(current, plain("a", value), false));
            assert!(slot.newest().compare_exchange(place, node));
        }
        assert_eq!(registry.head().get(), 1, "{way}");
        meet(&registry, &slot);
        let told = changes(&registry, Mode::EveryChange, 1);
        let versions: Vec<_> = told.iter().map(|change| change.node.version()).collect();
        assert_eq!(versions[..2], [2, 3], "{way}");
        assert_eq!(told[1].node.revision().get(), 3, "{way}");
        assert_eq!(registry.stats().publish_helped, 2, "{way}");
        assert_eq!(cached.load().revision(), registry.head(), "{way}");
    }
}

#[test]
fn dropping_a_long_history_does_not_recurse() {
    let registry = registry(4, 4);
    registry.create(uid(1), plain("a", 0)).unwrap();
    let mut oldest = None;
    for value in 1..=200_000 {
        let node = set(&registry, "a", value);
        oldest.get_or_insert(node);
    }
    // If nodes were linked, this would end a chain of 200,000.
    drop((registry, oldest));
}
