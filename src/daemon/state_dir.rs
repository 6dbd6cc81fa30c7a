//! The state directory: one daemon at a time, and an identity that outlives it.
//!
//! Invariants: the lock is one of the process (`F_SETLK`), so it ends with it. One of
//! the open file, as flock has it, would be shared by a shim that is being started,
//! until it executes its program: after a kill the next daemon would be refused. The
//! price: nothing else in this process may open and close the file of the lock.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

/// A state directory that is ours until dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    /// UUID drawn when the directory was first used.
    pub(super) instance_id: String,
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another daemon has it.
    #[error("another daemon ({holder}) uses {}; stop it, or choose another --state-dir", .path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// Who.
        holder: Holder,
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

/// A process that uses a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Absent if it is in a pid namespace that we do not see.
    pub pid: Option<i32>,
}

// === impl Holder ===

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}"),
            None => f.write_str("in another pid namespace"),
        }
    }
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

fn lock(directory: &Path) -> Result<File, StateDirError> {
    let path = directory.join("lock");
    let file = open(&path)?;
    loop {
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => return Ok(file),
            Err(Errno::EACCES | Errno::EAGAIN) => {}
            Err(errno) => return Err(failed(&path, "lock")(errno.into())),
        }
        // None: it ended meanwhile.
        if let Some(holder) = holder_of(&file).map_err(failed(&path, "look at the lock"))? {
            return Err(StateDirError::InUse {
                path: directory.to_owned(),
                holder,
            });
        }
    }
}

/// Who uses the state directory, if anybody does. The lock is only looked at.
///
/// # Errors
/// The file of the lock cannot be opened or asked about.
pub fn holder(directory: &Path) -> io::Result<Option<Holder>> {
    match File::open(directory.join("lock")) {
        Ok(file) => holder_of(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn holder_of(file: &File) -> io::Result<Option<Holder>> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some(Holder {
        pid: Some(lock.l_pid).filter(|pid| *pid > 0),
    }))
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
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
    fn the_identity_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = StateDir::open(&path, || "first".into()).unwrap();
        assert_eq!(first.instance_id, "first");
        drop(first);
        assert_eq!(holder(&path).unwrap(), None);
        let second = StateDir::open(&path, || "second".into()).unwrap();
        assert_eq!(second.instance_id, "first");
    }

    #[test]
    fn nobody_uses_a_directory_that_is_not_there() {
        assert_eq!(holder(Path::new("/nowhere/at/all")).unwrap(), None);
    }
}
