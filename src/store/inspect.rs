//! Looks into a store without changing it, whether or not a daemon uses it.
//!
//! SQLite writes even to open a log that is left over, so it gets a copy: of the
//! database and the log at one moment, told by neither having been rewritten
//! meanwhile. Deliberately absent: what to do about what is found (`cli::doctor`).

use std::{
    fs::{self, DirBuilder},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    Codec, Damage, OpenError, Options, Recovered,
    database::{self, DATABASE, beside},
    log_tail, recovery, schema,
};

/// Times that a copy is tried while a daemon moves its log.
const COPIES_MAX: usize = 10;
/// Bytes at the start of a log that change whenever it begins anew.
const LOG_HEADER: usize = 32;

/// What a store holds, and in what shape it is.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of its log; 0 after a clean end.
    pub log_bytes: u64,
    /// Version of its schema, brought up to date in the copy.
    pub version: i64,
    /// What a full check of its structure found.
    pub problems: Vec<Damage>,
    /// What it holds; what cannot be read is in its `damage`.
    pub content: Recovered,
}

/// Why a store cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be copied.
    #[error("{}: cannot be copied: {source}", .path.display())]
    Copy {
        /// The database.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The daemon writes too much.
    #[error("{} changes faster than it can be copied; try again", .0.display())]
    Busy(PathBuf),
    /// Nothing in it can be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

/// Looks into the store in `dir`. Blocks, and takes space of the temporary
/// directory for a copy.
///
/// # Errors
/// [`InspectError`]: there is nothing to look at.
pub fn inspect(
    dir: &Path,
    codec: &dyn Codec,
    options: &Options,
) -> Result<Inspection, InspectError> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Err(InspectError::Missing(path));
    }
    let copy_failed = |source| InspectError::Copy {
        path: path.clone(),
        source,
    };
    let scratch = Scratch::new().map_err(copy_failed)?;
    let copy = scratch.0.join(DATABASE);
    let log_bytes = copied(&path, &copy)
        .map_err(copy_failed)?
        .ok_or_else(|| InspectError::Busy(path.clone()))?;
    let log_break = log_tail::beyond_the_break(&beside(&copy, "-wal")).map_err(copy_failed)?;
    let opened = database::open_current(&copy, schema::MIGRATIONS);
    let connection = opened.map_err(|error| error.of(&path))?;
    let problems = database::check(&connection, "integrity_check");
    let mut content = recovery::read(&connection, codec, options);
    content.clean = log_bytes == 0;
    content.log_break = log_break;
    Ok(Inspection {
        database_bytes: fs::metadata(&path).map_or(0, |found| found.len()),
        log_bytes,
        version: schema::VERSION,
        problems,
        content,
    })
}

/// Copies the database at `path` and its log; the bytes of the log. `None`: they
/// were rewritten each time.
fn copied(path: &Path, copy: &Path) -> io::Result<Option<u64>> {
    let (log, log_copy) = (beside(path, "-wal"), beside(copy, "-wal"));
    for _ in 0..COPIES_MAX {
        let before = marks(path, &log)?;
        fs::copy(path, copy)?;
        let bytes = match fs::copy(&log, &log_copy) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if marks(path, &log)? == before {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// What changes when the log is moved into the database or begun anew.
fn marks(path: &Path, log: &Path) -> io::Result<(std::time::SystemTime, u64, Vec<u8>)> {
    let found = fs::metadata(path)?;
    let mut header = Vec::with_capacity(LOG_HEADER);
    if let Ok(log) = fs::File::open(log) {
        log.take(LOG_HEADER as u64).read_to_end(&mut header)?;
    }
    Ok((found.modified()?, found.len(), header))
}

// === impl Scratch ===

impl Scratch {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // ORDERING: only has to be another number each time.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("procession-doctor-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        // Fails if somebody else made it.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in the temporary directory: somebody else clears that.
        let _ = fs::remove_dir_all(&self.0);
    }
}
