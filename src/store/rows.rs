//! Rows and their checksums, and how they are read back.
//!
//! Invariant: the sum is checked before anything else is believed. Deliberately
//! absent: writing (`pen`).

use rusqlite::{Connection, Row, types::Type};

use super::{Request, checksum::Checksum};
use crate::domain::{
    id::{ProcessName, Revision, Uid},
    status::Desired,
    time::Timestamp,
};

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
    pub(super) check: i64,
}

/// A row of `specs`.
pub(super) struct SpecRow {
    pub(super) generation: i64,
    pub(super) created: i64,
    pub(super) config: Vec<u8>,
    pub(super) check: i64,
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
    pub(super) check: i64,
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

    pub(super) fn sum(self) -> i64 {
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

    pub(super) fn sum(&self) -> i64 {
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

    pub(super) fn sum(&self, uid: Uid) -> i64 {
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

    pub(super) fn sum(&self) -> i64 {
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
pub(super) const fn desired_number(desired: Desired) -> i64 {
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

pub(super) fn spec_sum(uid: Uid, generation: i64, created: i64, config: &[u8]) -> i64 {
    Checksum::of("specs")
        .bytes(uid.as_bytes())
        .int(generation)
        .int(created)
        .bytes(config)
        .get()
}

pub(super) fn request_sum(request: &Request) -> i64 {
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
