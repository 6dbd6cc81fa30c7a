//! The pipes that a run writes to.
//!
//! The run's end is opened for reading and writing, so that whoever writes gets
//! no SIGPIPE and loses no byte while nobody reads: a killed shim leaves what was
//! written in the pipe, and the next one opens it again. Invariant: a pipe is
//! known by its inode, so no other one that a program has put in its place is
//! ever read. Deliberately absent: moving bytes (`output`).

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, fstat},
    unistd::{Uid, fchown, pipe2},
};

use super::{
    protocol::{HELD_STDERR, HELD_STDOUT},
    record::PipeIdentity,
    segment::Stream,
};

/// One pipe, before the child has its end.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) stream: Stream,
    pub(super) read_end: OwnedFd,
    pub(super) run_end: OwnedFd,
}

/// Processes whose descriptors are looked through for a pipe.
const HOLDERS_MAX: usize = 1000;

// === impl Pipe ===

impl Pipe {
    /// `owner` may open it by path too, as programs do with `/dev/stdout`.
    pub(super) fn new(stream: Stream, owner: Option<Uid>) -> nix::Result<Self> {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
        let run_end = reopen(&descriptor(write_end.as_fd()), OFlag::O_RDWR)?;
        // Who may not change it has no other user's program either.
        let _ = fchown(&run_end, owner, None);
        Ok(Self {
            stream,
            read_end,
            run_end,
        })
    }
}

/// A pipe for what this process writes itself: to read from, to write to.
pub(super) fn internal() -> nix::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC)
}

/// Another end to write to of the pipe that is read from here.
pub(super) fn write_end(read_end: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    reopen(&descriptor(read_end), OFlag::O_WRONLY)
}

/// How a stream is called in records and messages.
pub(super) fn held(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => HELD_STDOUT,
        Stream::Stderr => HELD_STDERR,
    }
}

/// What [`held`] was given; `None` of what a newer shim holds.
pub(super) fn stream(held: u8) -> Option<Stream> {
    match held {
        HELD_STDOUT => Some(Stream::Stdout),
        HELD_STDERR => Some(Stream::Stderr),
        _ => None,
    }
}

/// 0 if the kernel does not tell.
pub(super) fn inode(pipe: BorrowedFd<'_>) -> u64 {
    fstat(pipe).map_or(0, |found| found.st_ino)
}

/// A read end of the pipe that one of `holders` has open; the first ones are asked
/// first, and of each its standard streams before others.
pub(super) fn find(pipe: PipeIdentity, holders: &[i32]) -> Option<OwnedFd> {
    let name = format!("pipe:[{}]", pipe.inode);
    let is_it = |path: &Path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == &*name);
    let open = |path: &Path| {
        let found = reopen(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
        (inode(found.as_fd()) == pipe.inode).then_some(found)
    };
    for pid in holders.iter().take(HOLDERS_MAX) {
        let dir = PathBuf::from(format!("/proc/{pid}/fd"));
        let usual = [1, 2].map(|number: i32| dir.join(number.to_string()));
        let all = || {
            fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
        };
        let found = usual
            .into_iter()
            .filter(|path| is_it(path))
            .find_map(|path| open(&path));
        if let Some(found) = found.or_else(|| all().filter(|p| is_it(p)).find_map(|p| open(&p))) {
            return Some(found);
        }
    }
    None
}

fn descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn reopen(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open(
        path,
        flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;

    #[test]
    fn a_pipe_without_a_reader_keeps_what_is_written_and_is_found_again() {
        let Pipe {
            read_end, run_end, ..
        } = Pipe::new(Stream::Stdout, None).unwrap();
        let identity = PipeIdentity {
            stream: HELD_STDOUT,
            inode: inode(read_end.as_fd()),
        };
        drop(read_end);
        let mut run_end = File::from(run_end);
        run_end.write_all(b"kept").unwrap();
        let own = std::process::id().cast_signed();
        let mut found = File::from(find(identity, &[own]).unwrap());
        let mut bytes = [0; 4];
        found.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"kept");
    }

    #[test]
    fn another_pipe_is_never_taken() {
        let pipe = Pipe::new(Stream::Stderr, None).unwrap();
        let identity = PipeIdentity {
            stream: HELD_STDERR,
            inode: inode(pipe.read_end.as_fd()),
        };
        drop(pipe);
        let own = std::process::id().cast_signed();
        assert!(find(identity, &[own]).is_none());
    }
}
