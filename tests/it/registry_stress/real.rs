//! The registry itself.

use std::thread;

use procession::{
    domain::id::{ProcessName, Revision, Uid},
    registry::{Body, Budget, CreateError, Gate, Limits, Mode, Node, Read, Registry},
};

use super::run::{Batch, Seen, Store, View, Waiter};

pub(crate) struct Real {
    registry: Registry<State>,
}

/// Fields that are written together; a torn read would show.
struct State {
    name: ProcessName,
    value: i64,
    negated: i64,
}

struct Parked {
    gate: Gate,
}

impl Body for State {
    fn name(&self) -> &ProcessName {
        &self.name
    }

    fn weight(&self) -> usize {
        100
    }
}

impl State {
    fn new(name: usize, value: i64) -> Self {
        Self {
            name: ProcessName::new(&text(name)).unwrap(),
            value,
            negated: !value,
        }
    }

    fn next(node: &Node<Self>) -> Option<Self> {
        let body = node.body();
        Some(Self {
            name: body.name.clone(),
            value: body.value + 1,
            negated: !(body.value + 1),
        })
    }
}

fn text(name: usize) -> String {
    format!("n{name:03}")
}

fn seen(node: &Node<State>) -> Seen {
    let body = node.body();
    assert_eq!(body.value, !body.negated, "torn");
    assert_eq!(body.value, node.version(), "a lost update");
    let bytes = node.uid().to_string();
    Seen {
        name: body.name.as_str()[1..].parse().unwrap(),
        uid: u64::from_str_radix(&bytes[..8], 16).unwrap(),
        version: node.version(),
        revision: node.revision().get(),
        deleted: node.is_deleted(),
    }
}

impl Real {
    pub(crate) fn new(ring_entries_max: usize) -> Self {
        let limits = Limits {
            ring_entries_max,
            tombstones_max: 3,
            ..Limits::default()
        };
        Self {
            registry: Registry::new(limits, Revision::ZERO),
        }
    }
}

impl Store for Real {
    fn create(&self, name: usize, uid: u64) -> Result<Seen, Seen> {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&u32::try_from(uid).unwrap().to_be_bytes());
        let created = self
            .registry
            .create(Uid::from_bytes(bytes), State::new(name, 1));
        match created {
            Ok(node) => Ok(seen(&node)),
            Err(CreateError::Exists(node)) => Err(seen(&node)),
            Err(CreateError::Full) => panic!("not at this size"),
        }
    }

    fn commit(&self, name: usize) -> Option<Seen> {
        let slot = self.registry.slot(&text(name))?;
        let committed = self.registry.commit(&slot, State::next).ok()?;
        Some(seen(&committed.node))
    }

    fn delete(&self, name: usize) -> Option<Seen> {
        let slot = self.registry.slot(&text(name))?;
        let committed = self.registry.delete(&slot, State::next).ok()?;
        Some(seen(&committed.node))
    }

    fn get(&self, name: usize) -> Option<Seen> {
        self.registry.get(&text(name)).map(|node| seen(&node))
    }

    fn head(&self) -> i64 {
        self.registry.head().get()
    }

    fn snapshot(&self) -> (i64, View) {
        let snapshot = self.registry.snapshot();
        let nodes = snapshot.nodes.iter().map(|node| seen(node));
        let view: View = nodes.map(|seen| (seen.name, seen)).collect();
        assert_eq!(view.len(), snapshot.nodes.len(), "a name comes once");
        (snapshot.revision.get(), view)
    }

    fn read(&self, mode: Mode, after: i64) -> Batch {
        let budget = Budget {
            entries_max: 50,
            bytes_max: usize::MAX,
        };
        match self.registry.read(mode, Revision::new(after), budget) {
            Read::Batch { to, exact, changes } => Batch::Changes {
                to: to.get(),
                exact,
                changes: changes.iter().map(|change| seen(&change.node)).collect(),
            },
            Read::TooOld { .. } => Batch::TooOld,
        }
    }

    fn waiter(&self) -> Box<dyn Waiter> {
        let reader = thread::current();
        Box::new(Parked {
            gate: self.registry.add_gate(move || reader.unpark()),
        })
    }
}

impl Waiter for Parked {
    fn before_look(&self) {
        self.gate.clear();
    }

    fn wait(&self) {
        thread::park();
    }
}
