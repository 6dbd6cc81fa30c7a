//! Tables, their version, and the way from one version to the next.
//!
//! Invariants: `user_version` is the version of the schema, and `application_id`
//! says that the file is ours. A migration runs in one transaction, after a copy of
//! the database was made beside it. `tests/it/fixtures/store-vN/` keeps a database
//! of each version.

use rusqlite::{Connection, Transaction};

/// Version that this program reads and writes.
pub(super) const VERSION: i64 = 1;

/// "prcs": marks the file in its header.
pub(super) const APPLICATION_ID: i64 = 0x7072_6373;

/// Changes the tables from a version to the one after it.
pub(super) type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The first is from version 1 to 2, and so on.
pub(super) const MIGRATIONS: &[Migration] = &[];

const _: () = assert!(MIGRATIONS.len() as i64 + 1 == VERSION, "one per version");

/// All tables of [`VERSION`]. `check` is the checksum over the other columns, that
/// of `specs` and `states` also over the uid.
const TABLES: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    durable INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    probes INTEGER NOT NULL,
    \"check\" INTEGER NOT NULL
) STRICT;
CREATE TABLE epochs (
    id INTEGER PRIMARY KEY,
    epoch TEXT NOT NULL,
    base INTEGER NOT NULL,
    started INTEGER NOT NULL,
    boot TEXT NOT NULL,
    stopped INTEGER NOT NULL,
    \"check\" INTEGER NOT NULL
) STRICT;
CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    desired INTEGER NOT NULL,
    intent INTEGER NOT NULL,
    \"begin\" INTEGER NOT NULL,
    instead_of INTEGER NOT NULL,
    cause BLOB NOT NULL,
    \"check\" INTEGER NOT NULL
) STRICT;
CREATE TABLE specs (
    id INTEGER PRIMARY KEY REFERENCES processes(id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    created INTEGER NOT NULL,
    config BLOB NOT NULL,
    \"check\" INTEGER NOT NULL
) STRICT;
CREATE TABLE states (
    id INTEGER PRIMARY KEY REFERENCES processes(id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created INTEGER NOT NULL,
    intent INTEGER NOT NULL,
    time INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    state BLOB NOT NULL,
    \"check\" INTEGER NOT NULL
) STRICT;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    principal TEXT NOT NULL,
    method TEXT NOT NULL,
    request BLOB NOT NULL,
    fingerprint INTEGER NOT NULL,
    uid BLOB NOT NULL,
    name TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    time INTEGER NOT NULL,
    \"check\" INTEGER NOT NULL,
    UNIQUE (request, principal, method, uid)
) STRICT;
CREATE INDEX requests_time ON requests (time);
";

/// Makes the tables of a new database.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    super::rows::Meta::default().write(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The version of an open database, if it is ours.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let ours = number("application_id")? == APPLICATION_ID;
    let version = number("user_version")?;
    Ok((ours && version > 0).then_some(version))
}

/// Brings the tables from version `from` up to the end of `migrations`, each step
/// in a transaction of its own.
pub(super) fn migrate(
    connection: &mut Connection,
    from: i64,
    migrations: &[Migration],
) -> rusqlite::Result<()> {
    let done = usize::try_from(from - 1).unwrap_or(usize::MAX);
    let steps = migrations.get(done..).unwrap_or_default();
    for (to, step) in (from + 1..).zip(steps) {
        let transaction = connection.transaction()?;
        step(&transaction)?;
        transaction.pragma_update(None, "user_version", to)?;
        transaction.commit()?;
    }
    Ok(())
}
