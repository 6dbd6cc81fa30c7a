//! One turn of moving, and what comes of it.
//!
//! Invariants: a turn is bounded; what a turn needs is made true in a fixed order,
//! so that it may be cut short at any call and begun again; bytes that were
//! dropped are told of before the next ones that are kept. What was dropped and
//! not yet told of is forgotten if the shim is killed: it is on no disk.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use nix::errno::Errno;

use super::{
    Begin, End, Output, OutputError, PAUSE_MAX, PAUSE_MIN, Pause, kernel,
    log::{Log, Moved},
};
use crate::{domain::time::Timestamp, shim::segment::Stream};

/// A turn ends after so many bytes or stretches.
pub(super) const TURN_BYTES: u64 = 1024 * 1024;
const TURN_STRETCHES: u32 = 16;
/// What is still moved at the end of a run, if somebody goes on writing.
const FINISH_BYTES: u64 = 64 * 1024 * 1024;

// === impl Output: moving ===

impl Output {
    pub(super) fn live(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipes[stream.index()].as_ref()?;
        (!pipe.ended).then(|| pipe.read_end.as_fd())
    }

    /// All that may have failed, in the order in which it has to be done.
    pub(super) fn attempt(&mut self, now: Timestamp) -> Result<(), OutputError> {
        if self.end != End::None {
            return self.drain(now);
        }
        self.advance(now)?;
        for stream in Stream::ALL {
            self.move_turn(stream, now)?;
        }
        self.tell_dropped(now)
    }

    /// To where the next stretch can be moved.
    pub(super) fn advance(&mut self, now: Timestamp) -> Result<(), OutputError> {
        if self.log.is_none() {
            let (dir, buffer) = (&self.dir, &mut self.buffer);
            let log = Log::open(dir, self.policy, self.run_id, now, buffer)?;
            self.approximate_bytes += log.unrecorded();
            self.log = Some(log);
        }
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        log.record_moved(now, true, &mut self.buffer)?;
        if !self.begun {
            if log.is_full(now) {
                log.rotate(now)?;
            }
            // What the run before left unrecorded is recorded as its own.
            if self.begin == Begin::Run || !log.has_begun(self.run_id) {
                log.begin(self.run_id, now);
            }
            self.begun = true;
            self.begin = Begin::Adopted; // if it has to be opened again
            log.flush()?;
            log.retain(now);
        }
        Ok(())
    }

    /// Bytes moved; 0 if there are none now.
    pub(super) fn move_turn(&mut self, stream: Stream, now: Timestamp) -> Result<u64, OutputError> {
        let mut moved = 0;
        for _ in 0..TURN_STRETCHES {
            let (Some(log), Some(pipe)) = (&mut self.log, &mut self.pipes[stream.index()]) else {
                break;
            };
            if pipe.ended || moved >= TURN_BYTES {
                break;
            }
            if log.is_full(now) {
                log.rotate(now)?;
                log.retain(now);
            }
            let (bytes, more) = match log.splice(stream, pipe.read_end.as_fd()) {
                Ok(Moved::Some(bytes)) => (bytes, true),
                Ok(Moved::All(bytes)) => (bytes, false), // poll knows of what comes
                Ok(Moved::End) => {
                    pipe.ended = true;
                    break;
                }
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            };
            pipe.grow(bytes);
            self.record(now)?;
            moved += bytes;
            if !more {
                break;
            }
        }
        Ok(moved)
    }

    /// Records what was just moved, after what was dropped before.
    fn record(&mut self, now: Timestamp) -> Result<(), OutputError> {
        self.pause = None; // it can be stored again
        if let Some(log) = &mut self.log {
            for stream in Stream::ALL {
                let bytes = std::mem::take(&mut self.dropped[stream.index()]);
                if bytes > 0 {
                    log.dropped(stream, bytes, now);
                }
            }
            log.record_moved(now, false, &mut self.buffer)?;
        }
        Ok(())
    }

    /// Ends a stretch of dropping when there is nothing to move, once there is
    /// room again.
    fn tell_dropped(&mut self, now: Timestamp) -> Result<(), OutputError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        for stream in Stream::ALL {
            if self.dropped[stream.index()] > 0 {
                log.probe(stream)?;
            }
        }
        if self.dropped != [0; 2] {
            self.record(now)?;
        }
        Ok(())
    }

    /// All that is left, and that the run ended: nothing is moved after that.
    pub(super) fn drain(&mut self, now: Timestamp) -> Result<(), OutputError> {
        if self.end == End::None {
            self.attempt(now)?;
            for stream in Stream::ALL {
                self.move_all(stream, now)?;
            }
        }
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if self.end == End::None {
            log.end(now);
            self.end = End::Told;
        }
        Ok(log.flush()?)
    }

    fn move_all(&mut self, stream: Stream, now: Timestamp) -> Result<(), OutputError> {
        let mut moved = 0;
        while moved < FINISH_BYTES {
            match self.move_turn(stream, now)? {
                0 => break,
                bytes => moved += bytes,
            }
        }
        Ok(())
    }
}

// === impl Output: failing ===

impl Output {
    pub(super) fn conclude(&mut self, result: Result<(), OutputError>) {
        let Err(error) = result else {
            self.pause = None;
            return;
        };
        if error == OutputError::Held {
            self.log = None;
            self.begun = false;
        }
        let wait = match self.pause {
            Some(pause) => (pause.wait * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        self.pause = Some(Pause {
            error,
            wait,
            until: Instant::now() + wait,
        });
    }

    /// Whether output is thrown away now.
    pub(super) fn discards(&self) -> bool {
        self.policy.drop_when_full
            && self
                .pause
                .is_some_and(|pause| pause.error != OutputError::Held)
    }

    /// Throws a turn of `stream` away.
    pub(super) fn discard(&mut self, stream: Stream) {
        let Some(pipe) = &mut self.pipes[stream.index()] else {
            return;
        };
        let mut discarded = 0;
        while discarded < TURN_BYTES && !pipe.ended {
            match kernel::read(pipe.read_end.as_fd(), &mut self.buffer) {
                Ok(0) => pipe.ended = true,
                Ok(bytes) => discarded += bytes as u64,
                Err(_) => break, // empty
            }
        }
        self.dropped[stream.index()] += discarded;
        self.dropped_bytes += discarded;
    }
}
