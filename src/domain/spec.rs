//! Desired configuration of a process: what to run and how to keep it running.
//!
//! A [`Spec`] is valid once built (`validate` ran), immutable and shared by `Arc`.
//! Fields keep what the user gave; the accessors give the effective value, so
//! that a read returns what was written and an unchanged apply compares equal.

use std::{collections::BTreeMap, time::Duration};

use super::{
    id::ProcessName,
    run::{SignalScope, StopPlan},
    time::Timestamp,
};

mod diff;
mod forward;
mod validate;

pub use diff::Change;
pub use forward::{
    ForwardStream, ForwardTarget, JournaldTarget, LogForward, OtlpTarget, SyslogAddress,
    SyslogTarget,
};
pub use validate::FieldError;

/// A process's configuration together with its place in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The process it belongs to.
    pub name: ProcessName,
    /// +1 on every change of `config`; starts at 1.
    pub generation: i64,
    /// When this incarnation was created.
    pub created: Timestamp,
    /// What the user decides.
    pub config: Config,
}

/// What the user decides; part of the etag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Selectable key-value pairs.
    pub labels: BTreeMap<String, String>,
    /// Free-form metadata.
    pub annotations: BTreeMap<String, String>,
    /// Group it is a member of.
    pub group: Option<ProcessName>,
    /// argv; `[0]` is looked up in PATH unless it has a slash.
    pub command: Vec<String>,
    /// Added to, and overriding, the inherited environment.
    pub env: BTreeMap<String, String>,
    /// Start from an empty environment.
    pub clear_env: bool,
    /// Files of KEY=VALUE lines read at each start; `env` overrides them.
    pub env_files: Vec<String>,
    /// Absolute; `None`: the daemon's.
    pub working_directory: Option<String>,
    /// `None`: the daemon's user and group.
    pub run_as: Option<Identity>,
    /// Desired state at creation.
    pub autostart: bool,
    /// When and how fast to restart.
    pub restart: RestartPolicy,
    /// How to stop.
    pub stop: StopPolicy,
    /// Started only after these hold.
    pub dependencies: Vec<Dependency>,
    /// Standard streams.
    pub stdio: Stdio,
    /// setrlimit, by lower-case name without `RLIMIT_`.
    pub rlimits: Vec<Rlimit>,
    /// `ResourceLimits.open_files_max`; the same as the rlimit "nofile". 0: none.
    pub open_files_max: i64,
    /// File-creation mask; `None`: the daemon's.
    pub umask: Option<u32>,
    /// -20 to 19.
    pub nice: i32,
    /// -1000 to 1000; `None`: the daemon's.
    pub oom_score_adj: Option<i32>,
    /// From STARTING to RUNNING at most this long. Default 90 s.
    pub start_timeout: Option<Duration>,
    /// Whether the end of this process ends the daemon.
    pub exit_with: ExitWith,
}

/// POSIX identity, as names or decimal ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name or decimal uid.
    pub user: String,
    /// Name or decimal gid; empty: the user's primary group.
    pub group: String,
    /// Names or decimal gids.
    pub supplementary_groups: Vec<String>,
}

/// When and how fast to restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestartPolicy {
    /// After which ends to restart.
    pub mode: RestartMode,
    /// First delay. Default 100 ms.
    pub initial_backoff: Option<Duration>,
    /// Largest delay. Default 30 s.
    pub max_backoff: Option<Duration>,
    /// A run this long resets the failure count. Default 10 s.
    pub stable_after: Option<Duration>,
    /// Consecutive failures after which it is FAILED; 0: never.
    pub max_consecutive_failures: i32,
    /// Exit codes that count as success; empty: 0.
    pub success_exit_codes: Vec<i32>,
    /// A run must stay up this long to count as started. Default 0.
    pub start_grace: Option<Duration>,
    /// Random share of each delay, 0.0 to 1.0. Default 0.1.
    pub jitter_ratio: Option<f64>,
    /// Automatic restarts allowed.
    pub budget: Option<RestartBudget>,
    /// Exit codes after which it is never restarted.
    pub no_restart_exit_codes: Vec<i32>,
}

/// At most `max_restarts` within any `window`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts, from 0.
    pub max_restarts: i32,
    /// Default 60 s.
    pub window: Option<Duration>,
}

/// After which ends of a run to start the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartMode {
    /// The default: as `OnFailure`.
    #[default]
    Unspecified,
    /// Never.
    Never,
    /// After a failure.
    OnFailure,
    /// After every end.
    Always,
}

/// How to stop; absent fields take the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopPolicy {
    /// Kernel number of the first signal. Default SIGTERM.
    pub signal: Option<i32>,
    /// Default 10 s.
    pub grace_period: Option<Duration>,
    /// Default: the process group.
    pub scope: Option<SignalScope>,
    /// Default 5 s.
    pub kill_timeout: Option<Duration>,
}

/// Start ordering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The process depended on.
    pub name: ProcessName,
    /// What must hold of it; `None`: the default, ready.
    pub condition: Option<DependencyCondition>,
    /// Restart this process whenever that one starts a new run.
    pub restart_with: bool,
    /// Order only: a missing or failed dependency neither holds nor fails.
    pub optional: bool,
}

/// What must hold of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyCondition {
    /// Its main process is up and started.
    Running,
    /// It is ready.
    Ready,
    /// Its latest run ended, whatever the outcome.
    Exited,
    /// Its latest run ended with success.
    Succeeded,
}

/// Standard streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// stdout and stderr through one pipe.
    pub merge_stderr: bool,
    /// All three are a terminal.
    pub tty: bool,
    /// stdin is a pipe that is written to by calls.
    pub open_stdin: bool,
    /// Absolute path opened as stdin; `None`: `/dev/null`.
    pub stdin_file: Option<String>,
    /// Retention of captured output.
    pub log_policy: Option<LogPolicy>,
    /// Copies of the output sent elsewhere.
    pub log_forwards: Vec<LogForward>,
}

/// Retention of captured output; 0 and `None`: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPolicy {
    /// Bytes kept per process.
    pub max_bytes: i64,
    /// Bytes at which a segment is closed; by default an eighth of `max_bytes`.
    pub segment_bytes: i64,
    /// Segments kept, whatever their size; by default any number.
    pub max_segments: i32,
    /// Age kept; `None` and zero: any.
    pub max_age: Option<Duration>,
    /// Whether output that cannot be kept is dropped, counted.
    pub drop_when_full: Option<bool>,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Lower case without `RLIMIT_`.
    pub name: String,
    /// -1: unlimited.
    pub soft: i64,
    /// `None`: as soft. -1: unlimited.
    pub hard: Option<i64>,
}

/// Whether the end of a process ends the daemon, with its code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExitWith {
    /// Never.
    #[default]
    Never,
    /// When it is FAILED for good.
    Failure,
    /// When it is FAILED or SUCCEEDED.
    End,
}

// === impl RestartPolicy ===

impl RestartPolicy {
    /// First delay.
    #[must_use]
    pub fn initial_backoff(&self) -> Duration {
        self.initial_backoff.unwrap_or(Duration::from_millis(100))
    }

    /// Largest delay; never below the first.
    #[must_use]
    pub fn max_backoff(&self) -> Duration {
        self.max_backoff
            .unwrap_or(Duration::from_secs(30))
            .max(self.initial_backoff())
    }

    /// How long a run must last to reset the failure count.
    #[must_use]
    pub fn stable_after(&self) -> Duration {
        self.stable_after.unwrap_or(Duration::from_secs(10))
    }

    /// How long a run must stay up to count as started.
    #[must_use]
    pub fn start_grace(&self) -> Duration {
        self.start_grace.unwrap_or(Duration::ZERO)
    }

    /// Random share of each delay.
    #[must_use]
    pub fn jitter_ratio(&self) -> f64 {
        self.jitter_ratio.unwrap_or(0.1)
    }

    /// Whether this exit code counts as success.
    #[must_use]
    pub fn is_success(&self, code: u8) -> bool {
        match self.success_exit_codes.as_slice() {
            [] => code == 0,
            codes => codes.contains(&i32::from(code)),
        }
    }
}

impl RestartBudget {
    /// Time within which restarts are counted.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window.unwrap_or(Duration::from_secs(60))
    }
}

// === impl StopPolicy ===

impl StopPolicy {
    /// The plan in which `self` overrides `base`, and defaults fill the rest.
    #[must_use]
    pub fn plan_over(&self, base: &Self) -> StopPlan {
        StopPlan {
            signal: self.signal.or(base.signal).unwrap_or(SIGTERM),
            scope: self.scope.or(base.scope).unwrap_or(SignalScope::Group),
            grace: self
                .grace_period
                .or(base.grace_period)
                .unwrap_or(Duration::from_secs(10)),
            kill_timeout: self
                .kill_timeout
                .or(base.kill_timeout)
                .unwrap_or(Duration::from_secs(5)),
        }
    }

    /// The plan of `self` with defaults for the rest.
    #[must_use]
    pub fn plan(&self) -> StopPlan {
        self.plan_over(&Self::default())
    }
}

/// SIGTERM has the same number on every Linux architecture.
const SIGTERM: i32 = 15;

// === impl Dependency ===

impl Dependency {
    /// What must hold.
    #[must_use]
    pub fn condition(&self) -> DependencyCondition {
        self.condition.unwrap_or(DependencyCondition::Ready)
    }
}

// === impl LogPolicy ===

impl LogPolicy {
    /// Bytes kept per process.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        match u64::try_from(self.max_bytes) {
            Ok(bytes @ 1..) => bytes,
            _ => LOG_BYTES_DEFAULT,
        }
    }
}

/// What the interface promises to who asks for nothing else.
const LOG_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

// === impl Config ===

impl Config {
    /// From STARTING to RUNNING at most this long.
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout.unwrap_or(Duration::from_secs(90))
    }
}
