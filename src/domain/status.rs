//! Observed half of a process: small, flat and cheap to copy per transition.
//!
//! What changes with every transition lies inline; what changes rarely (history,
//! texts, conditions) lies behind one `Arc` that a transition replaces only when
//! it says something new. Times of value 0 are absent.

use std::sync::Arc;

use super::{
    id::{ProcessName, Revision},
    run::{Exit, Outcome},
    spec::{RestartPolicy, Spec},
    time::Timestamp,
};

/// One immutable state of a process, as the registry stores it.
#[derive(Debug, Clone)]
pub struct ProcessState {
    /// Desired.
    pub spec: Arc<Spec>,
    /// Observed.
    pub status: Status,
    /// Why this state came about.
    pub cause: Cause,
    /// When.
    pub time: Timestamp,
    /// Number of the latest intent of the user that this state follows from; 0:
    /// its creation.
    pub intent: i64,
}

/// Observed state.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Where in the lifecycle.
    pub state: State,
    /// What the user asked for last.
    pub desired: Desired,
    /// Whether the current run is ready.
    pub ready: bool,
    /// Machine-readable cause of `state`.
    pub reason: Reason,
    /// Step within `state`.
    pub stage: Stage,
    /// 0 when not running.
    pub pid: i32,
    /// Failures in a row; reset by a stable run.
    pub consecutive_failures: i32,
    /// Ordinal of the current or latest run, from 1; 0: never ran.
    pub run_id: i64,
    /// Generation that run was started with.
    pub run_generation: i64,
    /// Restarts since creation.
    pub restart_count: i64,
    /// Start of the current or latest run.
    pub start_time: Timestamp,
    /// End of the latest run; absent while one is up.
    pub end_time: Timestamp,
    /// When `state` was entered.
    pub state_time: Timestamp,
    /// When `state` ends by itself at the latest.
    pub deadline_time: Timestamp,
    /// When the next run starts, in BACKOFF.
    pub next_start_time: Timestamp,
    /// When readiness last came in this run.
    pub ready_time: Timestamp,
    /// Who or what brought it into `state`.
    pub cause: Cause,
    /// What changes rarely.
    pub details: Arc<Details>,
}

/// The rarely changing part of a [`Status`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// For people.
    pub message: Box<str>,
    /// Names of what holds it in PENDING.
    pub waiting_on: Vec<ProcessName>,
    /// Pids alive after the kill deadline.
    pub surviving_pids: Vec<i32>,
    /// Path of the run's cgroup; empty where there is none.
    pub cgroup_path: Box<str>,
    /// Finished runs, newest first; at most `EXIT_HISTORY_MAX`.
    pub history: Vec<Arc<RunRecord>>,
    /// Facts orthogonal to the state, ordered by type.
    pub conditions: Vec<Condition>,
}

/// A finished run. Exactly one exists per run that was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Which run.
    pub run_id: i64,
    /// How its main process ended.
    pub exit: Exit,
    /// A stop was asked for before it ended.
    pub stop_requested: bool,
    /// When it was begun.
    pub start_time: Timestamp,
    /// Who or what ended it.
    pub cause: Cause,
}

/// One fact about a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Which fact.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub holds: bool,
    /// UPPER_SNAKE_CASE.
    pub reason: &'static str,
    /// For people.
    pub message: Box<str>,
    /// When `holds` last changed.
    pub since: Timestamp,
}

/// Types of conditions that exist today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The live run was begun by an earlier run of the daemon.
    Adopted,
    /// The live run was started with the current configuration.
    ConfigCurrent,
    /// Every dependency's condition holds.
    DependenciesMet,
    /// What the user asked for last survives a crash.
    IntentDurable,
    /// All output of the live run was kept.
    LogsIntact,
}

/// Why something happened and who asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Where it came from.
    pub origin: Origin,
    /// The caller, for API calls.
    pub caller: Option<Arc<Caller>>,
}

/// Where a change comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A call.
    Api,
    /// The supervisor's own policy: restart, backoff, dependency, shutdown.
    Supervisor,
    /// The kernel told of it: exec, exit.
    Kernel,
    /// The configuration file.
    Config,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// `uid:1000` or a SPIFFE ID.
    pub principal: Box<str>,
    /// The request's id; may be empty.
    pub request_id: Box<str>,
    /// What is to be carried out once under that id; part of an intent, not of a
    /// state.
    pub once: Option<Once>,
}

/// A request as it is recognized when it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The call.
    pub method: &'static str,
    /// Digest of its content.
    pub digest: u64,
}

/// What the user asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// To run.
    Running,
    /// Not to run.
    Stopped,
    /// To be gone.
    Deleted,
}

/// Lifecycle state; the contract's `ProcessState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "documented by the contract, one to one")]
pub enum State {
    Stopped,
    Pending,
    Starting,
    Running,
    Reloading,
    Paused,
    Stopping,
    Backoff,
    Succeeded,
    Failed,
    Unknown,
}

/// Machine-readable cause of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented by the contract, one to one")]
pub enum Reason {
    None,
    Dependency,
    ExitCode,
    Signal,
    OomKilled,
    SpawnError,
    StartTimeout,
    RetryLimit,
    DependencyFailed,
    StopFailed,
    Lost,
}

/// Step within a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented by the contract, one to one")]
pub enum Stage {
    None,
    Spawn,
    Probe,
    Signal,
    Kill,
    Reap,
}

// === impl State ===

impl State {
    /// A run may have live processes.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running | Self::Reloading | Self::Paused | Self::Stopping
        )
    }

    /// Nothing more happens by itself.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Succeeded | Self::Failed | Self::Unknown
        )
    }

    /// Upper-case name as in the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Pending => "PENDING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Reloading => "RELOADING",
            Self::Paused => "PAUSED",
            Self::Stopping => "STOPPING",
            Self::Backoff => "BACKOFF",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

// === impl Reason ===

impl Reason {
    /// Text on the wire; empty for `None`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Dependency => "DEPENDENCY",
            Self::ExitCode => "EXIT_CODE",
            Self::Signal => "SIGNAL",
            Self::OomKilled => "OOM_KILLED",
            Self::SpawnError => "SPAWN_ERROR",
            Self::StartTimeout => "START_TIMEOUT",
            Self::RetryLimit => "RETRY_LIMIT",
            Self::DependencyFailed => "DEPENDENCY_FAILED",
            Self::StopFailed => "STOP_FAILED",
            Self::Lost => "LOST",
        }
    }

    /// The reason that a failed end of a run gives.
    #[must_use]
    pub const fn of(exit: &Exit) -> Self {
        match (exit.oom_killed, &exit.outcome) {
            (_, Outcome::SpawnError(_)) => Self::SpawnError,
            (true, _) => Self::OomKilled,
            (_, Outcome::Code(_)) => Self::ExitCode,
            (_, Outcome::Signal(_)) => Self::Signal,
            (_, Outcome::Unknown(_)) => Self::Lost,
        }
    }
}

// === impl Stage ===

impl Stage {
    /// Text on the wire; empty for `None`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Spawn => "SPAWN",
            Self::Probe => "PROBE",
            Self::Signal => "SIGNAL",
            Self::Kill => "KILL",
            Self::Reap => "REAP",
        }
    }
}

// === impl ConditionKind ===

impl ConditionKind {
    /// CamelCase name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "Adopted",
            Self::ConfigCurrent => "ConfigCurrent",
            Self::DependenciesMet => "DependenciesMet",
            Self::IntentDurable => "IntentDurable",
            Self::LogsIntact => "LogsIntact",
        }
    }
}

// === impl Cause ===

impl Cause {
    /// The supervisor's own policy.
    pub const SUPERVISOR: Self = Self {
        origin: Origin::Supervisor,
        caller: None,
    };
    /// The kernel.
    pub const KERNEL: Self = Self {
        origin: Origin::Kernel,
        caller: None,
    };
    /// The configuration file.
    pub const CONFIG: Self = Self {
        origin: Origin::Config,
        caller: None,
    };
}

impl Origin {
    /// Text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Supervisor => "SUPERVISOR",
            Self::Kernel => "KERNEL",
            Self::Config => "CONFIG",
        }
    }
}

// === impl Status ===

impl Status {
    /// A process that was just created and never ran.
    #[must_use]
    pub fn new(desired: Desired, cause: Cause, at: Timestamp) -> Self {
        Self {
            state: State::Stopped,
            desired,
            ready: false,
            reason: Reason::None,
            stage: Stage::None,
            pid: 0,
            consecutive_failures: 0,
            run_id: 0,
            run_generation: 0,
            restart_count: 0,
            start_time: Timestamp::default(),
            end_time: Timestamp::default(),
            state_time: at,
            deadline_time: Timestamp::default(),
            next_start_time: Timestamp::default(),
            ready_time: Timestamp::default(),
            cause,
            details: Arc::new(Details::default()),
        }
    }

    /// Whether processes of the latest run may live.
    #[must_use]
    pub fn may_live(&self) -> bool {
        self.state.is_alive() || self.reason == Reason::StopFailed
    }

    /// The latest run that is known to have left no process; 0: none.
    #[must_use]
    pub fn latest_over(&self) -> i64 {
        if self.may_live() {
            self.run_id - 1
        } else {
            self.run_id
        }
    }

    /// The latest finished run.
    #[must_use]
    pub fn last_exit(&self) -> Option<&Arc<RunRecord>> {
        self.details.history.first()
    }

    /// The current run's record, if its main process has ended.
    #[must_use]
    pub fn current_exit(&self) -> Option<&Arc<RunRecord>> {
        self.last_exit()
            .filter(|record| record.run_id == self.run_id)
    }
}

// === impl RunRecord ===

impl RunRecord {
    /// Whether the policy counts it as success.
    #[must_use]
    pub fn is_success(&self, policy: &RestartPolicy) -> bool {
        matches!(self.exit.outcome, Outcome::Code(code) if policy.is_success(code))
    }
}

// === impl ProcessState ===

impl ProcessState {
    /// Name of the process.
    #[must_use]
    pub fn name(&self) -> &ProcessName {
        &self.spec.name
    }
}

/// Where a command was carried out: what a caller may wait from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Revision of the change, or of the state found unchanged.
    pub revision: Revision,
    /// The run that the command is about; 0: none.
    pub run_id: i64,
}
