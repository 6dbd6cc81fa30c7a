//! L2: turns the change log into what one subscriber is told.
//!
//! ```text
//! registry --gate--> Dispatcher (one per API thread) --head--> Subscription
//!     ^                                                            |
//!     +------------------- read at a cursor -----------------------+
//! ```
//!
//! Invariants: a subscriber holds a cursor and nothing else, so a slow one costs
//! the writer nothing and holds nothing in the log; nobody polls.
//!
//! Deliberately absent: wire types and encoding (the subscription is generic over
//! a [`Projection`]), authorization, and any queue.

mod dispatcher;
mod filter;
mod subscription;

pub use dispatcher::{Dispatcher, Heads};
pub use filter::{Filter, Glob, GlobError, LabelError, LabelSelector, Parts};
pub use subscription::{
    BATCH_BYTES_MAX, BATCH_PROCESSES_MAX, CloseReason, Event, EventKind, Lineage, Lost, LostReason,
    Message, OpenError, Options, Origin, Payload, Policy, Projection, Source, Subscription, Token,
};
