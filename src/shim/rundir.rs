//! The directory of one run, in which a shim leaves what a later daemon needs.
//!
//! ```text
//! runs/<uid>.<run_id>/   0700, locked (flock) by whoever owns the run
//!     run     who runs        (`record`)
//!     exit    how it ended    (`record`)
//!     ctl     where its shim listens
//!     stdin   how much was written to it (`stdin`)
//!     spare.* room for the two last records on a full disk
//! ```
//!
//! Invariants: a record appears or changes by rename, so that it is whole or old,
//! whoever is killed meanwhile (no fsync: a reboot is told apart by the boot id);
//! the lock comes with the directory and passes from the daemon to the shim in the
//! same open file, so it is free only if no shim lives; no link is followed, and
//! nothing of a foreign owner is believed. Everything goes through the open
//! directory, so it may be moved, and a socket's path is never too long.
//! Deliberately absent: what records mean.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate, openat, renameat},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
        },
        stat::Mode,
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::{
    codec::DecodeError,
    record::{ExitRecord, RECORD_BYTES_MAX, RunRecord},
};
use crate::domain::id::Uid;

const RUN: &str = "run";
const EXIT: &str = "exit";
const CTL: &str = "ctl";
const STDIN: &str = "stdin";
/// One for the end of the main process, one for the end of all.
const SPARES: [&str; 2] = ["spare.0", "spare.1"];
const SPARE_BYTES: i64 = 8 * 1024;
const BACKLOG: i32 = 8;
const REMOVE_TRIES: u32 = 8;

/// An open run directory.
#[derive(Debug)]
pub(crate) struct RunDir(File);

/// Why a run directory gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunDirError {
    /// The file system refused.
    #[error("{what}: {}", super::sys::describe(.error))]
    Io {
        what: &'static str,
        error: io::Error,
    },
    /// Somebody else made it.
    #[error("{0}: belongs to user {1} and is not believed")]
    ForeignOwner(&'static str, u32),
    /// It is no record.
    #[error("{0}: {1}")]
    Record(&'static str, DecodeError),
}

// === impl RunDir ===

impl RunDir {
    /// Makes it, and takes its lock.
    ///
    /// # Errors
    /// Also if it is there already: a run begins once.
    pub(crate) fn create(path: &Path) -> Result<Self, RunDirError> {
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(io_error("run directory"))?;
        let dir = Self::open(path)?;
        dir.try_lock()?;
        Ok(dir)
    }

    /// Opens one that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, RunDirError> {
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .map_err(io_error("run directory"))?;
        owned(&file, "run directory")?;
        Ok(Self(file))
    }

    /// One that was passed by who has made or opened it.
    pub(crate) fn from_passed(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }

    /// Takes the lock for this open file and all copies of it. `false` if another
    /// one has it: a shim that lives, or is just ending.
    pub(crate) fn try_lock(&self) -> Result<bool, RunDirError> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(io_error("lock")(error)),
        }
    }

    pub(crate) fn run(&self) -> Result<Option<RunRecord>, RunDirError> {
        self.read(RUN, RunRecord::decode)
    }

    pub(crate) fn exit(&self) -> Result<Option<ExitRecord>, RunDirError> {
        self.read(EXIT, ExitRecord::decode)
    }

    pub(crate) fn write_run(&self, record: &RunRecord) -> io::Result<()> {
        self.write(RUN, &record.encode())
    }

    /// On a full disk it takes a spare.
    pub(crate) fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        let bytes = record.encode();
        self.write(EXIT, &bytes).or_else(|error| {
            let spared = SPARES.iter().any(|spare| {
                let flags = OFlag::O_WRONLY;
                self.fill(spare, EXIT, flags, &bytes).is_ok()
            });
            if spared { Ok(()) } else { Err(error) }
        })
    }

    /// Keeps room for the two records of the end.
    pub(crate) fn keep_spares(&self) -> io::Result<()> {
        for spare in SPARES {
            let file = self.open_at(spare, OFlag::O_WRONLY | OFlag::O_CREAT)?;
            match fallocate(&file, FallocateFlags::empty(), 0, SPARE_BYTES) {
                // A file system without it writes zeroes, which takes room too.
                Err(Errno::EOPNOTSUPP) => (&file).write_all(&[0; SPARE_BYTES as usize])?,
                result => result?,
            }
        }
        Ok(())
    }

    /// The socket on which a shim hears its daemons. One that a dead shim left is
    /// replaced.
    pub(crate) fn listen(&self) -> nix::Result<OwnedFd> {
        match unlinkat(&self.0, CTL, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let socket = seqpacket()?;
        bind(socket.as_raw_fd(), &self.address()?)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(socket)
    }

    /// Where it is counted what was written to standard input.
    pub(crate) fn stdin_count(&self) -> io::Result<File> {
        self.open_at(STDIN, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    /// Connects to the shim that listens.
    ///
    /// # Errors
    /// `ENOENT` or `ECONNREFUSED` if there is none; `EAGAIN` if too many wait.
    pub(crate) fn connect(&self) -> nix::Result<OwnedFd> {
        let socket = seqpacket()?;
        connect(socket.as_raw_fd(), &self.address()?)?;
        Ok(socket)
    }

    /// Removes all that is in it, and it.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tries = REMOVE_TRIES;
        loop {
            for entry in fs::read_dir(self.proc_path())? {
                let name = entry?.file_name();
                match unlinkat(&self.0, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            tries -= 1;
            match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // Its shim has just put something there.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries > 0 => {}
                result => return result,
            }
        }
    }

    fn read<T>(
        &self,
        name: &'static str,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, RunDirError> {
        let file = match self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(name)(error)),
        };
        owned(&file, name)?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(RECORD_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error(name))?;
        decode(&bytes)
            .map(Some)
            .map_err(|error| RunDirError::Record(name, error))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        self.fill(&temporary, name, flags, bytes).inspect_err(|_| {
            // What it has is needed for others.
            let _ = unlinkat(&self.0, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        })
    }

    /// Writes a file under one name and gives it another.
    fn fill(&self, from: &str, to: &str, flags: OFlag, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open_at(from, flags)?;
        file.write_all(bytes)?;
        file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        drop(file);
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    fn open_at(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(File::from(openat(&self.0, name, flags, mode)?))
    }

    fn address(&self) -> nix::Result<UnixAddr> {
        UnixAddr::new(&self.proc_path().join(CTL))
    }

    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl AsFd for RunDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Name of the directory of a run, and of its cgroup.
pub(crate) fn label(uid: Uid, run_id: i64) -> String {
    format!("{uid}.{run_id}")
}

/// What [`label`] was given.
pub(crate) fn parse_label(name: &str) -> Option<(Uid, i64)> {
    let (uid, run_id) = name.split_once('.')?;
    let found = (Uid::parse(uid)?, run_id.parse().ok()?);
    // No second spelling of the number.
    (label(found.0, found.1) == name).then_some(found)
}

/// Identity of this boot; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    read_boot_id().unwrap_or_default()
}

/// Identity of this boot.
///
/// # Errors
/// `/proc` is not there.
pub(crate) fn read_boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn owned(file: &File, what: &'static str) -> Result<(), RunDirError> {
    let metadata = file.metadata().map_err(io_error(what))?;
    if metadata.uid() == geteuid().as_raw() {
        Ok(())
    } else {
        Err(RunDirError::ForeignOwner(what, metadata.uid()))
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> RunDirError {
    move |error| RunDirError::Io { what, error }
}

fn seqpacket() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
}

#[cfg(test)]
mod tests;
