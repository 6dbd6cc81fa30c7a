//! What may happen to a process, and what must then be done.

use super::{
    id::ProcessName,
    run::{RunEvent, StopPlan},
    status::Cause,
};

/// Input of `transition`: closed, so that every case is decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A caller wants it to run.
    Start(Cause),
    /// A caller wants it stopped.
    Stop(Cause, StopPlan),
    /// A caller wants a new run.
    Restart(Cause, StopPlan),
    /// A caller wants it gone.
    Delete(Cause, StopPlan),
    /// A caller froze the run; the runner has confirmed it.
    Paused(Cause),
    /// A caller thawed the run; the runner has confirmed it.
    Resumed(Cause),
    /// A caller clears counters and budgets.
    Reset(Cause),
    /// The spec now in force is new.
    Configured {
        /// Who changed it.
        cause: Cause,
        /// Whether a run started before lacks something that needs a restart.
        stale: bool,
    },
    /// What the dependencies allow may have changed.
    Dependencies,
    /// A dependency with `restart_with` began a new run.
    DependencyRestarted,
    /// The run with this id tells something.
    Run(i64, RunEvent),
    /// Time has passed; timers that are due act.
    Tick,
    /// The daemon was away. The run with this id left a directory and is not
    /// known to be over; `None`: no such run.
    Recover(Option<i64>),
    /// What the user asked for last is, or is not, kept durably.
    IntentKept(bool),
}

/// What the dependencies of a process allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// All conditions hold.
    Open,
    /// These do not hold yet.
    Held(Vec<ProcessName>),
    /// This one failed for good.
    Failed(ProcessName),
}

/// Output of `transition`, carried out after the new status is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Begin the run with this id.
    Launch(i64),
    /// Take over the run with this id.
    Adopt(i64),
    /// Bring the live run to an end.
    Stop(StopPlan),
    /// Make the deletion visible and forget the process.
    Remove,
}
