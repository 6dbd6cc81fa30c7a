//! Moves the bytes of one pipe into its buffer.
//!
//! Runs on the one thread of `logs`, a task per pipe. It never waits for a reader,
//! so a run never blocks on its output for longer than this thread is busy; what
//! does not fit is trimmed. Wakes nobody while the pipe is idle: the only timer
//! runs while an unfinished line is held.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use memchr::memchr;
use tokio::{
    net::unix::pipe::Receiver,
    time::{Instant, timeout_at},
};

use super::{
    Clock,
    buffer::{Buffer, Directory},
    limits::{HOLD_MAX, QUIET, READ_BYTES_MAX, TURN_BYTES_MAX},
    lines::{Cut, Lines},
    ring::Origin,
};

thread_local! {
    /// One for all pipes: it is empty between two reads.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into());
}

pub(super) struct Pump {
    pub(super) receiver: Receiver,
    pub(super) sink: Sink,
}

/// Where the bytes of one pipe go.
pub(super) struct Sink {
    pub(super) buffer: Arc<Buffer>,
    pub(super) directory: Arc<Directory>,
    pub(super) origin: Origin,
    pub(super) clock: Clock,
    pub(super) lines: Lines,
    /// When the oldest held byte came.
    pub(super) held_since: Option<Instant>,
}

enum Step {
    Read(usize),
    Empty,
    End,
}

// === impl Pump ===

impl Pump {
    /// Until every write end is closed, or the process is removed.
    pub(super) async fn run(self) {
        let Self { receiver, mut sink } = self;
        if !sink.pump(&receiver).await
            && let Ok(fd) = receiver.into_nonblocking_fd()
        {
            sink.drain(File::from(fd));
        }
        sink.finish();
    }
}

// === impl Sink ===

impl Sink {
    /// Whether the pipe came to its end; else the process was removed.
    async fn pump(&mut self, receiver: &Receiver) -> bool {
        let removed = self.buffer.removed.clone();
        let mut removed = pin!(removed.cancelled());
        let mut turn = 0;
        loop {
            let flush_at = self.flush_at();
            let ready = async {
                match flush_at {
                    Some(at) => timeout_at(at, receiver.readable()).await.ok(),
                    None => Some(receiver.readable().await),
                }
            };
            tokio::select! {
                biased;
                ready = ready => match ready {
                    None => self.flush(),
                    Some(_) => match self.step(|scratch| receiver.try_read(scratch)) {
                        Step::Read(count) => turn += count,
                        Step::Empty => turn = 0,
                        Step::End => return true,
                    },
                },
                () = &mut removed => return false,
            }
            if turn >= TURN_BYTES_MAX {
                turn = 0;
                tokio::task::yield_now().await;
                // A pipe that is always ready never lets the branch above be seen.
                if self.buffer.removed.is_cancelled() {
                    return false;
                }
            }
        }
    }

    /// Takes what lies in the pipe of a removed process; bounded, should something
    /// that escaped it still write. The runtime's view of the pipe may be old, so
    /// it is not asked.
    fn drain(&mut self, mut pipe: File) {
        let mut left = TURN_BYTES_MAX;
        while let Step::Read(count) = self.step(|scratch| pipe.read(scratch)) {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    }

    fn step(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Step {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let read = read(scratch);
            if let Ok(count @ 1..) = read {
                self.feed(&scratch[..count]);
            }
            read
        });
        match read {
            Ok(0) => Step::End,
            Ok(count) => Step::Read(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Step::Empty,
                _ => {
                    let (name, run_id) = (&self.buffer.name, self.origin.run_id);
                    tracing::error!(process = %name, run_id, %error, "output can no longer be read");
                    Step::End
                }
            },
        }
    }

    fn feed(&mut self, chunk: &[u8]) {
        self.append(|lines, out| lines.feed(chunk, out));
        self.directory.keep_total();
        if !self.lines.is_holding() {
            self.held_since = None;
        } else if self.held_since.is_none() || memchr(b'\n', chunk).is_some() {
            self.held_since = Some(Instant::now());
        } else if self.held_since.is_some_and(|at| at.elapsed() >= HOLD_MAX) {
            self.flush();
        }
    }

    /// When the unfinished line is to be handed on.
    fn flush_at(&self) -> Option<Instant> {
        let since = self.held_since?;
        Some((Instant::now() + QUIET).min(since + HOLD_MAX))
    }

    fn flush(&mut self) {
        self.append(Lines::flush);
        self.held_since = None;
    }

    fn finish(&mut self) {
        self.append(Lines::finish);
    }

    fn append(&mut self, cut: impl FnOnce(&mut Lines, &mut dyn FnMut(Bytes, Cut))) {
        let time = (self.clock)();
        let Self { lines, origin, .. } = self;
        self.buffer.append(|ring| {
            cut(lines, &mut |data, cut| ring.push(origin, time, data, cut));
        });
    }
}
