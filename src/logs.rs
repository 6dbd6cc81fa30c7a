//! L2, the output of runs: read from the segments that shims write, by any number
//! of cursors.
//!
//! ```text
//! run -> pipe -> shim -> logs/<uid>/ segments <- reader (cursor) <- grpc
//!                             | inotify
//!                             watcher (one thread): marks readers, keeps house
//! ```
//!
//! The daemon moves no output: a run never waits for it, and what is written while
//! there is no daemon is read like everything else. Nothing is kept in memory but
//! a cursor per followed log. Numbers of lines are on disk, so a position stays
//! good as long as the process exists, whichever daemon gave it. What retention
//! removes, or a disk spoils, is a gap with numbers.
//!
//! Deliberately absent: writing, rotation and the retention of one process (the
//! shim's); a search by time, which reads from the oldest entry on.

mod continuity;
mod data;
mod entry;
mod gate;
mod index;
pub mod limits;
mod place;
mod reader;
mod seek;
mod store;
mod tape;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod watcher;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

pub use self::{
    entry::{Batch, Entry, Gap, GapReason, OutputStream},
    limits::Limits,
    place::{End, Place, Start},
    reader::{Attached, Reader, Slot},
};
use self::{store::Store, watcher::Watcher};
use crate::domain::id::Uid;

/// All logs. Clones share everything; when the last one goes, the thread ends.
#[derive(Debug, Clone)]
pub struct Logs {
    thread: Arc<Thread>,
}

/// A run is up and may write. The total over all processes is looked at every
/// [`limits::TOTAL_INTERVAL`] while one of these exists, and once after the last.
#[derive(Debug)]
pub struct Writing {
    watcher: Arc<Watcher>,
}

#[derive(Debug)]
struct Thread {
    watcher: Arc<Watcher>,
    handle: Option<JoinHandle<()>>,
}

// === impl Logs ===

impl Logs {
    /// Serves the logs below `root`, a directory per uid, which is made if need be.
    ///
    /// # Errors
    /// The directory or the thread cannot be made.
    pub fn new(root: PathBuf, limits: Limits) -> io::Result<Self> {
        Self::watched_by(Watcher::new(Store::open(root)?, limits.total_bytes)?)
    }

    fn watched_by(watcher: Watcher) -> io::Result<Self> {
        let watcher = Arc::new(watcher);
        let watching = Arc::clone(&watcher);
        let handle = thread::Builder::new()
            .name("logs".into())
            .spawn(move || watching.run())?;
        Ok(Self {
            thread: Arc::new(Thread {
                watcher,
                handle: Some(handle),
            }),
        })
    }

    /// A reader that follows nothing yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.thread.watcher))
    }

    /// Where the log of `uid` lies, if there is one. What else is kept there goes with
    /// it.
    #[must_use]
    pub fn directory(&self, uid: Uid) -> PathBuf {
        self.thread.watcher.store().dir(uid)
    }

    /// To be held as long as a run is up.
    #[must_use]
    pub fn writing(&self) -> Writing {
        self.thread.watcher.run_began();
        Writing {
            watcher: Arc::clone(&self.thread.watcher),
        }
    }

    /// Deletes the log of `uid`, after the process is deleted and its last run has
    /// ended. A reader that follows it still gets what it has not read; the files
    /// go with the last such reader.
    pub fn remove(&self, uid: Uid) {
        self.thread.watcher.remove(uid);
    }

    /// Deletes the logs of all processes but these; for the start of the daemon.
    ///
    /// # Errors
    /// The directory of all logs cannot be read.
    pub fn retain_only(&self, uids: &[Uid]) -> io::Result<()> {
        let watcher = &self.thread.watcher;
        watcher.doom(watcher.store().orphans(uids)?);
        Ok(())
    }

    /// Bytes on disk over all processes. Looks at every file.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.thread.watcher.store().used()
    }
}

// === impl Writing ===

impl Drop for Writing {
    fn drop(&mut self) {
        self.watcher.run_ended();
    }
}

// === impl Thread ===

impl Drop for Thread {
    fn drop(&mut self) {
        self.watcher.stop();
        if let Some(handle) = self.handle.take() {
            // It does nothing that lasts; its panic was reported by the panic hook.
            let _ = handle.join();
        }
    }
}
