//! The models. Each is small enough to be run through every interleaving that
//! the checker distinguishes.

use std::process::Command;

use loom::{sync::Notify, thread};
use procession::domain::id::{ProcessName, Revision, Uid};

use super::{
    change::{Budget, Mode, Read},
    commit::Core,
    log::{Limits, Log},
    node::{Body, Node, Slot},
    wake::{Gate, Idle},
};
use crate::sync::{Arc, Ordering};

/// A counter: each commit adds one, so the value tells the version.
struct Count {
    name: ProcessName,
    value: i64,
}

impl Body for Count {
    fn name(&self) -> &ProcessName {
        &self.name
    }

    fn weight(&self) -> usize {
        1
    }
}

/// How often a thread is interrupted where it could go on, in models of three
/// threads; those of two are run without a bound.
const PREEMPTIONS_MAX: usize = 3;

/// One registered process, published at revision 1.
struct World {
    core: Core<Count>,
    slot: Arc<Slot<Count>>,
}

const WIDE: Budget = Budget {
    entries_max: usize::MAX,
    bytes_max: usize::MAX,
};

impl World {
    fn new() -> Self {
        let core = Core::new(Limits::default(), Revision::ZERO);
        let index = core.log.lock().base.allocate().unwrap();
        let body = Count {
            name: ProcessName::new("a").unwrap(),
            value: 1,
        };
        let node = Arc::new(Node::first(index, Uid::from_bytes([1; 16]), body, None));
        let slot = Arc::new(Slot::new(Arc::clone(&node)));
        core.publish(&slot, &node, true);
        Self { core, slot }
    }

    fn add_one(&self) -> Arc<Node<Count>> {
        self.core
            .commit(&self.slot, false, |node| Some(next(node)))
            .unwrap()
            .node
    }

    /// Checks that the log is versions 2, 3, ... at revisions 2, 3, ...
    fn check_changes(&self, after: i64) -> i64 {
        let read = self.core.log.lock().read(Mode::EveryChange, after, WIDE);
        let Read::Batch { to, changes, .. } = read else {
            panic!("nothing leaves the ring here");
        };
        for (change, expected) in changes.iter().zip(after + 1..) {
            assert_eq!(change.revision.get(), expected);
            assert_eq!(change.node.version(), expected, "out of order");
            assert_eq!(change.node.body().value, expected, "lost update");
        }
        assert!(self.core.head() >= to.get());
        to.get()
    }
}

fn next(node: &Node<Count>) -> Count {
    Count {
        name: node.body().name.clone(),
        value: node.body().value + 1,
    }
}

/// Runs `writers` threads of `write`, and `main` beside them.
fn model(writers: usize, write: fn(&World), main: impl Fn(&World) + Sync + Send + 'static) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = (writers > 1).then_some(PREEMPTIONS_MAX);
    checker.check(move || {
        let world = Arc::new(World::new());
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || write(&world))
            })
            .collect();
        main(&world);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A dispatcher that waits until it has seen `until`.
fn dispatch(world: &World, until: i64, look: fn(&World, &Gate) -> i64) {
    let notify = Arc::new(Notify::new());
    let waker = Arc::clone(&notify);
    let gate = world.core.add_gate(move || waker.notify());
    let mut cursor = 1;
    loop {
        let head = look(world, &gate);
        if cursor < head {
            cursor = world.check_changes(cursor);
        }
        if cursor == until {
            return;
        }
        notify.wait();
    }
}

fn look(world: &World, gate: &Gate) -> i64 {
    gate.clear();
    world.core.head()
}

fn write(world: &World) {
    let node = world.add_one();
    let revision = node.revision().get();
    assert_eq!(revision, node.version(), "published on return");
    assert!(world.core.head() >= revision, "read your writes");
}

fn write_twice(world: &World) {
    write(world);
    write(world);
}

#[test]
fn two_writers_and_a_reader() {
    model(2, write, |world| {
        let mut last = 1;
        for _ in 0..2 {
            let node = world.core.load(&world.slot);
            let revision = node.revision().get();
            assert!(revision >= last, "a reader never goes back");
            assert_eq!(revision, node.version(), "nothing unpublished is returned");
            assert!(
                world.core.head() >= revision,
                "head below a visible revision"
            );
            last = revision;
        }
        world.check_changes(1);
    });
}

#[test]
fn a_reader_that_does_not_help_sees_no_revision_above_the_head() {
    model(2, write, |world| {
        let revision = world.slot.load().revision().get();
        assert!(
            world.core.head() >= revision,
            "head below a visible revision"
        );
    });
}

#[test]
fn no_wake_up_is_lost() {
    model(1, write_twice, |world| dispatch(world, 3, look));
}

#[test]
fn no_wake_up_is_lost_with_two_writers() {
    model(2, write, |world| dispatch(world, 3, look));
}

#[test]
fn a_snapshot_is_a_cut() {
    model(2, write, |world| {
        let snapshot = world.core.snapshot();
        assert_eq!(snapshot.nodes.len(), 1);
        assert_eq!(snapshot.nodes[0].version(), snapshot.revision.get());
    });
}

// Negative models: what the invariants forbid, to prove that the models see it.

/// The gate is marked before the head is stored.
fn write_waking_early(world: &World) {
    let (current, node) = swap_in(world);
    let mut log = world.core.log.lock();
    Idle::mark(&log.lines).wake();
    let at = append(world, &mut log, &current, &node);
    world.core.head.store(at, Ordering::SeqCst);
    node.set_revision(at);
}

/// The revision becomes visible before the head.
fn write_head_late(world: &World) {
    let (current, node) = swap_in(world);
    let mut log = world.core.log.lock();
    let at = append(world, &mut log, &current, &node);
    node.set_revision(at);
    world.core.head.store(at, Ordering::SeqCst);
}

/// Appends its own node after the swap, and does not help.
fn write_not_helping(world: &World) {
    let (current, node) = swap_in(world);
    let mut log = world.core.log.lock();
    let at = append(world, &mut log, &current, &node);
    world.core.head.store(at, Ordering::SeqCst);
    node.set_revision(at);
}

fn append(
    world: &World,
    log: &mut Log<Count>,
    current: &Arc<Node<Count>>,
    node: &Arc<Node<Count>>,
) -> i64 {
    let previous = Some(Arc::clone(current));
    log.append(
        &world.slot,
        Arc::clone(node),
        previous,
        current.revision().get(),
    )
}

fn swap_in(world: &World) -> (Arc<Node<Count>>, Arc<Node<Count>>) {
    loop {
        let current = world.slot.load();
        let node = Arc::new(Node::after(Arc::clone(&current), next(&current), false));
        let newest = world.slot.newest();
        if newest.compare_exchange(Arc::as_ptr(&current), Arc::clone(&node)) {
            return (current, node);
        }
    }
}

fn look_then_clear(world: &World, gate: &Gate) -> i64 {
    let head = world.core.head();
    gate.clear();
    head
}

/// Name, what the checker must say, and the model.
const NEGATIVE: [(&str, &str, fn()); 4] = [
    ("wake before the head is stored", "deadlock", || {
        model(1, write_waking_early, |world| dispatch(world, 2, look));
    }),
    ("head read before the gate is cleared", "deadlock", || {
        model(1, write_twice, |world| dispatch(world, 3, look_then_clear));
    }),
    (
        "revision set before the head",
        "head below a visible",
        || {
            model(1, write_head_late, |world| {
                let revision = world.slot.load().revision().get();
                assert!(
                    world.core.head() >= revision,
                    "head below a visible revision"
                );
            });
        },
    ),
    (
        "notify after the swap, without helping",
        "out of order",
        || {
            model(2, write_not_helping, |world| {
                world.check_changes(1);
            });
        },
    ),
];

const WORKER: &str = "PROCESSION_NEGATIVE_MODEL";

/// Does nothing by itself: the body of one process of the test below.
#[test]
fn negative_model_worker() {
    let Ok(wanted) = std::env::var(WORKER) else {
        return;
    };
    for (name, _, run) in NEGATIVE {
        if name == wanted {
            run();
        }
    }
}

/// Each in a process of its own: the checker may abort where it finds a fault.
#[test]
fn negative_models_are_caught() {
    let this = std::env::current_exe().unwrap();
    for (name, expected, _) in NEGATIVE {
        let output = Command::new(&this)
            .args([
                "--exact",
                "registry::models::negative_model_worker",
                "--nocapture",
            ])
            .env(WORKER, name)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}: not caught");
        assert!(said.contains(expected), "{name}: caught otherwise: {said}");
    }
}
