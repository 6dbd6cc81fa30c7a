//! Reads everything that a database holds.
//!
//! Every row that can be read is used, every one that cannot is told. Whether what
//! is missing makes the store read-only is decided by `database`.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{
    Codec, Damage, Observed, Options, Recovered, Stored,
    rows::{self, EpochRow, Meta, ProcessRow, SpecRow, StateRow},
    salvage::{Found, Table},
};
use crate::domain::{
    id::{ProcessName, Revision},
    spec::Spec,
    time::Timestamp,
};

const META: Table = Table {
    name: "meta",
    columns: "id, durable, forgotten, probes, \"check\"",
};
const EPOCHS: Table = Table {
    name: "epochs",
    columns: "id, epoch, base, started, boot, stopped, \"check\"",
};
const PROCESSES: Table = Table {
    name: "processes",
    columns: "id, uid, name, desired, intent, \"begin\", instead_of, cause, \"check\"",
};
const SPECS: Table = Table {
    name: "specs",
    columns: "id, generation, created, config, \"check\"",
};
const STATES: Table = Table {
    name: "states",
    columns: "id, version, revision, created, intent, time, deleted, state, \"check\"",
};
const REQUESTS: Table = Table {
    name: "requests",
    columns: "id, principal, method, request, fingerprint, uid, name, run_id, revision, time, \"check\"",
};

/// Rows of one process, and a process made of them.
struct Assembly<'a> {
    codec: &'a dyn Codec,
    specs: BTreeMap<i64, SpecRow>,
    states: BTreeMap<i64, StateRow>,
}

/// Reads the row of `meta`; the default, with a damage, if it cannot be read.
pub(super) fn meta(connection: &Connection, damage: &mut Vec<Damage>) -> Option<Meta> {
    let meta = taken(META.read(connection, Meta::read), damage).remove(&1);
    if meta.is_none() && damage.is_empty() {
        damage.push(Damage {
            place: "meta".into(),
            problem: "its row is missing".into(),
        });
    }
    meta
}

/// Reads everything.
pub(super) fn read(connection: &Connection, codec: &dyn Codec, options: &Options) -> Recovered {
    let mut damage = Vec::new();
    let meta = meta(connection, &mut damage);
    let epochs = taken(EPOCHS.read(connection, EpochRow::read), &mut damage);
    let requests = taken(REQUESTS.read(connection, rows::request), &mut damage);
    let processes = taken(PROCESSES.read(connection, ProcessRow::read), &mut damage);
    let mut assembly = Assembly {
        codec,
        specs: taken(SPECS.read(connection, SpecRow::read), &mut damage),
        states: taken(STATES.read(connection, StateRow::read), &mut damage),
    };
    let mut recovered = Recovered::default();
    for row in processes.into_values() {
        let place = format!("process {} ({})", row.name, row.uid);
        match assembly.process(row) {
            Ok((stored, true)) => recovered.tombstones.push(stored),
            Ok((stored, false)) => recovered.processes.push(stored),
            Err(problem) => damage.push(Damage { place, problem }),
        }
    }
    recovered.tombstones.sort_by_key(Stored::revision);
    let highest = recovered.processes.iter().chain(&recovered.tombstones);
    let highest = highest.map(Stored::revision).max().unwrap_or_default();
    let durable = meta.map_or(highest.get(), |meta| meta.durable);
    recovered.durable_revision = Revision::new(durable);
    recovered.forgotten = Revision::new(meta.map_or(durable, |meta| meta.forgotten));
    // Without a position, no earlier run can be vouched for.
    if let Some(last) = epochs.values().next_back() {
        recovered.boot_id = Some(last.boot.as_str().into());
        recovered.stopped_all = last.stopped;
    }
    if meta.is_some() {
        recovered.lineage = lineage(epochs.into_values().collect(), durable);
    }
    let since = Timestamp(0).max(before((options.now)(), options.request_retention));
    let mut requests: Vec<_> = requests.into_values().collect();
    requests.retain(|request| request.time >= since);
    requests.sort_by_key(|request| request.time);
    recovered.requests = requests;
    recovered.damage = damage;
    recovered
}

/// `time` less `age`.
pub(super) fn before(time: Timestamp, age: std::time::Duration) -> Timestamp {
    let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(time.0.saturating_sub(age))
}

// === impl Assembly ===

impl Assembly<'_> {
    /// The process of `row`, and whether it is a tombstone.
    fn process(&mut self, row: ProcessRow) -> Result<(Stored, bool), String> {
        let name = ProcessName::new(&row.name).map_err(|error| format!("its name {error}"))?;
        let desired = rows::desired(row.desired)
            .ok_or_else(|| format!("its desired state {} is unknown", row.desired))?;
        let spec = self
            .specs
            .remove(&row.id)
            .filter(|spec| spec.is_of(row.uid))
            .ok_or("its configuration is missing or fails its checksum")?;
        let config = self
            .codec
            .decode_config(&spec.config)
            .map_err(|error| format!("its configuration: {error}"))?;
        let intent_cause = self
            .codec
            .decode_cause(&row.cause)
            .map_err(|error| format!("the cause of its desired state: {error}"))?;
        let (observed, deleted) = match self.states.remove(&row.id) {
            None => (None, false),
            Some(state) if !state.is_of(row.uid) => {
                return Err("its state fails its checksum".into());
            }
            Some(state) => (Some(self.observed(&state)?), state.deleted),
        };
        let stored = Stored {
            uid: row.uid,
            spec: Spec {
                name,
                generation: spec.generation,
                created: Timestamp(spec.created),
                config,
            },
            desired,
            intent_cause,
            number: row.intent,
            begin: row.begin,
            instead_of: row.instead_of,
            observed,
        };
        Ok((stored, deleted))
    }

    fn observed(&self, row: &StateRow) -> Result<Observed, String> {
        let (status, cause) = self
            .codec
            .decode_state(&row.state)
            .map_err(|error| format!("its state: {error}"))?;
        Ok(Observed {
            status,
            cause,
            time: Timestamp(row.time),
            version: row.version,
            revision: Revision::new(row.revision),
            created: Revision::new(row.created),
            intent: row.intent,
        })
    }
}

// === impl Stored ===

impl Stored {
    /// Revision of its recorded state; ZERO without one.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.observed
            .as_ref()
            .map_or(Revision::ZERO, |observed| observed.revision)
    }
}

/// Earlier runs with the last revision of each that counts: where the next began.
fn lineage(epochs: Vec<EpochRow>, durable: i64) -> Vec<(Box<str>, Revision)> {
    let bases: Vec<i64> = epochs.iter().map(|epoch| epoch.base).collect();
    let next = bases.into_iter().skip(1).chain([durable]);
    let ended = epochs.into_iter().zip(next);
    ended
        .map(|(epoch, last)| (epoch.epoch.into(), Revision::new(last)))
        .collect()
}

fn taken<T>(found: Found<T>, damage: &mut Vec<Damage>) -> BTreeMap<i64, T> {
    damage.extend(found.damage);
    found.rows
}
