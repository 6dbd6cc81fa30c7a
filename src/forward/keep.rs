//! Where a position outlives the daemon: a file beside the segments of the log,
//! replaced by rename and not synced (the page cache outlives any process).
//!
//! It goes with the log. Deliberately absent: when to write.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use super::position::Position;

/// The file of one process and target.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    name: String,
    key: String,
}

// === impl Keeper ===

impl Keeper {
    /// In the directory of a log, which need not be there yet.
    pub(super) fn new(directory: PathBuf, key: String) -> Self {
        let name = format!("forward-{:016x}", fingerprint(&key));
        Self {
            directory,
            name,
            key,
        }
    }

    /// What was kept; `None` if nothing was, or nothing that can be read.
    pub(super) fn load(&self) -> Option<Position> {
        let text = fs::read_to_string(self.path()).ok()?;
        Position::decode(&text, &self.key)
    }

    /// Makes the directory, as a shim would.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.directory)
    }

    /// Replaces what was kept. A log that is gone keeps nothing.
    ///
    /// # Errors
    /// It cannot be written; what was kept before still is.
    pub(super) fn save(&self, position: &Position) -> io::Result<()> {
        let new = self.directory.join(format!("{}.new", self.name));
        let written = fs::write(&new, position.encode(&self.key))
            .and_then(|()| fs::rename(&new, self.path()));
        match written {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    /// The target is not wanted any more.
    pub(super) fn forget(&self) {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = self.path();
                tracing::warn!(path = %path.display(), %error, "the position of a forward stays");
            }
            _ => {}
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// FNV-1a of 64 bits: the same in each version. Two keys with one fingerprint would
/// share a file and find it to be the other's, which [`Position::decode`] sees.
fn fingerprint(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_its_target_alone() {
        let root = tempfile::tempdir().unwrap();
        let keeper = |key: &str| Keeper::new(root.path().join("log"), key.into());
        let (one, two) = (keeper("one"), keeper("two"));
        assert_eq!(one.load(), None);
        one.save(&Position::behind(1)).unwrap();
        assert_eq!(one.load(), None, "a log that is gone keeps nothing");
        one.prepare().unwrap();
        one.prepare().unwrap();
        one.save(&Position::behind(1)).unwrap();
        one.save(&Position::behind(2)).unwrap();
        assert_eq!(one.load(), Some(Position::behind(2)));
        assert_eq!(two.load(), None);
        one.forget();
        one.forget();
        assert_eq!(one.load(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_nothing_kept() {
        let root = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(root.path().into(), "one".into());
        fs::write(keeper.path(), "\u{0}").unwrap();
        assert_eq!(keeper.load(), None);
    }
}
