//! What the owner of a process keeps: the published status and, beside it, what
//! only policy needs (the live run, timers, streaks).

use std::{collections::VecDeque, sync::Arc};

use super::{
    event::Gate,
    limits::EXIT_HISTORY_MAX,
    run::{Exit, StopPlan},
    spec::Spec,
    status::{
        Cause, Condition, ConditionKind, Desired, Details, Reason, RunRecord, Stage, State, Status,
    },
    time::{Monotonic, Now, Timestamp},
};

/// State of one process as its owner knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    /// What is published.
    pub status: Status,
    /// Who or what caused the latest change, whether or not the state changed.
    pub cause: Cause,
    /// From launch until proven empty.
    pub(super) run: Option<LiveRun>,
    pub(super) timers: Timers,
    /// Ends in a row of runs that were not stable; grows the backoff.
    pub(super) streak: u32,
    /// Automatic restarts that the budget still counts, oldest first.
    pub(super) restarts: VecDeque<Monotonic>,
    /// The live run lacks a change that needs a restart.
    pub(super) stale: bool,
}

/// What a transition may look at besides its arguments: nothing else exists.
#[derive(Debug, Clone)]
pub struct Context {
    /// The instant.
    pub now: Now,
    /// Randomness for jitter.
    pub entropy: u64,
    /// What the dependencies allow at this instant.
    pub gate: Gate,
}

/// A run that has, or may have, live processes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LiveRun {
    pub(super) began: Monotonic,
    /// It was RUNNING at some time.
    pub(super) started: bool,
    pub(super) stop: Option<Stopping>,
}

/// A stop in progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stopping {
    pub(super) cause: Cause,
    pub(super) why: StopWhy,
    /// When SIGKILL is due, to see whether a later plan is the stricter one.
    pub(super) kill_at: Monotonic,
}

/// What a stop is for; what follows it also depends on the desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopWhy {
    /// A caller, or a restart: what follows is not the policy's business.
    Asked,
    /// The run took too long to start: a failure.
    StartTimeout,
}

/// Deadlines; each acts once when a `Tick` finds it due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timers {
    /// BACKOFF ends.
    pub(super) backoff: Option<Monotonic>,
    /// A run that was executed counts as started.
    pub(super) started: Option<Monotonic>,
    /// A run that is not started by then is stopped.
    pub(super) start_timeout: Option<Monotonic>,
    /// A run counts as stable.
    pub(super) stable: Option<Monotonic>,
}

// === impl Lifecycle ===

impl Lifecycle {
    /// A process that never ran.
    #[must_use]
    pub fn new(desired: Desired, cause: Cause, at: Timestamp) -> Self {
        Self {
            status: Status::new(desired, cause.clone(), at),
            cause,
            run: None,
            timers: Timers::default(),
            streak: 0,
            restarts: VecDeque::new(),
            stale: false,
        }
    }

    /// A process as it was kept; `Event::Recover` is its first event.
    #[must_use]
    pub fn restore(status: Status, cause: Cause) -> Self {
        Self {
            status,
            cause,
            run: None,
            timers: Timers::default(),
            streak: 0,
            restarts: VecDeque::new(),
            stale: false,
        }
    }

    /// Notes that the live run lacks a change, or does not.
    pub fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
    }

    /// Whether the run with this id is known to have left nothing behind.
    #[must_use]
    pub fn is_over(&self, run_id: i64) -> bool {
        run_id <= self.status.latest_over()
    }

    /// When the next `Tick` is due; `None`: nothing happens by itself.
    #[must_use]
    pub fn next_tick(&self) -> Option<Monotonic> {
        let Timers {
            backoff,
            started,
            start_timeout,
            stable,
        } = self.timers;
        [backoff, started, start_timeout, stable]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether processes of a run may live.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.run.is_some()
    }

    /// The run that a start or a restart asked for now is about.
    #[must_use]
    pub fn target_run(&self) -> i64 {
        let ended = self.status.current_exit().is_some();
        match &self.run {
            Some(run) if run.stop.is_none() && !ended => self.status.run_id,
            _ => self.status.run_id + 1,
        }
    }

    /// Enters `state`, forgetting everything that is valid only within one state.
    pub(super) fn enter(&mut self, state: State, reason: Reason, cause: Cause, now: Now) {
        let status = &mut self.status;
        status.state = state;
        status.reason = reason;
        status.stage = Stage::None;
        status.state_time = now.wall;
        status.deadline_time = Timestamp::default();
        status.next_start_time = Timestamp::default();
        status.cause = cause.clone();
        if state != State::Running && state != State::Paused {
            status.ready = false;
        }
        self.timers = Timers::default();
        self.cause = cause;
        self.set_details(|details| {
            details.message = Box::default();
            details.waiting_on.clear();
            details.surviving_pids.clear();
        });
    }

    pub(super) fn say(&mut self, message: String) {
        self.set_details(|details| details.message = message.into());
    }

    /// Changes the shared details; an edit that changes nothing costs no new copy.
    pub(super) fn set_details(&mut self, edit: impl FnOnce(&mut Details)) {
        let mut details = Details::clone(&self.status.details);
        edit(&mut details);
        if details != *self.status.details {
            self.status.details = Arc::new(details);
        }
    }

    /// Records the one end of the current run.
    pub(super) fn record_exit(&mut self, exit: Exit) {
        let stop = self.run.as_ref().and_then(|run| run.stop.as_ref());
        let record = RunRecord {
            run_id: self.status.run_id,
            stop_requested: stop.is_some(),
            start_time: self.status.start_time,
            cause: stop.map_or(Cause::KERNEL, |stop| stop.cause.clone()),
            exit,
        };
        self.status.pid = 0;
        self.status.ready = false;
        self.status.end_time = record.exit.at;
        self.set_details(|details| {
            details.history.insert(0, Arc::new(record));
            details.history.truncate(EXIT_HISTORY_MAX);
        });
    }

    /// Notes a stop of the live run; `false` if one is under way that kills no
    /// later, so that repeated stops never postpone the end.
    pub(super) fn note_stop(
        &mut self,
        cause: &Cause,
        why: StopWhy,
        plan: StopPlan,
        now: Now,
    ) -> bool {
        let kill_at = now.mono.after(plan.grace);
        let Some(run) = &mut self.run else {
            return false;
        };
        if let Some(stop) = &mut run.stop {
            // A caller's stop overrules the policy's.
            if why == StopWhy::Asked {
                stop.why = why;
            }
            if kill_at >= stop.kill_at {
                return false;
            }
            stop.kill_at = kill_at;
            stop.cause = cause.clone();
        } else {
            run.stop = Some(Stopping {
                cause: cause.clone(),
                why,
                kill_at,
            });
        }
        self.status.deadline_time = now.wall.after(plan.grace).after(plan.kill_timeout);
        true
    }

    /// Brings the conditions up to what is known; they change no state.
    pub(super) fn refresh_conditions(&mut self, spec: &Spec, ctx: &Context) {
        let has_dependencies = !spec.config.dependencies.is_empty();
        if has_dependencies || self.condition(ConditionKind::DependenciesMet).is_some() {
            let (holds, reason, message) = match &ctx.gate {
                Gate::Open => (true, "MET", String::new()),
                Gate::Held(names) => (false, "WAITING", join(names)),
                Gate::Failed(name) => (false, "FAILED", name.to_string()),
            };
            self.set_condition(
                ConditionKind::DependenciesMet,
                holds,
                reason,
                message,
                ctx.now,
            );
        }
        if self.stale || self.condition(ConditionKind::ConfigCurrent).is_some() {
            let (reason, message) = if self.stale {
                (
                    "RESTART_NEEDED",
                    "the run was started with an earlier generation".to_owned(),
                )
            } else {
                ("CURRENT", String::new())
            };
            self.set_condition(
                ConditionKind::ConfigCurrent,
                !self.stale,
                reason,
                message,
                ctx.now,
            );
        }
    }

    pub(super) fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.status
            .details
            .conditions
            .iter()
            .find(|c| c.kind == kind)
    }

    /// Only what is not kept is worth a word, until it is.
    pub(super) fn note_intent_kept(&mut self, kept: bool, now: Now) {
        let kind = ConditionKind::IntentDurable;
        if !kept {
            let message = "the store cannot be written; a crash would undo it".to_owned();
            self.set_condition(kind, false, "STORE_READ_ONLY", message, now);
        } else if self.condition(kind).is_some() {
            self.set_condition(kind, true, "DURABLE", String::new(), now);
        }
    }

    pub(super) fn set_condition(
        &mut self,
        kind: ConditionKind,
        holds: bool,
        reason: &'static str,
        message: String,
        now: Now,
    ) {
        let since = match self.condition(kind) {
            Some(old) if old.holds == holds => old.since,
            _ => now.wall,
        };
        let new = Condition {
            kind,
            holds,
            reason,
            message: message.into(),
            since,
        };
        self.set_details(|details| {
            details.conditions.retain(|c| c.kind != kind);
            details.conditions.push(new);
            details.conditions.sort_by_key(|c| c.kind);
        });
    }
}

/// Names as a person lists them.
pub(super) fn join(names: &[super::id::ProcessName]) -> String {
    names
        .iter()
        .map(super::id::ProcessName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
