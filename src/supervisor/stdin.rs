//! Writing to the standard input of a live run.
//!
//! A write goes piece by piece from here to the shim, which takes what the run has
//! room for; the owner task only hands out the run. Invariants: one writer at a
//! time, so that writes do not mix; each piece says where it belongs, so that none
//! is written twice although the shim may die after it wrote and before it told;
//! waiting for a run that does not read is bounded.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_util::bytes::{Buf, Bytes};

use super::{
    api::{ProcessNode, Refused, Target},
    mailbox::Message,
    root::Supervisor,
};
use crate::{
    domain::{id::ProcessName, run::SignalScope, status::Cause},
    runner::{Run, SignalError, Stopped, WRITE_BYTES_MAX, Write, Written},
};

/// The live run of a process. It may be over by now: then calls are refused.
#[derive(Clone)]
pub struct LiveProcess {
    node: ProcessNode,
    run: Arc<dyn Run>,
    turns: Arc<Turns>,
}

/// Standard input, for one alone until this is dropped.
#[derive(Debug)]
pub struct StdinTurn {
    live: LiveProcess,
}

/// A write that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    /// Bytes written to the run in all.
    pub total: u64,
    /// The run.
    pub run_id: i64,
}

/// Who may write to a run.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Somebody is attached, and nobody else writes.
    taken: AtomicBool,
    /// Held during a write.
    turn: Mutex<()>,
}

/// A write on its way.
struct Writing<'a> {
    live: &'a LiveProcess,
    total: u64,
    rest: Bytes,
    close: bool,
    /// A piece was sent and not answered.
    unsure: bool,
    pause: Duration,
    moved: Instant,
}

/// Between two tries while there is no room.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// So long a process may read nothing before the write is given up.
const STALL_MAX: Duration = Duration::from_secs(30);

// === impl Supervisor ===

impl Supervisor {
    /// The live run, for `purpose` (as the log names it).
    ///
    /// # Errors
    /// There is no such process, a guard does not hold, or nothing runs.
    pub async fn open(
        &self,
        target: Target,
        purpose: &'static str,
        cause: Cause,
    ) -> Result<LiveProcess, Refused> {
        let Target { name, guard } = target;
        let mailbox = self.inner.mailbox(&name)?;
        let message = |reply| Message::Open {
            purpose,
            guard,
            cause,
            reply,
        };
        mailbox.ask(message).await
    }

    /// Writes all of `bytes` to standard input, and then closes it if `close`.
    /// With `offset`, only if that is what was written to the run before. Dropping
    /// the future may leave a part written.
    ///
    /// # Errors
    /// As [`Supervisor::open`]; it is not open, somebody is attached, `offset`
    /// differs, or the process reads nothing for 30 seconds.
    pub async fn write_stdin(
        &self,
        target: Target,
        bytes: Bytes,
        offset: Option<u64>,
        close: bool,
        cause: Cause,
    ) -> Result<Wrote, Refused> {
        let live = self.open(target, "write stdin", cause).await?;
        if live.turns.taken.load(Ordering::Acquire) {
            return Err(Refused::StdinTaken(live.name().clone()));
        }
        let total = live.write(bytes, offset, close).await?;
        let run_id = live.run_id();
        Ok(Wrote { total, run_id })
    }
}

// === impl LiveProcess ===

impl fmt::Debug for LiveProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveProcess")
            .field("name", self.name())
            .field("run_id", &self.run_id())
            .finish_non_exhaustive()
    }
}

impl LiveProcess {
    pub(super) fn new(node: ProcessNode, run: Arc<dyn Run>, turns: Arc<Turns>) -> Self {
        Self { node, run, turns }
    }

    /// The process as it was when this was given out.
    #[must_use]
    pub const fn node(&self) -> &ProcessNode {
        &self.node
    }

    fn name(&self) -> &ProcessName {
        &self.node.body().spec.name
    }

    /// Which run it is.
    #[must_use]
    pub fn run_id(&self) -> i64 {
        self.node.body().status.run_id
    }

    /// Takes standard input, if nobody has.
    ///
    /// # Errors
    /// It is taken, or not open.
    pub async fn take_stdin(&self) -> Result<StdinTurn, Refused> {
        let taken = &self.turns.taken;
        if taken
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return Err(Refused::StdinTaken(self.name().clone()));
        }
        let turn = StdinTurn { live: self.clone() };
        // Nothing is written, but it is known then whether it could be.
        self.write(Bytes::new(), None, false).await?;
        Ok(turn)
    }

    /// Sends a signal to the run.
    ///
    /// # Errors
    /// The run is over, or the kernel refuses.
    pub async fn signal(&self, number: i32, scope: SignalScope) -> Result<(), Refused> {
        let answer = self.run.signal(number, scope).await;
        let result = answer.unwrap_or(Err(SignalError::Gone));
        result.map_err(|error| super::effects::refused(self.name().clone(), number, error))
    }

    /// Tells the size of its terminal; nothing happens without one.
    pub async fn resize(&self, rows: u16, columns: u16) {
        let _ = self.run.resize(rows, columns).await; // the run is over, or has none
    }

    async fn write(&self, bytes: Bytes, offset: Option<u64>, close: bool) -> Result<u64, Refused> {
        let _turn = self.turns.turn.lock().await;
        let mut writing = Writing {
            live: self,
            total: 0,
            rest: Bytes::new(),
            close: false,
            unsure: false,
            pause: PAUSE_MIN,
            moved: Instant::now(),
        };
        // What was written before is asked for once; from then on it is known.
        writing.begin(offset).await?;
        writing.rest = bytes;
        writing.close = close;
        if !writing.rest.is_empty() || close {
            while !writing.piece().await? {}
        }
        Ok(writing.total)
    }
}

// === impl StdinTurn ===

impl StdinTurn {
    /// Writes all of `bytes`, and then closes it if `close`; the total.
    ///
    /// # Errors
    /// It is not open, or the process reads nothing for 30 seconds.
    pub async fn write(&self, bytes: Bytes, close: bool) -> Result<u64, Refused> {
        self.live.write(bytes, None, close).await
    }
}

impl Drop for StdinTurn {
    fn drop(&mut self) {
        self.live.turns.taken.store(false, Ordering::Release);
    }
}

// === impl Writing ===

impl Writing<'_> {
    async fn begin(&mut self, offset: Option<u64>) -> Result<(), Refused> {
        loop {
            let asked = self.send(offset, Vec::new(), false).await?;
            match asked {
                Some(Written {
                    total,
                    stopped: None,
                }) => {
                    self.total = total;
                    return Ok(());
                }
                Some(written) => return Err(self.stopped(written, offset)),
                None => self.wait().await?,
            }
        }
    }

    /// Writes one more piece. `true` if all is written.
    async fn piece(&mut self) -> Result<bool, Refused> {
        let size = self.rest.len().min(WRITE_BYTES_MAX);
        let last = size == self.rest.len();
        let piece = self.rest[..size].to_vec();
        let end = self.total + u64::try_from(size).unwrap_or(0);
        let Some(written) = self
            .send(Some(self.total), piece, self.close && last)
            .await?
        else {
            self.unsure = true;
            self.wait().await?;
            return Ok(false);
        };
        match written.stopped {
            None => {
                self.advance(written.total);
                Ok(last)
            }
            Some(Stopped::NoRoom) if written.total > self.total => {
                self.advance(written.total);
                Ok(false)
            }
            Some(Stopped::NoRoom) => {
                self.wait().await?;
                Ok(false)
            }
            // The piece that was not answered was written, or a part of it.
            Some(Stopped::Offset) if self.unsure && (self.total..=end).contains(&written.total) => {
                self.advance(written.total);
                Ok(self.rest.is_empty() && !self.close)
            }
            Some(_) => Err(self.stopped(written, Some(self.total))),
        }
    }

    /// `None`: not now, and whether it was done is not known.
    async fn send(
        &self,
        offset: Option<u64>,
        bytes: Vec<u8>,
        close: bool,
    ) -> Result<Option<Written>, Refused> {
        let write = Write {
            offset,
            bytes,
            close,
        };
        let answer = self.live.run.write(write).await;
        match answer.unwrap_or(Err(SignalError::Gone)) {
            Ok(written) => Ok(Some(written)),
            // Its shim died, or has too much to do.
            Err(SignalError::Busy | SignalError::Refused(_)) => Ok(None),
            Err(SignalError::Gone | SignalError::NoCgroup) => {
                Err(Refused::StdinClosed(self.live.name().clone()))
            }
        }
    }

    fn advance(&mut self, total: u64) {
        let taken = usize::try_from(total.saturating_sub(self.total)).unwrap_or(usize::MAX);
        self.rest.advance(taken.min(self.rest.len()));
        self.total = total;
        self.unsure = false;
        self.pause = PAUSE_MIN;
        self.moved = Instant::now();
    }

    async fn wait(&mut self) -> Result<(), Refused> {
        if self.moved.elapsed() >= STALL_MAX {
            return Err(Refused::StdinFull {
                name: self.live.name().clone(),
                total: self.total,
            });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    fn stopped(&self, written: Written, expected: Option<u64>) -> Refused {
        let name = self.live.name().clone();
        match (written.stopped, expected) {
            (Some(Stopped::Offset), Some(expected)) => Refused::StdinOffset {
                name,
                expected,
                total: written.total,
            },
            _ => Refused::StdinClosed(name),
        }
    }
}
