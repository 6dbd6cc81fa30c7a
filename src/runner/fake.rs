//! A runner without processes, for tests of whoever owns runs.
//!
//! Each launch follows a [`Script`] on tokio's clock, so a paused clock works, and
//! a test may drive it by hand through [`FakeRun`]. It keeps the promises of
//! [`Runner`]: order, `Exited` once, `Empty` once and last. Deliberately absent:
//! real pids, output.

mod play;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::play::{Begin, Play};
use super::{
    Adopt, Answer, Launch, LogPolicy, Run, Runner, SignalError, Stopped, Write, WriteAnswer,
    Written,
};
use crate::domain::{
    id::Uid,
    run::{Outcome, RunEvent, SignalScope, SpawnError, StopPlan},
};

/// How a run goes if nobody intervenes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Told instead of `Spawned` and `Started`.
    pub refuses: Option<SpawnError>,
    /// From launch to `Started`.
    pub starts_after: Duration,
    /// Ends by itself so long after it started.
    pub ends_after: Option<(Duration, Outcome)>,
    /// What it does when stopped.
    pub on_stop: OnStop,
    /// Pids that outlive the main process and SIGKILL, until
    /// [`FakeRun::release`].
    pub survivors: Vec<i32>,
}

/// What a run does with the signal of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnStop {
    /// Ends like this, so much later.
    Ends(Duration, Outcome),
    /// Goes on until SIGKILL.
    Ignores,
}

/// What an earlier daemon left of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It runs, and goes on by this script.
    Running(Script),
    /// As [`Left::Running`], but it does not answer before this time is over.
    Silent(Duration, Script),
    /// Its main process ended like this and nothing is left.
    Ended(Outcome),
    /// It never came to be.
    NotBegun,
}

/// What a run was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// [`Run::stop`].
    Stop(StopPlan),
    /// [`Run::keep_output`].
    Keep(LogPolicy),
    /// [`Run::signal`].
    Signal(i32, SignalScope),
    /// [`Run::freeze`].
    Freeze,
    /// [`Run::thaw`].
    Thaw,
    /// [`Run::resize`]: rows, columns.
    Resize(u16, u16),
    /// [`Run::write`], of so many bytes.
    Write(usize),
}

/// The runner; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeRunner {
    shared: Arc<Shared>,
}

/// The test's end of one run; clones are the same one.
#[derive(Debug, Clone)]
pub struct FakeRun {
    /// What it was launched with; `None` if it was adopted.
    pub launch: Option<Arc<Launch>>,
    hand: mpsc::Sender<Hand>,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    launched: Notify,
}

#[derive(Debug, Default)]
struct State {
    default: Script,
    next: VecDeque<Script>,
    runs: Vec<FakeRun>,
    left: Vec<(Uid, i64, Left)>,
    forgotten: Vec<(Uid, i64)>,
    pid: i32,
}

#[derive(Debug, Default)]
struct Record {
    asked: Mutex<Vec<Asked>>,
    written: Mutex<u64>,
    changed: Notify,
}

/// What a test does to a run.
#[derive(Debug)]
enum Hand {
    Tell(RunEvent),
    End(Outcome),
    Release,
}

#[derive(Debug)]
struct Handle {
    stop: watch::Sender<Option<StopPlan>>,
    record: Arc<Record>,
    over: watch::Receiver<bool>,
}

const HANDS_MAX: usize = 16;
const SIGTERM: i32 = 15;
const FIRST_PID: i32 = 1000;

// === impl Script ===

/// Starts at once, runs until stopped, ends of SIGTERM at once.
impl Default for Script {
    fn default() -> Self {
        Self {
            refuses: None,
            starts_after: Duration::ZERO,
            ends_after: None,
            on_stop: OnStop::Ends(Duration::ZERO, Outcome::Signal(SIGTERM)),
            survivors: Vec::new(),
        }
    }
}

// === impl FakeRunner ===

impl FakeRunner {
    /// Every launch follows the default script.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The script of launches for which none waits.
    pub fn set_default(&self, script: Script) {
        self.state().default = script;
    }

    /// Adds the script of one launch to come.
    pub fn push(&self, script: Script) {
        self.state().next.push_back(script);
    }

    /// A run of an earlier daemon, to be found.
    pub fn leave(&self, uid: Uid, run_id: i64, left: Left) {
        self.state().left.push((uid, run_id, left));
    }

    /// What was cleared away so far.
    #[must_use]
    pub fn forgotten(&self) -> Vec<(Uid, i64)> {
        self.state().forgotten.clone()
    }

    /// Launches and adoptions so far.
    #[must_use]
    pub fn launches(&self) -> usize {
        self.state().runs.len()
    }

    /// The run of launch or adoption number `index` (from 0), waiting for it.
    pub async fn run(&self, index: usize) -> FakeRun {
        loop {
            let launched = self.shared.launched.notified();
            tokio::pin!(launched);
            launched.as_mut().enable();
            if let Some(run) = self.state().runs.get(index) {
                return run.clone();
            }
            launched.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Runner for FakeRunner {
    fn launch(&self, launch: Launch, events: mpsc::Sender<RunEvent>) -> Box<dyn Run> {
        let mut state = self.state();
        let script = state.next.pop_front();
        let script = script.unwrap_or_else(|| state.default.clone());
        drop(state);
        let stop = launch.stop;
        self.play(Some(launch), stop, Begin::Launched, script, events)
    }

    fn adopt(&self, adopt: Adopt, events: mpsc::Sender<RunEvent>) -> Box<dyn Run> {
        let is_it =
            |(uid, run_id, _): &(Uid, i64, Left)| (*uid, *run_id) == (adopt.uid, adopt.run_id);
        let left = self.state().left.iter().find(|run| is_it(run)).cloned();
        let (begin, script) = match left {
            Some((_, _, Left::Running(script))) => (Begin::Adopted, script),
            Some((_, _, Left::Silent(silence, script))) => (Begin::Silent(silence), script),
            Some((_, _, Left::Ended(outcome))) => (Begin::Ended(outcome), Script::default()),
            Some((_, _, Left::NotBegun)) | None => (Begin::NotBegun, Script::default()),
        };
        self.play(None, adopt.stop, begin, script, events)
    }

    fn found(&self) -> Vec<(Uid, i64)> {
        let state = self.state();
        state.left.iter().map(|(uid, id, _)| (*uid, *id)).collect()
    }

    fn forget(&self, uid: Uid, run_id: i64) {
        self.state().forgotten.push((uid, run_id));
    }
}

impl FakeRunner {
    fn play(
        &self,
        launch: Option<Launch>,
        launch_stop: StopPlan,
        begin: Begin,
        script: Script,
        events: mpsc::Sender<RunEvent>,
    ) -> Box<dyn Run> {
        let (hand, hands) = mpsc::channel(HANDS_MAX);
        let (stop, stops) = watch::channel(None);
        let (over, is_over) = watch::channel(false);
        let record = Arc::new(Record::default());
        let pid = {
            let mut state = self.state();
            state.pid += 1;
            state.runs.push(FakeRun {
                launch: launch.map(Arc::new),
                hand,
                record: Arc::clone(&record),
            });
            FIRST_PID + state.pid
        };
        self.shared.launched.notify_waiters();
        let play = Play {
            begin,
            script,
            launch_stop,
            pid,
            events,
            hand: hands,
            stops,
            main_alive: true,
            over,
        };
        tokio::spawn(play.run());
        Box::new(Handle {
            stop,
            record,
            over: is_over,
        })
    }
}

// === impl FakeRun ===

impl FakeRun {
    /// The main process ends like this, unless it has ended.
    pub async fn end(&self, outcome: Outcome) {
        let _ = self.hand.send(Hand::End(outcome)).await; // the run is over
    }

    /// It says something, as long as it lives.
    pub async fn tell(&self, event: RunEvent) {
        let _ = self.hand.send(Hand::Tell(event)).await; // the run is over
    }

    /// Its survivors go.
    pub async fn release(&self) {
        let _ = self.hand.send(Hand::Release).await; // the run is over
    }

    /// All that was asked of it so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.record.asked).clone()
    }

    /// Waits until something for which `wanted` holds has been asked of it.
    pub async fn until_asked(&self, wanted: impl Fn(&Asked) -> bool) -> Asked {
        loop {
            let changed = self.record.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(asked) = self.asked().into_iter().find(&wanted) {
                return asked;
            }
            changed.await;
        }
    }
}

// === impl Handle ===

impl Handle {
    fn note(&self, asked: Asked) {
        lock(&self.record.asked).push(asked);
        self.record.changed.notify_waiters();
    }

    fn answer(&self, asked: Asked) -> Answer {
        self.note(asked);
        let (answer, receiver) = oneshot::channel();
        let result = if *self.over.borrow() {
            Err(SignalError::Gone)
        } else {
            Ok(())
        };
        let _ = answer.send(result); // its receiver is here
        receiver
    }
}

impl Run for Handle {
    fn stop(&self, plan: StopPlan) {
        self.note(Asked::Stop(plan));
        self.stop.send_replace(Some(plan));
    }

    fn keep_output(&self, policy: LogPolicy) {
        self.note(Asked::Keep(policy));
    }

    fn signal(&self, number: i32, scope: SignalScope) -> Answer {
        self.answer(Asked::Signal(number, scope))
    }

    fn freeze(&self) -> Answer {
        self.answer(Asked::Freeze)
    }

    fn thaw(&self) -> Answer {
        self.answer(Asked::Thaw)
    }

    fn resize(&self, rows: u16, columns: u16) -> Answer {
        self.answer(Asked::Resize(rows, columns))
    }

    /// All of it is taken at once.
    fn write(&self, write: Write) -> WriteAnswer {
        self.note(Asked::Write(write.bytes.len()));
        let (answer, receiver) = oneshot::channel();
        let mut total = lock(&self.record.written);
        let result = if *self.over.borrow() {
            Err(SignalError::Gone)
        } else if write.offset.is_some_and(|offset| offset != *total) {
            Ok(Written {
                total: *total,
                stopped: Some(Stopped::Offset),
            })
        } else {
            *total += u64::try_from(write.bytes.len()).unwrap_or(0);
            Ok(Written {
                total: *total,
                stopped: None,
            })
        };
        let _ = answer.send(result); // its receiver is here
        receiver
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
