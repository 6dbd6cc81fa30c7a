//! L2, the output of runs: captured from pipes into a bounded buffer per process,
//! read by any number of cursors.
//!
//! ```text
//! run -> pipe -> pump -> lines -> ring (one per uid) <- reader (cursor) <- grpc
//! ```
//!
//! All pipes are read on one thread of their own, so output never competes with
//! supervision. A run never waits for a reader: what does not fit is trimmed,
//! oldest first, and a reader that needed it gets a gap with numbers. The buffer of
//! a uid outlives its runs and goes with [`Logs::remove`].
//!
//! Deliberately absent: durability and `LogFullAction` BLOCK; a store of segments
//! takes the place of the ring for that. The seam: pumps append, readers hold a
//! cursor and are woken; neither knows how entries are kept.

mod buffer;
mod entry;
pub mod limits;
mod lines;
mod pump;
mod reader;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::unix::pipe::Receiver,
    runtime::{Builder, Handle},
};
use tokio_util::sync::CancellationToken;

use self::{
    buffer::{Buffer, Directory},
    lines::Lines,
    pump::{Pump, Sink},
    ring::Origin,
};
pub use self::{
    entry::{Entry, Gap, GapReason, OutputStream},
    limits::Limits,
    reader::{Attached, Reader, Slot, Start},
    ring::{Batch, Window},
};
use crate::domain::{
    id::{ProcessName, Uid},
    time::Timestamp,
};

/// Tells the wall-clock time of a capture.
pub type Clock = fn() -> Timestamp;

/// Captures output. Clones share everything; when the last one goes, capturing
/// ends and the pipes are closed.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: Arc<Directory>,
    capture: Arc<Capture>,
}

/// The ends a run writes to; blocking, and closed on exec unless duplicated.
#[derive(Debug)]
pub struct Writers {
    /// For standard output.
    pub stdout: OwnedFd,
    /// For standard error.
    pub stderr: OwnedFd,
}

/// The thread that reads pipes.
#[derive(Debug)]
struct Capture {
    handle: Handle,
    clock: Clock,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

// === impl Logs ===

impl Logs {
    /// Starts the thread that captures.
    ///
    /// # Errors
    /// The thread, or its epoll instance, cannot be made.
    pub fn new(limits: Limits) -> io::Result<Self> {
        Self::with_clock(limits, wall_clock)
    }

    /// [`Logs::new`] with the clock that dates entries.
    ///
    /// # Errors
    /// As [`Logs::new`].
    pub fn with_clock(limits: Limits, clock: Clock) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("logs".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self {
            directory: Arc::new(Directory::new(limits.total_bytes)),
            capture: Arc::new(Capture {
                handle,
                clock,
                stop,
                thread: Some(thread),
            }),
        })
    }

    /// Makes the pipes for one run and captures what is written to them until all
    /// copies of the write ends are closed. `buffer_bytes` is what is retained of
    /// this uid from now on; 0 is the default, the rest is clamped (see
    /// [`limits::buffer_bytes`]). With `merge_stderr` both ends are one pipe and
    /// all of it counts as standard output.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub fn open(
        &self,
        uid: Uid,
        name: &ProcessName,
        run_id: i64,
        merge_stderr: bool,
        buffer_bytes: usize,
    ) -> io::Result<Writers> {
        // Both before the buffer, so that a failure leaves nothing behind.
        let (reader, stdout) = io::pipe()?;
        let out = self.receiver(reader)?;
        let (err, stderr) = if merge_stderr {
            (None, stdout.try_clone()?)
        } else {
            let (reader, stderr) = io::pipe()?;
            (Some(self.receiver(reader)?), stderr)
        };
        let limit = limits::buffer_bytes(buffer_bytes);
        let buffer = self.directory.open(uid, name, limit);
        self.pump(out, &buffer, run_id, OutputStream::Stdout);
        if let Some(err) = err {
            self.pump(err, &buffer, run_id, OutputStream::Stderr);
        }
        Ok(Writers {
            stdout: stdout.into(),
            stderr: stderr.into(),
        })
    }

    /// Forgets what was captured of `uid` and closes its pipes, after the process
    /// is deleted. A reader that follows it still gets what it has not read.
    pub fn remove(&self, uid: Uid) {
        self.directory.remove(uid);
    }

    /// A reader that follows nothing yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.directory))
    }

    /// Bytes retained over all processes, as [`Limits::total_bytes`] counts them.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.directory.used()
    }

    fn receiver(&self, reader: io::PipeReader) -> io::Result<Receiver> {
        let _context = self.capture.handle.enter();
        Receiver::from_owned_fd(reader.into())
    }

    fn pump(&self, receiver: Receiver, buffer: &Arc<Buffer>, run_id: i64, stream: OutputStream) {
        let sink = Sink {
            buffer: Arc::clone(buffer),
            directory: Arc::clone(&self.directory),
            origin: Origin {
                run_id,
                stream,
                open: None,
            },
            clock: self.capture.clock,
            lines: Lines::default(),
            held_since: None,
        };
        drop(self.capture.handle.spawn(Pump { receiver, sink }.run()));
    }
}

// === impl Capture ===

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It only ever does non-blocking reads, so this is short; its panic
            // has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
