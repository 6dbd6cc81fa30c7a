//! The daemon's end of one run: a task that speaks with the shim.
//!
//! Invariants: events keep their order and none is dropped; a stop is never
//! lost, however early it comes; what waits is bounded, and a full queue only
//! makes this task read less. Deliberately absent: threads, timers, policy.

use std::{collections::VecDeque, ffi::OsString, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    io::Ready,
    sync::{mpsc, oneshot, watch},
};

use super::{
    Program, REQUESTS_MAX, SignalError,
    connection::{self, Connection, Heard},
    recovery::{Lost, MainProcess, Round},
    spawner::{self, NOTICES_MAX, Notice, Spawn, Spawner},
};
use crate::{
    domain::{
        id::ProcessName,
        run::{RunEvent, SignalScope, StopPlan},
    },
    shim::{definition::Definition, protocol::Message, sys},
};

/// What begins a run.
pub(super) struct Start {
    pub(super) spawner: &'static Spawner,
    pub(super) program: Arc<Program>,
    pub(super) shim_env: Vec<(OsString, OsString)>,
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
    connection: Option<Connection>,
    answers: Vec<(u64, oneshot::Sender<Result<(), SignalError>>)>,
    /// Events the owner has not taken yet.
    waiting: VecDeque<RunEvent>,
    identity: RunIdentity,
    main: Option<MainProcess>,
    has_cgroup: bool,
    exit_told: bool,
    phase: Phase,
}

/// What is needed to find the run without its shim.
struct RunIdentity {
    label: String,
    daemon_pid: i32,
    use_cgroup: bool,
    kill_timeout: Duration,
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
            Some(notice) = incoming.recv(), if taking => client.notice(notice, &mut stops),
            ready = readiness(client.connection.as_ref()), if taking => client.converse(ready),
            Ok(()) = stops.changed(), if client.phase == Phase::Connected => client.stop(&mut stops),
            Some(request) = requests.recv(), if client.takes_requests() =>
                client.request(request),
        }
    }
}

/// What the socket is ready for; forever pending without one.
async fn readiness(connection: Option<&Connection>) -> io::Result<Ready> {
    match connection {
        Some(connection) => connection.ready().await,
        None => std::future::pending().await,
    }
}

// === impl Client ===

impl Client {
    fn new(name: ProcessName, definition: &Definition) -> Self {
        Self {
            name,
            connection: None,
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

    fn notice(&mut self, notice: Notice, stops: &mut watch::Receiver<Option<StopPlan>>) {
        match notice {
            Notice::Spawned {
                shim_pid,
                start_ticks,
                ctl,
            } => {
                self.identity.shim_pid = shim_pid;
                self.identity.shim_start_ticks = start_ticks;
                self.phase = Phase::Connected;
                match Connection::new(ctl) {
                    Ok(connection) => self.connection = Some(connection),
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

    fn stop(&mut self, stops: &mut watch::Receiver<Option<StopPlan>>) {
        let plan = *stops.borrow_and_update();
        if let (Some(plan), Some(connection)) = (plan, &mut self.connection) {
            connection.send(&Message::Stop(plan));
        }
    }

    /// Not before there is a shim to ask.
    fn takes_requests(&self) -> bool {
        self.phase != Phase::Starting && self.answers.len() < REQUESTS_MAX
    }

    fn request(&mut self, request: Request) {
        let Some(connection) = &mut self.connection else {
            let _ = request.answer.send(Err(SignalError::Gone)); // nobody waits
            return;
        };
        let seq = connection.send(&match request.ask {
            Ask::Signal { number, scope } => Message::Signal { number, scope },
            Ask::Freeze => Message::Freeze,
            Ask::Thaw => Message::Thaw,
        });
        self.answers.push((seq, request.answer));
    }

    /// Reads and writes what the socket is ready for.
    fn converse(&mut self, ready: io::Result<Ready>) {
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
    fn read_rest(&mut self) {
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
            Heard::Message(message) => self.hear(message),
            Heard::Refused(error) => {
                tracing::warn!(name = %self.name, "a message of its shim {error}");
            }
            Heard::Closed => self.broken(),
            Heard::Nothing => return false,
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
        self.connection = None;
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
