//! One execution of a process: what it is told and what it tells.

use std::time::Duration;

use super::time::Timestamp;

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalScope {
    /// The main process only.
    Main,
    /// The process group of the main process.
    Group,
    /// Everything in the run's cgroup.
    Cgroup,
    /// Every descendant: by cgroup where there is one, else found in `/proc`.
    Tree,
}

/// How a run is brought to an end: `signal`, `grace`, SIGKILL to the whole tree,
/// `kill_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPlan {
    /// Kernel number of the first signal.
    pub signal: i32,
    /// Whom it goes to.
    pub scope: SignalScope,
    /// Time for the run to end by itself after it.
    pub grace: Duration,
    /// Time for the tree to be gone after SIGKILL; then it has survivors.
    pub kill_timeout: Duration,
}

/// Why there is no process: fork, set-up or exec failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The kernel's errno; 0 where it was not the kernel that refused.
    pub errno: i32,
    /// For people; names the step and its object.
    pub message: Box<str>,
}

/// How the main process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this code, 0 to 255.
    Code(u8),
    /// This signal (kernel number) ended it.
    Signal(i32),
    /// It never ran.
    SpawnError(SpawnError),
    /// It ended, but how cannot be proven. Never guessed.
    Unknown(UnknownReason),
}

/// Why an outcome cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownReason {
    /// The machine went down meanwhile.
    Reboot,
    /// Whoever could have waited for it is gone.
    Lost,
}

/// End of the main process as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it left a core.
    pub core_dumped: bool,
    /// Whether the kernel's out-of-memory killer ended it.
    pub oom_killed: bool,
    /// When it was seen to have ended.
    pub at: Timestamp,
    /// User and system time of it and of what it waited for.
    pub cpu_time: Duration,
    /// Peak resident memory in bytes.
    pub max_rss_bytes: i64,
}

impl Exit {
    /// An end of which nothing is known but this: no core, no OOM kill, no usage.
    #[must_use]
    pub const fn new(outcome: Outcome, at: Timestamp) -> Self {
        Self {
            outcome,
            core_dumped: false,
            oom_killed: false,
            at,
            cpu_time: Duration::ZERO,
            max_rss_bytes: 0,
        }
    }
}

/// How the output of a run is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputHealth {
    /// Whether all of it is.
    pub state: OutputState,
    /// Bytes kept without the time when they were written.
    pub approximate_bytes: u64,
}

impl OutputHealth {
    /// Of a run that has just begun.
    pub const INTACT: Self = Self {
        state: OutputState::Intact,
        approximate_bytes: 0,
    };
}

/// Whether all that a run wrote is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputState {
    /// Nothing is missing.
    Intact,
    /// Nothing is missing, but the run waits: nothing can be stored now.
    Blocked {
        /// Why; the kernel's.
        errno: i32,
    },
    /// Output was thrown away.
    Dropped {
        /// So many bytes at least; the log counts them all.
        bytes: u64,
    },
}

/// What a run tells its owner, in this order: `Spawned`, then `Started` or
/// `Exited` (spawn error), `Killing` and `Survivors` at most once each per stop,
/// `Exited` exactly once, `Empty` exactly once and last. `Unresponsive` comes
/// only before `Adopted` or what stands in its place; `Output` anywhere before
/// `Empty`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// The main process exists and is held before exec.
    Spawned {
        /// Its pid, also its process group and session.
        pid: i32,
        /// Path of its cgroup below the hierarchy; `None` where there is none.
        cgroup_path: Option<Box<str>>,
    },
    /// An earlier run of the daemon began it; in place of `Spawned`.
    Adopted {
        /// Its pid, also its process group and session.
        pid: i32,
        /// Path of its cgroup below the hierarchy; `None` where there is none.
        cgroup_path: Option<Box<str>>,
        /// Whether exec was confirmed; else `Started` or `Exited` follows.
        started: bool,
        /// When it was begun.
        began: Timestamp,
    },
    /// An earlier run of the daemon meant to begin it and did not get to exec.
    /// Last of all; neither `Exited` nor `Empty` follows.
    NotBegun,
    /// exec is confirmed.
    Started,
    /// The main process ended, or never ran. Others of the tree may still live;
    /// the run stops them by its stop plan without being told.
    Exited(Exit),
    /// The grace period is over and SIGKILL goes to the tree.
    Killing,
    /// The kill timeout is over; these pids live. `Empty` follows if they go.
    Survivors(Vec<i32>),
    /// How its output is kept has changed.
    Output(OutputHealth),
    /// It is to be taken over, and who holds it does not answer for so long. It
    /// may live, and nothing can be asked of it until it answers.
    Unresponsive(Duration),
    /// No process of the run is left: proven, not assumed.
    Empty,
}
