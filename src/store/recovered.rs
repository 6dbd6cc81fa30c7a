//! What a store held when it was opened.

use super::{Reason, Request};
use crate::domain::{
    id::{Revision, Uid},
    spec::Spec,
    status::{Cause, Desired, Status},
    time::Timestamp,
};

/// Everything the store holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Live processes, in order of creation. One whose `desired` is `Deleted` was
    /// not seen to be gone.
    pub processes: Vec<Stored>,
    /// Deleted processes whose name was not used again, in order of revision.
    pub tombstones: Vec<Stored>,
    /// Every change up to here is in `processes` and `tombstones`: the new run's
    /// revisions continue after it. States beyond it may be there too; nobody
    /// knows what came between, so they are to be published as new changes.
    pub durable_revision: Revision,
    /// Highest revision of a tombstone that was forgotten: who resumes from
    /// before it could miss a deletion.
    pub forgotten: Revision,
    /// Earlier runs of the daemon, oldest first, each with the last of its
    /// revisions that is part of this history.
    pub lineage: Vec<(Box<str>, Revision)>,
    /// Identity of the machine's run in which the last of them began.
    pub boot_id: Option<Box<str>>,
    /// The last of them stopped every process before it ended.
    pub stopped_all: bool,
    /// Request ids that are still remembered, oldest first.
    pub requests: Vec<Request>,
    /// Why nothing can be written from the start; `None`: it can.
    pub read_only: Option<Reason>,
    /// What could not be read, for people.
    pub damage: Vec<Damage>,
    /// The log broke off in the middle, so what was recorded last is gone: bytes
    /// have changed, or a power cut took what was not synced yet. The store is
    /// writable all the same.
    pub log_break: Option<Damage>,
    /// The daemon before closed the store.
    pub clean: bool,
}

/// A process as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Which incarnation.
    pub uid: Uid,
    /// Its configuration.
    pub spec: Spec,
    /// What was wanted of it last.
    pub desired: Desired,
    /// By whom.
    pub intent_cause: Cause,
    /// Number of that intent; above `observed.intent` if it was not acted on.
    pub number: i64,
    /// It asked for a run.
    pub begin: bool,
    /// In place of this one; 0: of none.
    pub instead_of: i64,
    /// Its newest recorded state; `None`: none was published.
    pub observed: Option<Observed>,
}

/// A recorded state.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The state. Its `desired` may be older than the process's.
    pub status: Status,
    /// Why it came about.
    pub cause: Cause,
    /// When.
    pub time: Timestamp,
    /// Per-process change counter.
    pub version: i64,
    /// Position in the change log, of the run that published it.
    pub revision: Revision,
    /// Position of the process's first version.
    pub created: Revision,
    /// Number of the latest intent that it follows from.
    pub intent: i64,
}

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Table, and row where known.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}
