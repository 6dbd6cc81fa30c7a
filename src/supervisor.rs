//! L2: owns every process. One owner task per process decides by
//! `domain::transition` and is the only one that commits its state; the root
//! creates, configures and removes.
//!
//! Callers hold a [`Supervisor`]: cheap to clone, usable from any runtime. A call
//! returns once its change is published; what follows from it is waited for with
//! [`Supervisor::wait`]. Deliberately absent: wire types, waiting streams, any
//! knowledge of how a run is carried out (that is `runner`).
//!
//! Reading order: `api` (what is said), `root` (what exists), `configuration` and
//! `control` (what callers do), `driver` (the owner task), `intent` (what is kept
//! before it is visible), `effects` (what it does to the world), `recovery` (what an
//! earlier daemon left).

mod api;
mod clock;
mod configuration;
mod control;
mod dependencies;
mod driver;
mod effects;
mod intent;
mod mailbox;
mod recovery;
mod root;
mod stdin;
#[cfg(test)]
mod tests;
mod waiters;

pub use api::{
    Ack, BatchItem, Configured, Control, Draft, Edit, Outcome, ProcessNode, Processes, Refused,
    Rollout, Target, WaitFor, WaitResult,
};
pub use clock::{Clock, entropy, wall_now};
pub use intent::{Forgetful, Intent, IntentStore, NotKept, Receipt, Writable};
pub use recovery::Recovery;
pub use root::{Ended, Setup, Supervisor};
pub use stdin::{LiveProcess, StdinTurn, Wrote};
