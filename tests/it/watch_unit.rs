//! The watch contract, by the names of its invariants, against a real registry
//! with the clock stopped.

mod invariants;
mod liveness;
mod property;
mod resets;
mod stress;
mod world;
