//! The terminal of a run, as seen from its other side: the master.
//!
//! What the run writes is taken from the master into a pipe, whose other end is
//! moved to disk as that of any run is (`output`). `splice` takes it there within
//! the kernel; kernels before 6.5 cannot splice from a terminal, and then it is read
//! and written, and a shim that is killed in between loses what it had read, 4 KiB
//! at most. The daemon has a copy of the master, so that the death of a shim hangs
//! nothing up; if both die at once the run gets SIGHUP. This process also has the
//! run's side open, so that a run that closes it for a while does not end it.
//! Invariants: no call waits; what is held here is bounded by one read.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, SpliceFFlags, fcntl, splice},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::termios::{SpecialCharacterIndices, tcgetattr},
    unistd::{Uid, fchown, read, write},
};

/// Size until somebody says another.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};
/// Bytes of one splice.
const SPLICE_BYTES: usize = 64 * 1024;
/// Bytes of one read, where there is no splice.
const READ_BYTES: usize = 4 * 1024;
/// Of those, in one turn.
const TURN: usize = 16;

/// The master and where its output goes.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    /// The run's side, open as long as this is.
    _slave: Option<OwnedFd>,
    into: OwnedFd,
    /// Read, and not written yet.
    left: Vec<u8>,
    /// There is no room in the pipe.
    full: bool,
    /// It is hung up.
    ended: bool,
}

/// A new terminal: the run's side, and the master.
pub(super) fn open(owner: Option<Uid>) -> nix::Result<(OwnedFd, OwnedFd)> {
    let pty = openpty(Some(&SIZE), None)?;
    for end in [&pty.slave, &pty.master] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    // Who may not change it has no other user's program either.
    let _ = fchown(&pty.slave, owner, None);
    Ok((pty.slave, pty.master))
}

/// In the child: makes standard input its controlling terminal.
pub(super) fn control() -> nix::Result<()> {
    // SAFETY: passes numbers only.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop)
}

/// What a person types for end of file.
pub(super) fn end_of_file(master: BorrowedFd<'_>) -> u8 {
    const CTRL_D: u8 = 4;
    tcgetattr(master).map_or(CTRL_D, |settings| {
        settings.control_chars[SpecialCharacterIndices::VEOF as usize]
    })
}

// === impl Terminal ===

impl Terminal {
    /// Takes what `master` has to `into`; both are made nonblocking.
    pub(super) fn new(master: OwnedFd, into: OwnedFd) -> Self {
        for end in [&master, &into] {
            let flags = fcntl(end, FcntlArg::F_GETFL).unwrap_or(0);
            let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
            let _ = fcntl(end, FcntlArg::F_SETFL(flags)); // refused by neither
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: passes numbers only.
        let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        let slave = Errno::result(slave).ok();
        Self {
            master,
            // SAFETY: it was opened by this call, so nobody else owns it.
            _slave: slave.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            into,
            left: Vec::new(),
            full: false,
            ended: false,
        }
    }

    /// What to wait for now.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (self.ended, self.full) {
            (true, _) => None,
            (false, true) => Some((self.into.as_fd(), PollFlags::POLLOUT)),
            (false, false) => Some((self.master.as_fd(), PollFlags::POLLIN)),
        }
    }

    /// Takes a bounded turn. `true` if there was anything.
    pub(super) fn take(&mut self) -> bool {
        let mut any = false;
        for _ in 0..TURN {
            match self.step() {
                Ok(()) => any = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.full = !self.left.is_empty() || !self.has_room();
                    return any;
                }
                Err(_) => {
                    self.ended = true;
                    return any;
                }
            }
        }
        self.full = false;
        any
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) -> nix::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ..SIZE
        };
        // SAFETY: `size` is what this request reads, and lives through the call.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        Errno::result(result).map(drop)
    }

    fn step(&mut self) -> nix::Result<()> {
        if self.left.is_empty() {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
            match splice(&self.master, None, &self.into, None, SPLICE_BYTES, flags) {
                Ok(0) => return Err(Errno::EIO),
                Ok(_) => return Ok(()),
                Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno),
            }
            let mut buffer = [0; READ_BYTES];
            let size = read(&self.master, &mut buffer)?;
            if size == 0 {
                return Err(Errno::EIO);
            }
            self.left.extend_from_slice(&buffer[..size]);
        }
        let written = write(&self.into, &self.left)?;
        self.left.drain(..written);
        Ok(())
    }

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.into.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}
