//! L0, pure: what a process is, what may be asked of it, what may happen to it
//! and what follows.
//!
//! Invariants of this layer: no clock, no randomness, no I/O, no locks, no async;
//! everything is decided from its arguments, so that a table or a property test
//! can decide it again. Deliberately absent: wire types, pids of our own making,
//! anything that knows how a run is carried out.

pub mod id;
pub mod label;
pub mod limits;
pub mod time;

pub mod spec;
pub mod status;

pub mod admission;
pub mod backoff;
pub mod event;
pub mod graph;
pub mod lifecycle;
pub mod run;
pub mod transition;
pub mod wait;
