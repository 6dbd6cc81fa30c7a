//! Random histories against a list of changes.
//!
//! The model is the plain list of all changes ever made, so the state at any
//! revision is its replay. Readers of both modes keep a view and are checked at
//! every batch: what a change says was before is what they hold, and where a batch
//! is exact their view is the replay.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// One change as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    name: String,
    uid: Uid,
    version: i64,
    value: u64,
    deleted: bool,
}

/// Live processes by name.
type View = BTreeMap<String, Fact>;

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Commit(usize, u64),
    Keep(usize),
    Delete(usize),
    Read { reader: usize, budget: Budget },
    Resume { reader: usize, back: i64 },
    Snapshot,
}

struct Reader {
    mode: Mode,
    view: View,
    cursor: i64,
}

struct World {
    registry: Registry<Plain>,
    facts: Vec<Fact>,
    readers: [Reader; 2],
    floors: [i64; 2],
    next_uid: u8,
}

const FIRST: i64 = 1000;

fn fact(node: &Node<Plain>) -> Fact {
    Fact {
        name: node.body().name.to_string(),
        uid: node.uid(),
        version: node.version(),
        value: node.body().value,
        deleted: node.is_deleted(),
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        let reader = |mode| Reader {
            mode,
            view: View::new(),
            cursor: FIRST,
        };
        Self {
            registry: Registry::new(limits, Revision::new(FIRST)),
            facts: Vec::new(),
            readers: [reader(Mode::EveryChange), reader(Mode::LatestState)],
            floors: [FIRST; 2],
            next_uid: 0,
        }
    }

    fn head(&self) -> i64 {
        FIRST + self.facts.len() as i64
    }

    fn at(&self, revision: i64) -> View {
        let mut view = View::new();
        for fact in &self.facts[..(revision - FIRST) as usize] {
            match fact.deleted {
                true => drop(view.remove(&fact.name)),
                false => drop(view.insert(fact.name.clone(), fact.clone())),
            }
        }
        view
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Create(n) => self.create(&name(n)),
            Step::Commit(n, value) => self.change(&name(n), Some(value), false),
            Step::Keep(n) => self.change(&name(n), None, false),
            Step::Delete(n) => self.change(&name(n), Some(0), true),
            Step::Read { reader, budget } => self.read(reader, budget),
            Step::Resume { reader, back } => self.resume(reader, back),
            Step::Snapshot => self.snapshot(),
        }
        assert_eq!(self.registry.head().get(), self.head());
        for (floor, reader) in self.floors.iter_mut().zip(&self.readers) {
            let now = self.registry.oldest_resumable(reader.mode).get();
            assert!(now >= *floor, "a floor never falls");
            *floor = now;
        }
        assert!(self.floors[1] <= self.floors[0]);
    }

    fn create(&mut self, name: &str) {
        self.next_uid = self.next_uid.wrapping_add(1);
        let live = self.at(self.head()).contains_key(name);
        match self.registry.create(uid(self.next_uid), plain(name, 0)) {
            Ok(node) => {
                assert!(!live);
                assert_eq!((node.version(), node.uid()), (1, uid(self.next_uid)));
                self.record(&node);
            }
            Err(CreateError::Exists(node)) => {
                assert!(live);
                assert_eq!(Some(&fact(&node)), self.at(self.head()).get(name));
            }
            Err(CreateError::Full) => panic!("not at this size"),
        }
    }

    fn change(&mut self, name: &str, value: Option<u64>, delete: bool) {
        let live = self.at(self.head()).get(name).cloned();
        let found = self.registry.get(name).map(|node| fact(&node));
        assert_eq!(found, live);
        let Some(slot) = self.registry.slot(name) else {
            assert!(live.is_none());
            return;
        };
        let f = |_: &Node<Plain>| value.map(|value| plain(name, value));
        let result = match delete {
            true => self.registry.delete(&slot, f),
            false => self.registry.commit(&slot, f),
        };
        match result {
            Ok(done) => {
                let live = live.expect("only a live process changes");
                assert_eq!(done.changed, value.is_some());
                assert_eq!(done.node.version(), live.version + i64::from(done.changed));
                if done.changed {
                    self.record(&done.node);
                }
            }
            Err(error) => {
                assert_eq!(error, CommitError::Deleted);
                assert!(live.is_none());
            }
        }
    }

    fn record(&mut self, node: &Node<Plain>) {
        self.facts.push(fact(node));
        assert_eq!(node.revision().get(), self.head());
    }

    fn read(&mut self, index: usize, budget: Budget) {
        let (mode, after) = (self.readers[index].mode, self.readers[index].cursor);
        match self.registry.read(mode, Revision::new(after), budget) {
            Read::TooOld { oldest } => {
                assert!(after < oldest.get());
                assert_eq!(oldest.get(), self.floors[index]);
                self.resume(index, 0);
            }
            Read::Batch { to, exact, changes } => {
                let to = to.get();
                assert!(to > after || after == self.head(), "it advances");
                let weight: usize = changes.iter().map(|c| c.node.body().weight()).sum();
                assert!(changes.len() <= budget.entries_max);
                assert!(changes.len() <= 1 || weight <= budget.bytes_max);
                assert!(exact || (mode == Mode::LatestState && to < self.floors[0]));
                self.apply(index, to, &changes);
                if exact {
                    assert_eq!(self.readers[index].view, self.at(to), "at {to}");
                }
            }
        }
    }

    fn apply(&mut self, index: usize, to: i64, changes: &[Change<Plain>]) {
        let mut last = self.readers[index].cursor;
        for change in changes {
            let revision = change.revision.get();
            assert!(last < revision && revision <= to);
            last = revision;
            let told = fact(&change.node);
            assert_eq!(told, self.facts[(revision - FIRST - 1) as usize]);
            let held = self.readers[index].view.get(&told.name);
            let seen = held.filter(|held| held.uid == told.uid);
            let skipped = told.version - 1 - seen.map_or(0, |seen| seen.version);
            match &change.before {
                Before::Absent => assert_eq!(held, None),
                Before::State(node) => assert_eq!(held, Some(&fact(node))),
                Before::Unknown { created } => {
                    assert!(self.readers[index].cursor < self.floors[0]);
                    let first = &self.facts[(created.get() - FIRST - 1) as usize];
                    assert_eq!((first.uid, first.version), (told.uid, 1));
                }
            }
            if !matches!(change.before, Before::Unknown { .. }) {
                assert_eq!(change.skipped, skipped);
                let reader = &self.readers[index];
                assert!(reader.mode == Mode::LatestState || skipped == 0);
            }
            let view = &mut self.readers[index].view;
            match told.deleted {
                true => drop(view.remove(&told.name)),
                false => drop(view.insert(told.name.clone(), told)),
            }
        }
        self.readers[index].cursor = to;
    }

    /// As a new subscriber that holds the exact state of `back` changes ago.
    fn resume(&mut self, index: usize, back: i64) {
        let cursor = (self.head() - back).max(FIRST);
        self.readers[index].cursor = cursor;
        self.readers[index].view = self.at(cursor);
    }

    fn snapshot(&self) {
        let snapshot = self.registry.snapshot();
        assert_eq!(snapshot.revision.get(), self.head());
        let told: Vec<_> = snapshot.nodes.iter().map(|node| fact(node)).collect();
        let expected: Vec<_> = self.at(self.head()).into_values().collect();
        assert_eq!(told, expected, "live, and in order of name");
    }
}

fn name(n: usize) -> String {
    // Not in order of creation.
    ["m", "c", "x", "a", "t", "f"][n].into()
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0_usize..6;
    prop_oneof![
        4 => n.clone().prop_map(Step::Create),
        6 => (n.clone(), 1_u64..1000).prop_map(|(n, value)| Step::Commit(n, value)),
        1 => n.clone().prop_map(Step::Keep),
        3 => n.prop_map(Step::Delete),
        5 => (0_usize..2, 1_usize..6, 1_usize..3000).prop_map(|(reader, entries_max, bytes_max)| {
            Step::Read { reader, budget: Budget { entries_max, bytes_max } }
        }),
        1 => (0_usize..2, 0_i64..40).prop_map(|(reader, back)| Step::Resume { reader, back }),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_the_model(
        ring_entries_max in 1_usize..20,
        ring_bytes_max in 1_usize..4000,
        tombstones_max in 0_usize..4,
        steps in vec(step(), 1..120),
    ) {
        let mut world = World::new(Limits { ring_entries_max, ring_bytes_max, tombstones_max });
        for step in &steps {
            world.step(step);
        }
        for index in 0..2 {
            // Not more rounds than it may take: a reader that stands still hangs.
            for _ in 0..200 {
                world.read(index, Budget { entries_max: 3, ..WIDE });
            }
            prop_assert_eq!(world.readers[index].cursor, world.head());
        }
    }
}
