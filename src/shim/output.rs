//! Moves what a run writes from its pipes into the segments of its log.
//!
//! `splice` moves a stretch (`log`), it is read back and its lines are counted
//! (`lines`), and a record says so. A byte is in the pipe or in a file, whatever
//! is killed; what lies in a file without a record is found by the next shim
//! (`takeover`). Invariants: one writer (`directory`); nothing is thrown away but
//! by a policy that says so, and then it is counted; a failure stops neither the
//! run nor the shim, it is tried again after a growing pause; no call waits, and
//! none does more than a bounded turn.
//! Deliberately absent: waiting (the caller polls), reading (`logs`), fsync: what
//! is written survives the death of any process, not that of the machine.

mod directory;
mod kernel;
mod lines;
mod log;
mod policy;
mod takeover;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::errno::Errno;

pub use policy::Policy;

use self::log::Log;
use super::segment::Stream;
use crate::domain::{run::OutputState, time::Timestamp};

/// Between two tries when nothing can be stored.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What newlines are counted in.
const BUFFER_BYTES: usize = 32 * 1024;
/// A pipe that had this much in it is made as large as anybody may.
const PIPE_IS_BUSY_BYTES: u64 = 32 * 1024;
const PIPE_BYTES: i32 = 1024 * 1024;

/// What a new [`Output`] begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// A run begins.
    Run,
    /// A run goes on whose shim has died.
    Adopted,
}

/// The output of one run on its way to disk.
#[derive(Debug)]
pub(crate) struct Output {
    dir: PathBuf,
    run_id: i64,
    policy: Policy,
    begin: Begin,
    /// `None` until it can be opened.
    log: Option<Log>,
    /// Whether the log tells that the run began.
    begun: bool,
    end: End,
    pipes: [Option<Pipe>; 2],
    pause: Option<Pause>,
    /// Bytes of each stream that no record tells of yet.
    dropped: [u64; 2],
    dropped_bytes: u64,
    approximate_bytes: u64,
    buffer: Vec<u8>,
}

/// Why nothing is stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum OutputError {
    /// Two writers are never right; the other one is about to end.
    #[error("another shim writes these files")]
    Held,
    #[error("{}", .0.desc())]
    Kernel(#[from] Errno),
}

#[derive(Debug)]
struct Pipe {
    read_end: OwnedFd,
    /// Nobody can write to it any more.
    ended: bool,
    enlarged: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    error: OutputError,
    wait: Duration,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    /// `RunEnded` is written or queued: nothing is moved any more.
    Told,
    /// All is written and closed.
    Done,
}

// === impl Output: what the event loop calls ===

impl Output {
    /// Nothing is opened yet: that is what the first `retry` or `ready` does, and
    /// `timeout` asks for it at once. No two may write to `dir` at the same time;
    /// the second waits until the first has gone.
    pub(crate) fn new(dir: PathBuf, run_id: i64, policy: Policy, begin: Begin) -> Self {
        Self {
            dir,
            run_id,
            policy,
            begin,
            log: None,
            begun: false,
            end: End::None,
            pipes: [None, None],
            pause: None,
            dropped: [0; 2],
            dropped_bytes: 0,
            approximate_bytes: 0,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Moves what comes out of this pipe. Its read end is made nonblocking.
    pub(crate) fn watch(&mut self, stream: Stream, read_end: OwnedFd) {
        // Only a read that throws away needs it, and a pipe refuses it never.
        let _ = kernel::set_nonblocking(&read_end);
        self.pipes[stream.index()] = Some(Pipe {
            read_end,
            ended: false,
            enlarged: false,
        });
    }

    /// Keeps it like this from now on; what is stored already, too.
    pub(crate) fn keep(&mut self, policy: Policy, now: Timestamp) {
        self.policy = policy;
        if let Some(log) = &mut self.log {
            log.keep(policy, now);
        }
    }

    /// What to wait for now, until it is readable: no pipe that has ended, and
    /// none while nothing can be stored or after the run was told to be over.
    pub(crate) fn polls(&self) -> Vec<(Stream, BorrowedFd<'_>)> {
        if self.end != End::None || self.pause.is_some() && !self.discards() {
            return Vec::new();
        }
        let of = |stream: Stream| self.live(stream).map(|pipe| (stream, pipe));
        Stream::ALL.into_iter().filter_map(of).collect()
    }

    /// Whether every pipe has ended: nobody can write any more.
    pub(crate) fn ended(&self) -> bool {
        Stream::ALL.into_iter().all(|s| self.live(s).is_none())
    }

    /// Moves a bounded turn of `stream`.
    pub(crate) fn ready(&mut self, stream: Stream, now: Timestamp) {
        let result = match self.pause {
            _ if self.end != End::None => return,
            Some(pause) if !pause.is_over() => {
                if self.discards() {
                    self.discard(stream);
                }
                return;
            }
            Some(_) => self.attempt(now),
            None => self
                .advance(now)
                .and_then(|()| self.move_turn(stream, now).map(drop)),
        };
        self.conclude(result);
    }

    /// How long until `retry` is due; `None` while there is nothing to retry.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match (self.end, self.pause) {
            (End::Done, _) => None,
            (_, Some(pause)) => Some(pause.until.saturating_duration_since(Instant::now())),
            (_, None) => self.log.is_none().then_some(Duration::ZERO),
        }
    }

    /// Opens or tries again what failed, if that is due.
    pub(crate) fn retry(&mut self, now: Timestamp) {
        if self.timeout() == Some(Duration::ZERO) {
            let result = self.attempt(now);
            self.conclude(result);
        }
    }

    /// Moves what still lies in the pipes, at most 64 MiB of each, tells that the
    /// run ended and closes all. `false` if that cannot be stored now: then it is
    /// to be called again after `timeout`, or what is not stored is given up, as it is
    /// here if the log was removed: nobody would find it.
    pub(crate) fn finish(&mut self, now: Timestamp) -> bool {
        if self.end != End::Done {
            let result = self.drain(now);
            self.conclude(result);
            let is_removed = self.log.as_ref().is_some_and(Log::is_removed);
            if self.pause.is_some() && !is_removed {
                return false;
            }
            self.end = End::Done;
            self.log = None;
            self.pipes = [None, None];
        }
        true
    }

    /// Whether all that was written is kept. Dropping is told of until the end of the
    /// run.
    pub(crate) fn health(&self) -> OutputState {
        match self.pause {
            Some(pause) if !self.discards() => OutputState::Blocked {
                errno: pause.error.errno() as i32,
            },
            _ if self.dropped_bytes > 0 => OutputState::Dropped {
                bytes: self.dropped_bytes,
            },
            _ => OutputState::Intact,
        }
    }

    /// Bytes that were taken over without the time when they were written.
    pub(crate) fn approximate_bytes(&self) -> u64 {
        self.approximate_bytes
    }
}

// === impl OutputError ===

impl OutputError {
    fn errno(self) -> Errno {
        match self {
            Self::Held => Errno::EBUSY,
            Self::Kernel(errno) => errno,
        }
    }
}

// === impl Pipe ===

impl Pipe {
    /// A quiet run keeps the small pipe: a large one costs the kernel memory even
    /// if it is empty.
    fn grow(&mut self, bytes: u64) {
        if !self.enlarged && bytes >= PIPE_IS_BUSY_BYTES {
            self.enlarged = true;
            // Not allowed is as well.
            let _ = kernel::enlarge(self.read_end.as_fd(), PIPE_BYTES);
        }
    }
}

// === impl Pause ===

impl Pause {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}
