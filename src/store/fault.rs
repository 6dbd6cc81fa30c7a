//! Where a test makes the store fail. Without a test nothing does.

use rusqlite::{Error, ffi};
#[cfg(test)]
use std::sync::Arc;

/// A point at which a disk may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Before anything of a transaction is written.
    Begin,
    /// Before it is committed.
    Commit,
    /// After it was committed: the disk took it and says that it did not.
    Committed,
    /// Before the log is moved into the database.
    Checkpoint,
    /// Before a new connection is tried.
    Probe,
}

/// Decides which points fail.
#[derive(Clone, Default)]
pub(super) struct Faults {
    /// The result code of SQLite to fail with.
    #[cfg(test)]
    pub(super) hook: Option<Arc<dyn Fn(Cut) -> Option<i32> + Send + Sync>>,
}

// === impl Faults ===

impl Faults {
    /// Fails if a test wants it to.
    pub(super) fn at(&self, cut: Cut) -> Result<(), Error> {
        match self.code(cut) {
            None => Ok(()),
            Some(code) => Err(Error::SqliteFailure(ffi::Error::new(code), None)),
        }
    }

    #[cfg(test)]
    fn code(&self, cut: Cut) -> Option<i32> {
        self.hook.as_ref().and_then(|hook| hook(cut))
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "it has nothing to look at")]
    const fn code(&self, _cut: Cut) -> Option<i32> {
        None
    }
}
