//! The daemon's end of one run: a task that speaks with its shim, and finds it
//! another one if it dies.
//!
//! Invariants: events keep their order and none is dropped; a stop is never
//! lost, however early it comes; what waits is bounded, and a full queue only
//! makes this task read less; a run is given up, and then killed, only if shim
//! after shim dies before it can say a word. Deliberately absent: threads, policy.

mod hear;
mod output;
mod shims;

use std::{
    collections::VecDeque, ffi::OsString, future::Future, io, os::fd::OwnedFd, path::PathBuf,
    pin::Pin, sync::Arc, time::Duration,
};

use tokio::{
    io::Ready,
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use self::output::OutputNews;
use super::{
    LogPolicy, Program, REQUESTS_MAX, SignalError, Stopped, Write, Written,
    connection::{self, Connection},
    look::Found,
    recovery::MainProcess,
    spawner::{self, NOTICES_MAX, Notice, Spawner, Task},
};
use crate::{
    domain::{
        id::ProcessName,
        run::{RunEvent, SignalScope, StopPlan},
    },
    shim::{definition::Definition, protocol::Message, record::RunRecord, sys},
};

/// What every run is driven with.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) spawner: &'static Spawner,
    pub(super) program: Arc<Program>,
    pub(super) shim_env: Vec<(OsString, OsString)>,
    pub(super) name: ProcessName,
    /// The run directory.
    pub(super) path: PathBuf,
}

/// Where a run comes from.
pub(super) enum Origin {
    /// It begins now.
    Launch(Box<Definition>),
    /// An earlier daemon began it.
    Adopt(StopPlan, Option<LogPolicy>),
}

/// What is wanted of a run, whichever shim it has: each is told the last of both.
pub(super) struct Wishes {
    pub(super) stops: watch::Receiver<Option<StopPlan>>,
    pub(super) log_policies: watch::Receiver<Option<LogPolicy>>,
}

/// Something to be answered.
#[derive(Debug)]
pub(super) enum Request {
    /// Do it.
    Act {
        ask: Ask,
        answer: oneshot::Sender<Result<(), SignalError>>,
    },
    /// Write to standard input.
    Write {
        write: Write,
        answer: oneshot::Sender<Result<Written, SignalError>>,
    },
}

/// Who waits for a shim's answer.
enum Answering {
    Act(oneshot::Sender<Result<(), SignalError>>),
    Write(oneshot::Sender<Result<Written, SignalError>>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Signal { number: i32, scope: SignalScope },
    Freeze,
    Thaw,
    Resize { rows: u16, columns: u16 },
}

/// Events that wait to be taken before the shim is not read from any more.
const EVENTS_WAITING_MAX: usize = 16;
/// So many shims of one run may die without a word within this time.
const DEATHS_MAX: usize = 5;
const DEATHS_WITHIN: Duration = Duration::from_secs(10);
/// A shim that does not answer for so long is reported.
const SILENCE_MAX: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Run directories that are looked at at once, in the whole process.
static LOOKS: Semaphore = Semaphore::const_new(8);

type Looking = Pin<Box<dyn Future<Output = Found> + Send>>;

struct Client {
    means: Means,
    adopts: bool,
    connection: Option<Connection>,
    looking: Option<Looking>,
    /// For the spawner, as soon as it takes it.
    asks: VecDeque<spawner::Request>,
    notices: mpsc::Sender<Notice>,
    answers: Vec<(u64, Answering)>,
    /// Events the owner has not taken yet.
    waiting: VecDeque<RunEvent>,
    shim_pid: i32,
    /// Whether this shim has told of its run.
    answered: bool,
    /// Whether it says that standard input can be written to.
    stdin_open: bool,
    has_terminal: bool,
    output: OutputNews,
    /// When its silence is reported, which is done once.
    silent_until: Option<Instant>,
    silence_told: bool,
    /// Shims that died, and whether without a word.
    deaths: VecDeque<(Instant, bool)>,
    /// Between two looks.
    pause: Duration,
    record: Option<RunRecord>,
    main: Option<MainProcess>,
    cgroup: Option<String>,
    /// What outlives the shim with us.
    kept: Arc<Vec<(u8, OwnedFd)>>,
    kill_timeout: Duration,
    begun_told: bool,
    exit_told: bool,
    /// The spawner is asked how the main process ended.
    exit_asked: bool,
    /// `Empty` was said meanwhile.
    empty_waits: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The spawner has the request for a shim.
    Starting,
    /// The shim is spoken with.
    Connected,
    /// The run directory is looked at.
    Looking,
    /// The spawner clears the run.
    Clearing,
    /// The last event was told.
    Over,
}

/// Begins a run, or takes it over, and sees it to its end.
pub(super) async fn drive(
    means: Means,
    origin: Origin,
    mut requests: mpsc::Receiver<Request>,
    mut wishes: Wishes,
    events: mpsc::Sender<RunEvent>,
) {
    // A sender is kept, so that receiving never ends.
    let (notices, mut incoming) = mpsc::channel(NOTICES_MAX);
    let mut client = Client::new(means, origin, notices);
    while client.phase != Phase::Over || !client.waiting.is_empty() || !client.asks.is_empty() {
        while let Some(ask) = client.asks.pop_front() {
            client.means.spawner.request(ask).await;
        }
        let taking = client.waiting.len() < EVENTS_WAITING_MAX;
        let silent_until = client.silent_until;
        let output_due = client.output.due();
        tokio::select! {
            permit = events.reserve(), if !client.waiting.is_empty() => match permit {
                Ok(permit) => if let Some(event) = client.waiting.pop_front() {
                    permit.send(event);
                },
                // Nobody listens; the run goes on all the same.
                Err(_) => client.waiting.clear(),
            },
            Some(notice) = incoming.recv(), if taking => client.notice(notice, &mut wishes),
            ready = readiness(client.connection.as_ref()), if taking => client.converse(ready),
            found = finding(&mut client.looking), if taking => client.found(found, &mut wishes),
            Ok(()) = wishes.stops.changed(), if client.phase == Phase::Connected =>
                client.stop(&mut wishes),
            Ok(()) = wishes.log_policies.changed(), if client.phase == Phase::Connected =>
                client.keep_output(&mut wishes),
            Some(request) = requests.recv(), if client.takes_requests() =>
                client.request(request),
            () = at(silent_until), if silent_until.is_some() => client.report_silence(),
            () = at(output_due), if taking && output_due.is_some() => client.tell_output(),
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

async fn finding(looking: &mut Option<Looking>) -> Found {
    match looking {
        Some(found) => found.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

// === impl Request ===

impl Request {
    pub(super) fn refuse(self, error: SignalError) {
        match self {
            Self::Act { answer, .. } => Answering::Act(answer).refuse(error),
            Self::Write { answer, .. } => Answering::Write(answer).refuse(error),
        }
    }
}

// === impl Answering ===

impl Answering {
    /// It does not matter whether anybody still waits.
    fn refuse(self, error: SignalError) {
        match self {
            Self::Act(answer) => drop(answer.send(Err(error))),
            Self::Write(answer) => drop(answer.send(Err(error))),
        }
    }
}

// === impl Ask ===

impl Ask {
    fn message(self) -> Message {
        match self {
            Self::Signal { number, scope } => Message::Signal { number, scope },
            Self::Freeze => Message::Freeze,
            Self::Thaw => Message::Thaw,
            Self::Resize { rows, columns } => Message::Resize { rows, columns },
        }
    }
}

// === impl Client ===

impl Client {
    fn new(means: Means, origin: Origin, notices: mpsc::Sender<Notice>) -> Self {
        let (kill_timeout, definition) = match origin {
            Origin::Launch(definition) => (definition.stop.kill_timeout, Some(definition)),
            Origin::Adopt(stop, _) => (stop.kill_timeout, None),
        };
        let mut client = Self {
            means,
            adopts: definition.is_none(),
            connection: None,
            looking: None,
            asks: VecDeque::new(),
            notices,
            answers: Vec::new(),
            waiting: VecDeque::new(),
            shim_pid: 0,
            answered: false,
            stdin_open: false,
            has_terminal: false,
            output: match definition {
                Some(_) => OutputNews::of_launched(),
                None => OutputNews::of_adopted(),
            },
            silent_until: None,
            silence_told: false,
            deaths: VecDeque::new(),
            pause: PAUSE_MIN,
            record: None,
            main: None,
            cgroup: None,
            kept: Arc::default(),
            kill_timeout,
            begun_told: false,
            exit_told: false,
            exit_asked: false,
            empty_waits: false,
            phase: Phase::Starting,
        };
        match definition {
            Some(definition) => client.spawn(Task::Begin(definition)),
            None => client.look_after(Duration::ZERO),
        }
        client
    }
}

impl Client {
    fn stop(&mut self, wishes: &mut Wishes) {
        let plan = *wishes.stops.borrow_and_update();
        if let (Some(plan), Some(connection)) = (plan, &mut self.connection) {
            connection.send(&Message::Stop(plan));
        }
    }

    fn keep_output(&mut self, wishes: &mut Wishes) {
        let policy = *wishes.log_policies.borrow_and_update();
        if let (Some(policy), Some(connection)) = (policy, &mut self.connection) {
            connection.send(&Message::Keep(policy));
        }
    }

    /// Not while there is no shim to ask.
    fn takes_requests(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Looking => false,
            Phase::Connected => self.answers.len() < REQUESTS_MAX,
            Phase::Clearing | Phase::Over => true,
        }
    }

    fn request(&mut self, request: Request) {
        let Some(connection) = &mut self.connection else {
            request.refuse(SignalError::Gone);
            return;
        };
        let (message, answering) = match request {
            Request::Act {
                ask: Ask::Resize { .. },
                answer,
            } if !self.has_terminal => {
                let none = SignalError::Refused(libc::ENOTTY);
                let _ = answer.send(Err(none)); // nobody waits
                return;
            }
            Request::Act { ask, answer } => (ask.message(), Answering::Act(answer)),
            // An older shim, which knows no such message, says nothing of it.
            Request::Write { answer, .. } if self.answered && !self.stdin_open => {
                let closed = Written {
                    total: 0,
                    stopped: Some(Stopped::NotOpen),
                };
                let _ = answer.send(Ok(closed)); // nobody waits
                return;
            }
            Request::Write { answer, .. } if !self.answered => {
                let later = SignalError::Refused(libc::EAGAIN);
                let _ = answer.send(Err(later)); // nobody waits
                return;
            }
            Request::Write { write, answer } => {
                let Write {
                    offset,
                    bytes,
                    close,
                } = write;
                let message = Message::Write {
                    offset,
                    bytes,
                    close,
                };
                (message, Answering::Write(answer))
            }
        };
        let seq = connection.send(&message);
        self.answers.push((seq, answering));
    }

    /// Every event passes here: `Exited` once, `Empty` once and last.
    fn event(&mut self, event: RunEvent) {
        match event {
            _ if self.phase == Phase::Over => return,
            RunEvent::Exited(_) if self.exit_told => return,
            RunEvent::Exited(_) => {
                self.exit_told = true;
                self.release(false);
            }
            RunEvent::Empty => {
                let rest = self.output.take_rest();
                self.waiting.extend(rest.map(RunEvent::Output));
                self.over();
                if !self.exit_told {
                    self.exit_told = true;
                    self.waiting.push_back(RunEvent::Exited(sys::lost_exit()));
                }
            }
            RunEvent::NotBegun => self.over(),
            _ => {}
        }
        self.waiting.push_back(event);
    }

    fn over(&mut self) {
        self.phase = Phase::Over;
        self.close(SignalError::Gone);
        self.kept = Arc::default();
    }
}
