//! Writing: which rows an intent or an observation becomes.
//!
//! It goes by row numbers of the [`Index`]. Deliberately absent: transactions
//! (`database`), what is written when (`writer`).

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::{
    Codec, Intent, Observation, Request, Wish,
    index::Index,
    rows::{EpochRow, ProcessRow, StateRow, desired_number, request_sum, spec_sum},
};
use crate::domain::{id::Uid, spec::Spec, status::Desired, time::Timestamp};

/// Earlier runs of the daemon that are remembered.
const EPOCHS_MAX: i64 = 256;

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
