//! The daemon's end of one run: a task that speaks with the shim.
//!
//! Invariants: events keep their order and none is dropped; a stop is never
//! lost, however early it comes; what waits is bounded, and a full queue only
//! makes this task read less. Deliberately absent: threads, timers, policy.

#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot, watch},
};

use super::{
    Program, REQUESTS_MAX, SignalError,
    recovery::{Lost, MainProcess, Round},
    spawner::{self, NOTICES_MAX, Notice, Spawn, Spawner},
};
use crate::{
    domain::{
        id::ProcessName,
        run::{RunEvent, SignalScope, StopPlan},
    },
    shim::{
        ctl::{self, Received},
        definition::Definition,
        protocol::{MESSAGE_BYTES_MAX, Message},
        sys,
    },
};

/// What begins a run.
pub(super) struct Start {
    pub(super) spawner: &'static Spawner,
    pub(super) program: Arc<Program>,
    pub(super) shim_env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    pub(super) name: ProcessName,
    pub(super) definition: Definition,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Something to be answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Result<(), SignalError>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Signal { number: i32, scope: SignalScope },
    Freeze,
    Thaw,
}

/// Events that wait to be taken before the shim is not read from any more.
const EVENTS_WAITING_MAX: usize = 16;

struct Client {
    name: ProcessName,
    ctl: Option<AsyncFd<OwnedFd>>,
    /// Packets the shim has not taken yet: one per request, and one stop.
    outbox: VecDeque<Packet>,
    seq: u64,
    answers: Vec<(u64, oneshot::Sender<Result<(), SignalError>>)>,
    /// Events the owner has not taken yet.
    waiting: VecDeque<RunEvent>,
    identity: RunIdentity,
    main: Option<MainProcess>,
    has_cgroup: bool,
    exit_told: bool,
    phase: Phase,
}

struct Packet {
    bytes: Vec<u8>,
    is_stop: bool,
}

/// What is needed to find the run without its shim.
struct RunIdentity {
    label: String,
    daemon_pid: i32,
    use_cgroup: bool,
    kill_timeout: std::time::Duration,
    shim_pid: i32,
    shim_start_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The spawner has the request.
    Starting,
    /// The shim is spoken with.
    Connected,
    /// The shim is gone and the run is not known to be empty.
    Broken,
    /// The spawner clears the run.
    Recovering,
    /// `Empty` was told.
    Over,
}

/// Begins a run and sees it to its end.
pub(super) async fn drive(
    start: Start,
    mut requests: mpsc::Receiver<Request>,
    mut stops: watch::Receiver<Option<StopPlan>>,
    events: mpsc::Sender<RunEvent>,
) {
    // A sender is kept, so that receiving never ends.
    let (notices, mut incoming) = mpsc::channel(NOTICES_MAX);
    let mut client = Client::new(start.name, &start.definition);
    let spawn = Spawn {
        program: start.program,
        shim_env: start.shim_env,
        definition: start.definition,
        stdout: start.stdout,
        stderr: start.stderr,
        notices: notices.clone(),
    };
    start
        .spawner
        .request(spawner::Request::Spawn(Box::new(spawn)))
        .await;
    while client.phase != Phase::Over || !client.waiting.is_empty() {
        if client.phase == Phase::Broken {
            let lost = client.give_up(notices.clone());
            start
                .spawner
                .request(spawner::Request::Recover(Box::new(lost)))
                .await;
        }
        let taking = client.waiting.len() < EVENTS_WAITING_MAX;
        tokio::select! {
            permit = events.reserve(), if !client.waiting.is_empty() => match permit {
                Ok(permit) => if let Some(event) = client.waiting.pop_front() {
                    permit.send(event);
                },
                // Nobody listens; the run goes on all the same.
                Err(_) => client.waiting.clear(),
            },
            Some(notice) = incoming.recv(), if taking => client.notice(notice, &stops),
            ready = readiness(client.ctl.as_ref(), !client.outbox.is_empty()),
                if client.ctl.is_some() && taking => client.converse(ready),
            Ok(()) = stops.changed(), if client.phase == Phase::Connected => client.stop(&stops),
            Some(request) = requests.recv(), if client.takes_requests() =>
                client.request(request),
        }
    }
}

/// What the socket is ready for; forever pending without one.
async fn readiness(ctl: Option<&AsyncFd<OwnedFd>>, writing: bool) -> Option<tokio::io::Ready> {
    let Some(ctl) = ctl else {
        return std::future::pending().await;
    };
    let interest = if writing {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    ctl.ready(interest).await.ok().map(|guard| guard.ready())
}

// === impl Client ===

impl Client {
    fn new(name: ProcessName, definition: &Definition) -> Self {
        Self {
            name,
            ctl: None,
            outbox: VecDeque::new(),
            seq: 0,
            answers: Vec::new(),
            waiting: VecDeque::new(),
            identity: RunIdentity {
                label: definition.label.clone(),
                daemon_pid: definition.daemon_pid,
                use_cgroup: definition.use_cgroup,
                kill_timeout: definition.stop.kill_timeout,
                shim_pid: 0,
                shim_start_ticks: 0,
            },
            main: None,
            has_cgroup: false,
            exit_told: false,
            phase: Phase::Starting,
        }
    }

    fn notice(&mut self, notice: Notice, stops: &watch::Receiver<Option<StopPlan>>) {
        match notice {
            Notice::Spawned {
                shim_pid,
                start_ticks,
                ctl,
            } => {
                self.identity.shim_pid = shim_pid;
                self.identity.shim_start_ticks = start_ticks;
                self.phase = Phase::Connected;
                // SAFETY: an OwnedFd names the same open descriptor until it is
                // dropped, and nobody takes it out of the AsyncFd.
                match unsafe { AsyncFd::register(ctl) } {
                    Ok(ctl) => self.ctl = Some(ctl),
                    Err(error) => {
                        tracing::error!(name = %self.name, %error, "cannot watch a shim's socket");
                        self.phase = Phase::Broken;
                    }
                }
                self.stop(stops);
            }
            Notice::SpawnFailed(error) => {
                self.event(RunEvent::Exited(sys::spawn_error_exit(error)));
                self.event(RunEvent::Empty);
            }
            Notice::ShimEnded => {
                // A child that never got to exec may still hold the socket open,
                // so its end is no sign.
                self.read_rest();
                if self.phase == Phase::Connected {
                    self.phase = Phase::Broken;
                }
            }
            Notice::Event(event) => self.event(event),
        }
    }

    fn stop(&mut self, stops: &watch::Receiver<Option<StopPlan>>) {
        let plan = *stops.borrow();
        if let Some(plan) = plan {
            self.outbox.retain(|packet| !packet.is_stop);
            self.send(&Message::Stop(plan));
        }
    }

    /// Not before there is a shim to ask.
    fn takes_requests(&self) -> bool {
        self.phase != Phase::Starting && self.answers.len() < REQUESTS_MAX
    }

    fn request(&mut self, request: Request) {
        if self.phase != Phase::Connected {
            let _ = request.answer.send(Err(SignalError::Gone)); // nobody waits
            return;
        }
        let seq = self.send(&match request.ask {
            Ask::Signal { number, scope } => Message::Signal { number, scope },
            Ask::Freeze => Message::Freeze,
            Ask::Thaw => Message::Thaw,
        });
        self.answers.push((seq, request.answer));
    }

    fn send(&mut self, message: &Message) -> u64 {
        self.seq += 1;
        self.outbox.push_back(Packet {
            bytes: message.encode(self.seq),
            is_stop: matches!(message, Message::Stop(_)),
        });
        self.write();
        self.seq
    }

    /// Reads and writes what the socket is ready for.
    fn converse(&mut self, ready: Option<tokio::io::Ready>) {
        match ready {
            Some(ready) => {
                if ready.is_writable() {
                    self.write();
                }
                if ready.is_readable() || ready.is_read_closed() {
                    self.read();
                }
            }
            None => self.broken(),
        }
    }

    fn write(&mut self) {
        while let (Some(ctl), Some(packet)) = (&self.ctl, self.outbox.front()) {
            let sent = ctl.try_io(Interest::WRITABLE, |fd| {
                ctl::send(fd.as_fd(), &packet.bytes, None).map_err(std::io::Error::from)
            });
            match sent {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // What it said before it went is still to be read.
                Err(_) => {
                    self.outbox.clear();
                    return;
                }
            }
        }
    }

    /// Reads until there is nothing, or enough events wait.
    fn read(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(ctl) = &self.ctl
            && self.waiting.len() < EVENTS_WAITING_MAX
        {
            let received = ctl.try_io(Interest::READABLE, |fd| {
                ctl::receive(fd.as_fd(), &mut buffer).map_err(std::io::Error::from)
            });
            if !self.received(received, &buffer) {
                return;
            }
        }
    }

    /// Reads all that a shim said before it ended; the socket bounds it. The
    /// socket is asked itself: tokio may not have heard of it yet.
    fn read_rest(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(ctl) = &self.ctl {
            let received = ctl::receive(ctl.get_ref().as_fd(), &mut buffer);
            if !self.received(received.map_err(std::io::Error::from), &buffer) {
                return;
            }
        }
    }

    /// `false` if there is nothing to read for now.
    fn received(&mut self, received: std::io::Result<Received>, buffer: &[u8]) -> bool {
        match received {
            Ok(Received::Packet(size, _)) => match Message::decode(&buffer[..size]) {
                Ok((_, message)) => self.hear(message),
                Err(error) => {
                    tracing::warn!(name = %self.name, "a message of its shim {error}");
                }
            },
            Ok(Received::Closed) => self.broken(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A packet too large to be one of ours was dropped.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
            Err(_) => self.broken(),
        }
        true
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Spawned {
                pid,
                start_ticks,
                cgroup,
            } => {
                self.main = Some(MainProcess {
                    pid,
                    start_ticks,
                    started: false,
                });
                self.has_cgroup = cgroup.is_some();
                self.event(RunEvent::Spawned {
                    pid,
                    cgroup_path: cgroup.map(Into::into),
                });
            }
            Message::Started => {
                if let Some(main) = &mut self.main {
                    main.started = true;
                }
                self.event(RunEvent::Started);
            }
            Message::SpawnFailed { error, .. } => {
                self.event(RunEvent::Exited(sys::spawn_error_exit(error)))
            }
            Message::Exited(exit) => self.event(RunEvent::Exited(exit)),
            Message::Killing => self.event(RunEvent::Killing),
            Message::Survivors(pids) => self.event(RunEvent::Survivors(pids)),
            Message::Empty => self.event(RunEvent::Empty),
            Message::Reply { seq, errno } => self.answer(seq, errno),
            // Nothing to do, or not said by a shim.
            Message::Hello { .. }
            | Message::Define
            | Message::Stop(_)
            | Message::Signal { .. }
            | Message::Freeze
            | Message::Thaw => {}
        }
    }

    fn answer(&mut self, seq: u64, errno: i32) {
        let Some(at) = self.answers.iter().position(|(asked, _)| *asked == seq) else {
            return;
        };
        let (_, answer) = self.answers.swap_remove(at);
        let result = match errno {
            0 => Ok(()),
            libc::ESRCH => Err(SignalError::Gone),
            libc::ENOTSUP => Err(SignalError::NoCgroup),
            errno => Err(SignalError::Refused(errno)),
        };
        let _ = answer.send(result); // nobody waits
    }

    /// Every event passes here: `Exited` once, `Empty` once and last.
    fn event(&mut self, event: RunEvent) {
        match event {
            _ if self.phase == Phase::Over => return,
            RunEvent::Exited(_) if self.exit_told => return,
            RunEvent::Exited(_) => self.exit_told = true,
            RunEvent::Empty => {
                self.phase = Phase::Over;
                self.close();
                if !self.exit_told {
                    self.exit_told = true;
                    self.waiting.push_back(RunEvent::Exited(sys::lost_exit()));
                }
            }
            _ => {}
        }
        self.waiting.push_back(event);
    }

    fn broken(&mut self) {
        self.close();
        if self.phase == Phase::Connected {
            self.phase = Phase::Broken;
        }
    }

    fn close(&mut self) {
        self.ctl = None;
        self.outbox.clear();
        for (_, answer) in self.answers.drain(..) {
            let _ = answer.send(Err(SignalError::Gone)); // nobody waits
        }
    }

    /// Hands the run over to whoever clears it.
    fn give_up(&mut self, notices: mpsc::Sender<Notice>) -> Lost {
        self.close();
        self.phase = Phase::Recovering;
        let identity = &self.identity;
        tracing::warn!(name = %self.name, shim = identity.shim_pid, "the shim of a run is gone");
        Lost {
            shim_pid: identity.shim_pid,
            since_ticks: identity.shim_start_ticks,
            main: self.main,
            exit_told: self.exit_told,
            daemon_pid: identity.daemon_pid,
            label: identity.label.clone(),
            may_have_cgroup: identity.use_cgroup,
            // Without a cgroup nobody else can claim what came to us.
            takes_orphans: self.main.is_some() && !self.has_cgroup,
            kill_timeout: identity.kill_timeout,
            notices,
            round: Round::default(),
        }
    }
}
