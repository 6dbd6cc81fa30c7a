//! To the systemd journal, in its native protocol: a datagram of fields per record.
//!
//! What does not fit into a datagram goes as a sealed memory file, whose descriptor
//! is all that is sent. The text of a line is sent as it was written, whatever bytes
//! it has.
//!
//! Deliberately absent: fields that begin with `_`, which only journald may set.

mod fields;

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::errno::Errno;
use tokio::{io::Interest, net::UnixDatagram, time::Instant};

use super::{
    limits::SEND_TURN,
    queue::{Origin, Queue},
    target::{Failure, Target, in_time},
};
use crate::{domain::spec::JournaldTarget, shim::ctl};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal of this machine.
#[derive(Debug)]
pub(super) struct Journald {
    path: PathBuf,
    identifier: String,
    process: String,
    socket: Option<UnixDatagram>,
}

// === impl Journald ===

impl Journald {
    pub(super) fn new(target: &JournaldTarget, origin: &Origin, path: &Path) -> Self {
        let process = origin.process.as_str();
        let identifier = match target.identifier.as_str() {
            "" => process,
            identifier => identifier,
        };
        Self {
            path: path.to_owned(),
            identifier: identifier.to_owned(),
            process: process.to_owned(),
            socket: None,
        }
    }

    fn connect(&mut self) -> io::Result<&UnixDatagram> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket
            }
        };
        Ok(self.socket.insert(socket))
    }

    async fn send_one(&mut self, record: &[u8]) -> io::Result<()> {
        let socket = self.connect()?;
        let sent = async {
            match socket.send(record).await {
                Err(error) if is_too_long(&error) => send_file(socket, record).await,
                sent => sent.map(drop),
            }
        };
        let sent = in_time(sent).await;
        if sent.is_err() {
            self.socket = None;
        }
        sent
    }
}

impl Target for Journald {
    const LINGER: (usize, Duration) = (1, Duration::ZERO);

    async fn send(&mut self, queue: &mut Queue) -> Result<(), Failure> {
        let began = Instant::now();
        while let Some(content) = queue.front()
            && began.elapsed() < SEND_TURN
        {
            let record = fields::encode(content, &self.identifier, &self.process);
            self.send_one(&record).await?;
            queue.sent(1);
        }
        Ok(())
    }
}

/// EMSGSIZE: above the socket's buffer. ENOBUFS: above what the kernel can hold now.
fn is_too_long(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMSGSIZE | Errno::ENOBUFS))
}

/// Sends the descriptor of a file that nobody can change any more.
async fn send_file(socket: &UnixDatagram, record: &[u8]) -> io::Result<()> {
    let file = ctl::seal(record)?;
    let send = || Ok(ctl::send(socket.as_fd(), &[], &[file.as_fd()])?);
    socket.async_io(Interest::WRITABLE, send).await
}

#[cfg(test)]
mod tests;
