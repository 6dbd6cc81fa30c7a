//! What a shim says, made events.
//!
//! Each connection begins with all that was told before: what this daemon knows
//! already is told to nobody again.

use std::{io, os::fd::OwnedFd, sync::Arc};

use nix::errno::Errno;
use tokio::{io::Ready, time::Instant};

use super::{Answering, Client, EVENTS_WAITING_MAX, Phase, connection};
use crate::{
    domain::run::{Exit, Outcome, OutputHealth, OutputState, RunEvent, UnknownReason},
    runner::{SignalError, Stopped, Written, connection::Heard, recovery::MainProcess},
    shim::{
        protocol::{HELD_STDIN, HELD_TTY, Message, OLDEST, VERSION},
        record::ProcessIdentity,
        sys,
    },
};

// === impl Client ===

impl Client {
    /// Reads and writes what the socket is ready for.
    pub(super) fn converse(&mut self, ready: io::Result<Ready>) {
        let Ok(ready) = ready else {
            self.broken();
            return;
        };
        if let (Some(connection), true) = (&mut self.connection, ready.is_writable()) {
            connection.flush();
        }
        if ready.is_readable() || ready.is_read_closed() {
            self.read();
        }
    }

    /// Reads until there is nothing, or enough events wait.
    fn read(&mut self) {
        let mut buffer = connection::buffer();
        while let Some(connection) = &self.connection
            && self.waiting.len() < EVENTS_WAITING_MAX
        {
            let heard = connection.receive(&mut buffer);
            if !self.heard(heard) {
                return;
            }
        }
    }

    /// Reads all that a shim said before it ended; the socket bounds it.
    pub(super) fn read_rest(&mut self) {
        let mut buffer = connection::buffer();
        while let Some(connection) = &self.connection {
            let heard = connection.receive_rest(&mut buffer);
            if !self.heard(heard) {
                return;
            }
        }
    }

    /// `false` if there was nothing.
    fn heard(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Message(message, passed) => self.hear(message, passed),
            Heard::Refused(error) => {
                tracing::warn!(name = %self.means.name, "a message of its shim {error}");
            }
            Heard::Closed => self.broken(),
            Heard::Nothing => return false,
        }
        true
    }

    fn hear(&mut self, message: Message, passed: Vec<OwnedFd>) {
        self.silent_until = None;
        match message {
            Message::Hello { oldest, newest } => {
                if oldest > VERSION || newest < OLDEST {
                    tracing::error!(name = %self.means.name, oldest, newest,
                        "a shim speaks no version of the protocol that is spoken here");
                }
            }
            Message::Spawned {
                pid,
                start_ticks,
                cgroup,
                held,
            } => {
                self.has_terminal = held.contains(&HELD_TTY);
                self.stdin_open = self.has_terminal || held.contains(&HELD_STDIN);
                self.kept = Arc::new(held.into_iter().zip(passed).collect());
                let started = self.main.is_some_and(|main| main.started);
                self.main = Some(MainProcess {
                    identity: ProcessIdentity { pid, start_ticks },
                    started,
                });
                self.cgroup.clone_from(&cgroup);
                self.answered = true;
                self.begun(pid, cgroup);
            }
            Message::Started => self.started(),
            Message::SpawnFailed { error, .. } => {
                self.event(RunEvent::Exited(sys::spawn_error_exit(error)));
            }
            Message::Exited(exit) => self.exited(exit),
            Message::Killing => self.event(RunEvent::Killing),
            Message::Survivors(pids) => self.event(RunEvent::Survivors(pids)),
            Message::Empty => self.emptied(),
            Message::Reply { seq, errno } => self.answer(seq, errno),
            Message::Written { seq, errno, total } => self.written(seq, errno, total),
            Message::Warning(text) => {
                tracing::warn!(name = %self.means.name, "its shim says: {text}");
            }
            Message::Output(health) => {
                self.output.hear(health, Instant::now());
                self.tell_output();
            }
            // Not said by a shim.
            Message::Define
            | Message::Adopt { .. }
            | Message::Stop(_)
            | Message::Keep(_)
            | Message::Signal { .. }
            | Message::Freeze
            | Message::Thaw
            | Message::Write { .. }
            | Message::Resize { .. } => {}
        }
    }

    /// Tells what is due to be told of the output.
    pub(super) fn tell_output(&mut self) {
        if let Some(health) = self.output.take(Instant::now()) {
            self.log_output(health);
            self.event(RunEvent::Output(health));
        }
    }

    fn log_output(&self, health: OutputHealth) {
        let name = &self.means.name;
        match health.state {
            OutputState::Intact => tracing::debug!(%name, "the output of a run is kept"),
            OutputState::Blocked { errno } => {
                let error = Errno::from_raw(errno).desc();
                tracing::warn!(%name, error, "a run waits, because its output has no room");
            }
            OutputState::Dropped { .. } => {
                tracing::warn!(%name, "output of a run is dropped, because it has no room");
            }
        }
    }

    fn begun(&mut self, pid: i32, cgroup: Option<String>) {
        if self.begun_told || self.exit_told {
            return;
        }
        self.begun_told = true;
        let cgroup_path = cgroup.map(Into::into);
        if !self.adopts {
            self.event(RunEvent::Spawned { pid, cgroup_path });
            return;
        }
        let record = self.record.as_ref();
        let started = record.is_some_and(|record| record.started);
        if let Some(main) = &mut self.main {
            main.started |= started;
        }
        self.event(RunEvent::Adopted {
            pid,
            cgroup_path,
            started,
            // One without a record has begun since this daemon looked.
            began: record.map_or_else(sys::wall_clock, |record| record.began),
        });
    }

    fn started(&mut self) {
        match &mut self.main {
            Some(main) if !main.started => main.started = true,
            _ => return,
        }
        if !self.exit_told {
            self.event(RunEvent::Started);
        }
    }

    fn exited(&mut self, exit: Exit) {
        let lost = exit.outcome == Outcome::Unknown(UnknownReason::Lost);
        if lost && !self.exit_told && self.main.is_some() {
            // It may be our child by now, and then we know.
            self.exit_asked = true;
            self.release(true);
        } else {
            self.event(RunEvent::Exited(exit));
        }
    }

    fn emptied(&mut self) {
        if self.exit_asked && !self.exit_told {
            self.close(SignalError::Gone);
            self.phase = Phase::Clearing;
            self.empty_waits = true;
        } else {
            self.event(RunEvent::Empty);
        }
    }

    fn answer(&mut self, seq: u64, errno: i32) {
        let Some(Answering::Act(answer)) = self.take_answering(seq) else {
            return;
        };
        let result = match errno {
            0 => Ok(()),
            libc::ESRCH => Err(SignalError::Gone),
            libc::ENOTSUP => Err(SignalError::NoCgroup),
            errno => Err(SignalError::Refused(errno)),
        };
        let _ = answer.send(result); // nobody waits
    }

    fn written(&mut self, seq: u64, errno: i32, total: u64) {
        if let Some(Answering::Write(answer)) = self.take_answering(seq) {
            let stopped = Stopped::from_errno(errno);
            let _ = answer.send(Ok(Written { total, stopped })); // nobody waits
        }
    }

    fn take_answering(&mut self, seq: u64) -> Option<Answering> {
        let at = self.answers.iter().position(|(asked, _)| *asked == seq)?;
        Some(self.answers.swap_remove(at).1)
    }
}
