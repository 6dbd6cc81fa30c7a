//! What callers say to the supervisor and what they are told.

use std::sync::Arc;

use super::intent::NotKept;
use crate::{
    domain::{
        admission::{Denied, Precondition, Verb},
        graph::GraphError,
        id::{ProcessName, Revision, Uid},
        spec::{Change, Config, FieldError, StopPolicy},
        status::{Position, ProcessState},
        wait::{Condition, RunTooOld},
    },
    registry::{Body, Node, Registry},
};

/// The registry of processes.
pub type Processes = Registry<ProcessState>;
/// One published state of a process.
pub type ProcessNode = Arc<Node<ProcessState>>;

/// A process somebody wants to exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its name.
    pub name: ProcessName,
    /// Its configuration, not yet validated.
    pub config: Config,
}

/// A pure edit of a configuration; may be refused with the faulty fields.
pub type Edit = Box<dyn FnOnce(&Config) -> Result<Config, Vec<FieldError>> + Send>;

/// What a running process does about a changed spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// The rest takes effect on the next start.
    NextStart,
    /// Restart now if the change needs it.
    RestartIfNeeded,
}

/// A lifecycle command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Desired state running.
    Start,
    /// Desired state stopped; the policy overrides the spec's.
    Stop(StopPolicy),
    /// A new run; the policy overrides the spec's.
    Restart(StopPolicy),
    /// Freeze the run.
    Pause,
    /// Thaw the run.
    Resume,
    /// Clear counters; FAILED becomes STOPPED.
    Reset,
}

/// One process and the guards of a write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub name: ProcessName,
    /// All given parts must hold.
    pub guard: Precondition,
}

/// A command was carried out, or found nothing to change.
#[derive(Debug, Clone)]
pub struct Ack {
    /// The state it left behind, published.
    pub node: ProcessNode,
    /// From where to wait for what follows.
    pub position: Position,
}

/// What a configuration call did, or with validate_only would do.
#[derive(Debug, Clone)]
pub struct Configured {
    /// What happened.
    pub outcome: Outcome,
    /// The state afterwards; `None` only for a validated creation.
    pub node: Option<ProcessNode>,
    /// Changed fields, in the order of the contract.
    pub changes: Vec<Change>,
    /// Whether a live run is there that the change touches.
    pub live: bool,
    /// Whether what needs a restart waits for the next start.
    pub deferred: bool,
    /// From where to wait for what follows.
    pub position: Position,
}

/// What happened to one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// Its configuration changed.
    Updated,
    /// It already had this configuration.
    Unchanged,
    /// It was deleted for not being in the set.
    Pruned,
}

/// One process of a batch.
#[derive(Debug)]
pub struct BatchItem<T> {
    /// Which.
    pub name: ProcessName,
    /// How it went.
    pub result: Result<T, Refused>,
}

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitFor {
    /// Which process.
    pub name: ProcessName,
    /// Only this incarnation.
    pub uid: Option<Uid>,
    /// What must hold.
    pub condition: Condition,
    /// Only this run; 0: the one up at `from`, else the next one.
    pub run_id: i64,
    /// Judge only states at or after this.
    pub from: Revision,
}

/// How a wait ended.
#[derive(Debug, Clone)]
pub struct WaitResult {
    /// The condition held.
    pub satisfied: bool,
    /// The state it was judged on, or the last one of a deleted process; `None`
    /// if the incarnation asked for is not there.
    pub node: Option<ProcessNode>,
}

/// Why a call was not carried out. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such process.
    #[error("process {0} does not exist")]
    NotFound(ProcessName),
    /// The name is taken.
    #[error("process {name} exists already")]
    Exists {
        /// The name.
        name: ProcessName,
        /// Who has it.
        uid: Uid,
    },
    /// Not in this state, or a guard does not hold.
    #[error("{name}: {denied}")]
    Denied {
        /// Which process.
        name: ProcessName,
        /// Why.
        denied: Denied,
    },
    /// The configuration is faulty by itself.
    #[error("invalid configuration: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
    /// The configurations cannot stand together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The run asked for is forgotten.
    #[error(transparent)]
    RunTooOld(#[from] RunTooOld),
    /// The revision is not reached yet.
    #[error("revision {asked} is in the future; the head is {head}")]
    InFuture {
        /// Asked for.
        asked: Revision,
        /// Newest.
        head: Revision,
    },
    /// The tree would not die.
    #[error("process {name} survives SIGKILL: {pids:?}")]
    StopFailed {
        /// Which process.
        name: ProcessName,
        /// Who lives.
        pids: Vec<i32>,
    },
    /// The kernel refused a signal.
    #[error("signal {number} to {name} failed: {}", std::io::Error::from_raw_os_error(*errno))]
    Signal {
        /// Which process.
        name: ProcessName,
        /// Kernel number of the signal.
        number: i32,
        /// The kernel's errno.
        errno: i32,
    },
    /// The run's standard input is not open for writing.
    #[error("stdin of {0} is not open")]
    StdinClosed(ProcessName),
    /// Somebody is attached to it.
    #[error("stdin of {0} is taken by an attached client")]
    StdinTaken(ProcessName),
    /// The caller has another notion of what was written.
    #[error("{total} bytes were written to stdin of {name}, not {expected}")]
    StdinOffset {
        /// Which process.
        name: ProcessName,
        /// The caller's.
        expected: u64,
        /// Written to this run.
        total: u64,
    },
    /// The process does not read.
    #[error("{name} does not read its stdin; {total} bytes were written in all")]
    StdinFull {
        /// Which process.
        name: ProcessName,
        /// Written to this run.
        total: u64,
    },
    /// There is no cgroup to signal.
    #[error("process {0} has no cgroup")]
    NoCgroup(ProcessName),
    /// A named limit is reached.
    #[error("limit {limit} of {max} is reached")]
    Quota {
        /// Name of the limit, e.g. `processes_max`.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// What was asked for could not be made durable.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// The owner task has too much to do.
    #[error("process {0} has too many commands waiting")]
    Overloaded(ProcessName),
    /// The daemon is on its way out.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

// === impl ProcessState ===

impl Body for ProcessState {
    fn name(&self) -> &ProcessName {
        &self.spec.name
    }

    /// The spec is shared with the neighbours in the log; the details mostly are.
    fn weight(&self) -> usize {
        let details = &self.status.details;
        size_of::<Self>() + details.message.len() + size_of_val(details.history.as_slice())
    }
}

// === impl Control ===

impl Control {
    /// What it must be admitted as.
    pub(super) const fn as_verb(&self) -> Verb {
        match self {
            Self::Start => Verb::Start,
            Self::Stop(_) => Verb::Stop,
            Self::Restart(_) => Verb::Restart,
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Reset => Verb::Reset,
        }
    }

    /// The verb, for people and logs.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset => "reset",
        }
    }
}

// === impl Target ===

impl Target {
    /// The process, whatever it has become.
    #[must_use]
    pub fn unguarded(name: ProcessName) -> Self {
        Self {
            name,
            guard: Precondition::default(),
        }
    }
}
