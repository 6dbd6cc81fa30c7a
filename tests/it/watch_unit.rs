//! The watch contract, by the names of its invariants, against a real registry
//! with the clock stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod invariants;
mod liveness;
mod property;
mod resets;
mod stress;
mod world;
