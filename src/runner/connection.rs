//! The daemon's end of a shim's socket, watched by tokio.
//!
//! Invariants: packets are sent in order, and a stop that waits is replaced by a
//! later one; what waits is bounded by the requests a client lets through.
//! Deliberately absent: what messages mean (`client`).

#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, Ready, unix::AsyncFd};

use crate::shim::{
    codec::DecodeError,
    ctl::{self, Received},
    protocol::{MESSAGE_BYTES_MAX, Message},
};

/// A socket with what its shim has not taken yet.
#[derive(Debug)]
pub(super) struct Connection {
    ctl: AsyncFd<OwnedFd>,
    outbox: VecDeque<Packet>,
    seq: u64,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Heard {
    /// With the descriptors that came along.
    Message(Message, Vec<OwnedFd>),
    /// It was no message.
    Refused(DecodeError),
    /// There is nothing to read for now.
    Nothing,
    /// The shim is gone.
    Closed,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    is_stop: bool,
}

/// The spawner has sent `Hello`, and `Define` or `Adopt`.
const SENT_BY_SPAWNER: u64 = 2;

// === impl Connection ===

impl Connection {
    /// Of a shim that the spawner has started.
    pub(super) fn new(ctl: OwnedFd) -> io::Result<Self> {
        Self::watch(ctl, SENT_BY_SPAWNER)
    }

    /// Of a shim that was there before.
    pub(super) fn meet(ctl: OwnedFd) -> io::Result<Self> {
        let mut connection = Self::watch(ctl, 0)?;
        connection.send(&Message::hello());
        Ok(connection)
    }

    /// Watches `ctl` from now on.
    fn watch(ctl: OwnedFd, seq: u64) -> io::Result<Self> {
        // SAFETY: an OwnedFd names the same open descriptor until it is dropped,
        // and nobody takes it out of the AsyncFd.
        let ctl = unsafe { AsyncFd::register(ctl) }?;
        Ok(Self {
            ctl,
            outbox: VecDeque::new(),
            seq,
        })
    }

    /// Waits until there is something to read, or room for what waits.
    pub(super) async fn ready(&self) -> io::Result<Ready> {
        let interest = if self.outbox.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        Ok(self.ctl.ready(interest).await?.ready())
    }

    /// Sends `message`, or keeps it until there is room. Gives its number.
    pub(super) fn send(&mut self, message: &Message) -> u64 {
        let is_stop = matches!(message, Message::Stop(_));
        if is_stop {
            self.outbox.retain(|packet| !packet.is_stop);
        }
        self.seq += 1;
        let bytes = message.encode(self.seq);
        self.outbox.push_back(Packet { bytes, is_stop });
        self.flush();
        self.seq
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.outbox.front() {
            let sent = self.ctl.try_io(Interest::WRITABLE, |fd| {
                ctl::send(fd.as_fd(), &packet.bytes, &[]).map_err(io::Error::from)
            });
            match sent {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It is gone; what it said before is still to be read.
                Err(_) => self.outbox.clear(),
            }
        }
    }

    /// Reads one message.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Heard {
        loop {
            let received = self.ctl.try_io(Interest::READABLE, |fd| {
                ctl::receive(fd.as_fd(), buffer).map_err(io::Error::from)
            });
            if let Some(heard) = heard(received, buffer) {
                return heard;
            }
        }
    }

    /// Reads one message without asking tokio whether there is one: when a shim
    /// has just ended it may not know yet.
    pub(super) fn receive_rest(&self, buffer: &mut [u8]) -> Heard {
        loop {
            let received = ctl::receive(self.ctl.get_ref().as_fd(), buffer);
            if let Some(heard) = heard(received.map_err(io::Error::from), buffer) {
                return heard;
            }
        }
    }
}

/// Room for any packet of a shim.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; MESSAGE_BYTES_MAX]
}

/// `None` if it is to be tried again.
fn heard(received: io::Result<Received>, buffer: &[u8]) -> Option<Heard> {
    Some(match received {
        Ok(Received::Packet(size, passed)) => match Message::decode(&buffer[..size]) {
            Ok((_, message)) => Heard::Message(message, passed),
            Err(error) => Heard::Refused(error),
        },
        Ok(Received::Closed) => Heard::Closed,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
        Err(error) if error.kind() == ErrorKind::Interrupted => return None,
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            Heard::Refused(DecodeError::TooLarge)
        }
        Err(_) => Heard::Closed,
    })
}
