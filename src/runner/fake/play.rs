//! The part of a fake run that moves: a script on tokio's clock.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Hand, OnStop, Script};
use crate::domain::{
    run::{Exit, Outcome, RunEvent, StopPlan},
    time::Timestamp,
};

const SIGKILL: i32 = 9;

/// How a run comes to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Launched,
    Adopted,
    Silent(Duration),
    Ended(Outcome),
    NotBegun,
}

/// A run under way.
pub(super) struct Play {
    pub(super) begin: Begin,
    pub(super) script: Script,
    pub(super) launch_stop: StopPlan,
    pub(super) pid: i32,
    pub(super) events: mpsc::Sender<RunEvent>,
    pub(super) hand: mpsc::Receiver<Hand>,
    pub(super) stops: watch::Receiver<Option<StopPlan>>,
    pub(super) main_alive: bool,
    pub(super) over: watch::Sender<bool>,
}

/// What a run waits for, each with its time.
#[derive(Debug, Default)]
struct Timers {
    end: Option<(Instant, Outcome)>,
    grace: Option<Instant>,
    kill: Option<Instant>,
    kill_timeout: Duration,
}

// === impl Play ===

impl Play {
    /// Plays the script to its end.
    pub(super) async fn run(mut self) {
        match std::mem::replace(&mut self.begin, Begin::Launched) {
            Begin::Launched => self.begin().await,
            Begin::Adopted => self.go_on().await,
            Begin::Silent(silence) => {
                self.tell(RunEvent::Unresponsive(silence)).await;
                sleep_until(Instant::now() + silence).await;
                self.go_on().await;
            }
            Begin::Ended(outcome) => {
                self.exited(outcome).await;
                self.finish().await;
            }
            Begin::NotBegun => {
                self.over.send_replace(true);
                self.tell(RunEvent::NotBegun).await;
            }
        }
    }

    async fn begin(mut self) {
        if let Some(error) = self.script.refuses.take() {
            self.exited(Outcome::SpawnError(error)).await;
            self.finish().await;
            return;
        }
        let (pid, cgroup_path) = (self.pid, None);
        self.tell(RunEvent::Spawned { pid, cgroup_path }).await;
        let mut timers = Timers::default();
        let started = Instant::now() + self.script.starts_after;
        if self.wait_for_start(started, &mut timers).await {
            self.tell(RunEvent::Started).await;
            if let Some((after, outcome)) = self.script.ends_after.clone() {
                timers.end.get_or_insert((Instant::now() + after, outcome));
            }
        }
        self.play_on(timers).await;
    }

    async fn go_on(self) {
        let adopted = RunEvent::Adopted {
            pid: self.pid,
            cgroup_path: None,
            started: true,
            began: Timestamp(1),
        };
        self.tell(adopted).await;
        let mut timers = Timers::default();
        if let Some((after, outcome)) = self.script.ends_after.clone() {
            timers.end = Some((Instant::now() + after, outcome));
        }
        self.play_on(timers).await;
    }

    async fn play_on(mut self, mut timers: Timers) {
        while self.main_alive || !self.script.survivors.is_empty() {
            self.step(&mut timers).await;
        }
        self.finish().await;
    }

    /// `false` if it was stopped or ended before it started.
    async fn wait_for_start(&mut self, started: Instant, timers: &mut Timers) -> bool {
        while self.main_alive {
            tokio::select! {
                biased;
                () = sleep_until(started) => return true,
                Ok(()) = self.stops.changed() => {
                    self.stop(timers);
                    return false;
                }
                Some(hand) = self.hand.recv() => self.take(hand).await,
            }
        }
        false
    }

    async fn step(&mut self, timers: &mut Timers) {
        let end = timers.end.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            Ok(()) = self.stops.changed() => self.stop(timers),
            Some(hand) = self.hand.recv() => {
                let was_alive = self.main_alive;
                self.take(hand).await;
                if was_alive && !self.main_alive {
                    self.leave_survivors(timers);
                }
            }
            () = at(end) => {
                if let Some((_, outcome)) = timers.end.take() {
                    self.exited(outcome).await;
                    self.leave_survivors(timers);
                }
            }
            () = at(timers.grace) => {
                timers.grace = None;
                timers.end = None;
                timers.kill = Some(Instant::now() + timers.kill_timeout);
                self.tell(RunEvent::Killing).await;
                self.exited(Outcome::Signal(SIGKILL)).await;
            }
            () = at(timers.kill) => {
                timers.kill = None;
                let survivors = self.script.survivors.clone();
                self.tell(RunEvent::Survivors(survivors)).await;
            }
        }
    }

    fn stop(&mut self, timers: &mut Timers) {
        let Some(plan) = *self.stops.borrow_and_update() else {
            return;
        };
        timers.kill_timeout = plan.kill_timeout;
        if let Some(kill) = &mut timers.kill {
            *kill = Instant::now() + plan.kill_timeout;
            return;
        }
        timers.grace = Some(Instant::now() + plan.grace);
        if let (OnStop::Ends(after, outcome), true) = (&self.script.on_stop, self.main_alive) {
            let at = Instant::now() + *after;
            if timers.end.as_ref().is_none_or(|(end, _)| at < *end) {
                timers.end = Some((at, outcome.clone()));
            }
        }
    }

    /// What is left of a run that ended by itself is stopped by its own plan.
    fn leave_survivors(&self, timers: &mut Timers) {
        if timers.grace.is_none() && timers.kill.is_none() {
            timers.kill_timeout = self.launch_stop.kill_timeout;
            timers.grace = Some(Instant::now() + self.launch_stop.grace);
        }
    }

    async fn take(&mut self, hand: Hand) {
        match hand {
            Hand::Tell(event) => self.tell(event).await,
            Hand::End(outcome) => self.exited(outcome).await,
            Hand::Release => self.script.survivors.clear(),
        }
    }

    async fn exited(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.main_alive, false) {
            return;
        }
        let exit = Exit::new(outcome, Timestamp::default());
        self.tell(RunEvent::Exited(exit)).await;
    }

    async fn finish(&mut self) {
        self.over.send_replace(true);
        self.tell(RunEvent::Empty).await;
    }

    async fn tell(&self, event: RunEvent) {
        let _ = self.events.send(event).await; // nobody listens
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
