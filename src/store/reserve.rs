//! A file that takes up space until the disk is full: freed then, so that exit
//! states can still be written.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Name of the file beside the database.
const FILE: &str = "store.reserve";
static CHUNK: [u8; 64 * 1024] = [0; 64 * 1024];

/// Space set aside.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

// === impl Reserve ===

impl Reserve {
    /// `bytes` in `dir`; taken with [`Reserve::fill`].
    pub(super) fn new(dir: &Path, bytes: u64) -> Self {
        let path = dir.join(FILE);
        Self { path, bytes }
    }

    /// Takes the space, unless it is taken. As much again must be free: a disk that
    /// could only take back what was freed is still full.
    ///
    /// # Errors
    /// There is not that much; none of it is taken.
    pub(super) fn fill(&self) -> io::Result<()> {
        let taken = fs::metadata(&self.path).map_or(0, |found| found.len());
        if taken == self.bytes {
            return Ok(());
        }
        self.write().inspect_err(|_| self.free())
    }

    /// Gives the space back.
    pub(super) fn free(&self) {
        // It may not be there; and a file that stays is only space.
        let _ = fs::remove_file(&self.path);
    }

    /// Bytes are written, not a hole made: a hole takes no space.
    fn write(&self) -> io::Result<()> {
        self.free();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)?;
        let mut left = self.bytes.saturating_mul(2);
        while left > 0 {
            let part = left.min(CHUNK.len() as u64);
            let chunk = CHUNK.get(..usize::try_from(part).unwrap_or_default());
            file.write_all(chunk.unwrap_or_default())?;
            left -= part;
        }
        // Without this a file system may find only later that there is no space.
        file.sync_data()?;
        file.set_len(self.bytes)
    }
}
