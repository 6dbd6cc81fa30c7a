//! The terminal of an attachment.

use std::io;

use nix::sys::termios::{self, SetArg, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::grpc::proto::TerminalSize;

/// A terminal that passes every key on; dropping this makes it what it was.
#[derive(Debug)]
pub(super) struct RawMode(Termios);

/// Signals that end an attachment, and its process with it, unless they are heard.
#[derive(Debug)]
pub(super) struct Ends([Signal; 3]);

// === impl RawMode ===

impl RawMode {
    pub(super) fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

// === impl Ends ===

impl Ends {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Of the terminal that standard input is.
pub(super) fn size() -> Option<TerminalSize> {
    let size = terminal_size::terminal_size_of(io::stdin());
    size.map(|(width, height)| TerminalSize {
        rows: i32::from(height.0),
        columns: i32::from(width.0),
    })
}
