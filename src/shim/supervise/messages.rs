//! What a shim and its daemon say to each other while a run lasts.
//!
//! Invariant: what waits to be taken is bounded, because nothing is read while
//! anything waits.

use std::os::fd::AsFd;

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::Shim;
use crate::shim::{
    ctl::{self, Received},
    protocol::{MESSAGE_BYTES_MAX, Message},
};

// === impl Shim ===

impl Shim {
    pub(super) fn hear(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while self.outbox.is_empty() {
            let Some(ctl) = &self.ctl else { return };
            match ctl::receive(ctl.as_fd(), &mut buffer) {
                Ok(Received::Packet(size, _)) => match Message::decode(&buffer[..size]) {
                    Ok((_, Message::Stop(plan))) => self.stop(plan),
                    Ok((
                        seq,
                        message @ (Message::Signal { .. } | Message::Freeze | Message::Thaw),
                    )) => {
                        let errno = self.request(&message).map_or_else(|e| e as i32, |()| 0);
                        self.tell(&Message::Reply { seq, errno });
                    }
                    // Refused, or of no meaning here.
                    Ok(_) | Err(_) => {}
                },
                Err(Errno::EINTR | Errno::EMSGSIZE) => {}
                Err(Errno::EAGAIN) => return,
                Ok(Received::Closed) | Err(_) => {
                    self.lose_daemon();
                    return;
                }
            }
        }
    }

    pub(super) fn tell(&mut self, message: &Message) {
        self.seq += 1;
        let packet = message.encode(self.seq);
        if self.ctl.is_some() {
            self.outbox.push_back(packet);
        }
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while let (Some(ctl), Some(packet)) = (&self.ctl, self.outbox.front()) {
            match ctl::send(ctl.as_fd(), packet, None) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Err(_) => {
                    self.lose_daemon();
                    return;
                }
            }
        }
    }

    /// Nobody is left to tell: the run is stopped and leaves no orphan.
    fn lose_daemon(&mut self) {
        self.ctl = None;
        self.outbox.clear();
        self.stop_by_itself();
    }

    /// Returns when all was taken, or there is nobody to take it.
    pub(super) fn deliver(&mut self) {
        while !self.outbox.is_empty() {
            let Some(ctl) = &self.ctl else { return };
            let mut fds = [PollFd::new(ctl.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            self.flush();
        }
    }
}
