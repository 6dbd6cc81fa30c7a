//! The kernel calls by which output is kept, each of which may fail.
//!
//! They go through here so that the tests can make any one of them fail.
//! Invariant: nothing here panics or waits.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{self, FallocateFlags, FcntlArg, OFlag, RenameFlags, SpliceFFlags, renameat2},
    unistd,
};

#[cfg(not(test))]
use no_faults::fault;

#[cfg(test)]
use super::tests::faults::fault;

/// Makes a directory unless it is there. Not those above it: where they are missing
/// they were moved away, and may come back.
pub(super) fn create_dir(path: &Path) -> nix::Result<()> {
    fault("mkdir")?;
    match errno(DirBuilder::new().mode(0o700).create(path)) {
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// Opens a file for reading and writing. Never to append: splice refuses that.
pub(super) fn open(path: &Path, create: bool) -> nix::Result<File> {
    fault("open")?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    errno(options.open(path))
}

/// Takes the lock that the only writer holds, for as long as `file` is open.
/// `false` if somebody else holds it.
pub(super) fn lock(file: &File) -> nix::Result<bool> {
    fault("lock")?;
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Gives a file its name unless a file has it.
pub(super) fn rename_new(from: &Path, to: &Path) -> nix::Result<()> {
    fault("rename")?;
    let cwd = fcntl::AT_FDCWD;
    match renameat2(cwd, from, cwd, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system or a kernel that cannot do it that way.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            errno(fs::hard_link(from, to))?;
            errno(fs::remove_file(from))
        }
        result => result,
    }
}

/// Removes a file; that there is none is as well.
pub(super) fn remove(path: &Path) -> nix::Result<()> {
    fault("unlink")?;
    match errno(fs::remove_file(path)) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Names and sizes of the files in a directory; none if there is no directory.
pub(super) fn list(dir: &Path) -> nix::Result<Vec<(String, u64)>> {
    fault("readdir")?;
    let mut files = Vec::new();
    let entries = match errno(fs::read_dir(dir)) {
        Err(Errno::ENOENT) => return Ok(files),
        result => result?,
    };
    for entry in entries {
        let entry = errno(entry)?;
        // Files may go meanwhile, and no name of ours is not UTF-8.
        if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) {
            files.push((name, metadata.len()));
        }
    }
    Ok(files)
}

pub(super) fn len(file: &File) -> nix::Result<u64> {
    fault("stat")?;
    errno(file.metadata()).map(|metadata| metadata.len())
}

/// Whether `file` has no name any more.
pub(super) fn is_removed(file: &File) -> nix::Result<bool> {
    fault("stat")?;
    errno(file.metadata()).map(|metadata| metadata.nlink() == 0)
}

/// Whether `path` is still the name of `file`.
pub(super) fn is_named(file: &File, path: &Path) -> nix::Result<bool> {
    fault("stat")?;
    let (by_file, by_path) = (errno(file.metadata())?, fs::symlink_metadata(path));
    Ok(by_path.is_ok_and(|found| (found.dev(), found.ino()) == (by_file.dev(), by_file.ino())))
}

pub(super) fn set_len(file: &File, len: u64) -> nix::Result<()> {
    fault("truncate")?;
    errno(file.set_len(len))
}

/// 0 at the end of the file.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> nix::Result<usize> {
    fault("pread")?;
    loop {
        match errno(file.read_at(buffer, offset)) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> nix::Result<()> {
    fault("pwrite")?;
    errno(file.write_all_at(bytes, offset))
}

/// Moves bytes from a pipe into a file: each is in the one or in the other,
/// whatever happens. 0 if the pipe has no writer any more, `EAGAIN` if it is
/// empty.
pub(super) fn splice(
    pipe: BorrowedFd<'_>,
    file: &File,
    offset: u64,
    bytes: u64,
) -> nix::Result<usize> {
    fault("splice")?;
    let mut offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    loop {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        match fcntl::splice(pipe, None, file, Some(&mut offset), bytes, flags) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Whether a block of the file at `offset` can be had.
pub(super) fn probe(file: &File, offset: u64) -> nix::Result<()> {
    fault("fallocate")?;
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    match fcntl::fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, 4096) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINTR) => Ok(()), // will be seen
        result => result,
    }
}

/// Reads, to throw away. 0 and `EAGAIN` as with [`splice`].
pub(super) fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        match unistd::read(pipe, buffer) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// No call on this end of a pipe waits from now on.
pub(super) fn set_nonblocking(pipe: impl AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl::fcntl(&pipe, FcntlArg::F_GETFL)?);
    fcntl::fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Makes room in a pipe.
pub(super) fn enlarge(pipe: BorrowedFd<'_>, bytes: i32) -> nix::Result<()> {
    fcntl::fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes)).map(drop)
}

fn errno<T>(result: io::Result<T>) -> nix::Result<T> {
    result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

#[cfg(not(test))]
mod no_faults {
    #[inline]
    #[allow(clippy::unnecessary_wraps, reason = "the tests have one that fails")]
    pub(super) fn fault(_call: &str) -> nix::Result<()> {
        Ok(())
    }
}
