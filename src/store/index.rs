//! Which rows there are: row ids by uid and by name, and the tombstones by age.
//!
//! Kept in memory, so that a write finds its row by number and no damaged index of
//! the database can lead it to another. It mirrors committed rows and those of the
//! transaction at hand; after a failure it is loaded again.

use std::collections::{BTreeSet, HashMap};

use rusqlite::Connection;

use super::rows;
use crate::domain::id::Uid;

/// The rows of the database.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: HashMap<Uid, Row>,
    names: HashMap<Box<str>, Uid>,
    /// By revision, then row.
    tombstones: BTreeSet<(i64, i64, Uid)>,
    last: i64,
}

#[derive(Debug)]
struct Row {
    id: i64,
    name: Box<str>,
    /// Revision of its tombstone.
    deleted: Option<i64>,
}

// === impl Index ===

impl Index {
    /// Reads the rows of `connection`.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut index = Self::default();
        let mut statement = connection.prepare(
            "SELECT p.id, p.uid, p.name, s.deleted, s.revision
             FROM processes p LEFT JOIN states s ON s.id = p.id ORDER BY p.id",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let uid = rows::uid(row, 1)?;
            let name: String = row.get(2)?;
            index.insert(row.get(0)?, uid, &name);
            if row.get::<_, Option<bool>>(3)? == Some(true) {
                index.set_deleted(uid, row.get(4)?);
            }
        }
        Ok(index)
    }

    /// The row of `uid`.
    pub(super) fn id(&self, uid: Uid) -> Option<i64> {
        self.rows.get(&uid).map(|row| row.id)
    }

    /// The row of `uid` and its name.
    pub(super) fn row(&self, uid: Uid) -> Option<(i64, &str)> {
        self.rows.get(&uid).map(|row| (row.id, &*row.name))
    }

    /// The incarnation that has `name`.
    pub(super) fn owner(&self, name: &str) -> Option<Uid> {
        self.names.get(name).copied()
    }

    /// Adds a process, with a row number never used before.
    pub(super) fn add(&mut self, uid: Uid, name: &str) -> i64 {
        let id = self.last + 1;
        self.insert(id, uid, name);
        id
    }

    /// Notes that `uid` is a tombstone.
    pub(super) fn set_deleted(&mut self, uid: Uid, revision: i64) {
        if let Some(row) = self.rows.get_mut(&uid) {
            if let Some(before) = row.deleted.replace(revision) {
                self.tombstones.remove(&(before, row.id, uid));
            }
            self.tombstones.insert((revision, row.id, uid));
        }
    }

    /// Takes out `uid`; its row number.
    pub(super) fn remove(&mut self, uid: Uid) -> Option<i64> {
        let row = self.rows.remove(&uid)?;
        self.names.remove(&row.name);
        if let Some(revision) = row.deleted {
            self.tombstones.remove(&(revision, row.id, uid));
        }
        Some(row.id)
    }

    /// Takes out the oldest tombstone if there are more than `max`: its revision
    /// and row number.
    pub(super) fn overdue(&mut self, max: usize) -> Option<(i64, i64)> {
        if self.tombstones.len() <= max {
            return None;
        }
        let (revision, id, uid) = *self.tombstones.first()?;
        self.remove(uid);
        Some((revision, id))
    }

    fn insert(&mut self, id: i64, uid: Uid, name: &str) {
        self.last = self.last.max(id);
        self.names.insert(name.into(), uid);
        let row = Row {
            id,
            name: name.into(),
            deleted: None,
        };
        self.rows.insert(uid, row);
    }
}
