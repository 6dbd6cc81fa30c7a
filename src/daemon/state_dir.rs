//! The state directory: one daemon at a time, and an identity that outlives it.
//!
//! Later the durable store lies here too.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A state directory that is ours until dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    /// UUID drawn when the directory was first used.
    pub(super) instance_id: String,
    _lock: Flock<File>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another daemon has it.
    #[error("another daemon (pid {pid}) uses {}; stop it, or choose another --state-dir", .path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// Who, as that daemon wrote it; `?` if it did not.
        pid: String,
    },
    /// The file system refuses.
    #[error("state directory {}: {step}: {source}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
}

// === impl StateDir ===

impl StateDir {
    /// Creates the directory (0700) if it is missing, and takes its lock.
    pub(super) fn open(
        path: &Path,
        new_id: impl FnOnce() -> String,
    ) -> Result<Self, StateDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed(path, "create"))?;
        let lock = lock(path)?;
        let instance_id = instance_id(&path.join("instance-id"), new_id)?;
        Ok(Self {
            instance_id,
            _lock: lock,
        })
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, StateDirError> {
    let path = directory.join("lock");
    let mut file = open(&path)?;
    let mut pid = String::new();
    file.read_to_string(&mut pid)
        .map_err(failed(&path, "read"))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => {
            let pid = if pid.is_empty() {
                "?".to_owned()
            } else {
                pid.trim().to_owned()
            };
            return Err(StateDirError::InUse {
                path: directory.to_owned(),
                pid,
            });
        }
        Err((_, errno)) => return Err(failed(&path, "lock")(errno.into())),
    };
    let wrote = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    wrote.map_err(failed(&path, "write"))?;
    Ok(lock)
}

fn instance_id(path: &Path, new_id: impl FnOnce() -> String) -> Result<String, StateDirError> {
    let mut file = open(path)?;
    let mut id = String::new();
    file.read_to_string(&mut id).map_err(failed(path, "read"))?;
    let id = id.trim().to_owned();
    if !id.is_empty() {
        return Ok(id);
    }
    let id = new_id();
    writeln!(file, "{id}").map_err(failed(path, "write"))?;
    Ok(id)
}

fn open(path: &Path) -> Result<File, StateDirError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed(path, "open"))
}

fn failed(path: &Path, step: &'static str) -> impl Fn(io::Error) -> StateDirError {
    let path = path.to_owned();
    move |source| StateDirError::Io {
        path: path.clone(),
        step,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time_and_the_identity_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = StateDir::open(&path, || "first".into()).unwrap();
        assert_eq!(first.instance_id, "first");
        let refused = StateDir::open(&path, || "second".into()).unwrap_err();
        let expected = std::process::id().to_string();
        assert!(matches!(refused, StateDirError::InUse { pid, .. } if pid == expected));
        drop(first);
        assert_eq!(
            StateDir::open(&path, || "third".into())
                .unwrap()
                .instance_id,
            "first"
        );
    }
}
