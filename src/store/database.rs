//! The file: how it is created, opened and judged.
//!
//! Invariants:
//! - It is created under another name, complete, and renamed: a `store.db` that is
//!   empty or half made is never one of ours.
//! - The connection locks it for itself, maps no memory (a failing disk is then an
//!   error, not a signal), and never moves the log by itself.
//! - All of it is checked at every start: that takes a microsecond per process, and
//!   a page that is gone shows nowhere else until it is written to.
//! - A log that is left over says that the last daemon did not close the store.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    Codec, Damage, Options, Reason, ReasonKind, Recovered, index::Index, log_tail, recovery,
    rows::Meta, schema,
};

/// Name of the database in the state directory. SQLite's log lies beside it.
pub const DATABASE: &str = "store.db";

/// Problems that a check of the whole database reports at most.
const PROBLEMS_MAX: usize = 100;
/// Bytes that the log keeps once it was moved into the database.
const LOG_BYTES_KEPT: i64 = 8 << 20;
/// KiB of pages in memory.
const CACHE_KIB: i64 = 4096;

/// An open database that can be written.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) index: Index,
    pub(super) meta: Meta,
}

/// Why there is no store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later version.
    #[error(
        "{} has schema version {found}, this program knows {known}: run the version that wrote \
         it, or a later one",
        .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// Nothing in it can be read.
    #[error(
        "{} cannot be read: {problem}. It was left as it is: `procession doctor` examines it; to \
         begin without what it holds, move it and its -wal away",
        .path.display()
    )]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another process; end it", .path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("{}: {step}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("{}: {step}: {source}", .path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// SQLite's word.
        source: Box<Error>,
    },
    /// There is no thread for it.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens or creates the store in `dir` and reads it; no database if it must not
/// be written.
pub(super) fn open(
    dir: &Path,
    codec: &dyn Codec,
    options: &Options,
) -> Result<(Option<Database>, Recovered), OpenError> {
    let path = dir.join(DATABASE);
    let clean = prepare(dir, &path)?;
    // Before it is opened: closing a descriptor would release the locks.
    let log = beside(&path, "-wal");
    let log_break = log_tail::beyond_the_break(&log).map_err(io_failed(&log, "read"))?;
    let connection = open_current(&path, schema::MIGRATIONS)?;
    let problems = check(&connection, "quick_check");
    let mut recovered = recovery::read(&connection, codec, options);
    recovered.clean = clean;
    recovered.log_break = log_break;
    recovered.damage.extend(problems);
    let empty = recovered.processes.is_empty() && recovered.tombstones.is_empty();
    if let Some(first) = recovered.damage.first() {
        let problem = format!("{}: {}", first.place, first.problem);
        if empty {
            return Err(OpenError::Unreadable { path, problem });
        }
        recovered.read_only = Some(Reason::new(ReasonKind::Corrupt, problem));
        return Ok((None, recovered));
    }
    let database = Database::new(connection).map_err(failed(&path, "read"))?;
    Ok((Some(database), recovered))
}

/// Makes sure that there is a database; whether the last daemon closed it.
fn prepare(dir: &Path, path: &Path) -> Result<bool, OpenError> {
    let log = beside(path, "-wal");
    let log_bytes = size(&log)?.unwrap_or_default();
    let unreadable = |problem: &str| OpenError::Unreadable {
        path: path.to_owned(),
        problem: problem.into(),
    };
    match size(path)? {
        None if log_bytes > 0 => return Err(unreadable("it is gone, but its log is there")),
        None => create(dir, path)?,
        Some(0) => return Err(unreadable("it is empty")),
        Some(_) => {}
    }
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io_failed(path, "chmod"))?;
    Ok(log_bytes == 0)
}

fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let draft = beside(path, ".new");
    for leftover in [
        draft.clone(),
        beside(&draft, "-wal"),
        beside(&draft, "-journal"),
    ] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_failed(&leftover, "remove")(error));
            }
            _ => {}
        }
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io_failed(&draft, "create"))?;
    let mut connection = connect(&draft).map_err(failed(&draft, "open"))?;
    schema::create(&mut connection).map_err(failed(&draft, "create tables"))?;
    move_log(&connection).map_err(failed(&draft, "checkpoint"))?;
    drop(connection);
    file.sync_all().map_err(io_failed(&draft, "sync"))?;
    let _ = fs::remove_file(beside(&draft, "-wal"));
    fs::rename(&draft, path).map_err(io_failed(path, "rename"))?;
    sync_directory(dir)
}

/// Opens a database of this or an earlier version and brings it up to date.
pub(super) fn open_current(
    path: &Path,
    migrations: &[schema::Migration],
) -> Result<Connection, OpenError> {
    let mut connection = connect(path).map_err(failed(path, "open"))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX) + 1;
    match schema::version(&connection).map_err(failed(path, "read the version"))? {
        Some(found) if found > known => Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known,
        }),
        Some(found) if found < known => {
            back_up(&connection, path, found)?;
            schema::migrate(&mut connection, found, migrations)
                .map_err(failed(path, "bring up to date"))?;
            Ok(connection)
        }
        Some(_) => Ok(connection),
        None => Err(OpenError::Unreadable {
            path: path.to_owned(),
            problem: "it is a database of another program".into(),
        }),
    }
}

/// Copies the database to `store.db.vN`. By SQLite: closing a descriptor of ours
/// would release its locks.
fn back_up(connection: &Connection, path: &Path, version: i64) -> Result<(), OpenError> {
    let copy = beside(path, &format!(".v{version}"));
    let draft = beside(&copy, ".new");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io_failed(&draft, "create"))?;
    connection
        .execute("VACUUM INTO ?1", [draft.to_string_lossy()])
        .map_err(failed(&draft, "copy"))?;
    file.sync_all().map_err(io_failed(&draft, "sync"))?;
    fs::rename(&draft, &copy).map_err(io_failed(&copy, "rename"))
}

// === impl OpenError ===

impl OpenError {
    /// The same about another file: the one that this one is a copy of.
    pub(super) fn of(mut self, original: &Path) -> Self {
        match &mut self {
            Self::Newer { path, .. }
            | Self::Unreadable { path, .. }
            | Self::InUse { path }
            | Self::Io { path, .. }
            | Self::Sqlite { path, .. } => original.clone_into(path),
            Self::Thread(_) => {}
        }
        self
    }
}

// === impl Database ===

impl Database {
    /// Of a sound connection.
    fn new(connection: Connection) -> rusqlite::Result<Self> {
        let mut damage = Vec::new();
        let meta = recovery::meta(&connection, &mut damage).ok_or_else(|| {
            Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some("the position is unreadable".into()),
            )
        })?;
        let index = Index::load(&connection)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            connection,
            index,
            meta,
        })
    }

    /// Opens it again after a failure, and tries that it can be written: the log is
    /// moved into the database, so that what a failed fsync may have left only in
    /// memory is written once more, and a row is committed. `checked`: all of it is
    /// looked at first.
    pub(super) fn reopen(dir: &Path, checked: bool) -> rusqlite::Result<Self> {
        let path = dir.join(DATABASE);
        let connection = connect(&path)?;
        if checked && let Some(problem) = check(&connection, "quick_check").first() {
            return Err(Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(problem.problem.clone()),
            ));
        }
        move_log(&connection)?;
        let mut database = Self::new(connection)?;
        database.meta.probes += 1;
        database.meta.write(&database.connection)?;
        Ok(database)
    }
}

/// Opens the file at `path`, which exists.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Moves the log into the database and empties it.
pub(super) fn move_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        let blocked: bool = row.get(0)?;
        match blocked {
            false => Ok(()),
            true => Err(Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            )),
        }
    })
}

/// What `pragma` (`quick_check` or `integrity_check`) finds.
pub(super) fn check(connection: &Connection, pragma: &str) -> Vec<Damage> {
    let told = |problem: String| Damage {
        place: pragma.to_owned(),
        problem,
    };
    let lines = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}({PROBLEMS_MAX})"))?;
        let lines = statement.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    match lines() {
        Ok(lines) if lines == ["ok"] => Vec::new(),
        Ok(lines) => lines.into_iter().map(told).collect(),
        Err(error) => vec![told(error.to_string())],
    }
}

/// Whether the file itself is damaged, not only a row of it.
pub(super) fn is_corrupt(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// What kind of failure `error` is.
pub(super) fn reason(error: &Error) -> Reason {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ReasonKind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReasonKind::Corrupt,
        _ => ReasonKind::Io,
    };
    Reason::new(kind, error)
}

/// `path` with `suffix` after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn size(path: &Path) -> Result<Option<u64>, OpenError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failed(path, "look at")(error)),
    }
}

fn sync_directory(dir: &Path) -> Result<(), OpenError> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io_failed(dir, "sync"))
}

fn failed(path: &Path, step: &'static str) -> impl Fn(Error) -> OpenError {
    let path = path.to_owned();
    move |source| {
        let path = path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Unreadable {
                path,
                problem: source.to_string(),
            },
            _ => OpenError::Sqlite {
                path,
                step,
                source: Box::new(source),
            },
        }
    }
}

fn io_failed(path: &Path, step: &'static str) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        path: path.clone(),
        step,
        source,
    }
}
