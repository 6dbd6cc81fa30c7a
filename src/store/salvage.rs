//! Reads a table that may be damaged: what can be read, and what cannot.
//!
//! A sound table is one scan. Where the scan breaks off, the rest is read from the
//! other end, and what lies between row by row.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, OptionalExtension, Row};

use super::{Damage, database::is_corrupt};

/// Row numbers between the two ends of a damaged table that are tried one by one.
const GAP_MAX: i64 = 100_000;
/// Damages of one table that are told.
const DAMAGE_MAX: usize = 100;

/// A table and the columns to read, the first being its row number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
}

/// What was found in a table, by row number.
pub(super) struct Found<T> {
    pub(super) rows: BTreeMap<i64, T>,
    pub(super) damage: Vec<Damage>,
}

type Read<T> = fn(&Row<'_>) -> rusqlite::Result<T>;

// === impl Table ===

impl Table {
    /// Reads all rows of it that can be read.
    pub(super) fn read<T>(self, connection: &Connection, read: Read<T>) -> Found<T> {
        let mut found = Found {
            rows: BTreeMap::new(),
            damage: Vec::new(),
        };
        let Err(broken) = self.scan(connection, "ASC", read, &mut found) else {
            return found;
        };
        self.note(&mut found, None, &broken);
        let low = found.rows.last_key_value().map_or(0, |(id, _)| *id);
        let mut upper = Found {
            rows: BTreeMap::new(),
            damage: Vec::new(),
        };
        // Its damage is that of the first scan.
        let _ = self.scan(connection, "DESC", read, &mut upper);
        let high = upper.rows.first_key_value().map_or(low, |(id, _)| *id);
        for id in (low + 1..high).take(usize::try_from(GAP_MAX).unwrap_or(usize::MAX)) {
            if let Ok(Some(row)) = self.one(connection, id, read) {
                found.rows.insert(id, row);
            }
        }
        found.rows.append(&mut upper.rows);
        found
    }

    fn scan<T>(
        self,
        connection: &Connection,
        order: &str,
        read: Read<T>,
        found: &mut Found<T>,
    ) -> rusqlite::Result<()> {
        let Self { name, columns } = self;
        let sql = format!("SELECT {columns} FROM {name} ORDER BY id {order}");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            match read(row) {
                Ok(row) => {
                    found.rows.insert(id, row);
                }
                Err(error) if is_corrupt(&error) => return Err(error),
                Err(error) => self.note(found, Some(id), &error),
            }
        }
        Ok(())
    }

    fn one<T>(
        self,
        connection: &Connection,
        id: i64,
        read: Read<T>,
    ) -> rusqlite::Result<Option<T>> {
        let Self { name, columns } = self;
        let sql = format!("SELECT {columns} FROM {name} WHERE id = ?1");
        connection
            .prepare_cached(&sql)?
            .query_row([id], read)
            .optional()
    }

    fn note<T>(self, found: &mut Found<T>, id: Option<i64>, error: &Error) {
        if found.damage.len() < DAMAGE_MAX {
            let place = match id {
                Some(id) => format!("{} row {id}", self.name),
                None => self.name.to_owned(),
            };
            let problem = match error {
                Error::FromSqlConversionFailure(_, _, cause) => cause.to_string(),
                error => error.to_string(),
            };
            found.damage.push(Damage { place, problem });
        }
    }
}
