//! What a shim and its daemons say to each other while a run lasts.
//!
//! One daemon is spoken with at a time; a later one takes the place of the
//! earlier, and first hears all that was told before. Invariants: what waits to be
//! taken is bounded, because nothing is read while anything waits, and news of the
//! same kind replaces what waits; what is told again to each daemon is bounded,
//! because each kind of message is kept once.

use std::{
    collections::VecDeque,
    io,
    mem::{Discriminant, discriminant},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::Shim;
use crate::shim::{
    ctl::{self, Received},
    output::Policy,
    protocol::{HELD_STDIN, MESSAGE_BYTES_MAX, Message},
    sys,
};

/// The way to the daemon, whichever it is.
#[derive(Debug)]
pub(super) struct Link {
    ctl: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    outbox: VecDeque<Packet>,
    seq: u64,
    /// All that a daemon has to know of the run.
    history: Vec<Message>,
    /// What the daemon keeps for us, by its name in the protocol.
    held: Vec<(u8, OwnedFd)>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    /// Brings what the daemon is to keep.
    gives: bool,
    /// Of what may be told any number of times only the last counts.
    news: Option<Discriminant<Message>>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(ctl: OwnedFd) -> Self {
        let mut link = Self {
            ctl: Some(ctl),
            listener: None,
            outbox: VecDeque::new(),
            seq: 0,
            history: Vec::new(),
            held: Vec::new(),
        };
        link.send(&Message::hello());
        link
    }

    /// Later daemons come here.
    pub(super) fn listen(&mut self, listener: OwnedFd) {
        self.listener = Some(listener);
    }

    /// What goes with `Spawned`.
    pub(super) fn hold(&mut self, held: u8, fd: OwnedFd) {
        self.held.push((held, fd));
    }

    /// It is not kept any more.
    fn release(&mut self, held: u8) {
        self.held.retain(|(name, _)| *name != held);
    }

    pub(super) fn held(&self) -> Vec<u8> {
        self.held.iter().map(|(held, _)| *held).collect()
    }

    pub(super) fn close(&mut self) {
        self.ctl = None;
        self.listener = None;
        self.outbox.clear();
    }

    /// What to wait for. Who does not take answers asks no more.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let interest = if self.outbox.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLOUT
        };
        Some((self.ctl.as_ref()?.as_fd(), interest))
    }

    pub(super) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    fn send(&mut self, message: &Message) {
        self.seq += 1;
        let repeats = matches!(
            message,
            Message::Warning(_) | Message::Output(_) | Message::Survivors(_) | Message::Killing
        );
        let news = repeats.then(|| discriminant(message));
        if self.ctl.is_some() {
            self.outbox
                .retain(|waiting| news.is_none() || waiting.news != news);
            self.outbox.push_back(Packet {
                bytes: message.encode(self.seq),
                gives: matches!(message, Message::Spawned { .. }),
                news,
            });
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let (Some(ctl), Some(packet)) = (&self.ctl, self.outbox.front()) {
            let pass: Vec<_> = match packet.gives {
                true => self.held.iter().map(|(_, fd)| fd.as_fd()).collect(),
                false => Vec::new(),
            };
            match ctl::send(ctl.as_fd(), &packet.bytes, &pass) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(Errno::EINTR) => {}
                // More descriptors are under way than it may have; it does without.
                Err(Errno::ETOOMANYREFS) => {
                    if let Some(packet) = self.outbox.front_mut() {
                        packet.gives = false;
                    }
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Err(_) => self.lose(),
            }
        }
    }

    /// The run goes on without a daemon.
    fn lose(&mut self) {
        self.ctl = None;
        self.outbox.clear();
    }

    fn take(&mut self, ctl: OwnedFd) {
        self.lose();
        self.ctl = Some(ctl);
        self.send(&Message::hello());
        for message in self.history.clone() {
            self.send(&message);
        }
    }

    fn note(&mut self, message: &Message) {
        let kind = discriminant(message);
        let same = |told: &&mut Message| discriminant(*told) == kind;
        match self.history.iter_mut().find(same) {
            Some(told) => *told = message.clone(),
            None => self.history.push(message.clone()),
        }
    }
}

// === impl Shim ===

impl Shim {
    /// Who connects takes the place of whoever was there.
    pub(super) fn meet(&mut self) {
        // It could not be had when the run was taken over: maybe now.
        if self.link.listener.is_none()
            && let Ok(listener) = self.dir.listen()
        {
            self.link.listen(listener);
        }
        while let Some(listener) = self.link.listener() {
            match ctl::accept(listener) {
                Ok(ctl) if ctl::is_trusted(ctl.as_fd()) => self.link.take(ctl),
                Ok(_) | Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn hear(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while self.link.outbox.is_empty() {
            let Some(ctl) = &self.link.ctl else { return };
            match ctl::receive(ctl.as_fd(), &mut buffer) {
                Ok(Received::Packet(size, _)) => match Message::decode(&buffer[..size]) {
                    Ok((_, Message::Stop(plan))) => self.stop(plan),
                    Ok((
                        seq,
                        message @ (Message::Signal { .. }
                        | Message::Freeze
                        | Message::Thaw
                        | Message::Resize { .. }),
                    )) => {
                        let errno = self.request(&message).map_or_else(|e| e as i32, |()| 0);
                        self.link.send(&Message::Reply { seq, errno });
                    }
                    Ok((
                        seq,
                        Message::Write {
                            offset,
                            bytes,
                            close,
                        },
                    )) => {
                        let (errno, total) = self.write(offset, &bytes, close);
                        self.link.send(&Message::Written { seq, errno, total });
                    }
                    Ok((_, Message::Keep(policy))) => self.keep_output(policy),
                    // Refused, or of no meaning here.
                    Ok(_) | Err(_) => {}
                },
                Err(Errno::EINTR | Errno::EMSGSIZE) => {}
                Err(Errno::EAGAIN) => return,
                Ok(Received::Closed) | Err(_) => self.link.lose(),
            }
        }
    }

    /// What a client wants written.
    fn write(&mut self, offset: Option<u64>, bytes: &[u8], close: bool) -> (i32, u64) {
        let was_open = self.input.is_open();
        let written = self.input.write(offset, bytes, close);
        if was_open && !self.input.is_open() {
            // The run reads its end as soon as the daemon has let go of it too.
            self.link.release(HELD_STDIN);
            self.tell_spawned();
        }
        written
    }

    /// Each daemon says it when it comes, so that a shim that could not record it
    /// does not differ for long.
    fn keep_output(&mut self, policy: Policy) {
        self.output.keep(policy, sys::wall_clock());
        let record = self.record.as_mut();
        let Some(record) = record.filter(|record| record.log_policy != policy) else {
            return;
        };
        record.log_policy = policy;
        if let Err(error) = self.dir.write_run(record) {
            self.warn("run record", &error);
        }
    }

    /// Tells the daemon, and each later one too.
    pub(super) fn tell(&mut self, message: Message) {
        self.link.note(&message);
        self.link.send(&message);
    }

    pub(super) fn warn(&mut self, what: &str, error: &io::Error) {
        let text = format!("{what}: {}", sys::describe(error));
        self.tell(Message::Warning(text));
    }

    pub(super) fn flush(&mut self) {
        self.link.flush();
    }

    /// Returns when all was taken, or there is nobody to take it.
    pub(super) fn deliver(&mut self) {
        while !self.link.outbox.is_empty() {
            if let Some((ctl, _)) = self.link.poll() {
                let mut fds = [PollFd::new(ctl, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            self.link.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::run::{OutputHealth, OutputState};

    /// All that can be read now.
    fn heard(daemon: &OwnedFd) -> Vec<Message> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let mut messages = Vec::new();
        while let Ok(Received::Packet(size, _)) = ctl::receive(daemon.as_fd(), &mut buffer) {
            messages.push(Message::decode(&buffer[..size]).unwrap().1);
        }
        messages
    }

    fn survivors(pid: i32) -> Message {
        Message::Survivors(vec![pid])
    }

    #[test]
    fn a_later_daemon_hears_all_that_counts_in_its_order() {
        let (ours, theirs) = ctl::pair().unwrap();
        let mut link = Link::new(ours);
        for message in [
            Message::Started,
            Message::Killing,
            survivors(1),
            survivors(2),
        ] {
            link.note(&message);
            link.send(&message);
        }
        let first = heard(&theirs);
        assert_eq!(first.len(), 5, "{first:?}");
        let (ours, later) = ctl::pair().unwrap();
        link.take(ours);
        let expected = [
            Message::hello(),
            Message::Started,
            Message::Killing,
            survivors(2),
        ];
        assert_eq!(heard(&later), expected);
        let mut buffer = [0; 8];
        let closed = ctl::receive(theirs.as_fd(), &mut buffer);
        assert!(matches!(closed, Ok(Received::Closed)));
    }

    #[test]
    fn news_to_who_does_not_read_is_bounded() {
        let (ours, theirs) = ctl::pair().unwrap();
        let mut link = Link::new(ours);
        let news = |errno| {
            Message::Output(OutputHealth {
                state: OutputState::Blocked { errno },
                approximate_bytes: 0,
            })
        };
        for errno in 0..100_000 {
            link.send(&news(errno));
        }
        assert_eq!(link.outbox.len(), 1, "the last one waits");
        let since = std::time::Instant::now();
        let mut last = None;
        while last != Some(news(99_999)) {
            last = heard(&theirs).pop().or(last);
            link.flush();
            assert!(since.elapsed() < Duration::from_secs(20));
        }
    }

    #[test]
    fn what_is_held_goes_along_to_each_daemon() {
        let (ours, theirs) = ctl::pair().unwrap();
        let mut link = Link::new(ours);
        let (_, held) = nix::unistd::pipe().unwrap();
        link.hold(1, held);
        let spawned = Message::Spawned {
            pid: 1,
            start_ticks: 1,
            cgroup: None,
            held: link.held(),
        };
        link.note(&spawned);
        link.send(&spawned);
        let (ours, later) = ctl::pair().unwrap();
        link.take(ours);
        for daemon in [theirs, later] {
            let mut buffer = [0; 200];
            let mut passed = || match ctl::receive(daemon.as_fd(), &mut buffer).unwrap() {
                Received::Packet(_, passed) => passed.len(),
                Received::Closed => panic!("closed"),
            };
            assert_eq!((passed(), passed()), (0, 1));
        }
    }
}
