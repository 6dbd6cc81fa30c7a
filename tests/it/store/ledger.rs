//! What was said to a store, and what a store may therefore hold after a crash:
//! of every process what was acknowledged last, or something said later; never
//! older, never mixed.

use std::{collections::BTreeMap, sync::Arc};

use procession::{
    domain::{id::Revision, status::Desired},
    store::{Intent, Observation, Recovered, Stored, Wish},
};

use super::support::{by, gone, named, seen, spec, uid};

/// One thing that happens to one of a few names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A new configuration; creates the process if there is none.
    Put(usize, bool),
    /// Another desired state.
    Want(usize, bool),
    /// It changed.
    Change(usize),
    /// It is deleted, and seen to be gone.
    Delete(usize),
}

/// Names that steps are about.
pub(super) const NAMES: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    lives: BTreeMap<u64, Life>,
    /// The newest incarnation of each name.
    newest: [Option<u64>; NAMES],
    incarnations: u64,
    pub(super) revision: i64,
}

#[derive(Debug)]
struct Life {
    name: usize,
    wants: Vec<Want>,
    /// Of `wants`, how many are known to be recorded.
    acked: usize,
    /// Version, revision and whether it was the tombstone.
    seen: Vec<(i64, i64, bool)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Want {
    generation: i64,
    desired: Desired,
    /// Tells this want from every other.
    cause: String,
}

/// What a step says to the store.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) intent: Option<(Intent, Ticket)>,
    /// To be told once the intent is acknowledged.
    pub(super) seen: Vec<Observation>,
}

/// Stands for an intent that may be acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    number: u64,
    wants: usize,
}

/// What is known to be recorded at an instant.
#[derive(Debug, Clone)]
pub(super) struct Known {
    acked: BTreeMap<u64, usize>,
    durable: i64,
}

// === impl Ledger ===

impl Ledger {
    /// Takes a step; nothing to say if it makes no sense now.
    pub(super) fn say(&mut self, step: Step) -> Said {
        match step {
            Step::Put(name, running) => self.put(name, running),
            Step::Want(name, running) => {
                let desired = if running {
                    Desired::Running
                } else {
                    Desired::Stopped
                };
                let Some(number) = self.live(name) else {
                    return Said::default();
                };
                let generation = self.lives[&number].wants.last().unwrap().generation;
                self.want(number, generation, desired)
            }
            Step::Change(name) => {
                let Some(number) = self.live(name) else {
                    return Said::default();
                };
                let seen = vec![self.observe(number, false)];
                Said { intent: None, seen }
            }
            Step::Delete(name) => {
                let Some(number) = self.live(name) else {
                    return Said::default();
                };
                let generation = self.lives[&number].wants.last().unwrap().generation;
                let mut said = self.want(number, generation, Desired::Deleted);
                said.seen.push(self.observe(number, true));
                said
            }
        }
    }

    pub(super) fn ack(&mut self, ticket: Ticket) {
        let life = self.lives.get_mut(&ticket.number).unwrap();
        life.acked = life.acked.max(ticket.wants);
    }

    pub(super) fn known(&self, durable: Revision) -> Known {
        let acked = self
            .lives
            .iter()
            .map(|(number, life)| (*number, life.acked));
        Known {
            acked: acked.collect(),
            durable: durable.get(),
        }
    }

    /// Whether a store with `found` in it keeps what was promised.
    pub(super) fn check(&self, found: &Recovered, known: &Known) -> Result<(), String> {
        if let Some(reason) = &found.read_only {
            return Err(format!("it is read-only: {reason}"));
        }
        if found.durable_revision.get() < known.durable {
            return Err(format!(
                "durable {}, was {}",
                found.durable_revision, known.durable
            ));
        }
        let live = found.processes.iter().map(|stored| (stored, false));
        let dead = found.tombstones.iter().map(|stored| (stored, true));
        let mut there = BTreeMap::new();
        for (stored, deleted) in live.chain(dead) {
            let number = self.number(stored)?;
            let life = &self.lives[&number];
            if let Some(other) = there.insert(life.name, number) {
                return Err(format!("{number} and {other} have one name"));
            }
            let durable = known.durable.max(found.durable_revision.get());
            let acked = known.acked.get(&number).copied().unwrap_or(0);
            life.check(number, stored, deleted, acked, durable)
                .map_err(|error| format!("process {number}: {error}"))?;
        }
        for (number, acked) in &known.acked {
            let newer = there.get(&self.lives[number].name);
            if *acked > 0 && newer.is_none_or(|newer| newer < number) {
                return Err(format!("process {number} is lost"));
            }
        }
        Ok(())
    }

    /// Whether all that `found` has was said at some time, each as a whole.
    pub(super) fn check_part(&self, found: &Recovered) -> Result<(), String> {
        let nothing = Known {
            acked: BTreeMap::new(),
            durable: 0,
        };
        let part = Recovered {
            read_only: None,
            durable_revision: Revision::ZERO,
            ..found.clone()
        };
        self.check(&part, &nothing)
    }

    /// The ledger of a store that begins with `found`, and what its daemon tells
    /// first: states that are newer than what is known to be recorded are told as
    /// new changes.
    pub(super) fn of(found: &Recovered, before: &Self) -> (Self, Vec<Observation>) {
        let mut ledger = Self {
            incarnations: before.incarnations,
            revision: found.durable_revision.get(),
            ..Self::default()
        };
        let mut again = Vec::new();
        for stored in found.processes.iter().chain(&found.tombstones) {
            let number = before.number(stored).unwrap();
            let name = before.lives[&number].name;
            let observed = stored.observed.as_ref();
            let deleted = found.tombstones.contains(stored);
            let life = Life {
                name,
                wants: vec![Want::of(stored)],
                acked: 1,
                seen: observed
                    .map(|seen| (seen.version, seen.revision.get(), deleted))
                    .into_iter()
                    .collect(),
            };
            ledger.newest[name] = Some(number);
            ledger.lives.insert(number, life);
            if stored.revision() > found.durable_revision {
                again.push((number, deleted));
            }
        }
        let again = again
            .into_iter()
            .map(|(number, deleted)| ledger.observe(number, deleted));
        let again = again.collect();
        (ledger, again)
    }

    fn put(&mut self, name: usize, running: bool) -> Said {
        let desired = if running {
            Desired::Running
        } else {
            Desired::Stopped
        };
        if let Some(number) = self.live(name) {
            let generation = self.lives[&number].wants.last().unwrap().generation;
            return self.want(number, generation + 1, desired);
        }
        self.incarnations += 1;
        let number = self.incarnations;
        self.newest[name] = Some(number);
        let life = Life {
            name,
            wants: Vec::new(),
            acked: 0,
            seen: Vec::new(),
        };
        self.lives.insert(number, life);
        let mut said = self.want(number, 1, desired);
        said.seen.push(self.observe(number, false));
        said
    }

    fn want(&mut self, number: u64, generation: i64, desired: Desired) -> Said {
        let life = self.lives.get_mut(&number).unwrap();
        let cause = format!("{number}/{}", life.wants.len());
        let edits = life
            .wants
            .last()
            .is_none_or(|last| last.generation != generation);
        life.wants.push(Want {
            generation,
            desired,
            cause: cause.clone(),
        });
        let mut spec = spec(number, generation);
        spec.name = named(&format!("name-{}", life.name));
        let wish = if edits {
            Wish::Put {
                spec: Arc::new(spec),
                desired,
            }
        } else {
            Wish::Desired(desired)
        };
        let intent = Intent {
            uid: uid(number),
            wish,
            number: 0,
            begin: false,
            instead_of: 0,
            cause: by(&cause),
            request: None,
        };
        let wants = life.wants.len();
        Said {
            intent: Some((intent, Ticket { number, wants })),
            seen: Vec::new(),
        }
    }

    fn observe(&mut self, number: u64, deleted: bool) -> Observation {
        self.revision += 1;
        let life = self.lives.get_mut(&number).unwrap();
        let version = life.seen.last().map_or(0, |last| last.0) + 1;
        life.seen.push((version, self.revision, deleted));
        match deleted {
            true => gone(number, version, self.revision),
            false => seen(number, version, self.revision),
        }
    }

    /// The incarnation that has `name` and is not to be deleted.
    fn live(&self, name: usize) -> Option<u64> {
        let number = self.newest[name]?;
        let want = self.lives[&number].wants.last()?;
        (want.desired != Desired::Deleted).then_some(number)
    }

    fn number(&self, stored: &Stored) -> Result<u64, String> {
        let found = self.lives.keys().find(|number| uid(**number) == stored.uid);
        found
            .copied()
            .ok_or_else(|| format!("nobody said {}", stored.uid))
    }
}

// === impl Life ===

impl Life {
    fn check(
        &self,
        number: u64,
        stored: &Stored,
        deleted: bool,
        acked: usize,
        durable: i64,
    ) -> Result<(), String> {
        let want = Want::of(stored);
        let later = &self.wants[acked.saturating_sub(1)..];
        if !later.contains(&want) {
            return Err(format!("{want:?} is none of {later:?}"));
        }
        let mut expected = spec(number, want.generation);
        expected.name = named(&format!("name-{}", self.name));
        if stored.spec != expected {
            return Err(format!("{:?} is not {expected:?}", stored.spec));
        }
        let due = self.seen.iter().rev().find(|seen| seen.1 <= durable);
        let Some(observed) = &stored.observed else {
            return due.map_or(Ok(()), |due| Err(format!("{due:?} is lost")));
        };
        let revision = observed.revision.get();
        let told = (observed.version, revision, deleted);
        if !self.seen.contains(&told) || due.is_some_and(|due| due.1 > revision) {
            return Err(format!("{told:?}, due {due:?}, of {:?}", self.seen));
        }
        let expected = seen(number, observed.version, revision);
        let same = observed.status == expected.status
            && observed.cause == expected.cause
            && observed.time == expected.time;
        same.then_some(())
            .ok_or_else(|| format!("mixed: {observed:?}"))
    }
}

// === impl Want ===

impl Want {
    fn of(stored: &Stored) -> Self {
        let caller = stored.intent_cause.caller.as_ref();
        Self {
            generation: stored.spec.generation,
            desired: stored.desired,
            cause: caller.map_or_else(String::new, |caller| caller.principal.to_string()),
        }
    }
}
