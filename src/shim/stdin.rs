//! The end of a run's standard input that is written to.
//!
//! This process holds it, so that a daemon that dies is no end of input, and the
//! daemon keeps a copy, so that a shim that dies is none either. Nothing is kept
//! here: what was taken is in the pipe, so no death loses any of it, and who writes
//! faster than the run reads is told so. Invariants: no call waits; what was written
//! is counted in the run directory, where the next shim finds the count. A shim that
//! is killed between a write and its count leaves the count behind by that write.
//! If shim and daemon die at once, nobody has the end any more, and the run reads
//! end of file. A terminal is not closed: the end of file is typed.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::{Uid, fchown, pipe2, write},
};

use super::{rundir::RunDir, terminal};

/// Both ends of a new pipe: of the run, and to write to.
pub(super) fn pipe(owner: Option<Uid>) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (run_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
    // Who may not change it has no other user's program either.
    let _ = fchown(&run_end, owner, None);
    Ok((run_end, write_end))
}

/// Standard input of one run; without an end it is closed, or was never open.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// It is never closed: its end is typed.
    terminal: bool,
    end: Option<OwnedFd>,
    /// Bytes written, by this shim and those before it.
    total: u64,
    count: Option<File>,
}

// === impl Input ===

impl Input {
    /// Writes to `end`, which is made nonblocking, and counts on.
    pub(super) fn new(end: Option<OwnedFd>, terminal: bool, dir: &RunDir) -> Self {
        if let Some(end) = &end {
            let flags = fcntl(end, FcntlArg::F_GETFL).unwrap_or(0);
            let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
            let _ = fcntl(end, FcntlArg::F_SETFL(flags)); // refused by no pipe
        }
        // Where it cannot be kept it is still right as long as this shim lives.
        let count = dir.stdin_count().ok();
        let mut bytes = [0; 8];
        let kept = count
            .as_ref()
            .is_some_and(|count| count.read_exact_at(&mut bytes, 0).is_ok());
        let input = Self {
            terminal,
            end,
            total: if kept { u64::from_le_bytes(bytes) } else { 0 },
            count,
        };
        if !kept {
            input.keep_count();
        }
        input
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_some()
    }

    /// Writes what there is room for. The errno as `Message::Written` has it, and
    /// the total.
    pub(super) fn write(&mut self, offset: Option<u64>, bytes: &[u8], close: bool) -> (i32, u64) {
        let mut result = self.try_write(offset, bytes);
        if result.is_ok() && close {
            result = self.close();
        }
        (result.map_or_else(|errno| errno as i32, |()| 0), self.total)
    }

    fn try_write(&mut self, offset: Option<u64>, bytes: &[u8]) -> nix::Result<()> {
        let Some(end) = &self.end else {
            return Err(Errno::EBADF);
        };
        if offset.is_some_and(|offset| offset != self.total) {
            return Err(Errno::ERANGE);
        }
        let mut rest = bytes;
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            match write(end.as_fd(), rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(errno) => result = Err(errno),
            }
        }
        let written = bytes.len() - rest.len();
        if written > 0 {
            self.total += u64::try_from(written).unwrap_or(0);
            self.keep_count();
        }
        result
    }

    fn close(&mut self) -> nix::Result<()> {
        match &self.end {
            Some(master) if self.terminal => {
                write(master, &[terminal::end_of_file(master.as_fd())]).map(drop)
            }
            _ => {
                self.end = None;
                Ok(())
            }
        }
    }

    fn keep_count(&self) {
        if let Some(count) = &self.count {
            let _ = count.write_all_at(&self.total.to_le_bytes(), 0); // as above
        }
    }
}
