//! Rows and their checksums: how each is written, and how it is read back.
//!
//! Writing goes by row numbers of the [`Index`]. Reading checks the sum before
//! anything else is believed.

use std::collections::HashSet;

use rusqlite::{Connection, Row, params, types::Type};

use super::{Codec, Intent, Observation, Request, Wish, checksum::Checksum, index::Index};
use crate::domain::{
    id::{ProcessName, Revision, Uid},
    spec::Spec,
    status::Desired,
    time::Timestamp,
};

/// Earlier runs of the daemon that are remembered.
const EPOCHS_MAX: i64 = 256;

/// The one row of `meta`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Everything up to here is recorded.
    pub(super) durable: i64,
    /// Highest revision of a tombstone that is gone.
    pub(super) forgotten: i64,
    /// Probes that a new connection passed.
    pub(super) probes: i64,
}

/// A row of `processes`.
pub(super) struct ProcessRow {
    pub(super) id: i64,
    pub(super) uid: Uid,
    pub(super) name: String,
    pub(super) desired: i64,
    pub(super) intent: i64,
    pub(super) begin: bool,
    pub(super) instead_of: i64,
    pub(super) cause: Vec<u8>,
    check: i64,
}

/// A row of `specs`.
pub(super) struct SpecRow {
    pub(super) generation: i64,
    pub(super) created: i64,
    pub(super) config: Vec<u8>,
    check: i64,
}

/// A row of `states`.
pub(super) struct StateRow {
    pub(super) version: i64,
    pub(super) revision: i64,
    pub(super) created: i64,
    pub(super) intent: i64,
    pub(super) time: i64,
    pub(super) deleted: bool,
    pub(super) state: Vec<u8>,
    check: i64,
}

/// A row of `epochs`.
pub(super) struct EpochRow {
    pub(super) epoch: String,
    pub(super) base: i64,
    pub(super) started: i64,
    /// Identity of the machine's run.
    pub(super) boot: String,
    /// It stopped every process before it ended.
    pub(super) stopped: bool,
}

/// Writes into the transaction at hand.
pub(super) struct Pen<'a> {
    pub(super) connection: &'a Connection,
    pub(super) index: &'a mut Index,
    pub(super) codec: &'a dyn Codec,
}

// === impl Pen ===

impl Pen<'_> {
    /// A process of `intents` that does not exist and is not created before.
    pub(super) fn stranger(&self, intents: &[Intent]) -> Option<Uid> {
        let mut created = HashSet::new();
        for intent in intents {
            match &intent.wish {
                Wish::Put { .. } => {
                    created.insert(intent.uid);
                }
                Wish::Desired(_) => {
                    let exists = self.index.id(intent.uid).is_some();
                    if !exists && !created.contains(&intent.uid) {
                        return Some(intent.uid);
                    }
                }
            }
        }
        None
    }

    /// Writes an intent.
    pub(super) fn intent(&mut self, intent: &Intent) -> rusqlite::Result<()> {
        match &intent.wish {
            Wish::Put { spec, desired } => self.put(intent, spec, *desired)?,
            Wish::Desired(desired) => {
                if let Some((id, name)) = self.index.row(intent.uid) {
                    self.process(id, name, *desired, intent)?;
                }
            }
        }
        match &intent.request {
            Some(request) => self.request(request),
            None => Ok(()),
        }
    }

    fn put(&mut self, intent: &Intent, spec: &Spec, desired: Desired) -> rusqlite::Result<()> {
        let uid = intent.uid;
        let name = spec.name.as_str();
        match self.index.owner(name) {
            Some(before) if before != uid => self.remove(before)?,
            _ => {}
        }
        if self.index.id(uid).is_none() {
            self.index.add(uid, name);
        }
        let Some(id) = self.index.id(uid) else {
            return Ok(());
        };
        self.process(id, name, desired, intent)?;
        let config = self.codec.encode_config(&spec.config);
        let (generation, created) = (spec.generation, spec.created.0);
        let check = spec_sum(uid, generation, created, &config);
        self.connection
            .prepare_cached(
                "INSERT INTO specs (id, generation, created, config, \"check\")
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET generation = ?2, created = ?3, config = ?4,
                     \"check\" = ?5",
            )?
            .execute(params![id, generation, created, config, check])?;
        Ok(())
    }

    fn process(
        &self,
        id: i64,
        name: &str,
        desired: Desired,
        intent: &Intent,
    ) -> rusqlite::Result<()> {
        let mut row = ProcessRow {
            id,
            uid: intent.uid,
            name: name.to_owned(),
            desired: desired_number(desired),
            intent: intent.number,
            begin: intent.begin,
            instead_of: intent.instead_of,
            cause: self.codec.encode_cause(&intent.cause),
            check: 0,
        };
        row.check = row.sum();
        self.connection
            .prepare_cached(
                "INSERT INTO processes
                     (id, uid, name, desired, intent, \"begin\", instead_of, cause, \"check\")
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (id) DO UPDATE SET desired = ?4, intent = ?5, \"begin\" = ?6,
                     instead_of = ?7, cause = ?8, \"check\" = ?9",
            )?
            .execute(params![
                row.id,
                row.uid.as_bytes(),
                row.name,
                row.desired,
                row.intent,
                row.begin,
                row.instead_of,
                row.cause,
                row.check
            ])?;
        Ok(())
    }

    fn request(&self, request: &Request) -> rusqlite::Result<()> {
        let check = request_sum(request);
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO requests (principal, method, request, fingerprint, uid,
                     name, run_id, revision, time, \"check\")
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                request.principal,
                request.method,
                request.id,
                request.fingerprint.cast_signed(),
                request.uid.as_bytes(),
                request.name.as_str(),
                request.run_id,
                request.revision.get(),
                request.time.0,
                check
            ])?;
        Ok(())
    }

    /// Writes a state, if its process exists.
    pub(super) fn state(&mut self, observation: &Observation) -> rusqlite::Result<()> {
        let uid = observation.uid;
        let Some(id) = self.index.id(uid) else {
            return Ok(());
        };
        let state = self
            .codec
            .encode_state(&observation.status, &observation.cause);
        let mut row = StateRow {
            version: observation.version,
            revision: observation.revision.get(),
            created: observation.created.get(),
            intent: observation.intent,
            time: observation.time.0,
            deleted: observation.deleted,
            state,
            check: 0,
        };
        row.check = row.sum(uid);
        self.connection
            .prepare_cached(
                "INSERT INTO states (id, version, revision, created, intent, time, deleted, state,
                     \"check\")
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (id) DO UPDATE SET version = ?2, revision = ?3, created = ?4,
                     intent = ?5, time = ?6, deleted = ?7, state = ?8, \"check\" = ?9",
            )?
            .execute(params![
                id,
                row.version,
                row.revision,
                row.created,
                row.intent,
                row.time,
                row.deleted,
                row.state,
                row.check
            ])?;
        if row.deleted {
            self.index.set_deleted(uid, row.revision);
        }
        Ok(())
    }

    /// Takes out the tombstones beyond `max`; the highest revision among them.
    pub(super) fn forget_tombstones(&mut self, max: usize) -> rusqlite::Result<Option<i64>> {
        let mut highest = None;
        while let Some((revision, id)) = self.index.overdue(max) {
            self.delete(id)?;
            highest = highest.max(Some(revision));
        }
        Ok(highest)
    }

    /// Takes out requests from before `since` and the oldest beyond `max`.
    pub(super) fn forget_requests(&self, since: Timestamp, max: usize) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM requests WHERE time < ?1")?
            .execute([since.0])?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests ORDER BY time
                 LIMIT max(0, (SELECT count(*) FROM requests) - ?1))",
            )?
            .execute([max])?;
        Ok(())
    }

    /// Writes a run of the daemon.
    pub(super) fn epoch(&self, row: &EpochRow) -> rusqlite::Result<()> {
        self.connection.execute(
            "INSERT INTO epochs (epoch, base, started, boot, stopped, \"check\")
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                row.epoch,
                row.base,
                row.started,
                row.boot,
                row.stopped,
                row.sum()
            ],
        )?;
        self.connection.execute(
            "DELETE FROM epochs WHERE id <= (SELECT max(id) FROM epochs) - ?1",
            [EPOCHS_MAX],
        )?;
        Ok(())
    }

    /// Writes that the latest run of the daemon stopped every process.
    pub(super) fn stopped(&self) -> rusqlite::Result<()> {
        let columns = "id, epoch, base, started, boot, stopped, \"check\"";
        let latest = format!("SELECT {columns} FROM epochs ORDER BY id DESC LIMIT 1");
        let found = self.connection.query_row(&latest, [], |row| {
            Ok((row.get::<_, i64>(0)?, EpochRow::read(row)?))
        });
        let (id, mut row) = match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
            found => found?,
        };
        row.stopped = true;
        self.connection.execute(
            "UPDATE epochs SET stopped = ?2, \"check\" = ?3 WHERE id = ?1",
            params![id, row.stopped, row.sum()],
        )?;
        Ok(())
    }

    fn remove(&mut self, uid: Uid) -> rusqlite::Result<()> {
        match self.index.remove(uid) {
            Some(id) => self.delete(id),
            None => Ok(()),
        }
    }

    fn delete(&self, id: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM processes WHERE id = ?1")?
            .execute([id])?;
        Ok(())
    }
}

// === impl Meta ===

impl Meta {
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO meta (id, durable, forgotten, probes, \"check\")
                 VALUES (1, ?1, ?2, ?3, ?4)",
            )?
            .execute([self.durable, self.forgotten, self.probes, self.sum()])?;
        Ok(())
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let meta = Self {
            durable: row.get(1)?,
            forgotten: row.get(2)?,
            probes: row.get(3)?,
        };
        checked(row.get(4)?, meta.sum())?;
        Ok(meta)
    }

    fn sum(self) -> i64 {
        Checksum::of("meta")
            .int(self.durable)
            .int(self.forgotten)
            .int(self.probes)
            .get()
    }
}

// === impl ProcessRow ===

impl ProcessRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let process = Self {
            id: row.get(0)?,
            uid: uid(row, 1)?,
            name: row.get(2)?,
            desired: row.get(3)?,
            intent: row.get(4)?,
            begin: row.get(5)?,
            instead_of: row.get(6)?,
            cause: row.get(7)?,
            check: row.get(8)?,
        };
        checked(process.check, process.sum())?;
        Ok(process)
    }

    fn sum(&self) -> i64 {
        Checksum::of("processes")
            .int(self.id)
            .bytes(self.uid.as_bytes())
            .bytes(self.name.as_bytes())
            .int(self.desired)
            .int(self.intent)
            .int(i64::from(self.begin))
            .int(self.instead_of)
            .bytes(&self.cause)
            .get()
    }
}

// === impl SpecRow ===

impl SpecRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            generation: row.get(1)?,
            created: row.get(2)?,
            config: row.get(3)?,
            check: row.get(4)?,
        })
    }

    /// Whether it is what was written for `uid`.
    pub(super) fn is_of(&self, uid: Uid) -> bool {
        self.check == spec_sum(uid, self.generation, self.created, &self.config)
    }
}

// === impl StateRow ===

impl StateRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            version: row.get(1)?,
            revision: row.get(2)?,
            created: row.get(3)?,
            intent: row.get(4)?,
            time: row.get(5)?,
            deleted: row.get(6)?,
            state: row.get(7)?,
            check: row.get(8)?,
        })
    }

    /// Whether it is what was written for `uid`.
    pub(super) fn is_of(&self, uid: Uid) -> bool {
        self.check == self.sum(uid)
    }

    fn sum(&self, uid: Uid) -> i64 {
        Checksum::of("states")
            .bytes(uid.as_bytes())
            .int(self.version)
            .int(self.revision)
            .int(self.created)
            .int(self.intent)
            .int(self.time)
            .int(i64::from(self.deleted))
            .bytes(&self.state)
            .get()
    }
}

// === impl EpochRow ===

impl EpochRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch = Self {
            epoch: row.get(1)?,
            base: row.get(2)?,
            started: row.get(3)?,
            boot: row.get(4)?,
            stopped: row.get(5)?,
        };
        checked(row.get(6)?, epoch.sum())?;
        Ok(epoch)
    }

    fn sum(&self) -> i64 {
        Checksum::of("epochs")
            .bytes(self.epoch.as_bytes())
            .int(self.base)
            .int(self.started)
            .bytes(self.boot.as_bytes())
            .int(i64::from(self.stopped))
            .get()
    }
}

/// A row of `requests`.
pub(super) fn request(row: &Row<'_>) -> rusqlite::Result<Request> {
    let name: String = row.get(6)?;
    let request = Request {
        principal: row.get::<_, String>(1)?.into(),
        method: row.get::<_, String>(2)?.into(),
        id: row.get(3)?,
        fingerprint: row.get::<_, i64>(4)?.cast_unsigned(),
        uid: uid(row, 5)?,
        name: ProcessName::new(&name).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(6, Type::Text, Box::new(error))
        })?,
        run_id: row.get(7)?,
        revision: Revision::new(row.get(8)?),
        time: Timestamp(row.get(9)?),
    };
    checked(row.get(10)?, request_sum(&request))?;
    Ok(request)
}

/// A uid in column `index`.
pub(super) fn uid(row: &Row<'_>, index: usize) -> rusqlite::Result<Uid> {
    Ok(Uid::from_bytes(row.get(index)?))
}

/// A desired state as it stands in a row.
const fn desired_number(desired: Desired) -> i64 {
    match desired {
        Desired::Running => 1,
        Desired::Stopped => 2,
        Desired::Deleted => 3,
    }
}

/// The desired state that stands in a row.
pub(super) const fn desired(number: i64) -> Option<Desired> {
    match number {
        1 => Some(Desired::Running),
        2 => Some(Desired::Stopped),
        3 => Some(Desired::Deleted),
        _ => None,
    }
}

/// A row whose sum is wrong reads as one with a bad value in its last column.
fn checked(found: i64, sum: i64) -> rusqlite::Result<()> {
    if found == sum {
        return Ok(());
    }
    let error = "its checksum is wrong".into();
    Err(rusqlite::Error::FromSqlConversionFailure(
        0,
        Type::Integer,
        error,
    ))
}

fn spec_sum(uid: Uid, generation: i64, created: i64, config: &[u8]) -> i64 {
    Checksum::of("specs")
        .bytes(uid.as_bytes())
        .int(generation)
        .int(created)
        .bytes(config)
        .get()
}

fn request_sum(request: &Request) -> i64 {
    Checksum::of("requests")
        .bytes(request.principal.as_bytes())
        .bytes(request.method.as_bytes())
        .bytes(&request.id)
        .int(request.fingerprint.cast_signed())
        .bytes(request.uid.as_bytes())
        .bytes(request.name.as_str().as_bytes())
        .int(request.run_id)
        .int(request.revision.get())
        .int(request.time.0)
        .get()
}
